//! What workers answer, as JSON, in the port's words.

use std::collections::BTreeMap;

use kutover_core::ports::{ConnectorKind, ConnectorState};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// `GET /`.
#[derive(Deserialize)]
pub(crate) struct Root {
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) kafka_cluster_id: String,
}

/// One of `GET /connectors?expand=status`.
#[derive(Deserialize)]
pub(crate) struct Expanded {
    pub(crate) status: Status,
}

#[derive(Deserialize)]
pub(crate) struct Status {
    connector: StateOf,
    #[serde(default)]
    tasks: Vec<StateOf>,
    #[serde(rename = "type")]
    kind: Kind,
}

#[derive(Deserialize)]
struct StateOf {
    state: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Source,
    Sink,
    /// Its plugin is not there.
    #[serde(other)]
    Unknown,
}

/// `GET /connectors/NAME`, without its config.
#[derive(Deserialize)]
pub(crate) struct Described {
    /// Those that it has been divided into, whatever has become of them.
    #[serde(default)]
    pub(crate) tasks: Vec<IgnoredAny>,
}

/// The names with what they do.
pub(crate) type Connectors = BTreeMap<String, Expanded>;

impl Status {
    pub(crate) fn state(&self) -> ConnectorState {
        match self.connector.state.as_str() {
            // Tasks that are still there have not flushed yet.
            "STOPPED" if self.tasks.is_empty() => ConnectorState::Stopped,
            "PAUSED" => ConnectorState::Paused,
            _ => ConnectorState::Running,
        }
    }

    /// Whether it runs with all of so many tasks.
    pub(crate) fn runs(&self, tasks: usize) -> bool {
        let running = self.tasks.iter().filter(|task| task.state == "RUNNING").count();
        self.connector.state == "RUNNING" && tasks > 0 && running == tasks && running == self.tasks.len()
    }

    /// How many have said something yet.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn failed(&self) -> bool {
        std::iter::once(&self.connector).chain(&self.tasks).any(|one| one.state == "FAILED")
    }

    /// `None` where the workers themselves do not know.
    pub(crate) fn kind(&self) -> Option<ConnectorKind> {
        match self.kind {
            Kind::Source => Some(ConnectorKind::Source),
            Kind::Sink => Some(ConnectorKind::Sink),
            Kind::Unknown => None,
        }
    }

    /// Whether it is on its way: nobody runs it just now, or its tasks have not ended yet.
    pub(crate) fn is_settling(&self) -> bool {
        match self.connector.state.as_str() {
            "STOPPED" => !self.tasks.is_empty(),
            state => matches!(state, "UNASSIGNED" | "RESTARTING"),
        }
    }
}

/// Whether workers know connectors that are made stopped (Kafka Connect 3.7, KIP-980): older ones pass the wish over and
/// run them. Confluent's versions run four ahead.
pub(crate) fn makes_stopped(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return false };
    let confluents = version.contains("-ccs") || version.contains("-ce");
    let major = if confluents { major.saturating_sub(4) } else { major };
    (major, minor) >= (3, 7)
}

/// The properties that a refusal of a config is about, without their values.
pub(crate) fn properties_in(message: &str) -> Vec<String> {
    let after = message.split("configuration ").skip(1);
    let names = after.filter_map(|rest| rest.split([' ', ':', '\n']).next());
    let mut names: Vec<String> = names.map(|name| name.trim_matches(['"', '.']).to_owned()).collect();
    names.retain(|name| !matches!(name.as_str(), "" | "is"));
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(text: &str) -> (ConnectorState, bool, bool) {
        let status: Status = serde_json::from_str(text).unwrap();
        (status.state(), status.failed(), status.is_settling())
    }

    #[test]
    fn a_stopped_connector_has_no_tasks_any_more() {
        let tasks = r#"[{"id":0,"state":"RUNNING"}]"#;
        let of = |state: &str, tasks: &str| {
            description(&format!(r#"{{"connector":{{"state":"{state}"}},"tasks":{tasks},"type":"sink"}}"#))
        };
        assert_eq!(of("STOPPED", tasks), (ConnectorState::Running, false, true));
        assert_eq!(of("STOPPED", "[]"), (ConnectorState::Stopped, false, false));
        assert_eq!(of("PAUSED", tasks), (ConnectorState::Paused, false, false));
        assert_eq!(of("UNASSIGNED", "[]"), (ConnectorState::Running, false, true));
        assert_eq!(of("RUNNING", r#"[{"id":0,"state":"FAILED"}]"#), (ConnectorState::Running, true, false));
    }

    /// Tasks come one by one, a moment after their connector: what is not seen yet may fail.
    #[test]
    fn a_connector_runs_when_all_its_tasks_do() {
        let runs = |state: &str, tasks: &str, of: usize| {
            let text = format!(r#"{{"connector":{{"state":"{state}"}},"tasks":{tasks},"type":"sink"}}"#);
            serde_json::from_str::<Status>(&text).unwrap().runs(of)
        };
        let one = r#"[{"id":0,"state":"RUNNING"}]"#;
        assert!(runs("RUNNING", one, 1));
        assert!(!runs("RUNNING", "[]", 0) && !runs("RUNNING", "[]", 1) && !runs("RUNNING", one, 2));
        assert!(!runs("RUNNING", r#"[{"id":0,"state":"UNASSIGNED"}]"#, 1));
        assert!(!runs("UNASSIGNED", one, 1));
    }

    #[test]
    fn workers_that_would_run_what_is_to_be_made_stopped_are_known_by_their_version() {
        for version in ["3.7.0", "3.9.2", "4.3.1", "7.7.0-ccs", "8.0.1-ce"] {
            assert!(makes_stopped(version), "{version}");
        }
        for version in ["2.8.2", "3.6.2", "7.6.1-ccs", "", "trunk"] {
            assert!(!makes_stopped(version), "{version}");
        }
    }

    #[test]
    fn a_refusal_names_properties_and_no_values() {
        let said = "Connector configuration is invalid and contains the following 2 error(s):\nInvalid value hunter2 for \
                    configuration tasks.max: Not a number of type INT\nMissing required configuration \"topic\" which has \
                    no default value.";
        assert_eq!(properties_in(said), ["tasks.max", "topic"]);
    }
}
