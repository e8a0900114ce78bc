package hsm

import (
	"errors"
	"fmt"
	"sync"
)

// pin remembers what the token has said of the PIN: tokens lock after a few failures.
type pin struct {
	mu      sync.Mutex
	refused error // guarded by mu
	tries   int   // guarded by mu: logins that have not come back
}

// maxLogins is how many logins may hang before no other is tried: each may turn out to be a failure.
const maxLogins = 2

// usable gives the refusal of a PIN that was refused before.
func (p *pin) usable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

func (p *pin) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == nil && p.tries >= maxLogins {
		return fmt.Errorf("%w: %d logins have not come back", ErrUnavailable, p.tries)
	}
	if p.refused == nil {
		p.tries++
	}
	return p.refused
}

func (p *pin) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries--
	if errors.Is(err, ErrPIN) {
		p.refused = err
	}
}
