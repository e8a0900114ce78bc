#!/usr/bin/env bash
# Usage: scripts/demo.sh
# Does the main job with the real AWS CLI on a temporary server: creates a key, generates a data key that nobody sees, and
# decrypts it with the right and with the wrong encryption context. Fails when a step does.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != steps ]; then
	data=$(mktemp -d)
	trap 'rm -rf "$data"' EXIT
	make --no-print-directory build DATA="$data"
	VERENC_LISTEN=127.0.0.1:0 "$data/bin/verenc" dev --exec -- scripts/demo.sh steps "$data"
	exit
fi
data=$2
PATH=/usr/bin:$PATH # the distribution's CLI, as setup.sh installs it
export AWS_CONFIG_FILE=/dev/null AWS_PAGER=

kms() {
	echo "\$ aws kms $*" >&2
	aws --endpoint-url "$AWS_ENDPOINT_URL_KMS" kms "$@" # older ones don't read the variable
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
