//! Whether a cluster really serves: not whether its ports are open.

use std::net::SocketAddr;
use std::time::Duration;

use krafka::Kafka;
use krafka::admin::{DescribeClusterOptions, DescribeConsumerGroupsOptions};
use krafka::auth::AuthConfig;
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::words::{CONTROLLER_CLIENT_ID, ClusterId};
use tokio::time::timeout;

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(10);

/// Asks a cluster for its id, for all its brokers, for a producer id and for a group's coordinator. A broker just
/// started answers the last two with "load in progress" for a while. Each broker has to answer for itself as well: the others go
/// on telling of one that was killed until its session has expired, while the one that was started in its place does not serve yet,
/// or ends over that session (ZooKeeper).
pub(crate) async fn look(
    bootstrap: &[SocketAddr],
    brokers: usize,
    auth: Option<AuthConfig>,
) -> Result<ClusterId, String> {
    match timeout(LOOK, Box::pin(ask(bootstrap, brokers, auth))).await {
        Ok(Ok(id)) => Ok(id),
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err(format!("no answer in {} s", LOOK.as_secs())),
    }
}

/// Only the id that a cluster gives itself; `None` if nothing answers.
pub(crate) async fn identity(bootstrap: &[SocketAddr], auth: Option<AuthConfig>) -> Option<ClusterId> {
    let ask = async {
        let kafka = connect(bootstrap, auth).await.ok()?;
        let cluster = kafka.admin().describe_cluster(DescribeClusterOptions::default()).await.ok()?;
        Some(ClusterId::new(cluster.cluster_id))
    };
    timeout(LOOK, ask).await.ok().flatten()
}

async fn connect(bootstrap: &[SocketAddr], auth: Option<AuthConfig>) -> Result<Kafka, KrafkaError> {
    let servers: Vec<String> = bootstrap.iter().map(SocketAddr::to_string).collect();
    let builder = Kafka::builder(servers.join(",")).client_id(format!("{CONTROLLER_CLIENT_ID}-lab"));
    match auth {
        Some(auth) => builder.security(auth).connect().await,
        None => builder.connect().await,
    }
}

async fn ask(
    bootstrap: &[SocketAddr],
    brokers: usize,
    auth: Option<AuthConfig>,
) -> Result<ClusterId, String> {
    let failed = |error: KrafkaError| error.to_string();
    for broker in bootstrap {
        connect(&[*broker], auth.clone()).await.map_err(failed)?;
    }
    let kafka = connect(bootstrap, auth).await.map_err(failed)?;
    let admin = kafka.admin();
    let cluster = admin.describe_cluster(DescribeClusterOptions::default()).await.map_err(failed)?;
    let there = cluster.brokers.iter().filter(|broker| !broker.is_fenced).count();
    if there < brokers {
        return Err(format!("{there} of {brokers} brokers are there"));
    }
    // Describing a group that nobody uses leaves nothing behind; asking for its offsets would list it for ever.
    let group = format!("{CONTROLLER_CLIENT_ID}-lab");
    let groups = admin.describe_consumer_groups([&group], DescribeConsumerGroupsOptions::default()).await;
    match groups.map_err(failed)?.remove(&group) {
        Some(Err(KrafkaError::Broker { code: ErrorCode::GroupIdNotFound, .. })) | Some(Ok(_)) => {}
        Some(Err(error)) => return Err(format!("group coordinator: {error}")),
        None => return Err("group coordinator: no answer".into()),
    }
    let producer = kafka.producer().build().await.map_err(|error| format!("producer id: {error}"))?;
    producer.close().await.map_err(failed)?;
    Ok(ClusterId::new(cluster.cluster_id))
}
