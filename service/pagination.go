package service

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
)

// page is one page of a list, in order of a unique name.
type page struct {
	op    string
	after string // the last name of the page before
	limit int
}

// newPage reads Limit and Marker. A marker has the list's operation and the last name of the page
// before. So it keeps its place while entries come and go, and has nothing that the client has not
// seen.
func newPage(op string, limit int32, marker string) (page, error) {
	return operations[op].page(limit, marker)
}

// PageOf returns one page of a list that is in memory, in order of a unique name, and the marker of
// the next one.
func PageOf[T any](o *Operation, limit int32, marker string, all []T, name func(T) string) ([]T, string, error) {
	p, err := o.page(limit, marker)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(p, all, name)
	return list, next, nil
}

func (o *Operation) page(limit int32, marker string) (page, error) {
	p, size := page{op: o.Name, limit: int(limit)}, o.Page
	if limit == 0 {
		p.limit = size.Default
	}
	if p.limit > size.Max {
		return p, apierror.New(apierror.Validation, "1 validation error detected: "+
			"Value '%d' at 'limit' failed to satisfy constraint: Member must have value less than or equal to %d",
			limit, size.Max)
	}
	if marker == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(marker)
	after, ok := strings.CutPrefix(string(raw), p.op+":")
	if err != nil || !ok {
		return p, apierror.New(apierror.InvalidMarker,
			"The marker is not valid. Use the NextMarker of the response before, unchanged.")
	}
	p.after = after
	return p, nil
}

// cut shortens a list that was read with one entry more than the page has, and returns the marker
// of the next page.
func cut[T any](p page, list []T, name func(T) string) ([]T, string) {
	if len(list) <= p.limit {
		return list, ""
	}
	list = list[:p.limit]
	return list, base64.RawURLEncoding.EncodeToString([]byte(p.op + ":" + name(list[p.limit-1])))
}

// pageOf is one page of a list that is in memory, in order of a unique name.
func pageOf[T any](p page, all []T, name func(T) string) ([]T, string) {
	list := []T{} // AWS answers [], not null
	for _, v := range all {
		if name(v) > p.after {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return cut(p, list, name)
}
