//! What a world consists of.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use kutover_core::words::ClusterId;
use serde::{Deserialize, Serialize};

use crate::apache::Secured;

/// A version of Apache Kafka, as in `3.9.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KafkaVersion {
    /// The major version.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
    /// The patch level.
    pub patch: u16,
}

impl KafkaVersion {
    /// A version.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Whether the lab runs it on ZooKeeper (all before 4.0, which knows KRaft only).
    pub fn on_zookeeper(self) -> bool {
        self.major < 4
    }

    /// The Java major version that its brokers need at least (Kafka's own upgrade notes: KIP-1013 for 4.0).
    pub fn least_java(self) -> u16 {
        if self.major >= 4 { 17 } else { 8 }
    }
}

impl fmt::Display for KafkaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for KafkaVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no version of Apache Kafka; write it like `3.9.2`");
        let numbers =
            text.split('.').map(str::parse).collect::<Result<Vec<u16>, _>>().map_err(|_| wrong())?;
        let [major, minor, patch] = numbers[..] else { return Err(wrong()) };
        if (major, minor) < (2, 8) {
            return Err(format!("Apache Kafka {text} is older than the lab can run; the oldest is 2.8"));
        }
        Ok(Self { major, minor, patch })
    }
}

impl TryFrom<String> for KafkaVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KafkaVersion> for String {
    fn from(version: KafkaVersion) -> Self {
        version.to_string()
    }
}

/// What kind of cluster stands behind a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterKind {
    /// In this process; gone with it.
    Embedded,
    /// Apache Kafka processes on this machine.
    Apache(KafkaVersion),
}

impl fmt::Display for ClusterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterKind::Embedded => f.write_str("embedded"),
            ClusterKind::Apache(version) => write!(f, "apache:{version}"),
        }
    }
}

/// A cluster to be made.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// What kind.
    pub kind: ClusterKind,
    /// How many brokers: 1 to 3.
    pub brokers: u16,
    /// An Apache Kafka directory of the user's (its `libs/*.jar` are used) instead of jars fetched by Maven. It must
    /// hold the version that `kind` names.
    pub kafka_dir: Option<PathBuf>,
    /// The cluster id, where it matters (embedded and KRaft; on ZooKeeper Kafka makes it). Random if `None`.
    pub cluster_id: Option<ClusterId>,
    /// What it demands of everybody who connects (Apache Kafka alone). Nothing if `None`.
    pub secured: Option<Secured>,
}

impl ClusterSpec {
    /// An embedded cluster of three brokers.
    pub fn embedded() -> Self {
        Self { kind: ClusterKind::Embedded, brokers: 3, kafka_dir: None, cluster_id: None, secured: None }
    }

    /// One broker of Apache Kafka.
    pub fn apache(version: KafkaVersion) -> Self {
        Self {
            kind: ClusterKind::Apache(version),
            brokers: 1,
            kafka_dir: None,
            cluster_id: None,
            secured: None,
        }
    }

    /// The same from a Kafka directory of the user's.
    #[must_use]
    pub fn kafka_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.kafka_dir = Some(directory.into());
        self
    }

    /// The same with another number of brokers.
    #[must_use]
    pub fn brokers(mut self, brokers: u16) -> Self {
        self.brokers = brokers;
        self
    }

    /// The same, letting in nobody without TLS and a name.
    #[must_use]
    pub fn secured(mut self, secured: Secured) -> Self {
        self.secured = Some(secured);
        self
    }

    /// The same with a cluster id of the caller's.
    #[must_use]
    pub fn cluster_id(mut self, id: ClusterId) -> Self {
        self.cluster_id = Some(id);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_wrong_ones_are_named() {
        assert_eq!("3.9.2".parse(), Ok(KafkaVersion::new(3, 9, 2)));
        assert!("3.9".parse::<KafkaVersion>().expect_err("too short").contains("`3.9`"));
        assert!("2.7.0".parse::<KafkaVersion>().expect_err("too old").contains("2.8"));
        assert!(KafkaVersion::new(3, 9, 2).on_zookeeper());
        assert!(!KafkaVersion::new(4, 3, 1).on_zookeeper());
    }
}
