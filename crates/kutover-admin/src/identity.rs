//! Who a cluster is.

use std::collections::BTreeSet;

use krafka::__private::protocol::ApiKey;
use krafka::__private::{kafka_metadata, kafka_pool};
use krafka::admin::DescribeClusterOptions;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::ClusterIdentity;
use kutover_core::words::ClusterId;

use crate::admin::KafkaAdmin;
use crate::errors::{is_unsupported, provider};

impl KafkaAdmin {
    pub(crate) async fn read_identity(&self) -> ProviderResult<ClusterIdentity> {
        match self.admin.describe_cluster(DescribeClusterOptions::default()).await {
            Ok(cluster) => {
                let brokers: BTreeSet<String> =
                    cluster.brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port)).collect();
                let version = match brokers.first() {
                    Some(address) => self.guess_version(address).await,
                    None => None,
                };
                Ok(ClusterIdentity { cluster_id: ClusterId::new(cluster.cluster_id), brokers, version })
            }
            Err(error) if is_unsupported(&error) => self.identity_from_metadata().await,
            Err(error) => Err(provider("describe the cluster", &error)),
        }
    }

    /// For clusters from before KIP-700 and embedded ones. krafka shows the id that Metadata answers only through its
    /// hidden internals; the crate is pinned exactly, and this module and `producer_ids` alone look there.
    async fn identity_from_metadata(&self) -> ProviderResult<ClusterIdentity> {
        let what = "read the cluster's id from its metadata";
        let metadata = kafka_metadata(&self.kafka);
        // Anew each time: a remembered id is no answer.
        let refreshed = tokio::time::timeout(self.config.timeouts.call, metadata.refresh()).await;
        match refreshed {
            Err(_) => return Err(ProviderError::new(ErrorKind::Unreachable, what, "no answer in time")),
            Ok(answer) => answer.map_err(|error| provider(what, &error))?,
        }
        let Some(id) = metadata.cluster_id() else {
            return Err(ProviderError::new(ErrorKind::Invalid, what, "the brokers name no cluster id"));
        };
        let brokers = metadata.brokers().iter().map(|broker| broker.address().to_owned()).collect();
        Ok(ClusterIdentity { cluster_id: ClusterId::new(id), brokers, version: None })
    }

    /// A guess for people, from the range of Fetch versions that a broker offers (the request's own JSON in Kafka's
    /// sources says which release brought which). `None` rather than a wrong one.
    async fn guess_version(&self, address: &str) -> Option<String> {
        let connection = kafka_pool(&self.kafka).get_connection(address).await.ok()?;
        let range = connection.get_api_version(ApiKey::Fetch)?;
        // KIP-896: 4.0 dropped everything below Fetch v4.
        let version = match (range.min_version, range.max_version) {
            (4.., 17) => "4.0",
            (4.., 18..) => "4.x",
            (_, 12) => "2.7 to 3.0",
            (_, 13) => "3.1 to 3.4",
            (_, 14 | 15) => "3.5 or 3.6",
            (_, 16) => "3.7 or 3.8",
            (_, 17) => "3.9",
            _ => return None,
        };
        Some(version.to_owned())
    }
}
