//! Looking at clusters before a cutover: whatever does not answer is said, and what a plan is refused over a cutover does
//! not begin.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::{CONFIG, Connector, backends, holds, place, world};
use kutover_controller::config::Config;
use kutover_controller::driver::{Backends, ClusterConnector, ClusterLinks, Controller, Finished, Gate};
use kutover_controller::survey::{SurveyLinks, SurveyRequest, survey};
use kutover_core::cutover::{Event, Stop};
use kutover_core::drain::LogRange;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{
    ClusterAdmin as _, ClusterIdentity, ClusterProvisioner as _, ClusterSurvey, ConfigSource, ConfigValue,
    Incarnation, RefusedTopics, TopicDescription,
};
use kutover_core::survey::{Code, EndpointSeen, Names, Outcome, Survey, Waivers, assess};
use kutover_core::words::{Colour, DnsName, Generation, Offset, TopicPartition};
use kutover_memory::{Fault, MemoryCluster, MemoryWorld, StoredRecord};
use kutover_testkit::mocks::{MockClusterAdmin, MockClusterSurvey, MockProducerSurvey};
use tokio::sync::mpsc;

fn unsupported<T>() -> ProviderResult<T> {
    Err(ProviderError::new(ErrorKind::Unsupported, "look", "this cluster has no such call"))
}

fn reached(addresses: &BTreeSet<String>) -> BTreeMap<String, Result<(), String>> {
    addresses.iter().map(|one| (one.clone(), Ok(()))).collect()
}

/// A cluster of which nothing but topics, groups and ends is told.
fn close_mouthed(cluster: &MemoryCluster) -> SurveyLinks {
    let mut mock = MockClusterSurvey::new();
    mock.expect_topic_configs().returning(|_| unsupported());
    mock.expect_broker_configs().returning(unsupported);
    mock.expect_refused_topics().returning(|_| unsupported());
    mock.expect_describe_groups().returning(unsupported);
    mock.expect_transactional_ids().returning(unsupported);
    mock.expect_sizes().returning(|_| unsupported());
    mock.expect_ages().returning(|_, _| unsupported());
    mock.expect_client_addresses().returning(|| None);
    mock.expect_reach().returning(reached);
    let mut producers = MockProducerSurvey::new();
    producers.expect_writers().returning(|_| unsupported());
    producers.expect_open_transactions().returning(|_| unsupported());
    let cluster = Arc::new(cluster.clone());
    let links = ClusterLinks {
        admin: cluster.clone(),
        lag: cluster.clone(),
        survey: Arc::new(producers),
        registry: cluster.clone(),
        ids: cluster,
    };
    SurveyLinks { links, look: Arc::new(mock), workers: None }
}

fn gate() -> Gate {
    Config::parse(CONFIG).expect("a configuration").gate()
}

async fn look(old: &MemoryCluster, new: Option<Result<SurveyLinks, String>>) -> Survey {
    let plan = Config::parse(CONFIG).expect("a configuration").cutover_plan();
    let seen = EndpointSeen { record: None, owner: None };
    let endpoints = BTreeMap::from([(DnsName::new("kafka.orders.test").into(), Ok(seen))]);
    let (old, mut watch) = (Ok(close_mouthed(old)), gate().watch);
    watch.time = Duration::from_secs(10);
    survey(SurveyRequest { plan: &plan, from: Colour::Blue, endpoints, old, new, watch: &watch }).await
}

async fn clusters() -> (MemoryWorld, MemoryCluster, MemoryCluster) {
    let world = MemoryWorld::new();
    for colour in Colour::BOTH {
        world.provisioner.provision(colour, &"test".into()).await.expect("a cluster");
    }
    let (blue, green) = (world.cluster(Colour::Blue), world.cluster(Colour::Green));
    (world, blue.expect("blue"), green.expect("green"))
}

#[tokio::test(start_paused = true)]
async fn what_a_cluster_cannot_tell_is_said() {
    let (_world, blue, green) = clusters().await;
    blue.add_topic("orders", 1);
    let place = TopicPartition::new("orders", 0);
    blue.produce(&place, StoredRecord::default()).expect("stored");
    let seen = look(&blue, Some(Ok(close_mouthed(&green)))).await;
    let old = seen.old.as_ref().expect("it was looked at");
    assert!(old.described.is_err() && old.brokers.is_err() && old.topic_configs.is_err());
    assert!(seen.traffic.second.partitions[&place].is_err(), "who does not answer has no writers");
    assert_eq!(seen.traffic.now.logs[&place], Ok(LogRange { start: Offset(0), end: Offset(1) }));
    assert_eq!(seen.traffic.over_ms, 10_000, "it watched for as long as it was told");
    let plan =
        assess(&seen, &Config::parse(CONFIG).expect("a configuration").cutover_plan(), &gate().waivers);
    assert_eq!(plan.outcome, Outcome::Refused);
    for what in ["groups of blue", "configs of brokers of green", "transactional ids", "who writes"] {
        assert!(plan.unknown.iter().any(|unknown| unknown.what == what), "{what}: {:?}", plan.unknown);
    }
}

/// Whoever is to prove the fence is asked for while there is none; a fence that is left over says nothing of who asks.
#[tokio::test(start_paused = true)]
async fn whether_the_old_cluster_takes_records_is_asked() {
    let (world, blue, green) = clusters().await;
    blue.add_topic("orders", 1);
    let seen = look(&blue, Some(Ok(close_mouthed(&green)))).await;
    assert_eq!(seen.takes_records, Some(Ok(())));
    blue.raise_fence(&["orders".into()]).await.expect("raised");
    let seen = look(&blue, Some(Ok(close_mouthed(&green)))).await;
    assert_eq!(seen.takes_records, Some(Ok(())));
    let refused = ProviderError::new(ErrorKind::Refused, "prove that orders takes records", "not authorised");
    world.faults.always("blue.prove_open", Fault::Fail(refused));
    let seen = look(&blue, Some(Ok(close_mouthed(&green)))).await;
    assert!(matches!(seen.takes_records, Some(Err(_))), "{:?}", seen.takes_records);
    world.faults.always("blue.prove_open", Fault::NotDone);
    let seen = look(&blue, Some(Ok(close_mouthed(&green)))).await;
    assert_eq!(seen.takes_records, None, "too few replicas refuse everybody");
}

#[tokio::test(start_paused = true)]
async fn a_dead_cluster_is_unreachable_and_the_other_is_still_looked_at() {
    let (_world, blue, green) = clusters().await;
    blue.add_topic("orders", 1);
    green.kill();
    let seen = look(&blue, Some(Ok(close_mouthed(&green)))).await;
    assert!(seen.old.is_ok() && seen.new.as_ref().is_some_and(Result::is_err));
    let plan =
        assess(&seen, &Config::parse(CONFIG).expect("a configuration").cutover_plan(), &gate().waivers);
    assert_eq!((plan.outcome, plan.topics.len()), (Outcome::Unreachable, 1));
    let nothing_there = look(&blue, None).await;
    assert_eq!(nothing_there.new, None);
}

/// A cluster with a broker that nobody reaches: what wants every broker's answer fails, and the rest does not.
fn with_a_dead_broker(cluster: &MemoryCluster) -> SurveyLinks {
    let dead = |what: &str| ProviderError::new(ErrorKind::Unreachable, what, "connection refused");
    let SurveyLinks { links, .. } = close_mouthed(cluster);
    let mut admin = MockClusterAdmin::new();
    admin.expect_identity().returning(|| {
        let brokers = ["10.0.0.1:9093".to_owned(), "10.0.0.2:9093".to_owned()].into();
        Ok(ClusterIdentity { cluster_id: "cluster-blue".into(), brokers, version: None })
    });
    admin.expect_topics().returning(|| {
        let (configs, defaults) = (Some(BTreeMap::new()), BTreeMap::new());
        let name = "orders".into();
        Ok(vec![TopicDescription { name, id: None, partitions: 1, replication: 1, configs, defaults }])
    });
    admin.expect_groups().returning(move || Err(dead("list the groups of broker 2")));
    admin.expect_access().returning(move || Err(dead("describe the cluster")));
    admin.expect_fence_traces().returning(|| Ok(BTreeSet::new()));
    admin.expect_prove_open().returning(|_| Ok(()));
    let mut look = MockClusterSurvey::new();
    look.expect_topic_configs().returning(|_| unsupported());
    look.expect_broker_configs().returning(unsupported);
    look.expect_describe_groups().returning(unsupported);
    look.expect_refused_topics().returning(|_| unsupported());
    look.expect_transactional_ids().returning(unsupported);
    look.expect_sizes().returning(|_| unsupported());
    look.expect_ages().returning(|_, _| unsupported());
    look.expect_client_addresses()
        .returning(|| Some(["kafka-1:9092".to_owned(), "kafka-2:9092".to_owned()].into()));
    look.expect_reach().returning(|addresses| {
        let answer = |one: &String| match one.as_str() {
            "kafka-1:9092" => Ok(()),
            _ => Err("connection refused".to_owned()),
        };
        addresses.iter().map(|one| (one.clone(), answer(one))).collect()
    });
    let links = ClusterLinks { admin: Arc::new(admin), ..links };
    SurveyLinks { links, look: Arc::new(look), workers: None }
}

/// One dead address is named, where clients are sent to, although no groups can be listed for it: the plan is refused, and
/// not blank. The address can be waived; that nobody knows who reads cannot.
#[tokio::test(start_paused = true)]
async fn a_dead_broker_is_named_and_the_rest_is_still_looked_at() {
    let (_world, blue, green) = clusters().await;
    blue.add_topic("orders", 1);
    let plan = Config::parse(CONFIG).expect("a configuration").cutover_plan();
    let mut watch = gate().watch;
    watch.time = Duration::from_secs(10);
    let request = SurveyRequest {
        plan: &plan,
        from: Colour::Blue,
        endpoints: BTreeMap::new(),
        old: Ok(with_a_dead_broker(&blue)),
        new: Some(Ok(close_mouthed(&green))),
        watch: &watch,
    };
    let seen = survey(request).await;
    let named = |waivers: &Waivers| {
        let assessment = assess(&seen, &plan, waivers);
        assert_eq!((assessment.outcome, assessment.topics.len()), (Outcome::Refused, 1));
        let about = |code| {
            let of_it = assessment.refusals.iter().filter(move |one| one.code == code);
            of_it.map(|one| one.subject.clone()).collect::<Vec<_>>()
        };
        (about(Code::UnreachableBroker), about(Code::UnknownGroups))
    };
    let mut waivers = gate().waivers;
    let groups = vec!["groups".to_owned()];
    assert_eq!(named(&waivers), (vec!["kafka-2:9092".to_owned()], groups.clone()));
    waivers.unreachable = Names::Named(["kafka-2:9092".to_owned()].into());
    assert_eq!(named(&waivers), (vec![], groups));
}

/// The world's clusters, with nothing wrong but a transactional id, for so many looks.
struct Payers {
    world: Connector,
    looks: Arc<AtomicUsize>,
}

#[async_trait]
impl ClusterConnector for Payers {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        self.world.connect(incarnation).await
    }

    async fn survey(&self, _: &Incarnation) -> ProviderResult<Arc<dyn ClusterSurvey>> {
        let value = |value: &str| ConfigValue {
            value: Some(value.to_owned()),
            source: ConfigSource::Default,
            is_secret: false,
        };
        let configs: BTreeMap<String, ConfigValue> =
            [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")]
                .map(|(name, text)| (name.to_owned(), value(text)))
                .into();
        let mut mock = MockClusterSurvey::new();
        let of_topics = configs.clone();
        mock.expect_topic_configs().returning(move |topics| {
            Ok(topics.iter().map(|one| (one.clone(), Ok(of_topics.clone()))).collect())
        });
        let of_brokers = [("log.retention.ms", "-1"), ("log.retention.bytes", "-1")];
        let of_brokers: BTreeMap<_, _> = of_brokers.map(|(name, text)| (name.to_owned(), value(text))).into();
        mock.expect_broker_configs().returning(move || Ok([(0, Ok(of_brokers.clone()))].into()));
        mock.expect_refused_topics().returning(|_| Ok(RefusedTopics::default()));
        mock.expect_describe_groups().returning(|| Ok(BTreeMap::new()));
        let looks = Arc::clone(&self.looks);
        mock.expect_transactional_ids().returning(move || {
            let left = looks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            Ok(left.map_or_else(|_| BTreeMap::new(), |_| [("pay".to_owned(), "Empty".to_owned())].into()))
        });
        mock.expect_sizes().returning(|_| Ok(BTreeMap::new()));
        mock.expect_ages().returning(|_, _| Ok(BTreeMap::new()));
        mock.expect_client_addresses().returning(|| None);
        mock.expect_reach().returning(reached);
        Ok(Arc::new(mock))
    }
}

/// Runs a cutover behind a gate, with an id that is there for so many looks.
async fn gated(world: &MemoryWorld, looks: usize, gate: Gate, hold_limit: &str) -> (Finished, Vec<Event>) {
    let config = CONFIG.replace("hold_limit = \"60s\"", &format!("hold_limit = \"{hold_limit}\""));
    let config = Config::parse(&config).expect("a configuration");
    let clusters = Payers { world: Connector(world.clone()), looks: Arc::new(AtomicUsize::new(looks)) };
    let backends = Backends { clusters: Arc::new(clusters), ..backends(world) };
    let controller = Controller::new(config.cutover_plan(), config.deployment(), backends).with_gate(gate);
    let (_operator, words) = mpsc::unbounded_channel();
    let mut events = vec![];
    let finished = controller.run(words, |event| events.push(event)).await.expect("the journal");
    (finished, events)
}

/// What a plan is refused over, `up` does not begin: nothing is made, fenced or published.
#[tokio::test(start_paused = true)]
async fn a_cutover_does_not_begin_over_a_plans_refusal() {
    let world = world().await;
    let (finished, _) = gated(&world, usize::MAX, gate(), "20s").await;
    let Stop::Aborted(reason) = &finished.stop else { panic!("{:?}", finished.stop) };
    assert!(
        reason.contains("transactional id pay") && reason.contains("plan.waive_transactions"),
        "{reason}"
    );
    let blue = world.cluster(Colour::Blue).expect("blue");
    assert!(blue.fenced().is_empty());
    assert_eq!(world.dns.active_cluster(&"kafka.orders.test".into()), Some(blue.cluster_id()));
}

/// The hold goes by itself when its cause ends, and a waiver by name lets the cutover begin at once. Either way each record
/// that was on blue was read there.
#[tokio::test(start_paused = true)]
async fn it_begins_when_the_refusal_ends_or_is_waived() {
    let mut waived = gate();
    waived.waivers.transactions = Names::Named(["pay".to_owned()].into());
    for (looks, gate, holding) in [(2, gate(), true), (usize::MAX, waived, false)] {
        let world = world().await;
        let (finished, events) = gated(&world, looks, gate, "60s").await;
        assert_eq!(finished.stop, Stop::Complete);
        let named = holds(&events).iter().any(|reason| reason.contains("transactional id pay"));
        assert_eq!(named, holding, "{:?}", holds(&events));
        let ends = finished.progress.chain.closed_ends(Generation(1), &[place(0), place(1)]).expect("closed");
        assert_eq!(ends.values().map(|end| end.0).collect::<Vec<_>>(), [10, 10]);
    }
}
