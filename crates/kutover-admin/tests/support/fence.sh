# What an operator would write: it reads the request and leaves the rest to `kafka-acls`, as this machine has it. `$0` is the
# Java launcher, `$1` the class path, `$2` the tool's class.
set -e
request=$(cat)
text() { printf %s "$request" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
list() { printf %s "$request" | sed "s/.*\"$1\":\[\([^]]*\)\].*/\1/" | tr -d '"'; }
topics=$(list topics | sed 's/,/ --topic /g')
acls() {
    "$java" -Xmx96m -XX:TieredStopAtLevel=1 -cp "$jars" "$tool" \
        --bootstrap-server "$(list bootstrap)" --force --topic $topics "$@" >&2
}
java=$0 jars=$1 tool=$2
case $(text act) in
raise)
    acls --add --allow-principal 'User:*' --operation Read --operation Describe --operation DescribeConfigs
    acls --add --deny-principal 'User:*' --operation Write
    ;;
lift) acls --remove ;;
esac
