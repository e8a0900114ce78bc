#!/usr/bin/env bash
# Usage: scripts/fuzz.sh TIME
# Runs every fuzz target of the tree for TIME, e.g. 20s, and says which.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz runs one target. Before Go 1.27, a target that is busy when TIME is over may fail with nothing but "context
# deadline exceeded" (https://go.dev/issue/75804): that is a pass. A real failure names the input that failed.
fuzz() {
	echo "$1 $2"
	"${GO:-go}" test -run '^$' -fuzz "^$2\$" -fuzztime "$3" "$1" >"$log" 2>&1 && return
	if grep -q '^ *context deadline exceeded$' "$log" && ! grep -q 'Failing input' "$log"; then
		return
	fi
	cat "$log" >&2
	return 1
}

grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r package; do
	grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$package"/*_test.go | sed 's/^func //' | sort | while read -r target; do
		fuzz "$package" "$target" "$1"
	done
done
