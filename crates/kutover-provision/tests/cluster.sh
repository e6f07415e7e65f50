#!/bin/sh
# A cluster that is a few files in $STATE: what an operator's own command does, as small as it can be.
set -eu
request=$(cat)
field() { printf '%s' "$request" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
act=$(field act)
here="$STATE/$(field colour)-$(field suffix)"
printf '%s\n' "$request" >>"$STATE/requests"

describe() {
    [ -f "$here/id" ] || { echo '{"incarnation": null}'; return; }
    [ ! -f "$STATE/slow" ] || { echo '{"pending": "it is being made"}'; return; }
    cat <<JSON
{"incarnation": {
  "id": "$(cat "$here/id")", "cluster_id": "$(cat "$here/cluster-id")",
  "bootstrap": ["clients.test:9092"], "controller_bootstrap": ["controller.test:9092"],
  "endpoint": {"addresses": ["127.0.0.2", "127.0.0.1"]}
}}
JSON
}

case $act in
provision)
    if [ -f "$here/id" ] && [ "$(cat "$here/request")" != "$(field request)" ]; then
        echo '{"refused": "another request made what stands there"}'
        exit
    fi
    if [ ! -f "$here/id" ]; then
        mkdir -p "$here"
        field request >"$here/request"
        echo "cluster-of-$(field request)" >"$here/cluster-id"
        echo "$(field deployment)-$(field suffix)-$$" >"$here/id"
        echo "made it" >&2
    fi
    describe
    ;;
describe) describe ;;
isolate)
    touch "$here/isolation-$(field nonce)"
    echo '{}'
    ;;
put-back)
    rm -f "$here/isolation-$(field nonce)"
    echo '{}'
    ;;
destroy)
    if [ "$(field incarnation)" = "$(cat "$here/id")" ]; then
        if [ "$(field cluster_id)" != "$(cat "$here/cluster-id")" ]; then
            echo '{"refused": "another cluster lives there"}'
            exit
        fi
        rm -r "$here"
    fi
    echo '{}'
    ;;
*)
    echo "no such act: $act" >&2
    exit 2
    ;;
esac
