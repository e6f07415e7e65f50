//! Sends at a rate, spread over the producers, and keeps the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Fate, Ledger, RecordId, Refused, Sender, TrafficRecord};

/// How often a producer looks what is due.
const TICK: Duration = Duration::from_millis(5);
/// How long a record that was refused waits before it is offered again.
const REFUSED_WAIT: Duration = Duration::from_millis(5);
/// How long the end of the traffic waits for what is outstanding.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// What the traffic is to be.
#[derive(Clone, Copy, Debug)]
pub struct TrafficPlan {
    /// Records per second, of all producers together.
    pub rate: u32,
    /// Seeds the choice of keys.
    pub seed: u64,
    /// Marks this run's records.
    pub run: u64,
}

/// Running traffic.
pub struct Traffic {
    /// What became of each record.
    pub ledger: Arc<Ledger>,
    /// The producers, by instance.
    pub senders: Vec<Arc<dyn Sender>>,
    stalls: Vec<Arc<Mutex<Histogram<u64>>>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    began: Instant,
    sent_for: Option<Duration>,
}

impl Traffic {
    /// Starts sending with these producers.
    pub fn start(senders: Vec<Arc<dyn Sender>>, plan: TrafficPlan) -> Self {
        let ledger = Arc::new(Ledger::new(u16::try_from(senders.len()).unwrap_or(u16::MAX)));
        let (stop, _) = watch::channel(false);
        let began = Instant::now();
        let mut traffic =
            Self { ledger, senders, stalls: Vec::new(), stop, tasks: Vec::new(), began, sent_for: None };
        let share = f64::from(plan.rate) / traffic.senders.len().max(1) as f64;
        for (instance, sender) in (0u16..).zip(traffic.senders.clone()) {
            traffic.run_lane(instance, sender, share, plan);
        }
        traffic
    }

    /// One more producer joins in, at the rate of the others.
    pub fn join(&mut self, sender: Arc<dyn Sender>, plan: TrafficPlan) {
        let share = f64::from(plan.rate) / self.senders.len().max(1) as f64;
        let instance = self.ledger.add_instance();
        self.senders.push(Arc::clone(&sender));
        self.run_lane(instance, sender, share, plan);
    }

    fn run_lane(&mut self, instance: u16, sender: Arc<dyn Sender>, share: f64, plan: TrafficPlan) {
        let stall = Arc::new(Mutex::new(
            Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order"),
        ));
        self.stalls.push(Arc::clone(&stall));
        let (completions, inbox) = mpsc::unbounded_channel();
        self.tasks.push(tokio::spawn(settle(Arc::clone(&self.ledger), inbox)));
        let ledger = Arc::clone(&self.ledger);
        let lane = Lane { instance, sender, ledger, completions, stall, share, plan };
        self.tasks.push(tokio::spawn(lane.run(self.stop.subscribe())));
    }

    /// Stops sending, ends the producers, and waits (bounded) until every accepted record is settled.
    ///
    /// # Errors
    /// A producer has panicked: nobody knows what became of the record that it held.
    pub async fn stop(&mut self) -> Result<()> {
        let _ = self.stop.send(true);
        self.sent_for.get_or_insert(self.began.elapsed());
        let tasks = std::mem::take(&mut self.tasks);
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let all = futures_util::future::join_all(tasks);
        let Ok(ended) = tokio::time::timeout(SETTLE_LIMIT, all).await else {
            tracing::warn!(
                "records were still outstanding when the traffic was ended; they count as unsettled"
            );
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
            return Ok(());
        };
        let panicked =
            ended.into_iter().filter_map(Result::err).filter(tokio::task::JoinError::is_panic).count();
        ensure!(
            panicked == 0,
            "{panicked} of the traffic's tasks have panicked: what they held is in no ledger"
        );
        Ok(())
    }

    /// Records accepted per second of sending.
    pub fn records_per_s(&self) -> u64 {
        let seconds = self.sent_for.unwrap_or_else(|| self.began.elapsed()).as_secs_f64();
        (self.ledger.totals().accepted as f64 / seconds.max(f64::MIN_POSITIVE)).round() as u64
    }

    /// How long each producer's `send` took until it had accepted a record, by instance, in microseconds.
    pub fn accepting(&self) -> Vec<Histogram<u64>> {
        self.stalls.iter().map(|stall| stall.lock().clone()).collect()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

type Settling = BoxFuture<'static, (RecordId, Option<Fate>)>;

/// Notes completions as they come, until the lane has ended and nothing is outstanding.
async fn settle(ledger: Arc<Ledger>, mut inbox: mpsc::UnboundedReceiver<Settling>) {
    let mut outstanding = FuturesUnordered::new();
    let mut open = true;
    while open || !outstanding.is_empty() {
        tokio::select! {
            next = inbox.recv(), if open => match next {
                Some(completion) => outstanding.push(completion),
                None => open = false,
            },
            Some((id, fate)) = outstanding.next(), if !outstanding.is_empty() => {
                if let Some(fate) = fate {
                    ledger.settle(id, fate);
                }
            }
        }
    }
}

/// One producer's sending.
struct Lane {
    instance: u16,
    sender: Arc<dyn Sender>,
    ledger: Arc<Ledger>,
    completions: mpsc::UnboundedSender<Settling>,
    stall: Arc<Mutex<Histogram<u64>>>,
    share: f64,
    plan: TrafficPlan,
}

impl Lane {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut rng = StdRng::seed_from_u64(self.plan.seed ^ (u64::from(self.instance) << 48));
        let began = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut seq = 0;
        'sending: loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let due = (began.elapsed().as_secs_f64() * self.share) as u64;
            while seq < due {
                let id = RecordId { instance: self.instance, seq };
                let record = TrafficRecord::draw(id, self.plan.run, &mut rng);
                if !self.send_until_accepted(&record, &mut stop).await {
                    break 'sending;
                }
                seq += 1;
            }
        }
        self.sender.finish().await;
    }

    /// Offers a record until the producer takes it; `false` if the traffic ended first.
    async fn send_until_accepted(&self, record: &TrafficRecord, stop: &mut watch::Receiver<bool>) -> bool {
        let began = Instant::now();
        let mut refusals = 0u64;
        loop {
            // A `send` in progress is never dropped: it would be unknown whether the record was taken.
            match self.sender.send(record).await {
                Ok(completion) => {
                    let waited = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.stall.lock().saturating_record(waited.max(1));
                    self.ledger.accept(record.id);
                    let id = record.id;
                    let _ = self.completions.send(Box::pin(async move { (id, completion.await) }));
                    return true;
                }
                Err(Refused(reason)) => {
                    refusals += 1;
                    if refusals.is_power_of_two() {
                        tracing::debug!(instance = self.instance, refusals, reason, "a record was refused");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(REFUSED_WAIT) => {}
                        _ = stop.wait_for(|stop| *stop) => return false,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::traffic::{Completion, SenderAccount};

    /// Refuses every third offer and never says what became of every seventh record.
    #[derive(Default)]
    struct Fickle {
        offers: AtomicU64,
        taken: Mutex<Vec<u64>>,
    }

    #[async_trait]
    impl Sender for Fickle {
        async fn send(&self, record: &TrafficRecord) -> Result<Completion, Refused> {
            if self.offers.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
                return Err(Refused("not now".into()));
            }
            self.taken.lock().push(record.id.seq);
            let fate = (!record.id.seq.is_multiple_of(7)).then_some(Fate::Acknowledged);
            Ok(Box::pin(async move { fate }))
        }

        async fn finish(&self) {}

        fn account(&self) -> SenderAccount {
            SenderAccount::default()
        }
    }

    #[tokio::test]
    async fn a_refused_record_is_offered_again_in_its_place() {
        let sender = Arc::new(Fickle::default());
        let plan = TrafficPlan { rate: 50_000, seed: 1, run: 2 };
        let mut traffic = Traffic::start(vec![Arc::clone(&sender) as Arc<dyn Sender>], plan);
        tokio::time::timeout(Duration::from_secs(20), async {
            while traffic.ledger.totals().accepted < 200 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        traffic.stop().await.unwrap();
        let taken = sender.taken.lock().clone();
        assert!(taken.iter().copied().eq(0..taken.len() as u64), "in order, without gaps or repeats");
        let entries = traffic.ledger.entries();
        assert_eq!(entries[0].len(), taken.len());
        for (seq, fate) in entries[0].iter().enumerate() {
            let expected = if seq.is_multiple_of(7) { Fate::Pending } else { Fate::Acknowledged };
            assert_eq!(*fate, expected, "record {seq}");
        }
    }

    /// Takes ten records and panics over the next.
    #[derive(Default)]
    struct Fragile(AtomicU64);

    #[async_trait]
    impl Sender for Fragile {
        async fn send(&self, _: &TrafficRecord) -> Result<Completion, Refused> {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) < 10, "planted");
            Ok(Box::pin(async { Some(Fate::Acknowledged) }))
        }

        async fn finish(&self) {}

        fn account(&self) -> SenderAccount {
            SenderAccount::default()
        }
    }

    #[tokio::test]
    async fn a_producer_that_panics_fails_the_run() {
        let sender = Arc::new(Fragile::default());
        let plan = TrafficPlan { rate: 50_000, seed: 1, run: 2 };
        let mut traffic = Traffic::start(vec![Arc::clone(&sender) as Arc<dyn Sender>], plan);
        while sender.0.load(Ordering::Relaxed) <= 10 {
            tokio::task::yield_now().await;
        }
        let error = traffic.stop().await.unwrap_err().to_string();
        assert!(error.starts_with("1 of the traffic's tasks"), "{error}");
    }
}
