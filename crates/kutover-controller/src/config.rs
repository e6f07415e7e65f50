//! The one TOML file that describes a deployment and its cutover.
//!
//! ```toml
//! deployment = "orders"
//! journal = "orders.journal"              # relative to this file
//! endpoints = [{ name = "kafka.orders.test", port = 9092 }]
//!
//! [dns]
//! kind = "local"
//! zone = "orders.test"
//! listen = "127.0.0.1:5353"
//! ttl_s = 30
//!
//! [clusters.blue.provisioner]
//! kind = "static"
//! bootstrap = ["10.0.0.1:9092"]
//! endpoint = { addresses = ["10.0.0.1"] }
//!
//! [clusters.green.provisioner]
//! kind = "static"
//! bootstrap = ["10.0.1.1:9092"]
//! endpoint = { addresses = ["10.0.1.1"] }
//!
//! [clusters.green.properties]
//! "sasl.password" = { file = "green.password" }   # or { env = "GREEN_PASSWORD" }
//!
//! [plan]
//! groups = ["billing"]
//! approve = "manual"
//! soak = "10m"
//! ```
//!
//! What a field does not say has a default, except where guessing could do harm. Unknown fields are refused, so that a
//! misspelt safety option is never a silent default. Every error names the field, its line and the fix.

mod aws;
mod check;
mod connect;
mod dns;
mod error;
mod fence;
mod journal;
mod names;
mod properties;
mod provisioner;
mod schema;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kutover_core::decisions::separation::Room;
use kutover_core::words::{
    Colour, DeploymentName, DnsName, EndpointKey, GroupId, IncarnationId, InstanceName, TopicName, ZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use aws::{AwsConfig, Route53Config, StackConfig};
pub(crate) use check::WATCHED;
pub use connect::ConnectConfig;
pub use dns::{DnsConfig, DnsKind, Rfc2136Config};
pub use error::ConfigError;
pub use fence::FenceConfig;
pub use journal::JournalPlace;
pub use names::{NameSelection, Selection, TopicSelection};
pub use properties::{Properties, PropertyValue, SecretText};
pub use provisioner::{LabKafka, ProvisionerConfig};
pub use schema::json_schema;

/// A deployment and the cutover that is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The deployment's name; must be the owner record's.
    #[serde(deserialize_with = "names::deployment")]
    #[schemars(with = "String")]
    pub deployment: DeploymentName,
    /// The journal's file, or `s3://BUCKET/KEY`. A relative path is taken from the directory of the configuration file.
    #[schemars(with = "String")]
    pub journal: JournalPlace,
    /// The names that clients bootstrap from. The first one holds the authoritative owner record and with it the term.
    pub endpoints: Vec<Endpoint>,
    /// Where AWS is, for what is kept or made there.
    #[serde(default, skip_serializing_if = "AwsConfig::is_default")]
    pub aws: AwsConfig,
    /// Where the endpoints' records are kept.
    pub dns: DnsConfig,
    /// The two colours.
    pub clusters: Clusters,
    /// What the cutover does and how patient it is.
    #[serde(default)]
    pub plan: Plan,
}

/// A name that clients bootstrap from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The DNS name.
    #[serde(deserialize_with = "names::dns_name")]
    #[schemars(with = "String")]
    pub name: DnsName,
    /// The port that clients use with it.
    pub port: NonZeroU16,
    /// `route53`: the hosted zone that keeps it, by its id, where the name alone does not say which: the same name in a private
    /// and a public zone is two endpoints. Default: as `dns` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
}

impl Endpoint {
    /// Its identity.
    pub fn key(&self) -> EndpointKey {
        EndpointKey { name: self.name.clone(), zone: self.zone_id.as_deref().map(ZoneId::new) }
    }
}

/// The two colours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clusters {
    /// The blue one.
    pub blue: ClusterConfig,
    /// The green one.
    pub green: ClusterConfig,
}

impl Clusters {
    /// One of them.
    pub fn get(&self, colour: Colour) -> &ClusterConfig {
        match colour {
            Colour::Blue => &self.blue,
            Colour::Green => &self.green,
        }
    }
}

/// One colour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Where its cluster comes from.
    pub provisioner: ProvisionerConfig,
    /// What makes it refuse records when it is left. Default: ACLs.
    #[serde(default, skip_serializing_if = "FenceConfig::is_default")]
    pub fence: FenceConfig,
    /// Client properties by librdkafka's names, for the controller's own clients on this colour. Never shown, but
    /// for `sasl.username`, by which a plan names the principal. A value may stand in the environment (`{ env = "NAME" }`) or in a file (`{ file = "PATH" }`); it is read at the start.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    /// Client properties, all that it takes, of the ordinary client that asks leaders whether they refuse or take records: of a
    /// principal that is no super user and may write to the topics. Needed where `properties` are a super user's, whom no
    /// fence of ACLs binds. Default: `properties`. Shown as little as they are.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub probe_properties: Properties,
    /// Passwords of SCRAM users that this colour may lack when it becomes the new one: nobody can copy them from the old
    /// one. Written as the values of properties are.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub scram_users: Properties,
    /// A file with the token for `sasl.mechanism = "OAUTHBEARER"`, kept fresh by somebody else and read each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The same for the client of `probe_properties`, which is then somebody else than the controller. Default: the tokens that
    /// the controller takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_token_file: Option<PathBuf>,
    /// Whether tokens are signed for Amazon MSK, which lets clients in by IAM; region and credentials as in `aws`. Not beside
    /// `token_file`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub msk_iam: bool,
    /// The Kafka Connect workers that belong to this colour. Default none. Both colours have them, or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectConfig>,
}

/// What the cutover does and how patient it is. Durations are texts with a unit, as in `"1m 30s"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// The colour that is active when kutover sees the deployment for the first time. Default blue. Later the owner
    /// record says it, and this is not looked at.
    #[schemars(schema_with = "schema::colour")]
    pub active: Colour,
    /// The colour that is to be active in the end: where it is already, there is nothing to do. Default: the other one
    /// than `active`. The next cutover, back again, is asked for by changing this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::colour")]
    pub to: Option<Colour>,
    /// The topics that are moved: `"*"` (default) or a list. Reserved topics never are.
    #[schemars(schema_with = "schema::selection")]
    pub topics: TopicSelection,
    /// Groups that must have drained the old cluster: every topic that moves. Where a cluster can list its groups, those are
    /// added, each for the topics on which it has commits.
    #[schemars(with = "BTreeSet<String>")]
    pub groups: BTreeSet<GroupId>,
    /// Groups that need not have drained it, although a cluster lists them. Default: none.
    #[schemars(with = "BTreeSet<String>")]
    pub waive_groups: BTreeSet<GroupId>,
    /// Groups that read uncommitted records (`isolation.level=read_uncommitted`), where topics are written in
    /// transactions: what was aborted is data to them. All others are taken to read committed ones. Default: none.
    #[schemars(with = "BTreeSet<String>")]
    pub read_uncommitted: BTreeSet<GroupId>,
    /// Connectors that move along: `"*"` or a list of names. Default: all, where the colours have `connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selection")]
    pub connectors: Option<NameSelection>,
    /// Who says yes before the switch and before the removal. Default automatic.
    pub approve: Approve,
    /// Whether the old cluster must be made to refuse records. Default required; waived needs `approve = "manual"`
    /// for the removal.
    pub fence: FencePolicy,
    /// Whether the new cluster's producer ids are raised above all that others gave out, so that a client outside the
    /// library may take its own along (L16). Default on.
    pub separation: Separation,
    /// Producer ids that the old cluster may still give out until it is removed: each start of a client outside the
    /// library takes one. Default 100,000.
    pub separation_head_room: u64,
    /// The most producer ids that are used up for it, at 5,000 to 10,000 a second; where it takes more, the cutover holds
    /// and says how many. Default 20,000,000, about an hour.
    pub separation_limit: u64,
    /// Topics whose history may die with the old cluster (L18): nothing (default), a list, or `"*"`, which takes in neither
    /// `schemas_topic` nor topics that do not move.
    #[schemars(schema_with = "schema::selection")]
    pub waive_history: TopicSelection,
    /// The topic in which Schema Registry keeps its schemas (its `kafkastore.topic`): without it nobody can read the records.
    /// `"*"` of `waive_history` does not take it in, and no group has to read it. Default: `_schemas`.
    #[schemars(with = "String")]
    pub schemas_topic: TopicName,
    /// Producers, by instance name, that are gone for good without having said so: nobody waits for them to move. Default none.
    #[schemars(with = "BTreeSet<String>")]
    pub waive_members: BTreeSet<InstanceName>,
    /// Topics that may have been deleted on the old cluster after the switch: one that was is out of the cutover, with what
    /// nobody has read of it. Default: none.
    #[schemars(with = "BTreeSet<String>")]
    pub waive_deleted: BTreeSet<TopicName>,
    /// Topics that may have fewer replicas on the new cluster than on the old one: it has fewer brokers on purpose. Default
    /// none.
    #[schemars(schema_with = "schema::selection")]
    pub waive_replicas: TopicSelection,
    /// Streams applications that somebody moves by hand, by application id. Default none.
    #[schemars(schema_with = "schema::selection")]
    pub waive_streams: NameSelection,
    /// Transactional ids whose producers somebody moves by hand. Default none.
    #[schemars(schema_with = "schema::selection")]
    pub waive_transactions: NameSelection,
    /// Topics that no group needs to have read. Default none.
    #[schemars(schema_with = "schema::selection")]
    pub waive_unread: TopicSelection,
    /// Topics of which retention may delete what is unread. Default none.
    #[schemars(schema_with = "schema::selection")]
    pub waive_retention: TopicSelection,
    /// Topics whose retention kutover raises: on both clusters they are kept without limit while the cutover runs, whatever
    /// that takes on disk, and what stood before is restored at its end. Default none.
    #[schemars(schema_with = "schema::selection")]
    pub raise_retention: TopicSelection,
    /// Super users of the old cluster that do not produce, as in `"User:admin"`. Default none.
    #[schemars(schema_with = "schema::selection")]
    pub waive_super_users: NameSelection,
    /// Advertised addresses that clients reach although this machine does not, as `host:port`. Default none.
    #[schemars(schema_with = "schema::selection")]
    pub waive_unreachable: NameSelection,
    /// Whether a new cluster that does not tell `auto.create.topics.enable` makes no topics by itself. Default false.
    pub waive_auto_create: bool,
    /// For how long groups and producers are watched before a cutover begins, to tell their pace: longer than groups take
    /// between two commits, at most half of `command_timeout`. Default 10 s, or that half.
    #[serde(with = "values::duration_option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub watch: Option<Duration>,
    /// Whether the old cluster is removed at the end. Default true.
    pub remove_old: bool,
    /// The incarnation of an old cluster that is dead for good: the cutover that leaves it ends without its proof, and it stays
    /// as it is. Refused while it answers. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub abandon_old: Option<IncarnationId>,
    /// The records' time to live around the switch, in whole seconds and not above `dns.ttl_s`. Default: `dns.ttl_s`.
    #[serde(with = "values::duration_option", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub ttl: Option<Duration>,
    /// How long producers have to hand in their receipts before the fence decides. Default 60 s.
    #[serde(with = "values::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub converge_deadline: Duration,
    /// For how long an unfenced old cluster must have taken no record before it counts as quiet. Default 60 s.
    #[serde(with = "values::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub quiet_window: Duration,
    /// How long a rollback tries to fence a cluster that does not answer before it goes back without a barrier. Default
    /// 10 s.
    #[serde(with = "values::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub barrier_deadline: Duration,
    /// How long the new cluster must have served, drained and undisturbed, before the old one is isolated. Default 30 s.
    #[serde(with = "values::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub soak: Duration,
    /// How long a hold may last before the cutover gives up waiting and takes the safe way out. Default 15 m.
    #[serde(with = "values::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub hold_limit: Duration,
    /// How long one command may take before its outcome counts as unknown. Default 30 s.
    #[serde(with = "values::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub command_timeout: Duration,
    /// The pause between two looks at the lag. Default 1 s.
    #[serde(with = "values::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub drain_poll: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            active: Colour::Blue,
            to: None,
            topics: TopicSelection::All,
            groups: BTreeSet::new(),
            waive_groups: BTreeSet::new(),
            read_uncommitted: BTreeSet::new(),
            connectors: None,
            approve: Approve::Automatic,
            fence: FencePolicy::Required,
            separation: Separation::On,
            separation_head_room: Room::default().head_room,
            separation_limit: Room::default().most,
            waive_history: TopicSelection::none(),
            schemas_topic: "_schemas".into(),
            waive_members: BTreeSet::new(),
            waive_deleted: BTreeSet::new(),
            waive_replicas: TopicSelection::none(),
            waive_streams: NameSelection::none(),
            waive_transactions: NameSelection::none(),
            waive_unread: TopicSelection::none(),
            waive_retention: TopicSelection::none(),
            raise_retention: TopicSelection::none(),
            waive_super_users: NameSelection::none(),
            waive_unreachable: NameSelection::none(),
            waive_auto_create: false,
            watch: None,
            remove_old: true,
            abandon_old: None,
            ttl: None,
            converge_deadline: Duration::from_secs(60),
            quiet_window: Duration::from_secs(60),
            barrier_deadline: Duration::from_secs(10),
            soak: Duration::from_secs(30),
            hold_limit: Duration::from_secs(15 * 60),
            command_timeout: Duration::from_secs(30),
            drain_poll: Duration::from_secs(1),
        }
    }
}

/// Who says yes before the switch and before the removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approve {
    /// The proofs alone.
    Automatic,
    /// A person, after the proofs.
    Manual,
}

/// Whether the old cluster must be made to refuse records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FencePolicy {
    /// Without a proven fence nothing is removed.
    Required,
    /// A quiet window stands in for it: no order between clusters is promised, and removal needs a person.
    Waived,
}

/// Whether producer ids are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Separation {
    /// Nobody is pointed at the new cluster before its ids are above all others.
    On,
    /// No client outside the library re-bootstraps; whoever does may lose acknowledged records.
    Off,
}

impl Config {
    /// Reads a file. A relative `journal` becomes a path beside it, and so do the files that secrets stand in.
    ///
    /// # Errors
    /// The file cannot be read, or as [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_whole(path).map_err(|mut faults| faults.swap_remove(0))
    }

    /// As [`Config::load`], with more than the first fault where more can be told: one for each table.
    ///
    /// # Errors
    /// At least one.
    pub fn load_whole(path: &Path) -> Result<Self, Vec<ConfigError>> {
        let text =
            std::fs::read_to_string(path).map_err(|error| vec![ConfigError::unreadable(path, &error)])?;
        let mut config = Self::parse_whole(&text)
            .map_err(|faults| faults.into_iter().map(|fault| fault.in_file(path)).collect::<Vec<_>>())?;
        if let Some(directory) = path.parent() {
            config.journal.beside(directory);
            if let DnsKind::Rfc2136(at) = &mut config.dns.kind {
                at.secret.beside(directory);
            }
            for cluster in [&mut config.clusters.blue, &mut config.clusters.green] {
                cluster.properties.beside(directory);
                cluster.probe_properties.beside(directory);
                cluster.scram_users.beside(directory);
                match &mut cluster.provisioner {
                    ProvisionerConfig::Exec { environment, .. } => environment.beside(directory),
                    ProvisionerConfig::CloudFormation(stack) => {
                        stack.template = stack.template.take().map(|path| directory.join(path));
                    }
                    ProvisionerConfig::Static { .. } | ProvisionerConfig::Lab { .. } => {}
                }
                if let Some(connect) = &mut cluster.connect {
                    connect.beside(directory);
                }
                for file in [&mut cluster.token_file, &mut cluster.probe_token_file] {
                    *file = file.take().map(|path| directory.join(path));
                }
            }
        }
        Ok(config)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The text is no TOML, a field is missing, unknown or of the wrong form, or two fields contradict each other.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::parse_whole(text).map_err(|mut faults| faults.swap_remove(0))
    }

    /// At least one fault, in the file's order of tables, or none.
    fn parse_whole(text: &str) -> Result<Self, Vec<ConfigError>> {
        let deserializer =
            toml::Deserializer::parse(text).map_err(|error| vec![ConfigError::syntax(text, &error)])?;
        let config: Self = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let field = error.path().to_string();
            vec![ConfigError::at(text, &field, error::with_fix(&field, error.inner().message()))]
        })?;
        let faults: Vec<ConfigError> = check::check(&config)
            .into_iter()
            .map(|(field, message)| ConfigError::at(text, &field, message))
            .collect();
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// The configuration as a TOML file, secrets included: give the file to its owner alone.
    ///
    /// # Errors
    /// A path in it is not UTF-8.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::unwritable(&error))
    }

    /// The name that holds the authoritative owner record.
    pub fn term_endpoint(&self) -> &Endpoint {
        &self.endpoints[0]
    }

    /// The time to live around the switch, in seconds.
    pub fn switch_ttl_s(&self) -> u32 {
        self.plan.ttl.map_or(self.dns.ttl_s, |ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX))
    }
}
