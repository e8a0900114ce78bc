#!/usr/bin/env bash
# Usage: scripts/run.sh DATA
# Serves a SoftHSM2 token in DATA on 127.0.0.1, and prints AWS CLI commands that work with it. The first time, it makes
# the token, the database and the access key. VERENC_LISTEN and VERENC_PRIVATE_LISTEN choose other addresses; port 0
# takes a free one.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
data=$(cd "$1" && pwd)
bin=$data/bin/verenc
log=$data/verenc.log
credentials=$data/aws-credentials

eval "$(go run ./softhsm/token -dir "$data/token")" # sets SOFTHSM2_CONF and VERENC_TOKEN_*; no secrets
# ARNs as AWS writes them, which every AWS client accepts. The default, verenc, is for sites where nobody may mistake a
# key for one at AWS.
export VERENC_ARN_FORMAT=${VERENC_ARN_FORMAT-aws}
export VERENC_DATABASE=$data/verenc.db VERENC_AUDIT_DIR=$data/audit
export VERENC_LISTEN=${VERENC_LISTEN:-127.0.0.1:8600}
export VERENC_PRIVATE_LISTEN=${VERENC_PRIVATE_LISTEN-127.0.0.1:8601}

if [ ! -e "$VERENC_DATABASE" ]; then
	"$bin" init --credentials "$credentials"
elif [ ! -e "$credentials" ]; then
	"$bin" init --add-access-key --credentials "$credentials"
fi

"$bin" serve 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
address=
for _ in $(seq 1200); do # two minutes, on a busy machine; a server that ends is noticed at once
	address=$(sed -n 's/.*"msg":"serving","listener":"api","address":"\([^"]*\)".*/\1/p' "$log")
	[ -z "$address" ] || break
	kill -0 "$server" 2>/dev/null || break
	sleep 0.1
done
if [ -z "$address" ]; then
	echo "The server did not start; the end of its log, $log:" >&2
	tail -n 5 "$log" >&2
	exit 1
fi

cat <<EOF
Verenc KMS serves on http://$address (log: $log), with arn_format: $VERENC_ARN_FORMAT, which every AWS
client accepts; arn_format: verenc marks keys as not being AWS's.

Open http://$address/ in a browser for the documentation, where each operation can be tried out, and for
the console, to create and administer keys. Sign in with the access key in $credentials:
its whole text can be pasted into the form. Or paste into another terminal:

  export AWS_SHARED_CREDENTIALS_FILE=$credentials AWS_DEFAULT_REGION=us-east-1
  kms() { aws --endpoint-url http://$address kms "\$@"; }
  key=\$(kms create-key --query KeyMetadata.KeyId --output text)
  kms generate-data-key-without-plaintext --key-id "\$key" --key-spec AES_256

Ctrl-C stops it.
EOF
wait "$server"
