package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// SyslogConfig says where a syslog server is.
type SyslogConfig struct {
	// Network is unixgram, unix, udp or tcp. unixgram and udp send a datagram for each record,
	// which the network may lose and whose size it limits. unix and tcp use octet counting (RFC
	// 6587 section 3.4.1). They have no acknowledgement either: what a server had not read when it
	// died is lost.
	Network  string
	Address  string // host:port, or a socket's path such as /dev/log
	Hostname string // default this machine's
	AppName  string // default verenc

	// Dial makes the connection, for example over TLS (RFC 5425). The default is DialContext of a
	// net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() time.Time // default time.Now
}

// SyslogSink sends each record as a message of RFC 5424 with facility 13 (log audit) and severity 6 (informational).
type SyslogSink struct {
	cfg    SyslogConfig
	conn   net.Conn // nil until a write needs it
	header string   // after the timestamp
}

const syslogPriority = 13*8 + 6 // RFC 5424 section 6.2.1

// NewSyslogSink returns a sink that connects when it has something to send.
func NewSyslogSink(cfg SyslogConfig) (*SyslogSink, error) {
	switch cfg.Network {
	case "unixgram", "unix", "udp", "tcp":
	default:
		return nil, fmt.Errorf("audit output syslog: network %q is none of unixgram, unix, udp, tcp", cfg.Network)
	}
	if cfg.Hostname == "" {
		if name, err := os.Hostname(); err == nil {
			cfg.Hostname = name
		}
	}
	setDefault(&cfg.AppName, "verenc")
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	header := fmt.Sprintf(" %s %s %d audit - ", syslogName(cfg.Hostname, 255), syslogName(cfg.AppName, 48), os.Getpid())
	return &SyslogSink{cfg: cfg, header: header}, nil
}

// syslogName returns a header field: printable ASCII of a limited length, "-" for nothing (RFC 5424
// section 6).
func syslogName(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}

// Write implements Sink. It replaces a connection that turns out to be dead, once.
func (s *SyslogSink) Write(ctx context.Context, lines [][]byte) error {
	fresh := s.conn == nil
	sent, err := s.send(ctx, lines)
	if err != nil && !fresh && ctx.Err() == nil {
		_, err = s.send(ctx, lines[sent:])
	}
	return err
}

// send returns how many messages were sent.
func (s *SyslogSink) send(ctx context.Context, lines [][]byte) (sent int, err error) {
	if s.conn == nil {
		if s.conn, err = s.cfg.Dial(ctx, s.cfg.Network, s.cfg.Address); err != nil {
			return 0, fmt.Errorf("connect to syslog: %w", err)
		}
	}
	deadline, _ := ctx.Deadline() // no deadline: the zero time, which waits for ever
	err = s.conn.SetWriteDeadline(deadline)
	stream := s.cfg.Network == "unix" || s.cfg.Network == "tcp"
	for ; err == nil && sent < len(lines); sent++ {
		message := fmt.Appendf(nil, "<%d>1 %s%s", syslogPriority,
			s.cfg.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), s.header)
		message = append(message, lines[sent]...)
		if stream {
			message = append(fmt.Appendf(nil, "%d ", len(message)), message...)
		}
		if _, err = s.conn.Write(message); err != nil {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("send to syslog: %w", errors.Join(err, s.Close()))
	}
	return sent, err
}

// Close implements Sink.
func (s *SyslogSink) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}
