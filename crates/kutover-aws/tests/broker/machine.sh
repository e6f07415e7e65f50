#!/usr/bin/env bash
# Stands for what an instance has and this machine has not, under the name that it is called by: packages, a user, a
# volume, the service manager, AWS's own commands. Below KUTOVER_ROOT are the instance's files; `calls` lists what was
# called, `volume` is what outlives the instance, `buckets` is S3.
set -Eeuo pipefail

root="$KUTOVER_ROOT"
name="$(basename "$0")"

# Runs a command until it ends or the test does, however that ends: the test holds the other end of descriptor 3. A line
# that comes on it asks the command to end in good order, for which it has a minute.
attended() {
    local status=0 command watcher
    "$@" &
    command=$!
    {
        if read -r _; then
            kill -TERM "$command"
            read -r -t 60 _ || true
        fi
        kill -KILL "$command"
    } <&3 2>/dev/null &
    watcher=$!
    wait "$command" || status=$?
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    return "$status"
}

# What the unit file says, with nothing of what surrounds the one who asked for it.
service() {
    local unit="$root/etc/systemd/system/kafka.service" command environment user
    command="$(sed -n 's/^ExecStart=//p' "$unit")"
    environment="$(sed -n 's/^Environment=//p' "$unit")"
    user="$(sed -n 's/^User=//p' "$unit")"
    mountpoint -q "$(sed -n 's/^RequiresMountsFor=//p' "$unit")"
    id "$user" >/dev/null
    # shellcheck disable=SC2086 # words, as the service manager takes them
    attended bash -c 'echo "$$" >"$0"; exec env -i "$@"' "$root/run/kafka" PATH="$PATH" $environment $command \
        </dev/null >>"$root/kafka.log" 2>&1 || true
    rm "$root/run/kafka"
}

unknown() {
    echo "$name: this machine does not know: $*" >&2
    exit 2
}

# The instance begins: its standard output stays open for as long as anything of it runs.
if [ "$name" = boot ]; then
    exec 3<&0 4>&1 </dev/null >>"$root/boot.log" 2>&1
    attended "$root/user-data"
    exit
fi

echo "$name $*" >>"$root/calls"
volume="$root/volume"
case "$name $*" in
    "dnf install -y -q java-17-amazon-corretto-headless") ;;
    "dnf install -y -q aws-cfn-bootstrap")
        mkdir -p "$root/opt/aws/bin"
        ln -sf "$root/bin/machine" "$root/opt/aws/bin/cfn-signal"
        ;;
    "id kafka") [ -e "$root/etc/user-kafka" ] ;;
    "useradd --system "*" kafka") touch "$root/etc/user-kafka" ;;
    "runuser -u kafka -- "*)
        shift 3
        exec "$@"
        ;;
    "chown -R kafka: "*) id kafka ;;
    "blkid $root/dev/sdf") [ -e "$volume/formatted" ] ;;
    "blkid -s UUID -o value $root/dev/sdf") cat "$volume/formatted" ;;
    "mkfs.xfs -q $root/dev/sdf")
        rm -rf "$volume/files"
        mkdir "$volume/files"
        echo 8f2c-6b11 >"$volume/formatted"
        ;;
    "mountpoint -q "*) [ -L "$2" ] ;;
    "mount "*)
        grep -qxF "UUID=$(cat "$volume/formatted") $1 xfs noatime 0 2" "$root/etc/fstab"
        rmdir "$1"
        ln -s "$volume/files" "$1"
        ;;
    "aws s3 cp --region "*" --only-show-errors s3://"*) cp "$root/buckets/${6#s3://}" "$7" ;;
    "aws elbv2 wait target-in-service --region "*" --target-group-arn arn:"*" --targets Id="*",Port="*)
        # As its health check does.
        target="${9#Id=}"
        : 2>/dev/null <>"/dev/tcp/${target%,Port=*}/${target#*,Port=}"
        ;;
    "cfn-signal --region "*) ;;
    "systemctl daemon-reload") ;;
    "systemctl enable --now kafka")
        [ -e "$root/run/kafka" ] && exit
        touch "$root/run/kafka"
        service >/dev/null 2>&1 &
        ;;
    *) unknown "$@" ;;
esac
