package faults

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

// Field is what a module can lie about.
type Field uint64

// What a module can lie about, and in which functions.
const (
	_     Field = iota
	Count       // the number of results: C_GetSlotList, C_GetMechanismList, C_FindObjects
	// of an output: C_Encrypt and all others that have one; of an attribute: C_GetAttributeValue;
	// C_GenerateRandom
	Length
	Handle    // C_OpenSession, all that create objects, C_FindObjects (each)
	Value     // bytes, of outputs and attributes; numbers of 8 bytes each, of C_GetSlotList and C_GetMechanismList
	Absent    // CKR_ATTRIBUTE_TYPE_INVALID: C_GetAttributeValue
	Sensitive // CKR_ATTRIBUTE_SENSITIVE: C_GetAttributeValue

	Flags       // C_GetInfo, C_GetSlotInfo, C_GetTokenInfo, C_GetSessionInfo, C_GetMechanismInfo
	State       // C_GetSessionInfo
	Slot        // C_GetSessionInfo
	DeviceError // C_GetSessionInfo

	MaxSessions   // ulMaxSessionCount of C_GetTokenInfo, and so on
	Sessions      // ulSessionCount
	MaxRWSessions // ulMaxRwSessionCount
	RWSessions    // ulRwSessionCount
	MaxPIN        // ulMaxPinLen
	MinPIN        // ulMinPinLen
	TotalPublic   // ulTotalPublicMemory
	FreePublic    // ulFreePublicMemory
	TotalPrivate  // ulTotalPrivateMemory
	FreePrivate   // ulFreePrivateMemory

	Label        // text: C_GetTokenInfo
	Manufacturer // text: C_GetInfo, C_GetSlotInfo, C_GetTokenInfo
	Model        // text: C_GetTokenInfo
	Serial       // text: C_GetTokenInfo
	Description  // text: C_GetInfo, C_GetSlotInfo
	Clock        // text: utcTime of C_GetTokenInfo

	CryptokiVersion // 2 bytes: C_GetInfo
	HardwareVersion // 2 bytes: C_GetSlotInfo, C_GetTokenInfo
	FirmwareVersion // 2 bytes: C_GetSlotInfo, C_GetTokenInfo; of the library: C_GetInfo

	MinKey // ulMinKeySize: C_GetMechanismInfo
	MaxKey // ulMaxKeySize: C_GetMechanismInfo
)

//go:embed module/lies.h
var liesHeader string

// fields has the names of the fields in the module's order, without underscores.
var fields = func() (names []string) {
	list, _, _ := strings.Cut(liesHeader, "#define MEMBERS")
	for _, match := range regexp.MustCompile(`\bF\(([A-Z_]+)\)`).FindAllStringSubmatch(list, -1) {
		names = append(names, strings.ReplaceAll(match[1], "_", ""))
	}
	return names
}()

// String returns the name in capitals.
func (f Field) String() string {
	if f == 0 || int(f) > len(fields) {
		return fmt.Sprintf("Field(%d)", uint64(f))
	}
	return fields[f-1]
}

// lying has the fields that each function can lie about.
var lying = func() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for _, match := range regexp.MustCompile(`F\((C_\w+), \d, "([^"]+)"`).FindAllStringSubmatch(functionsHeader, -1) {
		all[match[1]] = map[string]bool{}
		for letter, of := range map[string][]Field{"D": {Length, Value}, "N": {Count, Value}, "S": {Handle},
			"O": {Handle},
			"F": {Handle, Count}, "v": {Length, Value, Absent, Sensitive}, "R": {Length}} {
			for _, field := range of {
				all[match[1]][field.String()] = all[match[1]][field.String()] || strings.Contains(match[2], letter)
			}
		}
	}
	for _, match := range regexp.MustCompile(`M\((C_\w+), ([A-Z_]+),`).FindAllStringSubmatch(liesHeader, -1) {
		all[match[1]][strings.ReplaceAll(match[2], "_", "")] = true
	}
	return all
}()

// WhenAsked restricts a lie to calls that ask only for a length or a count, with NULL as the
// buffer. A lie without it and WhenFilled applies to all calls.
func WhenAsked() Option { return func(w *selection) { w.when = 1 } }

// WhenFilled restricts a lie to calls that give a buffer.
func WhenFilled() Option { return func(w *selection) { w.when = 2 } }

// Lie makes a function that succeeds report value instead of the true one, until Honest. A new lie
// about the same field replaces the old one; Times, Skip, Chance and Of have the same meaning as
// for Fail. It panics for a function that cannot lie about the field, and at the 65th lie.
//
//	m.Lie("C_GetTokenInfo", faults.MaxRWSessions, math.MaxUint64-1)
//	m.Lie("C_GetAttributeValue", faults.Length, 1<<63, faults.Of(pkcs11.CKA_EC_POINT))
//	m.Lie("C_GetAttributeValue", faults.Absent, 0, faults.Of(pkcs11.CKA_KEY_GEN_MECHANISM))
//	m.Lie("C_Encrypt", faults.Length, 1<<40, faults.WhenFilled())
//
// The module never writes beyond its caller's memory. A false Length or Count does not change the
// output; of C_GenerateRandom, which reports none, it is the largest number of bytes to fill. A
// session or object whose Handle is a lie is closed or destroyed inside, since nobody else could.
// The module also lies about lengths and counts when the buffer is too small
// (CKR_BUFFER_TOO_SMALL). While there are lies, a recording (see Record) has no values of
// attributes.
func (m *Module) Lie(function string, what Field, value uint64, options ...Option) {
	m.lie(function, what, value, nil, options)
}

// LieBytes is Lie for texts, versions and a Value. If there are fewer bytes than in a text, only
// the first ones are replaced. The length of a Value is reported correctly, unless there is a lie
// about it too, and CKR_BUFFER_TOO_SMALL where it does not fit. No bytes are the empty Value. All
// lies together can have 64 KiB.
func (m *Module) LieBytes(function string, what Field, value []byte, options ...Option) {
	m.lie(function, what, 0, value, options)
}

// LieText is LieBytes with blanks at the end, as PKCS#11 pads texts.
func (m *Module) LieText(function string, what Field, text string, options ...Option) {
	m.lie(function, what, 0, fmt.Appendf(nil, "%-64s", text), options)
}

func (m *Module) lie(function string, field Field, value uint64, bytes []byte, options []Option) {
	if !lying[function][field.String()] {
		panic(fmt.Sprintf("faults: %s can't lie about %v", function, field))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, w := m.control, decide(options)
	count, used := c.liesCount.Load(), uint64(0)
	place := count
	for i := range count {
		l := &c.lies[i]
		if l.function.Load() == uint64(at[function]) && l.field.Load() == uint64(field) && l.rule.of.Load() == w.of &&
			l.when.Load() == w.when {
			place = i
		}
		used = max(used, l.offset.Load()+l.length.Load())
	}
	if place == mostLies || used+uint64(len(bytes)) > mostLieBytes {
		panic(fmt.Sprintf("faults: at most %d lies, with %d bytes: begin anew with Honest", mostLies, mostLieBytes))
	}
	l := &c.lies[place]
	l.rule.left.Store(0)
	copy(c.lieBytes[used:], bytes)
	l.function.Store(uint64(at[function]))
	l.field.Store(uint64(field))
	l.when.Store(w.when)
	l.value.Store(value)
	l.offset.Store(used)
	l.length.Store(uint64(len(bytes)))
	l.rule.set(0, options)
	c.liesCount.Store(max(count, place+1))
}

// Honest removes all lies.
func (m *Module) Honest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.control.liesCount.Store(0)
}
