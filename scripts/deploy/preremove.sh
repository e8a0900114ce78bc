#!/bin/sh
# dpkg calls it with remove or upgrade, rpm with the number of versions that stay. An upgrade does not stop the server:
# postinstall restarts it.
set -e
if [ "$1" = remove ] || [ "$1" = 0 ]; then
	[ ! -d /run/systemd/system ] || systemctl disable --now verenc.service
fi
