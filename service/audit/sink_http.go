package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// HTTPConfig says where records are posted.
type HTTPConfig struct {
	URL string // required
	// Authorization, if set, gives the value of the header Authorization of each request; "" is none.
	// It appears in no error.
	Authorization func() string
	Client        *http.Client

	Attempts int           // for one batch, within its time; default 3
	Pause    time.Duration // before the second attempt, then twice as long each time; default 200 ms
}

// HTTPSink posts each batch as application/x-ndjson. A status of 2xx acknowledges it. After 429 and
// 5xx it tries again, after others not.
type HTTPSink struct{ cfg HTTPConfig }

// NewHTTPSink returns a sink that posts to a URL. It does not follow redirects: their target was
// not configured.
func NewHTTPSink(cfg HTTPConfig) (*HTTPSink, error) {
	if _, err := http.NewRequest(http.MethodPost, cfg.URL, nil); err != nil || cfg.URL == "" {
		return nil, errors.New("audit output http: URL is missing or is none")
	}
	client := http.Client{}
	if cfg.Client != nil {
		client = *cfg.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.Client = &client
	if cfg.Attempts == 0 {
		cfg.Attempts = 3
	}
	if cfg.Pause == 0 {
		cfg.Pause = 200 * time.Millisecond
	}
	return &HTTPSink{cfg}, nil
}

// Write implements Sink.
func (s *HTTPSink) Write(ctx context.Context, lines [][]byte) error {
	body, pause := jsonLines(lines), s.cfg.Pause
	for attempt := 1; ; attempt++ {
		again, err := s.post(ctx, body)
		if err == nil || !again || attempt >= s.cfg.Attempts {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			pause *= 2
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (s *HTTPSink) post(ctx context.Context, body []byte) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Errorf("post audit records: %w", err)
	}
	if s.cfg.Authorization != nil {
		if value := s.cfg.Authorization(); value != "" {
			request.Header.Set("Authorization", value)
		}
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := s.cfg.Client.Do(request)
	if err != nil {
		if outer := (*url.Error)(nil); errors.As(err, &outer) {
			err = outer.Err // without the URL, which may contain a token
		}
		return ctx.Err() == nil, fmt.Errorf("post audit records: %w", err)
	}
	// so that the connection can be reused; only the status counts
	_, _ = io.CopyN(io.Discard, response.Body, 4096)
	_ = response.Body.Close()
	if response.StatusCode/100 == 2 {
		return false, nil
	}
	again = response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500
	return again, fmt.Errorf("post audit records: the server answered %d", response.StatusCode)
}

// Close implements Sink.
func (s *HTTPSink) Close() error {
	s.cfg.Client.CloseIdleConnections()
	return nil
}
