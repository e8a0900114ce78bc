package console_test

import (
	"slices"
	"testing"

	"github.com/verenc/kms/transport"
)

// TestEveryExample sends the example of every operation to a fresh server, and makes the keys that
// the page offers to make: it works, unless the server lacks what no page can make.
func TestEveryExample(t *testing.T) {
	refused := map[string]string{
		"ConnectCustomKeyStore":    "CustomKeyStoreNotFoundException", // the configuration names no further token
		"CreateCustomKeyStore":     "CloudHsmClusterNotFoundException",
		"DeleteCustomKeyStore":     "CustomKeyStoreNotFoundException",
		"DisconnectCustomKeyStore": "CustomKeyStoreNotFoundException",
		"UpdateCustomKeyStore":     "CustomKeyStoreNotFoundException",
		"Decapsulate":              "NotFoundException", // SoftHSM2 2.6 has no ML-KEM
		"Encapsulate":              "NotFoundException",
		"Decrypt":                  "DryRunOperationException",      // nothing was encrypted yet
		"ImportKeyMaterial":        "InvalidCiphertextException",    // the example can't wrap for this server
		"ReplicateKey":             "UnsupportedOperationException", // there is one region
		"UpdatePrimaryRegion":      "NotFoundException",
		"RevokeGrant":              "NotFoundException", // it was retired before
		"ApproveRequest":           "NotFoundException", // nobody has asked
		"GetApprovalRequest":       "NotFoundException",
		"RejectRequest":            "NotFoundException",
	}
	var names []string
	for _, op := range transport.Reference().Operations {
		names = append(names, op.Name)
	}
	last := []string{"DeleteAlias", "DisableKey", "EnableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"}
	for _, name := range last {
		at := slices.Index(names, name)
		names = append(slices.Delete(names, at, at+1), name)
	}
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/docs")
	b.signIn(s.Root)
	for _, name := range names {
		b.click("#page-list a[href='/docs/" + name + "']")
		b.wait("document.querySelector('h1').textContent === '" + name + "'")
		must(t, s.AuditLog.Checkpoint(t.Context())) // for GetAuditProof
		status := b.send()
		if b.text("#answer .note button") != "" {
			b.click("#answer .note button")
			b.wait("document.querySelector('#answer .note button') === null")
			status = b.text("#answer .status")
		}
		want := "Status 200"
		if refused[name] != "" {
			want = "Status 400 " + refused[name]
		}
		if status != want {
			t.Errorf("%s: %s, want %s: %s", name, status, want, b.text("#answer"))
		}
	}
}
