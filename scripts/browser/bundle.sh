#!/usr/bin/env bash
# Usage: scripts/browser/bundle.sh FILE [SCRIPT]
# Writes SCRIPT (default client.js) with the packages that it imports into FILE, for a browser. It installs the packages into the
# user's cache, in the versions of package-lock.json, unless they are there; so only the first run needs the npm registry.
set -euo pipefail
out=$(realpath -m "$1")
script=${2:-client.js}
cd "$(dirname "$0")"
command -v npm >/dev/null || { echo "bundle: npm is missing: run scripts/setup.sh browser" >&2; exit 1; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/verenc-browser
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if ! cmp -s package-lock.json "$cache/installed.json"; then
	cp package.json package-lock.json "$cache"
	npm ci --prefix "$cache" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
	cp package-lock.json "$cache/installed.json"
fi
cp "$script" "$cache/$script"
"$cache/node_modules/.bin/esbuild" "$cache/$script" --bundle --format=esm --log-level=warning --outfile="$out"
