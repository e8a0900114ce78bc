package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"path"
)

//go:embed assets
var assetFiles embed.FS

// assets are the style sheet, the scripts and the icon. The hash of them all is a part of their
// addresses, so that browsers may keep them for ever, and scripts can import each other by relative
// addresses.
type assets struct {
	hash  string
	files map[string][]byte // by name
}

// newAssets reads them, and adds the index of the search.
func newAssets(index []byte) (*assets, error) {
	a := &assets{files: map[string][]byte{"search.json": index}}
	entries, err := fs.ReadDir(assetFiles, "assets")
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	hash.Write(index)
	for _, e := range entries { // in the order of their names
		text, err := fs.ReadFile(assetFiles, path.Join("assets", e.Name()))
		if err != nil {
			return nil, err
		}
		a.files[e.Name()] = text
		sum := sha256.Sum256(text)
		hash.Write([]byte(e.Name()))
		hash.Write(sum[:])
	}
	a.hash = hex.EncodeToString(hash.Sum(nil)[:8])
	return a, nil
}

// path is the address of an asset.
func (a *assets) path(name string) string { return "/docs/assets/" + a.hash + "/" + name }

// kinds are the media types of assets, by the ends of their names.
var kinds = map[string]string{
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".json": "application/json",
	".svg":  "image/svg+xml",
}
