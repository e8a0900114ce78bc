package faults_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm/faults"
)

// raw is a program that calls a module with memory whose end is guarded, see testdata/raw.c.
type raw struct {
	*client
	in  io.Writer
	out *bufio.Scanner
	err *bytes.Buffer
}

func startRaw(c *client, m *faults.Module) raw {
	c.Helper()
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		c.Fatal(err)
	}
	program := filepath.Join(c.TempDir(), "raw")
	if said, err := exec.Command("gcc", "-Wall", "-I"+strings.TrimSpace(string(headers)), "-o", program,
		"testdata/raw.c", "-ldl").CombinedOutput(); err != nil {
		c.Fatalf("%v\n%s", err, said)
	}
	r := raw{client: c, err: &bytes.Buffer{}}
	cmd := exec.Command(program, m.Path, c.soft.Serial, c.soft.PIN)
	cmd.Stderr = r.err
	if r.in, err = cmd.StdinPipe(); err != nil {
		c.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	r.out = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		_ = r.in.(io.Closer).Close()
		if err := cmd.Wait(); err != nil {
			c.Errorf("%v\n%s", err, r.err)
		}
		m.Forget() // it has left a session open
	})
	r.hear("ready")
	return r
}

// hear reads an answer, which must have this prefix, and returns it.
func (r raw) hear(want string) string {
	r.Helper()
	if !r.out.Scan() {
		r.Fatalf("the program ended: %v\n%s", r.out.Err(), r.err)
	}
	if got := r.out.Text(); !strings.HasPrefix(got+" ", want+" ") {
		r.Errorf("it said %q, not %q", got, want)
	}
	return r.out.Text()
}

func (r raw) call(line, want string) string {
	r.Helper()
	fmt.Fprintln(r.in, line)
	return r.hear(want)
}

// changed is how many bytes an answer says that were changed.
func changed(t *testing.T, answer string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(answer, "0x%x %d %d", new(int), new(uint), &n); err != nil {
		t.Fatal(answer, err)
	}
	return n
}

// TestLiesNeverWritePastTheEnd has the module lie about every length and count to a program that
// would be killed.
func TestLiesNeverWritePastTheEnd(t *testing.T) {
	c, m := call(t)
	r := startRaw(c, m)
	const huge = 1<<63 + 5

	for _, f := range []struct {
		function, call string
		field          faults.Field
	}{
		{"C_GetSlotList", "slots", faults.Count}, {"C_GetMechanismList", "mechanisms", faults.Count},
		{"C_FindObjects", "find", faults.Count},
		{"C_Encrypt", "encrypt", faults.Length}, {"C_WrapKey", "wrap", faults.Length},
	} {
		for _, lie := range []uint64{0, 1, 500, huge, math.MaxUint64} {
			m.Lie(f.function, f.field, lie)
			if f.call != "find" {
				r.call(f.call+" -1", fmt.Sprintf("0x0 %d 0", lie))
			}
			r.call(f.call+" 200", fmt.Sprintf("0x0 %d", lie))
		}
		m.Lie(f.function, f.field, 3, faults.Times(1))
		m.Honest()
		if got := r.call(f.call+" 200", "0x0"); strings.Fields(got)[1] == "3" {
			t.Errorf("%s lies on: %s", f.function, got)
		}
	}

	m.Lie("C_GetMechanismList", faults.Count, 2, faults.WhenAsked())
	r.call("mechanisms -1", "0x0 2 0")
	r.call("mechanisms 2", "0x150") // honest: CKR_BUFFER_TOO_SMALL
	m.Honest()
	m.LieBytes("C_GetMechanismList", faults.Value, bytes.Repeat([]byte{1, 0, 0, 0, 0, 0, 0, 0}, 3))
	r.call("mechanisms -1", "0x0 3 0")
	r.call("mechanisms 3", "0x0 3 24")
	r.call("mechanisms 2", "0x150 3 0")
	m.Honest()

	m.Lie("C_GenerateRandom", faults.Length, 5)
	if got := changed(t, r.call("random 64", "0x0 64")); got > 5 { // a random byte may be as it was
		t.Errorf("%d bytes were filled", got)
	}
	m.Lie("C_GenerateRandom", faults.Length, 0)
	r.call("random 64", "0x0 64 0")
	m.Lie("C_GenerateRandom", faults.Length, huge)
	if got := changed(t, r.call("random 64", "0x0 64")); got < 50 {
		t.Errorf("%d bytes were filled", got)
	}
	m.Honest()

	// Attributes: CKA_KEY_TYPE is 0x100.
	r.call("attribute 8 0x100", "0x0 8 8")
	for _, lie := range []uint64{0, 9, huge, math.MaxUint64} {
		m.Lie("C_GetAttributeValue", faults.Length, lie, faults.Of(pkcs11.CKA_KEY_TYPE))
		r.call("attribute -1 0x100", fmt.Sprintf("0x0 %d 0", lie))
		r.call("attribute 8 0x100", fmt.Sprintf("0x0 %d 8", lie))
		r.call("attribute 7 0x100", fmt.Sprintf("0x150 %d 0", lie))
		r.call("attribute 8 0x161", "0x0 8 8") // CKA_VALUE_LEN, of which there is no lie
	}
	m.Honest()
	m.LieBytes("C_GetAttributeValue", faults.Value, bytes.Repeat([]byte{7}, 300), faults.Of(pkcs11.CKA_KEY_TYPE))
	r.call("attribute -1 0x100", "0x0 300 0")
	r.call("attribute 300 0x100", "0x0 300 300")
	r.call("attribute 299 0x100", fmt.Sprintf("0x150 %d 0", uint64(math.MaxUint64)))
	m.LieBytes("C_GetAttributeValue", faults.Value, nil, faults.Of(pkcs11.CKA_KEY_TYPE))
	r.call("attribute 8 0x100", "0x0 0 0")
	m.Honest()
	m.Lie("C_GetAttributeValue", faults.Absent, 0, faults.Of(pkcs11.CKA_KEY_TYPE))
	r.call("attribute 8 0x100", fmt.Sprintf("0x12 %d 0", uint64(math.MaxUint64)))
	m.Honest()
	m.Lie("C_GetAttributeValue", faults.Sensitive, 0)
	r.call("attribute 8 0x161", fmt.Sprintf("0x11 %d 0", uint64(math.MaxUint64)))
	m.Honest()

	// Bytes of an output that do not fit are not written; and a recording reads no further than the
	// memory goes.
	if err := m.Record(); err != nil {
		t.Fatal(err)
	}
	m.LieBytes("C_Encrypt", faults.Value, bytes.Repeat([]byte{1}, 4000))
	r.call("encrypt 4000", "0x0 4000 4000")
	r.call("encrypt 100", "0x150 4000")
	m.Lie("C_Encrypt", faults.Length, huge)
	m.Lie("C_FindObjects", faults.Count, huge)
	m.Lie("C_GetAttributeValue", faults.Length, huge)
	r.call("encrypt 4000", fmt.Sprintf("0x0 %d 4000", uint64(huge)))
	r.call("find 9", fmt.Sprintf("0x0 %d", uint64(huge)))
	r.call("attribute 8 0x100", fmt.Sprintf("0x0 %d 8", uint64(huge)))
	m.StopRecording()
	if calls, err := m.Recorded(); err != nil || len(calls) < 6 {
		t.Errorf("%d calls, %v", len(calls), err)
	}
	// The answer of a call that is lost is wiped as far as it is there.
	m.Fail("C_GetAttributeValue", pkcs11.CKR_DEVICE_ERROR, faults.AfterCall())
	r.call("attribute 8 0x100", "0x30 8 8")
}

// TestLiesInStructures lies about every field of every structure.
func TestLiesInStructures(t *testing.T) {
	c, m := call(t)
	token := func() pkcs11.TokenInfo {
		t.Helper()
		info, err := c.GetTokenInfo(c.slot)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	honest := token()
	numbers := map[faults.Field]func(pkcs11.TokenInfo) uint{
		faults.Flags:         func(i pkcs11.TokenInfo) uint { return i.Flags },
		faults.MaxSessions:   func(i pkcs11.TokenInfo) uint { return i.MaxSessionCount },
		faults.Sessions:      func(i pkcs11.TokenInfo) uint { return i.SessionCount },
		faults.MaxRWSessions: func(i pkcs11.TokenInfo) uint { return i.MaxRwSessionCount },
		faults.RWSessions:    func(i pkcs11.TokenInfo) uint { return i.RwSessionCount },
		faults.MaxPIN:        func(i pkcs11.TokenInfo) uint { return i.MaxPinLen },
		faults.MinPIN:        func(i pkcs11.TokenInfo) uint { return i.MinPinLen },
		faults.TotalPublic:   func(i pkcs11.TokenInfo) uint { return i.TotalPublicMemory },
		faults.FreePublic:    func(i pkcs11.TokenInfo) uint { return i.FreePublicMemory },
		faults.TotalPrivate:  func(i pkcs11.TokenInfo) uint { return i.TotalPrivateMemory },
		faults.FreePrivate:   func(i pkcs11.TokenInfo) uint { return i.FreePrivateMemory },
	}
	for field, get := range numbers {
		m.Lie("C_GetTokenInfo", field, math.MaxUint64-1)
		for other, of := range numbers {
			if lied := of(token()) == math.MaxUint64-1; lied != (other == field) {
				t.Errorf("a lie about %v: %v is %d", field, other, of(token()))
			}
		}
		if get(token()) == get(honest) {
			t.Errorf("%v is not told", field)
		}
		m.Honest()
	}
	texts := map[faults.Field]func(pkcs11.TokenInfo) string{
		faults.Label:        func(i pkcs11.TokenInfo) string { return i.Label },
		faults.Manufacturer: func(i pkcs11.TokenInfo) string { return i.ManufacturerID },
		faults.Model:        func(i pkcs11.TokenInfo) string { return i.Model },
		faults.Serial:       func(i pkcs11.TokenInfo) string { return i.SerialNumber },
		faults.Clock:        func(i pkcs11.TokenInfo) string { return i.UTCTime },
	}
	for field, get := range texts {
		for _, text := range []string{"", "x", "not \xff\xfe\x00 UTF-8"} {
			m.LieText("C_GetTokenInfo", field, text)
			if got := get(token()); strings.TrimRight(got, " ") != text {
				t.Errorf("%v: %q, not %q", field, got, text)
			}
		}
		m.LieBytes("C_GetTokenInfo", field, bytes.Repeat([]byte{'#'}, 100))
		if got := get(token()); strings.Trim(got, "#") != "" || len(got) < 16 || len(got) > 32 {
			t.Errorf("%v: %q", field, got)
		}
		m.Honest()
	}
	if got := token(); got != honest {
		t.Errorf("%+v, not %+v", got, honest)
	}
	m.LieBytes("C_GetTokenInfo", faults.FirmwareVersion, []byte{77, 88})
	if v := token().FirmwareVersion; v.Major != 77 || v.Minor != 88 ||
		token().HardwareVersion != honest.HardwareVersion {
		t.Errorf("%+v", v)
	}

	for field, get := range map[faults.Field]func(pkcs11.SessionInfo) uint{
		faults.State:       func(i pkcs11.SessionInfo) uint { return i.State },
		faults.Flags:       func(i pkcs11.SessionInfo) uint { return i.Flags },
		faults.Slot:        func(i pkcs11.SessionInfo) uint { return i.SlotID },
		faults.DeviceError: func(i pkcs11.SessionInfo) uint { return i.DeviceError },
	} {
		m.Lie("C_GetSessionInfo", field, 0x123456789a, faults.Times(1))
		for _, lied := range []bool{true, false} {
			if info, err := c.GetSessionInfo(c.session); err != nil || (get(info) == 0x123456789a) != lied {
				t.Errorf("%v: %+v, %v", field, info, err)
			}
		}
	}
	m.Lie("C_GetMechanismInfo", faults.MaxKey, 1<<40, faults.Of(pkcs11.CKM_AES_GCM))
	m.Lie("C_GetMechanismInfo", faults.Flags, 0, faults.Of(pkcs11.CKM_AES_GCM))
	for mechanism, lied := range map[uint]bool{pkcs11.CKM_AES_GCM: true, pkcs11.CKM_AES_CBC: false} {
		info, err := c.GetMechanismInfo(c.slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)})
		if err != nil || (info.MaxKeySize == 1<<40) != lied || (info.Flags == 0) != lied {
			t.Errorf("%#x: %+v, %v", mechanism, info, err)
		}
	}
	m.LieText("C_GetInfo", faults.Description, "libevil")
	m.LieBytes("C_GetInfo", faults.CryptokiVersion, []byte{9, 9})
	if info, err := c.GetInfo(); err != nil || strings.TrimSpace(info.LibraryDescription) != "libevil" ||
		info.CryptokiVersion.Major != 9 {
		t.Errorf("%+v, %v", info, err)
	}
	m.LieText("C_GetSlotInfo", faults.Description, "slot of the devil")
	if info, err := c.GetSlotInfo(c.slot); err != nil ||
		strings.TrimSpace(info.SlotDescription) != "slot of the devil" {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestLiesAboutHandles: nothing stays open behind a handle that nobody got.
func TestLiesAboutHandles(t *testing.T) {
	c, m := call(t)
	before := m.Usage()
	for _, lie := range []uint64{0, math.MaxUint64} {
		m.Lie("C_OpenSession", faults.Handle, lie, faults.Times(1))
		m.Lie("C_GenerateKey", faults.Handle, lie, faults.Times(1))
		if s := c.open(); uint64(s) != lie {
			t.Errorf("session %#x", uint(s))
		}
		if h := c.key(true, "disowned"); uint64(h) != lie {
			t.Errorf("object %#x", uint(h))
		}
	}
	if after := m.Usage(); after.Sessions != before.Sessions || after.Objects != before.Objects {
		t.Errorf("%+v, not %+v", after, before)
	}
	if n := c.count("disowned"); n != 0 {
		t.Errorf("%d objects are left", n)
	}
	c.key(false, "real")
	c.key(false, "real")
	m.Lie("C_FindObjects", faults.Handle, math.MaxUint64, faults.Times(1))
	c.is(c.FindObjectsInit(c.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "real")}),
		pkcs11.CKR_OK)
	found, _, err := c.FindObjects(c.session, 10)
	c.is(err, pkcs11.CKR_OK)
	c.is(c.FindObjectsFinal(c.session), pkcs11.CKR_OK)
	if len(found) != 2 || !slices.Contains(found, math.MaxUint) || found[0] == found[1] {
		t.Errorf("%#x", found)
	}
}

func TestLiesThatThereAreNot(t *testing.T) {
	_, m := call(t)
	for name, lie := range map[string]func(){
		"no such field": func() { m.Lie("C_GetTokenInfo", faults.Count, 1) },
		"no function":   func() { m.Lie("C_Nothing", faults.Count, 1) },
		"no field":      func() { m.Lie("C_GetTokenInfo", 0, 1) },
		"too many": func() {
			for i := range uint(65) {
				m.HideAttributes(i)
			}
		},
		"too long": func() { m.LieBytes("C_Encrypt", faults.Value, make([]byte, 1<<16+1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			lie()
		}()
		m.Honest()
	}
}
