#!/bin/sh
# dpkg calls it with remove or purge, rpm with a number. /var/lib/verenc stays even when the package is purged: without
# the database the keys in the token can't be used, and the audit log is evidence. So the user stays as well, whose
# number must not be given to somebody else.
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ "$1" = purge ] && [ -d /var/lib/verenc ]; then
	echo "verenc: database and audit log are still in /var/lib/verenc" >&2
fi
