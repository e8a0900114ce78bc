package witness

import (
	"bytes"
	"crypto"
	"strings"
	"testing"
)

func goodRequest() *request {
	nonce := bytes.Repeat([]byte{7}, nonceSize)
	return &request{
		Format: format,
		Module: "/usr/lib/module.so",
		Serial: "0123",
		PIN:    []byte("1234"),
		Objects: []question{
			{ID: []byte("first"), Challenge: challenge{Kind: KindSeal, Nonce: nonce}},
			{ID: []byte("second"), Challenge: challenge{Kind: KindMAC, Nonce: nonce, Hash: crypto.SHA384.String()}},
			{
				ID: []byte("third"), Private: true,
				Challenge: challenge{Kind: KindDecrypt, Ciphertexts: [][]byte{nonce, nonce}},
			},
			{ID: []byte("fourth"), Private: true, Challenge: challenge{Kind: KindSign, Nonce: nonce}},
			{ID: []byte("fifth"), Challenge: challenge{Kind: KindNone}},
		},
	}
}

func goodReply() *reply {
	number := uint64(31)
	return &reply{Format: format, Objects: []answer{
		{
			ID:         []byte("first"),
			Attributes: &rawAttributes{Label: []byte("<\xff>"), KeyType: &number, Local: true},
			Answer:     []byte("box"),
		},
		{ID: []byte("second"), Failure: "there are two"}, {ID: []byte("third")},
		{ID: []byte("fourth"), Attributes: &rawAttributes{Mechanism: &number}, ChallengeFailure: "CKR_DEVICE_ERROR"},
	}}
}

func TestRefusedRequests(t *testing.T) {
	for name, change := range map[string]func(*request){
		"format": func(r *request) { r.Format = 2 }, "no module": func(r *request) { r.Module = "" },
		"no token":          func(r *request) { r.Serial = "" },
		"two tokens":        func(r *request) { r.Label = "x" },
		"long":              func(r *request) { r.PIN = make([]byte, maxWords+1) },
		"no UTF-8":          func(r *request) { r.Module = "/\xff" },
		"no id":             func(r *request) { r.Objects[0].ID = nil },
		"long id":           func(r *request) { r.Objects[0].ID = make([]byte, maxID+1) },
		"many":              func(r *request) { r.Objects = make([]question, maxObjects+1) },
		"kind":              func(r *request) { r.Objects[0].Challenge.Kind = "export" },
		"short nonce":       func(r *request) { r.Objects[0].Challenge.Nonce = []byte{1} },
		"hash":              func(r *request) { r.Objects[1].Challenge.Hash = "MD5" },
		"hash of a seal":    func(r *request) { r.Objects[0].Challenge.Hash = crypto.SHA256.String() },
		"odd hash":          func(r *request) { r.Objects[0].Challenge.Hash = "MD5" },
		"no ciphertext":     func(r *request) { r.Objects[2].Challenge.Ciphertexts = nil },
		"long ciphertext":   func(r *request) { r.Objects[2].Challenge.Ciphertexts[0] = make([]byte, maxAnswer+1) },
		"nonce of nothing":  func(r *request) { r.Objects[4].Challenge.Nonce = make([]byte, nonceSize) },
		"signs and decrypt": func(r *request) { r.Objects[3].Challenge.Ciphertexts = make([][]byte, 2) },
	} {
		r := goodRequest()
		change(r)
		if _, err := r.encode(); err == nil {
			t.Errorf("%s: it is written", name)
		}
		if text, err := encode(r); err == nil {
			if _, err := decodeRequest(text); err == nil {
				t.Errorf("%s: it is read", name)
			}
		}
	}
}

func TestRefusedReplies(t *testing.T) {
	for name, change := range map[string]func(*reply){
		"format": func(r *reply) { r.Format = 0 }, "failure and objects": func(r *reply) { r.Failure = "x" },
		"no id":                  func(r *reply) { r.Objects[0].ID = nil },
		"long answer":            func(r *reply) { r.Objects[0].Answer = make([]byte, maxAnswer+1) },
		"answer of none":         func(r *reply) { r.Objects[2].Answer = []byte{1} },
		"failure of none":        func(r *reply) { r.Objects[2].ChallengeFailure = "x" },
		"long failure":           func(r *reply) { r.Objects[1].Failure = strings.Repeat("x", maxWords+1) },
		"failure and attributes": func(r *reply) { r.Objects[0].Failure = "x" },
		"long label":             func(r *reply) { r.Objects[0].Attributes.Label = make([]byte, maxLabel+1) },
		"many":                   func(r *reply) { r.Objects = make([]answer, maxObjects+1) },
	} {
		r := goodReply()
		change(r)
		if _, err := r.encode(); err == nil {
			t.Errorf("%s: it is written", name)
		}
		if text, err := encode(r); err == nil {
			if _, err := decodeReply(text); err == nil {
				t.Errorf("%s: it is read", name)
			}
		}
	}
	good, err := goodReply().encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a space": " " + string(good), "something behind it": string(good) + "{}",
		"a line":            string(good) + "\n",
		"something unknown": strings.Replace(string(good), `"Failure"`, `"Extra":1,"Failure"`, 1),
		"another case":      strings.Replace(string(good), `"Format"`, `"format"`, 1),
		"twice":             strings.Replace(string(good), `"Format":1`, `"Format":1,"Format":1`, 1),
		"missing":           strings.Replace(string(good), `"Format":1,`, ``, 1),
		"long":              string(good) + strings.Repeat(" ", maxText), "null": "null", "nothing": "",
	} {
		if _, err := decodeReply([]byte(text)); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
}

// FuzzRequest holds that what is read is within the limits, and is spelled as it would be written.
func FuzzRequest(f *testing.F) {
	text, err := goodRequest().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decodeRequest(text)
		if err != nil {
			return
		}
		if again, err := r.encode(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q is read from %q: %v", again, text, err)
		}
	})
}

// FuzzReply does so for replies, and holds that no answer to nothing agrees.
func FuzzReply(f *testing.F) {
	text, err := goodReply().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decodeReply(text)
		if err != nil {
			return
		}
		if again, err := r.encode(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q is read from %q: %v", again, text, err)
		}
		never := func([]byte) (bool, error) { return false, nil }
		for _, a := range r.Objects {
			found := judge(Object{ID: a.ID, Challenge: Challenge{Kind: KindSign}}, a, never)
			if found.Verdict == Agrees || printable(found.Reason) != found.Reason {
				t.Errorf("%+v of %+v", found, a)
			}
		}
	})
}
