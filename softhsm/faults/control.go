package faults

import (
	_ "embed"
	"fmt"
	"os"
	"regexp"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	controlSuffix = ".control"
	functionCount = 69 // 68 of PKCS#11 v2.40, C_DecapsulateKey of v3.2
	mostNumbers   = 32
	mostMapped    = 16
	mostLies      = 64
	mostLieBytes  = 1 << 16
)

// control is the control file: struct control of module/module.h.
type control struct {
	size  uint64
	inner [1024]byte

	sessions, objects         gauge
	sessionsMost, objectsMost atomic.Uint64

	unplugged                   atomic.Uint64
	logins                      atomic.Uint64
	slotOffset, reuseHandles    atomic.Uint64
	sessionsLimit, objectsLimit atomic.Int64
	sessionsTold                atomic.Int64
	objectsRV                   atomic.Uint64
	ownIVs                      atomic.Uint64
	pqPort                      atomic.Uint64
	refused                     numbers

	privateInstances          atomic.Uint64
	wedges, wedgeRV, healOnly atomic.Uint64
	flagsSet, flagsCleared    atomic.Uint64
	pinsMost, pinsWrong       atomic.Int64
	mappedCount               atomic.Uint64
	mapped                    [mostMapped]struct{ number, inner atomic.Uint64 }

	weakCopies, forceExtractable                atomic.Uint64
	wrapsAll, secretSizes, wrapSizes            numbers
	privateOnly, tokenOnly, strictSessions, kdf atomic.Uint64
	initArgument                                [256]byte

	liesCount atomic.Uint64
	lies      [mostLies]lie
	lieBytes  [mostLieBytes]byte

	replay            atomic.Uint64
	released, hanging atomic.Uint64
	random            atomic.Uint64
	recording         atomic.Uint64

	functions [functionCount]function
}

type function struct {
	calls   atomic.Uint64
	latency atomic.Uint64 // ns
	rules   [6]rule       // failBefore to crashAfter
}

const (
	failBefore = iota
	failAfter
	hangBefore
	hangAfter
	crashBefore
	crashAfter
)

type rule struct {
	rv         atomic.Uint64
	skip, left atomic.Int64
	chance     atomic.Uint64
	of         atomic.Uint64
}

type lie struct {
	rule                  rule
	function, field, when atomic.Uint64
	value                 atomic.Uint64
	offset, length        atomic.Uint64
}

type numbers struct {
	count  atomic.Uint64
	values [mostNumbers]atomic.Uint64
}

func (n *numbers) set(what string, values []uint) {
	if len(values) > mostNumbers {
		panic(fmt.Sprintf("faults: at most %d %s", mostNumbers, what))
	}
	n.count.Store(0)
	for i, value := range values {
		n.values[i].Store(uint64(value))
	}
	n.count.Store(uint64(len(values)))
}

// gauge has the token's generation in the upper half and a number in the lower half.
type gauge struct{ atomic.Uint64 }

func (g *gauge) value() int         { return int(uint32(g.Load())) }
func (g *gauge) generation() uint64 { return g.Load() >> 32 }

// start starts counting from 0 in a generation. The module ignores what is counted for another one.
func (g *gauge) start(generation uint64) { g.Store(generation << 32) }

//go:embed module/functions.h
var functionsHeader string

// names has every function, in the module's order; at has their positions.
var names, at = func() (names []string, at map[string]int) {
	at = map[string]int{}
	for _, match := range regexp.MustCompile(`F\((C_\w+),`).FindAllStringSubmatch(functionsHeader, -1) {
		at[match[1]] = len(names)
		names = append(names, match[1])
	}
	return names, at
}()

// newControl returns a control file without any faults.
func newControl(inner string) []byte {
	b := make([]byte, unsafe.Sizeof(control{}))
	c := (*control)(unsafe.Pointer(unsafe.SliceData(b)))
	c.size = uint64(len(b))
	copy(c.inner[:len(c.inner)-1], inner)
	c.sessionsLimit.Store(-1)
	c.objectsLimit.Store(-1)
	c.sessionsTold.Store(-1)
	return b
}

// Open attaches to a module that was built before, possibly by another process.
func Open(path string) (*Module, error) {
	f, err := os.OpenFile(path+controlSuffix, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	size := int(unsafe.Sizeof(control{}))
	if info, err := f.Stat(); err != nil || info.Size() != int64(size) {
		return nil, fmt.Errorf("open module: %s is no control file of this version: build the module anew", f.Name())
	}
	mapping, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("open module: map its control file: %w", err)
	}
	return &Module{Path: path, control: (*control)(unsafe.Pointer(unsafe.SliceData(mapping))), mapping: mapping}, nil
}

// Close detaches from the module, which stays as it is.
func (m *Module) Close() error {
	m.control = nil
	return syscall.Munmap(m.mapping)
}

// function panics for an unknown name, which can only be a mistake in a test.
func (m *Module) function(name string) *function {
	i, ok := at[name]
	if !ok {
		panic(fmt.Sprintf("faults: PKCS#11 has no function %q", name))
	}
	return &m.control.functions[i]
}

// each returns the functions with these names, or all if there are no names.
func (m *Module) each(functions []string) []*function {
	if len(functions) == 0 {
		functions = names
	}
	var all []*function
	for _, name := range functions {
		all = append(all, m.function(name))
	}
	return all
}
