//! Clients, registries and links that break a clause.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{MemoryCluster, MemoryLink, MemoryWorld, StoredRecord};
use kutover_testkit::conformance::{producer, provision, registry};
use parking_lot::Mutex;

#[derive(Clone, Copy, PartialEq)]
enum ClientFlaw {
    None,
    ReportsTwice,
    Reorders,
    FlushLies,
    PurgeDoesNothing,
    PurgeReturnsHalf,
    PurgeAcknowledges,
    PurgeDeniesWhatIsWritten,
    NoId,
    TakesNoNameless,
    TakesAnyCluster,
    NamesOneCluster,
    SameClient,
    SameProducerId,
}

/// Not a part of what any error says otherwise.
const CLUSTER: &str = "kaizen";

type Log = Arc<Mutex<BTreeSet<Vec<u8>>>>;

/// A client whose cluster acknowledges at the flush.
struct Client {
    events: Arc<dyn ClientEvents>,
    queue: Mutex<Vec<(Token, RecordBody)>>,
    log: Log,
    flaw: ClientFlaw,
}

impl Client {
    fn write(&self, record: &RecordBody) {
        self.log.lock().insert(record.payload.clone().unwrap_or_default());
    }

    fn acknowledge(&self, token: Token, offset: i64) {
        self.events.delivered(token, Delivery::Acknowledged { partition: 0, offset, append_time_ms: None });
    }
}

impl ProducerClient for Client {
    fn try_send(&self, record: RecordRef<'_>, token: Token) -> Result<(), Refusal> {
        let (key, payload) = (record.key.map(<[u8]>::to_vec), record.payload.map(<[u8]>::to_vec));
        let body = RecordBody { topic: record.topic.to_owned(), key, payload, headers: Vec::new() };
        self.queue.lock().push((token, body));
        Ok(())
    }
    fn flush(&self, _: u64) -> bool {
        if self.flaw == ClientFlaw::FlushLies {
            return true;
        }
        let times = if self.flaw == ClientFlaw::ReportsTwice { 2 } else { 1 };
        for (offset, (token, record)) in (0_i64..).zip(std::mem::take(&mut *self.queue.lock())) {
            self.write(&record);
            for _ in 0..times {
                self.acknowledge(token, if self.flaw == ClientFlaw::Reorders { -offset } else { offset });
            }
        }
        true
    }
    fn purge(&self) {
        if self.flaw == ClientFlaw::PurgeDoesNothing {
            return;
        }
        for (token, mut record) in std::mem::take(&mut *self.queue.lock()) {
            match self.flaw {
                ClientFlaw::PurgeAcknowledges => {
                    self.acknowledge(token, 0);
                    continue;
                }
                ClientFlaw::PurgeDeniesWhatIsWritten => self.write(&record),
                ClientFlaw::PurgeReturnsHalf => record.payload = None,
                _ => {}
            }
            let (fate, code) = (DeliveryFate::NotWritten, ErrorCode { number: -152, name: "Purged".into() });
            self.events.delivered(token, Delivery::Failed { fate, partition: None, code, record });
        }
    }
    fn outstanding(&self) -> usize {
        self.queue.lock().len()
    }
    fn cluster_id(&self) -> ClusterId {
        if self.flaw == ClientFlaw::NoId { "".into() } else { CLUSTER.into() }
    }
}

struct Factory {
    flaw: ClientFlaw,
    log: Log,
    first: Mutex<Option<Arc<Client>>>,
    made: AtomicI64,
}

#[async_trait]
impl ProducerFactory for Factory {
    async fn connect(
        &self,
        target: &Target,
        _: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        let nameless = target.cluster_id.as_str().is_empty() && self.flaw != ClientFlaw::TakesNoNameless;
        if target.cluster_id.as_str() != CLUSTER && !nameless && self.flaw != ClientFlaw::TakesAnyCluster {
            let lives = if self.flaw == ClientFlaw::NamesOneCluster { "another" } else { CLUSTER };
            let reason = format!("{lives} lives there, not {}", target.cluster_id);
            return Err(ProviderError::new(ErrorKind::Refused, "connect", reason));
        }
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        events.producer_id(if self.flaw == ClientFlaw::SameProducerId { 0 } else { number });
        let log = Arc::clone(&self.log);
        let made = Arc::new(Client { events, queue: Mutex::default(), log, flaw: self.flaw });
        let first = Arc::clone(self.first.lock().get_or_insert_with(|| Arc::clone(&made)));
        Ok(if self.flaw == ClientFlaw::SameClient { first } else { made })
    }
}

async fn judge_clients(flaw: ClientFlaw) {
    let (generation, colour) = (Generation(1), Colour::Blue);
    let target = Target { generation, colour, cluster_id: CLUSTER.into(), bootstrap: vec!["b:9092".into()] };
    let log = Log::default();
    let factory = Factory { flaw, log: Arc::clone(&log), first: Mutex::default(), made: AtomicI64::new(0) };
    producer::check_all(&factory, &target, "t").await;
    log.lock().clear();
    producer::a_purge_tells_the_truth(&factory, &target, "t", async || log.lock().clone()).await;
}

#[tokio::test]
async fn clients_that_break_a_clause_are_rejected() {
    judge_clients(ClientFlaw::None).await;
    for (flaw, by) in [
        (ClientFlaw::ReportsTwice, "ProducerClient, clause 1"),
        (ClientFlaw::Reorders, "ProducerClient, clause 1"),
        (ClientFlaw::FlushLies, "ProducerClient, clause 2"),
        (ClientFlaw::PurgeDoesNothing, "ProducerClient, clause 3"),
        (ClientFlaw::PurgeReturnsHalf, "ProducerClient, clause 3"),
        (ClientFlaw::PurgeAcknowledges, "ProducerClient, clause 3"),
        (ClientFlaw::PurgeDeniesWhatIsWritten, "ProducerClient, clause 3"),
        (ClientFlaw::NoId, "ProducerFactory, clause 1"),
        (ClientFlaw::TakesNoNameless, "ProducerFactory, clause 1"),
        (ClientFlaw::TakesAnyCluster, "ProducerFactory, clause 2"),
        (ClientFlaw::NamesOneCluster, "ProducerFactory, clause 2"),
        (ClientFlaw::SameClient, "ProducerFactory, clause 3"),
        (ClientFlaw::SameProducerId, "ProducerFactory, clause 3"),
    ] {
        rejected(by, judge_clients(flaw)).await;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    PreparesNothing,
    PreparesForAWeek,
    RefusesRepetition,
    RemembersControl,
    UnreadIsNothing,
    UnreadIsNobody,
    KeepsTheDead,
    PassesOverNonsense,
    MakesAViewUp,
    MakesUpWhatIsUnread,
    LosesWhatWasDropped,
    TellsNobody,
    RemembersNow,
}

struct Flawed {
    inner: MemoryCluster,
    flaw: Flaw,
    said: Mutex<Vec<ControlMessage>>,
    view: Mutex<Option<ControlView>>,
    seen: Mutex<Vec<MemberState>>,
}

#[async_trait]
impl Registry for Flawed {
    async fn prepare(&self) -> ProviderResult<()> {
        match self.flaw {
            Flaw::PreparesNothing => return Ok(()),
            Flaw::PreparesForAWeek => {
                self.inner.add_topic(CONTROL_TOPIC, 1);
                self.inner.add_topic(MEMBERS_TOPIC, 1);
            }
            _ => {}
        }
        self.inner.prepare().await
    }
    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        if self.flaw == Flaw::RefusesRepetition && self.said.lock().contains(message) {
            return Err(ProviderError::new(ErrorKind::Conflict, "say", "it was said already"));
        }
        self.said.lock().push(message.clone());
        self.inner.say(message).await
    }
    async fn control(&self) -> ProviderResult<ControlView> {
        let found = match self.inner.control().await {
            Err(_) if self.flaw == Flaw::UnreadIsNothing => ControlView::default(),
            found => found?,
        };
        let first = self.view.lock().get_or_insert_with(|| found.clone()).clone();
        Ok(if self.flaw == Flaw::RemembersControl { first } else { found })
    }
    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        let found = match self.inner.members().await {
            Err(error) if self.flaw == Flaw::UnreadIsNobody && error.kind != ErrorKind::Invalid => Vec::new(),
            Err(error) if self.flaw == Flaw::PassesOverNonsense && error.kind == ErrorKind::Invalid => {
                Vec::new()
            }
            found => found?,
        };
        if self.flaw != Flaw::KeepsTheDead {
            return Ok(found);
        }
        let mut seen = self.seen.lock();
        seen.retain(|known| found.iter().all(|member| member.key() != known.key()));
        seen.extend(found);
        Ok(seen.clone())
    }
}

struct FlawedLink {
    inner: MemoryLink,
    flaw: Flaw,
    view: Mutex<Option<ControlView>>,
    waits: AtomicI64,
}

impl FlawedLink {
    fn new(inner: MemoryLink, flaw: Flaw) -> Self {
        Self { inner, flaw, view: Mutex::default(), waits: AtomicI64::new(0) }
    }
}

#[async_trait]
impl MemberLink for FlawedLink {
    async fn next_control(&self) -> ControlView {
        // The second wait is one that is dropped, and takes along what comes next.
        let wait = self.waits.fetch_add(1, Ordering::SeqCst);
        let lost = (self.flaw == Flaw::LosesWhatWasDropped && wait == 2).then(|| self.view.lock().clone());
        if let Some(view) = lost.flatten() {
            return view;
        }
        let is_unread = self.flaw == Flaw::MakesUpWhatIsUnread && self.inner.control_now().await.is_err();
        let view = if is_unread { ControlView::default() } else { self.inner.next_control().await };
        *self.view.lock() = Some(view.clone());
        if self.flaw == Flaw::MakesAViewUp { ControlView::default() } else { view }
    }
    async fn control_now(&self) -> ProviderResult<ControlView> {
        let remembered = self.view.lock().clone().filter(|_| self.flaw == Flaw::RemembersNow);
        match remembered {
            Some(view) => Ok(view),
            None => self.inner.control_now().await,
        }
    }
    async fn tell(&self, state: &MemberState) -> ProviderResult<()> {
        if self.flaw == Flaw::TellsNobody { Ok(()) } else { self.inner.tell(state).await }
    }
    async fn end(&self, state: &MemberState) -> ProviderResult<()> {
        self.inner.end(state).await
    }
}

async fn world() -> (MemoryWorld, Target, Target) {
    let world = MemoryWorld::new();
    let mut targets = Vec::new();
    for colour in [Colour::Blue, Colour::Green] {
        let made = world.provisioner.provision(colour, &provision::request()).await.unwrap();
        let cluster_id = world.cluster(colour).unwrap().cluster_id();
        targets.push(Target { generation: Generation(1), colour, cluster_id, bootstrap: made.bootstrap });
    }
    let [blue, green] = <[Target; 2]>::try_from(targets).unwrap();
    (world, blue, green)
}

async fn judge(flaw: Flaw) {
    let (world, ..) = world().await;
    let inner = world.cluster(Colour::Blue).unwrap();
    let registry = Flawed {
        inner: inner.clone(),
        flaw,
        said: Mutex::default(),
        view: Mutex::default(),
        seen: Mutex::default(),
    };
    let open = async || FlawedLink::new(inner.link(), flaw);
    registry::both_topics_are_small_and_kept(&registry, &inner).await;
    registry::check_all(&registry, open).await;
    let place = |topic| TopicPartition::new(topic, 0);
    let silence = async || {
        inner.silence(place(CONTROL_TOPIC));
        inner.silence(place(MEMBERS_TOPIC));
    };
    let quiet = (silence, async || inner.speak());
    registry::what_cannot_be_read_is_an_error(&registry, &open().await, quiet).await;
    let nonsense = StoredRecord { key: Some(vec![0]), payload: Some(vec![0]), ..StoredRecord::default() };
    let spoil = async || {
        inner.produce(&place(MEMBERS_TOPIC), nonsense.clone()).expect("stored");
    };
    registry::a_message_without_sense_is_named(&registry, spoil).await;
}

#[tokio::test]
async fn registries_and_links_that_break_a_clause_are_rejected() {
    judge(Flaw::None).await;
    for (flaw, by) in [
        (Flaw::PreparesNothing, "Registry, clause 1"),
        (Flaw::PreparesForAWeek, "Registry, clause 1"),
        (Flaw::RefusesRepetition, "Registry, clause 2"),
        (Flaw::RemembersControl, "Registry, clause 3"),
        (Flaw::UnreadIsNothing, "Registry, clause 3"),
        (Flaw::UnreadIsNobody, "Registry, clause 3"),
        (Flaw::KeepsTheDead, "Registry, clause 4"),
        (Flaw::PassesOverNonsense, "Registry, clause 4"),
        (Flaw::MakesAViewUp, "MemberLink, clause 1"),
        (Flaw::MakesUpWhatIsUnread, "MemberLink, clause 1"),
        (Flaw::LosesWhatWasDropped, "MemberLink, clause 1"),
        (Flaw::TellsNobody, "MemberLink, clause 2"),
        (Flaw::RemembersNow, "MemberLink, clause 3"),
    ] {
        rejected(by, judge(flaw)).await;
    }
}

/// Opens links by reading the topic first, or the first one again.
struct Links {
    inner: kutover_memory::MemoryLinks,
    waits: bool,
    first: Mutex<Option<Arc<dyn MemberLink>>>,
}

#[async_trait]
impl MemberLinks for Links {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        let link = self.inner.open(target).await?;
        if self.waits {
            link.control_now().await?;
            return Ok(link);
        }
        // The dead cluster's is asked for once, before.
        if link.control_now().await.is_err() {
            return Ok(link);
        }
        Ok(Arc::clone(self.first.lock().get_or_insert(link)))
    }
}

#[tokio::test]
async fn openers_of_links_that_break_a_clause_are_rejected() {
    let (world, blue, green) = world().await;
    world.cluster(Colour::Blue).unwrap().prepare().await.unwrap();
    world.cluster(Colour::Green).unwrap().kill();
    for (waits, by) in [(true, "MemberLinks, clause 1"), (false, "MemberLinks, clause 2")] {
        let links = Links { inner: world.links(), waits, first: Mutex::default() };
        rejected(by, registry::links_are_opened_at_once(&links, &blue, &green)).await;
    }
}
