//! Whether brokers can be reached at all.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use krafka::__private::kafka_metadata;
use kutover_core::ports::Item;
use tokio::net::TcpStream;

use crate::admin::KafkaAdmin;

impl KafkaAdmin {
    /// Each listener advertises addresses of its own.
    pub(super) async fn read_client_addresses(&self) -> Option<BTreeSet<String>> {
        let begin_at = &self.config.client_bootstrap;
        if begin_at.is_empty() || *begin_at == self.config.bootstrap {
            return None;
        }
        let asked = async {
            let client = self.open_probe().await.ok()?;
            let metadata = kafka_metadata(&client);
            metadata.refresh().await.ok()?;
            Some(metadata.brokers().iter().map(|broker| broker.address().to_owned()).collect())
        };
        let told = tokio::time::timeout(self.config.timeouts.call, asked).await.ok().flatten();
        Some(told.unwrap_or_else(|| begin_at.iter().cloned().collect()))
    }

    pub(super) async fn try_addresses(&self, addresses: &BTreeSet<String>) -> BTreeMap<String, Item<()>> {
        let limit = self.config.timeouts.connect;
        let tries = addresses.iter().map(|address| async move {
            let answer = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no connection within {limit:?}")),
            };
            (address.clone(), answer)
        });
        join_all(tries).await.into_iter().collect()
    }
}
