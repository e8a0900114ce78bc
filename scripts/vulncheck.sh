#!/usr/bin/env bash
# Usage: scripts/vulncheck.sh
# Reports known vulnerabilities in what the program calls. Where the database of vulnerabilities cannot be reached, as
# on a machine without the internet, it says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."
if report=$("${GO:-go}" tool govulncheck ./... 2>&1); then
	exit 0
fi
if [[ $report == *"fetching vulnerabilities"* ]]; then
	echo "govulncheck: not run, its database cannot be reached: ${report##*fetching vulnerabilities: }" >&2
	exit 0
fi
echo "$report" >&2
exit 1
