//! The data path: clients whose records travel in virtual time, links to the small topics, resolvers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlView, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{
    ClientEvents, EndpointAnswer, EndpointWatch, MemberLink, MemberLinks, ProducerClient, ProducerFactory,
    RecordRef, Refusal, Token,
};
use kutover_core::words::ClusterId;
use kutover_memory::{Fate, MemoryClient, MemoryFactory, MemoryLinks, MemoryWatch};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::weather::{Fault, shaped};
use crate::witness::note;
use crate::world::World;

/// Makes clients that deliver by themselves.
pub(crate) struct SimFactory {
    world: Arc<World>,
    who: String,
    inner: MemoryFactory,
}

impl SimFactory {
    pub(crate) fn new(world: &Arc<World>, who: String) -> Self {
        Self { world: Arc::clone(world), who, inner: world.memory.factory() }
    }
}

#[async_trait]
impl ProducerFactory for SimFactory {
    async fn connect(
        &self,
        target: &Target,
        topics: &[String],
        events: Arc<dyn ClientEvents>,
    ) -> ProviderResult<Arc<dyn ProducerClient>> {
        let connect = async {
            self.inner.connect(target, topics, events).await?;
            let made = self.inner.clients();
            // Nothing can be connected in between: there is one thread, and no pause since.
            made.last().cloned().ok_or_else(|| ProviderError::new(ErrorKind::NotFound, "connect", "no client"))
        };
        let inner = self.world.client_call(&self.who, "connect", connect).await?;
        let client = Arc::new(SimClient { inner, queued: Arc::new(Notify::new()) });
        tokio::spawn(pump(
            Arc::clone(&self.world),
            Arc::downgrade(&client.inner),
            client.inner.cluster_id(),
            Arc::clone(&client.queued),
        ));
        Ok(client)
    }
}

struct SimClient {
    inner: Arc<MemoryClient>,
    queued: Arc<Notify>,
}

impl ProducerClient for SimClient {
    fn try_send(&self, record: RecordRef<'_>, token: Token) -> Result<(), Refusal> {
        let sent = self.inner.try_send(record, token);
        self.queued.notify_one();
        sent
    }

    fn flush(&self, timeout_ms: u64) -> bool {
        self.inner.flush(timeout_ms)
    }

    fn purge(&self) {
        self.inner.purge();
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding()
    }

    fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id()
    }
}

/// Delivers a client's records, in order, until it is dropped.
async fn pump(world: Arc<World>, client: Weak<MemoryClient>, id: ClusterId, queued: Arc<Notify>) {
    let mut unreachable_since: Option<Instant> = None;
    loop {
        let Some(waiting) = client.upgrade().map(|client| client.outstanding()) else { return };
        if waiting == 0 {
            let _ = tokio::time::timeout(Duration::from_secs(30), queued.notified()).await;
            continue;
        }
        let slow = world.weather.strikes(Fault::BrokerSlow).map_or(Duration::ZERO, |s| shaped(s, 500, 20_000));
        tokio::time::sleep(world.weather.delay(6) + slow).await;
        let Some(client) = client.upgrade() else { return };
        let Some(known) = world.cluster(&id) else { return };
        let down = known.gone || known.cluster.is_isolated() || world.is_out(&id);
        if down {
            let since = *unreachable_since.get_or_insert_with(Instant::now);
            if since.elapsed() < Duration::from_millis(world.scene.delivery_timeout_ms) {
                drop(client);
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            client.set_fates(std::iter::repeat_n(Fate::NotWritten, client.outstanding()));
        }
        unreachable_since = None;
        if !down && world.weather.strikes(Fault::ClientFatal).is_some() {
            client.make_fatal("out of order sequence");
            client.purge();
            continue;
        }
        let batch = client.outstanding().min(8);
        for _ in 0..batch {
            if world.weather.strikes(Fault::AckLost).is_some() {
                client.set_fates([Fate::UnknownWritten]);
            } else if world.weather.strikes(Fault::NotWritten).is_some() {
                client.set_fates([Fate::NotWritten]);
            } else if world.weather.strikes(Fault::LateAppend).is_some() {
                client.set_fates([Fate::UnknownNotWritten]);
            }
            client.deliver(1);
        }
        world.look_at_logs(&known.cluster);
    }
}

/// Opens links whose calls take time and go wrong.
pub(crate) struct SimLinks {
    world: Arc<World>,
    who: String,
    inner: MemoryLinks,
}

impl SimLinks {
    pub(crate) fn new(world: &Arc<World>, who: String) -> Self {
        Self { world: Arc::clone(world), who, inner: world.memory.links() }
    }
}

#[async_trait]
impl MemberLinks for SimLinks {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        let link = self.inner.open(target).await?;
        Ok(Arc::new(SimLink { world: Arc::clone(&self.world), who: self.who.clone(), inner: link }))
    }
}

struct SimLink {
    world: Arc<World>,
    who: String,
    inner: Arc<dyn MemberLink>,
}

#[async_trait]
impl MemberLink for SimLink {
    async fn next_control(&self) -> ControlView {
        let view = self.inner.next_control().await;
        tokio::time::sleep(self.world.weather.delay(20)).await;
        view
    }

    async fn control_now(&self) -> ProviderResult<ControlView> {
        self.world.client_call(&self.who, "control_now", self.inner.control_now()).await
    }

    async fn tell(&self, member: &MemberState) -> ProviderResult<()> {
        self.world.client_call(&self.who, "tell", self.inner.tell(member)).await
    }

    async fn end(&self, member: &MemberState) -> ProviderResult<()> {
        self.world.client_call(&self.who, "end", self.inner.end(member)).await
    }
}

/// A resolver with a cache.
pub(crate) struct SimResolver {
    world: Arc<World>,
    who: String,
    inner: MemoryWatch,
    cached: Mutex<Option<(Instant, EndpointAnswer)>>,
    first: Mutex<bool>,
}

impl SimResolver {
    pub(crate) fn new(world: &Arc<World>, who: String) -> Self {
        let inner = world.memory.dns.watch(&world.endpoint());
        let (world, cached, first) = (Arc::clone(world), Mutex::default(), Mutex::new(true));
        Self { world, who, inner, cached, first }
    }

    async fn answer(&self) -> EndpointAnswer {
        tokio::time::sleep(self.world.weather.delay(5)).await;
        note!(self.world.witness, "{}: dns answer", self.who);
        let weather = &self.world.weather;
        if weather.strikes(Fault::ResolverFails).is_some() {
            return EndpointAnswer::Failed("nobody answers".into());
        }
        if weather.strikes(Fault::ResolverEmpty).is_some() {
            return EndpointAnswer::Empty;
        }
        let cached = self.cached.lock().clone();
        if let Some((until, answer)) = cached
            && (Instant::now() < until || weather.strikes(Fault::ResolverStale).is_some())
        {
            return answer;
        }
        let answer = self.inner.ask_now().await;
        if let EndpointAnswer::Found { ttl_ms, .. } = &answer {
            *self.cached.lock() = Some((Instant::now() + Duration::from_millis(*ttl_ms), answer.clone()));
        }
        answer
    }
}

#[async_trait]
impl EndpointWatch for SimResolver {
    async fn next(&self) -> EndpointAnswer {
        let first = std::mem::take(&mut *self.first.lock());
        if !first {
            let until = self.cached.lock().as_ref().map(|(until, _)| *until);
            let until = until.unwrap_or_else(Instant::now).max(Instant::now() + Duration::from_secs(1));
            tokio::time::sleep_until(until).await;
        }
        self.answer().await
    }

    async fn ask_now(&self) -> EndpointAnswer {
        self.answer().await
    }
}
