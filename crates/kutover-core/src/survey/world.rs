//! A world in which nothing is wrong, for the tests to spoil.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::cutover::{Approval, FencePolicy, Plan, SeparationPolicy, Timings, Topics};
use crate::decisions::early_members::Member;
use crate::decisions::separation::Room;
use crate::decisions::stragglers::{PartitionWriters, ProducerState};
use crate::drain::{GroupProgress, LogRange, Tail};
use crate::owner::Target;
use crate::ports::{AclRule, ConfigSource, ConfigValue, GroupProtocol};
use crate::words::{CONTROL_TOPIC, Generation, MEMBERS_TOPIC, Nonce, Offset, Term};

/// What was seen, what is wanted, what is waived.
#[derive(Clone)]
pub(super) struct World {
    pub(super) survey: Survey,
    pub(super) plan: Plan,
    pub(super) waivers: Waivers,
}

impl World {
    /// One topic, one group that reads it, one producer; history waived.
    pub(super) fn sound() -> Self {
        let old = cluster("blue", &[("log.message.timestamp.after.max.ms", "9223372036854775807")]);
        let new = cluster("green", &[("log.message.timestamp.after.max.ms", "3600000")]);
        let mut new = new;
        new.topics.clear();
        new.topic_configs = Ok(BTreeMap::new());
        new.groups = Ok(GroupListing::Listed(BTreeMap::new()));
        new.described = Ok(BTreeMap::new());
        let survey = Survey {
            from: Colour::Blue,
            endpoints: [(EndpointKey::from("kafka.orders.test".to_owned()), Ok(endpoint()))].into(),
            old: Ok(old),
            new: Some(Ok(new)),
            traffic: traffic(),
            takes_records: Some(Ok(())),
            refused_configs: Ok(BTreeMap::new()),
            refused_topics: BTreeMap::new(),
            now_ms: 1_000_000,
        };
        Self { survey, plan: plan(), waivers: Waivers::default() }
    }

    pub(super) fn blue(&mut self) -> &mut ClusterSeen {
        self.survey.old.as_mut().unwrap()
    }

    pub(super) fn green(&mut self) -> &mut ClusterSeen {
        self.survey.new.as_mut().unwrap().as_mut().unwrap()
    }

    pub(super) fn access(&mut self, colour: Colour) -> &mut Access {
        let cluster = if colour == Colour::Blue { self.blue() } else { self.green() };
        cluster.access.as_mut().unwrap()
    }

    pub(super) fn assess(&self) -> Assessment {
        assess(&self.survey, &self.plan, &self.waivers)
    }

    /// One more topic on an old cluster that cannot list its groups.
    pub(super) fn add_topic_unlisted(&mut self, name: &str) {
        let listing = std::mem::replace(&mut self.blue().groups, Ok(GroupListing::Listed(BTreeMap::new())));
        let Ok(GroupListing::Listed(groups)) = &mut self.blue().groups else { unreachable!() };
        groups.insert("billing".into(), BTreeSet::new());
        self.add_topic(name, &[]);
        self.blue().groups = listing;
        let Topics::Named(waived) = &mut self.plan.waived_history else { unreachable!() };
        waived.insert(name.into());
    }

    /// One more topic on the old cluster, as `orders` is, with records and read by `billing`.
    pub(super) fn add_topic(&mut self, name: &str, configs: &[(&str, &str)]) {
        let topic = TopicDescription { name: name.into(), partitions: 1, ..self.blue().topics[0].clone() };
        let old = self.blue();
        old.topics.push(topic);
        let mut all = topic_configs();
        all.extend(
            configs.iter().map(|(config, value)| ((*config).to_owned(), set(value, ConfigSource::Own))),
        );
        old.topic_configs.as_mut().unwrap().insert(name.into(), Ok(all));
        let Ok(GroupListing::Listed(groups)) = &mut old.groups else { unreachable!() };
        groups.get_mut(&GroupId::new("billing")).unwrap().insert(name.into());
        let place = TopicPartition::new(name, 0);
        let traffic = &mut self.survey.traffic;
        for seen in [&mut traffic.before, &mut traffic.now] {
            seen.logs.insert(place.clone(), Ok(LogRange { start: Offset(0), end: Offset(10) }));
            seen.progress.insert(("billing".into(), place.clone()), progress(10));
        }
        for look in [&mut traffic.first, &mut traffic.second] {
            look.partitions.insert(place.clone(), Ok(heard(10, BTreeMap::new())));
        }
        let _known = traffic.sizes.as_mut().unwrap().as_mut().unwrap().insert(place, Ok(1_000));
    }

    /// A group on the old cluster that has read everything of `orders`.
    pub(super) fn add_group(&mut self, name: &str, protocol: GroupProtocol, assignor: &str) {
        let description = GroupDescription { protocol, assignor: Some(assignor.to_owned()), ..group() };
        let old = self.blue();
        old.described.as_mut().unwrap().insert(name.into(), Ok(description));
        let Ok(GroupListing::Listed(groups)) = &mut old.groups else { unreachable!() };
        groups.insert(name.into(), ["orders".into()].into());
        for place in places() {
            for seen in [&mut self.survey.traffic.before, &mut self.survey.traffic.now] {
                seen.progress.insert((name.into(), place.clone()), progress(100));
            }
        }
    }
}

fn plan() -> Plan {
    Plan {
        deployment: "orders".into(),
        to: Colour::Green,
        topics: Topics::All,
        groups: BTreeMap::new(),
        waived_groups: BTreeSet::new(),
        waived_history: Topics::Named(["orders".into()].into()),
        schemas_topic: "_schemas".into(),
        waived_deleted: [].into(),
        waived_members: [].into(),
        waived_replicas: Topics::none(),
        raised_retention: Topics::none(),
        fence: FencePolicy::Required,
        separation: SeparationPolicy::Required(Room::default()),
        connect: None,
        approve_redirect: Approval::Automatic,
        approve_removal: Approval::Automatic,
        remove_old: true,
        abandoned: None,
        timings: Timings {
            ttl_s: 5,
            converge_ms: 60_000,
            quiet_window_ms: 2_000,
            soak_ms: 30_000,
            poll_ms: 100,
            command_timeout_ms: 10_000,
            retry_ms: 50,
            barrier_ms: 1_000,
            hold_limit_ms: None,
        },
    }
}

fn endpoint() -> EndpointSeen {
    let target = Target {
        generation: Generation(1),
        colour: Colour::Blue,
        cluster_id: "cluster-blue".into(),
        bootstrap: vec!["blue:9092".into()],
    };
    let owner = OwnerRecord {
        deployment: "orders".into(),
        term: Term(1),
        nonce: Nonce::new("n"),
        target,
        intent: None,
        removal: None,
    };
    EndpointSeen { record: Some((RecordData::Addresses(vec![]), 30)), owner: Some(owner) }
}

pub(super) fn set(value: &str, source: ConfigSource) -> ConfigValue {
    ConfigValue { value: Some(value.to_owned()), source, is_secret: false }
}

/// What every topic has by default.
pub(super) fn topic_configs() -> ConfigMap {
    let all = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "-1"),
        ("min.insync.replicas", "1"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
    ];
    all.into_iter().map(|(config, value)| (config.to_owned(), set(value, ConfigSource::Default))).collect()
}

fn broker_configs(more: &[(&str, &str)]) -> ConfigMap {
    let all = [
        ("auto.create.topics.enable", "false"),
        ("log.cleanup.policy", "delete"),
        ("log.retention.hours", "168"),
        ("log.retention.bytes", "-1"),
        ("min.insync.replicas", "1"),
    ];
    let all = all.iter().chain(more);
    all.map(|(config, value)| ((*config).to_owned(), set(value, ConfigSource::Default))).collect()
}

fn group() -> GroupDescription {
    GroupDescription {
        protocol: GroupProtocol::Classic,
        protocol_type: "consumer".into(),
        assignor: Some("range".into()),
        state: "Stable".into(),
        members: Some([Member { client_id: "c".into(), host: "/10.0.0.1".into() }].into()),
        topics: ["orders".into()].into(),
    }
}

/// An ACL that lets somebody do something with a topic.
pub(super) fn may(principal: &str, operation: &str, topic: &str) -> AclRule {
    AclRule {
        resource: "topic".into(),
        name: topic.into(),
        pattern: "literal".into(),
        principal: principal.into(),
        host: "*".into(),
        operation: operation.into(),
        permission: "allow".into(),
    }
}

/// What controller and producers need on kutover's own topics.
pub(super) fn own_topics() -> BTreeSet<AclRule> {
    [
        may("User:kutover", "all", CONTROL_TOPIC),
        may("User:kutover", "all", MEMBERS_TOPIC),
        may("User:shop", "read", CONTROL_TOPIC),
        may("User:shop", "write", MEMBERS_TOPIC),
    ]
    .into()
}

fn cluster(name: &str, more: &[(&str, &str)]) -> ClusterSeen {
    let address = format!("{name}:9092");
    let orders = TopicDescription {
        name: "orders".into(),
        id: None,
        partitions: 2,
        replication: 1,
        configs: Some(BTreeMap::new()),
        defaults: BTreeMap::new(),
    };
    ClusterSeen {
        identity: ClusterIdentity {
            cluster_id: format!("cluster-{name}").as_str().into(),
            brokers: [address.clone()].into(),
            version: None,
        },
        topics: vec![orders],
        groups: Ok(GroupListing::Listed([("billing".into(), ["orders".into()].into())].into())),
        described: Ok([("billing".into(), Ok(group()))].into()),
        topic_configs: Ok([("orders".into(), Ok(topic_configs()))].into()),
        brokers: Ok([(0, Ok(broker_configs(more)))].into()),
        access: Ok(Access {
            acls: Some(own_topics()),
            quotas: Some(BTreeMap::new()),
            scram_users: Some(BTreeMap::new()),
            auto_creates_topics: Some(false),
        }),
        fence: Ok(BTreeSet::new()),
        reach: [(address, Ok(()))].into(),
        connect: None,
    }
}

/// What a leader says.
fn heard(end: i64, producers: BTreeMap<i64, ProducerState>) -> PartitionWriters {
    PartitionWriters { end_before: Offset(end), end: Offset(end), producers }
}

pub(super) fn places() -> [TopicPartition; 2] {
    [TopicPartition::new("orders", 0), TopicPartition::new("orders", 1)]
}

pub(super) fn progress(committed: i64) -> Result<GroupProgress, String> {
    Ok(GroupProgress { committed: Some(Offset(committed)), tail: Tail::NotRead })
}

/// The group reads 50 records of each partition in a second and is done; producer 7 writes 50.
fn traffic() -> Traffic {
    let seen = |end: i64, committed| Observation {
        logs: places()
            .into_iter()
            .map(|place| (place, Ok(LogRange { start: Offset(0), end: Offset(end) })))
            .collect(),
        progress: places()
            .into_iter()
            .map(|place| ((GroupId::new("billing"), place), progress(committed)))
            .collect(),
        open: BTreeMap::new(),
    };
    let look = |at_ms, end: i64, last_sequence| {
        let state = ProducerState {
            epoch: 0,
            last_sequence,
            last_timestamp_ms: 999_000,
            transactional: false,
            coordinator_epoch: -1,
            open_since: None,
        };
        let writers = |_| Ok(heard(end, [(7, state)].into()));
        Look {
            at_ms,
            partitions: places().into_iter().map(|place| (place.clone(), writers(place))).collect(),
        }
    };
    Traffic {
        first: look(0, 50, 49),
        second: look(1_000, 100, 99),
        transactional_ids: Some(Ok(BTreeMap::new())),
        open: BTreeMap::new(),
        before: seen(50, 50),
        now: seen(100, 100),
        over_ms: 1_000,
        sizes: Some(Ok(places().into_iter().map(|place| (place, Ok(10_000))).collect())),
        ages: BTreeMap::new(),
        members: Some(Ok(1)),
    }
}
