#!/usr/bin/env bash
# Usage: scripts/deploy/container-test.sh DIST VERSION
# Builds both images of the Containerfile from the release in DIST, and runs them as little as a cluster would let them
# do: as user 65532, without capabilities, with a root file system that is read-only and one volume. From outside it sends
# signed requests to verenc dev, and to verenc serve with a PKCS#11 library that is mounted.
# The base is a Debian that is made here, since this needs no registry. Images and containers are in a folder of their
# own, and the containers run in no cgroup manager of the machine. It needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "container-test: run as root" >&2; exit 1; }
dist=$1
version=$2
arch=$(dpkg --print-architecture)
base=${XDG_CACHE_HOME:-$HOME/.cache}/verenc/container/bookworm-$arch.tar
if [ ! -e "$base" ]; then
	echo "container-test: making a Debian, which takes a minute or more" >&2
	mkdir -p "$(dirname "$base")"
	mmdebstrap --quiet --format=tar --variant=minbase \
		--include=ca-certificates,libstdc++6,libsofthsm2,libssl3,softhsm2 bookworm "$base.new"
	mv "$base.new" "$base"
fi
work=$(mktemp -d)
podman=(podman --root "$work/store" --runroot "$work/run" --storage-driver overlay --cgroup-manager cgroupfs --runtime runc)
end() {
	"${podman[@]}" rm --force --all --time 0 >/dev/null 2>&1 || true
	"${podman[@]}" volume rm --all --force >/dev/null 2>&1 || true
	umount --recursive --lazy "$work/store/overlay" 2>/dev/null || true
	rm -rf "$work"
}
trap end EXIT

step() { echo "container-test: $*" >&2; }
fail() {
	step "$*"
	for name in dev serve; do "${podman[@]}" logs "$name" 2>/dev/null >&2 || true; done
	exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# contained runs podman run with as few rights as possible.
contained() {
	"${podman[@]}" run --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges \
		--ulimit nofile=4096:4096 --ulimit nproc=4096:4096 "$@"
}

# kms URL OPERATION JSON sends a signed request. The access key is in the file credentials.
kms() {
	curl --silent --show-error --fail-with-body --config "$work/credentials" --aws-sigv4 aws:amz:us-east-1:kms \
		--header "X-Amz-Target: TrentService.$2" --header "Content-Type: application/x-amz-json-1.1" --data "$3" "$1"
}

# use URL creates a key and makes a data key with it.
use() {
	local key
	key=$(kms "$1" CreateKey '{}' | sed -n 's/.*"KeyId":"\([^"]*\)".*/\1/p')
	[ -n "$key" ] || fail "no key"
	kms "$1" GenerateDataKeyWithoutPlaintext "{\"KeyId\":\"$key\",\"KeySpec\":\"AES_256\"}" | grep -q CiphertextBlob ||
		fail "no data key"
}

# await NAME PATTERN waits until the container's output has a line, and prints it.
await() {
	local line
	for _ in $(seq 600); do
		if line=$("${podman[@]}" logs "$1" 2>&1 | grep -m 1 "$2"); then
			echo "$line"
			return
		fi
		[ "$("${podman[@]}" inspect --format '{{.State.Running}}' "$1")" = true ] || break
		sleep 0.2
	done
	fail "$1 does not say $2"
}

# terminate NAME ends a container as a cluster does, and wants the status 0.
terminate() {
	"${podman[@]}" stop --time 60 "$1" >/dev/null
	[ "$("${podman[@]}" inspect --format '{{.State.ExitCode}}' "$1")" = 0 ] || fail "$1 does not end well"
}

step build
"${podman[@]}" import --quiet "$base" verenc-test-base >/dev/null 2>&1
PODMAN="${podman[*]}" BASE=localhost/verenc-test-base scripts/deploy/container.sh "$dist" "$version"
image=localhost/verenc:$version

step "the images"
contained --rm --network none "$image" version | head -n 1
for tag in "$version" "$version-softhsm"; do
	root=$("${podman[@]}" image mount "localhost/verenc:$tag")
	[ -z "$(find "$root/usr/bin" "$root/usr/sbin" -type f ! -name verenc)" ] || fail "$tag has other programs"
	[ -z "$(find "$root" -perm /6000)" ] || fail "$tag has setuid files"
	"${podman[@]}" image unmount "localhost/verenc:$tag" >/dev/null
done

step "verenc dev"
contained --detach --name dev --network host "$image-softhsm" dev --data /var/lib/verenc --listen 127.0.0.1:0 \
	--access-key test --secret-key test >/dev/null
url=$(await dev 'serves on http' | sed 's/.*serves on \(http[^,]*\),.*/\1/')
echo 'user = "test:test"' >"$work/credentials"
use "$url/"
pid=$("${podman[@]}" inspect --format '{{.State.Pid}}' dev)
[ "$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p;s/^CapEff:\t//p;s/^NoNewPrivs:\t//p' "/proc/$pid/status" | paste -sd ' ')" = \
	"65532 0000000000000000 1" ] || fail "it has rights: $(cat "/proc/$pid/status")"
if ( : >"/proc/$pid/root/etc/written" ) 2>/dev/null; then fail "its root is not read-only"; fi
terminate dev

# What the operator of an HSM brings: the client library with the libraries that it needs, its configuration, a token,
# the PIN, and the configuration.
step "verenc serve with a mounted library"
mkdir "$work/hsm" "$work/etc" "$work/pin"
tar -xf "$base" -C "$work/hsm" --transform 's,.*/,,' --wildcards './usr/lib/*/softhsm/libsofthsm2.so' \
	'./usr/lib/*/libcrypto.so.3'
cat >"$work/hsm/softhsm2.conf" <<-CONF
	directories.tokendir = /var/lib/verenc/tokens
	log.level = ERROR
CONF
sed 's,/usr/lib/softhsm/,/opt/hsm/,; s,^private_listen.*,private_listen: 127.0.0.1:0,; s,^listen: [^ ]*,listen: 127.0.0.1:0,' \
	scripts/deploy/verenc.yaml >"$work/etc/verenc.yaml"
echo 1234-5678 >"$work/pin/verenc-pin"
chmod 755 "$work"
mounted=(--network host --volume verenc-state:/var/lib/verenc --volume "$work/hsm:/opt/hsm:ro"
	--volume "$work/etc:/etc/verenc:ro" --volume "$work/pin:/run/credentials/verenc:ro"
	--env CREDENTIALS_DIRECTORY=/run/credentials/verenc --env SOFTHSM2_CONF=/opt/hsm/softhsm2.conf
	--env LD_LIBRARY_PATH=/opt/hsm)
contained --rm "${mounted[@]}" --user 65532:65532 --entrypoint /bin/sh localhost/verenc-test-base -c \
	'mkdir -m 700 /var/lib/verenc/tokens &&
	softhsm2-util --init-token --free --label verenc --so-pin 8765-4321 --pin 1234-5678' >/dev/null
config=(--config /etc/verenc/verenc.yaml)
for _ in 1 2; do # as the chart does before each start
	contained --rm "${mounted[@]}" "$image" init --if-missing "${config[@]}"
done
contained --rm "${mounted[@]}" "$image" doctor "${config[@]}" >"$work/doctor" || { cat "$work/doctor" >&2; fail doctor; }
contained --detach --name serve "${mounted[@]}" "$image" >/dev/null
"${podman[@]}" exec serve verenc init --add-access-key "${config[@]}" | sed -n \
	's/^aws_access_key_id *= *\(.*\)$/\1/p; s/^aws_secret_access_key *= *\(.*\)$/\1/p' | paste -sd: |
	sed 's/.*/user = "&"/' >"$work/credentials"
address=$(await serve '"serving","listener":"api"' | sed 's/.*"\(127\.0\.0\.1:[0-9]*\)".*/\1/')
use "http://$address/"
terminate serve
step passed
