//! Blue, green, and a name that leads to one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use krafka::Kafka;
use krafka::consumer::AutoOffsetReset;
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::decisions::separation::{Given, Room, Separation, judge};
use kutover_core::ports::{
    ClusterAdmin as _, ClusterProvisioner as _, Incarnation, NewTopic, ProducerIds as _,
};
use kutover_core::words::{Colour, TopicName};
use kutover_lab::forwarder::Forwarder;
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, Tools, loopback};
use tokio::time::timeout;

use crate::BOUND;

/// Blue's version: what people replace.
pub const BLUE: KafkaVersion = KafkaVersion::new(3, 9, 2);
/// Green's version, and that of the Java client.
pub const GREEN: KafkaVersion = KafkaVersion::new(4, 3, 1);

/// Enough for a handful of clients, and quickly used up.
const ROOM: Room = Room { head_room: 1_000, most: 100_000 };
/// Ids by which the clusters may stand apart at first: those that their start took.
const APART: u64 = 500;
const POLL: Duration = Duration::from_millis(200);

/// Two clusters of one broker each, and the name.
pub struct World {
    tools: Tools,
    lab: LabProvisioner,
    blue: Cluster,
    green: Cluster,
    /// Stands for a DNS name and what it leads to; clients resolve it when they bootstrap.
    name: Forwarder,
    _dir: tempfile::TempDir,
}

struct Cluster {
    incarnation: Incarnation,
    admin: KafkaAdmin,
}

impl Cluster {
    async fn start(lab: &LabProvisioner, colour: Colour) -> Result<Self> {
        let incarnation = lab.provision(colour, &"clash".into()).await?;
        // By the controller's path, which stays when clients are cut off.
        let bootstrap = incarnation.controller_bootstrap.clone();
        let admin = KafkaAdmin::connect(AdminConfig { bootstrap, ..AdminConfig::default() }).await?;
        Ok(Self { incarnation, admin })
    }

    fn address(&self) -> Result<SocketAddr> {
        let first = self.incarnation.bootstrap.first().context("no bootstrap server")?;
        first.parse().with_context(|| format!("{first} is no address"))
    }

    /// Where its one broker's ids stand.
    async fn newest(&self) -> Result<u64> {
        let newest = self.admin.newest().await?;
        match newest.values().collect::<Vec<_>>()[..] {
            [Ok(id)] => Ok(*id),
            _ => bail!("{} does not say where its producer ids stand: {newest:?}", self.incarnation.id),
        }
    }

    async fn given(&self) -> Result<Given> {
        let cluster_id = self.admin.identity().await?.cluster_id;
        let newest = self.admin.newest().await?;
        Ok(Given { cluster_id, from: 0, newest })
    }

    async fn writer(&self, topic: &TopicName) -> Result<u64> {
        let live = self.admin.live(std::slice::from_ref(topic)).await?;
        ensure!(live.len() == 1, "{topic} has other writers than one on {}: {live:?}", self.incarnation.id);
        live.first().copied().context("no writer")
    }

    /// The values in a topic's one partition.
    async fn contents(&self, topic: &TopicName) -> Result<BTreeSet<String>> {
        let ends = self.admin.ends(std::slice::from_ref(topic)).await?;
        let count = ends.first().map_or(0, |end| usize::try_from(end.high_watermark.0).unwrap_or(0));
        let kafka = Kafka::builder(self.incarnation.controller_bootstrap.join(",")).connect().await?;
        let consumer = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest);
        let consumer = consumer.metrics_push(false).build().await?;
        consumer.assign(topic.as_str(), vec![0]).await?;
        let read = async {
            let mut values = Vec::new();
            while values.len() < count {
                for record in consumer.poll(POLL).await? {
                    let value = record.value.as_deref().unwrap_or_default();
                    values.push(String::from_utf8_lossy(value).into_owned());
                }
            }
            anyhow::Ok(values)
        };
        let values = timeout(BOUND, read).await.with_context(|| format!("{topic} cannot be read"))??;
        Ok(values.into_iter().collect())
    }
}

impl World {
    /// Starts it; its servers end with it.
    ///
    /// # Errors
    /// Java, Maven or a cluster fails.
    pub async fn start(tools: Tools) -> Result<Self> {
        let dir = tempfile::tempdir().context("a directory for the clusters")?;
        let mut options = LabOptions::new(dir.path(), ClusterSpec::apache(BLUE), ClusterSpec::apache(GREEN));
        options.tools = tools.clone();
        options.is_disposable = true;
        let lab = LabProvisioner::new(options).await?;
        let blue = Cluster::start(&lab, Colour::Blue).await?;
        let green = Cluster::start(&lab, Colour::Green).await?;
        let listen =
            *loopback::fresh(1, kutover_lab::DEFAULT_PORT)?.first().context("no loopback address")?;
        let name = Forwarder::open(listen, vec![blue.address()?]).await?;
        Ok(Self { tools, lab, blue, green, name, _dir: dir })
    }

    /// What clients bootstrap from.
    pub(crate) fn name(&self) -> String {
        self.name.address().to_string()
    }

    pub(crate) fn green_bootstrap(&self) -> String {
        self.green.incarnation.bootstrap.join(",")
    }

    pub(crate) fn java(&self) -> &Path {
        &self.tools.java
    }

    /// The class path of the Java client.
    pub(crate) async fn class_path(&self) -> Result<PathBuf> {
        Ok(self.tools.jars(GREEN).await?.join("*"))
    }

    /// The beginning of a half: blue serves, and the name leads there.
    pub(crate) async fn name_leads_to_blue(&self) -> Result<()> {
        self.lab.put_back(&self.blue.incarnation.id, &"gone".into()).await?;
        self.name.set_backends(vec![self.blue.address()?]);
        Ok(())
    }

    /// Blue's clients are cut off for good, as by its death, but what it holds can still be read by the controller's path.
    pub(crate) async fn blue_goes_and_name_leads_to_green(&self) -> Result<()> {
        self.name.set_backends(vec![self.green.address()?]);
        self.lab.isolate(&self.blue.incarnation.id, &"gone".into()).await?;
        Ok(())
    }

    pub(crate) async fn make_topic(&self, name: &str) -> Result<()> {
        let topic = NewTopic { name: name.into(), partitions: 1, replication: 1, configs: BTreeMap::new() };
        self.blue.admin.create_topic(&topic).await?;
        self.green.admin.create_topic(&topic).await?;
        Ok(())
    }

    /// Waits until blue holds so many records of a topic.
    pub(crate) async fn blue_holds(&self, topic: &str, count: usize) -> Result<()> {
        let topic = [TopicName::new(topic)];
        let look = async {
            loop {
                let ends = self.blue.admin.ends(&topic).await?;
                if ends.iter().any(|end| usize::try_from(end.high_watermark.0).is_ok_and(|end| end >= count))
                {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(BOUND, look).await.context("blue does not take P's records")?
    }

    /// Makes the next id of both clusters the same, as it is on clusters that nobody has used.
    pub(crate) async fn level_ids(&self) -> Result<()> {
        let (mut blue, mut green) = (self.blue.newest().await?, self.green.newest().await?);
        ensure!(
            blue.abs_diff(green) < APART,
            "blue's ids stand at {blue}, green's at {green}: both are to be fresh"
        );
        while blue != green {
            if blue < green {
                blue = self.blue.newest().await?;
            } else {
                green = self.green.newest().await?;
            }
        }
        Ok(())
    }

    /// Raises green's ids above blue's, as a cutover does.
    pub(crate) async fn separate(&self, topic: &str) -> Result<u64> {
        let topic = [TopicName::new(topic)];
        loop {
            let (blue, green) = (self.blue.given().await?, self.green.given().await?);
            let live = self.green.admin.live(&topic).await?;
            match judge(&green, &[blue], Some(&live), ROOM) {
                Separation::Separated { mark } => return Ok(mark),
                Separation::Burn { mark, .. } => self.green.admin.pass(mark).await?,
                other => bail!("{other}"),
            };
        }
    }

    /// Under which ids P has written to blue and Q to green.
    pub(crate) async fn writers(&self, topic: &str) -> Result<(u64, u64)> {
        let topic = TopicName::new(topic);
        Ok((self.blue.writer(&topic).await?, self.green.writer(&topic).await?))
    }

    /// What blue and green hold of a topic.
    pub(crate) async fn contents(&self, topic: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        let topic = TopicName::new(topic);
        Ok((self.blue.contents(&topic).await?, self.green.contents(&topic).await?))
    }
}
