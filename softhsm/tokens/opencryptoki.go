package tokens

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// opencryptokiRoom makes the mounts that pkcsslotd sees. The paths are compiled in, so a mount
// namespace hides the system's own folders behind empty ones: those of tokens and locks, /run with
// its socket and its process ID, and /dev/shm with the counters that all users of a token share. $1
// is the test's folder.
const opencryptokiRoom = `set -e
for place in /run /dev/shm; do
	mount -t tmpfs none "$place"
done
mkdir -p /run/lock
for place in /var/lib/opencryptoki /var/lock/opencryptoki /var/log/opencryptoki; do
	mkdir -p "$place"
	mount -t tmpfs none "$place"
	mkdir -p "$place/swtok/TOK_OBJ"
	chown -R root:pkcs11 "$place"
	chmod -R 770 "$place"
done
mount --bind "$1/etc" /etc/opencryptoki
exec /usr/sbin/pkcsslotd -f
`

// Opencryptoki is the soft token of opencryptoki. pkcsslotd and the processes that use the token
// run in a mount namespace and an IPC namespace of their own, which only root can make.
func Opencryptoki(t testing.TB) *Token {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("opencryptoki's token needs namespaces, which only root can make: run the tests as root")
	}
	dir := folder(t)
	write(t, filepath.Join(dir, "etc", "opencryptoki.conf"),
		"version opencryptoki-3.8\n\nslot 0\n{\nstdll = libpkcs11_sw.so\ntokname = swtok\n}\n")
	token := &Token{Name: "opencryptoki", Module: library(t, "pkcs11/libopencryptoki.so"), Label: "opencryptoki",
		PIN: "user" + randomHex(2)}
	d := newDaemon(nil, "unshare", "--mount", "--ipc", "sh", "-c", opencryptokiRoom, "sh", dir)
	d.start(t)
	token.enter = []string{"nsenter", "--target", strconv.Itoa(d.cmd.Process.Pid), "--mount", "--ipc"}
	d.await(t, func() error { return runIn(token, "pkcsconf", "-t") })
	const first, so = "87654321", "officer1"
	for _, args := range [][]string{
		{"sh", "-c", "echo " + token.Label + " | pkcsconf -c 0 -I -S " + first},
		{"pkcsconf", "-c", "0", "-P", "-S", first, "-n", so},
		{"pkcsconf", "-c", "0", "-u", "-S", so, "-n", token.PIN},
	} {
		if err := runIn(token, args[0], args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	return token
}

// runIn runs a tool in the token's namespaces.
func runIn(token *Token, name string, args ...string) error {
	cmd := token.Command(context.Background(), name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
