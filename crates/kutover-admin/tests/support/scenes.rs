//! What stands in the way of a drain on a real cluster, each made and looked at.

#![allow(unreachable_pub)]

use std::collections::BTreeMap;
use std::time::Duration;

use krafka::admin::{DeleteConsumerGroupOffsetsOptions, DeleteRecordsOptions, TopicPartition as Place};
use krafka::consumer::AutoOffsetReset;
use krafka::producer::{Producer, TransactionalProducer};
use krafka::{Kafka, Record};
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::decisions::stragglers::Sign;
use kutover_core::drain::{
    self, Coordinated, DrainVerdict, Estimate, NotDrained, Observation, OpenTransaction, Required,
};
use kutover_core::ports::{ClusterAdmin as _, GroupListing, Incarnation, LagQuery, ProducerSurvey as _};
use kutover_core::words::{GroupId, Offset, TopicName, TopicPartition};
use kutover_lab::{KafkaVersion, Tools};
use kutover_testkit::conformance::writers;
use kutover_testkit::until;

use super::support::*;

const KRAFT: KafkaVersion = KafkaVersion::new(4, 3, 1);

/// One cluster, and clients of it.
pub struct Scene {
    version: KafkaVersion,
    tools: Tools,
    bootstrap: String,
    admin: KafkaAdmin,
    kafka: Kafka,
}

fn topic_place(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

/// Whether brokers of a version tell of transactions (KIP-664).
fn asks_coordinators(version: KafkaVersion) -> bool {
    version != KafkaVersion::new(2, 8, 2)
}

impl Scene {
    pub async fn new(cluster: &Incarnation, version: KafkaVersion, tools: Tools) -> Self {
        let bootstrap = cluster.bootstrap.join(",");
        let patient = AdminConfig { timeouts: patient(), ..config(&bootstrap) };
        let admin = KafkaAdmin::connect(patient).await.expect("connect");
        let kafka = ordinary(&bootstrap).await;
        Self { version, tools, bootstrap, admin, kafka }
    }

    async fn transactional(&self, id: &str) -> TransactionalProducer {
        let builder = self.kafka.producer().metrics_push(false).transaction_timeout(Duration::from_secs(600));
        builder.build_transactional(id).await.expect("a transactional producer")
    }

    /// What is seen of groups on a topic, as the controller looks at it.
    async fn observe(&self, groups: &[&str], topic: &str, uncommitted: bool) -> (Required, Observation) {
        let topics = [TopicName::new(topic)];
        let groups: BTreeMap<GroupId, _> =
            groups.iter().map(|group| (GroupId::new(*group), topics.clone().into())).collect();
        let read_uncommitted = if uncommitted { groups.keys().cloned().collect() } else { [].into() };
        let partitions = vec![topic_place(topic)];
        let query = LagQuery { groups: groups.clone(), partitions, read_tails: true, read_uncommitted };
        let seen = lag(&self.admin, query).await;
        let open = self.admin.open_transactions(&[topic_place(topic)]).await.expect("it answers");
        let open = open.into_iter().map(|(place, open)| (place, open.expect("it answers"))).collect();
        let observation = Observation { logs: seen.logs, progress: seen.groups, open };
        (
            Required { groups, partitions: vec![(topic_place(topic), None)], ..Required::default() },
            observation,
        )
    }

    async fn verdict(&self, group: &str, topic: &str, uncommitted: bool) -> DrainVerdict {
        let (required, seen) = self.observe(&[group], topic, uncommitted).await;
        drain::prove(&required, &seen)
    }

    async fn is_drained(&self, group: &str, topic: &str) -> bool {
        self.verdict(group, topic, false).await.is_drained()
    }

    /// A group that "lags" by one marker has read everything.
    pub async fn a_marker_is_no_lag(&self) {
        make_topic(&self.admin, "ledger", 1).await;
        let producer = self.transactional("ledger-writer").await;
        producer.begin().expect("begin");
        for n in 0..10 {
            write_open(&producer, &"ledger".into(), &format!("{n}")).await;
        }
        producer.commit().await.expect("commit");
        for (committed, drained) in [(9, false), (10, true), (11, true)] {
            commit(&self.kafka, "billing", &topic_place("ledger"), committed).await;
            let verdict = self.verdict("billing", "ledger", false).await;
            assert_eq!(verdict.is_drained(), drained, "{} at {committed}: {verdict:?}", self.version);
        }
    }

    /// What was aborted is nobody's who reads committed records only, and is given to everybody else.
    pub async fn aborted_records_are_data_to_some(&self) {
        make_topic(&self.admin, "aborted", 1).await;
        let place = topic_place("aborted");
        write(&producer(&self.kafka).await, &place, 5).await.expect("written");
        let transactional = self.transactional("aborter").await;
        transactional.begin().expect("begin");
        write_open(&transactional, &place.topic, "never").await;
        write_open(&transactional, &place.topic, "ever").await;
        transactional.abort().await.expect("abort");
        commit(&self.kafka, "strict", &place, 5).await;
        commit(&self.kafka, "loose", &place, 5).await;
        until("the abort's marker", BOUND, async || self.is_drained("strict", "aborted").await.then_some(()))
            .await;
        let loose = self.verdict("loose", "aborted", true).await;
        assert_eq!(loose.remaining[0].why, NotDrained::Unread { records: 3 }, "{loose:?}");
        commit(&self.kafka, "loose", &place, 7).await;
        let past = self.verdict("loose", "aborted", true).await;
        assert!(past.is_drained(), "what is left is the marker: {past:?}");
        commit(&self.kafka, "strict", &place, 4).await;
        assert!(!self.is_drained("strict", "aborted").await, "the fifth record is data to everybody");
    }

    /// L9 and L11: commits that expired are not "nothing to read", and what retention took is counted.
    pub async fn commits_expire_and_retention_eats(&self) {
        make_topic(&self.admin, "orders", 1).await;
        let place = topic_place("orders");
        write(&producer(&self.kafka).await, &place, 10).await.expect("written");
        commit(&self.kafka, "asleep", &place, 10).await;
        assert!(self.is_drained("asleep", "orders").await, "the control");
        let at = [Place::new("orders", 0)];
        let options = DeleteConsumerGroupOffsetsOptions::default();
        let gone = self.kafka.admin().delete_consumer_group_offsets("asleep", at, options).await;
        assert!(gone.expect("it answers").values().all(Result::is_ok), "as if it had expired");
        let expired = self.verdict("asleep", "orders", false).await;
        assert_eq!(expired.remaining[0].why, NotDrained::NeverCommitted { records: 10 });

        commit(&self.kafka, "slow", &place, 5).await;
        let before = [(Place::new("orders", 0), 8)];
        let cut = self.kafka.admin().delete_records(before, DeleteRecordsOptions::default()).await;
        assert!(cut.expect("it answers").values().all(Result::is_ok), "as retention does");
        let eaten = self.verdict("slow", "orders", false).await;
        assert_eq!(eaten.remaining[0].why, NotDrained::Lost { records: 3 });
        assert!(eaten.remaining[0].to_string().contains("retention deleted 3 records"));
        commit(&self.kafka, "slow", &place, 10).await;
        assert!(self.is_drained("slow", "orders").await);
    }

    /// L9: a group that has subscribed and committed nothing is listed with its topic all the same.
    pub async fn a_live_member_needs_no_commit(&self) {
        make_topic(&self.admin, "fresh", 1).await;
        let builder = self.kafka.consumer("newcomer").enable_auto_commit(false).metrics_push(false);
        let builder = builder.auto_offset_reset(AutoOffsetReset::Latest);
        let consumer = builder.build().await.expect("a consumer");
        consumer.subscribe(&["fresh"]).await.expect("it subscribes");
        let listed = async || {
            let _records = consumer.poll(Duration::from_millis(50)).await.expect("it polls");
            let GroupListing::Listed(groups) = self.admin.groups().await.expect("groups") else {
                panic!("real Kafka lists")
            };
            let topics = groups.get(&GroupId::new("newcomer"))?;
            topics.contains(&TopicName::new("fresh")).then_some(())
        };
        until("the newcomer's topic", BOUND, listed).await;
        consumer.close().await.expect("it leaves");
    }

    /// L10: a transaction whose producer is gone holds the drain, is named, and ends by the command that is given for it.
    pub async fn an_open_transaction_is_named_and_ended_by_its_command(&self) {
        make_topic(&self.admin, "stuck", 1).await;
        let place = topic_place("stuck");
        write(&producer(&self.kafka).await, &place, 3).await.expect("written");
        let transactional = self.transactional("gone").await;
        transactional.begin().expect("begin");
        write_open(&transactional, &place.topic, "half").await;
        commit(&self.kafka, "waits", &place, 3).await;
        let (required, seen) = self.observe(&["waits"], "stuck", false).await;
        let verdict = drain::prove(&required, &seen);
        let NotDrained::Open { records: 1, transactions } = &verdict.remaining[0].why else {
            panic!("{verdict:?}")
        };
        let [open] = transactions.as_slice() else { panic!("{transactions:?}") };
        assert_eq!(open.since, Offset(3));
        if asks_coordinators(self.version) {
            let Coordinated::Known { transactional_id, state, ends_by_ms } = &open.coordinator else {
                panic!("{open:?}")
            };
            assert_eq!((transactional_id.as_str(), state.as_str()), ("gone", "Ongoing"));
            assert!(ends_by_ms.is_some(), "{open:?}");
            self.a_hidden_transaction_is_not_forgotten(&place).await;
        } else {
            assert!(matches!(open.coordinator, Coordinated::Unknown { .. }), "{open:?}");
        }
        // Who reads uncommitted records is given it at once, and has nothing to wait for once it has read it.
        commit(&self.kafka, "hasty", &place, 3).await;
        assert!(!self.verdict("hasty", "stuck", true).await.is_drained());
        commit(&self.kafka, "hasty", &place, 4).await;
        assert!(self.verdict("hasty", "stuck", true).await.is_drained());

        self.run_command(open, &place).await;
        until("the abort's marker", BOUND, async || self.is_drained("waits", "stuck").await.then_some(()))
            .await;
        drop(transactional);
    }

    /// L10: a transaction whose id kutover may not describe is not told of by its coordinator, which has not forgotten it.
    async fn a_hidden_transaction_is_not_forgotten(&self, place: &TopicPartition) {
        let hidden = hide_transactional_id(&self.kafka, "gone").await;
        let open = self.admin.open_transactions(std::slice::from_ref(place)).await.expect("it answers");
        let [open] = open[place].as_ref().expect("it answers").as_slice() else { panic!("{open:?}") };
        let Coordinated::Unknown { reason } = &open.coordinator else { panic!("{open:?}") };
        assert!(reason.contains("`gone`"), "{reason}");
        show_transactional_id(&self.kafka, hidden).await;
    }

    /// Runs what the operator is told to run, with the newest tools: brokers before 3.0 came without.
    async fn run_command(&self, open: &OpenTransaction, place: &TopicPartition) {
        let said = open.abort_command(place).replace("BROKER", &self.bootstrap);
        let arguments: Vec<&str> = said.split_whitespace().skip(1).collect();
        // Kafka's 4.x tools speak to brokers from 2.1 on (KIP-896).
        let class_path = self.tools.class_path(KRAFT).await.expect("the tools");
        let mut command = std::process::Command::new(&self.tools.java);
        command.args(["-Xmx128m", "-cp", &class_path, "org.apache.kafka.tools.TransactionsCommand"]);
        let output = command.args(&arguments).output().expect("it runs");
        let words =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: `{said}`: {words}", self.version);
    }

    /// The table says how fast, and when it will be zero.
    pub async fn two_looks_tell_when_it_will_be_zero(&self) {
        let place = topic_place("ledger");
        commit(&self.kafka, "reads", &place, 2).await;
        commit(&self.kafka, "stands", &place, 1).await;
        let groups = ["reads", "stands"];
        let (required, first) = self.observe(&groups, "ledger", false).await;
        commit(&self.kafka, "reads", &place, 5).await;
        let (_, second) = self.observe(&groups, "ledger", false).await;
        let table = drain::table(&required, &first, &second, 1_000);
        let row = |name: &str| table.rows.iter().find(|row| row.group == Some(name.into())).expect("a row");
        assert_eq!((row("reads").unread, row("reads").per_s), (6, Some(3)));
        assert_eq!(row("reads").zero, Estimate::In { ms: 2_000 });
        assert_eq!((row("stands").zero, row("stands").unread), (Estimate::Never, 10));
    }

    /// The survey's contract, clause by clause.
    pub async fn contracts(&self) {
        make_topic(&self.admin, "surveyed", 2).await;
        let places = [TopicPartition::new("surveyed", 0), TopicPartition::new("surveyed", 1)];
        let missing = TopicPartition::new("surveyed", 2);
        writers::every_partition_has_its_answer(&self.admin, &places, &missing).await;
        let nowhere = TopicPartition::new("nowhere", 0);
        writers::every_partition_has_its_answer(&self.admin, &places, &nowhere).await;
        let stranger: Producer = self.kafka.producer().metrics_push(false).build().await.expect("a producer");
        let append = async || {
            let record = Record::new("surveyed", "x").key("till-3").header("client-id", "till").partition(0);
            let _stored = stranger.send(record).await.expect("acknowledged");
        };
        writers::what_was_acknowledged_shows(&self.admin, &places[0], append).await;
        let sign = Sign::of(Some(b"till-3"), [("client-id", Some(&b"till"[..]))]);
        writers::the_last_records_come_last(&self.admin, &places[0], &sign, append).await;
        writers::an_empty_partition_has_no_last_record(&self.admin, &places[1]).await;
        let last = self.admin.last_records(&places[0], 1).await.expect("read");
        let look = self.admin.writers(&places).await.expect("it answers");
        let known = look[&places[0]].as_ref().expect("it answers");
        let ids: Vec<Option<i64>> = known.producers.keys().map(|id| Some(*id)).collect();
        assert_eq!(ids, [last[0].producer_id], "the batch says whose it is");

        let transactional = self.transactional("surveyed-writer").await;
        let begin = async || ((), begin_in(&transactional, &places[1]).await);
        let end = async |()| {
            transactional.commit().await.expect("commit");
            let marked = async || {
                let open = self.admin.open_transactions(&places[1..]).await.expect("it answers");
                open[&places[1]].as_ref().expect("it answers").is_empty().then_some(())
            };
            until("the commit's marker", BOUND, marked).await;
        };
        writers::an_open_transaction_is_named_until_it_ends(&self.admin, &places[1], begin, end).await;
    }
}
