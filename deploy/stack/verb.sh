#!/bin/sh
# Runs one verb of the stack in the environment that `make setup` makes; where there is none, says what comes next.
set -u
home=.holdfast
verb=$1

told() { # told CODE WORDS: for a person, or as the object that FORMAT=json asks for
    ok=false
    [ "$1" -ne 0 ] || ok=true
    if [ "${FORMAT:-}" = json ]; then printf '{"ok": %s, "said": "%s", "steps": []}\n' "$ok" "$2"; else echo "$2" >&2; fi
    exit "$1"
}
installed() { # holdfast.stamp is written last; our own packages follow it
    [ -e $home/venv/holdfast.stamp ] && ls -d $home/venv/lib/python3*/site-packages/holdfast/usertoken >/dev/null 2>&1
}

installed && exec $home/venv/bin/python -m deploy.stack "$verb"
if [ -d $home/state ]; then # never guess at data whose programs are missing
    told 1 "The environments in $home are incomplete: an installation was broken off. make setup mends them, then: make $verb"
fi
case $verb in
down) told 0 "Nothing is installed here, so nothing runs." ;;
clean)
    rm -rf "$(readlink -f $home)" $home
    told 0 "There was no stack here; the environments are removed."
    ;;
*) told 1 "Nothing is installed here yet: make up installs what is missing and starts everything." ;;
esac
