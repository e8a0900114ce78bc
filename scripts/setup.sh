#!/usr/bin/env bash
# Usage: scripts/setup.sh [clients] [browser] [tokens] [postgres] [deploy] [release] [container] [recipes]
# Installs what is missing on Debian and Ubuntu: SoftHSM2; with "clients", the AWS CLI, boto3 and pytest for the tests
# and the demo; with "browser", Chromium and npm for a test; with "tokens", the other PKCS#11 modules of the tests, which
# are those of p11-kit, opencryptoki and tpm2-pkcs11 on a TPM in software, and SoftHSM2 with SQLite, which it builds from
# source into the user's cache folder; with "postgres", PostgreSQL's programs, without a cluster, since the tests run
# servers of their own; with "deploy", systemd's checks of a unit, and promtool, which it takes out of Debian's package of
# Prometheus into the user's cache folder, since the package would start a server; with "release", what `make release`
# and `make release-test` use: a compiler and an emulator for arm64, rpm, mmdebstrap and systemd-nspawn; with "container",
# what `make container` and `make container-test` use: podman with runc, and mmdebstrap; with "recipes", what
# `make recipes` uses besides the clients. On other systems it says what to install. When nothing is missing, it does
# nothing and ends at once.
set -euo pipefail

fail() {
	echo "setup: $*" >&2
	exit 1
}

command -v go >/dev/null || fail "Go is missing: install it (https://go.dev/doc/install), and run again"
command -v gcc >/dev/null || fail "gcc is missing, which cgo needs: apt-get install gcc, and run again"

has_softhsm() {
	[ -n "${VERENC_SOFTHSM_MODULE:-}" ] || compgen -G '/usr/lib*/softhsm/libsofthsm2.so' >/dev/null ||
		compgen -G '/usr/lib*/*/softhsm/libsofthsm2.so' >/dev/null || compgen -G '/usr/lib*/pkcs11/libsofthsm2.so' >/dev/null ||
		[ -e /usr/local/lib/softhsm/libsofthsm2.so ] || [ -e /opt/homebrew/lib/softhsm/libsofthsm2.so ]
}

# has_module looks for a library below Debian's library folder of any architecture.
has_module() { compgen -G "/usr/lib/*/$1" >/dev/null; }

softhsm_db=${XDG_CACHE_HOME:-$HOME/.cache}/verenc/softhsm-db # package softhsm/tokens finds it there
missing=()
has_softhsm || missing+=(softhsm2)
if [[ " $* " == *" clients "* ]]; then
	# The distribution's own, even if a pyenv or a venv precedes it on the PATH.
	[ -x /usr/bin/aws ] || missing+=(awscli)
	/usr/bin/python3 -c 'import boto3' 2>/dev/null || missing+=(python3-boto3)
	/usr/bin/python3 -c 'import pytest' 2>/dev/null || missing+=(python3-pytest)
fi
if [[ " $* " == *" tokens "* ]]; then
	# Package softhsm/tokens finds the modules and tools at these paths.
	[ -x /usr/bin/p11-kit ] || missing+=(p11-kit)
	has_module p11-kit-proxy.so && has_module pkcs11/p11-kit-client.so || missing+=(p11-kit-modules)
	[ -x /usr/sbin/pkcsslotd ] && has_module pkcs11/libopencryptoki.so || missing+=(opencryptoki)
	has_module pkcs11/libtpm2_pkcs11.so || missing+=(libtpm2-pkcs11-1)
	[ -x /usr/bin/tpm2_ptool ] || missing+=(libtpm2-pkcs11-tools)
	[ -x /usr/bin/tpm2_flushcontext ] || missing+=(tpm2-tools)
	[ -x /usr/bin/swtpm ] || missing+=(swtpm)
	has_module libtss2-tcti-swtpm.so.0 || missing+=(libtss2-tcti-swtpm0)
	if [ ! -d "$softhsm_db" ]; then
		for tool in g++ make; do command -v "$tool" >/dev/null || missing+=("$tool"); done
		for header in openssl/evp.h:libssl-dev sqlite3.h:libsqlite3-dev; do
			[ -e "/usr/include/${header%:*}" ] || missing+=("${header#*:}")
		done
	fi
fi
if [[ " $* " == *" postgres "* ]]; then
	compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null || missing+=(postgresql)
fi
if [[ " $* " == *" deploy "* ]]; then
	command -v systemd-analyze >/dev/null || missing+=(systemd)
fi
if [[ " $* " == *" release "* ]]; then
	[ -x /usr/bin/aarch64-linux-gnu-gcc ] || missing+=(gcc-aarch64-linux-gnu)
	[ -e /usr/aarch64-linux-gnu/include/stdio.h ] || missing+=(libc6-dev-arm64-cross)
	[ -x /usr/bin/qemu-aarch64-static ] || [ -x /usr/bin/qemu-aarch64 ] || missing+=(qemu-user-static)
	command -v rpm >/dev/null || missing+=(rpm)
	command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
	command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
fi
if [[ " $* " == *" container "* ]]; then
	command -v podman >/dev/null || missing+=(podman)
	command -v runc >/dev/null || missing+=(runc)
	command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
fi
if [[ " $* " == *" recipes "* ]]; then
	for tool in openssl gpg npm; do command -v "$tool" >/dev/null || missing+=("$tool"); done
fi
if [[ " $* " == *" browser "* ]]; then
	[ -x /usr/bin/chromium ] || missing+=(chromium)
	command -v npm >/dev/null || missing+=(npm)
fi
build_softhsm_db() {
	[[ " $* " == *" tokens "* ]] && [ ! -d "$softhsm_db" ] || return 0
	echo "setup: building SoftHSM2 with SQLite, which takes a minute or two ..." >&2
	mkdir -p "$(dirname "$softhsm_db")"
	"$(dirname "$0")/softhsm-db.sh" "$softhsm_db"
}
promtool=${XDG_CACHE_HOME:-$HOME/.cache}/verenc/promtool # TestAlerts finds it there
get_promtool() {
	[[ " $* " == *" deploy "* ]] && [ ! -x "$promtool" ] || return 0
	local dir
	dir=$(mktemp -d)
	chmod 755 "$dir" # apt-get downloads as a user of its own
	(
		cd "$dir"
		apt-get download -q prometheus || { "${root[@]}" apt-get -q update && apt-get download -q prometheus; }
		dpkg-deb -x prometheus_*.deb .
		mkdir -p "$(dirname "$promtool")"
		mv usr/bin/promtool "$promtool"
	) >/dev/null 2>&1 || fail "promtool could not be taken out of Debian's package prometheus: put it at $promtool"
	rm -rf "$dir"
}
root=()
[ "$(id -u)" = 0 ] || ! command -v sudo >/dev/null || root=(sudo)
if [ ${#missing[@]} -eq 0 ]; then
	build_softhsm_db "$@"
	get_promtool "$@"
	exit 0
fi

command -v apt-get >/dev/null || fail "install ${missing[*]} with this system's package manager, and run again"
[ "$(id -u)" = 0 ] || [ ${#root[@]} = 1 ] || fail "run as root: apt-get install ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q "$@" >"$log" 2>&1; }

if [[ " ${missing[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
	# Debian's package makes a cluster and starts it, unless it is told not to before it comes.
	"${root[@]}" mkdir -p /etc/postgresql-common
	echo 'create_main_cluster = false' | "${root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi

echo "setup: installing ${missing[*]} ..." >&2
apt install --no-install-recommends "${missing[@]}" || {
	apt update || true # the install below tells whether that mattered
	if [[ " ${missing[*]} " == *" awscli "* ]] && ! apt-cache show awscli >/dev/null 2>&1; then # as in Ubuntu 24.04
		aws --version >/dev/null 2>&1 || fail "this release has no package awscli: install the AWS CLI (snap install aws-cli --classic), and run again"
		for i in "${!missing[@]}"; do [ "${missing[i]}" != awscli ] || unset "missing[i]"; done
	fi
	[ ${#missing[@]} -eq 0 ] || apt install --no-install-recommends "${missing[@]}" || {
		tail -n 20 "$log" >&2
		fail "apt-get could not install ${missing[*]}; the lines above are its last"
	}
}
has_softhsm || fail "SoftHSM2 is installed, but its module was not found: set VERENC_SOFTHSM_MODULE to the path of libsofthsm2.so"
build_softhsm_db "$@"
get_promtool "$@"
echo "setup: done" >&2
