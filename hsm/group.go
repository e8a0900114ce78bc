package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Group is one token or several that hold the same keys: the members of an HSM's high-availability
// group, cloned by the HSM itself. Keys are used on any member, in turns; if a member is lost, too
// late, or does not have a key yet, the next one is tried. A key that no member knows may have been
// made by another process: members search for it, no more often than every searchPause, since a
// search takes time linear in the number of objects. Keys are made and destroyed on the first
// member that is connected, once: a call that may have happened is not repeated on another. Its
// methods are those of Token, and may be called concurrently.
type Group struct {
	members []*Token
	turn    atomic.Uint64

	stop      context.CancelFunc
	stopped   context.Context
	locating  sync.WaitGroup // the goroutines that look for new keys on other members
	mu        sync.Mutex
	searching map[missingKey]chan struct{} // guarded by mu: what they look for; closed when the search ends
	notFound  map[missingKey]time.Time     // guarded by mu: what they have looked for in vain, and when
}

const (
	searchPause = 5 * time.Second
	maxNotFound = 10_000
)

// missingKey is a key that a member does not know.
type missingKey struct {
	member *Token
	id     ObjectID
}

// NewGroup groups tokens; the first is the preferred one for changes. The group closes them.
func NewGroup(members ...*Token) (*Group, error) {
	if len(members) == 0 {
		return nil, errors.New("group tokens: there is none")
	}
	g := &Group{members: members, searching: map[missingKey]chan struct{}{}, notFound: map[missingKey]time.Time{}}
	g.stopped, g.stop = context.WithCancel(context.Background())
	return g, nil
}

// Close closes all members.
func (g *Group) Close() error {
	g.stop()
	g.mu.Lock()
	g.searching = nil // nobody begins to look any more
	g.mu.Unlock()
	g.locating.Wait()
	var errs []error
	for _, t := range g.members {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// retryOnOtherMember reports whether another member may succeed.
func retryOnOtherMember(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrNoObject)
}

// use calls f with one member after the other, until one can serve. If none can, and some only lack
// the key, it waits for their searches and tries them again. The error is that of the member that
// had the key, if any.
func use[T any](ctx context.Context, g *Group, f func(*Token) (T, error), keys ...Key) (v T, err error) {
	var without []*Token
	var searches []<-chan struct{}
	first := g.turn.Add(1)
	for i := range g.members {
		t := g.members[(first+uint64(i))%uint64(len(g.members))]
		var failed error
		if v, failed = f(t); failed == nil || !retryOnOtherMember(failed) {
			return v, failed
		}
		if errors.Is(failed, ErrNoObject) {
			without, searches = append(without, t), append(searches, g.searchOn(t, keys)...)
		}
		if err == nil || errors.Is(err, ErrNoObject) {
			err = failed
		}
		if ctx.Err() != nil {
			return v, err
		}
	}
	if searches == nil {
		return v, err
	}
	for _, ended := range searches {
		select {
		case <-ended:
		case <-ctx.Done():
			return v, err
		}
	}
	for _, t := range without {
		if again, failed := f(t); failed == nil || !retryOnOtherMember(failed) {
			return again, failed
		}
	}
	return v, err
}

// connected gives the members that are connected.
func (g *Group) connected() (members []*Token) {
	for _, t := range g.members {
		if t.link.IsConnected() {
			members = append(members, t)
		}
	}
	return members
}

// changeable gives the connected members, at least one. A group's only member is given in any case:
// its own error says best what is wrong.
func (g *Group) changeable() ([]*Token, error) {
	if len(g.members) == 1 {
		return g.members, nil
	}
	members := g.connected()
	if len(members) == 0 {
		return nil, fmt.Errorf("%w: no member of the group is connected", ErrUnavailable)
	}
	return members, nil
}

// change calls f with the first member that is connected, once.
func change(g *Group, f func(*Token) error) error {
	members, err := g.changeable()
	if err != nil {
		return err
	}
	return f(members[0])
}

// searchOn has a member search for keys that it does not know: they may have been made on another
// member since it connected. The channels are closed when the searches end.
func (g *Group) searchOn(t *Token, keys []Key) (searches []<-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.searching == nil {
		return nil
	}
	for _, k := range keys {
		what := missingKey{t, k.TokenObject()}
		if since, known := g.notFound[what]; known && time.Since(since) < searchPause {
			continue
		}
		ended, begun := g.searching[what]
		if !begun {
			ended = make(chan struct{})
			g.searching[what] = ended
			g.locating.Go(func() { g.search(what, ended) })
		}
		searches = append(searches, ended)
	}
	return searches
}

func (g *Group) search(what missingKey, ended chan struct{}) {
	err := what.member.Locate(g.stopped, what.id)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.searching, what)
	delete(g.notFound, what)
	if errors.Is(err, ErrNoObject) {
		if len(g.notFound) >= maxNotFound {
			clear(g.notFound)
		}
		g.notFound[what] = time.Now()
	}
	close(ended)
}
