package faults

import (
	"strings"
	"testing"
	"unsafe"
)

func TestCompileSaysWhatIsMissing(t *testing.T) {
	t.Setenv("CC", "/nonexistent/gcc")
	if _, err := compile(); err == nil || !strings.Contains(err.Error(), "install gcc") {
		t.Errorf("%v", err)
	}
	t.Setenv("PATH", "")
	if _, err := compile(); err == nil || !strings.Contains(err.Error(), "source tree") {
		t.Errorf("%v", err)
	}
}

func TestNames(t *testing.T) {
	if len(names) != functionCount || names[0] != "C_Initialize" || names[functionCount-2] != "C_WaitForSlotEvent" ||
		names[functionCount-1] != "C_DecapsulateKey" {
		t.Errorf("%d functions: %v", len(names), names)
	}
	if n := unsafe.Sizeof(control{}); n%8 != 0 {
		t.Errorf("control has %d bytes", n)
	}
}

// TestFields compares the numbers of the fields with those of the module.
func TestFields(t *testing.T) {
	for field, name := range map[Field]string{Count: "COUNT", Sensitive: "SENSITIVE", Flags: "FLAGS",
		DeviceError: "DEVICEERROR", FreePrivate: "FREEPRIVATE",
		Label: "LABEL", Clock: "CLOCK", CryptokiVersion: "CRYPTOKIVERSION", FirmwareVersion: "FIRMWAREVERSION",
		MinKey: "MINKEY", MaxKey: "MAXKEY"} {
		if field.String() != name {
			t.Errorf("%v is not %s", field, name)
		}
	}
	if len(fields) != int(MaxKey) {
		t.Errorf("%d fields: %v", len(fields), fields)
	}
}
