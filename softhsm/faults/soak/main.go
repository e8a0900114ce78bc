// Command soak lets many callers use package hsm for a while, on a token that fails in every way
// that package faults knows. It reports the operations, the errors by kind, and what must be 0:
// wrong answers, lost keys, leaked sessions and session objects. It exits with 1 if one of these is
// not 0.
//
//	go run ./softhsm/faults/soak -for 10m
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/verenc/kms/softhsm"
)

func main() {
	duration := flag.Duration("for", 10*time.Minute, "how long")
	seed := flag.Uint64("seed", rand.Uint64(),
		"of the faults and the operations; goroutines still take turns as they like")
	callers := flag.Int("callers", 32, "at once")
	reuse := flag.Bool("reuse", false, "session handles begin anew after an unplug")
	flag.Parse()
	if err := command(*duration, config{seed: *seed, callers: *callers, reuse: *reuse}); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func command(duration time.Duration, cfg config) (err error) {
	dir, err := os.MkdirTemp("", "verenc-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if cfg.soft, err = softhsm.Open(dir, "soak"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	fmt.Printf("seed %d\n", cfg.seed)
	r, err := run(ctx, dir, cfg)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	return r.verdict()
}
