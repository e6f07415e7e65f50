//! Three brokers, each the leader of a partition: what two of three say is no proof. Half of it by the fence that a
//! command makes, with Kafka's own tools as the command.

#![allow(unreachable_pub)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use krafka::Kafka;
use krafka::admin::{AlterPartitionReassignmentsOptions, CreateTopicsOptions, DescribeTopicsOptions};
use krafka::producer::Acks;
use kutover_admin::{AdminConfig, FenceWith, KafkaAdmin, ProbeAnswer};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{ClusterAdmin, ClusterSurvey as _, FenceKind, Incarnation, NewTopic};
use kutover_core::words::{Colour, Offset, TopicName, TopicPartition};
use kutover_lab::{ApacheCluster, KafkaVersion, LabProvisioner, Tools};
use kutover_provision::{ExecFence, FenceSubject};
use kutover_testkit::until;

use super::support::*;

/// `sh -c`'s script, whose `$0` is the Java launcher, whose `$1` is the class path and whose `$2` is `kafka-acls`' class.
const COMMAND: &str = include_str!("fence.sh");

/// A cluster of three brokers, a fence of each kind on it.
pub struct Leaders {
    cluster: Arc<ApacheCluster>,
    config: AdminConfig,
    properties: std::path::PathBuf,
    by_acl: KafkaAdmin,
    by_command: KafkaAdmin,
}

/// The broker that does not do as the others do: neither the first that is asked nor the last.
const ODD: i32 = 1;
/// A topic whose leader is the first broker and whose other replica is the odd one.
const BEHIND: &str = "behind";
/// Where Kafka keeps groups and transactions.
const KAFKAS_OWN: [&str; 2] = ["__consumer_offsets", "__transaction_state"];
/// How often the brokers' configs are read: their answers come in another order each time.
const READS: usize = 12;

fn topics(kind: FenceKind) -> [TopicName; 1] {
    [TopicName::new(if kind == FenceKind::Exec { "by-command" } else { "by-acl" })]
}

/// Has one partition of a topic of Kafka's own on one broker alone.
async fn keep_one_part_at_the_odd_one(kafka: &Kafka, topic: &str) {
    let admin = kafka.admin();
    // It may be there already.
    let wanted = krafka::admin::NewTopic::new(topic, 4, 3).expect("a topic");
    let wanted = wanted.with_config("cleanup.policy", "compact");
    drop(admin.create_topics([wanted], CreateTopicsOptions::default()).await.expect("an answer"));
    let is_there = async || {
        let part = krafka::admin::TopicPartition::new(topic, 1);
        let options = AlterPartitionReassignmentsOptions::default();
        admin.alter_partition_reassignments([(part, Some(vec![ODD]))], options).await.ok()?;
        let mut found = admin.describe_topics([topic], DescribeTopicsOptions::default()).await.ok()?;
        let found = found.remove(topic)?.ok()?;
        let part = found.partitions.get(1)?;
        (part.replicas == [ODD] && part.leader == Some(ODD)).then_some(())
    };
    until("a part of it there", BOUND, is_there).await;
}

impl Leaders {
    /// Makes a topic for each fence, one partition on each broker, and writes to all of them.
    pub async fn new(
        incarnation: &Incarnation,
        lab: &LabProvisioner,
        dir: &Path,
        tools: &Tools,
        version: KafkaVersion,
    ) -> Self {
        let config = config(&incarnation.bootstrap.join(","));
        let class_path = tools.class_path(version).await.expect("the tools");
        let java = tools.java.to_str().expect("UTF-8");
        let tool =
            if version.major < 4 { "kafka.admin.AclCommand" } else { "org.apache.kafka.tools.AclCommand" };
        let command = ["sh", "-c", COMMAND, java, &class_path, tool].map(str::to_owned);
        let subject = FenceSubject {
            deployment: "orders".into(),
            colour: Colour::Blue,
            bootstrap: incarnation.bootstrap.clone(),
        };
        let switch = Arc::new(ExecFence::new(command.into(), subject, BOUND));
        let by_command = AdminConfig { fence: FenceWith::Switch(switch), ..config.clone() };
        let by_command = KafkaAdmin::connect(by_command).await.expect("connect");
        let by_acl = KafkaAdmin::connect(config.clone()).await.expect("connect");
        for kind in [FenceKind::Exec, FenceKind::Acl] {
            let [name] = topics(kind);
            let topic = NewTopic { name, partitions: 3, replication: 1, configs: [].into() };
            by_acl.create_topic(&topic).await.expect("made");
        }
        let kafka = ordinary(&incarnation.bootstrap.join(",")).await;
        for own in KAFKAS_OWN {
            keep_one_part_at_the_odd_one(&kafka, own).await;
        }
        let behind = krafka::admin::NewTopic::with_replica_assignment(BEHIND, [(0, vec![0, ODD])].into());
        let made =
            kafka.admin().create_topics([behind.expect("a topic")], CreateTopicsOptions::default()).await;
        made.expect("an answer").into_values().for_each(|answer| answer.expect("made"));
        until("its leader", BOUND, async || by_acl.ends(&[BEHIND.into()]).await.ok()).await;
        write(&producer(&kafka).await, &TopicPartition::new(BEHIND, 0), 2).await.expect("written");
        let cluster = lab.apache(Colour::Blue).expect("it runs");
        let properties = dir.join(incarnation.id.as_str()).join(format!("broker-{ODD}.properties"));
        let it = Self { cluster, config, properties, by_acl, by_command };
        it.write_everywhere().await;
        it
    }

    fn admin(&self, kind: FenceKind) -> &KafkaAdmin {
        if kind == FenceKind::Exec { &self.by_command } else { &self.by_acl }
    }

    async fn write_everywhere(&self) {
        let sender = producer(&ordinary(&self.config.bootstrap.join(",")).await).await;
        for kind in [FenceKind::Exec, FenceKind::Acl] {
            let [topic] = topics(kind);
            for partition in 0..3 {
                let place = TopicPartition::new(topic.clone(), partition);
                write(&sender, &place, 2).await.expect("an open cluster takes records");
            }
        }
    }

    /// All three refuse: proven, and readers read on.
    pub async fn all_refuse(&self) {
        for kind in [FenceKind::Exec, FenceKind::Acl] {
            let topics = topics(kind);
            assert_eq!(self.admin(kind).raise_fence(&topics).await.expect("raised"), kind);
            let proof = self.admin(kind).prove_fence(&topics).await.expect("proven");
            let ends: Vec<Offset> = proof.ends.iter().map(|end| end.high_watermark).collect();
            assert_eq!((proof.kind, ends), (kind, vec![Offset(2); 3]));
            let kafka = ordinary(&self.config.bootstrap.join(",")).await;
            assert_eq!(read(&reader(&kafka, &topics[0]).await, 2).await, 2, "readers read under {kind:?}");
        }
    }

    /// One leader cannot be asked: what the other two say is no proof.
    pub async fn one_is_silent(&self) {
        self.cluster.kill_broker(ODD).await;
        // Side by side, for each takes as long as it is allowed to.
        let proofs = [FenceKind::Exec, FenceKind::Acl]
            .map(async |kind| (kind, self.admin(kind).prove_fence(&topics(kind)).await));
        for (kind, proof) in join_all(proofs).await {
            let error = proof.expect_err("nobody answers for a third");
            assert!(
                matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Unreachable),
                "{kind:?}: {error}"
            );
        }
    }

    /// L9, L17: the groups and transactions of all brokers are listed.
    pub async fn all_are_listed(&self) {
        until("all groups", BOUND, async || self.by_acl.groups().await.ok()).await;
        until("all transactions", BOUND, async || self.by_acl.transactional_ids().await.ok()).await;
    }

    /// L9, L17: it coordinated some of them, which nobody lists while it is away. That is not none.
    pub async fn what_nobody_coordinates_is_not_listed(&self) {
        let is_out = async || (self.by_acl.identity().await.ok()?.brokers.len() == 2).then_some(());
        until("the others know that it is away", BOUND, is_out).await;
        let groups = self.by_acl.groups().await.expect_err("nobody lists a part of them");
        let ids = self.by_acl.transactional_ids().await.expect_err("nobody lists a part of them");
        for error in [groups, ids] {
            assert!(error.kind.is_silence(), "{error}");
        }
    }

    /// Its follower does not run: the leader takes a record that no reader sees and that a segment closed at the high watermark
    /// would leave out. That fence is not proven until the follower has it.
    pub async fn a_follower_is_behind(&self) {
        let kafka = ordinary(&self.config.bootstrap.join(",")).await;
        let hasty = kafka.producer().acks(Acks::Leader).idempotent(false).metrics_push(false);
        let hasty = hasty.build().await.expect("a producer");
        write(&hasty, &TopicPartition::new(BEHIND, 0), 1).await.expect("the leader takes it");
        assert_eq!(self.ends_of_behind().await, (Offset(2), Some(Offset(3))));
        let topics = [BEHIND.into()];
        self.by_acl.raise_fence(&topics).await.expect("raised");
        let error = self.by_acl.prove_fence(&topics).await.expect_err("a record may yet be lost");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("replicas are behind, 2 of 3"), "{error}");
    }

    async fn ends_of_behind(&self) -> (Offset, Option<Offset>) {
        let ends = self.by_acl.ends(&[BEHIND.into()]).await.expect("ends");
        let [end] = &ends[..] else { panic!("{ends:?}") };
        (end.high_watermark, end.leader_end)
    }

    /// Restarts one broker as somebody else has configured it: everybody is a super user there, it makes topics that clients
    /// ask for, and keeps records for an hour.
    pub async fn one_is_configured_otherwise(&self) {
        let otherwise = "super.users=User:kutover-quorum;User:ANONYMOUS\nauto.create.topics.enable=true\n\
                         log.retention.hours=1\n";
        self.restart_with(otherwise).await;
    }

    /// Restarts it as the lab has configured it.
    pub async fn one_is_as_the_others_again(&self) {
        self.cluster.kill_broker(ODD).await;
        self.restart_with("").await;
    }

    /// Starts the broker, which does not run, with more configuration than the lab gives it.
    async fn restart_with(&self, more: &str) {
        let before = std::fs::read_to_string(&self.properties).expect("its configuration");
        std::fs::write(&self.properties, format!("{before}\n{more}")).expect("written");
        self.cluster.restart_broker(ODD).await.expect("it starts");
        std::fs::write(&self.properties, before).expect("written");
    }

    /// One leader takes records, because everybody is a super user there: what the other two say is no proof, and it is
    /// named.
    pub async fn one_takes_records(&self) {
        for kind in [FenceKind::Exec, FenceKind::Acl] {
            let topics = topics(kind);
            let answers = async || {
                let answers = self.by_acl.probe(&topics).await.ok()?;
                let is_clear = answers.values().all(|answer| !matches!(answer, ProbeAnswer::Unclear(_)));
                is_clear.then_some(answers)
            };
            let answers = until("every leader's answer", BOUND, answers).await;
            let open = answers.iter().filter(|(_, answer)| **answer == ProbeAnswer::Open);
            let open: Vec<&TopicPartition> = open.map(|(place, _)| place).collect();
            assert!(answers.len() == 3 && open.len() == 1, "two refuse, one does not: {answers:?}");
            let error = self.admin(kind).prove_fence(&topics).await.expect_err("two of three are no proof");
            assert_eq!(error.kind, ErrorKind::Refused, "{kind:?}: {error}");
            assert!(error.to_string().contains(&open[0].to_string()), "{kind:?}: {error}");
            // And it is true.
            let kafka = ordinary(&self.config.bootstrap.join(",")).await;
            write(&producer(&kafka).await, open[0], 1).await.expect("it is acknowledged");
        }
    }

    /// L6: whether any broker makes a topic because a client asks for it, whatever the others say.
    pub async fn topics_make_themselves(&self, on_one_broker: bool) {
        for _ in 0..READS {
            let told = async || self.by_acl.access().await.ok();
            let access = until("every broker's configs", BOUND, told).await;
            assert_eq!(access.auto_creates_topics, Some(on_one_broker), "{access:?}");
        }
    }

    /// L6, L11: how long topics keep what is written to them by default, at each broker.
    pub async fn topics_are_kept_for(&self, defaults: &[&str]) {
        let expected: BTreeSet<String> = defaults.iter().map(|value| (*value).to_owned()).collect();
        for _ in 0..READS {
            let told = async || {
                let topics = self.by_acl.topics().await.ok()?;
                topics[0].defaults.get("retention.ms").cloned()
            };
            assert_eq!(until("every broker's defaults", BOUND, told).await, expected);
        }
    }

    /// It is proven again once the third refuses, with the record that came meanwhile, and lifted whole by whoever comes
    /// later.
    pub async fn all_refuse_again_and_it_is_lifted(&self) {
        for kind in [FenceKind::Exec, FenceKind::Acl] {
            let topics = topics(kind);
            let proven = async || self.admin(kind).prove_fence(&topics).await.ok();
            let proof = until("the proof", BOUND, proven).await;
            let records: i64 = proof.ends.iter().map(|end| end.high_watermark.0).sum();
            assert_eq!(records, 7, "{proof:?}");
            self.admin(kind).lift_fence(&topics).await.expect("lifted");
            self.admin(kind).prove_open(&topics).await.expect("every leader takes records again");
            let kafka = ordinary(&self.config.bootstrap.join(",")).await;
            assert!(acls(&kafka, &topics[0]).await.is_empty(), "nothing is left behind by {kind:?}");
        }
        let topics = [BEHIND.into()];
        let proven = async || self.by_acl.prove_fence(&topics).await.ok();
        until("the proof of what was behind", BOUND, proven).await;
        assert_eq!(self.ends_of_behind().await, (Offset(3), Some(Offset(3))));
        self.by_acl.lift_fence(&topics).await.expect("lifted");
        self.write_everywhere().await;
    }
}
