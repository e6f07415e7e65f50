# What makes an instance a broker, once, at its first start; cluster.yaml puts what it needs into the environment.
# Each step can be done again. With a word as its argument it does that step alone.
set -Eeuo pipefail

# Everything is looked for and written below this; empty on an instance.
root="${KUTOVER_ROOT:-}"
home="$root/opt/kafka"
data="$root/var/lib/kafka"
properties="$root/etc/kafka/server.properties"
volume="$root/dev/sdf"

# The address of the broker with an id.
address_of() {
    echo "$BROKER_ADDRESSES" | cut -d, -f"$(($1 + 1))"
}

# The id of the stack, in Kafka's way of writing ids: all brokers of one incarnation share it, and no other does.
cluster_id() {
    local hex
    hex="$(echo "${STACK_ID##*/}" | tr -d '-')"
    printf '%b' "$(echo "$hex" | sed 's/../\\x&/g')" | base64 | tr '/+' '_-' | tr -d '='
}

install() {
    dnf install -y -q java-17-amazon-corretto-headless
    id kafka >/dev/null 2>&1 || useradd --system --home-dir "$data" --shell /sbin/nologin kafka
    aws s3 cp --region "$REGION" --only-show-errors "$ARCHIVE" "$home.tgz"
    echo "$ARCHIVE_SHA512  $home.tgz" | sha512sum --check --quiet
    mkdir -p "$home"
    tar -xzf "$home.tgz" -C "$home" --strip-components 1
    rm "$home.tgz"
}

# The volume is attached after the instance has started. It is formatted only if there is nothing on it.
mount_data() {
    for _ in $(seq 300); do
        [ -e "$volume" ] && break
        sleep 2
    done
    blkid "$volume" >/dev/null || mkfs.xfs -q "$volume"
    mkdir -p "$data"
    grep -q " $data " "$root/etc/fstab" ||
        echo "UUID=$(blkid -s UUID -o value "$volume") $data xfs noatime 0 2" >>"$root/etc/fstab"
    mountpoint -q "$data" || mount "$data"
    mkdir -p "$data/log"
    chown -R kafka: "$data"
}

# Until it has read the ACLs from the quorum's log, StandardAuthorizer lets in super users alone, and without votes there
# is no quorum: controllers that are nobody to each other wait for ever. So they have a name on their own listener, and
# nobody has it elsewhere: clients stay bound by ACLs. The password keeps nobody out. The security group does, which lets
# brokers alone reach that port.
quorum() {
    local user=kutover-quorum password
    password="$(cluster_id)"
    echo "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    echo "super.users=User:$user"
    echo "sasl.mechanism.controller.protocol=PLAIN"
    echo "listener.name.controller.sasl.enabled.mechanisms=PLAIN"
    echo "listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule" \
        "required username=\"$user\" password=\"$password\" user_$user=\"$password\";"
}

configure() {
    local address brokers
    address="$(address_of "$BROKER_ID")"
    brokers="$(echo "$BROKER_ADDRESSES" | tr ',' '\n' | wc -l)"
    # A topic of its own on each of three brokers, or on as many as there are.
    local copies=$((brokers < 3 ? brokers : 3))
    local protocols="CLIENT:PLAINTEXT,KUTOVER:PLAINTEXT,REPLICATION:PLAINTEXT"
    local listeners="CLIENT://$address:9092,KUTOVER://$address:9094,REPLICATION://$address:9095"
    mkdir -p "$(dirname "$properties")"
    {
        echo "log.dirs=$data/log"
        echo "inter.broker.listener.name=REPLICATION"
        echo "advertised.listeners=$listeners"
        echo "auto.create.topics.enable=false"
        echo "default.replication.factor=$copies"
        echo "offsets.topic.replication.factor=$copies"
        echo "transaction.state.log.replication.factor=$copies"
        echo "min.insync.replicas=$((copies > 1 ? copies - 1 : 1))"
        echo "transaction.state.log.min.isr=$((copies > 1 ? copies - 1 : 1))"
        echo "unclean.leader.election.enable=false"
        # What has no ACL is open to everybody: an authorizer is there for the fence, which is made of ACLs.
        echo "allow.everyone.if.no.acl.found=true"
        if [ -n "$ZOOKEEPER_CONNECT" ]; then
            echo "broker.id=$BROKER_ID"
            # This stack's alone, below its colour's: what an earlier one has left there Kafka would take for its own.
            echo "zookeeper.connect=$ZOOKEEPER_CONNECT/Kafka$SUFFIX/${STACK_ID##*/}"
            echo "listeners=$listeners"
            echo "listener.security.protocol.map=$protocols"
            echo "authorizer.class.name=kafka.security.authorizer.AclAuthorizer"
        else
            local voters="" id
            for id in $(seq 0 $((copies - 1))); do
                voters="$voters${voters:+,}$id@$(address_of "$id"):9096"
            done
            echo "node.id=$BROKER_ID"
            echo "controller.quorum.voters=$voters"
            echo "controller.listener.names=CONTROLLER"
            echo "listener.security.protocol.map=$protocols,CONTROLLER:SASL_PLAINTEXT"
            quorum
            if [ "$BROKER_ID" -lt "$copies" ]; then
                echo "process.roles=broker,controller"
                echo "listeners=$listeners,CONTROLLER://$address:9096"
            else
                echo "process.roles=broker"
                echo "listeners=$listeners"
            fi
        fi
        echo "$SERVER_PROPERTIES" | tr ';' '\n'
    } >"$properties"
}

# What a restart brings back; systemd starts it again if it dies, with the same data.
start() {
    if [ -z "$ZOOKEEPER_CONNECT" ]; then
        # In one word with its option: an id may begin with a dash.
        runuser -u kafka -- "$home/bin/kafka-storage.sh" format --ignore-formatted \
            --cluster-id="$(cluster_id)" --config "$properties"
    fi
    cat >"$root/etc/systemd/system/kafka.service" <<UNIT
[Unit]
Description=Apache Kafka $KAFKA_VERSION
After=network-online.target
RequiresMountsFor=$data

[Service]
User=kafka
Environment=LOG_DIR=$data/server-log
ExecStart=$home/bin/kafka-server-start.sh $properties
Restart=on-failure
TimeoutStopSec=300
LimitNOFILE=100000

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable --now kafka
}

# It serves when it answers for itself, and, if it is one of the load balancer's targets, when that says so too.
serve() {
    local address
    address="$(address_of "$BROKER_ID")"
    for _ in $(seq 300); do
        "$home/bin/kafka-broker-api-versions.sh" --bootstrap-server "$address:9094" >/dev/null 2>&1 && break
        sleep 2
    done
    "$home/bin/kafka-broker-api-versions.sh" --bootstrap-server "$address:9094" >/dev/null
    if [ "$BROKER_ID" -lt 3 ]; then
        aws elbv2 wait target-in-service --region "$REGION" --target-group-arn "$TARGET_GROUP" --targets "Id=$address,Port=9092"
    fi
}

say() {
    "$root/opt/aws/bin/cfn-signal" --region "$REGION" --stack "$STACK_ID" --resource "Serving$BROKER_ID" "$@"
}

case "${1:-all}" in
    all)
        dnf install -y -q aws-cfn-bootstrap
        step=begin
        trap 'say --success false --reason "broker $BROKER_ID: step $step failed; see /var/log/cloud-init-output.log"' ERR
        for step in install mount_data configure start serve; do
            "$step"
        done
        say --success true
        ;;
    *) "$1" ;;
esac
