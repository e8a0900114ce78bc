#!/usr/bin/env bash
# Usage: scripts/release/build.sh OUT VERSION ARCH...
# Makes a release of the commit HEAD in OUT: for each architecture (amd64, arm64) the binary, its bill of materials in SPDX,
# a .deb and a .rpm; and SHA256SUMS. It builds from a copy of the commit, so that what is not committed is not in it, and
# so that neither the folder nor the machine's name nor the time is in the bytes.
#
# The binaries are dynamic: a PKCS#11 module is a shared library, which needs the C library that it was made with.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$2
shift 2
go=${GO:-go}
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
git archive HEAD | tar -x -C "$source"
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git show -s --format=%ct HEAD)
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C

declare -A machines=([amd64]=x86_64 [arm64]=aarch64)
for arch in "$@"; do
	echo "release: building verenc-$version-linux-$arch" >&2
	CGO_ENABLED=1 GOOS=linux GOARCH=$arch CC=${machines[$arch]}-linux-gnu-gcc GOFLAGS= "$go" -C "$source" build -trimpath -buildvcs=false \
		-ldflags "-s -w -X github.com/verenc/kms/cmd/verenc/version.release=$version -X github.com/verenc/kms/cmd/verenc/version.commit=$commit" \
		-o "$out/verenc-$version-linux-$arch" ./cmd/verenc
done
# A processor that is not this machine's is emulated, with the C library of its compiler.
for arch in "$@"; do
	run=()
	[ "$arch" = "$("$go" env GOHOSTARCH)" ] || run=("qemu-${machines[$arch]}-static" -L "/usr/${machines[$arch]}-linux-gnu")
	"${run[@]}" "$out/verenc-$version-linux-$arch" --version | grep -qF "verenc $version ($commit) " || {
		echo "release: verenc-$version-linux-$arch does not run" >&2
		exit 1
	}
done
# The manual pages and completions are the same for all: any of the binaries that runs here writes them.
runs=$out/verenc-$version-linux-$("$go" env GOHOSTARCH)
[ -x "$runs" ] || { echo "release: build for this machine too: $("$go" env GOHOSTARCH)" >&2; exit 1; }
(
	for setting in $(compgen -e VERENC_); do unset "$setting"; done
	"$runs" docs --man "$source/manual"
	for shell in bash zsh fish; do "$runs" completion "$shell" >"$source/manual/verenc.$shell"; done
)
GOFLAGS='' "$go" -C "$source/scripts/release" run . -version "$version" -root "$source" -out "$out" -manual "$source/manual" \
	-time "$SOURCE_DATE_EPOCH"
