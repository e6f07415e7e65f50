//! What is on stage while a demo runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use kutover_audit::{
    ClusterLog, Follower, GroupBook, Ledger, ReaderSet, Sender, Traffic, TrafficPlan, place,
};
use kutover_core::words::Colour;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::cli::DemoOptions;
use crate::report::{ClusterReport, TimelineEntry};
use crate::ui::{Gauge, Ui};

/// How often live numbers are shown.
const GAUGE_EVERY: Duration = Duration::from_millis(250);

/// How the part between warm-up and closing ended.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Its name in the report.
    pub name: String,
    /// Why it did not end well.
    pub reason: Option<String>,
}

/// See the [module](self).
pub(crate) struct Scene {
    pub options: DemoOptions,
    pub ui: Arc<Ui>,
    /// Seed of the traffic.
    pub seed: u64,
    /// Marks this run's records.
    pub run: u64,
    pub readers: ReaderSet,
    pub traffic: Option<Traffic>,
    pub timeline: Vec<TimelineEntry>,
    /// When the new target was published.
    pub published_at: Option<Instant>,
    /// When the way back was begun, and how long it then took until producers were led to blue again.
    pub rollback_began: Option<Instant>,
    pub barrier_ms: Option<u64>,
    /// After a rollback, by partition: where blue's log goes on.
    pub blue_again: BTreeMap<i32, i64>,
    /// Blue's and green's part of the report.
    pub clusters: [ClusterReport; 2],
    /// Blue's and green's logs, once they have been read whole.
    pub logs: [Option<ClusterLog>; 2],
    followers: [Option<Follower>; 2],
    counts: [Arc<AtomicU64>; 2],
    gauge: Option<JoinHandle<()>>,
}

impl Scene {
    /// An empty stage.
    pub(crate) fn new(options: DemoOptions, ui: Arc<Ui>, groups: Vec<String>) -> Self {
        let seed = options.seed.unwrap_or_else(|| rand::random::<u32>().into());
        let clusters = Colour::BOTH.map(|colour| ClusterReport {
            version: options.kafka.version(colour).to_owned(),
            ..ClusterReport::default()
        });
        Self {
            options,
            ui,
            seed,
            run: rand::random(),
            readers: ReaderSet::new(groups),
            traffic: None,
            timeline: Vec::new(),
            published_at: None,
            rollback_began: None,
            barrier_ms: None,
            blue_again: BTreeMap::new(),
            clusters,
            logs: [None, None],
            followers: [None, None],
            counts: Default::default(),
            gauge: None,
        }
    }

    /// Notes and shows something that happened.
    pub(crate) fn note(&mut self, state: &str, event: String) {
        self.timeline.push(TimelineEntry { at_ms: self.ui.at_ms(), state: state.to_owned(), event });
    }

    /// Shows and notes a step of the demo's own.
    pub(crate) fn step(&mut self, state: &str, event: &str) {
        self.ui.step(event);
        self.note(state, event.to_owned());
    }

    /// The audit starts to read a cluster.
    pub(crate) fn follow(&mut self, colour: Colour, bootstrap: &str) {
        let at = place(colour);
        if self.followers[at].is_none() && self.logs[at].is_none() {
            let counter = Arc::clone(&self.counts[at]);
            self.followers[at] = Some(Follower::start(bootstrap, self.run, counter));
        }
    }

    /// The audit reads a cluster's log to its end and is done with it. Does nothing the second time.
    pub(crate) async fn finish_log(&mut self, colour: Colour) -> Result<()> {
        let at = place(colour);
        let Some(follower) = self.followers[at].take() else { return Ok(()) };
        let log = tokio::task::spawn_blocking(|| follower.finish()).await??;
        self.clusters[at].records = log.records.len() as u64;
        self.logs[at] = Some(log);
        Ok(())
    }

    /// What the traffic is to be.
    pub(crate) fn traffic_plan(&self) -> TrafficPlan {
        TrafficPlan { rate: self.options.rate, seed: self.seed, run: self.run }
    }

    /// Starts the traffic and the live numbers.
    pub(crate) fn start_traffic(&mut self, senders: Vec<Arc<dyn Sender>>) {
        let traffic = Traffic::start(senders, self.traffic_plan());
        let watched = Watched {
            ui: Arc::clone(&self.ui),
            counts: self.counts.clone(),
            ledger: Arc::clone(&traffic.ledger),
            groups: self.readers.groups.clone(),
        };
        self.gauge = Some(tokio::spawn(watched.show()));
        self.traffic = Some(traffic);
    }

    /// Lets the traffic run for the time that the options say.
    pub(crate) async fn let_it_run(&mut self, what: &str) {
        self.ui.step(what);
        tokio::time::sleep(Duration::from_secs(self.options.warm_up.into())).await;
    }

    /// Ends the live numbers.
    pub(crate) fn stop_gauge(&mut self) {
        if let Some(gauge) = self.gauge.take() {
            gauge.abort();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop_gauge();
        self.ui.close();
    }
}

/// What the live numbers are made of.
struct Watched {
    ui: Arc<Ui>,
    counts: [Arc<AtomicU64>; 2],
    ledger: Arc<Ledger>,
    groups: Vec<(String, Arc<Mutex<GroupBook>>)>,
}

impl Watched {
    async fn show(self) {
        let mut ticks = tokio::time::interval(GAUGE_EVERY);
        loop {
            ticks.tick().await;
            let logged = [0, 1].map(|at: usize| self.counts[at].load(Ordering::Relaxed));
            let behind =
                |book: &Mutex<GroupBook>| logged.iter().sum::<u64>().saturating_sub(book.lock().processed);
            let lags = self.groups.iter().map(|(name, book)| (name.clone(), behind(book))).collect();
            self.ui.gauge(&Gauge { logged, acknowledged: self.ledger.totals().acknowledged, lags });
        }
    }
}
