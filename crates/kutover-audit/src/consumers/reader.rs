//! Reads with stock clients, one member per group and cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::FutureExt as _;
use kutover_core::error::ProviderResult;
use kutover_core::ports::MemberLink;
use kutover_core::words::{Colour, Generation};
use kutover_kafka::{ClientHooks, ClientProperties, KafkaMemberLink};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::Message;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::GroupBook;
use super::route::{Leg, route};
use crate::place;
use crate::traffic::{TOPIC, TrafficRecord};

/// How often a reader looks whether it is done while nothing comes in.
const LOOK: Duration = Duration::from_millis(50);
/// The most records that are taken before the control topic is read.
const FETCH: usize = 2_000;
/// Bounds one call of the link that tells the groups where a leg ends.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);

/// All groups of a run.
pub struct ReaderSet {
    /// Each group's name with what it has processed.
    pub groups: Vec<(String, Arc<Mutex<GroupBook>>)>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

impl ReaderSet {
    /// An empty set of groups with these names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let groups = names.into_iter().map(|name| (name, Arc::default())).collect();
        Self { groups, stop: watch::channel(false).0, tasks: Vec::new() }
    }

    /// Every group reads the chain's legs in turn, from blue on. `places` are blue's and green's bootstrap servers.
    pub fn follow_chain(&mut self, places: &[String; 2], partitions: u16) {
        for (group, book) in self.groups.clone() {
            let (places, stop) = (places.clone(), self.stop.subscribe());
            self.tasks.push(tokio::spawn(async move {
                Member { group, colour: Colour::Blue, book, stop }.follow(&places, partitions).await
            }));
        }
    }

    /// Every group starts to read a cluster, beside what it reads already.
    pub fn read_also(&mut self, colour: Colour, bootstrap: &str) {
        for (name, book) in self.groups.clone() {
            let (bootstrap, stop) = (bootstrap.to_owned(), self.stop.subscribe());
            self.tasks.push(tokio::spawn(async move {
                Member { group: name, colour, book, stop }.read(&bootstrap, None).await.map(|_| ())
            }));
        }
    }

    /// Whether every group has read these ends of a cluster.
    pub fn have_read(&self, colour: Colour, ends: &BTreeMap<i32, i64>) -> bool {
        self.groups.iter().all(|(_, book)| {
            let book = book.lock();
            ends.iter().all(|(partition, end)| {
                *end == 0 || book.positions.get(&(colour, *partition)).is_some_and(|next| next >= end)
            })
        })
    }

    /// Ends all members; each commits and leaves its group.
    ///
    /// # Errors
    /// What made a reader fail before.
    pub async fn stop(&mut self) -> Result<()> {
        let _ = self.stop.send(true);
        for task in self.tasks.drain(..) {
            task.await.context("a consumer group's reader")??;
        }
        Ok(())
    }
}

impl Drop for ReaderSet {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One member of one group.
struct Member {
    group: String,
    colour: Colour,
    book: Arc<Mutex<GroupBook>>,
    stop: watch::Receiver<bool>,
}

/// A record that was fetched and not handed out yet.
struct Fetched {
    partition: i32,
    offset: i64,
    record: Option<TrafficRecord>,
}

/// What a member that follows the chain knows.
struct Following {
    /// The control topic of the cluster that it reads.
    link: Arc<dyn MemberLink>,
    /// The generation that it has read last.
    done: Generation,
    partitions: u16,
}

impl Following {
    /// What is read now, and the leg after it.
    async fn legs(&self) -> ProviderResult<(Option<Leg>, Option<Leg>)> {
        let view = self.link.control_now().await?;
        let mut ahead = route(&view, self.partitions).into_iter().filter(|leg| leg.generation > self.done);
        Ok((ahead.next(), ahead.next()))
    }
}

impl Member {
    async fn follow(&mut self, places: &[String; 2], partitions: u16) -> Result<()> {
        let mut done = Generation(0);
        loop {
            let bootstrap = &places[place(self.colour)];
            let servers = [bootstrap.clone()];
            let (properties, hooks) = (ClientProperties::default(), ClientHooks::default());
            let link = KafkaMemberLink::open(&servers, &properties, hooks, LINK_TIMEOUT).await?;
            let following = Following { link: Arc::new(link), done, partitions };
            let Some((read, next)) = self.read(bootstrap, Some(following)).await? else { return Ok(()) };
            (done, self.colour) = (read.generation, next.colour);
        }
    }

    /// Reads until it is told to stop (`None`) or the leg is read to its end and there is another one.
    async fn read(&mut self, bootstrap: &str, following: Option<Following>) -> Result<Option<(Leg, Leg)>> {
        let consumer = self.join(bootstrap)?;
        let mut fetched = Vec::new();
        let goes_on = loop {
            if *self.stop.borrow() {
                break None;
            }
            self.fetch(&consumer, &mut fetched).await;
            let (leg, next) = match &following {
                None => (None, None),
                // After each fetch and before anything of it is handed out: where does what is read now end?
                Some(following) => match following.legs().await {
                    Ok(legs) => legs,
                    Err(error) => {
                        tracing::debug!(group = self.group, %error, "reading the control topic");
                        continue;
                    }
                },
            };
            for fetched in fetched.drain(..) {
                if leg.as_ref().is_none_or(|leg| !leg.is_past(fetched.partition, fetched.offset)) {
                    self.process(&consumer, fetched);
                }
            }
            if let (Some(leg), Some(next)) = (leg, next)
                && leg.is_read(&self.book.lock())
            {
                break Some((leg, next));
            }
        };
        tracing::debug!(group = self.group, colour = %self.colour, ?goes_on, "leaving");
        // Leaving blocks; what was processed is committed first, so that nothing is read twice.
        let (group, colour) = (self.group.clone(), self.colour);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = consumer.commit_consumer_state(CommitMode::Sync) {
                tracing::debug!(group, %colour, %error, "the last commit");
            }
            drop(consumer);
        })
        .await?;
        tracing::debug!(group = self.group, colour = %self.colour, "left");
        Ok(goes_on)
    }

    /// Waits for a record for a moment, and takes what is there along with it.
    async fn fetch(&self, consumer: &StreamConsumer, fetched: &mut Vec<Fetched>) {
        let mut next = tokio::time::timeout(LOOK, consumer.recv()).await.ok();
        while let Some(result) = next {
            match result {
                Err(error) => tracing::debug!(group = self.group, %error, "reading"),
                Ok(message) => fetched.push(Fetched {
                    partition: message.partition(),
                    offset: message.offset(),
                    record: message.payload().and_then(TrafficRecord::parse),
                }),
            }
            next = if fetched.len() < FETCH { consumer.recv().now_or_never() } else { None };
        }
    }

    fn join(&self, bootstrap: &str) -> Result<StreamConsumer> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", &self.group)
            .set("client.id", format!("{}-{}", self.group, self.colour))
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "200")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("metadata.recovery.strategy", "none")
            .set("fetch.wait.max.ms", "100")
            .set("topic.metadata.refresh.interval.ms", "1000")
            .create()
            .with_context(|| format!("group {} on {}", self.group, self.colour))?;
        consumer.subscribe(&[TOPIC]).with_context(|| format!("group {} on {}", self.group, self.colour))?;
        Ok(consumer)
    }

    fn process(&self, consumer: &StreamConsumer, fetched: Fetched) {
        let Fetched { partition, offset, record } = fetched;
        {
            let mut book = self.book.lock();
            if let Some(record) = record {
                book.process(&record);
            }
            book.reached(self.colour, partition, offset + 1);
        }
        if let Err(error) = consumer.store_offset(TOPIC, partition, offset) {
            tracing::debug!(group = self.group, %error, "storing an offset");
        }
    }
}
