//! L20 over a real authoritative server: what stops a controller that slept is the server's compare-and-set and the
//! driver's look at the term, and nothing of a model.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use common::{CONFIG, backends, world};
use kutover_controller::config::Config;
use kutover_controller::driver::{Backends, Controller};
use kutover_core::cutover::Stop;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{DnsProvider, Journal as _, Published};
use kutover_core::words::{DnsName, Generation, Term};
use kutover_dns::LocalServer;
use kutover_memory::{MemoryJournal, MemoryWorld};
use tokio::sync::mpsc;

fn controller(backends: Backends) -> Controller {
    let config = Config::parse(CONFIG).unwrap();
    Controller::new(config.cutover_plan(), config.deployment(), backends)
}

/// The server as the first controller reaches it, which falls asleep between its look at the record and the write that
/// publishes. Meanwhile a second one takes over.
struct Overtaken {
    server: Arc<LocalServer>,
    world: MemoryWorld,
    slept: AtomicBool,
}

impl Overtaken {
    /// A second controller, from a copy of the journal: no append of the first is refused because of it.
    async fn take_over(&self) {
        let journal = MemoryJournal::new(&self.world.faults);
        for entry in self.world.journal.entries() {
            journal.append(&entry).await.unwrap();
        }
        let journal = Arc::new(journal);
        let second = controller(Backends { dns: self.server.clone(), journal, ..backends(&self.world) });
        let finished = second.adopt(|_| {}).await.unwrap();
        assert_eq!(finished.stop, Stop::Adopted, "the deployment is the second one's now");
    }
}

#[async_trait]
impl DnsProvider for Overtaken {
    async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published> {
        self.server.read(endpoint).await
    }

    async fn compare_and_set(
        &self,
        endpoint: &DnsName,
        expected: &Published,
        desired: &Published,
    ) -> ProviderResult<()> {
        let generation =
            |published: &Published| published.owner.as_ref().map(|owner| owner.target.generation);
        let publishes =
            generation(desired) == Some(Generation(2)) && generation(expected) == Some(Generation(1));
        if publishes && !self.slept.swap(true, Ordering::Relaxed) {
            self.take_over().await;
        }
        self.server.compare_and_set(endpoint, expected, desired).await
    }

    async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool> {
        self.server.is_visible(endpoint, published).await
    }
}

/// The write of a controller that was overtaken between looking and writing is refused, and it looks again and ends.
#[tokio::test(start_paused = true)]
async fn a_controller_that_slept_writes_nothing_over_its_successor() {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = LocalServer::start(address, DnsName::new("orders.test")).await.unwrap();
    let world = world().await;
    let dns = Overtaken { server: server.clone(), world: world.clone(), slept: AtomicBool::new(false) };
    let first = controller(Backends { dns: Arc::new(dns), ..backends(&world) });
    let (_operator, words) = mpsc::unbounded_channel();
    let finished = first.run(words, |_| {}).await;
    let owner = server.read(&DnsName::new("kafka.orders.test")).await.unwrap().owner.unwrap();
    assert_eq!((owner.term, owner.target.generation), (Term(2), Generation(1)), "it was written over");
    let stop = finished.map(|finished| finished.stop);
    assert!(matches!(stop, Ok(Stop::Superseded(_))), "{stop:?}");
    server.stop().await;
}
