#!/usr/bin/env bash
# Usage: scripts/demo.sh
# Does the main job with the real AWS CLI on a temporary server: creates a key, generates a data key that nobody sees, and
# decrypts it with the right and with the wrong encryption context. Fails when a step does.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=/usr/bin:$PATH # the distribution's CLI, as setup.sh installs it
data=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" && wait "$server" || true; fi; rm -rf "$data"' EXIT

make --no-print-directory build DATA="$data"
VERENC_LISTEN=127.0.0.1:0 VERENC_PRIVATE_LISTEN='' scripts/run.sh "$data" >"$data/out" 2>&1 &
server=$!
until grep -q 'Ctrl-C' "$data/out"; do
	kill -0 "$server" 2>/dev/null || { cat "$data/out" >&2; exit 1; }
	sleep 0.1
done
url=$(sed -n 's/.*serves on \(http[^ ]*\) .*/\1/p' "$data/out")
export AWS_SHARED_CREDENTIALS_FILE=$data/aws-credentials AWS_CONFIG_FILE=/dev/null AWS_DEFAULT_REGION=us-east-1 AWS_PAGER=

kms() {
	echo "\$ aws kms $*" >&2
	aws --endpoint-url "$url" kms "$@"
}

key=$(kms create-key --description demo --query KeyMetadata.Arn --output text)
echo "$key   (arn_format: aws; the other form, arn_format: verenc, is arn:verenc:ACCOUNT:key/ID)"
kms generate-data-key-without-plaintext --key-id "$key" --key-spec AES_256 --encryption-context tenant=blue \
	--query CiphertextBlob --output text | base64 -d >"$data/datakey"
echo "a data key that nobody has seen, wrapped in the token: $(stat -c %s "$data/datakey") bytes"
size=$(kms decrypt --ciphertext-blob "fileb://$data/datakey" --encryption-context tenant=blue \
	--query Plaintext --output text | base64 -d | wc -c)
[ "$size" -eq 32 ] || { echo "demo: the data key has $size bytes, not 32" >&2; exit 1; }
echo "the right encryption context: a data key of $size bytes"
if refusal=$(kms decrypt --ciphertext-blob "fileb://$data/datakey" --encryption-context tenant=red 2>&1); then
	echo "demo: the wrong encryption context was accepted" >&2
	exit 1
fi
case $refusal in
*InvalidCiphertextException*) echo "the wrong encryption context: InvalidCiphertextException" ;;
*) echo "demo: $refusal" >&2 && exit 1 ;;
esac
