package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAppend measures what a record costs its caller, with checkpoints as in a server, and how
// many records share a sync.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("%d callers", callers), func(b *testing.B) {
			cfg := testConfig(b)
			cfg.CheckpointEvery = 0
			l := open(b, cfg)
			var n atomic.Int64
			b.ResetTimer()
			parallel(b.N, callers, func() {
				if err := l.Append(ctx, record(int(n.Add(1)))); err != nil {
					b.Error(err)
				}
			})
			s := l.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(s.Syncs)/float64(s.Appended), "syncs/record")
		})
	}
}

// BenchmarkSync measures what the disk needs for one record written and synced, for comparison:
// after the end of a file, and over blanks.
func BenchmarkSync(b *testing.B) {
	d, err := openDisk(b.TempDir())
	must(b, err)
	blank := bytes.Repeat([]byte(" "), 1<<20)
	for _, reserved := range []bool{false, true} {
		b.Run(fmt.Sprintf("reserved=%t", reserved), func(b *testing.B) {
			f, err := d.openData("file")
			must(b, errors.Join(err, f.Truncate(0)))
			var size, end int64
			for b.Loop() {
				if reserved && size+1000 > end {
					_, err := f.WriteAt(blank, end)
					must(b, err)
					end += int64(len(blank))
				}
				_, err := f.WriteAt(make([]byte, 1000), size)
				must(b, errors.Join(err, f.Sync()))
				size += 1000
			}
			must(b, f.Close())
		})
	}
	must(b, d.Close())
}

// parallel runs f a number of times in a number of goroutines.
func parallel(times, goroutines int, f func()) {
	var left atomic.Int64
	left.Store(int64(times))
	done := make(chan struct{})
	for range goroutines {
		go func() {
			for left.Add(-1) >= 0 {
				f()
			}
			done <- struct{}{}
		}()
	}
	for range goroutines {
		<-done
	}
}

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record(1).encode(nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	cfg := testConfig(b)
	l := open(b, cfg)
	for range 64 {
		done := make(chan error)
		for range 64 {
			go func() { done <- l.Append(ctx, record(1)) }()
		}
		for range 64 {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	must(b, l.Close(ctx))
	for b.Loop() {
		verify(b, cfg)
	}
	b.ReportMetric(float64(b.N)*4096/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkProve proves records of a file that is as large as they become.
func BenchmarkProve(b *testing.B) {
	const total = 59_000 // 63 MiB
	cfg := testConfig(b)
	cfg.SyncWithin, cfg.CheckpointEvery = time.Minute, 4096
	l := open(b, cfg)
	var n atomic.Int64
	parallel(total, 64, func() {
		if err := l.Append(ctx, record(int(n.Add(1)-1))); err != nil {
			b.Error(err)
		}
	})
	must(b, l.Close(ctx))
	files := os.DirFS(cfg.Dir)
	for _, index := range []int64{0, total / 2, total - 1} {
		b.Run(fmt.Sprintf("record %d", index), func(b *testing.B) {
			for b.Loop() {
				_, err := Prove(files, index)
				must(b, err)
			}
		})
	}
}
