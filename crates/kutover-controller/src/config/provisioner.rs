//! Where a colour's cluster comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use kutover_core::ports::RecordData;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aws::StackConfig;
use super::names::parse_dns_name;
use super::properties::Properties;
use super::schema;

/// Where a colour's cluster comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum ProvisionerConfig {
    /// It exists already and somebody else manages it: it is released at the end, not destroyed.
    Static {
        /// `host:port` of its bootstrap servers.
        bootstrap: Vec<String>,
        /// What the endpoints must point at to lead there.
        endpoint: RecordData,
    },
    /// A command makes it, describes it, isolates it and removes it: Terraform, Ansible, a script.
    Exec {
        /// The program and its arguments. It is told what to do on its standard input.
        command: Vec<String>,
        /// Variables for its environment, which may be secrets; its arguments are no place for these.
        environment: Properties,
    },
    /// CloudFormation makes it, as one stack.
    CloudFormation(StackConfig),
    /// kutover-lab makes it on this machine.
    Lab {
        /// What it runs.
        kafka: LabKafka,
        /// How many brokers, 1 to 9. Default 1.
        brokers: u8,
        /// The colour's own loopback address. Default: the lab picks a fresh one.
        address: Option<IpAddr>,
        /// The directory for data and state. Default: the lab picks one.
        directory: Option<PathBuf>,
    },
}

/// What a lab's cluster runs: in the file `"embedded"` or `"apache:VERSION"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LabKafka {
    /// An in-process cluster.
    Embedded,
    /// Apache Kafka of this version ("3.9.2").
    Apache(String),
}

impl fmt::Display for LabKafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Apache(version) => write!(f, "apache:{version}"),
        }
    }
}

impl std::str::FromStr for LabKafka {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match text.strip_prefix("apache:") {
            Some(version) if version.split('.').count() == 3 && version.split('.').all(numeric) => {
                Ok(Self::Apache(version.to_owned()))
            }
            _ => Err(format!(
                "`{text}` is no lab cluster; write \"embedded\" or a version as in \"apache:3.9.2\""
            )),
        }
    }
}

const KINDS: [&str; 4] = ["static", "exec", "cloudformation", "lab"];

schema::as_in_the_file!(ProvisionerConfig, Raw);

/// Where a colour's cluster comes from.
// The table as it stands in the file, all kinds in one: so an error can name a field that belongs to another kind.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Provisioner", transform = say_the_kinds)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    /// `static`: it exists already, and somebody else manages it. `exec`: a command makes it.
    /// `cloudformation`: it is a stack. `lab`: made on this machine by `kutover demo`.
    kind: String,
    /// `static`: `host:port` of its bootstrap servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap: Option<Vec<String>>,
    /// `lab`: what it runs, `"embedded"` or `"apache:VERSION"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka: Option<String>,
    /// `lab`: how many brokers, 1 to 9. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    brokers: Option<u8>,
    /// `lab`: the colour's own loopback address. Default: a fresh one.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    /// `lab`: the directory for data and state. Default: the lab picks one.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    /// `static`: what the endpoints must point at to lead there.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<RawEndpoint>,
    /// `exec`: the program and its arguments. It is told what to do on its standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    /// `exec`: variables for its environment, which may be secrets. Never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Properties>,
    /// `cloudformation`: the stack's name, to which the colour's suffix (`A`, `B`) is appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<String>,
    /// `cloudformation`: the template's parameters, but for `Suffix` and `Isolation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BTreeMap<String, String>>,
    /// `cloudformation`: the template's file. Default: kutover's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<PathBuf>,
    /// `cloudformation`: the role with which CloudFormation makes what the template names. Default: the caller's own rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<String>,
}

/// The kinds are told apart by hand, for the sake of what is said of a wrong one. The schema says them as for any other field.
fn say_the_kinds(schema: &mut schemars::Schema) {
    schema.insert("required".into(), serde_json::json!(["kind"]));
    if let Some(kind) = schema.pointer_mut("/properties/kind").and_then(serde_json::Value::as_object_mut) {
        kind.remove("default");
        kind.insert("enum".into(), serde_json::json!(KINDS));
    }
}

/// What endpoints point at: one of the two.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LeadsTo")]
#[serde(deny_unknown_fields, default)]
struct RawEndpoint {
    /// Addresses, for A and AAAA records.
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<Vec<IpAddr>>,
    /// Another name, such as a load balancer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    cname: Option<String>,
}

impl TryFrom<Raw> for ProvisionerConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        match raw.kind.as_str() {
            "static" => raw.into_static(),
            "exec" => raw.into_exec(),
            "cloudformation" => raw.into_cloudformation(),
            "lab" => raw.into_lab(),
            "" => Err("`kind` is missing; write kind = \"static\"".into()),
            other => Err(format!(
                "`kind`: `{other}` is unknown; write \"static\", \"exec\" or \"cloudformation\" (\"lab\" is for what `kutover demo` makes)"
            )),
        }
    }
}

impl Raw {
    /// Refuses a field that belongs to another kind.
    fn check_kind(&self) -> Result<(), String> {
        let fields = [
            ("static", "bootstrap", self.bootstrap.is_some()),
            ("static", "endpoint", self.endpoint.is_some()),
            ("lab", "kafka", self.kafka.is_some()),
            ("lab", "brokers", self.brokers.is_some()),
            ("lab", "address", self.address.is_some()),
            ("lab", "directory", self.directory.is_some()),
            ("exec", "command", self.command.is_some()),
            ("exec", "environment", self.environment.is_some()),
            ("cloudformation", "stack", self.stack.is_some()),
            ("cloudformation", "parameters", self.parameters.is_some()),
            ("cloudformation", "template", self.template.is_some()),
            ("cloudformation", "role_arn", self.role_arn.is_some()),
        ];
        let foreign = fields.into_iter().filter(|(kind, ..)| *kind != self.kind);
        refuse(&self.kind, &foreign.map(|(_, field, present)| (field, present)).collect::<Vec<_>>())
    }

    fn into_static(self) -> Result<ProvisionerConfig, String> {
        self.check_kind()?;
        let bootstrap = self.bootstrap.ok_or("`bootstrap` is missing; add bootstrap = [\"host:port\"]")?;
        if bootstrap.is_empty() {
            return Err("`bootstrap` is empty; name a server, as in bootstrap = [\"host:port\"]".into());
        }
        for server in &bootstrap {
            check_host_port(server).map_err(|reason| format!("`bootstrap`: {reason}"))?;
        }
        let endpoint = self.endpoint.unwrap_or_default();
        let endpoint = match (endpoint.addresses, endpoint.cname) {
            (Some(mut addresses), None) if !addresses.is_empty() => {
                addresses.sort_unstable();
                addresses.dedup();
                RecordData::Addresses(addresses)
            }
            (None, Some(name)) => RecordData::Cname(
                parse_dns_name(&name).map_err(|reason| format!("`endpoint.cname`: {reason}"))?,
            ),
            _ => {
                return Err("`endpoint` must say where the name leads; write either \
                            endpoint = { addresses = [\"10.0.0.1\"] } or endpoint = { cname = \"lb.example\" }"
                    .into());
            }
        };
        Ok(ProvisionerConfig::Static { bootstrap, endpoint })
    }

    fn into_exec(self) -> Result<ProvisionerConfig, String> {
        self.check_kind()?;
        let command = self.command.unwrap_or_default();
        if command.first().is_none_or(String::is_empty) {
            return Err("`command` is missing; write the program and its arguments".into());
        }
        Ok(ProvisionerConfig::Exec { command, environment: self.environment.unwrap_or_default() })
    }

    fn into_cloudformation(self) -> Result<ProvisionerConfig, String> {
        self.check_kind()?;
        let stack =
            self.stack.ok_or("`stack` is missing; write its name without the suffix, as in \"Kafka\"")?;
        // CloudFormation's own rule, with room for the suffix.
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let begins = stack.starts_with(|c: char| c.is_ascii_alphabetic());
        if !begins || stack.len() > 127 || !stack.chars().all(legal) {
            return Err(format!(
                "`stack`: `{stack}` is no stack's name; use up to 127 letters, digits and `-`, a letter first"
            ));
        }
        let parameters = self.parameters.unwrap_or_default();
        if let Some(field) = ["Suffix", "Isolation"].into_iter().find(|field| parameters.contains_key(*field))
        {
            return Err(format!("`parameters.{field}` is set by kutover; delete it"));
        }
        // In any of AWS's partitions.
        let is_role = |arn: &&String| arn.starts_with("arn:aws") && arn.contains(":role/");
        if let Some(arn) = self.role_arn.as_ref().filter(|arn| !is_role(arn)) {
            return Err(format!(
                "`role_arn`: `{arn}` is no role's ARN; write it as in \"arn:aws:iam::111122223333:role/NAME\""
            ));
        }
        let (template, role_arn) = (self.template, self.role_arn);
        Ok(ProvisionerConfig::CloudFormation(StackConfig { stack, parameters, template, role_arn }))
    }

    fn into_lab(self) -> Result<ProvisionerConfig, String> {
        self.check_kind()?;
        let kafka =
            self.kafka.ok_or("`kafka` is missing; write kafka = \"embedded\" or kafka = \"apache:3.9.2\"")?;
        let kafka = kafka.parse().map_err(|reason| format!("`kafka`: {reason}"))?;
        let brokers = self.brokers.unwrap_or(1);
        if !(1..=9).contains(&brokers) {
            return Err(format!("`brokers`: {brokers} is out of range; write 1 to 9"));
        }
        Ok(ProvisionerConfig::Lab { kafka, brokers, address: self.address, directory: self.directory })
    }
}

pub(super) fn refuse(kind: &str, fields: &[(&str, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, present)| *present) {
        Some((field, _)) => {
            Err(format!("`{field}` does not belong to kind `{kind}`; delete it or change the kind"))
        }
        None => Ok(()),
    }
}

fn check_host_port(server: &str) -> Result<(), String> {
    let good = server.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && !host.contains(['/', ','])
            && port.parse::<NonZeroU16>().is_ok()
    });
    if good {
        Ok(())
    } else {
        Err(format!("`{server}` is no server; write host:port, as in \"10.0.0.1:9092\""))
    }
}

impl From<ProvisionerConfig> for Raw {
    fn from(config: ProvisionerConfig) -> Self {
        match config {
            ProvisionerConfig::Static { bootstrap, endpoint } => {
                let endpoint = match endpoint {
                    RecordData::Addresses(addresses) => {
                        RawEndpoint { addresses: Some(addresses), cname: None }
                    }
                    RecordData::Cname(name) => {
                        RawEndpoint { addresses: None, cname: Some(name.as_str().to_owned()) }
                    }
                };
                let (bootstrap, endpoint) = (Some(bootstrap), Some(endpoint));
                Self { kind: "static".into(), bootstrap, endpoint, ..Self::default() }
            }
            ProvisionerConfig::Exec { command, environment } => Self {
                kind: "exec".into(),
                command: Some(command),
                environment: (!environment.is_empty()).then_some(environment),
                ..Self::default()
            },
            ProvisionerConfig::CloudFormation(StackConfig { stack, parameters, template, role_arn }) => {
                Self {
                    kind: "cloudformation".into(),
                    stack: Some(stack),
                    parameters: (!parameters.is_empty()).then_some(parameters),
                    template,
                    role_arn,
                    ..Self::default()
                }
            }
            ProvisionerConfig::Lab { kafka, brokers, address, directory } => Self {
                kind: "lab".into(),
                kafka: Some(kafka.to_string()),
                brokers: Some(brokers),
                address,
                directory,
                ..Self::default()
            },
        }
    }
}
