//! What stands in the two topics `kutover.control` and `kutover.members`, as JSON.
//!
//! Both topics have one partition and are compacted; [`ControlMessage::key`] and [`MemberState::key`] say under which
//! key a message stands. After a claim, messages of lower terms are ignored ([`ControlView`] does that).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chain::{Chain, Segment};
use crate::controls::{Control, without};
use crate::owner::{Intent, Target};
use crate::words::{
    ClusterId, Colour, DeploymentName, Generation, InstanceName, Nonce, Term, TopicName, TopicPartition,
};

/// A message of the controller in `kutover.control`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlMessage {
    /// Whose control topic it is meant for.
    pub deployment: DeploymentName,
    /// The controller that says it.
    pub term: Term,
    /// What it says.
    pub body: ControlBody,
}

/// What the controller says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ControlBody {
    /// A controller's first word: from here on lower terms are ignored.
    Claim {
        /// The attempt.
        nonce: Nonce,
    },
    /// Where producers belong. Said only after the owner record's compare-and-set.
    Announce {
        /// The target.
        target: Target,
    },
    /// A rollback has been decided on: refusals are parked, not returned.
    Intent {
        /// The rollback, or `None` when it is over.
        intent: Option<Intent>,
    },
    /// A fence stands, or is about to stand, on this colour: a refusal there is a hint to look for a newer target.
    Fence {
        /// The fenced colour.
        colour: Colour,
        /// Whether it stands (or is about to).
        up: bool,
    },
    /// A part of the chain: the segments of up to [`ControlBody::CHAIN_PARTITIONS`] neighbouring partitions of one topic.
    Chain {
        /// The topic.
        topic: TopicName,
        /// These partitions' segments, oldest first.
        #[serde(with = "numbered")]
        partitions: BTreeMap<i32, Vec<Segment>>,
    },
}

/// A list of pairs: the keys of a JSON object are texts, and a tagged enum reads them back as nothing else.
mod numbered {
    use super::{BTreeMap, Deserialize, Segment, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        map: &BTreeMap<i32, Vec<Segment>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<i32, Vec<Segment>>, D::Error> {
        Ok(Vec::<(i32, Vec<Segment>)>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl ControlBody {
    /// Partitions of a topic that share one message. A segment takes some 140 bytes: below Kafka's default limit of
    /// 1,048,588 bytes per batch (`max.message.bytes`) there is room for 140 generations.
    pub const CHAIN_PARTITIONS: i32 = 50;

    /// The messages that carry a whole chain.
    pub fn of_chain(chain: &Chain) -> Vec<Self> {
        let mut parts: BTreeMap<(&TopicName, i32), BTreeMap<i32, Vec<Segment>>> = BTreeMap::new();
        for (place, segments) in chain.iter() {
            let part = (&place.topic, place.partition / Self::CHAIN_PARTITIONS);
            parts.entry(part).or_default().insert(place.partition, segments.to_vec());
        }
        let body = |((topic, _), partitions): ((&TopicName, i32), _)| ControlBody::Chain {
            topic: topic.clone(),
            partitions,
        };
        parts.into_iter().map(body).collect()
    }
}

impl ControlMessage {
    /// The key under which compaction keeps the newest message.
    ///
    /// The deployment is part of it, and so is the term: what a stranger writes, or a controller that was superseded and
    /// wakes late (L20), must not take away what is in force. Readers do not heed such a message, compaction does.
    pub fn key(&self) -> String {
        let what = match &self.body {
            ControlBody::Claim { .. } => "claim".into(),
            ControlBody::Announce { .. } => "target".into(),
            ControlBody::Intent { .. } => "intent".into(),
            ControlBody::Fence { colour, .. } => format!("fence/{colour}"),
            ControlBody::Chain { topic, partitions } => {
                let first = partitions.keys().next().copied().unwrap_or_default();
                format!("chain/{topic}/{}", first / ControlBody::CHAIN_PARTITIONS)
            }
        };
        format!("{}/{}/{what}", self.deployment, self.term.0)
    }
}

/// What the control topic of one cluster says as a whole, folded from its messages in log order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlView {
    /// Whose topic it is: the deployment of its first message. What others write counts for nothing, and nobody of
    /// another deployment may heed it.
    pub deployment: Option<DeploymentName>,
    /// The highest term that has claimed the topic.
    pub term: Term,
    /// The nonce of that claim.
    pub claim: Option<Nonce>,
    /// The target of the highest generation.
    pub target: Option<Target>,
    /// A rollback under way.
    pub intent: Option<Intent>,
    /// The colours under an announced fence.
    pub fenced: Vec<Colour>,
    /// The chain.
    pub chain: Chain,
}

impl ControlView {
    /// Takes in the next message. Returns whether it counted: one of a term below the highest claim does not, nor one
    /// of another deployment.
    pub fn apply(&mut self, message: &ControlMessage) -> bool {
        let ours = self.deployment.get_or_insert_with(|| message.deployment.clone());
        let overtaken = message.term < self.term && !without(Control::ClaimsIgnored);
        if *ours != message.deployment || overtaken {
            return false;
        }
        match &message.body {
            ControlBody::Claim { nonce } => {
                self.term = message.term;
                self.claim = Some(nonce.clone());
            }
            ControlBody::Announce { target } => {
                if self.target.as_ref().is_none_or(|known| known.generation < target.generation) {
                    self.target = Some(target.clone());
                }
            }
            ControlBody::Intent { intent } => self.intent.clone_from(intent),
            ControlBody::Fence { colour, up } => {
                self.fenced.retain(|fenced| fenced != colour);
                if *up {
                    self.fenced.push(*colour);
                }
            }
            ControlBody::Chain { topic, partitions } => {
                for (partition, segments) in partitions {
                    let place = TopicPartition { topic: topic.clone(), partition: *partition };
                    self.chain.replace(place, segments.clone());
                }
            }
        }
        true
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberKind {
    /// A `BlueGreenProducer`.
    Producer,
    /// A reader of the chain.
    Consumer,
}

/// How often a member says that it is alive, in milliseconds, unless it is told otherwise.
pub const HEARTBEAT_MS: u64 = 5_000;

/// Within this time everybody who lives has said so: two heartbeats with their jitter, and the time it takes to write one.
pub const HEARD_AGAIN_MS: u64 = HEARTBEAT_MS * 5 / 2;

/// A producer's word that it moved: progress, not proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The generation it moved to.
    pub generation: Generation,
    /// The cluster it left.
    pub from: ClusterId,
    /// The cluster it is on.
    pub to: ClusterId,
    /// Records acknowledged on the cluster it left, over the life of that client.
    pub acknowledged: u64,
    /// Records of unknown fate that were sent again: the bound on duplicates of this switch.
    pub possibly_duplicated: u64,
    /// Records returned to the caller by this switch.
    pub returned: u64,
    /// Milliseconds the gate was closed.
    pub sealed_ms: u64,
    /// Producer ids that the client it left was given, from librdkafka's statistics.
    pub producer_ids: Vec<i64>,
}

/// All that a member says of itself: each message carries the whole of it, so that compaction loses nothing.
/// A tombstone (no value) under its [`key`](MemberState::key) says that it ended properly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// What it is.
    pub kind: MemberKind,
    /// Its name.
    pub instance: InstanceName,
    /// One run of it: a random text, other at every start.
    pub incarnation: String,
    /// Counts this incarnation's messages, from 1: liveness is a number that grows, not a clock.
    pub heartbeat: u64,
    /// The generation it is in.
    pub generation: Generation,
    /// The cluster that its records go to.
    pub cluster_id: ClusterId,
    /// Every move of this incarnation, oldest first.
    pub receipts: Vec<Receipt>,
}

impl MemberState {
    /// A member that has said nothing yet.
    pub fn new(kind: MemberKind, instance: InstanceName, incarnation: String) -> Self {
        Self {
            kind,
            instance,
            incarnation,
            heartbeat: 0,
            generation: Generation(0),
            cluster_id: ClusterId::new(""),
            receipts: Vec::new(),
        }
    }

    /// The next message: one heartbeat on, from where the member is now.
    pub fn beat(&mut self, target: &Target) -> Self {
        self.heartbeat += 1;
        self.generation = target.generation;
        self.cluster_id = target.cluster_id.clone();
        self.clone()
    }

    /// The key under which the newest state stands.
    pub fn key(&self) -> String {
        let kind = match self.kind {
            MemberKind::Producer => "producer",
            MemberKind::Consumer => "consumer",
        };
        format!("{kind}/{}/{}", self.instance, self.incarnation)
    }

    /// The receipt for a move to a generation, if it has given one.
    pub fn receipt_for(&self, generation: Generation) -> Option<&Receipt> {
        self.receipts.iter().find(|receipt| receipt.generation == generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::ClosedBy;
    use crate::words::Offset;

    fn target(generation: u64) -> Target {
        Target {
            generation: Generation(generation),
            colour: Colour::Green,
            cluster_id: "g".into(),
            bootstrap: vec!["127.0.0.3:9092".into()],
        }
    }

    fn say(term: u64, body: ControlBody) -> ControlMessage {
        ControlMessage { deployment: "orders".into(), term: Term(term), body }
    }

    /// L20: after a claim, what a controller of an older term still writes counts for nothing.
    #[test]
    fn lower_terms_are_ignored_after_a_claim() {
        let mut view = ControlView::default();
        assert!(view.apply(&say(1, ControlBody::Announce { target: target(1) })));
        assert!(view.apply(&say(2, ControlBody::Claim { nonce: "n".into() })));
        assert!(!view.apply(&say(1, ControlBody::Announce { target: target(2) })));
        assert_eq!(view.target.as_ref().map(|t| t.generation), Some(Generation(1)));
        assert!(view.apply(&say(2, ControlBody::Announce { target: target(3) })));
        assert!(
            view.apply(&say(2, ControlBody::Announce { target: target(2) })),
            "counts, but moves nobody back"
        );
        assert_eq!(view.target.as_ref().map(|t| t.generation), Some(Generation(3)));
    }

    /// A controller of another deployment moves nobody.
    #[test]
    fn another_deployment_counts_for_nothing() {
        let mut view = ControlView::default();
        view.apply(&say(1, ControlBody::Announce { target: target(1) }));
        let foreign = ControlMessage {
            deployment: "payments".into(),
            ..say(9, ControlBody::Announce { target: target(2) })
        };
        assert!(!view.apply(&foreign));
        let claim = ControlMessage {
            deployment: "payments".into(),
            ..say(9, ControlBody::Claim { nonce: "n".into() })
        };
        assert!(!view.apply(&claim));
        assert_eq!((view.term, view.target), (Term(0), Some(target(1))));
        assert_eq!(view.deployment, Some("orders".into()));
    }

    #[test]
    fn a_fence_goes_up_and_down_per_colour() {
        let mut view = ControlView::default();
        view.apply(&say(1, ControlBody::Fence { colour: Colour::Blue, up: true }));
        view.apply(&say(1, ControlBody::Fence { colour: Colour::Blue, up: true }));
        assert_eq!(view.fenced, [Colour::Blue]);
        view.apply(&say(1, ControlBody::Fence { colour: Colour::Blue, up: false }));
        assert!(view.fenced.is_empty());
    }

    /// L20: a controller wakes in the middle of its words, and they land behind those of its successor. Compaction keeps the
    /// last message of each key, and who reads after it must see the same as who read before.
    #[test]
    fn compaction_takes_nothing_away_that_is_in_force() {
        let mut chain = Chain::default();
        let mut words_of = |term, generation| {
            let place = TopicPartition::new("orders", 0);
            chain.open(place, Generation(generation), Colour::Green, "g".into(), Offset(0)).unwrap();
            let chain = ControlBody::of_chain(&chain);
            [ControlBody::Claim { nonce: "n".into() }, ControlBody::Announce { target: target(generation) }]
                .into_iter()
                .chain(chain)
                .map(move |body| say(term, body))
                .collect::<Vec<_>>()
        };
        let (late, in_force) = (words_of(1, 7), words_of(2, 8));
        let log = [late.clone(), in_force, late].concat();
        let is_last = |at: usize| log[at + 1..].iter().all(|later| later.key() != log[at].key());
        let compacted = log.iter().enumerate().filter(|(at, _)| is_last(*at)).map(|(_, message)| message);
        let read = |messages: &mut dyn Iterator<Item = &ControlMessage>| {
            let mut view = ControlView::default();
            messages.for_each(|message| {
                view.apply(message);
            });
            view
        };
        let (before, after) = (read(&mut log.iter()), read(&mut compacted.into_iter()));
        assert_eq!((after.term, &after.target, &after.chain), (before.term, &before.target, &before.chain));
        assert_eq!(after.target.unwrap().generation, Generation(8));
    }

    #[test]
    fn messages_survive_json() {
        let segment = Segment {
            generation: Generation(1),
            colour: Colour::Blue,
            cluster_id: "b".into(),
            start: Offset(4),
            end: crate::chain::SegmentEnd::Open,
        };
        let bodies = [
            ControlBody::Claim { nonce: "n".into() },
            ControlBody::Announce { target: target(9) },
            ControlBody::Intent { intent: None },
            ControlBody::Fence { colour: Colour::Green, up: true },
            ControlBody::Chain { topic: "orders".into(), partitions: [(0, vec![segment])].into() },
        ];
        for body in bodies {
            let message = say(4, body);
            let json = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<ControlMessage>(&json).unwrap(), message);
        }
    }

    /// A wide topic's chain after many generations: every message stays below Kafka's default limit, compaction keeps each
    /// part, and the parts make up the whole.
    #[test]
    fn a_chain_of_many_partitions_goes_out_in_parts() {
        let mut chain = Chain::default();
        for partition in 0..1_000 {
            let place = TopicPartition { topic: "a-topic-with-a-long-name".into(), partition };
            for generation in 1..=100 {
                let (generation, offset) = (Generation(generation), Offset(1 << 40));
                chain
                    .open(place.clone(), generation, Colour::Green, "kPZTJNkFSDqdvR2kNUFm9g".into(), offset)
                    .unwrap();
                chain.close(&place, generation, offset, ClosedBy::Barrier).unwrap();
            }
        }
        let messages: Vec<_> = ControlBody::of_chain(&chain).into_iter().map(|body| say(1, body)).collect();
        let mut view = ControlView::default();
        let mut keys = std::collections::BTreeSet::new();
        for message in &messages {
            assert!(serde_json::to_vec(message).unwrap().len() < 1_000_000);
            assert!(keys.insert(message.key()), "{} twice", message.key());
            view.apply(message);
        }
        assert_eq!(view.chain, chain);
    }
}
