#!/usr/bin/env bash
# Usage: scripts/run.sh DATA
# Serves a SoftHSM2 token below DATA on 127.0.0.1, making token, database and access key the first time, and
# prints AWS CLI lines that work with it. VERENC_LISTEN and VERENC_PRIVATE_LISTEN choose other addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
data=$(cd "$1" && pwd)
bin=$data/bin/verenc
credentials=$data/aws-credentials

eval "$(go run ./softhsm/token -dir "$data/token")" # sets SOFTHSM2_CONF and VERENC_TOKEN_*; no secrets
export VERENC_DATABASE=$data/verenc.db
export VERENC_LISTEN=${VERENC_LISTEN:-127.0.0.1:8600}
export VERENC_PRIVATE_LISTEN=${VERENC_PRIVATE_LISTEN:-127.0.0.1:8601}

if [ ! -e "$VERENC_DATABASE" ]; then
	"$bin" init --credentials "$credentials"
elif [ ! -e "$credentials" ]; then
	"$bin" init --add-access-key --credentials "$credentials"
fi

"$bin" serve 2>"$data/verenc.log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for _ in $(seq 100); do
	if grep -q '"msg":"serving","listener":"api"' "$data/verenc.log"; then
		ready=yes
		break
	fi
	kill -0 "$server" 2>/dev/null || break
	sleep 0.1
done
if [ -z "${ready:-}" ]; then
	echo "The server did not start; the end of its log, $data/verenc.log:" >&2
	tail -n 5 "$data/verenc.log" >&2
	exit 1
fi

cat <<EOF
Verenc KMS serves on http://$VERENC_LISTEN (log: $data/verenc.log). Paste into another terminal:

  export AWS_SHARED_CREDENTIALS_FILE=$credentials AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url http://$VERENC_LISTEN kms create-key
  aws --endpoint-url http://$VERENC_LISTEN kms create-alias --alias-name alias/first --target-key-id KEY_ID
  aws --endpoint-url http://$VERENC_LISTEN kms generate-data-key-without-plaintext --key-id alias/first --key-spec AES_256

Ctrl-C stops it.
EOF
wait "$server"
