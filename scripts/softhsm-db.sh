#!/usr/bin/env bash
# Usage: scripts/softhsm-db.sh FOLDER
# Builds SoftHSM2 with SQLite as its object store into FOLDER, from the source package of Debian or Ubuntu, whose own build
# of it has files only. The tests use it as another kind of token. It takes a minute or two. apt's configuration stays as it is.
set -euo pipefail

folder=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
fail() {
	tail -n 20 "$log" >&2
	echo "softhsm-db: $1; the lines above are its last" >&2
	exit 1
}

# The system's package sources, as sources of source packages.
mkdir -p "$work/sources" "$work/lists/partial" "$work/build"
for file in /etc/apt/sources.list.d/*.sources; do
	[ -e "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources/$(basename "$file")"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
	[ -e "$file" ] && sed -n 's/^deb /deb-src /p' "$file" >"$work/sources/$(basename "$file" .list).list"
done
apt() {
	apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
		-o Dir::State::lists="$work/lists" -o APT::Sandbox::User=root "$@" >>"$log" 2>&1
}

cd "$work/build"
apt update || fail "apt-get update failed"
apt source --download-only --tar-only softhsm2 || fail "apt-get could not fetch the source of softhsm2"
tar -xf softhsm2_*.orig.tar.* --strip-components=1
CXXFLAGS=-O1 ./configure --prefix="$folder" --with-objectstore-backend-db --disable-gost --disable-p11-kit >>"$log" 2>&1 ||
	fail "configure failed"
make -j"$(nproc)" -C src >>"$log" 2>&1 || fail "make failed"
make -C src install DESTDIR="$work/installed" >>"$log" 2>&1 || fail "make install failed"
rm -rf "$folder"
mv "$work/installed$folder" "$folder"
