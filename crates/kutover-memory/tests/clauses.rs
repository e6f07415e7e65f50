//! The clauses that show only when something is made to go wrong, or when a client has a try.

use kutover_core::error::Outcome;
use kutover_core::owner::Target;
use kutover_core::ports::{ClusterProvisioner as _, Journal as _, JournalEntry, Registry as _};
use kutover_core::words::{Colour, Generation, Offset, Term, TopicName, TopicPartition};
use kutover_memory::{Fault, MemoryCluster, MemoryWorld, StoredRecord};
use kutover_testkit::conformance::{dns, fence, journal, provision, registry};

async fn world() -> (MemoryWorld, MemoryCluster) {
    let world = MemoryWorld::new();
    world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
    let cluster = world.cluster(Colour::Blue).unwrap();
    cluster.prepare().await.unwrap();
    (world, cluster)
}

fn record(payload: &str) -> StoredRecord {
    StoredRecord { payload: Some(payload.into()), ..StoredRecord::default() }
}

#[tokio::test]
async fn a_lost_answer_of_dns() {
    let world = MemoryWorld::new();
    for fault in [Fault::UnknownDone, Fault::UnknownNotDone] {
        let lose = || world.faults.inject("dns.compare_and_set", fault);
        dns::a_lost_answer_is_unknown(&world.dns, &"a.test".into(), lose).await;
    }
}

#[tokio::test]
async fn a_torn_and_a_damaged_journal() {
    let world = MemoryWorld::new();
    let open = async || world.journal.clone();
    let tear = async || {
        world.journal.tear_next();
        let index = world.journal.entries().len() as u64;
        let cut_off = JournalEntry { index, term: Term(99), body: serde_json::json!({}) };
        assert_eq!(world.journal.append(&cut_off).await.unwrap_err().outcome, Outcome::Unknown);
    };
    journal::a_torn_tail_is_dropped(open, tear).await;
    let damage = async || world.journal.damage(0);
    journal::damage_is_named(async || Ok(world.journal.clone()), damage).await;
}

#[tokio::test]
async fn a_fence() {
    let (_world, blue) = world().await;
    blue.add_topic("t", 1);
    blue.add_topic("other", 1);
    let place = |name: &TopicName| TopicPartition { topic: name.clone(), partition: 0 };
    let writes = async |name: &TopicName| blue.produce(&place(name), record("x")).is_ok();
    fence::only_what_is_named_is_fenced(&blue, writes, &"t".into(), &"other".into()).await;
    fence::a_later_process_takes_it_away(&blue, &blue.clone(), writes, &"t".into()).await;
    let reads = async |name: &TopicName| !blue.log(&place(name), Offset(0)).is_empty();
    fence::readers_keep_reading(&blue, reads, &"t".into()).await;
    fence::where_it_stands_is_told(&blue, &"t".into()).await;
}

#[tokio::test]
async fn a_members_topic_with_a_message_without_sense() {
    let (_world, blue) = world().await;
    let spoil = async || {
        let message = StoredRecord { key: Some(b"k".to_vec()), ..record("{") };
        blue.produce(&TopicPartition::new("kutover.members", 0), message).unwrap();
    };
    registry::a_message_without_sense_is_named(&blue, spoil).await;
}

#[tokio::test]
async fn links_to_a_cluster_that_serves_and_to_a_dead_one() {
    let (world, _) = world().await;
    world.provisioner.provision(Colour::Green, &provision::request()).await.unwrap();
    let target = async |colour| {
        let described = world.provisioner.describe(colour).await.unwrap().unwrap();
        let cluster_id = world.cluster(colour).unwrap().cluster_id();
        Target { generation: Generation(1), colour, cluster_id, bootstrap: described.bootstrap }
    };
    let (serving, dead) = (target(Colour::Blue).await, target(Colour::Green).await);
    world.cluster(Colour::Green).unwrap().kill();
    registry::links_are_opened_at_once(&world.links(), &serving, &dead).await;
}
