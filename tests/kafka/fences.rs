//! Fences that are no ACLs of kutover's own, raised by the program, from 3.9.2 to 4.3.1 by size and back again by a command. Each
//! time the controller is killed once it has begun to fence. And what comes late: a topic before the switch, a group while others
//! read; and what never comes: a word of a producer that is dead. Retention is raised meanwhile, and restored by whoever ends it
//! (L11). Before all of that: the ACLs that a plan asks for.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use krafka::Kafka;
use krafka::admin::{AclBinding, AclOperation};
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::{ClusterAdmin as _, Incarnation};
use kutover_core::words::{CONTROL_TOPIC, Colour, MEMBERS_TOPIC, is_reserved_topic};
use kutover_lab::Tools;
use kutover_tests::{Program, command, kutover};
use kutover_tests_kafka::clients::{add_rule, commit, make_topics, remove_rules, try_write, write};
use kutover_tests_kafka::members::Registered;
use kutover_tests_kafka::world::{TwoClusters, client};
use serde_json::Value;

const PLAN: &str = "approve = \"manual\"\nremove_old = false\nwaive_history = \"*\"\nwaive_retention = \"*\"\nwaive_unread = \"*\"\n\
                    converge_deadline = \"4s\"\nquiet_window = \"1s\"\nsoak = \"0s\"\nhold_limit = \"2m\"\ndrain_poll = \"200ms\"\n\
                    command_timeout = \"60s\"\nwatch = \"1s\"\nseparation_head_room = 1000\n";
const RAISED: &str = "raise_retention = \"*\"\n";

/// What users have set on topic `orders`; how much may be kept is the brokers' default, as both are on [`LATE`].
const RETENTION: (&str, &str) = ("retention.ms", "1209600000");
const WITHOUT_LIMIT: [(&str, &str); 2] = [("retention.bytes", "-1"), ("retention.ms", "-1")];

/// Kafka's own tool for ACLs, as 4.3.1 has it.
const ACL_TOOL: &str = "org.apache.kafka.tools.AclCommand";

/// A user's, though its name begins as those of Kafka's own do.
const LATE: &str = "__late";

/// `sh -c`'s script, whose `$0` is the Java launcher, whose `$1` is the class path and whose `$2` is `kafka-acls`' class there.
const COMMAND: &str = include_str!("../../crates/kutover-admin/tests/support/fence.sh");

async fn by_command(tools: &Tools) -> String {
    let class_path = tools.class_path("4.3.1".parse().expect("a version")).await.expect("the tools");
    let java = tools.java.to_str().expect("UTF-8");
    let command = ["sh", "-c", COMMAND, java, &class_path, ACL_TOOL].map(toml_text).join(", ");
    format!("fence = {{ kind = \"exec\", command = [{command}] }}\n\n")
}

/// A JSON text is a TOML one too.
fn toml_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

/// One cutover, whose controller dies while it fences the cluster that is left.
struct Cutover {
    file: String,
    up: Program,
}

impl Cutover {
    fn start(world: &TwoClusters, tables: &str, more: &str, to: Colour) -> Self {
        let path = world.configuration_with(tables, &format!("{PLAN}{more}to = \"{to}\"\n"));
        let file = path.to_str().expect("UTF-8").to_owned();
        let mut up = Program::start(command().args(["up", &file]));
        up.wait_for("approve redirect");
        Self { file, up }
    }

    /// Goes on until the cluster that is left is closed.
    fn close(&mut self) {
        self.up.wait_for("fencing:");
        // Dropped, it is killed.
        self.up = Program::start(command().args(["up", &self.file]));
        self.up.wait_for("draining:");
    }

    fn complete(mut self) {
        let (status, _) = self.up.end();
        assert_eq!(status, Some(0), "{}", self.up.shown());
    }
}

/// What the topics of one cluster have set themselves of retention.
async fn retention(of: &Incarnation) -> BTreeMap<String, BTreeMap<String, String>> {
    let config = AdminConfig { bootstrap: of.bootstrap.clone(), ..AdminConfig::default() };
    let admin = KafkaAdmin::connect(config).await.expect("it answers");
    let topics = admin.topics().await.expect("topics").into_iter();
    let own = topics.filter(|topic| !is_reserved_topic(topic.name.as_str())).map(|topic| {
        let mut own = topic.configs.expect("Kafka tells configs");
        own.retain(|config, _| config.starts_with("retention."));
        (topic.name.to_string(), own)
    });
    own.collect()
}

fn set(topics: &[(&str, &[(&str, &str)])]) -> BTreeMap<String, BTreeMap<String, String>> {
    let own = |(config, value): &(&str, &str)| ((*config).to_owned(), (*value).to_owned());
    topics.iter().map(|(topic, set)| ((*topic).to_owned(), set.iter().map(own).collect())).collect()
}

/// L11: the controller is killed while retention is raised, and the next one, whose plan does not name it any more, gives up.
async fn raised_and_given_up(world: &TwoClusters, tables: &str) {
    let first = Cutover::start(world, tables, RAISED, Colour::Green);
    let raised = set(&[("orders", &WITHOUT_LIMIT)]);
    assert_eq!([retention(&world.blue).await, retention(&world.green).await], [raised.clone(), raised]);
    // Dropped, it is killed.
    drop(first);
    let mut next = Cutover::start(world, tables, "", Colour::Green);
    next.up.say("abort");
    let (status, _) = next.up.end();
    assert!(status == Some(1) && next.up.said.contains("aborted: "), "{status:?}: {}", next.up.shown());
    let left = [retention(&world.blue).await, retention(&world.green).await];
    assert_eq!(left, [set(&[("orders", &[RETENTION])]), set(&[])], "green's topics were this cutover's own");
}

/// L11: whatever was raised is as it was on either cluster.
async fn assert_restored(world: &TwoClusters) {
    let before = set(&[(LATE, &[]), ("orders", &[RETENTION])]);
    assert_eq!([retention(&world.blue).await, retention(&world.green).await], [before.clone(), before]);
}

/// What a plan asks for, by colour: what it is about, and the commands.
async fn asked(world: &TwoClusters) -> Vec<(String, Vec<String>)> {
    let file = world.configuration(PLAN).to_str().expect("UTF-8").to_owned();
    let run = tokio::task::spawn_blocking(move || kutover(&["plan", &file, "--watch", "1", "--json"]));
    let run = run.await.expect("it ran");
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let plan: Value = serde_json::from_str(run.stdout.lines().last().unwrap_or_default()).expect("a plan");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let commands = |one: &Value| one["commands"].as_array().expect("commands").iter().map(text).collect();
    let all = plan["acls_asked"].as_array().expect("ACLs");
    all.iter().map(|one| (text(&one["colour"]), commands(one))).collect()
}

/// Kafka's own tool, where a shell finds it by the name that commands call it by.
fn kafka_acls(directory: &Path) -> String {
    let tool = directory.join("kafka-acls.sh");
    let script = format!(
        "#!/bin/sh\nexec \"$JAVA\" -Xmx96m -XX:TieredStopAtLevel=1 -cp \"$JARS\" {ACL_TOOL} \"$@\"\n"
    );
    std::fs::write(&tool, script).expect("written");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
    format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default())
}

/// The ACLs that a plan asks for on kutover's own topics are had by the commands that it prints, as it prints them; then it asks
/// for none, of green neither, which will be given blue's.
async fn what_is_asked_for_is_had_by_the_commands(world: &TwoClusters, blue: &Kafka, tools: &Tools) {
    let before = asked(world).await;
    let colours: Vec<&str> = before.iter().map(|(colour, _)| colour.as_str()).collect();
    assert_eq!(colours, ["blue", "green"]);
    let path = kafka_acls(world.directory());
    let class_path = tools.class_path("4.3.1".parse().expect("a version")).await.expect("the tools");
    let run = |text: &String| {
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", text]).env("PATH", &path).env("JAVA", &tools.java).env("JARS", &class_path);
        shell
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("a shell")
    };
    let running: Vec<_> = before[0].1.iter().map(run).collect();
    for shell in running {
        let output = shell.wait_with_output().await.expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Whoever asks for the plan here bears none of the names that they let in.
    for topic in [CONTROL_TOPIC, MEMBERS_TOPIC] {
        let describe = AclBinding {
            operation: AclOperation::Describe,
            ..AclBinding::allow_read_topic(topic, "User:ANONYMOUS")
        };
        add_rule(blue, describe).await;
    }
    assert_eq!(asked(world).await, []);
    for topic in [CONTROL_TOPIC, MEMBERS_TOPIC] {
        remove_rules(blue, topic).await;
    }
}

async fn assert_fenced(left: &Kafka) {
    assert!(try_write(left, "orders", 1, 1).await.is_err(), "it takes records");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_by_size_and_back_by_a_command() {
    let test = "there_by_size_and_back_by_a_command";
    let Some(world) = TwoClusters::start(test, "3.9.2", "4.3.1").await else { return };
    let blue = client(&world.blue).await;
    make_topics(&blue, &[("orders", 1, &[RETENTION])]).await;
    write(&blue, "orders", 1, 5).await;
    commit(&blue, "billing", "orders", 1, 0).await;
    let tools = Tools::from_env();
    what_is_asked_for_is_had_by_the_commands(&world, &blue, &tools).await;

    let by_size = "[clusters.blue]\nfence = { kind = \"size\" }\n\n";
    raised_and_given_up(&world, by_size).await;
    let mut there = Cutover::start(&world, by_size, RAISED, Colour::Green);
    make_topics(&blue, &[(LATE, 1, &[])]).await;
    write(&blue, LATE, 1, 1).await;
    // Nobody waives it, and it says no more: it is waited for until the deadline, and then the fence goes up. It has registered
    // before the switch is let begin, or else nobody might be waited for.
    let _dead = Registered::on(&world.blue, 1, "dead").await;
    there.up.say("approve redirect");
    there.up.wait_for("the old cluster's topics have changed; preparing again");
    there.up.wait_for("0 of 1 producers moved, waiting for dead (one that is gone for good");
    there.close();
    assert_fenced(&blue).await;
    commit(&blue, "born-late", LATE, 1, 0).await;
    there.up.wait_for("groups that must read to the end: 2");
    commit(&blue, "billing", "orders", 1, 5).await;
    commit(&blue, "born-late", LATE, 1, 1).await;
    there.complete();
    assert_fenced(&blue).await;
    assert_restored(&world).await;

    let green = client(&world.green).await;
    write(&green, LATE, 1, 1).await;
    write(&green, "orders", 1, 2).await;
    let by_command = format!("[clusters.green]\n{}", by_command(&tools).await);
    let mut back = Cutover::start(&world, &by_command, RAISED, Colour::Blue);
    back.up.say("approve redirect");
    back.close();
    assert_fenced(&green).await;
    write(&blue, "orders", 1, 1).await;
    for group in ["billing", "born-late"] {
        commit(&green, group, "orders", 1, 2).await;
        commit(&green, group, LATE, 1, 1).await;
    }
    back.complete();
    assert_fenced(&green).await;
    assert_restored(&world).await;
}
