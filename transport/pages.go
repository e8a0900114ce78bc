package transport

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/inspect"
	"github.com/verenc/kms/transport/console"
)

// Pages returns the handler of the documentation, of Try it out and of the console. Its requests are logged and counted
// like those of the API, but they are in no audit record: whoever asks for a page learns nothing of a key.
func Pages(cfg Config) (http.Handler, error) {
	cannot := func(name string) []string {
		o := operations[targetPrefix+name]
		if o == nil { // one of Verenc's own, which need nothing of the token
			return nil
		}
		return cfg.Service.Cannot(o.Operation, allowedValues(o.Request))
	}
	pages, err := console.New(console.Config{Reference: Reference(), Region: defaultRegion(cfg.Regions), Cannot: cannot,
		KeySpecs: cfg.Service.KeySpecs()})
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	metrics, err := newPageMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &pageHandler{pages: pages, cfg: cfg, metrics: metrics}, nil
}

// WritePages writes the documentation below a folder, without Try it out.
func WritePages(dir string) error { return console.Write(dir, Reference()) }

// WithPages lets pages answer the requests that are for them, and api the others.
func WithPages(api, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if console.Serves(r) {
			pages.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// Reference describes the operations to package console.
func Reference() console.Reference {
	r := console.Reference{Constraint: constraint}
	for _, f := range append(service.Families(), inspect.Family) {
		r.Families = append(r.Families, string(f))
	}
	for target, o := range operations {
		r.Operations = append(r.Operations, o.describe(target))
	}
	slices.SortFunc(r.Operations, func(a, b console.Operation) int { return strings.Compare(a.Name, b.Name) })
	return r
}

func (o *operation) describe(target string) console.Operation {
	op := console.Operation{
		Name:        o.Name,
		Family:      string(o.Family),
		Target:      target,
		OfAWS:       strings.HasPrefix(target, targetPrefix),
		Request:     o.Request,
		Response:    o.Response,
		Permissions: o.Permissions,
		Conditions:  o.Conditions,
	}
	for _, code := range o.ErrorCodes() {
		op.Errors = append(op.Errors, string(code))
	}
	if o.Key != nil {
		op.Usages = o.Key.Usages
		for _, state := range service.VisibleStates() {
			s := console.State{Name: string(state)}
			if note := o.Key.States[state]; note != 0 {
				s.Error = string(note.Code())
			}
			op.States = append(op.States, s)
		}
	}
	return op
}

// constraint gives what a shape says; the members of responses have none.
func constraint(name string) console.Constraint {
	s := shapes[name]
	if s == nil {
		return console.Constraint{}
	}
	return console.Constraint{
		Min:       s.min,
		Max:       s.max,
		Pattern:   s.pattern,
		Values:    s.values,
		Sensitive: s.sensitive,
		Element:   s.member,
	}
}

// allowedValues lists the values of the members of a request that allow only some.
func allowedValues(request reflect.Type) (all []string) {
	for f := range request.Fields() {
		all = append(all, shapes[f.Tag.Get("shape")].values...)
	}
	return all
}
