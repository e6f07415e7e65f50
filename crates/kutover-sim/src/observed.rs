//! What really happened in a world: the ground truth that the invariants are checked against.
//!
//! Everything here is seen from outside: appends in the logs, compare-and-sets that went through, fences raised and lifted,
//! clusters isolated and destroyed, what readers were handed. Where kutover's own words are kept (receipts, chain, states),
//! they are what is being checked.

use std::collections::{BTreeMap, BTreeSet};

use kutover_core::chain::{ClosedBy, Segment, SegmentEnd};
use kutover_core::cutover::StateName;
use kutover_core::messages::Receipt;
use kutover_core::ports::Published;
use kutover_core::words::{
    ClusterId, Colour, Generation, GroupId, IncarnationId, Nonce, Offset, Term, TopicName, TopicPartition,
};

/// A record's name: its place in [`Observed::records`].
pub type RecordId = usize;

/// How a record ended for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Acknowledged by this cluster.
    Acknowledged(ClusterId),
    /// Returned as not written.
    NotWritten,
    /// Returned as unknown.
    Unknown,
}

/// A record that a producer accepted.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Who accepted it.
    pub producer: usize,
    /// In which of its runs: a process that was killed and started again begins anew.
    pub life: u64,
    /// Its key: order is promised per key of one producer.
    pub key: u8,
    /// Its topic.
    pub topic: usize,
    /// Its place in the producer's send order.
    pub sequence: u64,
    /// When it was accepted, in milliseconds since the world began.
    pub accepted_ms: u64,
    /// How it ended, and when.
    pub endings: Vec<(u64, Option<Ending>)>,
    /// Its producer was told at some time that it may have been written.
    pub unknown: bool,
    /// Its producer's process died with it.
    pub died: bool,
}

/// A send that waited at a switch, until a client had its record or its caller had it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Whose.
    pub producer: usize,
    /// From when, in milliseconds since the world began.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// How much of it was for room: before the record was accepted, in milliseconds.
    pub room_ms: u64,
}

/// A client that was settled behind its closed gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Whose.
    pub producer: usize,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What the policies say of how long a send waits at a switch, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitBounds {
    /// Behind a closed gate: after its delivery time-out a record is returned. For room: after as long one that was there
    /// before has made some.
    pub parked_ms: u64,
    /// Until a client is settled: then what is left is purged.
    pub seal_ms: u64,
    /// In all, while a controller is awake and nothing goes wrong.
    pub switch_ms: u64,
}

/// A record in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// When.
    pub at_ms: u64,
    /// Where.
    pub cluster: ClusterId,
    /// Where there.
    pub place: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// What.
    pub record: RecordId,
}

/// Something that a controller did to the world, or the world to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A controller asks for a cluster, by this request; said when the call sets out, whatever becomes of it.
    Requested(Colour, Nonce),
    /// A cluster was made for a request, or stood there before the first controller.
    Made(Colour, IncarnationId, ClusterId, Nonce),
    /// A compare-and-set of the first endpoint went through.
    Published(Box<Published>),
    /// A cluster refuses records of these topics.
    Fenced(ClusterId, Vec<TopicName>),
    /// It takes them again; asked for at this time, in milliseconds since the world began.
    Lifted(ClusterId, Vec<TopicName>, u64),
    /// Clients are shut out.
    Isolated(ClusterId, Nonce),
    /// They are let in again.
    PutBack(ClusterId, Nonce),
    /// It is gone.
    Destroyed(IncarnationId, ClusterId),
    /// A control topic was told a chain.
    Chain(ClusterId, TopicName, BTreeMap<i32, Vec<Segment>>),
    /// A controller entered a state.
    Entered(StateName),
    /// A controller said that it gives up the cluster of this generation, which does not answer.
    GivenUp(Generation),
    /// Retention deleted everything before this offset.
    Retained(ClusterId, TopicPartition, Offset),
    /// Commits that really went: of which group, where.
    OffsetsExpired(ClusterId, Vec<(GroupId, TopicPartition)>),
    /// A cluster, a broker of it or the leader of a partition is out of reach for a while.
    OutOfReach(ClusterId),
}

/// An act, by whom and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// Which controller; `None`: the world.
    pub by: Option<usize>,
    /// What.
    pub act: Act,
}

/// A member's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it stood in the topic.
    pub at_ms: u64,
    /// Who.
    pub producer: usize,
    /// The generation that it says it is in.
    pub generation: Generation,
    /// All its receipts.
    pub receipts: Vec<Receipt>,
}

/// What a group was handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// When.
    pub at_ms: u64,
    /// By which cluster.
    pub cluster: ClusterId,
    /// From where.
    pub place: TopicPartition,
    /// At which offset.
    pub offset: Offset,
    /// What.
    pub record: RecordId,
}

/// How a group reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Segment by segment, along the chain.
    Chain,
    /// As stock consumers do, from every cluster that it finds.
    Stock,
}

/// A group and what it was handed.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How it reads.
    pub reading: Reading,
    /// What it reads.
    pub topics: BTreeSet<TopicName>,
    /// When it first read.
    pub born_ms: u64,
    /// What it was handed, in order.
    pub handed: Vec<Handed>,
    /// Where it found that retention had taken what it was to read next, in order.
    pub skipped: Vec<Skipped>,
}

impl Group {
    /// Where it had begun to read by an instant.
    pub(crate) fn begun(&self, at_ms: u64) -> Begun<'_> {
        if self.born_ms < LATE_MS {
            return Begun(None);
        }
        let mut first: BTreeMap<(&ClusterId, &TopicPartition), Offset> = BTreeMap::new();
        for handed in self.handed.iter().filter(|handed| handed.at_ms <= at_ms) {
            let known = first.entry((&handed.cluster, &handed.place)).or_insert(handed.offset);
            *known = handed.offset.min(*known);
        }
        Begun(Some(first))
    }
}

/// Who reads later than this was born late: nothing that came before is due to it.
const LATE_MS: u64 = 1_000;

/// Where a group began to read, on each cluster; `None` inside: it was there first.
pub(crate) struct Begun<'a>(Option<BTreeMap<(&'a ClusterId, &'a TopicPartition), Offset>>);

impl Begun<'_> {
    /// The first offset that is due to it; `None` where it has not begun.
    pub(crate) fn on(&self, cluster: &ClusterId, place: &TopicPartition) -> Option<Offset> {
        match &self.0 {
            None => Some(Offset(0)),
            Some(first) => first.get(&(cluster, place)).copied(),
        }
    }
}

/// A group went on behind what retention had deleted, as `auto.offset.reset=earliest` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// When.
    pub at_ms: u64,
    /// On which cluster.
    pub cluster: ClusterId,
    /// Where.
    pub place: TopicPartition,
    /// Where it goes on.
    pub to: Offset,
}

/// What a producer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its name.
    pub name: String,
    /// Whether it keeps order.
    pub ordered: bool,
    /// Whether it is kutover's: otherwise a stranger, about whom nothing is promised but that it is fenced.
    pub ours: bool,
    /// Duplicates that it counted as possible.
    pub possibly_duplicated: u64,
    /// For how long its threads slept inside sends, in milliseconds: a seal waits for each of them.
    pub slept_ms: u64,
    /// The clusters to which its gate was opened, and when: by the client's word, not by that of its receipts.
    pub moves: Vec<(u64, ClusterId)>,
}

/// A cutover that the operator took back, because it was held again and again with nothing left to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// The state in which it was held.
    pub state: Option<StateName>,
    /// For what, in the machine's words.
    pub why: String,
}

/// How the world stands at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Clusters that stand, with their fenced topics and whether they are isolated.
    pub standing: BTreeMap<ClusterId, (Vec<TopicName>, bool)>,
    /// What stands at the first endpoint.
    pub published: Published,
    /// The terms of the journal's entries, in order: also of those that landed when their writer was gone.
    pub journal: Vec<Term>,
    /// What never came to its end.
    pub stuck: Vec<String>,
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every accepted record.
    pub records: Vec<Record>,
    /// Every append, in order.
    pub appends: Vec<Append>,
    /// Every act, in order.
    pub acts: Vec<Acted>,
    /// Every member's word, in order.
    pub told: Vec<Told>,
    /// Every group.
    pub groups: Vec<Group>,
    /// Every producer.
    pub producers: Vec<Producer>,
    /// Every send that waited.
    pub waits: Vec<Wait>,
    /// Every client that was settled.
    pub seals: Vec<Sealed>,
    /// How long that may take.
    pub bounds: WaitBounds,
    /// When the last fault had ended, in milliseconds since the world began.
    pub calm_ms: Option<u64>,
    /// From when until when some controller was awake, in order.
    pub controlled: Vec<(u64, u64)>,
    /// The TTL of the endpoint while it is switched, in milliseconds.
    pub ttl_ms: u64,
    /// Every cutover that the operator took back so.
    pub taken_back: Vec<TakenBack>,
    /// What a machine said of itself.
    pub broken: Vec<String>,
    /// Panics, of whatever task.
    pub panics: Vec<String>,
    /// The end.
    pub end: End,
}

impl Observed {
    /// The owner records that stood, in order, with when and by whom they were written.
    pub fn owners(&self) -> impl Iterator<Item = (&Acted, &kutover_core::owner::OwnerRecord)> {
        self.acts.iter().filter_map(|acted| match &acted.act {
            Act::Published(published) => Some((acted, published.owner.as_ref()?)),
            _ => None,
        })
    }

    /// The owner record that stood at an instant.
    pub fn owner_at(&self, index: usize) -> Option<&kutover_core::owner::OwnerRecord> {
        self.acts[..index].iter().rev().find_map(|acted| match &acted.act {
            Act::Published(published) => published.owner.as_ref(),
            _ => None,
        })
    }

    /// Whether an act is that of the controller whose owner record stood then: an older one may do anything late.
    pub fn is_in_force(&self, index: usize) -> bool {
        let published = |acted: &&Acted| matches!(acted.act, Act::Published(_));
        let publisher = self.acts[..index].iter().rev().find(published);
        publisher.is_some_and(|publisher| publisher.by == self.acts[index].by)
    }

    /// Every segment that was ever told.
    pub fn chains(&self) -> Chains {
        let mut chains = Chains::default();
        for acted in &self.acts {
            let Act::Chain(_, topic, partitions) = &acted.act else { continue };
            for (partition, segments) in partitions {
                let place = TopicPartition { topic: topic.clone(), partition: *partition };
                let known = chains.0.entry(place).or_default();
                for segment in segments {
                    if !known.contains(segment) {
                        known.push(segment.clone());
                    }
                }
            }
        }
        chains
    }

    /// The records of a cluster that were appended before an instant, by partition, in order.
    pub fn appended(&self, cluster: &ClusterId, before_ms: u64) -> BTreeMap<&TopicPartition, Vec<&Append>> {
        let mut appended: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for append in &self.appends {
            if append.cluster == *cluster && append.at_ms < before_ms {
                appended.entry(&append.place).or_default().push(append);
            }
        }
        appended
    }

    /// Of which groups, and where, commits had expired by an instant, with the cluster that forgot them.
    pub fn expired(&self, until_ms: u64) -> impl Iterator<Item = (&ClusterId, &GroupId, &TopicPartition)> {
        let acts = self.acts.iter().filter(move |acted| acted.at_ms <= until_ms);
        let expired = acts.filter_map(|acted| match &acted.act {
            Act::OffsetsExpired(cluster, expired) => Some((cluster, expired)),
            _ => None,
        });
        expired
            .flat_map(|(cluster, expired)| expired.iter().map(move |(group, place)| (cluster, group, place)))
    }

    /// The first offsets that retention had left by an instant, wherever it had deleted anything.
    pub fn retained(&self, until_ms: u64) -> BTreeMap<(&ClusterId, &TopicPartition), Offset> {
        let acts = self.acts.iter().filter(|acted| acted.at_ms <= until_ms);
        let retained = acts.filter_map(|acted| match &acted.act {
            Act::Retained(cluster, place, start) => Some(((cluster, place), *start)),
            _ => None,
        });
        // The start of a log only grows.
        retained.collect()
    }

    /// Whether a cluster, or a part of it, was ever out of reach.
    pub fn was_out_of_reach(&self, cluster: &ClusterId) -> bool {
        self.acts.iter().any(|acted| matches!(&acted.act, Act::OutOfReach(out) if out == cluster))
    }

    /// How often each record stands in a log.
    pub fn copies(&self) -> Vec<u32> {
        let mut copies = vec![0; self.records.len()];
        for append in &self.appends {
            copies[append.record] += 1;
        }
        copies
    }
}

impl Observed {
    /// Lifted fences that nobody wanted lifted any more: raised by a later act than the one that asked to lift them, which
    /// was carried out when nobody waited for it any more. Cluster, and when.
    pub fn overtaken_lifts(&self) -> impl Iterator<Item = (&ClusterId, u64)> {
        self.acts.iter().filter_map(|acted| {
            let Act::Lifted(cluster, _, asked_ms) = &acted.act else { return None };
            let raised = |other: &&Acted| match &other.act {
                Act::Fenced(on, _) => on == cluster && *asked_ms < other.at_ms && other.at_ms <= acted.at_ms,
                _ => false,
            };
            self.acts.iter().find(raised).map(|_| (cluster, acted.at_ms))
        })
    }

    /// Whether a record stands behind an end that a fence closed, on a cluster whose fence was lifted so.
    pub fn is_behind_a_lifted_fence(&self, chains: &Chains, append: &Append) -> bool {
        let closed = |segment: &Segment| match segment.end {
            SegmentEnd::Closed { by: ClosedBy::Fence, end } => append.offset >= end,
            _ => false,
        };
        chains.of(&append.cluster, &append.place).any(closed)
            && self
                .overtaken_lifts()
                .any(|(cluster, at_ms)| *cluster == append.cluster && at_ms <= append.at_ms)
    }
}

/// Every segment that was ever told, by partition: made once, since a run is asked of it thousands of times.
#[derive(Clone, Debug, Default)]
pub struct Chains(BTreeMap<TopicPartition, Vec<Segment>>);

impl Chains {
    /// Whether a segment was ever given up.
    pub fn has_unreadable(&self) -> bool {
        self.0.values().flatten().any(|segment| segment.end == SegmentEnd::Unreadable)
    }

    /// The segments of a partition on a cluster.
    pub fn of<'a>(
        &'a self,
        cluster: &'a ClusterId,
        place: &TopicPartition,
    ) -> impl Iterator<Item = &'a Segment> + use<'a> {
        let told = self.0.get(place).into_iter().flatten();
        told.filter(|segment| segment.cluster_id == *cluster)
    }

    /// Whether an append stands behind an end that a quiet window closed: in no segment, because the fence was waived.
    pub fn is_behind_quiet(&self, append: &Append) -> bool {
        self.of(&append.cluster, &append.place).any(|segment| match segment.end {
            SegmentEnd::Closed { by: ClosedBy::Quiet, end } => append.offset >= end,
            _ => false,
        })
    }
}
