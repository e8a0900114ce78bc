package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"testing"
)

const crashFolder = "VERENC_AUDIT_CRASH_FOLDER" // makes this test binary a writer that runs until it is killed

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashFolder); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

func crashConfig(dir string) Config {
	_, err := os.Stat(dir)
	return Config{Dir: dir, Create: errors.Is(err, fs.ErrNotExist), Origin: origin, Signers: []Signer{ed25519Signer(1)},
		SegmentBytes: 50_000, CheckpointEvery: 10}
}

// writeForEver appends records and prints the event id of each one that was acknowledged.
func writeForEver(dir string) {
	l, err := Open(ctx, crashConfig(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	first := int(l.Stats().Records)
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for n := 0; ; n++ {
				r := record(n)
				r.EventID = fmt.Sprintf("life-%d-caller-%d-%d", first, c, n)
				if err := l.Append(ctx, r); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Println(r.EventID)
			}
		})
	}
	callers.Wait()
}

// TestKill kills a writer under load, several times, and expects every record that it acknowledged
// in the log.
func TestKill(t *testing.T) {
	cfg := crashConfig(t.TempDir() + "/log")
	var acked []string
	for _, after := range []int{1, 50, 333, 700} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashFolder+"="+cfg.Dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acked = append(acked, lines.Text())
			if n == after {
				must(t, child.Process.Kill())
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		verify(t, cfg)
	}
	l := reopen(t, cfg)
	must(t, l.Close(ctx))
	if r := verify(t, cfg); r.Unsealed != 0 || r.Records < int64(len(acked)) {
		t.Errorf("%d acknowledged, %+v", len(acked), r)
	}
	seen := occurrences(t, cfg.Dir)
	for _, id := range acked {
		if seen[id] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", id, seen[id])
		}
	}
}
