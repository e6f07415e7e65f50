//! The provisioner's part for Apache Kafka: state on disk, ZooKeeper shared by both colours, resuming.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{Incarnation, RecordData};
use kutover_core::words::{Colour, IncarnationId, Nonce};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{LabProvisioner, Running, Slot, being_made, proven};
use crate::apache::{
    ApacheCluster, BrokerPlace, SavedCluster, SavedZooKeeper, TlsAlone, TlsPlace, ZooKeeper, end_leftovers,
};
use crate::cluster_id::random_cluster_id;
use crate::loopback;
use crate::spec::KafkaVersion;

const ZOOKEEPER: &str = "zookeeper.json";
const ZOOKEEPER_DIR: &str = "zookeeper";
/// More brokers than this teach nothing and cost a third of a gigabyte each.
const MOST_BROKERS: u16 = 3;

/// The file that holds what another process must know of the cluster behind a colour.
pub(super) fn state_file(colour: Colour) -> String {
    format!("{colour}.json")
}

impl LabProvisioner {
    /// Takes over or starts again what stands in the data directory.
    pub(super) async fn resume(&self) -> ProviderResult<()> {
        for colour in Colour::BOTH {
            let Some(saved) = self.store.read::<SavedCluster>(&state_file(colour))? else { continue };
            if !saved.has_served {
                // Its provisioning was cut short; `provision` makes it anew.
                end_leftovers(&self.dir_of(&saved.incarnation.id)).await;
                continue;
            }
            let cluster =
                if saved.is_removing { None } else { Some(Arc::new(self.run(saved.clone()).await?)) };
            let slot = Slot {
                incarnation: saved.incarnation.clone(),
                request: saved.request.clone(),
                running: Running::Apache { cluster, saved: Box::new(Mutex::new(saved)) },
            };
            self.slots.lock().insert(colour, Arc::new(slot));
        }
        Ok(())
    }

    /// What the state says, while another process runs the world.
    pub(super) fn described_by_another(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        match self.store.read::<SavedCluster>(&state_file(colour))? {
            Some(saved) if !saved.has_served => Err(being_made(colour)),
            saved => Ok(saved.map(|saved| saved.incarnation)),
        }
    }

    pub(super) async fn start_apache(
        &self,
        colour: Colour,
        request: &Nonce,
        id: IncarnationId,
        version: KafkaVersion,
    ) -> ProviderResult<Slot> {
        let spec = self.options.spec(colour);
        let what = format!("provision {colour} with Apache Kafka {version}");
        if !(1..=MOST_BROKERS).contains(&spec.brokers) {
            let reason = format!("{} brokers; choose 1 to {MOST_BROKERS}", spec.brokers);
            return Err(ProviderError::new(ErrorKind::Refused, what, reason));
        }
        let jars = self.options.tools.jars_of(version, spec.kafka_dir.as_deref()).await?;
        let id = self.discard_unfinished(colour, request).await?.unwrap_or(id);
        let place = self.place(colour);
        let by_tls: &[TlsAlone] = if spec.secured.is_some() { &TlsAlone::ALL } else { &[] };
        let places = broker_places(place, spec.brokers, by_tls)
            .map_err(|error| ProviderError::new(ErrorKind::Unavailable, &what, error))?;
        let incarnation = Incarnation {
            id,
            colour,
            bootstrap: vec![place.to_string()],
            controller_bootstrap: places.iter().map(|broker| broker.internal.to_string()).collect(),
            endpoint: RecordData::Addresses(vec![place.ip()]),
        };
        let secured = spec.secured.as_ref().map(|secured| {
            let mut ips: Vec<_> = places
                .iter()
                .flat_map(|broker| [broker.advertised, broker.clients])
                .map(|at| at.ip())
                .collect();
            ips.push(place.ip());
            ips.sort();
            ips.dedup();
            secured.on(&ips)
        });
        let made_id = || spec.cluster_id.clone().unwrap_or_else(random_cluster_id);
        let mut saved = SavedCluster {
            incarnation: incarnation.clone(),
            request: request.clone(),
            version,
            jars,
            // On ZooKeeper Kafka makes it, when the first broker comes up.
            cluster_id: (!version.on_zookeeper()).then(made_id),
            has_served: false,
            bootstrap: place,
            places,
            isolations: BTreeSet::new(),
            is_removing: false,
            quorum_secret: Uuid::new_v4().simple().to_string(),
            secured,
        };
        self.store.write(&state_file(colour), &saved)?;
        let cluster = self.run(saved.clone()).await?;
        saved.cluster_id = Some(cluster.cluster_id().clone());
        saved.has_served = true;
        self.store.write(&state_file(colour), &saved)?;
        let running =
            Running::Apache { cluster: Some(Arc::new(cluster)), saved: Box::new(Mutex::new(saved)) };
        Ok(Slot { incarnation, request: request.clone(), running })
    }

    pub(super) async fn isolate_apache(
        &self,
        cluster: Option<&Arc<ApacheCluster>>,
        saved: &Mutex<SavedCluster>,
        nonce: &Nonce,
    ) -> ProviderResult<()> {
        // Written first: a process that dies in between leaves the cluster without forwarders anyway, and the next
        // one must not open them.
        let after = changed(saved, |saved| saved.isolations.insert(nonce.clone()));
        self.store.write(&state_file(after.incarnation.colour), &after)?;
        if let Some(cluster) = cluster {
            cluster.close_forwarders().await;
        }
        Ok(())
    }

    pub(super) async fn put_back_apache(
        &self,
        cluster: Option<&Arc<ApacheCluster>>,
        saved: &Mutex<SavedCluster>,
        nonce: &Nonce,
    ) -> ProviderResult<()> {
        let after = changed(saved, |saved| saved.isolations.remove(nonce));
        let what = format!("put back {}", after.incarnation.id);
        let Some(cluster) = cluster else {
            return Err(ProviderError::new(ErrorKind::Refused, what, "its removal has begun"));
        };
        self.store.write(&state_file(after.incarnation.colour), &after)?;
        if after.isolations.is_empty() {
            let reopened = cluster.reopen_forwarders().await;
            reopened.map_err(|error| ProviderError::new(ErrorKind::Unavailable, what, error))?;
        }
        Ok(())
    }

    /// Removes an incarnation's processes, znodes and files. Cut short, it goes on when it is called again.
    pub(super) async fn destroy_apache(
        &self,
        mark: &RemovalMark,
        cluster: Option<&Arc<ApacheCluster>>,
        saved: &Mutex<SavedCluster>,
    ) -> ProviderResult<()> {
        let found = match cluster {
            Some(cluster) if !saved.lock().is_removing => cluster.found_id().await,
            // Its disks may be gone already; it was proven when its removal began.
            _ => saved.lock().cluster_id.clone().unwrap_or_else(|| mark.cluster_id.clone()),
        };
        proven(mark, &found)?;
        let saved = changed(saved, |saved| {
            saved.cluster_id = Some(found);
            saved.is_removing = true;
        });
        self.store.write(&state_file(saved.incarnation.colour), &saved)?;
        if let Some(cluster) = cluster {
            cluster.kill().await;
        }
        self.wipe(&saved).await
    }

    /// Ends ZooKeeper and removes its files when no cluster of this world is on it any more.
    pub(super) async fn end_idle_zookeeper(&self) -> ProviderResult<()> {
        let is_used = self.slots.lock().values().any(|slot| match &slot.running {
            Running::Embedded { .. } => false,
            Running::Apache { saved, .. } => saved.lock().version.on_zookeeper(),
        });
        if is_used {
            return Ok(());
        }
        if let Some(zookeeper) = self.zookeeper.lock().await.take() {
            zookeeper.stop().await;
        }
        self.store.remove(ZOOKEEPER_DIR)?;
        self.store.remove(ZOOKEEPER)
    }

    async fn run(&self, saved: SavedCluster) -> ProviderResult<ApacheCluster> {
        let zookeeper = match saved.version.on_zookeeper() {
            true => Some(self.ensure_zookeeper(&saved).await?),
            false => None,
        };
        ApacheCluster::start(&self.options.tools, self.dir_of(&saved.incarnation.id), saved, zookeeper).await
    }

    /// The ensemble's address; it runs.
    async fn ensure_zookeeper(&self, cluster: &SavedCluster) -> ProviderResult<SocketAddr> {
        let mut zookeeper = self.zookeeper.lock().await;
        if let Some(zookeeper) = zookeeper.as_ref() {
            return Ok(zookeeper.address());
        }
        let saved = match self.store.read(ZOOKEEPER)? {
            Some(saved) => saved,
            None => {
                let address = own_address(1).map(|(ip, ports)| SocketAddr::new(ip, ports[0]));
                let address = address.map_err(|error| {
                    ProviderError::new(ErrorKind::Unavailable, "find a place for ZooKeeper", error)
                })?;
                let saved = SavedZooKeeper { address, jars: cluster.jars.clone() };
                self.store.write(ZOOKEEPER, &saved)?;
                saved
            }
        };
        let started =
            ZooKeeper::start(&self.options.tools, &self.store.dir().join(ZOOKEEPER_DIR), &saved).await?;
        Ok(zookeeper.insert(started).address())
    }

    /// Removes what a provisioning that was cut short left. Gives its incarnation's id if it was of this request.
    async fn discard_unfinished(
        &self,
        colour: Colour,
        request: &Nonce,
    ) -> ProviderResult<Option<IncarnationId>> {
        let Some(saved) = self.store.read::<SavedCluster>(&state_file(colour))? else { return Ok(None) };
        end_leftovers(&self.dir_of(&saved.incarnation.id)).await;
        self.wipe(&saved).await?;
        self.store.remove(&state_file(colour))?;
        Ok((saved.request == *request).then_some(saved.incarnation.id))
    }

    /// Removes a cluster's znodes and files. Its brokers have ended.
    async fn wipe(&self, saved: &SavedCluster) -> ProviderResult<()> {
        if saved.version.on_zookeeper() {
            self.ensure_zookeeper(saved).await?;
            if let Some(zookeeper) = self.zookeeper.lock().await.as_ref() {
                zookeeper.remove(&self.options.tools, saved.incarnation.colour.chroot()).await?;
            }
        }
        self.store.remove(saved.incarnation.id.as_str())
    }

    fn dir_of(&self, incarnation: &IncarnationId) -> PathBuf {
        self.store.dir().join(incarnation.as_str())
    }
}

/// Changes the state and gives it as it is then.
fn changed<T>(saved: &Mutex<SavedCluster>, change: impl FnOnce(&mut SavedCluster) -> T) -> SavedCluster {
    let mut saved = saved.lock();
    change(&mut saved);
    saved.clone()
}

/// Addresses for the brokers of a colour: what they advertise stands beside the colour's own forwarder; their
/// listeners have a loopback address to themselves, where no client's passing port can be in the way.
fn broker_places(place: SocketAddr, brokers: u16, by_tls: &[TlsAlone]) -> io::Result<Vec<BrokerPlace>> {
    let count = usize::from(brokers);
    let mut advertised = loopback::free_ports(place.ip(), count * (1 + by_tls.len()) + 1)?;
    advertised.retain(|port| *port != place.port());
    let each = 3 + by_tls.len();
    let (ip, ports) = own_address(each * count)?;
    let advertised = advertised.chunks(1 + by_tls.len());
    let places = (0..i32::from(brokers)).zip(advertised).zip(ports.chunks(each));
    let at = |ip, port: &u16| SocketAddr::new(ip, *port);
    Ok(places
        .map(|((id, advertised), ports)| BrokerPlace {
            id,
            advertised: at(place.ip(), &advertised[0]),
            clients: at(ip, &ports[0]),
            internal: at(ip, &ports[1]),
            quorum: at(ip, &ports[2]),
            by_tls: (by_tls.iter().zip(&advertised[1..]).zip(&ports[3..]))
                .map(|((alone, advertised), port)| TlsPlace {
                    alone: *alone,
                    advertised: at(place.ip(), advertised),
                    listener: at(ip, port),
                })
                .collect(),
        })
        .collect())
}

/// A fresh loopback address with free ports.
fn own_address(ports: usize) -> io::Result<(std::net::IpAddr, Vec<u16>)> {
    let ip = loopback::fresh(1, 0)?[0].ip();
    Ok((ip, loopback::free_ports(ip, ports)?))
}
