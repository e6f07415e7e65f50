//! Every part of the world against its port's contract, without weather and in calm weather.

use std::sync::Arc;

use async_trait::async_trait;
use kutover_core::decisions::stragglers::Sign;
use kutover_core::error::{ErrorKind, Outcome, ProviderResult};
use kutover_core::owner::Target;
use kutover_core::ports::{
    Access, ClientEvents, ClusterAdmin as _, ClusterProvisioner as _, DnsProvider as _, EndpointAnswer,
    Journal as _, LagQuery, NewTopic, ProducerClient, ProducerFactory, ProducerSurvey as _, Published,
    RecordData, RecordRef, RecordSet, Refusal, Registry as _, Token,
};
use kutover_core::words::{ClusterId, Colour, Generation, GroupId, Offset, TopicName, TopicPartition};
use kutover_memory::{
    CalmWeather, ClientOptions, ClusterOptions, Fault, ForeignProducer, Isolation, MemoryClient,
    MemoryCluster, MemoryFactory, MemoryResolver, MemoryTransaction, MemoryWorld, ResolverOptions,
    StoredRecord,
};
use kutover_testkit::conformance::{
    admin, dns, journal, lag, producer, producer_ids, provision, registry, watch, writers,
};

fn worlds() -> [MemoryWorld; 2] {
    [MemoryWorld::new(), MemoryWorld::with_weather(Arc::new(CalmWeather))]
}

async fn with_blue(world: MemoryWorld) -> (MemoryWorld, MemoryCluster) {
    world.provisioner.provision(Colour::Blue, &provision::request()).await.unwrap();
    let cluster = world.cluster(Colour::Blue).unwrap();
    (world, cluster)
}

async fn world() -> (MemoryWorld, MemoryCluster) {
    with_blue(MemoryWorld::new()).await
}

fn record(payload: &str) -> StoredRecord {
    StoredRecord { payload: Some(payload.into()), ..StoredRecord::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_keeps_its_contract() {
    for world in worlds() {
        dns::check_all(Arc::new(world.dns.clone()), &"a.test".into()).await;
        let hold = (async || world.dns.hide_for(usize::MAX), async || world.dns.hide_for(0));
        dns::one_server_behind_hides_it(&world.dns, &"a.test".into(), hold, 1_000).await;
        world.dns.spoil_owner(&"a.test".into());
        dns::a_spoilt_owner_record_is_invalid(&world.dns, &"a.test".into()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_keeps_its_contract() {
    for world in worlds() {
        journal::check_all(Arc::new(world.journal.clone())).await;
        let reopened = world.journal.clone();
        journal::appended_entries_survive(async || reopened.clone()).await;
    }
}

#[tokio::test]
async fn the_provisioner_keeps_its_contract() {
    for world in worlds() {
        let (world, blue) = with_blue(world).await;
        provision::check_all(&world.provisioner, Colour::Blue).await;
        provision::nothing_there_is_none(&world.provisioner, Colour::Green).await;
        let begin = async || {
            world.provisioner.set_making(Colour::Green, true);
            let error = world.provisioner.provision(Colour::Green, &provision::request()).await.unwrap_err();
            assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
        };
        provision::what_is_being_made_is_not_nothing(&world.provisioner, Colour::Green, begin).await;
        world.provisioner.set_making(Colour::Green, false);
        provision::the_same_request_gives_the_same_incarnation(&world.provisioner, Colour::Green).await;
        let reaches = async |servers: &[String]| {
            let controllers = servers.iter().all(|server| server.ends_with(":9093"));
            world.provisioner.cluster_at(servers).is_some_and(|cluster| controllers || !cluster.is_isolated())
        };
        provision::an_isolation_is_undone_by_its_own_nonce(&world.provisioner, Colour::Blue, &reaches).await;
        provision::an_isolated_one_is_ready(&world.provisioner, Colour::Blue, reaches).await;
        let fail = async || world.provisioner.set_ready(Colour::Blue, false);
        let recover = async || world.provisioner.set_ready(Colour::Blue, true);
        provision::what_does_not_serve_is_not_ready(&world.provisioner, Colour::Blue, fail, recover).await;
        blue.add_topic("t", 1);
        blue.produce(&TopicPartition::new("t", 0), record("x")).unwrap();
        let data = async |servers: &[String]| {
            let cluster = world.provisioner.cluster_at(servers).unwrap();
            cluster.log(&TopicPartition::new("t", 0), Offset(0))
        };
        provision::an_isolation_leaves_the_data(&world.provisioner, Colour::Blue, data).await;
        world.provisioner.set_isolates(false);
        provision::what_cannot_isolate_says_so(&world.provisioner, Colour::Blue).await;
        provision::the_marked_is_destroyed_for_good(&world.provisioner, Colour::Blue, &blue.cluster_id())
            .await;
        assert_eq!(
            blue.identity().await.unwrap_err().kind,
            ErrorKind::Unreachable,
            "a destroyed cluster is dead"
        );
    }
}

#[tokio::test]
async fn a_cluster_keeps_its_admin_contract() {
    for world in worlds() {
        let (_world, blue) = with_blue(world).await;
        admin::check_all(&blue, &blue, &blue, "t").await;
        let change = async || blue.configure(|options| options.version = Some("another".into()));
        admin::a_changed_cluster_is_noticed(&blue, change).await;
        let reads = async |topic: &TopicName| {
            let reader = blue.reader(&"reader".into(), Isolation::ReadCommitted);
            reader.fetch(&TopicPartition::new(topic.clone(), 0), Offset(0), 1, 0).await.is_ok()
        };
        admin::readers_keep_reading_under_the_fence(&blue, &"read".into(), reads).await;
        let place = TopicPartition::new("leaders", 1);
        admin::every_leader_is_asked(&blue, &place, async || blue.leak(place.clone())).await;
        blue.stop_leaking();
        let silence = (async || blue.silence(place.clone()), async || blue.speak());
        admin::a_silent_leader_proves_nothing(&blue, &place, silence).await;
        blue.configure(|options: &mut ClusterOptions| {
            options.unknown_configs = ["new.fangled".into()].into()
        });
        admin::an_unknown_config_is_named(&blue, &"odd".into(), "new.fangled").await;
        for commit in [true, false] {
            let place = TopicPartition::new("ledger", 1);
            let begin = async || {
                let transaction = blue.begin();
                let since = transaction.produce(&place, record("open")).unwrap();
                (transaction, since)
            };
            let end = async |open: MemoryTransaction| if commit { open.commit() } else { open.abort() };
            admin::a_fence_is_not_proven_over_an_open_transaction(&blue, &place, begin, end).await;
        }
        let expected = Access { acls: Some([admin::rule("User:x", "allow")].into()), ..Access::default() };
        blue.set_access(expected.clone());
        let expected = Access { auto_creates_topics: Some(false), ..expected };
        admin::access_is_told_whole(&blue, &expected).await;
        let shut = async || blue.isolate(&"n".into());
        admin::an_ordinary_client_proves_it_open(&blue, &"shut".into(), shut).await;
    }
}

#[tokio::test]
async fn a_cluster_keeps_its_lag_contract() {
    for world in worlds() {
        let (_world, blue) = with_blue(world).await;
        blue.add_topic("t", 2);
        let (place, billing) = (TopicPartition::new("t", 0), GroupId::new("billing"));
        blue.produce(&place, record("x")).unwrap();
        lag::no_commit_is_not_zero(&blue, &billing, &place).await;
        blue.commit(&billing, &place, Offset(1));
        let query = LagQuery {
            groups: [(billing, ["t".into()].into()), ("audit".into(), ["t".into()].into())].into(),
            partitions: vec![place.clone(), TopicPartition::new("t", 1)],
            read_tails: true,
            ..LagQuery::default()
        };
        lag::everything_is_answered_once(&blue, &query).await;
        lag::what_does_not_answer_is_an_error(&blue, &TopicPartition::new("t", 9)).await;
        lag::ranges_are_read_after_the_call(&blue, &place, async || {
            blue.produce(&place, record("y")).unwrap();
        })
        .await;
        let to = async |offset| blue.commit(&"audit".into(), &place, offset);
        lag::a_commit_beyond_the_end_is_told(&blue, &"audit".into(), &place, to).await;
        let silence = async || blue.set_coordinator(&"audit".into(), false);
        lag::a_silent_group_is_an_error(&blue, &"audit".into(), &place, silence).await;
        blue.silence(place.clone());
        lag::what_does_not_answer_is_an_error(&blue, &place).await;
    }
}

#[tokio::test]
async fn a_cluster_keeps_its_producer_ids_contract() {
    for world in worlds() {
        let (_world, blue) = with_blue(world).await;
        blue.add_topic("t", 2);
        producer_ids::check_all(&blue, 3).await;
        let write = async || {
            let mut writer = ForeignProducer::start(&blue, ClientOptions::default());
            writer.send(&TopicPartition::new("t", 1), record("x")).await.unwrap();
            u64::try_from(writer.producer_id()).unwrap()
        };
        producer_ids::who_wrote_is_live(&blue, &"t".into(), write, &"missing".into()).await;
        let silence = async || {
            blue.stop_broker(1, Some(0));
            1
        };
        producer_ids::a_silent_broker_is_an_error(&blue, silence).await;
    }
}

#[tokio::test]
async fn a_cluster_keeps_its_survey_contract() {
    for world in worlds() {
        let (_world, blue) = with_blue(world).await;
        blue.add_topic("t", 2);
        let places = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
        writers::every_partition_has_its_answer(&blue, &places, &TopicPartition::new("t", 2)).await;
        let stranger = tokio::sync::Mutex::new(ForeignProducer::start(&blue, ClientOptions::default()));
        let told = StoredRecord { headers: vec![("app".into(), Some(b"till".to_vec()))], ..record("x") };
        let append = async || {
            stranger.lock().await.send(&places[0], told.clone()).await.unwrap();
        };
        writers::what_was_acknowledged_shows(&blue, &places[0], append).await;
        let sign = Sign::of(None, [("app", Some(&b"till"[..]))]);
        writers::the_last_records_come_last(&blue, &places[0], &sign, append).await;
        writers::an_empty_partition_has_no_last_record(&blue, &places[1]).await;
        let last = blue.last_records(&places[0], 1).await.unwrap();
        assert_eq!(last[0].producer_id, Some(stranger.lock().await.producer_id()));
        let begin = async || {
            let transaction = blue.begin();
            let since = transaction.produce(&places[1], record("open")).unwrap();
            (transaction, since)
        };
        let end = async |transaction: MemoryTransaction| transaction.commit();
        writers::an_open_transaction_is_named_until_it_ends(&blue, &places[1], begin, end).await;
        blue.configure(|options| options.tells_producers = false);
        assert_eq!(blue.writers(&places).await.unwrap_err().kind, ErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn a_cluster_keeps_its_registry_contract() {
    for world in worlds() {
        let (_world, blue) = with_blue(world).await;
        registry::both_topics_are_small_and_kept(&blue, &blue).await;
        registry::check_all(&blue, async || blue.link()).await;
        let (control, members) =
            (TopicPartition::new("kutover.control", 0), TopicPartition::new("kutover.members", 0));
        let silence = async || {
            blue.silence(control);
            blue.silence(members.clone());
        };
        let quiet = (silence, async || blue.speak());
        registry::what_cannot_be_read_is_an_error(&blue, &blue.link(), quiet).await;
        blue.produce(&members, StoredRecord { key: Some(b"k".to_vec()), ..record("{") }).unwrap();
        let error = blue.members().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.what.contains("offset"), "{error}");
    }
}

/// `flush` waits as the contract wants, which it cannot do in virtual time.
struct Waiting(MemoryFactory);
struct Waits(Arc<MemoryClient>);

#[async_trait]
impl ProducerFactory for Waiting {
    async fn connect(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        Ok(Arc::new(Waits(self.0.connect_client(target, topics, events).await?)))
    }
}

impl ProducerClient for Waits {
    fn try_send(&self, record: RecordRef<'_>, token: Token) -> Result<(), Refusal> {
        self.0.try_send(record, token)
    }
    fn flush(&self, timeout_ms: u64) -> bool {
        tokio::runtime::Handle::current().block_on(self.0.settled(timeout_ms))
    }
    fn purge(&self) {
        self.0.purge();
    }
    fn outstanding(&self) -> usize {
        self.0.outstanding()
    }
    fn cluster_id(&self) -> ClusterId {
        self.0.cluster_id()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_keep_their_contract() {
    for world in worlds() {
        let (world, blue) = with_blue(world).await;
        blue.add_topic("t", 3);
        let described = world.provisioner.describe(Colour::Blue).await.unwrap().unwrap();
        let target = Target {
            generation: Generation(1),
            colour: Colour::Blue,
            cluster_id: blue.cluster_id(),
            bootstrap: described.bootstrap,
        };
        producer::check_all(&Waiting(world.factory()), &target, "t").await;
        blue.add_topic("purged", 1);
        let written = async || {
            let log = blue.log(&TopicPartition::new("purged", 0), Offset(0));
            log.into_iter().filter_map(|(_, record)| record.payload).collect()
        };
        producer::a_purge_tells_the_truth(&Waiting(world.factory()), &target, "purged", written).await;
    }
}

#[tokio::test]
async fn a_watch_keeps_its_contract() {
    let world = MemoryWorld::new();
    let lead_to = async |last: u8| {
        let set = RecordSet { ttl_s: 1, data: RecordData::Addresses(vec![[127, 0, 0, last].into()]) };
        world.dns.overwrite(&"a.test".into(), Published { endpoint: Some(set.clone()), owner: None });
        EndpointAnswer::Found { addresses: vec![[127, 0, 0, last].into()], owner: None, ttl_ms: 1000 }
    };
    let watched = world.dns.watch(&"a.test".into());
    watch::the_first_answer_is_what_stands_there(&watched, &EndpointAnswer::Empty).await;
    watch::a_change_is_seen_after_a_dropped_wait(&world.dns.watch(&"a.test".into()), async || {
        lead_to(7).await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_fails_and_recovers() {
    let answer = || EndpointAnswer::Found { addresses: vec![[127, 0, 0, 7].into()], owner: None, ttl_ms: 0 };
    let set = RecordSet { ttl_s: 0, data: RecordData::Addresses(vec![[127, 0, 0, 7].into()]) };
    let at = "a.test".into();
    for world in worlds() {
        let recover = async || {
            world.dns.overwrite(&at, Published { endpoint: Some(set.clone()), owner: None });
            answer()
        };
        world.dns.spoil_owner(&at);
        watch::a_failure_is_an_answer_and_is_tried_again(&world.dns.watch(&at), recover).await;
        world.dns.spoil_owner(&at);
        let resolver = MemoryResolver::new(&world.dns, "resolver", ResolverOptions::default());
        watch::a_failure_is_an_answer_and_is_tried_again(&resolver.watch(&at), recover).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_through_a_resolver_keeps_its_contract() {
    let world = MemoryWorld::with_weather(Arc::new(CalmWeather));
    let options = ResolverOptions { min_poll_ms: 10, ..ResolverOptions::default() };
    let resolver = MemoryResolver::new(&world.dns, "resolver", options);
    watch::the_first_answer_is_what_stands_there(&resolver.watch(&"a.test".into()), &EndpointAnswer::Empty)
        .await;
    let set = RecordSet { ttl_s: 0, data: RecordData::Addresses(vec![[127, 0, 0, 7].into()]) };
    watch::a_change_is_seen_after_a_dropped_wait(&resolver.watch(&"a.test".into()), async || {
        world.dns.overwrite(&"a.test".into(), Published { endpoint: Some(set.clone()), owner: None });
        EndpointAnswer::Found { addresses: vec![[127, 0, 0, 7].into()], owner: None, ttl_ms: 0 }
    })
    .await;
}

/// A fault does what it says, to the world and to the caller, and the calls are counted.
#[tokio::test]
async fn faults_are_what_they_say() {
    let topic =
        |name: &str| NewTopic { name: name.into(), partitions: 1, replication: 1, configs: [].into() };
    for (fault, done, outcome) in [
        (Fault::NotDone, false, Outcome::NotDone),
        (Fault::UnknownDone, true, Outcome::Unknown),
        (Fault::UnknownNotDone, false, Outcome::Unknown),
    ] {
        let (world, blue) = world().await;
        world.faults.inject("blue.create_topic", fault.clone());
        assert_eq!(blue.create_topic(&topic("t")).await.unwrap_err().outcome, outcome);
        assert_eq!(blue.topics().await.unwrap().len(), usize::from(done), "{fault:?}");
        blue.create_topic(&topic("t")).await.unwrap();
        let calls = ["provisioner.provision", "blue.create_topic", "blue.topics", "blue.create_topic"];
        assert_eq!(world.faults.calls(), calls);
        world.faults.at(4, fault);
        assert_eq!(world.dns.read(&"a.test".into()).await.unwrap_err().outcome, outcome);
    }
    let (world, blue) = world().await;
    world.faults.inject("blue.create_topic", Fault::HangDone);
    let wanted = topic("t");
    let mut call = blue.create_topic(&wanted);
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(blue.topics().await.unwrap().len(), 1, "done, although no answer ever came");
    world.journal.damage(3);
    assert!(world.journal.read().await.unwrap_err().to_string().contains("entry 3"));
}
