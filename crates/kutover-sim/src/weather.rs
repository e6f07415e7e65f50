//! What goes wrong, when: every decision comes from the seed, each kind of fault from a stream of its own.
//!
//! A fault is named by its kind and its number among those of its kind. Taking one out of a run leaves the decisions about
//! all others as they were, which is what makes a schedule of faults shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kutover_core::words::{ClusterId, DnsName, TopicPartition};
use kutover_memory::{AnswerFate, AnswerWeather, CallWeather, RecordFate, RecordWeather, UnfinishedAppend};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::time::Instant;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Nothing.
    None,
    /// What happens in a bad week.
    Light,
    /// What never happens, all at once.
    Heavy,
}

/// Declares the kinds of faults: how many in a hundred thousand occasions go wrong under `light` and `heavy`.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident, $name:literal, $light:literal, $heavy:literal;)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $fault,)+
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &'static [Fault] = &[$(Fault::$fault,)+];

            /// Its name in reports and on a command line.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)+ }
            }

            fn per_100_000(self, level: Level) -> u32 {
                match (self, level) {
                    (_, Level::None) => 0,
                    $((Fault::$fault, Level::Light) => $light, (Fault::$fault, Level::Heavy) => $heavy,)+
                }
            }
        }
    };
}

faults! {
    /// A port's call fails and did nothing.
    CallRefused, "call-refused", 200, 1_500;
    /// A port's call was done and its answer is lost.
    CallAnswerLost, "call-answer-lost", 200, 1_500;
    /// A port's call was not done, and the caller cannot know.
    CallLost, "call-lost", 200, 1_500;
    /// A port's call never answers, done or not.
    CallHangs, "call-hangs", 50, 400;
    /// A port's call that changes something lands long after its caller has given it up.
    CallLate, "call-late", 50, 400;
    /// A port's call answers very late.
    CallSlow, "call-slow", 200, 1_500;
    /// A journal entry is cut off while being written.
    JournalTorn, "journal-torn", 100, 1_000;
    /// A controller dies.
    ControllerCrash, "controller-crash", 50, 400;
    /// A controller sleeps and wakes later.
    ControllerPause, "controller-pause", 30, 200;
    /// A second controller is started beside the first.
    SecondController, "second-controller", 5_000, 30_000;
    /// A person approves late.
    ApprovalLate, "approval-late", 20_000, 50_000;
    /// A broker obeys a fence late, raised or lifted.
    FenceSpreads, "fence-spreads", 10_000, 40_000;
    /// A new DNS record is not visible at once.
    VisibleLate, "visible-late", 20_000, 50_000;
    /// A resolver answers from a cache that should have expired.
    ResolverStale, "resolver-stale", 2_000, 15_000;
    /// A resolver says that there is nothing.
    ResolverEmpty, "resolver-empty", 1_000, 8_000;
    /// A resolver says that it failed.
    ResolverFails, "resolver-fails", 1_000, 8_000;
    /// A resolver does not answer.
    ResolverDead, "resolver-dead", 500, 4_000;
    /// A resolver keeps answers for longer than their TTL says.
    ResolverKeeps, "resolver-keeps", 10_000, 30_000;
    /// A record is written and its acknowledgement lost.
    AckLost, "ack-lost", 50, 500;
    /// A record is given up before it was tried.
    NotWritten, "not-written", 50, 500;
    /// A record is given up, and appended later all the same.
    LateAppend, "late-append", 50, 500;
    /// A broker answers slowly.
    BrokerSlow, "broker-slow", 100, 800;
    /// A cluster is out for a while.
    ClusterOut, "cluster-out", 500, 2_000;
    /// A partition is without a leader for a while.
    LeaderGone, "leader-gone", 1_000, 4_000;
    /// A partition gets another leader.
    LeaderMoves, "leader-moves", 2_000, 10_000;
    /// A broker stops and comes back.
    BrokerStops, "broker-stops", 500, 3_000;
    /// Retention deletes the head of a partition, or all of it.
    Retention, "retention", 300, 2_000;
    /// A group's offsets expire.
    OffsetsExpire, "offsets-expire", 500, 4_000;
    /// A leader takes records although the fence is up.
    FenceLeaks, "fence-leaks", 10_000, 40_000;
    /// A client becomes fatal.
    ClientFatal, "client-fatal", 5, 50;
    /// A producer starts late.
    ProducerLate, "producer-late", 10_000, 30_000;
    /// A producer's thread sleeps inside a send.
    ProducerPaused, "producer-paused", 20, 100;
    /// A producer is killed.
    ProducerKilled, "producer-killed", 5, 50;
    /// A producer dies between its move and its receipt.
    ReceiptLost, "receipt-lost", 1_000, 10_000;
    /// Two producers share a name.
    NameShared, "name-shared", 10_000, 30_000;
    /// A producer's clock is wrong and runs at a speed of its own.
    ClockDiffers, "clock-differs", 10_000, 50_000;
    /// A producer outside the library writes to the cluster that it knows for as long as it can.
    Stranger, "stranger", 3_000, 20_000;
    /// A group reads slowly.
    GroupSlow, "group-slow", 10_000, 30_000;
    /// A group is born in the middle of a cutover.
    GroupLate, "group-late", 10_000, 30_000;
    /// A group's coordinator does not answer for a while.
    CoordinatorSilent, "coordinator-silent", 500, 3_000;
    /// A cluster cannot list its groups for a while.
    GroupsUnlisted, "groups-unlisted", 500, 3_000;
}

/// What is counted here, besides what the world in memory counts: a call that landed when nobody waited for it any more.
pub(crate) const OUTLIVES_CALLER: &str = "call-outlives-caller";
/// And a second controller that really ran, the first one's step not being over.
pub(crate) const CONTROLLERS_MEET: &str = "controllers-meet";
/// And a stranger's record that came back.
pub(crate) const STRANGER_REFUSED: &str = "stranger-refused";
/// All that is counted here.
pub(crate) const HERE: [&str; 3] = [OUTLIVES_CALLER, CONTROLLERS_MEET, STRANGER_REFUSED];

impl Fault {
    /// Under which name it is counted when it takes effect. `None`: that is where it strikes, in the call, the controller, the
    /// producer or the group that it befalls.
    pub fn effect(self) -> Option<&'static str> {
        Some(match self {
            Fault::CallLate => OUTLIVES_CALLER,
            Fault::JournalTorn => "journal-torn",
            Fault::SecondController => CONTROLLERS_MEET,
            Fault::FenceSpreads => "fence-spreads",
            Fault::VisibleLate => "dns-visible-late",
            Fault::ResolverStale => "dns-old",
            Fault::ResolverEmpty => "dns-empty",
            Fault::ResolverFails => "dns-servfail",
            Fault::ResolverDead => "dns-dead",
            Fault::ResolverKeeps => "dns-min-ttl",
            Fault::AckLost => "record-ack-lost",
            Fault::NotWritten => "record-not-written",
            Fault::LateAppend => "record-late-append",
            Fault::BrokerSlow => "record-slow",
            Fault::ClusterOut => "cluster-dies",
            Fault::LeaderGone => "partition-silent",
            Fault::LeaderMoves => "leader-moves",
            Fault::BrokerStops => "broker-stops",
            Fault::Retention => "retention",
            Fault::OffsetsExpire => "group-expires",
            Fault::FenceLeaks => "fence-leaks",
            Fault::Stranger => STRANGER_REFUSED,
            Fault::CoordinatorSilent => "coordinator-silent",
            Fault::GroupsUnlisted => "groups-unlisted",
            Fault::CallRefused
            | Fault::CallAnswerLost
            | Fault::CallLost
            | Fault::CallHangs
            | Fault::CallSlow
            | Fault::ControllerCrash
            | Fault::ControllerPause
            | Fault::ApprovalLate
            | Fault::ClientFatal
            | Fault::ProducerLate
            | Fault::ProducerPaused
            | Fault::ProducerKilled
            | Fault::ReceiptLost
            | Fault::NameShared
            | Fault::ClockDiffers
            | Fault::GroupSlow
            | Fault::GroupLate => return None,
        })
    }
}

/// Faults of the world in memory that do not happen here; every other one that it counts has to. Calls go wrong outside the
/// world, where it is known who calls, under names of their own.
pub const ELSEWHERE: [&str; 16] = [
    "call-done-hangs",
    "call-failed",
    "call-hangs",
    "call-not-done",
    "call-slow",
    "call-unknown-done",
    "call-unknown-late",
    "call-unknown-not-done",
    "clash-discarded",
    "foreign-rebootstraps",
    "log-truncated",
    "readers-shut-out",
    "topic-auto-created",
    "topic-recreated",
    "transaction-wedged",
    "watermark-held",
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One fault of a run: its kind, and its number among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Occurrence {
    /// The kind.
    pub fault: Fault,
    /// The number, from 0.
    pub number: u32,
}

impl fmt::Display for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.fault, self.number)
    }
}

impl FromStr for Occurrence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text.split_once('#').ok_or("a fault is named `kind#number`")?;
        let known = Fault::ALL.iter().copied().find(|fault| fault.name() == name);
        let fault = known.ok_or_else(|| format!("there is no fault `{name}`"))?;
        let number = number.parse().map_err(|error| format!("`{number}`: {error}"))?;
        Ok(Self { fault, number })
    }
}

/// A fault that struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Which.
    pub what: Occurrence,
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
}

struct State {
    streams: BTreeMap<Fault, (SmallRng, u32)>,
    dice: SmallRng,
    struck: Vec<Struck>,
    calm: bool,
}

/// One world's weather.
pub struct Weather {
    seed: u64,
    level: Level,
    /// `Some`: only these strike.
    only: Option<BTreeSet<Occurrence>>,
    origin: Instant,
    state: Mutex<State>,
}

impl Weather {
    /// The weather of a seed. With `only`, every other fault is left out.
    pub fn new(seed: u64, level: Level, only: Option<BTreeSet<Occurrence>>) -> Self {
        let state =
            State { streams: BTreeMap::new(), dice: stream(seed, 1), struck: Vec::new(), calm: false };
        Self { seed, level, only, origin: Instant::now(), state: Mutex::new(state) }
    }

    /// Whether a fault strikes now, and if so a number to shape it by.
    pub fn strikes(&self, fault: Fault) -> Option<u64> {
        let mut state = self.state.lock();
        let calm = state.calm;
        let seed = self.seed;
        let (rng, number) =
            state.streams.entry(fault).or_insert_with(|| (stream(seed, 1_000 + fault as u64), 0));
        let (roll, shape) = (rng.random_range(0..100_000), rng.next_u64());
        if roll >= fault.per_100_000(self.level) {
            return None;
        }
        let what = Occurrence { fault, number: *number };
        *number += 1;
        if calm || self.only.as_ref().is_some_and(|only| !only.contains(&what)) {
            return None;
        }
        let at_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        state.struck.push(Struck { what, at_ms });
        Some(shape)
    }

    /// From now on nothing goes wrong any more.
    pub fn calm(&self) {
        self.state.lock().calm = true;
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.state.lock().calm
    }

    /// What struck, in order.
    pub fn struck(&self) -> Vec<Struck> {
        self.state.lock().struck.clone()
    }

    /// An ordinary delay: mostly short, now and then a hundred times as long.
    pub fn delay(&self, usual_ms: u64) -> Duration {
        let mut state = self.state.lock();
        let dice = &mut state.dice;
        let long = if dice.random_range(0..50) == 0 { 20 } else { 1 };
        Duration::from_micros(dice.random_range(200..usual_ms.max(1) * 1_000) * long)
    }

    /// Random numbers for one actor's ordinary doings.
    pub fn dice(&self, actor: u64) -> SmallRng {
        stream(self.seed, 1_000_000 + actor)
    }
}

impl fmt::Debug for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weather")
            .field("seed", &self.seed)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// What goes wrong inside the world in memory. Calls of ports have their weather outside it, where it is known who calls.
impl kutover_memory::Weather for Weather {
    /// Only the journal takes its time in there, so that a writer can die in the middle of an entry.
    fn call(&self, name: &str) -> CallWeather {
        let before_ms = if name == "journal.append" { 1 + ms(self.delay(4)) } else { 0 };
        CallWeather { before_ms, ..CallWeather::default() }
    }

    fn unfinished_append(&self) -> UnfinishedAppend {
        let dice = &mut self.state.lock().dice;
        match dice.random_range(0..4) {
            0 => UnfinishedAppend::Whole,
            1 => UnfinishedAppend::Late { after_ms: dice.random_range(1..20_000) },
            2 => UnfinishedAppend::Torn,
            _ => UnfinishedAppend::Lost,
        }
    }

    fn record(&self, _: &ClusterId, _: &TopicPartition) -> RecordWeather {
        let slow = self.strikes(Fault::BrokerSlow).map_or(0, |shape| ms(shaped(shape, 500, 20_000)));
        let fate = if self.strikes(Fault::AckLost).is_some() {
            RecordFate::AckLost
        } else if self.strikes(Fault::NotWritten).is_some() {
            RecordFate::NotWritten
        } else if let Some(shape) = self.strikes(Fault::LateAppend) {
            RecordFate::LateAppend { after_ms: ms(shaped(shape, 1_000, 120_000)) }
        } else {
            RecordFate::Acknowledged
        };
        RecordWeather { reach_ms: 1 + ms(self.delay(4)) + slow, answer_ms: 1 + ms(self.delay(4)), fate }
    }

    fn fence_ms(&self, _: &ClusterId, _: i32) -> u64 {
        self.strikes(Fault::FenceSpreads).map_or(5, |shape| ms(shaped(shape, 50, 8_000)))
    }

    fn visible_ms(&self, _: &DnsName) -> u64 {
        self.strikes(Fault::VisibleLate).map_or(50, |shape| ms(shaped(shape, 500, 15_000)))
    }

    fn answer(&self, _: &str, _: &DnsName) -> AnswerWeather {
        let fate = if self.strikes(Fault::ResolverDead).is_some() {
            AnswerFate::Dead
        } else if self.strikes(Fault::ResolverFails).is_some() {
            AnswerFate::ServFail
        } else if self.strikes(Fault::ResolverEmpty).is_some() {
            AnswerFate::Empty
        } else if self.strikes(Fault::ResolverStale).is_some() {
            AnswerFate::Old
        } else {
            AnswerFate::Fresh
        };
        AnswerWeather { delay_ms: 1 + ms(self.delay(5)), fate }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A stream of random numbers that depends on the seed and its own number alone.
pub(crate) fn stream(seed: u64, number: u64) -> SmallRng {
    let mut mixer = SmallRng::seed_from_u64(seed ^ 0x5EED_0F5E_ED00);
    SmallRng::seed_from_u64(mixer.next_u64() ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// As [`shaped`], and mostly in the lowest twentieth: what comes to its end soon leaves time for more to go wrong.
pub(crate) fn mostly_short(shape: u64, from_ms: u64, to_ms: u64) -> Duration {
    let to_ms = if (shape >> 32).is_multiple_of(5) { to_ms } else { from_ms + (to_ms - from_ms) / 20 };
    shaped(shape, from_ms, to_ms)
}

/// A time from a fault's shape, between two bounds.
pub(crate) fn shaped(shape: u64, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(from_ms + shape % (to_ms - from_ms).max(1))
}
