package audit

import (
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileFolder = "tile"
	tileHeight = 8 // C2SP tlog-tiles: 256 hashes a tile
	tileWidth  = 1 << tileHeight
)

// tile identifies a tile and has its hashes.
type tile struct {
	tlog.Tile
	data []byte
}

// tilePath returns the file of a tile. Unlike package tlog, C2SP has no path element for the
// height.
func tilePath(t tlog.Tile) string { return strings.Replace(t.Path(), "tile/8/", "tile/", 1) }

// parseTilePath reads the name of a tile's file.
func parseTilePath(path string) (tlog.Tile, error) {
	rest, ok := strings.CutPrefix(path, tileFolder+"/")
	t, err := tlog.ParseTilePath("tile/8/" + rest)
	if !ok || err != nil || t.L < 0 {
		return tlog.Tile{}, fmt.Errorf("%s is not a tile", path)
	}
	return t, nil
}

// tree is the right edge of a Merkle tree: all that is needed to add leaves. It implements
// tlog.HashReader for the hashes that the root needs.
type tree struct {
	size int64
	edge [][]tlog.Hash // the hashes of each level's incomplete tile, fewer than 256

	// complete is called with each tile that an added hash completes.
	complete func(tile)
}

// add appends a leaf.
func (t *tree) add(leaf tlog.Hash) {
	t.size++
	for level, h := 0, leaf; ; level++ {
		if level == len(t.edge) {
			t.edge = append(t.edge, make([]tlog.Hash, 0, tileWidth))
		}
		t.edge[level] = append(t.edge[level], h)
		if len(t.edge[level]) < tileWidth {
			return
		}
		number := t.size>>(tileHeight*(level+1)) - 1
		t.complete(newTile(level, number, t.edge[level]))
		h = fold(t.edge[level])
		t.edge[level] = t.edge[level][:0]
	}
}

func newTile(level int, number int64, hashes []tlog.Hash) tile {
	data := make([]byte, 0, len(hashes)*tlog.HashSize)
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return tile{tlog.Tile{H: tileHeight, L: level, N: number, W: len(hashes)}, data}
}

// fold returns the root of hashes, whose number is a power of two.
func fold(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	middle := len(hashes) / 2
	return tlog.NodeHash(fold(hashes[:middle]), fold(hashes[middle:]))
}

// partial returns the incomplete tiles.
func (t *tree) partial() []tile {
	var tiles []tile
	for level, hashes := range t.edge {
		if len(hashes) > 0 {
			tiles = append(tiles, newTile(level, t.size>>(tileHeight*(level+1)), hashes))
		}
	}
	return tiles
}

// root returns the tree's hash (RFC 6962 section 2.1).
func (t *tree) root() tlog.Hash {
	root, err := tlog.TreeHash(t.size, t)
	if err != nil {
		panic(err) // the edge has every hash that the root needs
	}
	return root
}

// ReadHashes implements tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		tileLevel, width := level/tileHeight, int64(1)<<(level%tileHeight)
		if tileLevel >= len(t.edge) {
			return nil, fmt.Errorf("hash %d of level %d is not at the tree's edge", n, level)
		}
		start := n*width - t.size>>(tileHeight*(tileLevel+1))<<tileHeight
		if start < 0 || start+width > int64(len(t.edge[tileLevel])) {
			return nil, fmt.Errorf("hash %d of level %d is not at the tree's edge", n, level)
		}
		hashes[i] = fold(t.edge[tileLevel][start : start+width])
	}
	return hashes, nil
}

// loadTree reads the right edge of a tree of the given size.
func loadTree(fsys fs.FS, size int64) (*tree, error) {
	t := &tree{size: size}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		n := size >> (tileHeight * level)
		hashes := make([]tlog.Hash, n%tileWidth, tileWidth)
		if len(hashes) > 0 {
			data, err := readTile(fsys, tlog.Tile{H: tileHeight, L: level, N: n / tileWidth, W: len(hashes)})
			if err != nil {
				return nil, err
			}
			for i := range hashes {
				hashes[i] = tlog.Hash(data[i*tlog.HashSize:])
			}
		}
		t.edge = append(t.edge, hashes)
	}
	return t, nil
}

// readTile reads a tile. A complete tile can stand in for a partial one, which may have been
// removed (C2SP tlog-tiles, "Partial Tiles").
func readTile(fsys fs.FS, t tlog.Tile) ([]byte, error) {
	size := t.W * tlog.HashSize
	data, err := readSmall(fsys, tilePath(t), tileWidth*tlog.HashSize)
	if err != nil && t.W < tileWidth {
		whole := t
		whole.W = tileWidth
		if all, err2 := readSmall(fsys, tilePath(whole), tileWidth*tlog.HashSize); err2 == nil &&
			len(all) == tileWidth*tlog.HashSize {
			return all[:size], nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read tile: %w", err)
	}
	if len(data) != size {
		return nil, fmt.Errorf("read tile: %s has %d bytes, not %d", tilePath(t), len(data), size)
	}
	return data, nil
}

// tileReader implements tlog.TileReader over a log's folder.
type tileReader struct{ fs.FS }

// Height implements tlog.TileReader.
func (tileReader) Height() int { return tileHeight }

// ReadTiles implements tlog.TileReader.
func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if data[i], err = readTile(r.FS, t); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// SaveTiles implements tlog.TileReader.
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// provenHashes reads hashes of a log's tree that the checkpoint's root proves.
func provenHashes(fsys fs.FS, c checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: c.size, Hash: c.root}, tileReader{fsys})
}
