//! From a configuration to the backends that a controller steers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_controller::config::{Config, DnsKind, ProvisionerConfig};
use kutover_controller::driver::{Backends, ClusterConnector, ClusterLinks};
use kutover_controller::journal::FileJournal;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ClusterProvisioner, DnsProvider, Incarnation, Published, RecordData, RecordSet};
use kutover_core::words::{Colour, DnsName};
use kutover_dns::LocalServer;
use kutover_kafka::{ClientHooks, ClientProperties, KafkaRegistry};
use kutover_lab::LabProvisioner;
use kutover_provision::{ExistingCluster, StaticProvisioner};

use crate::failure::Failure;

/// How long one call to kutover's own topics may take.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);

/// What lives in this process and cannot be had from a configuration alone.
#[derive(Clone, Default)]
pub(crate) struct Hosts {
    /// The world that the colours of kind `lab` live in.
    pub lab: Option<Arc<LabProvisioner>>,
    /// The name server of kind `local`.
    pub dns: Option<Arc<LocalServer>>,
}

/// Connects backends as a configuration says. What the configuration wants served from this process and `hosts` does
/// not have yet, is started and kept in `hosts`.
///
/// # Errors
/// A lab's cluster without its world, a port in use, a journal that is locked or damaged, a client property that is not
/// accepted: each names the field or file and the fix.
pub(crate) async fn wire(config: &Config, hosts: &mut Hosts) -> Result<Backends, Failure> {
    let provisioners = provisioners(config, hosts)?;
    let connector = Connector::new(config, hosts.lab.clone()).map_err(Failure::Input)?;
    let dns = name_server(config, hosts).await?;
    let journal = FileJournal::open(&config.journal).await.map_err(|error| Failure::Run(error.into()))?;
    let [blue, green] = provisioners;
    Ok(Backends { dns, blue, green, clusters: Arc::new(connector), journal: Arc::new(journal) })
}

fn provisioners(config: &Config, hosts: &Hosts) -> Result<[Arc<dyn ClusterProvisioner>; 2], Failure> {
    let make = |colour: Colour| -> Result<Arc<dyn ClusterProvisioner>, Failure> {
        match &config.clusters.get(colour).provisioner {
            ProvisionerConfig::Static { bootstrap, endpoint } => {
                let cluster = ExistingCluster { bootstrap: bootstrap.clone(), endpoint: endpoint.clone() };
                Ok(Arc::new(StaticProvisioner::new().with(colour, cluster)))
            }
            ProvisionerConfig::Lab { .. } => match &hosts.lab {
                Some(lab) => Ok(Arc::clone(lab) as Arc<dyn ClusterProvisioner>),
                None => Err(Failure::Input(anyhow!(
                    "field `clusters.{colour}.provisioner.kind`: a cluster of kind `lab` lives in the process that \
                     made its world; run `kutover demo`, or describe a cluster that exists with kind = \"static\""
                ))),
            },
        }
    };
    Ok([make(Colour::Blue)?, make(Colour::Green)?])
}

/// The authoritative side. A `local` one is started here if nobody has, and leads to the active colour.
async fn name_server(config: &Config, hosts: &mut Hosts) -> Result<Arc<dyn DnsProvider>, Failure> {
    let DnsKind::Local = config.dns.kind;
    if let Some(dns) = &hosts.dns {
        return Ok(Arc::clone(dns) as Arc<dyn DnsProvider>);
    }
    let server = LocalServer::start(config.dns.listen, config.dns.zone.clone())
        .await
        .map_err(|error| Failure::Input(anyhow!("field `dns.listen`: {error}")))?;
    if let ProvisionerConfig::Static { endpoint, .. } = &config.clusters.get(config.plan.active).provisioner {
        for name in &config.endpoints {
            point(&*server, &name.name, config.dns.ttl_s, endpoint).await?;
        }
    }
    hosts.dns = Some(Arc::clone(&server));
    Ok(server)
}

/// Points an endpoint at a cluster and leaves its owner record as it is: what a person does who only changes a record.
pub(crate) async fn point(
    dns: &dyn DnsProvider,
    endpoint: &DnsName,
    ttl_s: u32,
    to: &RecordData,
) -> anyhow::Result<()> {
    let found = dns.read(endpoint).await?;
    let wanted =
        Published { endpoint: Some(RecordSet { ttl_s, data: to.clone() }), owner: found.owner.clone() };
    dns.compare_and_set(endpoint, &found, &wanted).await.with_context(|| format!("pointing {endpoint}"))
}

/// Connects a controller to incarnations by its own path.
pub(crate) struct Connector {
    properties: BTreeMap<Colour, (BTreeMap<String, String>, ClientProperties)>,
    lab: Option<Arc<LabProvisioner>>,
}

impl Connector {
    /// Checks the client properties of both colours.
    ///
    /// # Errors
    /// A property that is not accepted, by its field.
    pub(crate) fn new(config: &Config, lab: Option<Arc<LabProvisioner>>) -> anyhow::Result<Self> {
        let mut properties = BTreeMap::new();
        for colour in Colour::BOTH {
            let plain = config.clusters.get(colour).properties.expose();
            let checked = ClientProperties::new(plain.clone())
                .with_context(|| format!("field `clusters.{colour}.properties`"))?;
            properties.insert(colour, (plain, checked));
        }
        Ok(Self { properties, lab })
    }

    /// The admin client of an incarnation.
    ///
    /// # Errors
    /// Unreachable, or properties that make no sense.
    pub(crate) async fn admin(&self, incarnation: &Incarnation) -> ProviderResult<KafkaAdmin> {
        let (plain, _) = self.of(incarnation.colour)?;
        KafkaAdmin::connect(AdminConfig {
            bootstrap: incarnation.controller_bootstrap.clone(),
            client_bootstrap: incarnation.bootstrap.clone(),
            properties: plain.clone(),
            fence: self.lab.as_ref().and_then(|lab| lab.fence(incarnation.colour)),
            ..AdminConfig::default()
        })
        .await
    }

    fn of(&self, colour: Colour) -> ProviderResult<&(BTreeMap<String, String>, ClientProperties)> {
        self.properties.get(&colour).ok_or_else(|| {
            ProviderError::new(
                ErrorKind::Invalid,
                format!("connect to {colour}"),
                "the colour is not configured",
            )
        })
    }
}

#[async_trait]
impl ClusterConnector for Connector {
    async fn connect(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        let admin = Arc::new(self.admin(incarnation).await?);
        let (_, checked) = self.of(incarnation.colour)?;
        let bootstrap = &incarnation.controller_bootstrap;
        let registry =
            KafkaRegistry::open(bootstrap, checked, ClientHooks::default(), REGISTRY_TIMEOUT).await?;
        Ok(ClusterLinks { admin: Arc::clone(&admin) as _, lag: admin, registry: Arc::new(registry) })
    }
}
