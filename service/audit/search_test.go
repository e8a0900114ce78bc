package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// searchAll searches page by page, and returns the event ids.
func searchAll(t testing.TB, files fs.FS, limit int, f Filter) (ids []string, found []Found) {
	t.Helper()
	for from := ""; ; {
		one, err := Search(files, from, limit, f)
		must(t, err)
		for _, r := range one.Records {
			_, rest, _ := bytes.Cut(r.Text, []byte(`"eventID":"event-`))
			id, _, _ := bytes.Cut(rest, []byte(`"`))
			ids = append(ids, string(id))
		}
		found = append(found, one)
		if from = one.Next; from == "" {
			return ids, found
		}
	}
}

// TestSearch reads a log newest first, over the ends of files and of pages, while it is written and
// after it is closed.
func TestSearch(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes, cfg.Reserve = 14_000, 300_000 // more blanks than are read at once
	l := open(t, cfg)
	add(t, l, 0, 100)
	var want []string
	for n := 99; n >= 0; n-- {
		want = append(want, fmt.Sprint(n))
	}
	for _, state := range []string{"open", "closed"} {
		if state == "closed" {
			must(t, l.Close(ctx))
		}
		for _, limit := range []int{1, 7, 100} {
			got, pages := searchAll(t, os.DirFS(cfg.Dir), limit, Filter{})
			if !slices.Equal(got, want) {
				t.Errorf("%s, %d at a time: %v", state, limit, got)
			}
			if first := pages[0]; first.Records[0].Index != 99 || len(first.Records) != limit || first.Read != limit {
				t.Errorf("%s, %d at a time: %+v", state, limit, first)
			}
		}
	}
	one, err := Search(os.DirFS(cfg.Dir), "", 5, Filter{})
	must(t, err)
	l = reopen(t, cfg)
	add(t, l, 100, 130) // which does not move the position
	rest, err := Search(os.DirFS(cfg.Dir), one.Next, 1, Filter{})
	if must(t, err); rest.Records[0].Index != 94 {
		t.Errorf("goes on with %d", rest.Records[0].Index)
	}
	if got, err := Search(folder{}, "", 10, Filter{}); err != nil || len(got.Records) > 0 || got.Next != "" {
		t.Errorf("no log has %+v, %v", got, err)
	}
}

// TestSearchOfGrowingLog: records that are being written are whole, or not there yet.
func TestSearchOfGrowingLog(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes, cfg.SyncWithin = 100_000, time.Minute
	l := open(t, cfg)
	var writing sync.WaitGroup
	for writer := range 4 {
		writing.Go(func() {
			for n := range 150 {
				if err := l.Append(ctx, record(writer*150+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		writing.Wait()
	}()
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		next := int64(-1)
		for from := ""; ; {
			got, err := Search(os.DirFS(cfg.Dir), from, 100, Filter{})
			must(t, err)
			if got.Unreadable > 0 {
				t.Fatalf("%d lines are unreadable", got.Unreadable)
			}
			for _, r := range got.Records {
				if next >= 0 && r.Index != next {
					t.Fatalf("record %d stands before record %d", r.Index, next+1)
				}
				next = r.Index - 1
			}
			if from = got.Next; from == "" {
				break
			}
		}
		if next != -1 {
			t.Fatalf("the search ends after record %d", next+1)
		}
	}
}

func TestFilter(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 14_000
	l := open(t, cfg)
	add(t, l, 0, 40)
	denied := record(40)
	denied.ErrorCode, denied.EventName, denied.RecipientAccountID = "AccessDeniedException", "Encrypt", "444455556666"
	denied.UserIdentity.UserName, denied.UserIdentity.ARN = "eve", "arn:aws:iam::444455556666:user/eve"
	denied.UserIdentity.AccountID, denied.Resources = "444455556666", nil
	must(t, l.Append(ctx, denied))
	command := record(41)
	command.EventTime, command.EventType = t0.Add(-50*time.Hour), "VerencCommand" // it has waited for a server
	command.UserIdentity, command.Resources, command.RecipientAccountID = UserIdentity{UserName: "root"}, nil, ""
	must(t, l.Append(ctx, command))
	late := record(10_000)
	must(t, l.Append(ctx, late))
	at := func(seconds int) time.Time { return t0.Truncate(time.Second).Add(time.Duration(seconds) * time.Second) }
	for name, c := range map[string]struct {
		filter Filter
		want   string
	}{
		"time":              {Filter{From: at(3), Until: at(6)}, "5 4 3"},
		"since":             {Filter{From: at(39)}, "10000 40 39"},
		"until":             {Filter{Until: at(0)}, "41"},
		"principal":         {Filter{Principal: "eve"}, "40"},
		"principal's ARN":   {Filter{Principal: "444455556666:user/"}, "40"},
		"operation":         {Filter{Operation: "Encrypt"}, "40"},
		"part of operation": {Filter{Operation: "Encry"}, ""},
		"key id":            {Filter{Key: "1234", From: at(9990)}, "10000"},
		"key ARN":           {Filter{Key: "arn:verenc:111122223333:key/1234", From: at(9990)}, "10000"},
		"part of key":       {Filter{Key: "234"}, ""},
		"an error":          {Filter{Error: "AccessDeniedException"}, "40"},
		"any error":         {Filter{Error: AnyError}, "40"},
		"no error":          {Filter{Error: NoError, From: at(39)}, "10000 39"},
		"text":              {Filter{Text: "EVENT-7"}, "7"},
		"escaped text":      {Filter{Text: "AWS-cli/2 <Ü>", From: at(9990)}, "10000"},
		"account":           {Filter{Account: "444455556666"}, "40"},
		"account's own":     {Filter{Account: "444455556666", NoAccount: true}, "41 40"},
		"another account":   {Filter{Account: "777788889999"}, ""},
	} {
		got, _ := searchAll(t, os.DirFS(cfg.Dir), 100, c.filter)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	if (&Filter{}).Matches([]byte("{")) || !(&Filter{}).Matches([]byte("{}")) {
		t.Error("what is no record matches")
	}
}

// TestSearchIsBounded: a search that finds nothing stops, and goes on where it has stopped. One with
// a time range does not read what is far from it.
func TestSearchIsBounded(t *testing.T) {
	files := folder{}
	var chain chainHash
	total := 0
	for file := range 4 { // of 3.6 MB; three of them are more than one search reads
		var text []byte
		name := segmentName(int64(total))
		for range 6000 {
			r := record(total)
			r.EventTime = t0.Add(time.Duration(file) * 24 * time.Hour)
			head, err := r.encode(nil)
			must(t, err)
			text, chain = appendLine(text, head, int64(total), int64(total), chain)
			total++
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	ids, pages := searchAll(t, files, 10, Filter{Operation: "Encrypt"})
	read := 0
	for _, p := range pages {
		read += p.Read
	}
	if len(ids) > 0 || read != total || len(pages) < 3 {
		t.Errorf("%d found in %d records, %d searches", len(ids), read, len(pages))
	}
	day := Filter{From: t0.Add(23 * time.Hour), Until: t0.Add(25 * time.Hour), Error: AnyError}
	read = 0
	_, pages = searchAll(t, files, 10, day)
	for _, p := range pages {
		read += p.Read
	}
	if read < 6000 || read > 6001 {
		t.Errorf("%d records are read for a day of 6000", read)
	}
	one, err := Search(files, "", 5000, Filter{})
	if must(t, err); len(one.Records) == 5000 || one.Next == "" {
		t.Errorf("%d records are given at once", len(one.Records))
	}
}

// TestSearchOfDamagedLog: what can't be read is counted, and hides nothing.
func TestSearchOfDamagedLog(t *testing.T) {
	files, _, _ := sealedLog(t, 40, record)
	all, err := segments(files)
	must(t, err)
	name := all[1].name
	lines := bytes.SplitAfter(files[name].Data, []byte("\n"))
	lines[2] = []byte("not a record\n")
	files[name] = &fstest.MapFile{Data: bytes.Join(lines, nil)}
	got, pages := searchAll(t, files, 100, Filter{})
	if len(got) != 39 || pages[0].Unreadable != 1 {
		t.Errorf("%d records, %d lines are unreadable", len(got), pages[0].Unreadable)
	}
	files[name] = &fstest.MapFile{Data: files[name].Data[:len(files[name].Data)-1]} // torn, and not the last file
	if _, pages := searchAll(t, files, 100, Filter{}); pages[0].Unreadable != 2 {
		t.Errorf("%d lines are unreadable", pages[0].Unreadable)
	}
	for what, data := range map[string][]byte{
		"no line":     bytes.Repeat([]byte("x"), 200_000),
		"only blanks": bytes.Repeat([]byte(" "), maxSearched+backwardBlock+1),
		"a long line": append(bytes.Repeat([]byte("x"), 1<<20), '\n'),
	} {
		files[name] = &fstest.MapFile{Data: data}
		if got, err := Search(files, "", 100, Filter{}); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %d records, %v", what, len(got.Records), err)
		}
	}
}

// FuzzPosition: a position that is not one of the log is refused; another one gives a part of it.
func FuzzPosition(f *testing.F) {
	files := load(f, "testdata/golden")
	end := len(files[segmentName(0)].Data)
	for _, p := range []string{"0.-1", "3.-1", "3.0", "0.1", fmt.Sprintf("0.%d", end), fmt.Sprintf("0.%d", end+1),
		"00.1", "1.-1", "0.-2", "", ".", "0", "281474976710656.1", "99999999999999999999.1"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Search(files, text, 100, Filter{})
		if err != nil {
			if !errors.Is(err, ErrPosition) {
				t.Error(err)
			}
			return
		}
		for i, r := range got.Records {
			if want := got.Records[0].Index - int64(i); r.Index != want {
				t.Errorf("record %d follows %d", r.Index, want+1)
			}
		}
		if got.Unreadable > 0 || got.Next != "" {
			t.Errorf("%+v", got)
		}
	})
}
