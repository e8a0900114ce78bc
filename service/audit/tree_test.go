package audit

import (
	"bytes"
	"encoding/binary"
	"testing"
	"testing/fstest"

	"golang.org/x/mod/sumdb/tlog"
)

// TestTreeIsTlogs grows a tree past its third level of tiles and compares its roots and tiles with package tlog's.
func TestTreeIsTlogs(t *testing.T) {
	var stored hashes
	files := folder{}
	tr := &tree{complete: func(d tile) {
		want, err := tlog.ReadTileData(d.Tile, &stored)
		must(t, err)
		if !bytes.Equal(d.data, want) {
			t.Fatalf("tile %s", tilePath(d.Tile))
		}
		files[tilePath(d.Tile)] = &fstest.MapFile{Data: d.data}
	}}
	check := func() {
		want, err := tlog.TreeHash(tr.size, &stored)
		must(t, err)
		if tr.root() != want {
			t.Fatalf("root of %d", tr.size)
		}
		partial := tr.partial()
		for _, d := range partial {
			data, err := tlog.ReadTileData(d.Tile, &stored)
			must(t, err)
			if !bytes.Equal(d.data, data) {
				t.Fatalf("tile %s of %d", tilePath(d.Tile), tr.size)
			}
			files[tilePath(d.Tile)] = &fstest.MapFile{Data: d.data}
		}
		again, err := loadTree(files, tr.size)
		must(t, err)
		if again.root() != want {
			t.Fatalf("root of %d, read again", tr.size)
		}
	}
	check()
	for n := range int64(66_000) {
		leaf := tlog.RecordHash(binary.BigEndian.AppendUint64(nil, uint64(n)))
		hashes, err := tlog.StoredHashesForRecordHash(n, leaf, &stored)
		must(t, err)
		stored = append(stored, hashes...)
		tr.add(leaf)
		if n < 600 || n%997 == 0 || n > 65_530 && n < 65_540 {
			check()
		}
	}
	if _, err := tr.ReadHashes([]int64{0}); err == nil {
		t.Error("a hash that is not at the edge was read")
	}
	if len(tr.edge) != 3 {
		t.Errorf("%d levels", len(tr.edge))
	}
}
