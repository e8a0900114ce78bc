#!/bin/sh
# dpkg calls it with configure and the version before, rpm with the number of installed versions. It starts nothing on a
# new system: there is no configuration, token or database yet.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
if [ "$1" = configure ] && [ -n "$2" ] || [ "$1" = 2 ]; then
	systemctl try-restart verenc.service || echo "verenc: the new version did not start: journalctl -u verenc" >&2
fi
