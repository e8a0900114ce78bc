#!/usr/bin/env bash
# Usage: scripts/release/test.sh DIST VERSION
# Installs the .deb of DIST in a new Debian in which systemd runs, in a container of systemd-nspawn without a network, with
# SoftHSM2 as the token; and does there what scripts/release/inside.sh says. Then it does the same with the .rpm, which
# Debian's rpm installs. The machine's own files are not touched. It needs root, and keeps the Debian in the user's cache
# folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "release-test: run as root" >&2; exit 1; }
dist=$(cd "$1" && pwd)
version=$2
arch=$(dpkg --print-architecture)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/verenc/release-test
base=$cache/bookworm-rpm-$arch.tar
if [ ! -e "$base" ]; then
	echo "release-test: making a Debian, which takes a minute or more" >&2
	mkdir -p "$cache"
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd-sysv,softhsm2,passwd,curl,rpm bookworm "$base.new"
	mv "$base.new" "$base"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The next version is the same binary with another number.
mkdir "$work/next"
cp "$dist/verenc-$version-linux-$arch" "$work/next/verenc-v9999.0.0-linux-$arch"
mkdir "$work/manual"
"$dist/verenc-$version-linux-$arch" docs --man "$work/manual"
"${GO:-go}" -C scripts/release run . -version v9999.0.0 -root "$PWD" -out "$work/next" -manual "$work/manual"

# package FOLDER FORMAT prints the one package for this machine's architecture. rpm has names of its own for architectures.
declare -A machines=([amd64]=x86_64 [arm64]=aarch64)
package() {
	local found=("$1"/*_"$arch.deb")
	[ "$2" = deb ] || found=("$1"/*."${machines[$arch]}.rpm")
	[ ${#found[@]} = 1 ] && [ -e "${found[0]}" ] || { echo "release-test: not one .$2 for $arch in $1" >&2; return 1; }
	echo "${found[0]}"
}

# try FORMAT tests the packages of one format.
try() {
	local root=$work/$1
	mkdir "$root"
	tar -xpf "$base" -C "$root"
	mkdir "$root/release-test"
	cp "$(package "$dist" "$1")" "$root/release-test/first.$1"
	cp "$(package "$work/next" "$1")" "$root/release-test/next.$1"
	cp scripts/release/inside.sh "$root/release-test/inside.sh"
	cat >"$root/etc/systemd/system/release-test.service" <<-UNIT
		[Unit]
		Description=Test of the package
		After=multi-user.target
		SuccessAction=poweroff
		FailureAction=poweroff
		[Service]
		Type=oneshot
		ExecStart=/bin/bash /release-test/inside.sh $1
		StandardOutput=file:/release-test/log
		StandardError=file:/release-test/log
	UNIT
	mkdir -p "$root/etc/systemd/system/default.target.wants"
	ln -s /etc/systemd/system/release-test.service "$root/etc/systemd/system/default.target.wants/"

	systemd-nspawn --quiet --register=no --keep-unit --private-network --machine="verenc-release-test-$$" \
		--directory="$root" --boot systemd.unit=multi-user.target systemd.wants=release-test.service \
		>"$work/boot" 2>&1 </dev/null || tail -n 20 "$work/boot" >&2
	cat "$root/release-test/log" >&2
	[ -e "$root/release-test/passed" ] || { echo "release-test: the .$1 failed" >&2; exit 1; }
}
try deb
try rpm
echo "release-test: passed" >&2
