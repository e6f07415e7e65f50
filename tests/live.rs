//! Live traffic on a deployment that the program cuts over, counted as `kutover demo` counts its own: by the same
//! producers, groups and audit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kutover_audit::{
    ClusterLog, Deployment, Evidence, Follower, KutoverSender, ReaderSet, Sender, SenderAccount, Traffic,
    TrafficPlan, audit, ends_of, over_all, place, producer_name,
};
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::Colour;
use kutover_lab::LabProvisioner;
use kutover_testkit::until;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

use crate::{Program, assert_complete};

/// The bound of everything that is waited for.
const BOUND: Duration = Duration::from_secs(60);
/// A fixed one: what differs between runs is not the keys.
const SEED: u64 = 7;
/// Clusters are a test's own, so that nobody else's records stand there.
const RUN: u64 = 1;

/// So many more acknowledgements, wherever traffic is to be seen.
const MORE: u64 = 500;

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

/// A cutover that a person approves, carried out by the program on clusters of kutover-lab under live traffic.
pub struct CutOver {
    up: Program,
    status: Option<i32>,
    live: Live,
    producers: usize,
    report: String,
}

impl CutOver {
    /// From the start to the end of the program.
    ///
    /// # Panics
    /// If it does not come so far, or the traffic does not go on before the switch.
    pub async fn carry_out(program: &mut Command, plan: LivePlan<'_>, lab: &LabProvisioner) -> Self {
        let producers = plan.producers;
        let mut up = Program::start(program);
        up.wait_for("term 1 taken");
        let mut live = Live::start(plan, &audited_at(lab, Colour::Blue).await).await;
        up.wait_for("approve redirect");
        live.goes_on(MORE).await;
        live.follow(Colour::Green, &audited_at(lab, Colour::Green).await);
        up.say("approve redirect");
        up.wait_for("approve removal");
        until_shut(lab.place(Colour::Blue)).await;
        live.finish_log(Colour::Blue);
        up.say("approve removal");
        let (status, report) = up.end();
        Self { up, status, live, producers, report }
    }

    /// Asserts that the traffic goes on and that nothing was lost, by the count of `demo --json`.
    ///
    /// # Panics
    /// If one of them does not hold.
    pub async fn assert_complete(self) -> Counted {
        let Self { up, status, live, producers, report } = self;
        let told: Value = serde_json::from_str(report.trim())
            .unwrap_or_else(|error| panic!("no report ({error}):\n{}", up.shown()));
        live.goes_on(MORE).await;
        let counted = live.audit(&told).await;
        assert_complete(&counted, status, producers);
        assert_eq!(counted["foreign"], 0, "{counted}");
        Counted { report, said: up.said.clone() }
    }
}

/// What a cutover that was complete has left of words.
pub struct Counted {
    /// On stdout.
    pub report: String,
    /// On stderr, its log among it.
    pub said: String,
}

/// Where the audit reads a colour's cluster: the controller's way, which is open until the end.
async fn audited_at(lab: &LabProvisioner, colour: Colour) -> String {
    let there = lab.describe(colour).await.expect("it is told").expect("it is there");
    there.controller_bootstrap.join(",")
}

/// Waits until nobody gets in at an address: clients are shut out there.
async fn until_shut(at: SocketAddr) {
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
        self.traffic.stop().await.expect("the producers lived");
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
        let mut report = json!(found);
        for field in ["outcome", "reason", "timeline"] {
            report[field] = up[field].clone();
        }
        report["blue"] = json!({
            "records": blue.records.len(),
            "removed": events(up).any(|event| event.starts_with("removed ")),
            "closed_by": if fenced { "fence" } else { "quiet" },
        });
        report["green"] = json!({ "records": green.records.len() });
        report["producers"] = json!(producers);
        report
    }
}

fn events(up: &Value) -> impl Iterator<Item = &str> {
    up["timeline"].as_array().into_iter().flatten().filter_map(|entry| entry["event"].as_str())
}
