#!/bin/sh
# Installs the Debian packages that are missing, without letting them start anything; with "dev" also what tests need.
# Prints one line and ends with 1 when it may not install. Knows apt only: elsewhere, install the same programs by hand.
set -eu

missing=""
need() { # need PACKAGE TEST…: the package is wanted unless the test succeeds
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
server() { ls /usr/lib/postgresql/1[5-9]/bin/initdb /usr/lib/postgresql/[2-9][0-9]/bin/initdb 2>/dev/null | grep -q .; }

need postgresql server
need pgbackrest command -v pgbackrest
need python3-venv /usr/bin/python3 -c 'import ensurepip, venv'
need util-linux command -v setpriv
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
if [ "${1:-}" = dev ]; then
    need curl command -v curl           # the README's examples are tests
    need prometheus command -v promtool # so are the alert rules
    need pgbouncer test -x /usr/sbin/pgbouncer # the queue has to work behind one
fi

[ -n "$missing" ] || exit 0
# Without postgresql-common's word a cluster would be made and started; the word is a file, and it is removed again if it is ours.
quiet='mkdir -p /etc/postgresql-common/createcluster.d && echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/holdfast.conf'
# The packages' own services would begin at the next boot and listen; the stack and the tests run their own.
idle=":"
for service in prometheus pgbouncer; do
    case $missing in *" $service"*) idle="$idle; service $service stop; update-rc.d $service disable" ;; esac
done
if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing:$missing. This is no Debian: install PostgreSQL 15 or newer, pgBackRest, Python with venv, and util-linux." >&2
    echo "Tests also need curl, PgBouncer and promtool, which comes with Prometheus." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then
    echo "Debian packages are missing:$missing. sudo will ask for your password." >&2
    as_root="sudo"
else
    echo "Debian packages are missing. Run this line as root, then the same make again:" >&2
    echo "    sh -c '$quiet; apt-get update && apt-get install -y --no-install-recommends$missing; $idle; rm -f /etc/postgresql-common/createcluster.d/holdfast.conf'" >&2
    exit 1
fi

echo "installing Debian packages:$missing" >&2
$as_root sh -c "$quiet"
policy=/usr/sbin/policy-rc.d
log=$(mktemp "${TMPDIR:-/tmp}/holdfast-packages-XXXXXX")
made=""
began=$(date +%s)
if [ ! -e "$policy" ]; then # 101 tells every package to start no daemon
    $as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
    made=yes
fi
restore() {
    [ -z "$made" ] || $as_root rm -f "$policy"
    $as_root rm -f /etc/postgresql-common/createcluster.d/holdfast.conf
}
trap restore EXIT
trap 'echo "broken off: the same make goes on from here" >&2; exit 130' INT TERM
quietly() { # quietly COMMAND…: its words are kept, and shown only when it fails
    $as_root env DEBIAN_FRONTEND=noninteractive "$@" >>"$log" 2>&1 && return
    tail -n 20 "$log" >&2
    echo "$* failed; all of it: $log. Once that is mended, run make again." >&2
    exit 1
}
quietly dpkg --configure -a # what an earlier run left half done
quietly apt-get update -qq
# shellcheck disable=SC2086 # a list of words
quietly apt-get install -y -qq --no-install-recommends $missing
quietly sh -c "$idle"
rm -f "$log"
printf '  %-56s ok   %6.1f s\n' "Debian packages" "$(($(date +%s) - began))" >&2
