//! Whether brokers can be reached at all.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use kutover_core::ports::Item;
use tokio::net::TcpStream;

use crate::admin::KafkaAdmin;

impl KafkaAdmin {
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
