//! What a cutover by the program waits for on real Kafka, 3.9.2 to 4.3.1: for producer ids to be apart, for green to have what
//! came to blue after it was prepared, for a producer that is dead, for everybody to be heard again where the members topic
//! could not be read, or was cut; for partitions that are born late to be read; what waits for the cutover: a pipeline, until its
//! group is released; and what no removal goes over: a topic that was born late, a record behind blue's closed end. Then, after
//! the way back, another cutover, without a fence.

use std::time::Duration;

use krafka::admin::{
    AclBinding, AclOperation, AclPermissionType, AclResourceType, AlterClientQuotasOptions,
    ClientQuotaAlteration, ClientQuotaEntity, ConfigOp, ConfigResource, CreatePartitionsOptions,
    DeleteRecordsOptions, DeleteTopicsOptions, IncrementalAlterConfigsOptions, TopicPartition,
};
use krafka::consumer::GroupProtocol;
use krafka::{Kafka, Record};
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::{ClusterAdmin as _, Incarnation, ProducerIds as _};
use kutover_core::words::MEMBERS_TOPIC;
use kutover_testkit::until;
use kutover_tests::{Program, command};
use kutover_tests_kafka::clients::{
    BOUND, add_rule, commit, make_topics, read_as, remove_rules, try_write, write,
};
use kutover_tests_kafka::members::Registered;
use kutover_tests_kafka::world::{TwoClusters, client};
use serde_json::Value;

/// Whatever goes on by itself does not do so because producers' time is over.
const PLAN: &str = "approve = \"manual\"\nwaive_history = \"*\"\nwaive_retention = \"*\"\n\
                    converge_deadline = \"10m\"\nquiet_window = \"500ms\"\nsoak = \"0s\"\nhold_limit = \"5m\"\n\
                    drain_poll = \"200ms\"\nwatch = \"1s\"\nseparation_head_room = 1000\n";

/// More than the default, which is what a topic without it has.
const LARGE: &str = "2097152";
/// In Kafka's protocol: the end that readers get to.
const END: i64 = -1;
/// A topic that is born on blue while it is left.
const BORN_LATE: &str = "late";

async fn set(kafka: &Kafka, topic: &str, config: &str, value: &str) {
    let change = (ConfigResource::topic(topic), vec![ConfigOp::set(config, value)]);
    let options = IncrementalAlterConfigsOptions::default();
    let answers = kafka.admin().incremental_alter_configs([change], options).await.expect("an answer");
    answers.into_values().for_each(|answer| answer.expect("it is set"));
}

/// A group that alice may read in, which is nobody else's, and how much she may write.
async fn let_in_alice(kafka: &Kafka) {
    let rule = AclBinding {
        resource_type: AclResourceType::Group,
        ..AclBinding::allow_read_topic("private", "User:alice")
    };
    add_rule(kafka, rule).await;
    let entity = ClientQuotaEntity([("user".to_owned(), Some("alice".to_owned()))].into());
    let limit = ClientQuotaAlteration::new(entity, vec![("producer_byte_rate".to_owned(), Some(1000.0))]);
    let quotas = kafka.admin().alter_client_quotas(vec![limit], AlterClientQuotasOptions::default()).await;
    quotas.expect("an answer").into_values().for_each(|answer| answer.expect("the quota is set"));
}

async fn admin(of: &Incarnation) -> KafkaAdmin {
    let config = AdminConfig { bootstrap: of.bootstrap.clone(), ..AdminConfig::default() };
    KafkaAdmin::connect(config).await.expect("it answers")
}

/// Whether alice has the rule and the quota there.
async fn knows_alice(of: &Incarnation) -> (bool, bool) {
    let access = admin(of).await.access().await.expect("told");
    let alice = [("user".to_owned(), Some("alice".to_owned()))].into();
    let rate =
        access.quotas.expect("quotas").get(&alice).and_then(|own| own.get("producer_byte_rate").copied());
    (access.acls.expect("rules").iter().any(|rule| rule.principal == "User:alice"), rate == Some(1000.0))
}

/// Deletes all that stands in the members topic, which takes a policy that is not kutover's.
async fn cut_members(kafka: &Kafka) {
    set(kafka, MEMBERS_TOPIC, "cleanup.policy", "compact,delete").await;
    let cut = async || {
        let before = [(TopicPartition::new(MEMBERS_TOPIC, 0), END)];
        let answers = kafka.admin().delete_records(before, DeleteRecordsOptions::default()).await;
        // What was set is known to the log a moment later.
        answers.expect("an answer").into_values().all(|answer| answer.is_ok()).then_some(())
    };
    until("the members topic to be cut", BOUND, cut).await;
}

/// Gives `orders` so many partitions, and has an ordinary producer write so many records to the last one.
async fn grow(of: &Incarnation, to: i32, records: usize) {
    let kafka = client(of).await;
    let options = CreatePartitionsOptions::default();
    let grown = kafka.admin().create_partitions([("orders", to)], options).await.expect("an answer");
    grown.into_values().for_each(|answer| answer.expect("it grows"));
    let admin = admin(of).await;
    let led = async || {
        let ends = admin.ends(&["orders".into()]).await.ok()?;
        (ends.len() == usize::try_from(to).expect("a count")).then_some(())
    };
    until("its new leader", BOUND, led).await;
    // One that has not known the topic as it was.
    let producer = client(of).await.producer().metrics_push(false).build().await;
    let producer = producer.expect("a producer");
    for n in 0..records {
        let record = Record::new("orders", format!("{n}")).partition(to - 1);
        let _stored = producer.send(record).await.expect("stored");
    }
    producer.close().await.expect("closed");
}

/// The newest id of its only broker.
async fn newest(admin: &KafkaAdmin) -> u64 {
    let newest = admin.newest().await.expect("ids").into_values().next();
    newest.expect("a broker").expect("its id")
}

/// The mark in a line that says that ids are separated.
fn mark(line: &str) -> u64 {
    let (_, mark) = line.split_once("all start above ").expect("a mark");
    mark.trim().parse().expect("a number")
}

/// L16: to separate green's ids takes more of them than are allowed, and then longer than a person waits.
async fn ids_are_far_apart(world: &TwoClusters) {
    let room = "separation_head_room = 1000\n";
    let start = |instead: &str| {
        let path = world.configuration(&PLAN.replace(room, instead));
        Program::start(command().args(["up", path.to_str().expect("UTF-8")]))
    };
    let mut up = start(&format!("{room}separation_limit = 1000\n"));
    let held = up.wait_for("more than the 1000 that are allowed");
    assert!(held.contains("hold: passing producer id ") && held.contains(" ids, about 1 s, "), "{held}");
    // Dropped, it is killed. The next one is allowed more, and would be at it for many minutes.
    drop(up);
    let mut up = start("separation_head_room = 15000000\n");
    up.wait_for("using up producer ids up to ");
    up.say("abort");
    let (status, _) = up.end();
    assert!(status == Some(1) && up.said.contains("aborted: "), "{status:?}: {}", up.shown());
    assert!(!up.said.contains("producer ids are separated"), "{}", up.shown());
}

/// L16: after the switch clients of blue use up its head-room, and what green has given out by then. So green's ids have to be
/// raised once more, behind the fence. Gives the mark before.
async fn head_room_is_used_up(world: &TwoClusters, up: &Program) -> u64 {
    let (blue, green) = (admin(&world.blue).await, admin(&world.green).await);
    let before = up.said.lines().rev().find(|line| line.contains("producer ids are separated"));
    let (before, there) = (mark(before.expect("they are")), newest(&green).await);
    let passed = async || {
        blue.pass(there + 1).await.expect("ids");
        (newest(&blue).await > there.max(before)).then_some(())
    };
    until("blue's ids to pass green's", BOUND, passed).await;
    before
}

/// L6: green was prepared before these came to blue. What it can be given it is given, over the rest the switch is held.
async fn what_changes_before_the_switch(world: &TwoClusters, blue: &Kafka, up: &mut Program) {
    let_in_alice(blue).await;
    grow(&world.blue, 2, 3).await;
    set(blue, "orders", "max.message.bytes", LARGE).await;
    assert_eq!(knows_alice(&world.green).await, (false, false), "it was not prepared before");
    up.say("approve redirect");
    up.wait_for("topic orders: max.message.bytes is `2097152` on the old cluster and only `1048588`");
    assert!(!up.said.contains("generation 2 is green"), "{}", up.shown());
    set(&client(&world.green).await, "orders", "max.message.bytes", LARGE).await;
    up.wait_for("generation 2 is green");
    assert!(up.said.contains("the old cluster's topics have changed; preparing again"), "{}", up.shown());
    let ends = admin(&world.green).await.ends(&["orders".into()]).await.expect("ends");
    assert_eq!(ends.len(), 2, "the partition that was born late");
    assert_eq!(knows_alice(&world.green).await, (true, true), "the rule and the quota");
}

/// L8: what members say may not be read, though they may say it. Nobody counts as moved, and what holds the cutover is said
/// until it may.
async fn nobody_is_heard(world: &TwoClusters, blue: &Kafka, up: &mut Program) {
    let rule = |operation, permission_type| AclBinding {
        operation,
        permission_type,
        ..AclBinding::allow_read_topic(MEMBERS_TOPIC, "User:ANONYMOUS")
    };
    // The denial alone would make it a topic that has ACLs, and shut out those who write as well.
    add_rule(blue, rule(AclOperation::All, AclPermissionType::Allow)).await;
    add_rule(blue, rule(AclOperation::Read, AclPermissionType::Deny)).await;
    // What was read before is known. A broker still answers what it was asked before it knew of the denial.
    let mut speaks = Registered::on(&world.blue, 1, "gone").await;
    let speaking = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            speaks.beat().await;
        }
    });
    up.wait_for("hold: read topic kutover.members: ");
    speaking.abort();
    assert!(!up.said.contains("fencing:"), "{}", up.shown());
    remove_rules(blue, MEMBERS_TOPIC).await;
    up.wait_for("goes on");
}

/// L9, L12: after the switch, and before the fence, a topic is given another partition, and another topic is made. Ordinary
/// producers write to both.
async fn what_is_born_after_the_switch(world: &TwoClusters, blue: &Kafka) {
    grow(&world.blue, 3, 3).await;
    make_topics(blue, &[(BORN_LATE, 1, &[])]).await;
    write(blue, BORN_LATE, 1, 1).await;
}

/// L8: two producers say that they are on blue, and no more. One is dead, which the operator knows, and one asleep. Then the
/// topic in which they said so is cut, and a controller begins that has not read it before.
async fn who_is_dead(
    world: &TwoClusters,
    blue: &Kafka,
    mut up: Program,
    [gone, asleep]: &mut [Registered; 2],
) -> Program {
    up.wait_for("0 of 2 producers moved, waiting for asleep, gone (one that is gone for good");
    assert!(!up.said.contains("fencing:"), "{}", up.shown());
    nobody_is_heard(world, blue, &mut up).await;
    what_is_born_after_the_switch(world, blue).await;
    let before = head_room_is_used_up(world, &up).await;
    // Dropped, it is killed.
    drop(up);
    cut_members(blue).await;
    let path = world.configuration(&format!("{PLAN}waive_members = [\"gone\"]\n"));
    let mut up = Program::start(command().args(["up", path.to_str().expect("UTF-8")]));
    up.wait_for("messages were deleted from it");
    // An empty topic is not one in which everybody has moved: these live, and say all of themselves again.
    gone.beat().await;
    asleep.beat().await;
    up.wait_for("0 of 1 producers moved, waiting for asleep (");
    assert!(!up.said.contains("fencing:"), "{}", up.shown());
    asleep.move_to(&world.green, 2).await;
    up.wait_for("1 of 1 producers moved");
    up.wait_for("fencing:");
    up.wait_for("using up producer ids up to ");
    let again = mark(&up.wait_for("producer ids are separated: "));
    let (blue, green) = (newest(&admin(&world.blue).await).await, newest(&admin(&world.green).await).await);
    assert!(before < again && blue < again && again <= green, "{before}, then {again}: {blue} and {green}");
    up
}

/// L9: a group is done with a topic once it has read the partitions that were born before the switch and after it.
async fn partitions_that_were_born_late_are_read(blue: &Kafka, waits: &mut Program) {
    waits.wait_for("group billing, topic orders, partition 0: 3 records unread");
    commit(blue, "billing", "orders", 1, 3).await;
    waits.wait_for("group billing, topic orders, partition 1: no commit, 3 records unread");
    commit(blue, "billing", "orders", 2, 3).await;
    waits.wait_for("group billing, topic orders, partition 2: no commit, 3 records unread");
}

/// L12: a topic that was born after the switch was neither fenced nor read. It is named, and nothing is asked for before somebody
/// has seen to it, as is done here by reading it and taking it away.
async fn a_topic_that_was_born_late_is_named(blue: &Kafka, up: &mut Program) {
    up.wait_for("hold: topic late was made on the old cluster after it was closed");
    assert!(!up.said.contains("approve removal"), "{}", up.shown());
    commit(blue, "auditing", BORN_LATE, 1, 0).await;
    let read = read_as(blue, ("auditing", GroupProtocol::Classic), BORN_LATE, 1).await;
    assert_eq!(read, [0], "nothing of it is lost");
    let deleted = blue.admin().delete_topics([BORN_LATE], DeleteTopicsOptions::default()).await;
    deleted.expect("an answer").into_values().for_each(|answer| answer.expect("deleted"));
}

/// L12: somebody takes blue's fence away by hand, and a record comes behind its closed end, while a person is asked for the
/// removal. It is named when it comes, blue is not removed over it, and on the way back it is read.
async fn what_comes_behind_the_closed_end(
    world: &TwoClusters,
    blue: &Kafka,
    up: &mut Program,
    on_green: &mut Registered,
) {
    up.wait_for("approve removal");
    remove_rules(blue, "orders").await;
    // Brokers know it a moment later.
    until("blue to take a record", BOUND, async || try_write(blue, "orders", 1, 1).await.ok()).await;
    up.wait_for(
        "1 records came to the old cluster behind its closed ends, the first on topic orders, partition 0",
    );
    up.say("approve removal");
    up.wait_for("not removed: topic orders, partition 0: closed at 3, but the log goes on to 4");
    assert!(try_write(blue, "orders", 1, 1).await.is_err(), "the fence stands again");
    // What green has by then blue is given under its fence.
    grow(&world.green, 4, 0).await;
    up.say("rollback");
    up.wait_for("generation 3 is blue");
    let ends = admin(&world.blue).await.ends(&["orders".into()]).await.expect("ends");
    assert_eq!(ends.len(), 4, "{ends:?}");
    on_green.move_to(&world.blue, 3).await;
    let (status, _) = up.end();
    assert!(status == Some(1) && up.said.contains("rolled-back: asked for"), "{status:?}: {}", up.shown());
    let read = read_as(blue, ("billing", GroupProtocol::Classic), "orders", 1).await;
    assert_eq!(read, [3], "billing goes on with it");
}

/// L8, L16: the next cutover, without a fence. Blue's clients have used up ids past all that any generation gave out, and green's
/// are raised above those. Who has moved is told by members alone, the end by a quiet window, and a person says yes to the rest.
async fn there_once_more_without_a_fence(world: &TwoClusters, blue: &Kafka, asleep: &mut Registered) {
    let (on_blue, on_green) = (admin(&world.blue).await, admin(&world.green).await);
    let highest = newest(&on_green).await.max(newest(&on_blue).await);
    let passed = async || {
        on_blue.pass(highest + 1).await.expect("ids");
        (newest(&on_blue).await > highest).then_some(())
    };
    until("blue's ids to pass all others", BOUND, passed).await;
    // Green stands fenced since it was left, and is given what blue has by now.
    grow(&world.blue, 5, 0).await;
    let path = world.configuration(&format!("{PLAN}fence = \"waived\"\nwaive_members = [\"gone\"]\n"));
    let mut up = Program::start(command().args(["up", "--again", path.to_str().expect("UTF-8")]));
    let mark = mark(&up.wait_for("producer ids are separated: "));
    let (old, new) = (newest(&on_blue).await, newest(&on_green).await);
    assert!(
        highest < old && old < mark && mark <= new,
        "{highest} of all, {old} of blue, {mark}, {new} of green"
    );
    up.wait_for("approve redirect");
    up.say("approve redirect");
    up.wait_for("generation 4 is green");
    let green = client(&world.green).await;
    write(&green, "orders", 1, 2).await;
    write(blue, "orders", 1, 1).await;
    up.wait_for("0 of 1 producers moved, waiting for asleep (");
    assert!(!up.said.contains("fencing:"), "{}", up.shown());
    asleep.move_to(&world.green, 4).await;
    up.wait_for("1 of 1 producers moved");
    up.wait_for("generation 3 closed: 5 partitions, ");
    up.wait_for("group billing, topic orders, partition 0: 1 records unread");
    let (classic, modern) = (("billing", GroupProtocol::Classic), ("billing", GroupProtocol::Consumer));
    assert_eq!(read_as(blue, classic, "orders", 1).await, [4], "what came to blue last");
    up.wait_for("no fence keeps producer/gone/run from writing to the old cluster");
    up.say("approve removal");
    let (status, _) = up.end();
    assert_eq!(status, Some(0), "{}", up.shown());
    assert!(!up.said.contains("fence proven"), "{}", up.shown());
    assert_eq!(read_as(&green, modern, "orders", 2).await, [0, 1], "and green from its start");
    let ends = on_blue.ends(&["orders".into()]).await.expect("ends");
    let ends: Vec<i64> = ends.iter().map(|end| end.high_watermark.0).collect();
    assert_eq!(ends, [5, 3, 3, 0, 0], "all of it was read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_waits_for_what_changes_for_the_dead_and_for_whom_it_cannot_hear() {
    let test = "a_cutover_waits_for_what_changes_for_the_dead_and_for_whom_it_cannot_hear";
    let Some(world) = TwoClusters::start(test, "3.9.2", "4.3.1").await else { return };
    let blue = client(&world.blue).await;
    make_topics(&blue, &[("orders", 1, &[])]).await;
    write(&blue, "orders", 1, 3).await;
    commit(&blue, "billing", "orders", 1, 0).await;

    ids_are_far_apart(&world).await;
    let path = world.configuration(PLAN);
    let file = path.to_str().expect("UTF-8");
    let mut up = Program::start(command().args(["up", file]));
    up.wait_for("approve redirect");
    let told = world.directory().join("told");
    let script = format!("echo deployed; echo $KUTOVER_GROUP $KUTOVER_COLOUR > '{}'; exit 7", told.display());
    let hook = ["--", "sh", "-c", &script];
    let mut waits =
        Program::start(command().args(["wait-group", file, "billing", "--every", "1", "--json"]).args(hook));
    waits.wait_for("group billing waits: ");

    let mut both =
        [Registered::on(&world.blue, 1, "gone").await, Registered::on(&world.blue, 1, "asleep").await];
    what_changes_before_the_switch(&world, &blue, &mut up).await;
    let mut up = who_is_dead(&world, &blue, up, &mut both).await;

    partitions_that_were_born_late_are_read(&blue, &mut waits).await;
    assert!(!told.exists(), "what follows the release was run");
    commit(&blue, "billing", "orders", 3, 3).await;
    waits.wait_for("group billing goes on to green");
    let (status, shown) = waits.end();
    assert_eq!(status, Some(7), "the command's own status: {}", waits.shown());
    let lines: Vec<&str> = shown.lines().collect();
    let ["deployed", report] = lines[..] else { panic!("the object is not the last line: {shown}") };
    let report: Value = serde_json::from_str(report).expect("one object");
    assert_eq!((&report["released"], &report["colour"]), (&Value::from(true), &Value::from("green")));
    assert_eq!(std::fs::read_to_string(&told).expect("the hook ran").trim(), "billing green");
    let [_, asleep] = &mut both;
    a_topic_that_was_born_late_is_named(&blue, &mut up).await;
    what_comes_behind_the_closed_end(&world, &blue, &mut up, asleep).await;
    there_once_more_without_a_fence(&world, &blue, asleep).await;
}
