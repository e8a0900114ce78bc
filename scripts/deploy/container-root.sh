#!/bin/sh
# Usage: container-root.sh ROOT PACKAGE...
# Copies the files of Debian packages into ROOT, as a root file system for user 65532, who owns /var/lib/verenc.
# A package that is missing is installed first. Programs, documentation (but for licences) and character
# sets are left out.
set -eu
root=$1
shift
dpkg --status "$@" >/dev/null 2>&1 || {
	apt-get update
	apt-get install --yes --no-install-recommends "$@"
}
mkdir -p "$root/var/lib" "$root/etc/verenc"
for folder in bin sbin lib lib64; do # the merged /usr of Debian
	mkdir -p "$root/usr/$folder"
	ln -s "usr/$folder" "$root/$folder"
done
for package in "$@"; do dpkg --listfiles "$package"; done | sort -u | while read -r file; do
	case $file in
	*/gconv/* | */gconv-modules* | /usr/share/doc/*/changelog* | /usr/share/man/* | /usr/share/lintian/*) continue ;;
	/usr/bin/* | /usr/sbin/* | /usr/share/gcc/python/*) continue ;;
	esac
	if [ -L "$file" ] || [ -f "$file" ]; then echo "$file"; fi
done >/files
tar --create --file=- --files-from=/files 2>/dev/null | tar --extract --directory="$root" --keep-directory-symlink
if [ -e "$root/usr/share/ca-certificates" ]; then # the package makes this file when it is installed
	mkdir -p "$root/etc/ssl/certs"
	cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
fi
echo "root:x:0:0:root:/:/sbin/nologin
verenc:x:65532:65532:Verenc KMS:/var/lib/verenc:/sbin/nologin" >"$root/etc/passwd"
echo "root:x:0:
verenc:x:65532:" >"$root/etc/group"
install -d -m 1777 "$root/tmp"
install -d -o 65532 -g 65532 -m 700 "$root/var/lib/verenc"
