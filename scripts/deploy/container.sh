#!/usr/bin/env bash
# Usage: scripts/deploy/container.sh DIST VERSION
# Builds the images verenc:VERSION and verenc:VERSION-softhsm from the release in DIST. PODMAN is the command that
# builds, with its options; BASE is a Debian to take the libraries from, instead of the one that the Containerfile names.
set -euo pipefail
cd "$(dirname "$0")/../.."
dist=$(cd "$1" && pwd)
version=$2
read -ra podman <<<"${PODMAN:-podman}"
declare -A architectures=([x86_64]=amd64 [aarch64]=arm64)
arch=${architectures[$(uname -m)]}
[ -e "$dist/verenc-$version-linux-$arch" ] || { echo "container: no $version in $dist: make release" >&2; exit 1; }
for image in verenc softhsm; do
	tag=verenc:$version
	[ "$image" = verenc ] || tag+=-$image
	"${podman[@]}" build --quiet --isolation chroot --target "$image" --tag "$tag" --build-context "dist=$dist" \
		--build-arg "VERSION=$version" --build-arg "TARGETARCH=$arch" ${BASE:+--build-arg "BASE=$BASE"} -f scripts/deploy/Containerfile scripts/deploy
	echo "container: built $tag" >&2
done
