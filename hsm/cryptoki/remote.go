package cryptoki

import "github.com/miekg/pkcs11"

// call is the number of a call in a frame.
type call byte

const (
	callLoad call = iota + 1
	callSlots
	callTokenInfo
	callMechanisms
	callMechanismFlags
	callOpenSession
	callCloseSession
	callSessionState
	callLogin
	callRandom
	callFindInit
	callFindNext
	callFindFinal
	callDestroyObject
	callValue
	callAttributes
	callCreateObject
	callSetAttributes
	callCopyObject
	callGenerateKey
	callGenerateKeyPair
	callWrapKey
	callUnwrapKey
	callDeriveECDH
	callDecapsulate
	callGCM
	callOperate
	callVerify
	callInfo
	lastCall
)

// maxOutput is the most that a caller may ask for in one answer, in bytes.
const maxOutput = maxFrame - 64

// room reads a number of bytes that a caller wants.
func (d *decoder) room() int {
	n := d.word()
	if n > maxOutput {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) session() Session { return Session(d.word()) }
func (d *decoder) object() Object   { return Object(d.word()) }
func (d *decoder) operation() Operation {
	o := Operation(d.byte())
	if o > Sign {
		d.bad, o = true, Sign
	}
	return o
}

func (e *encoder) objectOr(o Object, err error) {
	e.err(err)
	e.word(uint(o))
}

func (e *encoder) bytesOr(b []byte, err error) {
	e.err(err)
	e.bytes(b)
	clear(b)
}

// calls has, for each call, how Host makes it: arguments from d, results into e. Whoever sends the
// arguments is the parent, which is trusted; what is not trusted is the answer.
var calls = [lastCall]func(m Module, d *decoder, e *encoder){
	callInfo: func(m Module, _ *decoder, e *encoder) {
		info, err := m.Info()
		e.err(err)
		e.info(info)
	},
	callSlots: func(m Module, d *decoder, e *encoder) {
		slots, err := m.Slots()
		e.err(err)
		e.words(slots)
	},
	callTokenInfo: func(m Module, d *decoder, e *encoder) {
		info, err := m.TokenInfo(d.word())
		e.err(err)
		e.tokenInfo(info)
	},
	callMechanisms: func(m Module, d *decoder, e *encoder) {
		mechanisms, err := m.Mechanisms(d.word())
		e.err(err)
		e.words(mechanisms)
	},
	callMechanismFlags: func(m Module, d *decoder, e *encoder) {
		flags, err := m.MechanismFlags(d.word(), d.word())
		e.err(err)
		e.word(flags)
	},
	callOpenSession: func(m Module, d *decoder, e *encoder) {
		s, err := m.OpenSession(d.word())
		e.err(err)
		e.word(uint(s))
	},
	callCloseSession: func(m Module, d *decoder, e *encoder) { e.err(m.CloseSession(d.session())) },
	callSessionState: func(m Module, d *decoder, e *encoder) {
		state, err := m.SessionState(d.session())
		e.err(err)
		e.word(state)
	},
	callLogin: func(m Module, d *decoder, e *encoder) { e.err(m.Login(d.session(), d.text())) },
	callRandom: func(m Module, d *decoder, e *encoder) {
		e.bytesOr(m.Random(d.session(), d.room()))
	},
	callFindInit: func(m Module, d *decoder, e *encoder) { e.err(m.FindInit(d.session(), d.template())) },
	callFindNext: func(m Module, d *decoder, e *encoder) {
		objects, err := m.FindNext(d.session())
		e.err(err)
		e.words(words(objects))
	},
	callFindFinal:     func(m Module, d *decoder, e *encoder) { e.err(m.FindFinal(d.session())) },
	callDestroyObject: func(m Module, d *decoder, e *encoder) { e.err(m.DestroyObject(d.session(), d.object())) },
	callValue: func(m Module, d *decoder, e *encoder) {
		e.bytesOr(m.Value(d.session(), d.object(), d.room()))
	},
	callAttributes: func(m Module, d *decoder, e *encoder) {
		values, err := m.Attributes(d.session(), d.object(), d.words()...)
		e.err(err)
		e.count(len(values))
		for _, v := range values {
			e.bytes(v)
		}
	},
	callCreateObject: func(m Module, d *decoder, e *encoder) {
		s, template := d.session(), d.template()
		e.objectOr(m.CreateObject(s, template))
		for _, a := range template {
			clear(a.Value)
		}
	},
	callSetAttributes: func(m Module, d *decoder, e *encoder) {
		e.err(m.SetAttributes(d.session(), d.object(), d.template()))
	},
	callCopyObject: func(m Module, d *decoder, e *encoder) {
		e.objectOr(m.CopyObject(d.session(), d.object(), d.template()))
	},
	callGenerateKey: func(m Module, d *decoder, e *encoder) {
		e.objectOr(m.GenerateKey(d.session(), d.word(), d.template()))
	},
	callGenerateKeyPair: func(m Module, d *decoder, e *encoder) {
		public, private, err := m.GenerateKeyPair(d.session(), d.word(), d.template(), d.template())
		e.err(err)
		e.word(uint(public))
		e.word(uint(private))
	},
	callWrapKey: func(m Module, d *decoder, e *encoder) {
		e.bytesOr(m.WrapKey(d.session(), d.word(), d.bytes(), d.object(), d.object(), d.room()))
	},
	callUnwrapKey: func(m Module, d *decoder, e *encoder) {
		e.objectOr(m.UnwrapKey(d.session(), d.word(), d.bytes(), d.object(), d.bytes(), d.template()))
	},
	callDeriveECDH: func(m Module, d *decoder, e *encoder) {
		e.objectOr(m.DeriveECDH(d.session(), d.object(), d.word(), d.bytes(), d.template()))
	},
	callDecapsulate: func(m Module, d *decoder, e *encoder) {
		e.objectOr(m.Decapsulate(d.session(), d.word(), d.object(), d.bytes(), d.template()))
	},
	callGCM: func(m Module, d *decoder, e *encoder) {
		s, o, key, iv, aad, in, n := d.session(), d.operation(), d.object(), d.bytes(), d.bytes(), d.bytes(), d.room()
		if iv != nil && len(iv) != 12 {
			d.bad = true
			return
		}
		out, started, err := m.GCM(s, o, key, iv, aad, in, make([]byte, n))
		clear(in)
		e.operated(out, started, err)
		e.bytes(iv)
	},
	callOperate: func(m Module, d *decoder, e *encoder) {
		out, started, err := m.Operate(d.session(), d.operation(), d.word(), d.bytes(), d.object(), d.bytes(), d.room())
		e.operated(out, started, err)
	},
	callVerify: func(m Module, d *decoder, e *encoder) {
		e.err(m.Verify(d.session(), d.word(), d.object(), d.bytes(), d.bytes()))
	},
}

func (e *encoder) operated(out []byte, started bool, err error) {
	e.bytesOr(out, err)
	if started {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

func (e *encoder) words(words []uint) {
	e.count(len(words))
	for _, w := range words {
		e.word(w)
	}
}

func (d *decoder) words() []uint {
	words := make([]uint, d.count(8))
	for i := range words {
		words[i] = d.word()
	}
	return words
}

// words gives handles as words.
func words(objects []Object) []uint {
	all := make([]uint, len(objects))
	for i, o := range objects {
		all[i] = uint(o)
	}
	return all
}

func (e *encoder) info(i pkcs11.Info) {
	e.text(i.ManufacturerID)
	e.text(i.LibraryDescription)
	for _, v := range []pkcs11.Version{i.CryptokiVersion, i.LibraryVersion} {
		e.byte(v.Major)
		e.byte(v.Minor)
	}
}

func (d *decoder) info() (i pkcs11.Info) {
	i.ManufacturerID, i.LibraryDescription = printable(d.text()), printable(d.text())
	for _, v := range []*pkcs11.Version{&i.CryptokiVersion, &i.LibraryVersion} {
		v.Major, v.Minor = d.byte(), d.byte()
	}
	return i
}

// tokenNumbers are the numbers of a TokenInfo, in the order of a frame.
func tokenNumbers(i *pkcs11.TokenInfo) []*uint {
	return []*uint{&i.Flags, &i.MaxSessionCount, &i.SessionCount, &i.MaxRwSessionCount, &i.RwSessionCount, &i.MaxPinLen,
		&i.MinPinLen, &i.TotalPublicMemory, &i.FreePublicMemory, &i.TotalPrivateMemory, &i.FreePrivateMemory}
}

func tokenTexts(i *pkcs11.TokenInfo) []*string {
	return []*string{&i.Label, &i.ManufacturerID, &i.Model, &i.SerialNumber}
}

func tokenVersions(i *pkcs11.TokenInfo) []*byte {
	return []*byte{
		&i.HardwareVersion.Major, &i.HardwareVersion.Minor, &i.FirmwareVersion.Major,
		&i.FirmwareVersion.Minor,
	}
}

func (e *encoder) tokenInfo(i pkcs11.TokenInfo) {
	for _, n := range tokenNumbers(&i) {
		e.word(*n)
	}
	for _, t := range tokenTexts(&i) {
		e.text(*t)
	}
	for _, v := range tokenVersions(&i) {
		e.byte(*v)
	}
}

func (d *decoder) tokenInfo() (i pkcs11.TokenInfo) {
	for _, n := range tokenNumbers(&i) {
		*n = d.word()
	}
	for _, t := range tokenTexts(&i) {
		*t = printable(d.text())
	}
	for _, v := range tokenVersions(&i) {
		*v = d.byte()
	}
	return i
}
