#!/usr/bin/env bash
# Usage: scripts/release/reproduce.sh DIST VERSION
# Builds the release for this machine's architecture a second time, in another folder and without anything that Go has
# compiled before, and compares it with the files in DIST byte by byte.
set -euo pipefail
cd "$(dirname "$0")/../.."
dist=$(cd "$1" && pwd)
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
GOCACHE=$again/cache scripts/release/build.sh "$again/dist" "$2" "$(${GO:-go} env GOHOSTARCH)"
(cd "$again/dist" && sha256sum * | grep -v ' SHA256SUMS$') >"$again/sums"
while read -r sum name; do
	grep -qx "$sum  $name" "$dist/SHA256SUMS" || { echo "reproduce: $name differs" >&2; exit 1; }
	echo "reproduce: $name is the same" >&2
done <"$again/sums"
