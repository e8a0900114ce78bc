#!/usr/bin/env bash
# Usage: inside.sh deb|rpm
# Runs as root in a new Debian with systemd, curl, rpm, SoftHSM2 and two versions of the package; see test.sh. It follows
# docs/install.md.
set -euo pipefail
cd /release-test
format=$1

step() { echo "release-test: $*"; }
fail() {
	echo "release-test: $*"
	systemctl status --no-pager --lines=0 verenc || true
	journalctl --no-pager -n 30 -u verenc || true
	exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
property() { systemctl show --value --property="$1" verenc; }

# kms sends a signed request: an operation and its JSON.
kms() {
	curl --silent --show-error --fail-with-body --config credentials --aws-sigv4 aws:amz:us-east-1:kms \
		--header "X-Amz-Target: TrentService.$1" --header "Content-Type: application/x-amz-json-1.1" --data "$2" \
		http://127.0.0.1:8600/
}

# Debian's rpm has no database of Debian's packages, and so can't see that what the package needs is there.
case $format in
deb)
	add() { dpkg --install "$1.deb"; }
	remove() { dpkg --remove verenc; }
	installed() { dpkg-query --show --showformat '${Version}' verenc; }
	;;
rpm)
	add() { rpm --upgrade --nodeps --verbose "$1.rpm"; }
	remove() { rpm --erase --verbose verenc; }
	installed() { rpm --query --queryformat '%{VERSION}' verenc; }
	# Names that RHEL and Fedora have.
	needs=$(rpm --query --package --requires first.rpm 2>/dev/null | grep -v '^rpmlib(' | sed 's/ .*//' | sort -u | paste -sd ' ')
	[ "$needs" = "glibc shadow-utils" ] || fail "the package requires $needs"
	;;
esac

step "install the .$format"
add first
[ "$(stat -c '%U:%G %a' /etc/verenc /etc/verenc/verenc.yaml /var/lib/verenc)" = $'root:verenc 750\nroot:verenc 640\nverenc:verenc 700' ] ||
	fail "owners and modes: $(stat -c '%n %U:%G %a' /etc/verenc /etc/verenc/verenc.yaml /var/lib/verenc)"
[ "$(property ActiveState) $(property UnitFileState)" = "inactive disabled" ] || fail "it started by itself"
verenc --version
[ -e /usr/share/man/man1/verenc-serve.1.gz ] || [ -e /usr/share/man/man1/verenc-serve.1 ] || fail "no manual"
[ "$format" = deb ] || rpm --verify --nodeps verenc || fail "installed files differ from the package's"
bash -c '. /usr/share/bash-completion/completions/verenc && complete -p verenc' >/dev/null

step "set up"
cp /usr/share/doc/verenc/examples/softhsm2.conf /etc/verenc/
echo SOFTHSM2_CONF=/etc/verenc/softhsm2.conf >>/etc/default/verenc
install -m 600 /dev/stdin /etc/verenc/pin <<<1234-5678
install -d -o verenc -g verenc -m 700 /var/lib/verenc/tokens
verenc-admin softhsm2-util --init-token --free --label verenc --so-pin 8765-4321 --pin 1234-5678
verenc-admin init --credentials /var/lib/verenc/first-access-key
verenc-admin doctor >doctor || { cat doctor; fail "doctor"; }
verenc-admin version | grep -q 'token library .*libsofthsm2.so' || fail "version does not tell the library"
sed -n 's/^aws_access_key_id *= *\(.*\)$/\1/p; s/^aws_secret_access_key *= *\(.*\)$/\1/p' /var/lib/verenc/first-access-key |
	paste -sd: | sed 's/.*/user = "&"/' >credentials

step start
systemctl enable --now verenc
[ "$(property ActiveState)" = active ] || fail "not active"
curl --silent --fail http://127.0.0.1:8601/readyz
curl --silent --fail http://127.0.0.1:8601/metrics | grep -q '^verenc_token_connected 1' || fail "metrics"
key=$(kms CreateKey '{"Description":"of the test"}' | sed -n 's/.*"KeyId":"\([^"]*\)".*/\1/p')
[ -n "$key" ] || fail "no key"
kms GenerateDataKeyWithoutPlaintext "{\"KeyId\":\"$key\",\"KeySpec\":\"AES_256\"}" | grep -q CiphertextBlob || fail "no data key"
echo "key $key"

step upgrade
echo '# changed by the operator' >>/etc/verenc/verenc.yaml
before=$(property MainPID)
add next
[ "$(installed)" = 9999.0.0 ] || fail "the version is $(installed)"
[ "$(property ActiveState)" = active ] && [ "$(property MainPID)" != "$before" ] || fail "the new version does not run"
grep -q 'changed by the operator' /etc/verenc/verenc.yaml || fail "the configuration was replaced"
kms DescribeKey "{\"KeyId\":\"$key\"}" | grep -q '"KeyState":"Enabled"' || fail "the key is gone"

step "a server that hangs"
mkdir -p /run/systemd/system/verenc.service.d
printf '[Service]\nWatchdogSec=5s\nRestartSec=1s\n' >/run/systemd/system/verenc.service.d/test.conf
systemctl daemon-reload
systemctl restart verenc
restarts=$(property NRestarts)
kill -STOP "$(property MainPID)"
for _ in $(seq 120); do
	[ "$(property NRestarts)" = "$restarts" ] || [ "$(property ActiveState)" != active ] || break
	sleep 1
done
[ "$(property NRestarts)" -gt "$restarts" ] || fail "systemd did not restart it"
kms DescribeKey "{\"KeyId\":\"$key\"}" >/dev/null

step "a wrong PIN"
rm /run/systemd/system/verenc.service.d/test.conf
systemctl daemon-reload
install -m 600 /dev/stdin /etc/verenc/pin <<<0000-0000
if systemctl restart verenc; then fail "it accepts a wrong PIN"; fi
[ "$(property ExecMainStatus) $(property ActiveState)" = "4 failed" ] || fail "it is started again with the wrong PIN"
install -m 600 /dev/stdin /etc/verenc/pin <<<1234-5678
systemctl restart verenc

step remove
remove
[ "$(property ActiveState)" != active ] || fail "it still runs"
[ ! -e /usr/bin/verenc ] && [ ! -e /etc/systemd/system/multi-user.target.wants/verenc.service ] ||
	fail "remove leaves the program or the unit"
case $format in
deb)
	[ -e /etc/verenc/verenc.yaml ] || fail "remove removes the configuration"
	step purge
	dpkg --purge verenc
	;;
rpm) grep -q 'changed by the operator' /etc/verenc/verenc.yaml.rpmsave || fail "remove removes a changed configuration" ;;
esac
[ ! -e /etc/verenc/verenc.yaml ] || fail "the configuration is left"
[ -e /var/lib/verenc/verenc.db ] && getent passwd verenc >/dev/null || fail "the database or its owner is gone"
touch passed
