//! A world for the machine's tests: what it answers when all goes well, and a driver by hand.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::decisions::separation::Room;
use crate::drain::{GroupProgress, LogRange, Observation, Tail};
use crate::messages::{MemberKind, MemberState};
use crate::owner::{OwnerRecord, Target};
use crate::ports::{
    ClusterIdentity, ConnectorDescription, ConnectorKind, ConnectorState, FenceKind, FenceProof, Incarnation,
    PartitionEnd, RecordData, TopicDescription,
};
use crate::words::{Colour, EndpointKey, Generation, GroupId, Offset, TopicName, TopicPartition};

pub(super) fn plan() -> Plan {
    Plan {
        deployment: "orders".into(),
        to: Colour::Green,
        topics: Topics::All,
        groups: [(GroupId::new("billing"), None)].into(),
        waived_groups: BTreeSet::new(),
        waived_members: BTreeSet::new(),
        waived_history: Topics::All,
        schemas_topic: "_schemas".into(),
        waived_deleted: BTreeSet::new(),
        waived_replicas: Topics::none(),
        raised_retention: Topics::none(),
        fence: FencePolicy::Required,
        separation: SeparationPolicy::Required(Room { head_room: 1_000, most: 100_000 }),
        connect: None,
        approve_redirect: Approval::Automatic,
        approve_removal: Approval::Automatic,
        remove_old: true,
        abandoned: None,
        timings: Timings {
            ttl_s: 1,
            converge_ms: 5_000,
            quiet_window_ms: 2_000,
            soak_ms: 3_000,
            poll_ms: 100,
            command_timeout_ms: 10_000,
            retry_ms: 50,
            barrier_ms: 1_000,
            hold_limit_ms: None,
        },
    }
}

pub(super) fn incarnation(colour: Colour) -> Incarnation {
    Incarnation {
        id: format!("world/{colour}").as_str().into(),
        colour,
        bootstrap: vec![format!("127.9.0.{}:9092", colour as u8)],
        controller_bootstrap: vec![format!("127.9.0.{}:9093", colour as u8)],
        endpoint: RecordData::Addresses(vec![]),
    }
}

pub(super) fn identity(colour: Colour) -> ClusterIdentity {
    ClusterIdentity {
        cluster_id: format!("cluster-{colour}").as_str().into(),
        brokers: [format!("127.9.0.{}:9092", colour as u8)].into(),
        version: None,
    }
}

pub(super) fn target(generation: u64, colour: Colour) -> Target {
    Target {
        generation: Generation(generation),
        colour,
        cluster_id: identity(colour).cluster_id,
        bootstrap: incarnation(colour).bootstrap,
    }
}

pub(super) fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

pub(super) fn end(partition: i32, offset: i64) -> PartitionEnd {
    PartitionEnd {
        place: place(partition),
        start: Offset(0),
        stable_end: Offset(offset),
        high_watermark: Offset(offset),
        leader_end: None,
        epoch: None,
    }
}

pub(super) fn topics() -> Vec<TopicDescription> {
    ["orders", "kutover.control", "__consumer_offsets"]
        .map(|name| TopicDescription {
            name: name.into(),
            id: None,
            partitions: 2,
            replication: 1,
            configs: None,
            defaults: BTreeMap::new(),
        })
        .into()
}

pub(super) fn drained(committed: i64) -> Observation {
    let places = [place(0), place(1)];
    Observation {
        logs: places.clone().map(|p| (p, Ok(LogRange { start: Offset(0), end: Offset(100) }))).into(),
        progress: places
            .map(|p| {
                let progress = GroupProgress { committed: Some(Offset(committed)), tail: Tail::NotRead };
                (("billing".into(), p), Ok(progress))
            })
            .into(),
        ..Observation::default()
    }
}

pub(super) fn producer(heartbeat: u64, target: &Target) -> MemberState {
    MemberState {
        kind: MemberKind::Producer,
        instance: "p1".into(),
        incarnation: "r".into(),
        heartbeat,
        generation: target.generation,
        cluster_id: target.cluster_id.clone(),
        receipts: vec![],
    }
}

pub(super) fn owner(term: u64, target: Target) -> OwnerRecord {
    OwnerRecord {
        deployment: "orders".into(),
        term: Term(term),
        nonce: "n".into(),
        target,
        intent: None,
        removal: None,
    }
}

/// Where the old and the new cluster's ids stand, one broker each.
pub(super) fn ids(old: u64, new: u64) -> Answer {
    Answer::ProducerIds { old: [(0, Ok(old))].into(), new: [(0, Ok(new))].into(), live: Some([].into()) }
}

/// A source and a sink on blue.
pub(super) fn connect_answer(act: ConnectAct) -> ConnectAnswer {
    let one = |kind| ConnectorDescription { kind, state: ConnectorState::Running, failed: false, tasks: 1 };
    match act {
        ConnectAct::Find => ConnectAnswer::Found {
            there: [
                ("files-in".into(), one(ConnectorKind::Source)),
                ("files-out".into(), one(ConnectorKind::Sink)),
            ]
            .into(),
            taken: BTreeSet::new(),
        },
        _ => ConnectAnswer::Done { notes: vec![] },
    }
}

/// What a world in which everything goes well answers.
pub(super) fn answer(command: &Command, term: u64, published: &Target) -> Answer {
    match command {
        Command::TakeTerm { .. } => Answer::TermTaken {
            term: Term(term),
            owner: owner(term, published.clone()),
            active: incarnation(published.colour),
        },
        Command::Provision { .. } => Answer::Provisioned {
            old: incarnation(Colour::Blue),
            new: incarnation(Colour::Green),
            made: true,
        },
        Command::Verify { .. } => Answer::Verified {
            old: identity(Colour::Blue),
            new: identity(Colour::Green),
            topics: topics(),
            ttls: ttls(60),
        },
        Command::MatchTopics { .. } => Answer::TopicsMatched { notes: vec![], there: topics() },
        Command::ListGroups { .. } => Answer::Groups { listed: BTreeMap::new(), complete: true },
        Command::SetStartOffsets { .. } => Answer::StartOffsetsSet { kept: BTreeMap::new() },
        Command::Connect(connect) => Answer::Connect(connect_answer(connect.act)),
        Command::ProducerIds { .. } => ids(7, 5_007),
        Command::ReadConfigs { .. } => Answer::Configs { old: topics(), new: topics() },
        Command::RestoreRetention { .. } => Answer::RetentionRestored { left: vec![] },
        Command::LookForEarly { .. } => Answer::EarlyLooked { there: Ok(BTreeMap::new()) },
        Command::LookBehind { .. } => {
            Answer::Behind { found: Ok((topics(), vec![end(0, 100), end(1, 100)])) }
        }
        Command::LookForFence { .. } => {
            Answer::FenceTraces { topics: BTreeSet::new(), blind: None, refusal: None }
        }
        Command::SetTtl { .. } => Answer::TtlSet { old_ttl_s: 60 },
        Command::Recheck { .. } => Answer::Rechecked {
            old: identity(Colour::Blue),
            new: identity(Colour::Green),
            old_ends: vec![end(0, 90), end(1, 95)],
            new_ends: vec![end(0, 0), end(1, 0)],
            topics: topics(),
        },
        Command::ReadMembers { .. } => {
            Answer::Members { by_cluster: vec![vec![], vec![producer(7, published)]] }
        }
        Command::Survey { .. } => {
            Answer::Surveyed { partitions: Err("embedded".into()), records: BTreeMap::new() }
        }
        Command::RaiseFence { .. } => Answer::FenceRaised { kind: FenceKind::Acl },
        Command::ProveFence { .. } => Answer::FenceProven {
            proof: FenceProof {
                kind: FenceKind::Acl,
                topics: [(TopicName::new("orders"), (None, 2))].into(),
                ends: vec![end(0, 100), end(1, 100)],
            },
        },
        Command::ReadEnds { .. } => Answer::Ends { ends: vec![end(0, 100), end(1, 100)] },
        Command::ListTopics { .. } => Answer::Topics { there: topics() },
        Command::ObserveDrain { .. } => Answer::Drain { seen: drained(100), listed: BTreeMap::new() },
        Command::FreshenStarts { .. } => Answer::StartsFresh { silent: None },
        Command::Isolate { .. } => Answer::Isolated { shut_out: true },
        Command::Reprove { .. } => Answer::Reproved {
            published: published.clone(),
            new: identity(published.colour),
            seen: drained(100),
            listed: BTreeMap::new(),
            topics: topics(),
        },
        Command::Claim { .. }
        | Command::RaiseRetention { .. }
        | Command::WriteChain { .. }
        | Command::Publish { .. }
        | Command::Announce { .. }
        | Command::MarkRemoval { .. }
        | Command::Destroy { .. }
        | Command::Tidy { .. }
        | Command::WriteIntent { .. }
        | Command::Reopen { .. }
        | Command::Discard { .. } => Answer::Done,
    }
}

type Answers<'a> = dyn FnMut(&Command, usize) -> Option<Result<Answer, ProviderError>> + 'a;

/// The TTLs of two endpoints, of which the first has the longer one.
pub(super) fn ttls(longest_s: u32) -> BTreeMap<EndpointKey, u32> {
    let key = |text: &str| EndpointKey::from(text.to_owned());
    [(key("kafka.orders.test"), longest_s), (key("kafka.orders.test@Z1"), 20)].into()
}

/// Drives a machine by hand: virtual time, answers from a function that may fail.
pub(super) struct World<'a> {
    pub(super) machine: Cutover,
    pub(super) now: Millis,
    pub(super) term: u64,
    pub(super) published: Target,
    pub(super) commands: Vec<&'static str>,
    /// When each was begun.
    pub(super) begun: Vec<Millis>,
    pub(super) events: Vec<Event>,
    pub(super) journal: Vec<Record>,
    /// Whether every answer comes a second time.
    pub(super) twice: bool,
    /// After the answer to this command (counted from 0) a person wants to go back.
    pub(super) rollback: Option<usize>,
    /// After the answer to this command a person wants to abort.
    pub(super) abort: Option<usize>,
    /// The command (counted from 0) that is never answered.
    pub(super) silent: Option<usize>,
    /// Commands of this name are never answered.
    pub(super) hangs: Option<&'static str>,
    /// Commands of this name take so many milliseconds.
    pub(super) slow: Option<(&'static str, u64)>,
    /// A person says yes to this first whenever another yes is asked for.
    pub(super) slip: Option<ApprovalGate>,
    /// How often what is waited for meanwhile comes before a person says yes.
    pub(super) ticks_before_yes: usize,
    /// Requests that a person has said yes to.
    approved: usize,
    answers: Box<Answers<'a>>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: Plan, journal: Vec<Record>) -> Self {
        Self {
            machine: Cutover::new(plan, "run".into(), journal.clone()),
            now: Millis(1_000),
            term: 1,
            published: target(1, Colour::Blue),
            commands: vec![],
            begun: vec![],
            events: vec![],
            journal,
            twice: false,
            rollback: None,
            abort: None,
            silent: None,
            hangs: None,
            slow: None,
            slip: None,
            ticks_before_yes: 0,
            approved: 0,
            answers: Box::new(|_, _| None),
        }
    }

    /// Answers of a world that does not go well; `None` leaves the usual one. The number counts commands, from 0.
    pub(super) fn but(
        mut self,
        answers: impl FnMut(&Command, usize) -> Option<Result<Answer, ProviderError>> + 'a,
    ) -> Self {
        self.answers = Box::new(answers);
        self
    }

    /// The same world with each answer twice: nothing more is asked for than when each comes once.
    pub(super) fn run_twice(make: impl Fn() -> Self) -> (Stop, Self) {
        let (stop, once) = make().run();
        let (again, twice) = Self { twice: true, ..make() }.run();
        assert_eq!((&again, &twice.commands), (&stop, &once.commands));
        assert!(twice.machine.late_answers() > 0);
        (stop, twice)
    }

    pub(super) fn run(mut self) -> (Stop, Self) {
        self.machine.handle(self.now, Input::Start);
        for _ in 0..2_000 {
            match self.machine.poll() {
                Output::Persist(_, record) => self.journal.push(record),
                Output::Notify(event) => self.events.push(event),
                Output::Stop(stop) => return (stop, self),
                Output::Run(id, command) => {
                    self.commands.push(command.name());
                    self.begun.push(self.now);
                    if command.is_mutation() && !matches!(command, Command::TakeTerm { adopt: false, .. }) {
                        let intent = Record::Intent { id, command: Box::new(command.clone()) };
                        assert_eq!(self.journal.last(), Some(&intent), "an act before its intent");
                    }
                    let result = (self.answers)(&command, self.commands.len() - 1)
                        .unwrap_or_else(|| Ok(answer(&command, self.term, &self.published)));
                    if let (Command::Publish { target, .. }, Ok(_)) = (&command, &result) {
                        self.published = target.clone();
                    }
                    let slow = self.slow.filter(|(name, _)| self.commands.last() == Some(name));
                    self.now = self.now.plus(slow.map_or(1, |(_, ms)| ms));
                    let hangs = self.hangs.is_some_and(|name| self.commands.last() == Some(&name));
                    if hangs || self.silent == Some(self.commands.len() - 1) {
                        continue;
                    }
                    self.machine.handle(self.now, Input::Answer(id, result.clone()));
                    if self.twice {
                        self.machine.handle(self.now, Input::Answer(id, result));
                    }
                    if self.rollback == Some(self.commands.len() - 1) {
                        self.machine.handle(self.now, Input::RollBack);
                    }
                    if self.abort == Some(self.commands.len() - 1) {
                        self.machine.handle(self.now, Input::Abort);
                    }
                }
                Output::Wait(until) => match (self.asked(), until) {
                    (Some(gate), _) if until.is_none() || self.ticks_before_yes == 0 => {
                        self.approved += 1;
                        for gate in self.slip.filter(|slip| *slip != gate).into_iter().chain([gate]) {
                            self.machine.handle(self.now, Input::Approve(gate));
                        }
                    }
                    (asked, Some(until)) => {
                        self.ticks_before_yes -= usize::from(asked.is_some());
                        self.now = self.now.max(until);
                        self.machine.handle(self.now, Input::Tick);
                    }
                    (_, None) => {
                        panic!("nothing to wait for in {:?}", self.machine.progress().state.name())
                    }
                },
            }
        }
        panic!("it does not end: {:?}", self.events.iter().rev().take(5).collect::<Vec<_>>());
    }

    /// What a person was asked, and has not said yes to.
    fn asked(&self) -> Option<ApprovalGate> {
        let asked = self.events.iter().filter_map(|event| match event {
            Event::AwaitingApproval { gate, .. } => Some(*gate),
            _ => None,
        });
        asked.skip(self.approved).last()
    }

    pub(super) fn states(&self) -> Vec<StateName> {
        let entered = self.events.iter().filter_map(|event| match event {
            Event::Entered { state } => Some(*state),
            _ => None,
        });
        entered.collect()
    }

    pub(super) fn holds(&self) -> Vec<&str> {
        let holds = self.events.iter().filter_map(|event| match event {
            Event::Hold { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        holds.collect()
    }
}

pub(super) const FORWARD: [&str; 31] = [
    "take the term",
    "claim the control topics",
    "look for a left-over fence",
    "provision",
    "verify both clusters",
    "match topics",
    "claim the control topics",
    "list groups",
    "set start offsets",
    "read producer ids",
    "set the TTL",
    "read producer ids",
    "check again",
    "write the chain",
    "reopen",
    "publish the target",
    "announce the target",
    "look for early members",
    "read members",
    "look who writes",
    "raise the fence",
    "prove the fence",
    "write the chain",
    "read producer ids",
    "observe the drain",
    "read members",
    "isolate",
    "prove once more",
    "mark the removal",
    "destroy",
    "look for early members",
];

pub(super) fn failure(kind: ErrorKind) -> ProviderError {
    ProviderError::new(kind, "test", "made to fail")
}
