//! `kutover plan` on real Apache Kafka, with what makes a plan be refused.

mod all;
mod groups;
mod traffic;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use krafka::admin::{
    AclBinding, AclOperation, AlterClientQuotasOptions, AlterUserScramCredentialsOptions,
    ClientQuotaAlteration, ClientQuotaEntity, ConfigOp, ConfigResource, IncrementalAlterConfigsOptions,
};
use krafka::{Kafka, Record};
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::{ClusterAdmin as _, Incarnation};
use kutover_core::words::TopicName;
use kutover_lab::Tools;
use kutover_testkit::conformance::survey;
use kutover_tests::{Run, kutover};
use kutover_tests_kafka::clients::{add_rule, commit, make_topics, write};
use kutover_tests_kafka::raw::RawBroker;
use kutover_tests_kafka::world::{TwoClusters, client};
use serde_json::Value;

use self::traffic::Traffic;

/// Runs the plan, and gives it with the exit status.
async fn plan(file: &Path) -> (Value, Option<i32>) {
    let file = file.to_str().expect("UTF-8").to_owned();
    let run = tokio::task::spawn_blocking(move || kutover(&["plan", &file, "--watch", "2", "--json"]));
    let run = run.await.expect("it ran");
    let last = run.stdout.lines().last().unwrap_or_default();
    let plan: Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("no plan ({error}): {}", run.stderr));
    assert_eq!((plan["schema"].as_str(), run.stdout.lines().count()), (Some("kutover.plan/1"), 1));
    (plan, run.status)
}

/// Code and subject of every refusal.
fn refusals(plan: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let all = plan["refusals"].as_array().expect("refusals");
    all.iter().map(|refusal| (text(&refusal["code"]), text(&refusal["subject"]))).collect()
}

/// What was not answered. A topic that has an ACL is not even listed to whoever it does not name.
fn unknown(plan: &Value) -> Vec<&str> {
    let all = plan["unknown"].as_array().expect("unknown");
    all.iter().filter_map(|one| one["what"].as_str()).collect()
}

fn named(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    pairs.iter().map(|(code, subject)| ((*code).to_owned(), (*subject).to_owned())).collect()
}

/// Quota, SCRAM user and an ACL on a topic of its own, so that nobody else is bound by it.
async fn access(kafka: &Kafka) {
    let admin = kafka.admin();
    let entity = ClientQuotaEntity([("user".to_owned(), Some("alice".to_owned()))].into());
    let limit = ClientQuotaAlteration::new(entity, vec![("producer_byte_rate".to_owned(), Some(1000.0))]);
    let quotas = admin.alter_client_quotas(vec![limit], AlterClientQuotasOptions::default()).await;
    quotas.expect("an answer").into_values().for_each(|answer| answer.expect("the quota is set"));
    let alice = krafka::admin::ScramCredentialUpsertion {
        name: "alice".to_owned(),
        mechanism: krafka::auth::ScramMechanism::Sha512,
        iterations: 4096,
        salt: vec![7; 16].into(),
        salted_password: vec![8; 64].into(),
    };
    let options = AlterUserScramCredentialsOptions::default();
    let users = admin.alter_user_scram_credentials(vec![], vec![alice], options).await.expect("an answer");
    users.into_values().for_each(|answer| answer.expect("the user is made"));
    add_rule(kafka, AclBinding::allow_read_topic("private", "User:alice")).await;
}

/// A topic that kutover may not be told of would be neither made, nor fenced, nor drained: there is no plan until it may.
async fn no_plan_over_what_is_hidden(world: &TwoClusters, kafka: &Kafka) {
    let (blind, status) = plan(&world.configuration("")).await;
    assert_eq!((blind["outcome"].as_str(), status), (Some("unreachable"), Some(4)), "{blind}");
    let why = blind["clusters"][0]["unreachable"].as_str().unwrap_or_default();
    assert!(why.contains("may not describe a topic of the name `private`"), "{blind}");
    let all = AclBinding {
        principal: "User:ANONYMOUS".to_owned(),
        operation: AclOperation::All,
        ..AclBinding::allow_read_topic("private", "User:alice")
    };
    add_rule(kafka, all).await;
}

/// A transaction in a partition that no coordinator knows of. From 3.6 brokers look whether they do (KIP-890), unless
/// they are told not to.
async fn hang(kafka: &Kafka, broker: &str, verifies: bool, place: (&'static str, i32)) {
    if verifies {
        let off = ConfigOp::set("transaction.partition.verification.enable", "false");
        let change = (ConfigResource::broker_default(), vec![off]);
        let options = IncrementalAlterConfigsOptions::default();
        let answers = kafka.admin().incremental_alter_configs([change], options).await.expect("an answer");
        answers.into_values().for_each(|answer| answer.expect("it is switched off"));
    }
    // Looks the coordinator up, which makes its topic.
    let known = kafka.producer().build_transactional("ghost").await.expect("a producer");
    known.close().await.expect("closed");
    let broker = broker.to_owned();
    let hanging = tokio::task::spawn_blocking(move || {
        // An hour old: without coordinators to ask, age is all that tells.
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3_600);
        let since = an_hour_ago.duration_since(UNIX_EPOCH).expect("after 1970");
        let at = i64::try_from(since.as_millis()).expect("a time");
        let until = Instant::now() + Duration::from_secs(60);
        // What was switched off is known to the broker a moment later.
        loop {
            let mut broker = RawBroker::connect(&broker).expect("a connection");
            let id = broker.init_producer_id("ghost").expect("a producer id");
            match broker.write_unannounced(place, "ghost", id, at) {
                Ok(()) => return,
                Err(error) => assert!(Instant::now() < until, "it is not written: {error}"),
            }
        }
    });
    hanging.await.expect("it hangs");
}

/// The old cluster of both tests.
async fn spoil(world: &TwoClusters, verifies: bool) -> Kafka {
    let kafka = client(&world.blue).await;
    let gone: &[(&str, &str)] = &[("message.downconversion.enable", "false"), ("retention.ms", "86400000")];
    make_topics(
        &kafka,
        &[
            ("orders", 2, gone),
            ("state", 1, &[("cleanup.policy", "compact")]),
            ("_schemas", 1, &[("cleanup.policy", "compact")]),
            ("audit", 1, &[]),
            ("private", 1, &[]),
            ("pay", 2, &[]),
            // Kafka 4 takes no less than 1 MiB. The topics before and after it are sound.
            ("narrow", 1, &[("segment.bytes", "524288")]),
            ("counts-store-changelog", 1, &[("cleanup.policy", "compact")]),
        ],
    )
    .await;
    write(&kafka, "orders", 2, 50).await;
    write(&kafka, "state", 1, 5).await;
    for (group, topic, partitions, offset) in [
        ("billing", "orders", 2, 20),
        ("billing", "state", 1, 5),
        ("counts", "private", 1, 0),
        ("billing", "pay", 2, 0),
        ("billing", "narrow", 1, 0),
    ] {
        commit(&kafka, group, topic, partitions, offset).await;
    }
    access(&kafka).await;
    no_plan_over_what_is_hidden(world, &kafka).await;
    hang(&kafka, &world.blue.bootstrap[0], verifies, ("pay", 1)).await;
    kafka
}

/// Nobody reads past it, however long one waits; the command that is named ends it, and then it is drained.
async fn a_hanging_transaction_is_no_drain(world: &TwoClusters, kafka: &Kafka) {
    // Where somebody pays at the same time, that is another partition.
    commit(kafka, "auditing", "pay", 2, 0).await;
    let file = world
        .configuration("topics = [\"pay\"]\nwaive_groups = [\"billing\"]")
        .to_str()
        .expect("UTF-8")
        .to_owned();
    let drain = async || {
        let file = file.clone();
        let run = tokio::task::spawn_blocking(move || kutover(&["drain", &file, "--every", "1", "--json"]));
        run.await.expect("it ran")
    };
    let in_the_way = |run: &Run| {
        let mut lines =
            run.stderr.lines().filter(|line| line.contains("group auditing, topic pay, partition 1: "));
        lines.next().map(str::to_owned)
    };
    let run = drain().await;
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    let why = in_the_way(&run).unwrap_or_else(|| panic!("{}", run.stderr));
    let (_, command) = why.split_once("to end it: ").unwrap_or_else(|| panic!("{why}"));
    end_it(&command.replace("BROKER", &world.blue.bootstrap[0])).await;
    let until = Instant::now() + Duration::from_secs(60);
    while let Some(why) = in_the_way(&drain().await) {
        assert!(Instant::now() < until, "{why}");
    }
}

/// Runs what the operator is told to run, with the newest tools: brokers before 3.0 came without.
async fn end_it(command: &str) {
    let tools = Tools::from_env();
    let class_path = tools.class_path("4.3.1".parse().expect("a version")).await.expect("the tools");
    let mut program = tokio::process::Command::new(&tools.java);
    program.args(["-Xmx128m", "-cp", &class_path, "org.apache.kafka.tools.TransactionsCommand"]);
    let output = program.args(command.split_whitespace().skip(1)).output().await.expect("it runs");
    assert!(output.status.success(), "`{command}`: {}", String::from_utf8_lossy(&output.stderr));
}

/// What must be there whatever the old version.
fn assert_compared(plan: &Value) {
    let topics: BTreeSet<&str> = plan["create"]
        .as_array()
        .expect("topics")
        .iter()
        .filter_map(|topic| topic["name"].as_str())
        .collect();
    assert_eq!(topics.len(), 8, "{topics:?}");
    let configs = plan["configs"].as_array().expect("configs");
    let find = |name: &str| {
        configs.iter().find(|one| one["config"] == name).unwrap_or_else(|| panic!("{name} in {configs:?}"))
    };
    let gone = find("message.downconversion.enable");
    assert_eq!((gone["why"].as_str(), gone["topics"][0].as_str()), (Some("not-known"), Some("orders")));
    let access = &plan["access"];
    assert_eq!(access["scram_users"]["alice"][0], "SCRAM-SHA-512", "{access}");
    let principals = access["acls"].as_array().into_iter().flatten().map(|rule| &rule["principal"]);
    assert_eq!(principals.collect::<Vec<_>>(), ["User:ANONYMOUS", "User:alice"], "{access}");
    let quota = &access["quotas"][0];
    assert_eq!(
        (quota["entity"].as_str(), quota["value"].as_f64()),
        (Some("user alice"), Some(1000.0)),
        "{access}"
    );
    let billing = plan["groups"].as_array().expect("groups").iter().find(|group| group["group"] == "billing");
    let billing = billing.expect("billing");
    assert_eq!((billing["state"].as_str(), billing["protocol"].as_str()), (Some("Empty"), Some("classic")));
    let setting = |name: &str| {
        let all = plan["brokers"].as_array().expect("settings");
        all.iter().find(|one| one["config"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    assert_eq!(setting("auto.create.topics.enable")["new"][0], "false");
    assert_eq!(setting("min.insync.replicas")["old"][0], "1");
}

/// Neither cluster has ACLs on kutover's own topics, and Apache Kafka keeps to itself what that comes to.
fn assert_asked(plan: &Value) {
    let asked = plan["acls_asked"].as_array().expect("ACLs");
    assert_eq!(asked.len(), 2, "{asked:?}");
    for (asked, cluster) in asked.iter().zip(plan["clusters"].as_array().expect("clusters")) {
        assert_eq!(asked["colour"], cluster["colour"]);
        let topics = asked["topics"].as_array().expect("topics");
        let stands: Vec<_> =
            topics.iter().map(|one| (one["topic"].as_str(), one["stands"].as_str())).collect();
        let (control, members) = (Some("kutover.control"), Some("kutover.members"));
        let expected = [(control, Some("open")), (control, Some("shut")), (members, Some("shut"))];
        assert_eq!(stands, expected, "{asked}");
        let told = topics[0]["reason"].as_str().expect("text");
        assert!(
            told.contains("the brokers do not all tell the same of allow.everyone.if.no.acl.found"),
            "{told}"
        );
        let broker = cluster["brokers"][0].as_str().expect("an address");
        let command = format!("kafka-acls.sh --bootstrap-server {broker} --add");
        assert!(asked["commands"][0].as_str().is_some_and(|one| one.starts_with(&command)), "{asked}");
    }
}

/// Everything that blue's plan is refused over, whatever its version.
const REFUSED: [(&str, &str); 17] = [
    ("history", "audit"),
    ("history", "counts-store-changelog"),
    ("history", "narrow"),
    ("history", "orders"),
    ("history", "pay"),
    ("history", "private"),
    ("history", "state"),
    ("schemas", "_schemas"),
    ("streams", "counts"),
    ("unread-topic", "audit"),
    ("hanging-transaction", "topic pay, partition 1"),
    ("parity", "narrow"),
    ("retention", "billing"),
    ("scram-user", "alice"),
    ("transactions", "ghost"),
    ("transactions", "pay-1"),
    ("transactions", "transactions"),
];

/// A plan that is waived in every point, on the topics without the hanging transaction.
const WAIVED: &str = "waive_streams = [\"counts\"]\ntopics = [\"orders\", \"state\", \"audit\"]\nwaive_history = [\"orders\", \"state\", \"audit\", \"pay\", \"narrow\", \"private\", \
     \"_schemas\", \"counts-store-changelog\"]\nwaive_unread = \"*\"\nwaive_groups = [\"billing\"]\nwaive_transactions = \"*\"\n\
     [clusters.green.scram_users]\nalice = \"never shown\"";

/// What waives it is taken out of [`WAIVED`], or what it is about is put in: nothing else is found, in the same world.
const ALONE: [(&str, &str, (&str, &str)); 11] = [
    ("topics = [", "topics = [\"narrow\", ", ("parity", "narrow")),
    ("\"audit\", \"pay\"", "\"pay\"", ("history", "audit")),
    (", \"private\", \"_schemas\"", ", \"private\"", ("history", "_schemas")),
    (
        "\"audit\"]\nwaive_history = [\"orders\", \"state\", \"audit\", \"pay\", \"narrow\", \"private\", \"_schemas\"",
        "\"audit\", \"_schemas\"]\nwaive_history = [\"orders\", \"state\", \"audit\", \"pay\", \"narrow\", \"private\"",
        ("schemas", "_schemas"),
    ),
    ("waive_unread = \"*\"", "waive_unread = [\"orders\", \"state\"]", ("unread-topic", "audit")),
    (
        "waive_streams = [\"counts\"]\ntopics = [",
        "topics = [\"counts-store-changelog\", ",
        ("streams", "counts"),
    ),
    ("waive_groups = [\"billing\"]", "", ("retention", "billing")),
    ("waive_transactions = \"*\"", "waive_transactions = [\"ghost\"]", ("transactions", "pay-1")),
    ("alice = \"never shown\"", "", ("scram-user", "alice")),
    ("topics = [", "topics = [\"pay\", ", ("hanging-transaction", "topic pay, partition 1")),
    ("topics = [\"orders\", \"state\", \"audit\"]", "topics = [\"missing\"]", ("nothing-moves", "plan")),
];

async fn each_alone(world: &TwoClusters) {
    for (waived, instead, expected) in ALONE {
        assert!(WAIVED.contains(waived), "{waived}");
        let (plan, status) = plan(&world.configuration(&WAIVED.replacen(waived, instead, 1))).await;
        assert_eq!((refusals(&plan), status), (named(&[expected]), Some(3)), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_3_9_2_to_4_3_1() {
    let Some(world) = TwoClusters::start("from_3_9_2_to_4_3_1", "3.9.2", "4.3.1").await else { return };
    let kafka = spoil(&world, true).await;
    // It stays open for as long as the slowest machine may look.
    let paying = kafka.producer().transaction_timeout(Duration::from_secs(600));
    let paying = paying.build_transactional("pay-1").await.expect("a producer");
    paying.begin().expect("begin");
    let _stored = paying.send(Record::new("pay", "1").partition(0)).await.expect("stored");
    let traffic = Traffic::start(&kafka, 50).await;
    let path = world.configuration("");
    let ((refused, status), told) = tokio::join!(plan(&path), traffic::text(&path));
    let (ready, ready_status) = plan(&world.configuration(WAIVED)).await;
    traffic.stop().await;

    assert_eq!((refused["outcome"].as_str(), status), (Some("refused"), Some(3)), "{refused}");
    let listed = |pair: &&(&str, &str)| pair.1 != "transactions";
    let expected: Vec<_> = REFUSED.iter().filter(listed).copied().collect();
    assert_eq!(refusals(&refused), named(&expected), "{refused}");
    assert_compared(&refused);
    assert_asked(&refused);
    let after = refused["configs"]
        .as_array()
        .expect("configs")
        .iter()
        .find(|one| one["config"] == "message.timestamp.after.max.ms");
    let after = after.unwrap_or_else(|| panic!("{refused}"));
    assert_eq!((after["new"].as_str(), after["weaker"].as_bool()), (Some("3600000"), Some(true)), "{after}");
    let open: BTreeSet<_> = refused["transactions"]
        .as_array()
        .expect("transactions")
        .iter()
        .map(|one| (one["coordinator"].as_str().expect("text"), one["hangs"].as_bool().expect("told")))
        .collect();
    assert_eq!(open, [("forgotten", true), ("known", false)].into(), "{refused}");
    assert!(
        refused["producers"]["orders"]["active"].as_array().is_some_and(|active| active.len() == 1),
        "{refused}"
    );
    assert!(unknown(&refused).is_empty(), "{refused}");

    assert_eq!((refusals(&ready), ready_status), (named(&[]), Some(0)), "{ready}");
    assert_eq!(ready["outcome"], "ready");
    traffic::assert_figures(&refused, &ready);
    assert_eq!(told.1, Some(3), "{}", told.0);
    traffic::assert_told(&told.0, &refused);

    up_does_not_begin(&world).await;
    each_alone(&world).await;
    a_hanging_transaction_is_no_drain(&world, &kafka).await;
    let blue = admin(&world.blue).await;
    looks_keep_their_contract(&kafka, &world.blue, &blue).await;
    groups::kinds_of_groups(&world).await;
    limits_of_one_side(&world, &kafka).await;
    let (unreachable, status) = plan(&unreachable(&world)).await;
    assert_eq!((unreachable["outcome"].as_str(), status), (Some("unreachable"), Some(4)), "{unreachable}");
    all::leaving_blue(&world, &kafka).await;
}

/// L6: topics that green has already. What only one cluster sets is held against the other's default.
async fn limits_of_one_side(world: &TwoClusters, kafka: &Kafka) {
    let compacted: &[(&str, &str)] = &[("cleanup.policy", "compact")];
    let large: &[(&str, &str)] = &[("max.message.bytes", "10485760")];
    make_topics(kafka, &[("kept", 1, compacted), ("large", 1, large), ("short", 1, &[])]).await;
    let green = client(&world.green).await;
    let hour: &[(&str, &str)] = &[("retention.ms", "3600000")];
    make_topics(&green, &[("kept", 1, &[]), ("large", 1, &[]), ("short", 1, hour)]).await;
    let config = WAIVED
        .replacen(
            "topics = [\"orders\", \"state\", \"audit\"]",
            "topics = [\"kept\", \"large\", \"short\"]",
            1,
        )
        .replacen("waive_history = [", "waive_history = [\"kept\", \"large\", \"short\", ", 1);
    let (plan, status) = plan(&world.configuration(&config)).await;
    let expected = [("parity", "kept"), ("parity", "large"), ("parity", "short")];
    assert_eq!((refusals(&plan), status), (named(&expected), Some(3)), "{plan}");
    let all = plan["refusals"].as_array().expect("refusals");
    for said in [
        "topic kept: cleanup.policy is `compact` on the old cluster and `delete` on the new cluster",
        "topic large: max.message.bytes is `10485760` on the old cluster and only `1048588` on the new cluster",
        "topic short: retention.ms is `604800000` on the old cluster and only `3600000` on the new cluster",
    ] {
        assert!(
            all.iter().any(|one| one["reason"].as_str().is_some_and(|it| it.starts_with(said))),
            "{all:?}"
        );
    }
}

async fn admin(of: &Incarnation) -> KafkaAdmin {
    let config = AdminConfig { bootstrap: of.bootstrap.clone(), ..AdminConfig::default() };
    KafkaAdmin::connect(config).await.expect("it answers")
}

async fn looks_keep_their_contract(kafka: &Kafka, of: &Incarnation, admin: &KafkaAdmin) {
    let topic = TopicName::new("audit");
    survey::looking_changes_nothing(admin, admin, &topic).await;
    survey::what_does_not_answer_is_an_error(admin, &"missing".into()).await;
    let change = async || {
        let change = (ConfigResource::topic("audit"), vec![ConfigOp::set("retention.ms", "86400001")]);
        let options = IncrementalAlterConfigsOptions::default();
        let answers = kafka.admin().incremental_alter_configs([change], options).await.expect("an answer");
        answers.into_values().for_each(|answer| answer.expect("it is set"));
    };
    survey::configs_are_read_after_the_call(admin, &topic, "retention.ms", change).await;
    survey::every_address_is_tried(admin, &of.bootstrap[0], "127.0.0.1:1").await;
}

/// What the plan is refused over, `up` is refused over as well, before it has touched green.
async fn up_does_not_begin(world: &TwoClusters) {
    let path = world.configuration("watch = \"1s\"\nhold_limit = \"1s\"");
    let text = std::fs::read_to_string(&path).expect("read");
    let file = path.with_file_name("up.toml");
    std::fs::write(&file, text.replace("orders.journal", "up.journal")).expect("written");
    let file = file.to_str().expect("UTF-8").to_owned();
    let run = tokio::task::spawn_blocking(move || kutover(&["up", "--json", &file])).await.expect("it ran");
    let report: Value = serde_json::from_str(run.stdout.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("no report ({error}): {}", run.stderr));
    assert_eq!((report["outcome"].as_str(), run.status), (Some("aborted"), Some(1)), "{report}");
    let reason = report["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("SCRAM user alice") && reason.contains("which `kutover plan` names"), "{reason}");
    assert_eq!(admin(&world.green).await.topics().await.expect("topics"), [], "green was not touched");
}

/// The same plan with a green that nobody listens for.
fn unreachable(world: &TwoClusters) -> std::path::PathBuf {
    let path = world.configuration("");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, text.replace(&world.green.bootstrap[0], "127.0.0.1:1")).expect("written");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_2_8_2_to_4_3_1() {
    let Some(world) = TwoClusters::start("from_2_8_2_to_4_3_1", "2.8.2", "4.3.1").await else { return };
    let kafka = spoil(&world, false).await;
    let (refused, status) = plan(&world.configuration("")).await;
    assert_eq!(status, Some(3), "{refused}");
    // Before 3.0 nobody can list transactional ids: that they are not known is said, and refused over.
    let unlisted = |pair: &&(&str, &str)| pair.0 != "transactions" || pair.1 == "transactions";
    let expected: Vec<_> = REFUSED.iter().filter(unlisted).copied().collect();
    assert_eq!(refusals(&refused), named(&expected), "{refused}");
    assert_compared(&refused);
    assert_asked(&refused);
    assert_eq!(unknown(&refused), ["transactional ids"], "{refused}");
    let (ready, status) = plan(&world.configuration(WAIVED)).await;
    assert_eq!((refusals(&ready), status), (named(&[]), Some(0)), "{ready}");
    a_hanging_transaction_is_no_drain(&world, &kafka).await;
    survey::a_missing_call_is_unsupported(&admin(&world.blue).await).await;
}
