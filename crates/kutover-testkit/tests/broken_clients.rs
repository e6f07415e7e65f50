//! Clients, registries and links that break a clause.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::*;
use kutover_core::words::*;
use kutover_memory::{MemoryCluster, MemoryLink, MemoryWorld};
use kutover_testkit::conformance::{producer, provision, registry};
use parking_lot::Mutex;

#[derive(Clone, Copy, PartialEq)]
enum ClientFlaw {
    None,
    ReportsTwice,
    FlushLies,
    PurgeDoesNothing,
    NoId,
    SameClient,
}

/// A client whose cluster acknowledges at the flush.
struct Client {
    events: Arc<dyn ClientEvents>,
    queue: Mutex<Vec<Token>>,
    flaw: ClientFlaw,
}

impl ProducerClient for Client {
    fn try_send(&self, _: RecordRef<'_>, token: Token) -> Result<(), Refusal> {
        self.queue.lock().push(token);
        Ok(())
    }
    fn flush(&self, _: u64) -> bool {
        if self.flaw == ClientFlaw::FlushLies {
            return true;
        }
        let times = if self.flaw == ClientFlaw::ReportsTwice { 2 } else { 1 };
        for (offset, token) in (0_i64..).zip(std::mem::take(&mut *self.queue.lock())) {
            for _ in 0..times {
                self.events
                    .delivered(token, Delivery::Acknowledged { partition: 0, offset, append_time_ms: None });
            }
        }
        true
    }
    fn purge(&self) {
        if self.flaw != ClientFlaw::PurgeDoesNothing {
            self.flush(0);
        }
    }
    fn outstanding(&self) -> usize {
        self.queue.lock().len()
    }
    fn cluster_id(&self) -> ClusterId {
        if self.flaw == ClientFlaw::NoId { "".into() } else { "c".into() }
    }
}

struct Factory(ClientFlaw, Mutex<Option<Arc<Client>>>);

#[async_trait]
impl ProducerFactory for Factory {
    async fn connect(
        &self,
        target: &Target,
        _: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        if target.cluster_id.as_str() != "c" {
            let reason = format!("c lives there, not {}", target.cluster_id);
            return Err(ProviderError::new(ErrorKind::Refused, "connect", reason));
        }
        let made = Arc::new(Client { events, queue: Mutex::default(), flaw: self.0 });
        let first = Arc::clone(self.1.lock().get_or_insert_with(|| Arc::clone(&made)));
        Ok(if self.0 == ClientFlaw::SameClient { first } else { made })
    }
}

#[tokio::test]
async fn clients_that_break_a_clause_are_rejected() {
    let (generation, colour) = (Generation(1), Colour::Blue);
    let target = Target { generation, colour, cluster_id: "c".into(), bootstrap: vec!["b:9092".into()] };
    producer::check_all(&Factory(ClientFlaw::None, Mutex::default()), &target, "t").await;
    for (flaw, by) in [
        (ClientFlaw::ReportsTwice, "ProducerClient, clause 1"),
        (ClientFlaw::FlushLies, "ProducerClient, clause 2"),
        (ClientFlaw::PurgeDoesNothing, "ProducerClient, clause 3"),
        (ClientFlaw::NoId, "ProducerFactory, clause 1"),
        (ClientFlaw::SameClient, "ProducerFactory, clause 3"),
    ] {
        rejected(by, producer::check_all(&Factory(flaw, Mutex::default()), &target, "t")).await;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    PreparesNothing,
    RefusesRepetition,
    RemembersControl,
    KeepsTheDead,
    MakesAViewUp,
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
        if self.flaw == Flaw::PreparesNothing { Ok(()) } else { self.inner.prepare().await }
    }
    async fn say(&self, message: &ControlMessage) -> ProviderResult<()> {
        if self.flaw == Flaw::RefusesRepetition && self.said.lock().contains(message) {
            return Err(ProviderError::new(ErrorKind::Conflict, "say", "it was said already"));
        }
        self.said.lock().push(message.clone());
        self.inner.say(message).await
    }
    async fn control(&self) -> ProviderResult<ControlView> {
        let found = self.inner.control().await?;
        let first = self.view.lock().get_or_insert_with(|| found.clone()).clone();
        Ok(if self.flaw == Flaw::RemembersControl { first } else { found })
    }
    async fn members(&self) -> ProviderResult<Vec<MemberState>> {
        let found = self.inner.members().await?;
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
}

#[async_trait]
impl MemberLink for FlawedLink {
    async fn next_control(&self) -> ControlView {
        let view = self.inner.next_control().await;
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
    let open = async || FlawedLink { inner: inner.link(), flaw, view: Mutex::default() };
    registry::check_all(&registry, open).await;
}

#[tokio::test]
async fn registries_and_links_that_break_a_clause_are_rejected() {
    judge(Flaw::None).await;
    for (flaw, by) in [
        (Flaw::PreparesNothing, "Registry, clause 1"),
        (Flaw::RefusesRepetition, "Registry, clause 2"),
        (Flaw::RemembersControl, "Registry, clause 3"),
        (Flaw::KeepsTheDead, "Registry, clause 4"),
        (Flaw::MakesAViewUp, "MemberLink, clause 1"),
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
