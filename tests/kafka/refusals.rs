//! What a plan is refused over by the program on real Kafka, 3.9.2 to 4.3.1, and is not about topics, groups or transactions
//! (those are in `plan`): which clusters these are, who is let in, whether they can be reached; and how long
//! commits and records are kept. Each alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use krafka::Kafka;
use krafka::admin::{AclBinding, AclPermissionType, AclResourceType, CreateTopicsOptions, NewTopic};
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::ports::{ClusterAdmin as _, ClusterIdentity, Incarnation};
use kutover_core::words::Colour;
use kutover_tests::{Run, kutover};
use kutover_tests_kafka::clients::{add_rule, commit, make_topics, remove_rules, write};
use kutover_tests_kafka::world::{TwoClusters, client};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

/// With these nothing is refused.
const WAIVED: &str = "waive_history = \"*\"\nwaive_retention = \"*\"\nwaive_unread = \"*\"\nwaive_super_users = \"*\"\n\
                      waive_transactions = \"*\"\n\
                      waive_replicas = [\"twofold\"]\n\
                      hold_limit = \"1s\"\nwatch = \"1s\"\n";
/// What a group reads that is never done.
const SLOW: &str = "slow";
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

async fn run(file: &Path, arguments: &'static [&'static str]) -> Run {
    let file = file.to_str().expect("UTF-8").to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let (command, options) = arguments.split_first().expect("a command");
        kutover(&[&[*command, &*file], options].concat())
    });
    run.await.expect("it ran")
}

/// A plan that looks for so long that on a slow machine too a group is seen to read meanwhile, and the exit status.
async fn long_plan(file: &Path) -> (Value, Option<i32>) {
    told(run(file, &["plan", "--watch", "5", "--json"]).await)
}

fn told(run: Run) -> (Value, Option<i32>) {
    let last = run.stdout.lines().last().unwrap_or_default();
    let plan = serde_json::from_str(last).unwrap_or_else(|error| panic!("no plan ({error}): {}", run.stderr));
    (plan, run.status)
}

/// Code, subject and reason of every refusal of a plan, and the exit status.
async fn plan(file: &Path) -> (Vec<[String; 3]>, Option<i32>) {
    let (plan, status) = told(run(file, &["plan", "--watch", "1", "--json"]).await);
    (refusals(&plan), status)
}

fn refusals(plan: &Value) -> Vec<[String; 3]> {
    let word = |value: &Value| value.as_str().expect("text").to_owned();
    let refusals = plan["refusals"].as_array().expect("refusals").iter();
    refusals.map(|one| ["code", "subject", "reason"].map(|part| word(&one[part]))).collect()
}

/// Asserts that the plan is refused over this, and over nothing else.
async fn refused(file: &Path, code: &str, subject: &str, said: &str) {
    let (refusals, status) = plan(file).await;
    let [[its_code, its_subject, reason]] = &refusals[..] else { panic!("{code} alone: {refusals:#?}") };
    assert_eq!((its_code.as_str(), its_subject.as_str(), status), (code, subject, Some(3)));
    assert!(reason.contains(said), "{reason}");
}

/// The configuration under which the plan is ready, with changes.
fn changed(world: &TwoClusters, changes: &[(&str, &str)]) -> PathBuf {
    let path = world.configuration(WAIVED);
    let text = std::fs::read_to_string(&path).expect("read");
    let change = |text: String, (from, to): &(&str, &str)| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replace(from, to)
    };
    std::fs::write(&path, changes.iter().fold(text, change)).expect("written");
    path
}

/// Green denies somebody what blue does not.
async fn a_deny_of_greens_own(world: &TwoClusters, green: &Kafka) {
    let rule = AclBinding {
        // Of a group: a topic of which an ACL speaks would have to be told to kutover too.
        resource_type: AclResourceType::Group,
        permission_type: AclPermissionType::Deny,
        ..AclBinding::allow_read_topic("private", "User:mallory")
    };
    add_rule(green, rule).await;
    refused(&changed(world, &[]), "access", "green", "User:mallory").await;
    remove_rules(green, "private").await;
}

async fn identity(of: &Incarnation) -> ClusterIdentity {
    let bootstrap = of.bootstrap.clone();
    let admin = KafkaAdmin::connect(AdminConfig { bootstrap, ..AdminConfig::default() }).await;
    admin.expect("it answers").identity().await.expect("an identity")
}

async fn one_cluster_behind_both_colours(world: &TwoClusters) {
    let id = identity(&world.blue).await.cluster_id;
    // By another of its listeners: the same address twice is a slip of the pen, which no plan is made of.
    let (green, blue) = (&world.green.bootstrap[0], &world.blue.controller_bootstrap[0]);
    refused(&changed(world, &[(green, blue)]), "same-cluster", id.as_str(), "both colours lead to").await;
}

/// Where brokers tell their clients to connect to is another address than the controller comes by.
fn by_two_ways(world: &TwoClusters) -> PathBuf {
    let path = changed(world, &[]);
    world.by_two_ways(&path, Colour::Green);
    path
}

/// Starts green anew, so that it sends its clients there.
async fn sends_clients_to(world: &TwoClusters, address: &str) {
    let internal = &world.green.controller_bootstrap[0];
    let advertised = format!("CLIENTS://{address},INTERNAL://{internal}");
    world.restart(Colour::Green, &[("advertised.listeners", advertised)]).await;
}

async fn brokers_that_nobody_reaches(world: &TwoClusters) {
    sends_clients_to(world, NOWHERE).await;
    refused(&by_two_ways(world), "unreachable-broker", NOWHERE, "green sends its clients to").await;
}

/// L5: the clusters are two, and green leads its clients to a broker of blue.
async fn a_broker_that_both_clusters_lead_to(world: &TwoClusters) {
    let ClusterIdentity { cluster_id, brokers, .. } = identity(&world.blue).await;
    let shared = brokers.first().expect("a broker");
    sends_clients_to(world, shared).await;
    let said = format!("both clusters send clients to the broker {shared}");
    refused(&by_two_ways(world), "same-cluster", cluster_id.as_str(), &said).await;
}

async fn a_green_that_makes_topics_by_itself(world: &TwoClusters) {
    let advertised =
        format!("CLIENTS://{},INTERNAL://{}", world.green.bootstrap[0], world.green.controller_bootstrap[0]);
    let makes = ("auto.create.topics.enable", "true".to_owned());
    world.restart(Colour::Green, &[("advertised.listeners", advertised), makes]).await;
    refused(&changed(world, &[]), "access", "green", "auto.create.topics.enable").await;
}

/// `up` writes down which cluster it found behind blue before it begins, which it then does not. Now another one stands there.
async fn another_cluster_than_the_one_that_is_published(world: &TwoClusters) {
    let begun = run(&changed(world, &[("waive_history = \"*\"", "")]), &["up"]).await;
    assert_eq!(begun.status, Some(1), "{}", begun.stderr);
    assert!(begun.stderr.contains("topic orders: its history would die"), "{}", begun.stderr);
    let servers = |of: &Incarnation| {
        format!("[{}]", of.bootstrap.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", "))
    };
    let (blue, green) = (servers(&world.blue), servers(&world.green));
    let swapped = [(&*blue, "BLUE"), (&*green, "GREEN"), ("BLUE", &*green), ("GREEN", &*blue)];
    refused(&changed(world, &swapped), "wrong-cluster", "kafka.orders.test", "the owner record says").await;
}

/// L6: green has one broker, and so can make no topic with more replicas than one.
async fn fewer_replicas(world: &TwoClusters) {
    let said = "topic twofold: 2 replicas of each partition on the old cluster, 1 on the new cluster";
    refused(&changed(world, &[("waive_replicas = [\"twofold\"]\n", "")]), "parity", "twofold", said).await;
}

/// The soak is as long as blue's brokers remember what a group without members has committed.
async fn commits_that_do_not_last(world: &TwoClusters) {
    let limit = "hold_limit = \"1s\"\n";
    let long = format!("{limit}soak = \"168h\"\n");
    let said = "10080 minutes after its last member has left";
    refused(&changed(world, &[(limit, &long)]), "retention", "offsets.retention.minutes", said).await;
}

/// L9: groups that the plan names. Of one blue does not say what it is, nor how far it has read; the other never was there, and
/// so it reads nothing.
async fn groups_that_nobody_knows(world: &TwoClusters, blue: &Kafka) {
    let named = |group: &str| {
        let to = format!("converge_deadline = \"1s\"\ngroups = [\"{group}\"]\n");
        changed(world, &[("waive_retention = \"*\"\n", &to)])
    };
    refused(&named("ghost"), "retention", "ghost", "group ghost does not read topic orders, partition 0")
        .await;
    let rule = AclBinding {
        resource_type: AclResourceType::Group,
        ..AclBinding::allow_read_topic("hidden", "User:alice")
    };
    commit(blue, "hidden", "orders", 1, 5).await;
    add_rule(blue, rule).await;
    let (refusals, status) = plan(&named("hidden")).await;
    let found = refusals.iter().map(|[code, subject, _]| (code.as_str(), subject.as_str()));
    let found: BTreeSet<_> = found.collect();
    let expected = [("unknown-group", "hidden"), ("unknown-groups", "groups")];
    assert!(found.is_superset(&expected.into()) && status == Some(3), "{refusals:#?}");
    assert!(refusals.iter().all(|[.., reason]| reason.contains("GroupAuthorizationFailed")), "{refusals:#?}");
    // Where the plan names nobody, it is not even known whether the group reads anything.
    refused(&changed(world, &[]), "unknown-groups", "groups", "GroupAuthorizationFailed").await;
    remove_rules(blue, "hidden").await;
}

/// L9: a group that has committed what the log does not have. Nobody knows what it has read.
async fn a_group_whose_commits_lie_beyond_the_log(world: &TwoClusters, blue: &Kafka) {
    commit(blue, "ahead", "orders", 1, 50).await;
    let said = "group ahead, topic orders, partition 0: its commit 50 lies beyond the end of the log";
    refused(&changed(world, &[]), "unknown-group", "ahead", said).await;
    commit(blue, "ahead", "orders", 1, 5).await;
}

/// L11: a group reads, but so slowly that retention would delete before it what it has not read, on either cluster.
async fn a_group_slower_than_retention(world: &TwoClusters, blue: &Kafka) {
    make_topics(blue, &[(SLOW, 1, &[("retention.ms", "60000")])]).await;
    write(blue, SLOW, 1, 500).await;
    commit(blue, "reader", SLOW, 1, 0).await;
    // No more than five in a second: the rest takes it more than a minute.
    let kafka = blue.clone();
    let reading = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(200));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for read in 1..500 {
            pace.tick().await;
            commit(&kafka, "reader", SLOW, 1, read).await;
        }
    });
    let waived = "waive_retention = \"*\"\n";
    let (plan, status) = long_plan(&changed(world, &[(waived, "converge_deadline = \"1s\"\n")])).await;
    let refusals = refusals(&plan);
    for (refusal, colour) in refusals.iter().zip(Colour::BOTH) {
        let [code, subject, reason] = refusal.each_ref().map(String::as_str);
        assert_eq!((code, subject), ("retention", SLOW), "{refusals:#?}");
        let said = format!("topic {SLOW}: raise retention.ms on {colour} from 60000 to ");
        assert!(reason.starts_with(&said), "{refusals:#?}");
    }
    assert_eq!((refusals.len(), status), (2, Some(3)), "{refusals:#?}");
    let raised = format!("converge_deadline = \"1s\"\nraise_retention = [\"{SLOW}\"]\n");
    let (ready, status) = long_plan(&changed(world, &[(waived, &raised)])).await;
    reading.abort();
    assert_eq!((&ready["refusals"], status), (&json!([]), Some(0)), "{ready}");
    let mut groups = ready["groups"].as_array().expect("groups").iter();
    let reader = groups.find(|one| one["group"] == "reader").expect("the group");
    let [lag, read, drain_ms] = ["lag", "read", "drain_ms"].map(|name| reader[name].as_u64().unwrap_or(0));
    assert!((1..500).contains(&lag) && read > 0 && drain_ms > 60_000, "{reader}");
    let estimates = &ready["estimates"];
    assert_eq!((&estimates["drain_ms"], &estimates["converge_ms"]), (&json!(drain_ms), &json!(1_000)));
    assert!(estimates["ttl_ms"].is_u64() && estimates["separation_ids"].is_u64(), "{estimates}");
}

/// L17: a size fence would keep out a transaction's records and let in its marker, and an id that is idle may begin one.
async fn a_size_fence_beside_a_transactional_id(world: &TwoClusters, blue: &Kafka) {
    let pays = blue.producer().metrics_push(false).build_transactional("pay").await.expect("a producer");
    pays.close().await.expect("closed");
    let table = "[clusters.blue.provisioner]\n";
    let by_size = format!("[clusters.blue]\nfence = {{ kind = \"size\" }}\n\n{table}");
    refused(&changed(world, &[(table, &by_size)]), "fence", "fence", "pay is transactional").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_clusters_who_is_let_in_and_whether_they_are_reached() {
    let test = "which_clusters_who_is_let_in_and_whether_they_are_reached";
    let Some(world) = TwoClusters::start_with(test, ("3.9.2", 2), "4.3.1").await else { return };
    let (blue, green) = (client(&world.blue).await, client(&world.green).await);
    for kafka in [&blue, &green] {
        make_topics(kafka, &[("orders", 1, &[])]).await;
    }
    let twofold = NewTopic::new("twofold", 1, 2).expect("a topic");
    let made = blue.admin().create_topics([twofold], CreateTopicsOptions::default()).await;
    made.expect("an answer").into_iter().for_each(|(_, answer)| {
        answer.expect("it is made");
    });
    write(&blue, "orders", 1, 5).await;
    commit(&blue, "billing", "orders", 1, 5).await;
    for ready in [changed(&world, &[]), by_two_ways(&world)] {
        assert_eq!(plan(&ready).await, (vec![], Some(0)), "{}", ready.display());
    }
    fewer_replicas(&world).await;
    commits_that_do_not_last(&world).await;
    groups_that_nobody_knows(&world, &blue).await;
    a_group_whose_commits_lie_beyond_the_log(&world, &blue).await;
    a_group_slower_than_retention(&world, &blue).await;
    a_size_fence_beside_a_transactional_id(&world, &blue).await;
    a_deny_of_greens_own(&world, &green).await;
    one_cluster_behind_both_colours(&world).await;
    another_cluster_than_the_one_that_is_published(&world).await;
    brokers_that_nobody_reaches(&world).await;
    a_broker_that_both_clusters_lead_to(&world).await;
    a_green_that_makes_topics_by_itself(&world).await;
}
