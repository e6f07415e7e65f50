//! A configuration's `[dns]`: the provider that it names, and the zone of kind `local`, which this process serves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use kutover_controller::config::{Config, DnsKind};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{ClusterProvisioner, DnsProvider, Published, RecordData, RecordSet};
use kutover_core::words::{DnsName, EndpointKey, ZoneId};
use kutover_dns::LocalServer;

use crate::failure::Failure;
use crate::wire::Hosts;
use crate::{aws, rfc2136};

/// What keeps the endpoints' records.
pub(crate) struct Records {
    /// For endpoints whose name says where they are kept.
    pub dns: Arc<dyn DnsProvider>,
    /// For those that name their zone, by it.
    pub zones: BTreeMap<ZoneId, Arc<dyn DnsProvider>>,
}

impl Records {
    pub(crate) fn all_in(dns: Arc<dyn DnsProvider>) -> Self {
        Self { dns, zones: BTreeMap::new() }
    }

    /// What keeps an endpoint's.
    pub(crate) fn of(&self, endpoint: &EndpointKey) -> &dyn DnsProvider {
        let pinned = endpoint.zone.as_ref().and_then(|zone| self.zones.get(zone));
        &**pinned.unwrap_or(&self.dns)
    }
}

/// Where the zone of a `local` name server is kept: beside the journal, which is nothing without it.
///
/// # Errors
/// The journal is no file.
pub(crate) fn zone_path(config: &Config) -> anyhow::Result<PathBuf> {
    let file = config.journal.file();
    let file = file.context("field `journal`: a zone of kind `local` is kept beside it; name a file")?;
    let mut path = file.to_owned().into_os_string();
    path.push(".zone");
    Ok(path.into())
}

/// The authoritative side. A `local` one is started here if nobody has. For a deployment that is new, its endpoints are led to
/// the active colour. Later the first endpoint, which a cutover has published, says where one that the zone does not know
/// yet is led; and where that one is gone, the configuration cannot tell.
pub(crate) async fn name_server(
    config: &Config,
    hosts: &mut Hosts,
    is_new: bool,
    active: &dyn ClusterProvisioner,
) -> Result<Records, Failure> {
    if let Some(dns) = &hosts.dns {
        return Ok(Records::all_in(Arc::clone(dns) as _));
    }
    let listen = match &config.dns.kind {
        DnsKind::Local { listen } => *listen,
        DnsKind::Rfc2136(at) => {
            return Ok(Records::all_in(Arc::new(rfc2136::provider(&config.dns.zone, at)?)));
        }
        DnsKind::Route53(at) => return aws::dns(config, at).await,
    };
    let path = zone_path(config).map_err(Failure::Input)?;
    let started = LocalServer::start_kept(listen, config.dns.zone.clone(), &path).await;
    let server = started.map_err(|error| match error.kind {
        ErrorKind::Refused => Failure::Input(anyhow!("field `dns.listen`: {error}")),
        _ => Failure::of_file(error),
    })?;
    lead(config, &server, is_new, active).await?;
    let _ = hosts.listens.set(server.address());
    hosts.dns = Some(Arc::clone(&server));
    Ok(Records::all_in(server))
}

/// Leads the endpoints that the zone does not know yet where the first one leads, or at first contact to the active colour. Nobody
/// else can: the zone is kutover's own file.
async fn lead(
    config: &Config,
    server: &LocalServer,
    is_new: bool,
    active: &dyn ClusterProvisioner,
) -> Result<(), Failure> {
    let mut known = Vec::new();
    for endpoint in &config.endpoints {
        known.push(server.read(&endpoint.name).await.map_err(anyhow::Error::from)?.endpoint);
    }
    if known.iter().all(Option::is_some) {
        return Ok(());
    }
    let to = match &known[0] {
        Some(set) => set.data.clone(),
        None if is_new => match active.describe(config.plan.active).await.map_err(anyhow::Error::from)? {
            Some(incarnation) => incarnation.endpoint,
            // Taking the deployment over says so.
            None => return Ok(()),
        },
        None => {
            let path = zone_path(config).map_err(Failure::Input)?;
            return Err(Failure::Input(anyhow!(
                "{}: it has no record of {}, and the journal knows this deployment: put the zone back from a copy \
                 (without it nobody can tell which cluster is the active one)",
                path.display(),
                config.endpoints[0].name
            )));
        }
    };
    for (endpoint, known) in config.endpoints.iter().zip(known) {
        if known.is_none() {
            point(server, &endpoint.name, config.dns.ttl_s, &to).await?;
        }
    }
    Ok(())
}

/// Points an endpoint at a cluster and leaves its owner record as it is: what a person does who only changes a record.
pub(crate) async fn point(
    dns: &dyn DnsProvider,
    endpoint: &DnsName,
    ttl_s: u32,
    to: &RecordData,
) -> anyhow::Result<()> {
    let found = dns.read(endpoint).await?;
    let wanted =
        Published { endpoint: Some(RecordSet { ttl_s, data: to.clone() }), owner: found.owner.clone() };
    dns.compare_and_set(endpoint, &found, &wanted).await.with_context(|| format!("pointing {endpoint}"))
}
