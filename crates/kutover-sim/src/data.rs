//! The data path: clients whose records travel in virtual time, links to the small topics, resolvers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::ProviderResult;
use kutover_core::messages::{ControlView, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{
    ClientEvents, EndpointAnswer, EndpointWatch, MemberLink, MemberLinks, ProducerClient, ProducerFactory,
};
use kutover_memory::{
    ClientOptions, MemoryClient, MemoryFactory, MemoryLinks, MemoryResolver, MemoryResolverWatch,
    ResolverOptions,
};

use crate::weather::Fault;
use crate::witness::note;
use crate::world::{World, bounded};

/// Makes clients; connecting takes time and goes wrong, and clients become fatal.
pub(crate) struct SimFactory {
    world: Arc<World>,
    who: Arc<str>,
    inner: MemoryFactory,
}

impl SimFactory {
    pub(crate) fn new(world: &Arc<World>, who: Arc<str>) -> Self {
        let delivery_timeout_ms = world.scene.delivery_timeout_ms;
        let options = ClientOptions { delivery_timeout_ms, ..ClientOptions::default() };
        Self { world: Arc::clone(world), who, inner: world.memory.factory().with_options(options) }
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
        let connect = self.inner.connect_client(target, topics, events);
        let client = bounded("connect", self.world.call(&self.who, "connect", connect)).await?;
        tokio::spawn(fate(Arc::clone(&self.world), Arc::downgrade(&client)));
        Ok(client)
    }
}

/// Now and then a client becomes fatal.
async fn fate(world: Arc<World>, client: Weak<MemoryClient>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let Some(client) = client.upgrade().filter(|_| !world.weather.is_calm()) else { return };
        if world.weather.strikes(Fault::ClientFatal).is_some() {
            note!(world.witness, "a client of {} becomes fatal", client.cluster_id());
            client.make_fatal("an error that cannot be mended");
            return;
        }
    }
}

/// Opens links whose calls take time and go wrong.
pub(crate) struct SimLinks {
    world: Arc<World>,
    who: Arc<str>,
    inner: MemoryLinks,
}

impl SimLinks {
    pub(crate) fn new(world: &Arc<World>, who: Arc<str>) -> Self {
        Self { world: Arc::clone(world), who, inner: world.memory.links() }
    }
}

#[async_trait]
impl MemberLinks for SimLinks {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        let link = self.inner.open(target).await?;
        Ok(Arc::new(SimLink { world: Arc::clone(&self.world), who: Arc::clone(&self.who), inner: link }))
    }
}

struct SimLink {
    world: Arc<World>,
    who: Arc<str>,
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
        bounded("control_now", self.world.call(&self.who, "control_now", self.inner.control_now())).await
    }

    async fn tell(&self, member: &MemberState) -> ProviderResult<()> {
        let (link, member) = (Arc::clone(&self.inner), member.clone());
        let tell = async move { link.tell(&member).await };
        bounded("tell", self.world.change(&self.who, "tell", tell)).await
    }

    async fn end(&self, member: &MemberState) -> ProviderResult<()> {
        let (link, member) = (Arc::clone(&self.inner), member.clone());
        let end = async move { link.end(&member).await };
        bounded("end", self.world.change(&self.who, "end", end)).await
    }
}

/// A world's resolvers, each with a cache of its own, shared by some of the producers.
pub(crate) fn resolvers(world: &Arc<World>) -> Vec<MemoryResolver> {
    (0..world.scene.resolvers)
        .map(|n| {
            let keeps = world.weather.strikes(Fault::ResolverKeeps);
            let min_ttl_ms = keeps.map_or(0, |shape| 5_000 + shape % 60_000);
            let options = ResolverOptions { min_ttl_ms, ..ResolverOptions::default() };
            MemoryResolver::new(&world.memory.dns, &format!("resolver {n}"), options)
        })
        .collect()
}

/// A producer's look through a resolver, counted.
pub(crate) struct SimWatch {
    world: Arc<World>,
    who: Arc<str>,
    inner: MemoryResolverWatch,
}

impl SimWatch {
    pub(crate) fn new(world: &Arc<World>, who: Arc<str>, resolver: &MemoryResolver) -> Self {
        Self { world: Arc::clone(world), who, inner: resolver.watch(&world.endpoint()) }
    }

    fn seen(&self, answer: EndpointAnswer) -> EndpointAnswer {
        match &answer {
            EndpointAnswer::Found { owner, .. } => {
                let generation = owner.as_ref().map(|owner| owner.target.generation.0);
                note!(self.world.witness, "{}: dns says {generation:?}", self.who);
            }
            other => note!(self.world.witness, "{}: dns says {other:?}", self.who),
        }
        answer
    }
}

#[async_trait]
impl EndpointWatch for SimWatch {
    async fn next(&self) -> EndpointAnswer {
        self.seen(self.inner.next().await)
    }

    async fn ask_now(&self) -> EndpointAnswer {
        self.seen(self.inner.ask_now().await)
    }
}
