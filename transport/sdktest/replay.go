package sdktest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Replay is a connection over which one request, which was signed beforehand, is sent again and again. It takes little
// time and allocates nothing, so that a benchmark measures the server.
type Replay struct {
	request []byte
	conn    net.Conn
	in      *bufio.Reader
	answer  []byte // until the next one
}

// NewReplay connects to the host of a request's URL.
func NewReplay(r *http.Request) (*Replay, error) {
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		return nil, err
	}
	return &Replay{request: text.Bytes(), conn: conn, in: bufio.NewReader(conn)}, nil
}

// doTimeout is generous: it only ends a benchmark whose server answers no more.
const doTimeout = time.Minute

// Do sends the request and returns the body of the answer, which is valid until the next Do. An answer with a status
// other than 200 is an error, after which the connection can still be used.
func (p *Replay) Do() ([]byte, error) {
	if err := p.conn.SetDeadline(time.Now().Add(doTimeout)); err != nil {
		return nil, err
	}
	if _, err := p.conn.Write(p.request); err != nil {
		return nil, err
	}
	var status [3]byte
	size := -1
	for {
		line, err := p.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if status[0] == 0 {
			if len(line) < len("HTTP/1.1 200") {
				return nil, fmt.Errorf("the answer begins with %q", line)
			}
			status = [3]byte(line[9:12])
		}
		if n, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(n))); err != nil {
				return nil, err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if size < 0 {
		return nil, errors.New("the answer has no Content-Length")
	}
	p.answer = slices.Grow(p.answer[:0], size)[:size]
	_, err := io.ReadFull(p.in, p.answer)
	if err == nil && string(status[:]) != "200" {
		err = fmt.Errorf("status %s: %s", status[:], p.answer)
	}
	return p.answer, err
}

// Close ends the connection.
func (p *Replay) Close() error { return p.conn.Close() }
