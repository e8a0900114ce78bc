package bench_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
)

// BenchmarkPages compares a server that has the documentation and the console with the same one
// that has not: in one run, in turns, each first in every second round, at auditedClients clients.
func BenchmarkPages(b *testing.B) {
	for b.Loop() {
		w := newWorkbench(b)
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "clients\toperation\twithout/s\twith pages/s\tratio\tfrom\tto\t"+
			"without CPU us\twith CPU us\tratio\t")
		for _, o := range w.operations(b) {
			var without, with, ratios, cpuWithout, cpuWith []float64
			for i := range 2 * auditRounds {
				var rate, pagesRate, cpu, pagesCPU float64
				if i%2 == 0 {
					rate, cpu = w.costOverHTTP(b, w.url, o)
				}
				pagesRate, pagesCPU = w.costOverHTTP(b, w.withPages, o)
				if i%2 == 1 {
					rate, cpu = w.costOverHTTP(b, w.url, o)
				}
				without, with, ratios = append(without, rate), append(with, pagesRate), append(ratios, pagesRate/rate)
				cpuWithout, cpuWith = append(cpuWithout, cpu), append(cpuWith, pagesCPU)
			}
			fmt.Fprintf(out, "%d\t%s\t%.0f\t%.0f\t%.3f\t%.2f\t%.2f\t%.1f\t%.1f\t%.3f\t\n", auditedClients, o.name,
				median(without), median(with), median(ratios), slices.Min(ratios), slices.Max(ratios),
				median(cpuWithout), median(cpuWith), median(cpuWithout)/median(cpuWith))
		}
		if err := out.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}
