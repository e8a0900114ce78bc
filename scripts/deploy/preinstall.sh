#!/bin/sh
# Runs before the files are unpacked, some of which belong to this user.
set -e
getent group verenc >/dev/null || groupadd --system verenc
getent passwd verenc >/dev/null || useradd --system --gid verenc --home-dir /var/lib/verenc --no-create-home \
	--shell /usr/sbin/nologin --comment "Verenc KMS" verenc
