//! What a person reads, whole, of a world with one of each kind.

use std::collections::{BTreeMap, BTreeSet};

use kutover_controller::config::Config;
use kutover_core::decisions::early_members::Member;
use kutover_core::decisions::stragglers::{Look, PartitionWriters, ProducerState};
use kutover_core::drain::{Coordinated, GroupProgress, LogRange, Observation, OpenTransaction, Tail};
use kutover_core::ports::{
    Access, AclRule, ClusterIdentity, ConfigMap, ConfigSource, ConfigValue, ConnectorDescription,
    GroupDescription, GroupListing, GroupProtocol, RecordData, TopicDescription,
};
use kutover_core::survey::{
    ClusterSeen, ConnectSeen, EndpointSeen, OwnTopic, Stands, Survey, Traffic, assess,
};
use kutover_core::words::{Colour, DnsName, GroupId, Offset, TopicPartition};

use super::*;

const CONFIG: &str = r#"
deployment = "orders"
journal = "orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]
dns = { kind = "local", zone = "orders.test", listen = "127.0.0.1:0", ttl_s = 5 }

[clusters.blue]
provisioner = { kind = "lab", kafka = "embedded" }
[clusters.green]
provisioner = { kind = "lab", kafka = "embedded" }

[plan]
ttl = "5s"
soak = "30s"
waive_groups = ["audit"]
waive_history = ["orders"]
raise_retention = ["orders"]
"#;

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn configs(all: &[(&str, &str)]) -> ConfigMap {
    let value = |text: &str| ConfigValue {
        value: Some(text.to_owned()),
        source: ConfigSource::Default,
        is_secret: false,
    };
    all.iter().map(|(config, text)| ((*config).to_owned(), value(text))).collect()
}

fn cluster(colour: Colour, retention_hours: &str) -> ClusterSeen {
    let address = format!("{colour}:9092");
    ClusterSeen {
        identity: ClusterIdentity {
            cluster_id: format!("cluster-{colour}").as_str().into(),
            brokers: [address.clone()].into(),
            version: Some("3.9".to_owned()),
        },
        topics: vec![],
        groups: Ok(GroupListing::Listed(BTreeMap::new())),
        described: Ok(BTreeMap::new()),
        topic_configs: Ok(BTreeMap::new()),
        brokers: Ok([(
            0,
            Ok(configs(&[
                ("log.retention.hours", retention_hours),
                ("log.retention.bytes", "-1"),
                ("min.insync.replicas", "1"),
                ("super.users", "User:root"),
            ])),
        )]
        .into()),
        access: Ok(Access {
            acls: Some(BTreeSet::new()),
            quotas: Some(BTreeMap::new()),
            scram_users: Some(BTreeMap::new()),
            auto_creates_topics: Some(false),
        }),
        fence: Ok(BTreeSet::new()),
        reach: [(address, Ok(()))].into(),
        connect: None,
    }
}

/// `orders` moves, and is read by one group of each kind; `state` is compacted.
fn blue() -> ClusterSeen {
    let topic = |name: &str| TopicDescription {
        name: name.into(),
        id: None,
        partitions: 1,
        replication: 3,
        configs: Some(BTreeMap::new()),
        defaults: BTreeMap::new(),
    };
    let group = |protocol, assignor: &str| {
        Ok(GroupDescription {
            protocol,
            protocol_type: "consumer".into(),
            assignor: Some(assignor.to_owned()),
            state: "Stable".into(),
            members: Some([Member { client_id: "c".into(), host: "/10.0.0.1".into() }].into()),
            topics: ["orders".into()].into(),
        })
    };
    let seven_days = [("retention.ms", "604800000"), ("retention.bytes", "-1"), ("min.insync.replicas", "1")];
    let with = |policy| {
        let mut all = configs(&seven_days);
        all.extend(configs(&[("cleanup.policy", policy)]));
        Ok(all)
    };
    let connector = ConnectorDescription {
        kind: ConnectorKind::Sink,
        state: ConnectorState::Running,
        failed: false,
        tasks: 1,
    };
    let rule = AclRule {
        resource: "topic".into(),
        name: "orders".into(),
        pattern: "literal".into(),
        principal: "User:shop".into(),
        host: "*".into(),
        operation: "write".into(),
        permission: "allow".into(),
    };
    let mut blue = cluster(Colour::Blue, "168");
    blue.topics = vec![topic("orders"), topic("state")];
    let reads = |name: &str| (GroupId::new(name), BTreeSet::from(["orders".into()]));
    blue.groups = Ok(GroupListing::Listed([reads("audit"), reads("billing"), reads("gone")].into()));
    blue.described = Ok([
        ("audit".into(), group(GroupProtocol::Consumer, "uniform")),
        ("billing".into(), group(GroupProtocol::Classic, "range")),
        ("connect-files".into(), group(GroupProtocol::Classic, "range")),
        ("counts".into(), group(GroupProtocol::Streams, "stream")),
        ("gone".into(), Err("timed out".to_owned())),
        ("sharing".into(), group(GroupProtocol::Share, "simple")),
    ]
    .into());
    blue.topic_configs = Ok([("orders".into(), with("delete")), ("state".into(), with("compact"))].into());
    blue.access.as_mut().unwrap().acls = Some([rule].into());
    let connectors = [("files".into(), connector)].into();
    blue.connect = Some(Ok(ConnectSeen { cluster_id: "cluster-blue".into(), connectors }));
    blue
}

/// In two seconds `billing` reads 40 of 100 records, producer 7 writes, and a transaction hangs.
fn traffic() -> Traffic {
    let seen = |end, committed| Observation {
        logs: [(orders(), Ok(LogRange { start: Offset(10), end: Offset(end) }))].into(),
        progress: [("billing", Some(committed)), ("gone", Some(4))]
            .map(|(group, committed)| {
                let progress = GroupProgress { committed: committed.map(Offset), tail: Tail::Data };
                ((group.into(), orders()), Ok(progress))
            })
            .into(),
        ..Observation::default()
    };
    let state = |last_sequence, open_since: Option<i64>| ProducerState {
        epoch: 0,
        last_sequence,
        last_timestamp_ms: 999_000,
        transactional: open_since.is_some(),
        coordinator_epoch: 0,
        open_since: open_since.map(Offset),
    };
    let look = |at_ms, end, last| {
        let producers = [(7, state(last, None)), (9, state(3, Some(60)))].into();
        let writers = PartitionWriters { end_before: Offset(end), end: Offset(end), producers };
        Look { at_ms, partitions: [(orders(), Ok(writers))].into() }
    };
    let hangs = OpenTransaction {
        producer_id: 9,
        epoch: 0,
        coordinator_epoch: 0,
        since: Offset(60),
        last_write_ms: 1,
        coordinator: Coordinated::Forgotten,
    };
    Traffic {
        first: look(0, 90, 79),
        second: look(2_000, 110, 99),
        transactional_ids: Some(Err("timed out".to_owned())),
        open: [(orders(), Ok(vec![hangs]))].into(),
        before: seen(90, 30),
        now: seen(110, 70),
        over_ms: 2_000,
        sizes: Some(Ok([(orders(), Ok(10_000))].into())),
        ages: [(orders(), Ok(5_000))].into(),
        members: Some(Ok(1)),
    }
}

/// Everything that can stand in a plan, as it stands there. Whoever changes how it reads sees what becomes of it.
#[test]
fn a_plan_with_one_of_each_kind_reads_so() {
    let config = Config::parse(CONFIG).unwrap();
    let plan = config.cutover_plan();
    let endpoint =
        EndpointSeen { record: Some((RecordData::Cname(DnsName::new("blue.test")), 60)), owner: None };
    let survey = Survey {
        from: Colour::Blue,
        endpoints: [(DnsName::new("kafka.orders.test").into(), Ok(endpoint))].into(),
        old: Ok(blue()),
        new: Some(Ok(cluster(Colour::Green, "24"))),
        traffic: traffic(),
        takes_records: Some(Ok(())),
        refused_configs: Ok(BTreeMap::new()),
        refused_topics: BTreeMap::new(),
        now_ms: 1_000_000,
    };
    let text = render(&assess(&survey, &plan, &config.gate().waivers));
    assert_eq!(text, include_str!("golden.txt").trim_end(), "it reads so now:\n{text}");
}

#[test]
fn acls_that_are_asked_for_come_with_their_commands() {
    let reason = "its ACLs let in nobody but the controller".to_owned();
    let commands = ["kafka-acls.sh --add a", "kafka-acls.sh --add b"].map(str::to_owned).into();
    let topics = vec![OwnTopic { topic: "kutover.members", stands: Stands::Shut, reason }];
    let mut text = String::new();
    asked(&[AclsAsked { colour: Colour::Green, topics, commands }], &mut text);
    assert_eq!(
        text,
        "\nACLs that green should have on kutover's own topics:\n  - kutover.members: its ACLs let in nobody but the \
         controller\n  With the principals in place of those in capitals:\n    kafka-acls.sh --add a\n    kafka-acls.sh \
         --add b\n"
    );
    text.clear();
    asked(&[], &mut text);
    assert!(text.is_empty());
}
