//! A world in memory behind kutover's ports, enough to drive the machines without a network.
//!
//! All parts of a [`MemoryWorld`] share one [`Faults`], which counts every call and makes chosen ones fail, so that a test
//! can take the calls of a clean run and let each of them fail in turn.
//!
//! There is no clock in it unless it has a [`Weather`]: time to live, delivery and visibility are knobs that a test
//! turns. With one, things take (virtual) time and go wrong by themselves, as it says:
//!
//! ```
//! use std::sync::Arc;
//! use kutover_core::ports::{ClusterAdmin as _, ClusterProvisioner as _};
//! use kutover_core::words::Colour;
//! use kutover_memory::{CallWeather, MemoryWorld, Weather};
//!
//! /// Every call is three seconds on its way.
//! #[derive(Debug)]
//! struct Far;
//!
//! impl Weather for Far {
//!     fn call(&self, _name: &str) -> CallWeather {
//!         CallWeather { before_ms: 3000, ..CallWeather::default() }
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let world = MemoryWorld::with_weather(Arc::new(Far));
//! world.provisioner.provision(Colour::Blue, &"first".into()).await?;
//! let blue = world.cluster(Colour::Blue).unwrap();
//! blue.add_topic("orders", 3);
//! blue.raise_fence(&["orders".into()]).await?;
//! assert_eq!(world.faults.now_ms(), 6000);
//! assert_eq!(world.fired()["call-slow"], 2);
//! # Ok::<_, kutover_core::error::ProviderError>(())
//! # }).unwrap();
//! ```

mod cluster;
mod connect;
mod dns;
mod faults;
mod journal;
mod producer;
mod provisioner;
mod resolver;
mod signal;
mod watch;
mod weather;

use std::collections::BTreeMap;
use std::sync::Arc;

use kutover_core::words::Colour;

pub use cluster::{
    Append, BatchId, ClusterOptions, Discarded, FenceStyle, Fetched, Isolation, MemoryCluster, MemoryLink,
    MemoryReader, MemoryTransaction, PRODUCER_ID_BLOCK, StoredRecord, TransactionState,
};
pub use connect::{MemoryConnect, MemoryFiles};
pub use dns::MemoryDns;
pub use faults::{Fault, Faults};
pub use journal::MemoryJournal;
pub use producer::{Acks, ClientOptions, Fate, ForeignProducer, MemoryClient, MemoryFactory, MemoryLinks};
pub use provisioner::MemoryProvisioner;
pub use resolver::{MemoryResolver, MemoryResolverWatch, ResolverOptions};
pub use watch::MemoryWatch;
pub use weather::{
    AnswerFate, AnswerWeather, CallWeather, CalmWeather, FAULT_KINDS, RecordFate, RecordWeather,
    UnfinishedAppend, Weather,
};

/// Everything that one deployment needs. Cloning gives another handle to the same world, which outlives a controller
/// that "crashes" in it.
#[derive(Clone, Debug)]
pub struct MemoryWorld {
    /// Calls and faults of all parts.
    pub faults: Faults,
    /// DNS, scope `dns`.
    pub dns: MemoryDns,
    /// The journal, scope `journal`.
    pub journal: MemoryJournal,
    /// Where clusters come from, scope `provisioner`; the clusters' own scopes are their colours.
    pub provisioner: MemoryProvisioner,
}

impl Default for MemoryWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryWorld {
    /// An empty world: no clusters, no records, no entries.
    pub fn new() -> Self {
        Self::from_faults(Faults::new())
    }

    /// An empty world in which things take time and go wrong as the weather says.
    pub fn with_weather(weather: Arc<dyn Weather>) -> Self {
        Self::from_faults(Faults::with_weather(weather))
    }

    /// How often each kind of fault has fired: a run in which one never did has not tried it.
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.faults.fired()
    }

    fn from_faults(faults: Faults) -> Self {
        Self {
            dns: MemoryDns::new(&faults),
            journal: MemoryJournal::new(&faults),
            provisioner: MemoryProvisioner::new(&faults),
            faults,
        }
    }

    /// The cluster behind a colour, if there is one.
    pub fn cluster(&self, colour: Colour) -> Option<MemoryCluster> {
        self.provisioner.cluster(colour)
    }

    /// Makes producers' clients for this world's clusters.
    pub fn factory(&self) -> MemoryFactory {
        MemoryFactory::new(&self.provisioner)
    }

    /// Makes members' links to this world's clusters.
    pub fn links(&self) -> MemoryLinks {
        MemoryLinks::new(&self.provisioner)
    }
}
