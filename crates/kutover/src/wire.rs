//! From a configuration to the backends that a controller steers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use kutover_admin::{AdminConfig, FenceWith, KafkaAdmin, Timeouts};
use kutover_controller::config::{Config, FenceConfig, ProvisionerConfig};
use kutover_controller::driver::{Backends, ClusterConnector, ClusterLinks};
use kutover_core::cutover::Record;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{ClusterProvisioner, ClusterSurvey, ConnectAdmin, Incarnation, JournalEntry};
use kutover_core::words::{Colour, DeploymentName};
use kutover_dns::LocalServer;
use kutover_kafka::KafkaRegistry;
use kutover_lab::LabProvisioner;
use kutover_provision::{
    ExecFence, ExecProvisioner, ExecSubject, ExistingCluster, FenceSubject, StaticProvisioner,
};

use crate::clients::Clients;
use crate::failure::Failure;
use crate::name_server::{Records, name_server};
use crate::{aws, journal};

/// How long one call to kutover's own topics may take.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(10);

/// For one run of a command of the operator's, of which one step makes four at most: an abort asks what stands there, whether
/// this cutover made it, once more what stands there, and removes it. It is to hear of the last one's end.
fn run_limit(config: &Config) -> Duration {
    config.plan.command_timeout / 5
}

/// What lives in this process and cannot be had from a configuration alone.
#[derive(Clone, Default)]
pub(crate) struct Hosts {
    /// The world that the colours of kind `lab` live in.
    pub lab: Option<Arc<LabProvisioner>>,
    /// The name server of kind `local`.
    pub dns: Option<Arc<LocalServer>>,
    /// Where the one that was started here listens.
    pub listens: Arc<OnceLock<SocketAddr>>,
}

/// Connects backends as a configuration says. What the configuration wants served from this process and `hosts` does
/// not have yet, is started and kept in `hosts`.
///
/// # Errors
/// A lab's cluster without its world, a port in use, a journal that is locked or damaged, a client property that is not
/// accepted: each names the field or file and the fix.
pub(crate) async fn wire(config: &Config, hosts: &mut Hosts) -> Result<Backends, Failure> {
    let provisioners = provisioners(config, hosts).await?;
    let connector = Connector::new(config, hosts.lab.clone()).map_err(Failure::Input)?;
    // The journal's lock covers the zone that is kept beside it, so it comes first.
    let journal = journal::open(config).await?;
    let entries = journal.read().await.map_err(Failure::of_file)?;
    // Until a term was taken there is nothing but the intent to take over, which may have failed.
    let intended = |entry: &JournalEntry| {
        matches!(serde_json::from_value(entry.body.clone()), Ok(Record::Intent { .. }))
    };
    let is_new = entries.iter().all(intended);
    let [blue, green] = provisioners;
    let active = match config.plan.active {
        Colour::Blue => &blue,
        Colour::Green => &green,
    };
    let Records { dns, zones } = name_server(config, hosts, is_new, &**active).await?;
    Ok(Backends { dns, zones, blue, green, clusters: Arc::new(connector), journal })
}

pub(crate) async fn provisioners(
    config: &Config,
    hosts: &Hosts,
) -> Result<[Arc<dyn ClusterProvisioner>; 2], Failure> {
    Ok([provisioner(config, hosts, Colour::Blue).await?, provisioner(config, hosts, Colour::Green).await?])
}

/// Where a colour's cluster comes from.
///
/// # Errors
/// A lab's cluster without its world, a secret that cannot be had: by the field.
pub(crate) async fn provisioner(
    config: &Config,
    hosts: &Hosts,
    colour: Colour,
) -> Result<Arc<dyn ClusterProvisioner>, Failure> {
    match &config.clusters.get(colour).provisioner {
        ProvisionerConfig::Static { bootstrap, endpoint } => {
            let cluster = ExistingCluster { bootstrap: bootstrap.clone(), endpoint: endpoint.clone() };
            Ok(Arc::new(StaticProvisioner::new().with(colour, cluster)))
        }
        ProvisionerConfig::Exec { command, environment } => {
            let environment = environment.read().map_err(|(name, reason)| {
                Failure::Input(anyhow!("field `clusters.{colour}.provisioner.environment.{name}`: {reason}"))
            })?;
            let subject = ExecSubject { deployment: config.deployment.clone(), colour };
            let by = ExecProvisioner::new(command.clone(), subject, run_limit(config));
            Ok(Arc::new(by.with_environment(environment)))
        }
        ProvisionerConfig::CloudFormation(stack) => aws::stacks(config, colour, stack).await,
        ProvisionerConfig::Lab { .. } => match &hosts.lab {
            Some(lab) => Ok(Arc::clone(lab) as Arc<dyn ClusterProvisioner>),
            None => Err(Failure::Input(anyhow!(
                "field `clusters.{colour}.provisioner.kind`: a cluster of kind `lab` lives in the process that \
                 made its world; run `kutover demo`, or describe a cluster that exists with kind = \"static\""
            ))),
        },
    }
}

/// What stands behind a colour, and the controller's connections to it, for a program that only looks.
///
/// # Errors
/// The colour lives in another process; unreachable.
pub(crate) async fn look_at(config: &Config, colour: Colour) -> Result<(Incarnation, KafkaAdmin), Failure> {
    let found = provisioner(config, &Hosts::default(), colour)
        .await?
        .describe(colour)
        .await
        .map_err(anyhow::Error::from)?;
    let there = found.ok_or_else(|| Failure::Run(anyhow!("there is no cluster behind {colour}")))?;
    let admin = Connector::new(config, None).map_err(Failure::Input)?.admin(&there).await;
    Ok((there, admin.map_err(anyhow::Error::from)?))
}

/// Checks the client properties of a colour, and what goes with them.
///
/// # Errors
/// A property that is not accepted, by its field.
pub(crate) fn check_clients(config: &Config, colour: Colour) -> anyhow::Result<()> {
    Clients::of(config, colour).map(drop)
}

/// Connects a controller to incarnations by its own path.
pub(crate) struct Connector {
    deployment: DeploymentName,
    colours: BTreeMap<Colour, Clients>,
    fences: BTreeMap<Colour, FenceConfig>,
    /// For a fence's command.
    command_limit: Duration,
    /// For how long a proof that fails is tried anew. Why it fails must be told before the command that wants it is given
    /// up, and a way back asks at least twice before its deadline is over.
    proof_limit: Duration,
    lab: Option<Arc<LabProvisioner>>,
}

impl Connector {
    /// Checks the client properties of both colours.
    ///
    /// # Errors
    /// A property that is not accepted, by its field.
    pub(crate) fn new(config: &Config, lab: Option<Arc<LabProvisioner>>) -> anyhow::Result<Self> {
        let mut colours = BTreeMap::new();
        for colour in Colour::BOTH {
            colours.insert(colour, Clients::of(config, colour)?);
        }
        let fences = Colour::BOTH.map(|colour| (colour, config.clusters.get(colour).fence.clone()));
        let command_limit = run_limit(config);
        Ok(Self {
            deployment: config.deployment.clone(),
            colours,
            fences: fences.into(),
            command_limit,
            proof_limit: command_limit.min(config.plan.barrier_deadline / 2),
            lab,
        })
    }

    /// The admin client of an incarnation.
    ///
    /// # Errors
    /// Unreachable, or properties that make no sense.
    pub(crate) async fn admin(&self, incarnation: &Incarnation) -> ProviderResult<KafkaAdmin> {
        KafkaAdmin::connect(self.admin_config(incarnation)?).await
    }

    /// Has the client that proves fences get in, where ordinary clients do.
    ///
    /// # Errors
    /// As [`KafkaAdmin::reach_as_probe`].
    pub(crate) async fn reach_as_probe(&self, incarnation: &Incarnation) -> ProviderResult<()> {
        KafkaAdmin::reach_as_probe(&self.admin_config(incarnation)?).await
    }

    fn admin_config(&self, incarnation: &Incarnation) -> ProviderResult<AdminConfig> {
        let clients = self.of(incarnation.colour)?;
        let defaults = Timeouts::default();
        Ok(AdminConfig {
            bootstrap: incarnation.controller_bootstrap.clone(),
            client_bootstrap: incarnation.bootstrap.clone(),
            properties: clients.plain.clone(),
            probe_properties: clients.probe.clone(),
            tokens: clients.tokens.clone(),
            probe_tokens: clients.probe_tokens.clone(),
            scram_passwords: clients.scram_passwords.clone(),
            fence: self.fence(incarnation),
            timeouts: Timeouts { proof: defaults.proof.min(self.proof_limit), ..defaults },
        })
    }

    /// What is to make it refuse records: an embedded cluster has a hook of its own.
    fn fence(&self, incarnation: &Incarnation) -> FenceWith {
        if let Some(hook) = self.lab.as_ref().and_then(|lab| lab.fence(incarnation.colour)) {
            return FenceWith::Switch(hook);
        }
        match self.fences.get(&incarnation.colour) {
            None | Some(FenceConfig::Acl {}) => FenceWith::Acl,
            Some(FenceConfig::Size {}) => FenceWith::Size,
            Some(FenceConfig::Exec { command }) => {
                let subject = FenceSubject {
                    deployment: self.deployment.clone(),
                    colour: incarnation.colour,
                    bootstrap: incarnation.bootstrap.clone(),
                };
                FenceWith::Switch(Arc::new(ExecFence::new(command.clone(), subject, self.command_limit)))
            }
        }
    }

    fn of(&self, colour: Colour) -> ProviderResult<&Clients> {
        self.colours.get(&colour).ok_or_else(|| {
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
        let clients = self.of(incarnation.colour)?;
        let bootstrap = &incarnation.controller_bootstrap;
        let registry =
            KafkaRegistry::open(bootstrap, &clients.checked, clients.hooks(), REGISTRY_TIMEOUT).await?;
        let registry = registry.with_topics_made_by(Arc::clone(&admin) as _);
        Ok(ClusterLinks {
            admin: Arc::clone(&admin) as _,
            lag: Arc::clone(&admin) as _,
            survey: Arc::clone(&admin) as _,
            registry: Arc::new(registry),
            ids: admin,
        })
    }

    async fn survey(&self, incarnation: &Incarnation) -> ProviderResult<Arc<dyn ClusterSurvey>> {
        Ok(Arc::new(self.admin(incarnation).await?))
    }

    async fn workers(&self, colour: Colour) -> ProviderResult<Arc<dyn ConnectAdmin>> {
        match &self.of(colour)?.workers {
            Some(workers) => Ok(Arc::clone(workers) as _),
            None => Err(ProviderError::new(
                ErrorKind::Invalid,
                format!("Connect workers of {colour}"),
                format!("none are configured; say clusters.{colour}.connect"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use kutover_controller::config::JournalPlace;
    use kutover_core::ports::{DnsProvider as _, Published, RecordData, RecordSet};
    use kutover_core::words::{DnsName, Term};

    use crate::name_server::{point, zone_path};

    use super::*;

    const LAB: &str = r#"
deployment = "orders"
journal = "orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]

[dns]
kind = "local"
zone = "orders.test"
listen = "127.0.0.1:0"
ttl_s = 1

[clusters.blue.provisioner]
kind = "lab"
kafka = "embedded"

[clusters.green.provisioner]
kind = "lab"
kafka = "embedded"
"#;

    fn existing() -> String {
        let cluster = |last: u8| {
            format!(
                "kind = \"static\"\nbootstrap = [\"127.8.8.{last}:9\"]\nendpoint = {{ addresses = [\"127.8.8.{last}\"] }}"
            )
        };
        let lab = "kind = \"lab\"\nkafka = \"embedded\"";
        LAB.replacen(lab, &cluster(1), 1).replacen(lab, &cluster(2), 1)
    }

    async fn failure(config: &Config, hosts: &mut Hosts) -> Failure {
        match wire(config, hosts).await {
            Err(failure) => failure,
            Ok(_) => panic!("it was wired"),
        }
    }

    #[tokio::test]
    async fn a_lab_without_its_world_says_what_to_run_instead() {
        let failure = failure(&Config::parse(LAB).unwrap(), &mut Hosts::default()).await;
        assert_eq!(failure.status(), 2);
        let text = failure.to_string();
        assert!(text.contains("clusters.blue.provisioner.kind") && text.contains("kutover demo"), "{text}");
    }

    /// Once a journal has begun, a zone that was lost leads nobody to the cluster that was left.
    #[tokio::test]
    async fn a_lost_zone_is_named_and_leads_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::parse(&existing()).unwrap();
        let path = directory.path().join("orders.journal");
        config.journal = JournalPlace::File(path.clone());
        let mut hosts = Hosts::default();
        let backends = wire(&config, &mut hosts).await.unwrap();
        let name = config.endpoints[0].name.clone();
        assert!(
            backends.dns.read(&name).await.unwrap().endpoint.is_some(),
            "a new deployment is led to its active colour"
        );
        let entry = JournalEntry { index: 0, term: Term(0), body: serde_json::json!({}) };
        backends.journal.append(&entry).await.unwrap();
        drop(backends);
        hosts.dns.take().unwrap().stop().await;

        std::fs::remove_file(zone_path(&config).unwrap()).unwrap();
        let failure = failure(&config, &mut hosts).await;
        assert_eq!(failure.status(), 2);
        let text = failure.to_string();
        assert!(text.contains("orders.journal.zone") && text.contains("kafka.orders.test"), "{text}");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_field() {
        let taken = LocalServer::start("127.0.0.1:0".parse().unwrap(), DnsName::new("x.test")).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let text = existing().replace("127.0.0.1:0", &taken.address().to_string());
        let mut config = Config::parse(&text).unwrap();
        config.journal = JournalPlace::File(directory.path().join("orders.journal"));
        let failure = failure(&config, &mut Hosts::default()).await;
        assert_eq!(failure.status(), 2);
        let text = failure.to_string();
        assert!(text.contains("dns.listen") && text.contains(&taken.address().to_string()), "{text}");
    }

    #[tokio::test]
    async fn a_client_property_that_gives_up_a_safety_is_refused_by_field() {
        let text = format!("{}\n[clusters.green.properties]\nacks = \"1\"\n", existing());
        let failure = failure(&Config::parse(&text).unwrap(), &mut Hosts::default()).await;
        let text = failure.to_string();
        assert!(text.contains("clusters.green.properties") && text.contains("acks"), "{text}");
    }

    /// What either client cannot do is said before anything is connected, with the field and the fix.
    #[tokio::test]
    async fn security_that_cannot_be_had_is_refused_by_field() {
        let sasl = "\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n";
        let tls = "\"security.protocol\" = \"sasl_ssl\"\n";
        let missing = "\"sasl.password\" = { env = \"KUTOVER_NO_SUCH_VARIABLE\" }\n";
        let no_tls = if cfg!(feature = "tls") { "`sasl.mechanism`" } else { "--features tls" };
        for (properties, expected) in [
            (missing.to_owned(), "variable KUTOVER_NO_SUCH_VARIABLE is not set"),
            (sasl.to_owned(), "`sasl.username`"),
            (tls.to_owned(), no_tls),
        ] {
            let text = format!("{}\n[clusters.green.properties]\n{properties}", existing());
            let failure = failure(&Config::parse(&text).unwrap(), &mut Hosts::default()).await;
            assert_eq!(failure.status(), 2);
            let text = failure.to_string();
            assert!(text.contains("clusters.green.properties") && text.contains(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn a_local_name_server_is_started_and_leads_to_the_active_colour() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::parse(&existing()).unwrap();
        config.journal = JournalPlace::File(directory.path().join("orders.journal"));
        let mut hosts = Hosts::default();
        let backends = wire(&config, &mut hosts).await.map_err(|failure| failure.to_string()).unwrap();
        assert!(hosts.dns.is_some(), "it is kept while the program runs");
        let published = backends.dns.read(&DnsName::new("kafka.orders.test")).await.unwrap();
        let blue = RecordData::Addresses(vec!["127.8.8.1".parse().unwrap()]);
        assert_eq!(published, Published { endpoint: Some(RecordSet { ttl_s: 1, data: blue }), owner: None });
    }

    /// Where a command makes the cluster, and for every endpoint.
    #[tokio::test]
    async fn a_local_name_server_leads_all_endpoints_to_a_cluster_that_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let made = "kind = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat >/dev/null; printf '%s' \\\"$MADE\\\"\"]\n\
                    environment = { MADE = '{\"incarnation\": {\"id\": \"a\", \"bootstrap\": [\"127.8.8.1:9\"], \"endpoint\": \
                    {\"addresses\": [\"127.8.8.1\"]}}}' }";
        let text = LAB.replace("kind = \"lab\"\nkafka = \"embedded\"", made).replace(
            "endpoints = [{ name = \"kafka.orders.test\", port = 9092 }]",
            "endpoints = [{ name = \"kafka.orders.test\", port = 9092 }, { name = \"inside.orders.test\", port = 9092 }]",
        );
        let mut config = Config::parse(&text).unwrap();
        config.journal = JournalPlace::File(directory.path().join("orders.journal"));
        let mut hosts = Hosts::default();
        let backends = wire(&config, &mut hosts).await.map_err(|failure| failure.to_string()).unwrap();
        let blue = RecordData::Addresses(vec!["127.8.8.1".parse().unwrap()]);
        for endpoint in &config.endpoints {
            let published = backends.dns.read(&endpoint.name).await.unwrap();
            assert_eq!(published.endpoint.map(|set| set.data), Some(blue.clone()), "{}", endpoint.name);
        }
    }

    #[tokio::test]
    async fn a_second_start_leaves_what_was_published() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::parse(&existing()).unwrap();
        config.journal = JournalPlace::File(directory.path().join("orders.journal"));
        let name = DnsName::new("kafka.orders.test");
        let green = RecordData::Addresses(vec!["127.8.8.2".parse().unwrap()]);
        let mut hosts = Hosts::default();
        let backends = wire(&config, &mut hosts).await.map_err(|failure| failure.to_string()).unwrap();
        point(&*backends.dns, &name, 1, &green).await.unwrap();
        assert!(directory.path().join("orders.journal.zone").is_file());
        drop((backends, hosts));

        let backends =
            wire(&config, &mut Hosts::default()).await.map_err(|failure| failure.to_string()).unwrap();
        assert_eq!(backends.dns.read(&name).await.unwrap().endpoint.map(|set| set.data), Some(green));
        drop(backends);

        std::fs::write(directory.path().join("orders.journal.zone"), "nonsense").unwrap();
        let failure = failure(&config, &mut Hosts::default()).await;
        assert_eq!(failure.status(), 2);
        let text = failure.to_string();
        assert!(text.contains("orders.journal.zone") && text.contains("restore it"), "{text}");
    }

    #[tokio::test]
    async fn pointing_a_record_leaves_everything_else() {
        let server =
            LocalServer::start("127.0.0.1:0".parse().unwrap(), DnsName::new("x.test")).await.unwrap();
        let name = DnsName::new("kafka.x.test");
        let to = |last: u8| RecordData::Addresses(vec![std::net::Ipv4Addr::new(127, 0, 0, last).into()]);
        point(&*server, &name, 7, &to(2)).await.unwrap();
        point(&*server, &name, 7, &to(3)).await.unwrap();
        let published = server.read(&name).await.unwrap();
        assert_eq!(published, Published { endpoint: Some(RecordSet { ttl_s: 7, data: to(3) }), owner: None });
    }
}
