//! Where a colour's Kafka Connect workers are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kutover_core::cutover::{ConnectPlan, ConnectorChoice};
use kutover_core::words::{Colour, ConnectorName, TopicName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{Fault, fault};
use super::{Config, NameSelection, PropertyValue};

/// Kafka Connect workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// Where a worker's REST interface is, as in `"http://10.0.0.1:8083"`. No user or password in it.
    pub url: String,
    /// The user, where the workers ask for one (HTTP's basic authentication).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its password; it may stand in the environment (`{ env = "NAME" }`) or in a file (`{ file = "PATH" }`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PropertyValue>,
    /// A file with the PEM certificates that the workers' own is checked against. Default: the well-known roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The topics in which distributed workers keep configs, offsets and status (`config.storage.topic`,
    /// `offset.storage.topic`, `status.storage.topic`). They stay where they are: fenced, they would keep the workers from
    /// stopping anything. Standalone workers have none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "BTreeSet<String>")]
    pub topics: BTreeSet<TopicName>,
}

impl ConnectConfig {
    /// Takes relative paths from this directory.
    pub(super) fn beside(&mut self, directory: &Path) {
        if let Some(password) = &mut self.password {
            password.beside(directory);
        }
        self.ca_file = self.ca_file.take().map(|path| directory.join(path));
    }
}

impl Config {
    /// What is wanted of Kafka Connect.
    pub(crate) fn connect_plan(&self) -> Option<ConnectPlan> {
        let both = [&self.clusters.blue, &self.clusters.green].map(|cluster| cluster.connect.as_ref());
        let [Some(blue), Some(green)] = both else { return None };
        let connectors = match &self.plan.connectors {
            None | Some(NameSelection::All) => ConnectorChoice::All,
            Some(NameSelection::Named(names)) => {
                ConnectorChoice::Named(names.iter().cloned().map(ConnectorName::new).collect())
            }
        };
        Some(ConnectPlan { connectors, topics: blue.topics.union(&green.topics).cloned().collect() })
    }
}

pub(super) fn check(config: &Config) -> Result<(), Fault> {
    let clusters = &config.clusters;
    for colour in Colour::BOTH {
        let Some(connect) = &clusters.get(colour).connect else {
            if clusters.get(colour.other()).connect.is_some() {
                let message = format!(
                    "is missing, and clusters.{}.connect is there: say where {colour}'s workers are too",
                    colour.other()
                );
                return fault(format!("clusters.{colour}.connect"), message);
            }
            continue;
        };
        let field = |name: &str| format!("clusters.{colour}.connect.{name}");
        let rest = connect.url.strip_prefix("http://").or_else(|| connect.url.strip_prefix("https://"));
        // The text is not shown: it may hold a password where none belongs.
        match rest {
            None | Some("") => {
                return fault(field("url"), "is no address; write it as in \"http://10.0.0.1:8083\"");
            }
            Some(rest) if rest.contains(['@', '?', '#']) => {
                return fault(field("url"), "holds more than an address; use `username` and `password`");
            }
            Some(_) => {}
        }
        if connect.username.is_some() != connect.password.is_some() {
            return fault(field("username"), "and `password` go together; say both or neither");
        }
    }
    let both = [&clusters.blue, &clusters.green].map(|cluster| cluster.connect.as_ref());
    match (both, &config.plan.connectors) {
        ([None, None], Some(_)) => {
            fault("plan.connectors", "has no workers; say clusters.blue.connect and clusters.green.connect")
        }
        ([Some(blue), Some(green)], _) if blue.url == green.url => {
            fault("clusters.green.connect.url", "is blue's too; each colour has workers of its own")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = r#"
deployment = "orders"
journal = "orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]
dns = { kind = "local", zone = "orders.test", listen = "127.0.0.1:0", ttl_s = 1 }

[clusters.blue.provisioner]
kind = "static"
bootstrap = ["10.0.0.1:9092"]
endpoint = { addresses = ["10.0.0.1"] }

[clusters.green.provisioner]
kind = "static"
bootstrap = ["10.0.0.2:9092"]
endpoint = { addresses = ["10.0.0.2"] }
"#;
    const BLUE: &str =
        "[clusters.blue.connect]\nurl = \"http://10.0.0.1:8083\"\ntopics = [\"blue-configs\"]\n";
    const GREEN: &str = "[clusters.green.connect]\nurl = \"https://10.0.0.2:8083\"\nusername = \"kutover\"\n\
                         password = \"hunter2\"\ntopics = [\"green-configs\"]\n";

    #[test]
    fn workers_of_both_colours_make_a_plan() {
        let parse = |plan: &str| Config::parse(&format!("{REST}{BLUE}{GREEN}[plan]\n{plan}")).unwrap();
        let config = parse("");
        let plan = config.connect_plan().unwrap();
        assert_eq!(plan.connectors, ConnectorChoice::All);
        assert_eq!(plan.topics, ["blue-configs".into(), "green-configs".into()].into());
        assert!(!format!("{config:?}").contains("hunter2"));
        let named = parse("connectors = [\"orders-sink\"]").connect_plan().unwrap();
        assert_eq!(named.connectors, ConnectorChoice::Named(["orders-sink".into()].into()));
        assert_eq!(Config::parse(REST).unwrap().connect_plan(), None);
    }

    #[test]
    fn what_contradicts_itself_is_named_by_field() {
        let one_url = GREEN.replace("https://10.0.0.2", "http://10.0.0.1");
        for (text, field) in [
            (BLUE.to_owned(), "clusters.green.connect"),
            (format!("{BLUE}{one_url}"), "clusters.green.connect.url"),
            (format!("{BLUE}{}", GREEN.replace("https", "ftp")), "clusters.green.connect.url"),
            (
                format!("{BLUE}{}", GREEN.replace("10.0.0.2", "u:hunter2@10.0.0.2")),
                "clusters.green.connect.url",
            ),
            (
                format!("{BLUE}{}", GREEN.replace("username = \"kutover\"\n", "")),
                "clusters.green.connect.username",
            ),
            ("[plan]\nconnectors = \"*\"\n".to_owned(), "plan.connectors"),
        ] {
            let error = Config::parse(&format!("{REST}{text}")).unwrap_err().to_string();
            assert!(error.contains(&format!("field `{field}`")) && !error.contains("hunter2"), "{error}");
        }
    }
}
