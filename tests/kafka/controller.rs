//! A controller in this process that steers two real clusters: what a test needs that acts between its steps.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_connect::{ConnectOptions, HttpConnect};
use kutover_controller::config::{Config, ProvisionerConfig};
use kutover_controller::driver::{
    Backends, ClusterConnector, ClusterLinks, Controller, DriveError, Finished, Operator,
};
use kutover_controller::journal::FileJournal;
use kutover_core::cutover::Event;
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ClusterSurvey, ConnectAdmin, DnsProvider as _, Incarnation, Published, RecordSet};
use kutover_core::words::Colour;
use kutover_dns::{LocalServer, Resolvers};
use kutover_kafka::{ClientHooks, ClientProperties, KafkaRegistry};
use kutover_provision::{ExistingCluster, StaticProvisioner};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clients::BOUND;
use crate::world::TwoClusters;

/// How long one call to kutover's own topics may take.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);

async fn admin(of: &Incarnation) -> ProviderResult<KafkaAdmin> {
    let bootstrap = of.controller_bootstrap.clone();
    KafkaAdmin::connect(AdminConfig { bootstrap, ..AdminConfig::default() }).await
}

/// Connects as the program does, with neither security nor a fence of another kind than ACLs.
struct Connector {
    /// Where the workers of each colour are, if there are any.
    workers: BTreeMap<Colour, String>,
}

#[async_trait]
impl ClusterConnector for Connector {
    async fn survey(&self, incarnation: &Incarnation) -> ProviderResult<Arc<dyn ClusterSurvey>> {
        Ok(Arc::new(admin(incarnation).await?))
    }

    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        let bootstrap = &incarnation.controller_bootstrap;
        let properties = ClientProperties::default();
        let registry =
            KafkaRegistry::open(bootstrap, &properties, ClientHooks::default(), REGISTRY_TIMEOUT).await?;
        let admin = Arc::new(admin(incarnation).await?);
        Ok(ClusterLinks {
            admin: Arc::clone(&admin) as _,
            lag: Arc::clone(&admin) as _,
            survey: Arc::clone(&admin) as _,
            registry: Arc::new(registry),
            ids: admin,
        })
    }

    async fn workers(&self, colour: Colour) -> ProviderResult<Arc<dyn ConnectAdmin>> {
        let url = self.workers.get(&colour).expect("the configuration names workers").clone();
        Ok(Arc::new(HttpConnect::new(&ConnectOptions { url, ..ConnectOptions::default() })?))
    }
}

/// One deployment on two clusters, whose name server lives as long as this.
pub struct Deployed {
    dns: Arc<LocalServer>,
}

impl Deployed {
    /// Points the endpoint at blue.
    ///
    /// # Panics
    /// If no name server can be had.
    pub async fn new(world: &TwoClusters) -> Self {
        let config = config(world, "", "");
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let dns = LocalServer::start(listen, config.dns.zone.clone()).await.expect("a name server");
        let name = &config.endpoints[0].name;
        let set = RecordSet { ttl_s: config.dns.ttl_s, data: existing(&config, Colour::Blue).endpoint };
        let to_blue = Published { endpoint: Some(set), owner: None };
        let nothing = dns.read(name).await.expect("read");
        dns.compare_and_set(name, &nothing, &to_blue).await.expect("it leads to blue");
        Self { dns }
    }

    /// Who is asked for the endpoint.
    pub fn resolvers(&self) -> Resolvers {
        self.dns.resolvers()
    }

    /// Starts a cutover with this plan and tables before it, or goes on with the one that the journal knows.
    ///
    /// # Panics
    /// If these make no sense.
    pub async fn start(&self, world: &TwoClusters, tables: &str, plan: &str) -> Running {
        run(self.controller(world, tables, plan).await)
    }

    /// The same where the last cutover was rolled back: it sets out anew.
    ///
    /// # Panics
    /// If these make no sense.
    pub async fn start_again(&self, world: &TwoClusters, tables: &str, plan: &str) -> Running {
        run(self.controller(world, tables, plan).await.again())
    }

    async fn controller(&self, world: &TwoClusters, tables: &str, plan: &str) -> Controller {
        let config = config(world, tables, plan);
        let workers =
            |colour| config.clusters.get(colour).connect.as_ref().map(|at| (colour, at.url.clone()));
        let workers = Colour::BOTH.into_iter().filter_map(workers).collect();
        let clusters = StaticProvisioner::new()
            .with(Colour::Blue, existing(&config, Colour::Blue))
            .with(Colour::Green, existing(&config, Colour::Green));
        let clusters = Arc::new(clusters);
        let journal = config.journal.file().expect("a journal that is a file");
        let backends = Backends {
            dns: Arc::clone(&self.dns) as _,
            zones: BTreeMap::new(),
            blue: Arc::clone(&clusters) as _,
            green: clusters,
            clusters: Arc::new(Connector { workers }),
            journal: Arc::new(FileJournal::open(journal).await.expect("a journal")),
        };
        Controller::new(config.cutover_plan(), config.deployment(), backends)
    }
}

fn run(controller: Controller) -> Running {
    let (operator, words) = mpsc::unbounded_channel();
    let (tell, events) = mpsc::unbounded_channel();
    let run = controller.run(words, move |event| {
        // Nobody listens any more once the test has seen enough.
        let _ = tell.send(event);
    });
    Running { operator, events, seen: Vec::new(), run: tokio::spawn(run) }
}

/// A controller under way. Dropped, it is ended where it stands, as by a crash.
pub struct Running {
    operator: mpsc::UnboundedSender<Operator>,
    events: mpsc::UnboundedReceiver<Event>,
    seen: Vec<Event>,
    run: JoinHandle<Result<Finished, DriveError>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.run.abort();
    }
}

impl Running {
    /// Says something to it.
    ///
    /// # Panics
    /// If it has ended.
    pub fn say(&self, word: Operator) {
        assert!(self.operator.send(word).is_ok(), "it has ended: {:#?}", self.seen);
    }

    /// Waits for an event, or for the end of the run: then there is none.
    ///
    /// # Panics
    /// If neither comes in time.
    pub async fn event(&mut self, is_it: impl Fn(&Event) -> bool) -> Option<Event> {
        let waiting = async {
            while let Some(event) = self.events.recv().await {
                self.seen.push(event.clone());
                if is_it(&event) {
                    return Some(event);
                }
            }
            None
        };
        let found = tokio::time::timeout(BOUND, waiting).await;
        found.unwrap_or_else(|_| panic!("waited in vain, and saw: {:#?}", self.seen))
    }

    /// Whether an event was among those that were waited through.
    pub fn has_seen(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.seen.iter().any(is_it)
    }

    /// Waits for its end and says how it ended.
    ///
    /// # Panics
    /// If it does not end, or its journal fails.
    pub async fn end(&mut self) -> Finished {
        let none = self.event(|_| false).await;
        assert!(none.is_none());
        (&mut self.run).await.expect("it does not panic").expect("the journal is kept")
    }
}

fn config(world: &TwoClusters, tables: &str, plan: &str) -> Config {
    Config::load(&world.configuration_with(tables, plan)).unwrap_or_else(|error| panic!("{error}"))
}

fn existing(config: &Config, colour: Colour) -> ExistingCluster {
    match &config.clusters.get(colour).provisioner {
        ProvisionerConfig::Static { bootstrap, endpoint } => {
            ExistingCluster { bootstrap: bootstrap.clone(), endpoint: endpoint.clone() }
        }
        other => panic!("the configuration describes clusters that exist: {other:?}"),
    }
}
