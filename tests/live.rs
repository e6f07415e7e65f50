//! Live traffic on a deployment that the program cuts over, counted as `kutover demo` counts its own: by the same
//! producers, groups and audit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kutover_audit::{
    ClusterLog, Deployment, Evidence, Follower, KutoverSender, ReaderSet, Sender, SenderAccount, Traffic,
    TrafficPlan, audit, ends_of, over_all, place, producer_name,
};
use kutover_core::words::Colour;
use kutover_testkit::until;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

/// The bound of everything that is waited for.
const BOUND: Duration = Duration::from_secs(60);
/// A fixed one: what differs between runs is not the keys.
const SEED: u64 = 7;
/// Clusters are a test's own, so that nobody else's records stand there.
const RUN: u64 = 1;

/// What there is.
pub struct LivePlan<'a> {
    /// Where the producers belong.
    pub deployment: Deployment,
    /// How many.
    pub producers: usize,
    /// Records per second of all of them.
    pub rate: u32,
    /// Consumer groups; each reads the chain in order.
    pub groups: &'a [&'a str],
    /// Where groups bootstrap from on blue and on green.
    pub places: [String; 2],
    /// Of the traffic's topic.
    pub partitions: u16,
}

/// Waits until nobody gets in at an address: clients are shut out there.
///
/// # Panics
/// If somebody still does after a minute.
pub async fn until_shut(at: SocketAddr) {
    let shut = async || TcpStream::connect(at).await.is_err().then_some(());
    until("clients to be shut out", BOUND, shut).await;
}

/// Producers and groups at work.
pub struct Live {
    traffic: Traffic,
    readers: ReaderSet,
    followers: [Option<Follower>; 2],
    logs: [Option<ClusterLog>; 2],
    /// Where the audit reads each cluster.
    read_at: [Option<String>; 2],
    began: Instant,
}

impl Live {
    /// Starts them. The audit reads blue at this address from now on.
    ///
    /// # Panics
    /// If a producer cannot be built: the deployment must be kutover's by now.
    pub async fn start(plan: LivePlan<'_>, blue: &str) -> Self {
        let mut senders: Vec<Arc<dyn Sender>> = Vec::new();
        for number in 0..plan.producers {
            let starting = KutoverSender::start(producer_name(number), &plan.deployment, Arc::default());
            senders.push(Arc::new(starting.await.unwrap_or_else(|error| panic!("{error:#}"))));
        }
        let mut readers = ReaderSet::new(plan.groups.iter().map(|&group| group.to_owned()));
        readers.follow_chain(&plan.places, plan.partitions);
        let traffic = Traffic::start(senders, TrafficPlan { rate: plan.rate, seed: SEED, run: RUN });
        let mut live = Self {
            traffic,
            readers,
            followers: [None, None],
            logs: [None, None],
            read_at: [None, None],
            began: Instant::now(),
        };
        live.follow(Colour::Blue, blue);
        live
    }

    /// The audit reads a cluster from now on.
    pub fn follow(&mut self, colour: Colour, at: &str) {
        self.followers[place(colour)] = Some(Follower::start(at, RUN, Arc::default()));
        self.read_at[place(colour)] = Some(at.to_owned());
    }

    /// Waits for so many more acknowledgements.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn goes_on(&self, more: u64) {
        let acknowledged = || self.traffic.ledger.totals().acknowledged;
        let wanted = acknowledged() + more;
        until("acknowledgements", BOUND, async || (acknowledged() >= wanted).then_some(())).await;
    }

    /// The audit reads a cluster to its end, and is done with it: before it is removed, at the latest.
    ///
    /// # Panics
    /// If it cannot.
    pub fn finish_log(&mut self, colour: Colour) {
        let Some(follower) = self.followers[place(colour)].take() else { return };
        let log = block_in_place(|| follower.finish());
        self.logs[place(colour)] = Some(log.unwrap_or_else(|error| panic!("{colour}: {error:#}")));
    }

    /// Ends the traffic, lets the groups read what is left, and gives the report of `demo --json` with what the audit
    /// found; the outcome and what became of blue are taken from the report of `up --json`.
    ///
    /// # Panics
    /// If a cluster cannot be read.
    pub async fn audit(mut self, up: &Value) -> Value {
        self.traffic.stop().await;
        for colour in Colour::BOTH {
            if let (None, Some(at)) = (&self.logs[place(colour)], self.read_at[place(colour)].clone()) {
                let ends = block_in_place(|| ends_of(&at)).expect("its ends");
                until("the groups", BOUND, async || self.readers.have_read(colour, &ends).then_some(()))
                    .await;
                self.finish_log(colour);
            }
        }
        self.readers.stop().await.expect("the groups read");
        self.report(up)
    }

    fn report(&self, up: &Value) -> Value {
        let accounts: Vec<SenderAccount> =
            self.traffic.senders.iter().map(|sender| sender.account()).collect();
        let nothing = ClusterLog::default();
        let [blue, green] = [0, 1].map(|at: usize| self.logs[at].as_ref().unwrap_or(&nothing));
        let groups = &self.readers.groups;
        let found = audit(&Evidence {
            ledger: &self.traffic.ledger.entries(),
            predicted_duplicates: accounts.iter().map(|account| account.possibly_duplicated).sum(),
            blue,
            green,
            blue_again: &BTreeMap::new(),
            groups: groups.iter().map(|(name, book)| (name.clone(), book.lock().clone())).collect(),
        });
        let producers: Vec<Value> = accounts
            .into_iter()
            .zip(self.traffic.accepting())
            .map(|(account, accepting)| {
                let moved = account.switched_at.map(|at| at.saturating_duration_since(self.began));
                json!({
                    "switched_after_ms": moved.and_then(|after| u64::try_from(after.as_millis()).ok()),
                    "stall_us": over_all(&accepting, account.held_up),
                    "receipt": account.receipt,
                    "on": account.on,
                })
            })
            .collect();
        let fenced = events(up).any(|event| event.contains("fence proven at the leaders"));
        json!({
            "outcome": up["outcome"],
            "reason": up["reason"],
            "accepted": found.accepted,
            "acknowledged": found.acknowledged,
            "returned": found.returned,
            "failed": found.failed,
            "lost": found.lost,
            "duplicated": found.duplicated,
            "possibly_duplicated": found.possibly_duplicated,
            "out_of_order": found.out_of_order,
            "not_written_but_there": found.not_written_but_there,
            "foreign": found.foreign,
            "blue": {
                "records": blue.records.len(),
                "removed": events(up).any(|event| event.starts_with("removed ")),
                "closed_by": if fenced { "fence" } else { "quiet" },
            },
            "green": { "records": green.records.len() },
            "groups": found.groups,
            "producers": producers,
            "timeline": up["timeline"],
        })
    }
}

fn events(up: &Value) -> impl Iterator<Item = &str> {
    up["timeline"].as_array().into_iter().flatten().filter_map(|entry| entry["event"].as_str())
}
