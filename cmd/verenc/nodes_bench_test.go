package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/store/postgrestest"
	"github.com/verenc/kms/transport/sdktest"
)

// BenchmarkNodes compares three servers on one machine and one PostgreSQL, over which connections are spread, with one
// of them that gets all: in one run, in turns. With 16 and 48 connections each of the three has few of them, and so has
// little to do at once; 144 give each as many as one has with 48. Clients, servers and the database share the
// processors, so more than one is not expected of the ratio, and less would be what the servers cost each other.
func BenchmarkNodes(b *testing.B) {
	nodes := newSite(b).with("VERENC_DATABASE="+postgrestest.NewDatabase(b), "VERENC_LOG_REQUESTS=errors").
		nodes(b, "a", "b", "c")
	key, err := nodes[0].CreateKey(b.Context(), &kms.CreateKeyInput{})
	if err != nil {
		b.Fatal(err)
	}
	by := nodes[0].site.accessKey(b)
	body := fmt.Sprintf(`{"KeyId":%q,"KeySpec":"AES_256"}`, *key.KeyMetadata.KeyId)
	rate := func(clients int, nodes []*node) float64 {
		var done atomic.Int64
		var group sync.WaitGroup
		replays := make([]*sdktest.Replay, clients)
		for i := range replays {
			r, err := signed(b.Context(), by, "http://"+nodes[i%len(nodes)].api, "GenerateDataKey", body)
			if err != nil {
				b.Fatal(err)
			}
			if replays[i], err = sdktest.NewReplay(r); err != nil {
				b.Fatal(err)
			}
			defer replays[i].Close()
		}
		begun := time.Now()
		for _, c := range replays {
			group.Go(func() {
				for time.Since(begun) < scaleRound {
					if _, err := c.Do(); err != nil {
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
		for _, clients := range []int{scaleClients, 3 * scaleClients, 9 * scaleClients} {
			var one, three, ratios []float64
			for range scaleRounds {
				o, t := rate(clients, nodes[:1]), rate(clients, nodes)
				one, three, ratios = append(one, o), append(three, t), append(ratios, t/o)
			}
			fmt.Printf("GenerateDataKey/s, %d connections: one server %.0f, three %.0f; ratio %.2f (%.2f to %.2f)\n",
				clients, middle(one), middle(three), middle(ratios), slices.Min(ratios), slices.Max(ratios))
		}
	}
}
