//! All that a plan is refused over, one by one, with what waives it.

use super::world::{World, places, progress, set};
use super::*;
use crate::cutover::{ConnectPlan, ConnectorChoice, Topics};
use crate::decisions::stragglers::ProducerState;
use crate::drain::Coordinated;
use crate::ports::{ConfigSource, ConnectorDescription, ConnectorKind, ConnectorState, GroupProtocol};
use crate::words::Offset;

/// One thing that a plan is refused over: how it comes about, and what waives it.
pub(super) struct Trouble {
    pub(super) code: Code,
    pub(super) subject: &'static str,
    /// The field that waives it.
    pub(super) field: Option<&'static str>,
    pub(super) spoil: fn(&mut World),
    pub(super) waive: Option<fn(&mut World)>,
}

fn named(names: &[&str]) -> Names {
    Names::Named(names.iter().map(ToString::to_string).collect())
}

pub(super) fn topics(names: &[&str]) -> Topics {
    Topics::Named(names.iter().map(|name| TopicName::new(*name)).collect())
}

pub(super) fn history(world: &mut World, topic: &str) {
    let Topics::Named(waived) = &mut world.plan.waived_history else { unreachable!() };
    waived.insert(topic.into());
}

/// Brokers, addresses, identities.
fn troubles_of_clusters() -> Vec<Trouble> {
    vec![
        Trouble {
            code: Code::SameCluster,
            subject: "cluster-blue",
            field: None,
            spoil: |world| {
                let shared = world.blue().identity.brokers.clone();
                world.green().identity.brokers.extend(shared);
            },
            waive: None,
        },
        Trouble {
            code: Code::SameCluster,
            subject: "cluster-blue",
            field: None,
            // The controller comes to each by a path of its own; clients are led to one broker of both.
            spoil: |world| {
                for colour in Colour::BOTH {
                    let cluster = if colour == Colour::Blue { world.blue() } else { world.green() };
                    cluster.reach.insert("proxy:9092".into(), Ok(()));
                }
            },
            waive: None,
        },
        Trouble {
            code: Code::WrongCluster,
            subject: "kafka.orders.test",
            field: None,
            spoil: |world| {
                let seen = world.survey.endpoints.values_mut().next().unwrap().as_mut().unwrap();
                seen.owner.as_mut().unwrap().target.cluster_id = "cluster-of-last-year".into();
            },
            waive: None,
        },
        Trouble {
            code: Code::UnreachableBroker,
            subject: "green:9092",
            field: Some("plan.waive_unreachable"),
            spoil: |world| {
                world.green().reach.insert("green:9092".into(), Err("connection refused".into()));
            },
            waive: Some(|world| world.waivers.unreachable = named(&["green:9092"])),
        },
        Trouble {
            code: Code::Access,
            subject: "green",
            field: None,
            spoil: |world| world.access(Colour::Green).auto_creates_topics = Some(true),
            waive: None,
        },
        Trouble {
            code: Code::ScramUser,
            subject: "alice",
            field: None,
            spoil: |world| {
                let users = world.access(Colour::Blue).scram_users.as_mut().unwrap();
                users.insert("alice".into(), ["SCRAM-SHA-512".into()].into());
            },
            waive: Some(|world| world.waivers.passwords = [(Colour::Green, ["alice".into()].into())].into()),
        },
        Trouble {
            code: Code::Parity,
            subject: "min.insync.replicas",
            field: None,
            spoil: |world| {
                let old = world.blue();
                let orders = old.topic_configs.as_mut().unwrap().get_mut(&TopicName::new("orders")).unwrap();
                let configs = orders.as_mut().unwrap();
                configs.insert("min.insync.replicas".into(), set("2", ConfigSource::Broker));
            },
            waive: None,
        },
        Trouble {
            code: Code::Parity,
            subject: "orders",
            field: None,
            spoil: |world| {
                let words = "segment.bytes: Value must be at least 1048576".to_owned();
                world.survey.refused_topics = [("orders".into(), words)].into();
            },
            waive: None,
        },
        Trouble {
            code: Code::Parity,
            subject: "cleanup.policy",
            field: None,
            spoil: |world| {
                world.add_topic("state", &[]);
                history(world, "state");
                let state = TopicName::new("state");
                let old = world.blue().topic_configs.as_mut().unwrap().get_mut(&state).unwrap();
                let compacted = set("compact", ConfigSource::Broker);
                old.as_mut().unwrap().insert("cleanup.policy".into(), compacted);
            },
            waive: None,
        },
        Trouble {
            code: Code::Parity,
            subject: "orders",
            field: Some("plan.waive_replicas"),
            spoil: |world| world.blue().topics[0].replication = 3,
            waive: Some(|world| world.plan.waived_replicas = topics(&["orders"])),
        },
        Trouble {
            code: Code::SuperUser,
            subject: "User:batch",
            field: Some("plan.waive_super_users"),
            spoil: |world| {
                let broker = world.blue().brokers.as_mut().unwrap().get_mut(&0).unwrap().as_mut().unwrap();
                broker.insert("super.users".into(), set("User:batch", ConfigSource::Broker));
            },
            waive: Some(|world| world.waivers.super_users = named(&["User:batch"])),
        },
    ]
}

/// Who reads and who writes.
fn troubles_of_clients() -> Vec<Trouble> {
    vec![
        Trouble {
            code: Code::ShareGroup,
            subject: "sharers",
            field: Some("plan.waive_groups"),
            spoil: |world| world.add_group("sharers", GroupProtocol::Share, "simple"),
            waive: Some(|world| {
                world.plan.waived_groups.insert("sharers".into());
            }),
        },
        Trouble {
            code: Code::Streams,
            subject: "counts",
            field: Some("plan.waive_streams"),
            spoil: |world| world.add_group("counts", GroupProtocol::Classic, "stream"),
            waive: Some(|world| world.waivers.streams = named(&["counts"])),
        },
        Trouble {
            code: Code::UnknownGroup,
            subject: "silent",
            field: Some("plan.waive_groups"),
            spoil: |world| {
                world.add_group("silent", GroupProtocol::Classic, "range");
                let answer = world.blue().described.as_mut().unwrap().get_mut(&GroupId::new("silent"));
                *answer.unwrap() = Err("not authorised".into());
            },
            waive: Some(|world| {
                world.plan.waived_groups.insert("silent".into());
            }),
        },
        Trouble {
            code: Code::Transactions,
            subject: "pay",
            field: Some("plan.waive_transactions"),
            spoil: |world| {
                world.survey.traffic.transactional_ids = Some(Ok([("pay".into(), "Empty".into())].into()));
            },
            waive: Some(|world| world.waivers.transactions = named(&["pay"])),
        },
        Trouble {
            code: Code::HangingTransaction,
            subject: "topic orders, partition 1",
            field: None,
            spoil: |world| {
                let state = ProducerState {
                    epoch: 0,
                    last_sequence: 3,
                    last_timestamp_ms: 1,
                    transactional: true,
                    coordinator_epoch: 0,
                    open_since: Some(Offset(4)),
                };
                let traffic = &mut world.survey.traffic;
                let open = OpenTransaction {
                    producer_id: 9,
                    epoch: 0,
                    coordinator_epoch: 0,
                    since: Offset(4),
                    last_write_ms: 1,
                    coordinator: Coordinated::Forgotten,
                };
                traffic.open.insert(places()[1].clone(), Ok(vec![open]));
                for look in [&mut traffic.first, &mut traffic.second] {
                    let writers = look.partitions.get_mut(&places()[1]).unwrap().as_mut().unwrap();
                    writers.producers.insert(9, state);
                }
            },
            waive: None,
        },
        Trouble {
            code: Code::Retention,
            subject: "slow",
            field: Some("plan.waive_retention"),
            spoil: |world| {
                world.add_group("slow", GroupProtocol::Consumer, "uniform");
                for place in places() {
                    for seen in [&mut world.survey.traffic.before, &mut world.survey.traffic.now] {
                        seen.progress.insert(("slow".into(), place.clone()), progress(40));
                    }
                }
                // On one partition alone it has stopped.
                let key = ("slow".into(), places()[1].clone());
                world.survey.traffic.now.progress.insert(key, progress(100));
            },
            waive: Some(|world| world.waivers.retention = topics(&["orders"])),
        },
    ]
}

/// Topics and what is kept of them.
fn troubles_of_topics() -> Vec<Trouble> {
    vec![
        Trouble {
            code: Code::UnreadTopic,
            subject: "audit",
            field: Some("plan.waive_unread"),
            spoil: |world| {
                world.add_topic("audit", &[]);
                history(world, "audit");
                let Ok(GroupListing::Listed(groups)) = &mut world.blue().groups else { unreachable!() };
                groups.values_mut().for_each(|topics| {
                    topics.remove(&TopicName::new("audit"));
                });
            },
            waive: Some(|world| world.waivers.unread = topics(&["audit"])),
        },
        Trouble {
            code: Code::History,
            subject: "ledger",
            field: Some("plan.waive_history"),
            spoil: |world| world.add_topic("ledger", &[("cleanup.policy", "compact")]),
            waive: Some(|world| history(world, "ledger")),
        },
        Trouble {
            code: Code::Schemas,
            subject: "_schemas",
            field: Some("plan.waive_history"),
            spoil: |world| world.add_topic("_schemas", &[("cleanup.policy", "compact")]),
            waive: Some(|world| history(world, "_schemas")),
        },
        Trouble {
            code: Code::Retention,
            subject: "ticks",
            field: Some("plan.waive_retention"),
            spoil: |world| {
                // Kept for a minute: what is written while producers converge, doubled, takes two.
                world.add_topic("ticks", &[("retention.ms", "60000")]);
                history(world, "ticks");
            },
            waive: Some(|world| world.waivers.retention = topics(&["ticks"])),
        },
        Trouble {
            code: Code::Retention,
            subject: "offsets.retention.minutes",
            field: None,
            spoil: |world| {
                world.plan.timings.soak_ms = 120_000;
                let broker = world.blue().brokers.as_mut().unwrap().get_mut(&0).unwrap().as_mut().unwrap();
                broker.insert("offsets.retention.minutes".into(), set("2", ConfigSource::Broker));
            },
            waive: None,
        },
    ]
}

/// Workers of both clusters, each with its own id, unless they were asked before: blue's with a source.
pub(super) fn with_workers(world: &mut World) {
    if world.plan.connect.is_some() {
        return;
    }
    world.plan.connect = Some(ConnectPlan { connectors: ConnectorChoice::All, topics: BTreeSet::new() });
    let (kind, state) = (ConnectorKind::Source, ConnectorState::Running);
    let source = ConnectorDescription { kind, state, failed: false, tasks: 1 };
    let connectors = [("files-in".into(), source)].into();
    world.blue().connect = Some(Ok(ConnectSeen { cluster_id: "cluster-blue".into(), connectors }));
    let connectors = BTreeMap::new();
    world.green().connect = Some(Ok(ConnectSeen { cluster_id: "cluster-green".into(), connectors }));
}

fn troubles_of_connect() -> Vec<Trouble> {
    vec![
        Trouble {
            code: Code::Connect,
            subject: "workers of blue",
            field: None,
            spoil: |world| {
                with_workers(world);
                let Some(Ok(seen)) = &mut world.blue().connect else { unreachable!() };
                seen.cluster_id = "cluster-other".into();
            },
            waive: None,
        },
        Trouble {
            code: Code::Connect,
            subject: "workers of green",
            field: None,
            spoil: |world| {
                with_workers(world);
                world.green().connect = Some(Err("connection refused".into()));
            },
            waive: None,
        },
    ]
}

pub(super) fn troubles() -> Vec<Trouble> {
    let mut all = troubles_of_clusters();
    all.extend(troubles_of_clients());
    all.extend(troubles_of_topics());
    all.extend(troubles_of_connect());
    all
}
