package bench_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"

	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/service/store/postgrestest"
)

const databaseRounds = 15

// BenchmarkDatabases compares a server whose metadata is in PostgreSQL with one that has it in SQLite, on
// one token: in one run, in turns, at auditedClients clients. Both databases sync each commit. The ratios
// are those of each pair of neighbours in time, by their median: of the rates, and of the processor time
// of this process, without that of PostgreSQL, which says more on a machine that others use, too.
func BenchmarkDatabases(b *testing.B) {
	for b.Loop() {
		sqlite := newWorkbench(b)
		db, err := store.Open(b.Context(),
			store.Config{Path: postgrestest.Start(b, "fsync=on").NewDatabase(b), Create: true})
		check(b, err)
		b.Cleanup(func() { check(b, db.Close()) })
		other := *sqlite
		postgres := &other
		postgres.serveFrom(b, db)
		postgres.keyID, postgres.keys = postgres.newKey(b, db, `{}`)
		postgres.rsaKeyID, _ = postgres.newKey(b, db, `{"KeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY"}`)

		createKey := benchOperation{name: "CreateKey", body: map[string]any{}}
		ours, theirs := append(sqlite.operations(b), createKey), append(postgres.operations(b), createKey)
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "clients\toperation\tSQLite/s\tPostgreSQL/s\tratio\tfrom\tto\t"+
			"SQLite CPU us\tPostgreSQL CPU us\tratio\t")
		for i, o := range ours {
			var before, after, ratios, cpuBefore, cpuAfter, cpuRatios []float64
			for range databaseRounds {
				r, cpu := sqlite.costOverHTTP(b, sqlite.url, o)
				p, cpuP := postgres.costOverHTTP(b, postgres.url, theirs[i])
				before, after, ratios = append(before, r), append(after, p), append(ratios, p/r)
				cpuBefore, cpuAfter = append(cpuBefore, cpu), append(cpuAfter, cpuP)
				cpuRatios = append(cpuRatios, cpu/cpuP)
			}
			fmt.Fprintf(out, "%d\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.2f\t\n", auditedClients, o.name,
				median(before), median(after), median(ratios), slices.Min(ratios), slices.Max(ratios),
				median(cpuBefore), median(cpuAfter), median(cpuRatios))
		}
		out.Flush()
	}
}
