package cryptoki

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/miekg/pkcs11"
)

func TestFrame(t *testing.T) {
	template := []*Attribute{
		{Type: 1, Value: []byte("value")}, {Type: pkcs11.CKA_UNWRAP_TEMPLATE}, {Type: 2, Value: []byte{}},
	}
	info := pkcs11.TokenInfo{
		Label: "label", SerialNumber: "serial", Flags: 7, MaxRwSessionCount: ^uint(0),
		FirmwareVersion: pkcs11.Version{Major: 1, Minor: 2},
	}
	e := &encoder{}
	e.err(pkcs11.Error(pkcs11.CKR_PIN_LOCKED))
	e.word(^uint(0))
	e.bytes(nil)
	e.bytes([]byte{})
	e.text("text")
	e.template(template)
	e.words([]uint{1, 2})
	e.tokenInfo(info)
	d := &decoder{b: e.b}
	if err := d.err(); err != pkcs11.Error(pkcs11.CKR_PIN_LOCKED) {
		t.Error(err)
	}
	if v := d.word(); v != ^uint(0) {
		t.Error(v)
	}
	if b := d.bytes(); b != nil {
		t.Errorf("%v", b)
	}
	if b := d.bytes(); b == nil || len(b) != 0 {
		t.Errorf("%v", b)
	}
	if s := d.text(); s != "text" {
		t.Error(s)
	}
	if got := d.template(); !reflect.DeepEqual(got, template) {
		t.Errorf("%v", got)
	}
	if got := d.words(); !reflect.DeepEqual(got, []uint{1, 2}) {
		t.Error(got)
	}
	if got := d.tokenInfo(); got != info {
		t.Errorf("%+v", got)
	}
	if err := d.end(); err != nil {
		t.Error(err)
	}
}

// TestEveryCallIsHosted: a call without an entry would be refused at run time only.
func TestEveryCallIsHosted(t *testing.T) {
	for number := callSlots; number < lastCall; number++ {
		if calls[number] == nil {
			t.Errorf("call %d", number)
		}
	}
}

// FuzzFrame takes any bytes apart as every part of an answer: a compromised module's process may
// send them.
func FuzzFrame(f *testing.F) {
	e := &encoder{}
	e.err(nil)
	e.template([]*Attribute{{Type: 1, Value: []byte("value")}})
	f.Add(e.b)
	f.Add([]byte{otherError, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{noError, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, take := range []func(*decoder){
			func(d *decoder) { d.bytes() }, func(d *decoder) { d.template() }, func(d *decoder) { d.words() },
			func(d *decoder) { d.tokenInfo() }, func(d *decoder) { d.room() }, func(d *decoder) { d.operation() },
		} {
			d := &decoder{b: bytes.Clone(frame)}
			_ = d.err()
			take(d)
			_ = d.end()
		}
		h := &host{}
		if answer := h.answer(bytes.Clone(frame), nil); len(answer) == 0 || len(answer) > maxFrame {
			t.Errorf("an answer of %d bytes", len(answer))
		}
		d := &decoder{b: bytes.Clone(frame)}
		if template := d.template(); d.end() == nil { // what parses encodes to the same
			again := &encoder{}
			again.template(template)
			if !bytes.Equal(again.b, frame) {
				t.Errorf("%x becomes %x", frame, again.b)
			}
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	for _, path := range []string{"", "relative.so", "/no/such/module.so"} {
		if _, err := Load(Config{Path: path}); err == nil {
			t.Errorf("%q was loaded", path)
		}
	}
	if _, err := (&decoder{b: []byte{returnValue}}).err(), errFrame; !errors.Is(err, errFrame) {
		t.Error(err)
	}
}
