package main

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/store/postgrestest"
)

// BenchmarkNodes compares three servers on one machine and one PostgreSQL, over which requests are spread, with one of
// them that gets all: in one run, in turns, with as many clients as the other benchmarks have, and with three times as
// many. Clients, servers and the database share the processors, so more than one is not expected of the ratio, and less
// would be what the servers cost each other.
func BenchmarkNodes(b *testing.B) {
	nodes := newNodes(b, postgrestest.NewDatabase(b), "a", "b", "c")
	key, err := nodes[0].CreateKey(b.Context(), &kms.CreateKeyInput{})
	if err != nil {
		b.Fatal(err)
	}
	by := nodes[0].site.accessKey(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 3 * scaleClients}}
	rate := func(clients int, nodes []*node) float64 {
		var done atomic.Int64
		var group sync.WaitGroup
		begun := time.Now()
		for i := range clients {
			group.Go(func() {
				url := "http://" + nodes[i%len(nodes)].api
				for time.Since(begun) < scaleRound {
					if err := generateDataKey(b.Context(), client, by, url, *key.KeyMetadata.KeyId); err != nil {
						b.Error(err)
						return
					}
					done.Add(1)
				}
			})
		}
		group.Wait()
		return float64(done.Load()) / time.Since(begun).Seconds()
	}
	for b.Loop() {
		rate(scaleClients, nodes) // the first uses read rows
		for _, clients := range []int{scaleClients, 3 * scaleClients} {
			var one, three, ratios []float64
			for range scaleRounds {
				o, t := rate(clients, nodes[:1]), rate(clients, nodes)
				one, three, ratios = append(one, o), append(three, t), append(ratios, t/o)
			}
			fmt.Printf("GenerateDataKey/s, %d clients: one server %.0f, three %.0f; ratio %.2f (%.2f to %.2f)\n",
				clients, middle(one), middle(three), middle(ratios), slices.Min(ratios), slices.Max(ratios))
		}
	}
}
