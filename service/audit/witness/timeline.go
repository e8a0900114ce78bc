package witness

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/verenc/kms/service/audit"
)

// moment is a record, and when it was.
type moment struct {
	at     int64 // seconds since 1970
	folder int
	index  int64
	place  audit.Place
}

// Line is a line of a time line.
type Line struct {
	Log    string          `json:"log"`    // its name; the path of its folder if that does not tell
	Record json.RawMessage `json:"record"` // a string if the line is not JSON
}

// WriteTimeline writes the records of all logs in the order of their times, one Line as JSON for each.
// Records of one second are in the order of the folders, and in that of their log. It proves nothing:
// Check does. It needs about 50 bytes of memory for each record.
func WriteTimeline(folders []Folder, out io.Writer) error {
	var moments []moment
	for i, f := range folders {
		var at time.Time
		err := audit.ReadPlaces(f.FS, func(index int64, text []byte, place audit.Place) error {
			var r struct{ EventTime time.Time }
			if json.Unmarshal(text, &r) == nil { // else it is beside the one before
				at = r.EventTime
			}
			moments = append(moments, moment{at.Unix(), i, index, place})
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	slices.SortFunc(moments, func(a, b moment) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.folder, b.folder), cmp.Compare(a.index, b.index))
	})
	return writeMoments(folders, moments, out)
}

func writeMoments(folders []Folder, moments []moment, out io.Writer) (err error) {
	names, readers := make([]string, len(folders)), make([]audit.PlaceReader, len(folders))
	for i, f := range folders {
		readers[i].FS, names[i] = f.FS, f.Path
		if _, latest, err := audit.Latest(f.FS); err == nil {
			names[i] = latest.Origin
		}
	}
	defer func() {
		for i := range readers {
			err = errors.Join(err, readers[i].Close())
		}
	}()
	buffered := bufio.NewWriter(out)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	for _, m := range moments {
		text, err := readers[m.folder].Read(m.place)
		if err != nil {
			return fmt.Errorf("%s: %w", folders[m.folder].Path, err)
		}
		if !json.Valid(text) {
			if text, err = json.Marshal(string(text)); err != nil {
				return err
			}
		}
		if err := lines.Encode(Line{names[m.folder], text}); err != nil {
			return err
		}
	}
	return buffered.Flush()
}
