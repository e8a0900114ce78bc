#!/usr/bin/env bash
# Usage: scripts/release/test.sh DIST VERSION
# Installs the .deb of DIST in a new Debian in which systemd runs, in a container of systemd-nspawn without a network, with
# SoftHSM2 as the token; and does there what scripts/release/inside.sh says. The machine's own files are not touched.
# It needs root, and keeps the Debian in the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "release-test: run as root" >&2; exit 1; }
dist=$(cd "$1" && pwd)
version=$2
arch=$(dpkg --print-architecture)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/verenc/release-test
base=$cache/bookworm-$arch.tar
if [ ! -e "$base" ]; then
	echo "release-test: making a Debian, which takes a minute or more" >&2
	mkdir -p "$cache"
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd-sysv,softhsm2,passwd,curl bookworm "$base.new"
	mv "$base.new" "$base"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"
tar -xpf "$base" -C "$root"

# The next version is the same binary with another number.
mkdir "$work/next"
cp "$dist/verenc-$version-linux-$arch" "$work/next/verenc-v9999.0.0-linux-$arch"
mkdir "$work/manual"
"$dist/verenc-$version-linux-$arch" docs --man "$work/manual"
"${GO:-go}" -C scripts/release run . -version v9999.0.0 -root "$PWD" -out "$work/next" -manual "$work/manual"

mkdir "$root/release-test"
debs=("$dist"/*_"$arch".deb)
[ ${#debs[@]} = 1 ] || { echo "release-test: ${#debs[@]} packages for $arch in $dist" >&2; exit 1; }
cp "${debs[0]}" "$root/release-test/first.deb"
cp "$work/next"/*_"$arch".deb "$root/release-test/next.deb"
cp scripts/release/inside.sh "$root/release-test/inside.sh"
cat >"$root/etc/systemd/system/release-test.service" <<'UNIT'
[Unit]
Description=Test of the package
After=multi-user.target
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
ExecStart=/bin/bash /release-test/inside.sh
StandardOutput=file:/release-test/log
StandardError=file:/release-test/log
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s /etc/systemd/system/release-test.service "$root/etc/systemd/system/default.target.wants/"

systemd-nspawn --quiet --register=no --keep-unit --private-network --machine="verenc-release-test-$$" --directory="$root" \
	--boot systemd.unit=multi-user.target systemd.wants=release-test.service >"$work/boot" 2>&1 </dev/null || tail -n 20 "$work/boot" >&2
cat "$root/release-test/log" >&2
[ -e "$root/release-test/passed" ] || { echo "release-test: failed" >&2; exit 1; }
echo "release-test: passed" >&2
