package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
)

//go:embed assets
var assetFiles embed.FS

// assets are the style sheet, the scripts and the icon. The hash of them all is a part of their
// addresses, so that browsers may keep them for ever, and scripts can import each other by relative
// addresses.
type assets struct {
	hash  string
	files map[string][]byte // by name, with its folder
}

// indexFile is the index of the search.
const indexFile = "search.json"

// newAssets reads them, and adds the index of the search.
func newAssets(index []byte) (*assets, error) {
	a := &assets{files: map[string][]byte{indexFile: index}}
	folder, err := fs.Sub(assetFiles, "assets")
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	hash.Write(index)
	err = fs.WalkDir(folder, ".", func(name string, e fs.DirEntry, err error) error { // in the order of their names
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		a.files[name] = text
		sum := sha256.Sum256(text)
		hash.Write([]byte(name))
		hash.Write(sum[:])
		return nil
	})
	if err != nil {
		return nil, err
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
