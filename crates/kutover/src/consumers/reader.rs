//! Reads with stock clients, one member per group and cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kutover_core::words::Colour;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::Message;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::GroupBook;
use crate::traffic::{TOPIC, TrafficRecord};

/// How often a reader looks whether it is done while nothing comes in.
const LOOK: Duration = Duration::from_millis(50);

/// Where the old cluster's log ends for good and where reading goes on, once that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Barrier {
    /// By partition: the segment's start and its closed end.
    pub ends: BTreeMap<i32, (i64, i64)>,
    /// Bootstrap servers of the new cluster.
    pub next: String,
}

impl Barrier {
    fn is_reached(&self, book: &GroupBook) -> bool {
        self.ends.iter().all(|(partition, (start, end))| {
            end <= start || book.positions.get(&(Colour::Blue, *partition)).is_some_and(|next| next >= end)
        })
    }
}

/// All groups of a run.
pub(crate) struct ReaderSet {
    /// Each group's name with what it has processed.
    pub groups: Vec<(String, Arc<Mutex<GroupBook>>)>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

impl ReaderSet {
    /// An empty set of groups with these names.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let groups = names.into_iter().map(|name| (name, Arc::default())).collect();
        Self { groups, stop: watch::channel(false).0, tasks: Vec::new() }
    }

    /// Every group reads blue to the barrier, then green.
    pub(crate) fn follow_chain(&mut self, blue: &str, barrier: &watch::Receiver<Option<Barrier>>) {
        for (name, book) in self.groups.clone() {
            let (blue, barrier, stop) = (blue.to_owned(), barrier.clone(), self.stop.subscribe());
            self.tasks.push(tokio::spawn(async move {
                let mut member = Member { group: name, colour: Colour::Blue, book, stop };
                let Some(next) = member.read(&blue, Some(barrier)).await? else { return Ok(()) };
                member.colour = Colour::Green;
                member.read(&next, None).await.map(|_| ())
            }));
        }
    }

    /// Every group starts to read a cluster, beside what it reads already.
    pub(crate) fn read_also(&mut self, colour: Colour, bootstrap: &str) {
        for (name, book) in self.groups.clone() {
            let (bootstrap, stop) = (bootstrap.to_owned(), self.stop.subscribe());
            self.tasks.push(tokio::spawn(async move {
                Member { group: name, colour, book, stop }.read(&bootstrap, None).await.map(|_| ())
            }));
        }
    }

    /// Whether every group has read these ends of a cluster.
    pub(crate) fn have_read(&self, colour: Colour, ends: &BTreeMap<i32, i64>) -> bool {
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
    pub(crate) async fn stop(&mut self) -> Result<()> {
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

impl Member {
    /// Reads until it is told to stop (`None`) or the barrier is reached (where to go on).
    async fn read(
        &mut self,
        bootstrap: &str,
        mut barrier: Option<watch::Receiver<Option<Barrier>>>,
    ) -> Result<Option<String>> {
        let consumer = self.join(bootstrap)?;
        let goes_on = loop {
            if *self.stop.borrow() {
                break None;
            }
            if let Some(barrier) = &mut barrier {
                let reached = barrier.borrow().as_ref().filter(|b| b.is_reached(&self.book.lock())).cloned();
                if let Some(reached) = reached {
                    break Some(reached.next);
                }
            }
            match tokio::time::timeout(LOOK, consumer.recv()).await {
                Err(_nothing_yet) => {}
                Ok(Err(error)) => tracing::debug!(group = self.group, %error, "reading"),
                Ok(Ok(message)) => self.process(&consumer, &message),
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

    fn process(&self, consumer: &StreamConsumer, message: &rdkafka::message::BorrowedMessage<'_>) {
        {
            let mut book = self.book.lock();
            if let Some(record) = message.payload().and_then(TrafficRecord::parse) {
                book.process(&record);
            }
            book.reached(self.colour, message.partition(), message.offset() + 1);
        }
        if let Err(error) = consumer.store_offset_from_message(message) {
            tracing::debug!(group = self.group, %error, "storing an offset");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_barrier_needs_every_partition_and_knows_empty_ones() {
        let barrier = Barrier { ends: [(0, (0, 5)), (1, (3, 3)), (2, (0, 1))].into(), next: "n".into() };
        let mut book = GroupBook::default();
        book.reached(Colour::Blue, 0, 5);
        assert!(!barrier.is_reached(&book));
        book.reached(Colour::Green, 2, 9);
        assert!(!barrier.is_reached(&book), "another cluster's offsets say nothing");
        book.reached(Colour::Blue, 2, 1);
        assert!(barrier.is_reached(&book));
    }
}
