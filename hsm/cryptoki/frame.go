package cryptoki

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// A frame is one call of a Module, or its answer, on the socket between Process and Host:
//
//	call:   number (1) | arguments
//	answer: kind of error (1) | CK_RV (8) or text | results
//
// A word has 8 bytes, little-endian. Bytes have their length before them, in 4 bytes; the length
// 0xffffffff means none at all (nil). A template is the number of its attributes (4), and for each its
// type, a word, and its value, bytes. Both ends are of one binary, so that there is no version.
const maxFrame = 64 << 10 // bytes; the largest one is a FindNext of MostFound objects, or an import

// absent is the length of bytes that are nil.
const absent = 0xffffffff

// Kinds of errors in an answer.
const (
	noError byte = iota
	returnValue
	otherError
)

var errFrame = errors.New("the process of the PKCS#11 module sent what it should not")

// encoder appends the parts of a frame. One that is too large is refused by whoever sends it.
type encoder struct{ b []byte }

func (e *encoder) byte(v byte)   { e.b = append(e.b, v) }
func (e *encoder) word(v uint)   { e.b = binary.LittleEndian.AppendUint64(e.b, uint64(v)) }
func (e *encoder) count(n int)   { e.b = binary.LittleEndian.AppendUint32(e.b, uint32(n)) }
func (e *encoder) text(s string) { e.bytes([]byte(s)) }

func (e *encoder) bytes(b []byte) {
	if b == nil {
		e.b = binary.LittleEndian.AppendUint32(e.b, absent)
		return
	}
	e.count(len(b))
	e.b = append(e.b, b...)
}

func (e *encoder) template(t []*Attribute) {
	e.count(len(t))
	for _, a := range t {
		e.word(a.Type)
		e.bytes(a.Value)
	}
}

func (e *encoder) err(err error) {
	var rv pkcs11.Error
	switch {
	case err == nil:
		e.byte(noError)
	case errors.As(err, &rv):
		e.byte(returnValue)
		e.word(uint(rv))
	default:
		e.byte(otherError)
		e.text(err.Error())
	}
}

// decoder takes a frame apart. After something that does not fit it gives nothing but zeros, and bad is
// set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	part := d.b[:n:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) byte() byte {
	if part := d.take(1); part != nil {
		return part[0]
	}
	return 0
}

func (d *decoder) word() uint {
	if part := d.take(8); part != nil {
		return uint(binary.LittleEndian.Uint64(part))
	}
	return 0
}

// count gives the number of parts that follow, each of which has at least size bytes.
func (d *decoder) count(size int) int {
	part := d.take(4)
	if part == nil {
		return 0
	}
	n := binary.LittleEndian.Uint32(part)
	if uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

// bytes gives a copy, since the frame is cleared and used again.
func (d *decoder) bytes() []byte {
	if len(d.b) >= 4 && binary.LittleEndian.Uint32(d.b) == absent {
		d.take(4)
		return nil
	}
	return append([]byte{}, d.take(d.count(1))...)
}

func (d *decoder) text() string { return string(d.bytes()) }

func (d *decoder) template() []*Attribute {
	template := make([]*Attribute, d.count(12))
	for i := range template {
		template[i] = &Attribute{Type: d.word(), Value: d.bytes()}
	}
	return template
}

// err gives the error of an answer.
func (d *decoder) err() error {
	switch d.byte() {
	case noError:
		return nil
	case returnValue:
		if rv := d.word(); rv != 0 {
			return pkcs11.Error(rv)
		}
	case otherError:
		return fmt.Errorf("%s", d.text())
	}
	d.bad = true
	return errFrame
}

// end reports whether the frame was all there, and nothing more.
func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errFrame
	}
	return nil
}
