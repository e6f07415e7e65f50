//! The `static` provisioner: somebody else made the clusters and will remove them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, Incarnation, RecordData};
use kutover_core::words::{Colour, IncarnationId, Nonce};

/// A cluster as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingCluster {
    /// `host:port` of its bootstrap servers, at least one.
    pub bootstrap: Vec<String>,
    /// What the deployment's endpoints must point at to lead there.
    pub endpoint: RecordData,
}

impl ExistingCluster {
    /// The incarnation's id: colour and servers, whatever their order. Other servers are another incarnation, so that a
    /// mark of removal from before a change of configuration names nothing that stands now.
    pub fn incarnation_id(&self, colour: Colour) -> IncarnationId {
        let mut servers: Vec<_> = self.bootstrap.iter().map(String::as_str).collect();
        servers.sort_unstable();
        servers.dedup();
        IncarnationId::new(format!("static-{colour}-{}", servers.join("+")))
    }
}

/// Describes clusters from configuration. It makes nothing, cannot isolate, and releases instead of destroying.
///
/// Nothing here talks with a cluster: that the one behind the servers is the one that was proven is for whoever proves to
/// say, and a release takes nothing away from it.
#[derive(Clone, Debug, Default)]
pub struct StaticProvisioner {
    clusters: BTreeMap<Colour, ExistingCluster>,
}

impl StaticProvisioner {
    /// No cluster behind either colour.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a cluster behind a colour.
    #[must_use]
    pub fn with(mut self, colour: Colour, cluster: ExistingCluster) -> Self {
        self.clusters.insert(colour, cluster);
        self
    }

    fn incarnation(&self, colour: Colour) -> Option<Incarnation> {
        let cluster = self.clusters.get(&colour)?;
        Some(Incarnation {
            id: cluster.incarnation_id(colour),
            colour,
            bootstrap: cluster.bootstrap.clone(),
            controller_bootstrap: cluster.bootstrap.clone(),
            endpoint: cluster.endpoint.clone(),
        })
    }
}

#[async_trait]
impl ClusterProvisioner for StaticProvisioner {
    async fn provision(&self, colour: Colour, _request: &Nonce) -> ProviderResult<Incarnation> {
        self.incarnation(colour).ok_or_else(|| {
            let reason = format!("no cluster is configured; describe one in clusters.{colour}.provisioner");
            ProviderError::new(ErrorKind::NotFound, format!("provision {colour}"), reason)
        })
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        Ok(self.incarnation(colour))
    }

    async fn isolate(&self, incarnation: &IncarnationId, _nonce: &Nonce) -> ProviderResult<()> {
        let reason = "a cluster that somebody else manages cannot be isolated from here; the fence has to do";
        Err(ProviderError::new(ErrorKind::Unsupported, format!("isolate {incarnation}"), reason))
    }

    async fn put_back(&self, _incarnation: &IncarnationId, _nonce: &Nonce) -> ProviderResult<()> {
        // No isolation was ever made, so there is none to undo.
        Ok(())
    }

    async fn destroy(&self, _mark: &RemovalMark) -> ProviderResult<()> {
        // Released: whoever manages the cluster removes it.
        Ok(())
    }
}
