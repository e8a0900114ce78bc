package bench_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/verenc/kms/service/plot"
	"github.com/verenc/kms/transport/sdktest"
)

// Flags of BenchmarkCost, after -args.
var (
	historyFile = flag.String("history", "", "append the ratios to this file, and draw -picture of it")
	pictureFile = flag.String("picture", "", "the SVG of -history")
	commitName  = flag.String("commit", "", "with -history: the commit that is measured")
	costRounds  = flag.Int("rounds", 9, "rounds of BenchmarkCost")
	costOf      = flag.String("operation", "", "measure this operation only")
)

// perTurn is how many requests of an operation are made in a turn. A turn is short, so that the three that
// are compared see the same machine.
const perTurn = 600

// BenchmarkCost tells what a request of each operation costs in processor time, at auditedClients clients,
// with the audit log and the request log on, and who takes it:
//
//   - token: the same PKCS#11 calls in a bare loop
//   - HTTP: a request to a handler that answers without looking at it, with the cost of the client, which
//     is in this process
//   - ours: the rest
//
// Processor time depends less than rates do on what else a machine does. The ratio, by which commits are
// compared, is that of a request to the sum of the bare handler, which verifies the signature and speaks
// JSON, and the raw token. It is the geometric mean over the rounds of the ratios of neighbours in time.
// The allocations are those of a request in the whole process; the client makes none.
func BenchmarkCost(b *testing.B) {
	for b.Loop() {
		w := newWorkbench(b)
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "operation\tCPU us\ttoken\tHTTP\tours\tto bare and token\tallocations\tof net/http\t")
		var costs []cost
		for _, o := range w.operations(b) {
			if *costOf != "" && o.name != *costOf {
				continue
			}
			c := w.cost(b, o)
			costs = append(costs, c)
			fmt.Fprintf(out, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.3f\t%.1f\t%.1f\t\n", c.operation, c.served, c.token, c.http,
				c.served-c.token-c.http, c.ratio, c.allocations, c.ofHTTP)
		}
		out.Flush()
		if *historyFile != "" && *costOf == "" {
			check(b, appendHistory(*historyFile, *commitName, costs))
			check(b, drawHistory(*historyFile, *pictureFile))
		}
	}
}

// cost is the outcome of one operation: microseconds, the ratio, and allocations.
type cost struct {
	operation           string
	served, token, http float64
	ratio               float64
	allocations, ofHTTP float64
}

func (w *workbench) cost(b *testing.B, o benchOperation) cost {
	served := w.connections(b, w.audited[len(w.audited)-1].url, o)
	bare, empty := w.connections(b, w.bare, o), w.connections(b, w.empty, o)
	raws := newRawTokens(b, w, auditedClients)
	defer func() {
		for _, all := range [][]*sdktest.Replay{served, bare, empty} {
			for _, c := range all {
				c.Close()
			}
		}
		for _, r := range raws {
			r.close(b)
		}
	}()
	ask := func(all []*sdktest.Replay) func(int) error {
		return func(i int) error { _, err := all[i].Do(); return err }
	}
	token := func(i int) error { return o.raw(raws[i]) }
	var s, t, h, ratios []float64
	c := cost{operation: o.name}
	for range *costRounds {
		ours, allocations := turn(b, ask(served))
		raw, _ := turn(b, token)
		plain, _ := turn(b, ask(bare))
		nothing, ofHTTP := turn(b, ask(empty))
		s, t, h, ratios = append(s, ours), append(t, raw), append(h, nothing), append(ratios, ours/(plain+raw))
		c.allocations, c.ofHTTP = allocations, ofHTTP
	}
	c.served, c.token, c.http, c.ratio = median(s), median(t), median(h), geometricMean(ratios)
	return c
}

// connections are those of auditedClients clients, each of which has made a request already.
func (w *workbench) connections(b *testing.B, address string, o benchOperation) []*sdktest.Replay {
	text, err := json.Marshal(o.body)
	check(b, err)
	operation, _, _ := strings.Cut(o.name, " ")
	all := make([]*sdktest.Replay, auditedClients)
	for i := range all {
		all[i] = w.connect(b, address, operation, string(text))
		_, err := all[i].Do()
		check(b, err)
	}
	return all
}

// turn is the processor time in microseconds, and the allocations, of one of perTurn calls by auditedClients
// workers.
func turn(b *testing.B, do func(worker int) error) (cpu, allocations float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	spent := cpuTime(b)
	var group sync.WaitGroup
	for i := range auditedClients {
		group.Go(func() {
			for range perTurn / auditedClients {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	spent = cpuTime(b) - spent
	runtime.ReadMemStats(&after)
	const calls = perTurn / auditedClients * auditedClients
	return float64(spent.Microseconds()) / calls, float64(after.Mallocs-before.Mallocs) / calls
}

func geometricMean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += math.Log(v)
	}
	return math.Exp(sum / float64(len(values)))
}

// emptyHandler reads a request and answers, and does nothing else.
func emptyHandler() http.Handler {
	answer := make([]byte, 300)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = rw.Write(answer)
	})
}

// The columns of the history before those of the operations.
var historyColumns = []string{"date", "commit", "machine"}

// appendHistory adds a row of ratios to a CSV file. Its first row names the columns.
func appendHistory(name, commit string, costs []cost) error {
	machine := fmt.Sprintf("%d processors, %s", runtime.NumCPU(), runtime.GOARCH)
	header := slices.Clone(historyColumns)
	row := []string{time.Now().UTC().Format(time.DateOnly), commit, machine}
	for _, c := range costs {
		header = append(header, c.operation)
		row = append(row, strconv.FormatFloat(c.ratio, 'f', 3, 64))
	}
	rows, err := readHistory(name)
	if err != nil {
		return err
	}
	if rows == nil {
		rows = [][]string{header}
	}
	if !slices.Equal(rows[0], header) {
		return fmt.Errorf("%s has other columns: %v", name, rows[0])
	}
	var text strings.Builder
	if err := csv.NewWriter(&text).WriteAll(append(rows, row)); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text.String()), 0o644)
}

func readHistory(name string) ([][]string, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return csv.NewReader(f).ReadAll()
}

// pictured are the operations of the picture. More lines could not be told apart.
var pictured = []string{"Encrypt", "GenerateDataKeyWithoutPlaintext"}

// drawHistory draws the ratios over the commits.
func drawHistory(name, picture string) error {
	rows, err := readHistory(name)
	if err != nil {
		return err
	}
	var labels []string
	series := make([][]float64, len(pictured))
	for _, row := range rows[1:] {
		labels = append(labels, row[1])
		for i, operation := range pictured {
			ratio, err := strconv.ParseFloat(row[slices.Index(rows[0], operation)], 64)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			series[i] = append(series[i], ratio)
		}
	}
	svg, err := plot.Lines(plot.Light, labels, pictured, series)
	if err != nil {
		return err
	}
	return os.WriteFile(picture, []byte(svg), 0o644)
}
