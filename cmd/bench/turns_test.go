package bench_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
)

// BenchmarkTurns is the rate and the processor time of requests by auditedClients clients, with 1 call at once
// inside the module, with as many as processors, and with one for each client: see hsm.Config.Turns. Each is
// compared with the default, in one run and in turns, by the geometric mean of the ratios of neighbours in time.
func BenchmarkTurns(b *testing.B) {
	for b.Loop() {
		limits := slices.Compact([]int{0, 1, runtime.GOMAXPROCS(0), auditedClients}) // 0 is the default
		var benches []*workbench
		for _, n := range limits {
			benches = append(benches, newWorkbenchOf(b, n))
		}
		compareTurns(b, limits, benches)
	}
}

func compareTurns(b *testing.B, limits []int, benches []*workbench) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer out.Flush()
	fmt.Fprintln(out, "operation\tinside at once\trequests/s\tCPU us\trate of default\tCPU of default\t")
	operations := make([][]benchOperation, len(benches))
	for i, w := range benches {
		operations[i] = w.operations(b)
	}
	for o := range operations[0] {
		rates, costs := make([][]float64, len(limits)), make([][]float64, len(limits))
		for range auditRounds {
			for i, w := range benches {
				r, cpu := w.costOverHTTP(b, w.audited[len(w.audited)-1].url, operations[i][o])
				rates[i], costs[i] = append(rates[i], r), append(costs[i], cpu)
			}
		}
		for i, n := range limits {
			inside := fmt.Sprint(n)
			if n == 0 {
				inside = "default"
			}
			fmt.Fprintf(out, "%s\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t\n", operations[i][o].name, inside,
				median(slices.Clone(rates[i])), median(slices.Clone(costs[i])),
				geometricMean(ratios(rates[i], rates[0])), geometricMean(ratios(costs[i], costs[0])))
		}
	}
}

// ratios are those of neighbours in time.
func ratios(of, to []float64) []float64 {
	all := make([]float64, len(of))
	for i := range of {
		all[i] = of[i] / to[i]
	}
	return all
}
