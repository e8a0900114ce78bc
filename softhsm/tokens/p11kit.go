package tokens

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// proxyRoom hides the system's configuration of p11-kit in a mount namespace. $1 is the folder of
// the modules to use; the file $2 is created when all is done.
const proxyRoom = `set -e
mount --bind "$1" /usr/share/p11-kit/modules
if [ -d /etc/pkcs11 ]; then mount -t tmpfs none /etc/pkcs11; fi
: >"$2"
exec sleep infinity
`

// Proxy is p11-kit-proxy over SoftHSM2: one module that offers the tokens of all modules that
// p11-kit is configured with.
func Proxy(t testing.TB) *Token {
	t.Helper()
	soft := SoftHSM(t)
	// "only" excludes the modules of the system's own configuration.
	dir := folder(t)
	config, ready := filepath.Join(dir, "pkcs11"), filepath.Join(dir, "ready")
	modules := filepath.Join(config, "modules")
	write(t, filepath.Join(config, "pkcs11.conf"), "user-config: only\n")
	write(t, filepath.Join(modules, "softhsm.module"), "module: "+soft.Module+"\n")
	soft.Name, soft.Module = "p11-kit-proxy", library(t, "p11-kit-proxy.so")
	if os.Getuid() != 0 {
		soft.Env = append(soft.Env, "XDG_CONFIG_HOME="+dir)
		return soft
	}
	// As root, p11-kit reads no user's configuration.
	d := start(t, exists(ready), nil, "unshare", "--mount", "sh", "-c", proxyRoom, "sh", modules, ready)
	soft.enter = []string{"nsenter", "--target", strconv.Itoa(d.cmd.Process.Pid), "--mount"}
	return soft
}

// Server is a "p11-kit server" over SoftHSM2, and its token as seen through p11-kit-client, the
// module at the other end of its socket.
type Server struct {
	*Token

	t      testing.TB
	module string // SoftHSM2's
	socket string
	env    []string // of the server
	daemon *daemon
}

// Remote starts a Server.
func Remote(t testing.TB) *Server {
	t.Helper()
	soft := SoftHSM(t)
	s := &Server{Token: soft, t: t, module: soft.Module, socket: filepath.Join(folder(t), "socket"), env: soft.Env}
	soft.Name, soft.Module = "p11-kit-client", library(t, "pkcs11/p11-kit-client.so")
	soft.Env = []string{"P11_KIT_SERVER_ADDRESS=unix:path=" + s.socket}
	s.Start()
	return s
}

// Kill kills the server and its processes for connections with SIGKILL. The socket's file stays.
func (s *Server) Kill() { s.daemon.kill() }

// Start starts the server again after Kill, at the same socket.
func (s *Server) Start() {
	s.t.Helper()
	if err := os.RemoveAll(s.socket); err != nil {
		s.t.Fatal(err)
	}
	// The server forgets a connection that sends nothing.
	s.daemon = start(s.t, func() error {
		conn, err := net.Dial("unix", s.socket)
		if err != nil {
			return err
		}
		return conn.Close()
	}, s.env, "p11-kit", "server", "--foreground", "--name", s.socket, "--provider", s.module,
		"pkcs11:token="+s.Label)
}
