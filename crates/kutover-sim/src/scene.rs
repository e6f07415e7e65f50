//! What a seed's world looks like before anything happens in it.

use std::collections::BTreeSet;

use kutover_core::cutover::{Approval, FencePolicy, Plan, SeparationPolicy, StateName, Timings, Topics};
use kutover_core::decisions::separation::Room;
use kutover_core::switch::Order;
use kutover_core::words::{Colour, DeploymentName, GroupId, TopicName, TopicPartition};
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::observed::Reading;
use crate::weather::{Fault, Weather, shaped, stream};

/// What moves the producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// kutover.
    Kutover,
    /// The published recipe: a new client on a timer, the old one dropped as it is.
    Recipe,
    /// DNS alone, with stock clients.
    DnsOnly,
}

/// One producer.
#[derive(Clone, Debug)]
pub struct ProducerScene {
    /// Its name; two may share one.
    pub name: String,
    /// Whether it keeps order.
    pub order: Order,
    /// When it starts, in milliseconds.
    pub starts_ms: u64,
    /// The usual time between two records, in milliseconds.
    pub gap_ms: u64,
    /// What its clock says when the world begins, and how many thousandths faster it runs.
    pub clock: (u64, i64),
    /// It is not kutover's, and knows one cluster for ever.
    pub stranger: bool,
}

/// One group.
#[derive(Clone, Debug)]
pub struct GroupScene {
    /// Its name.
    pub name: String,
    /// How it reads.
    pub reading: Reading,
    /// When it first reads, in milliseconds.
    pub born_ms: u64,
    /// The time between two fetches, in milliseconds.
    pub poll_ms: u64,
    /// What it reads.
    pub topics: BTreeSet<TopicName>,
}

/// How many of each a world has; `None`: as the seed has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Producers.
    pub producers: Option<u32>,
    /// Groups; in a crowd one for ten producers.
    pub groups: Option<u32>,
    /// Resolvers; one for three producers.
    pub resolvers: Option<u32>,
}

/// From so many producers on a world is a crowd: it has more of everything, and each does less.
const CROWD: u32 = 100;

/// One cutover of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether the operator wants back in the middle of it: from which state on, and how many milliseconds later.
    pub back: Option<(StateName, u64)>,
}

/// A seed's world.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The seed.
    pub seed: u64,
    /// Topics with their partitions.
    pub topics: Vec<(TopicName, i32)>,
    /// Producers.
    pub producers: Vec<ProducerScene>,
    /// Groups.
    pub groups: Vec<GroupScene>,
    /// Resolvers.
    pub resolvers: usize,
    /// After so many records a producer sends half as often.
    pub burst: u64,
    /// Cutovers, in order.
    pub steps: Vec<Step>,
    /// The plan of every cutover, but for the colour.
    pub plan: Plan,
    /// The ordinary TTL, in seconds.
    pub ordinary_ttl_s: u32,
    /// For how long things go wrong, in milliseconds.
    pub safety_ms: u64,
    /// Whether clusters can be isolated.
    pub isolates: bool,
    /// What moves the producers.
    pub strategy: Strategy,
    /// Milliseconds after which a client gives a record up.
    pub delivery_timeout_ms: u64,
}

impl Scene {
    /// Draws a seed's world.
    pub fn draw(weather: &Weather, seed: u64, size: Size, strategy: Strategy) -> Self {
        let mut dice = stream(seed, 2);
        // Most worlds are small, so that there are many; a few are large.
        let drawn = match dice.random_range(0..20) {
            0 => dice.random_range(12..40),
            _ => dice.random_range(2..7),
        };
        let count = size.producers.unwrap_or(drawn);
        let topic_count = if count < CROWD { dice.random_range(1..=2) } else { (count / 250).clamp(3, 8) };
        let topics = (0..topic_count)
            .map(|n| (TopicName::new(format!("t{n}")), dice.random_range(1..=3)))
            .collect::<Vec<_>>();
        let waived = strategy != Strategy::Kutover || dice.random_range(0..5) == 0;
        let producers =
            (0..count).map(|n| producer(weather, &mut dice, n, strategy, waived)).collect::<Vec<_>>();
        let drawn = dice.random_range(1..=3);
        let group_count = size.groups.unwrap_or(if count < CROWD { drawn } else { count / 10 });
        let groups =
            (0..group_count).map(|n| group(weather, &mut dice, n, &topics, count)).collect::<Vec<_>>();
        let mut steps = steps(&mut dice);
        if count >= CROWD {
            steps.truncate(1);
        }
        let plan = plan(&mut dice, &groups, waived);
        Self {
            seed,
            topics,
            producers,
            groups,
            resolvers: size.resolvers.unwrap_or(count.div_ceil(3)).max(1) as usize,
            burst: u64::from(1_200 / count.max(1)).clamp(2, 30),
            steps,
            plan,
            ordinary_ttl_s: dice.random_range(5..60),
            safety_ms: dice.random_range(60_000..400_000),
            isolates: dice.random_range(0..4) != 0,
            strategy,
            delivery_timeout_ms: 30_000,
        }
    }

    /// Every partition of every topic.
    pub fn places(&self) -> Vec<TopicPartition> {
        self.topics.iter().flat_map(places_of).collect()
    }

    /// Every partition that a group reads.
    pub fn places_of(&self, group: usize) -> Vec<TopicPartition> {
        let reads = &self.groups[group].topics;
        self.topics.iter().filter(|(topic, _)| reads.contains(topic)).flat_map(places_of).collect()
    }
}

fn places_of((topic, partitions): &(TopicName, i32)) -> impl Iterator<Item = TopicPartition> + use<> {
    let topic = topic.clone();
    (0..*partitions).map(move |partition| TopicPartition { topic: topic.clone(), partition })
}

fn producer(
    weather: &Weather,
    dice: &mut SmallRng,
    n: u32,
    strategy: Strategy,
    waived: bool,
) -> ProducerScene {
    // Without a fence nothing would ever end a stranger's writing, and a removal is held for as long.
    let fenced = strategy == Strategy::Kutover && !waived;
    let stranger = n > 0 && fenced && weather.strikes(Fault::Stranger).is_some();
    let shared = weather.strikes(Fault::NameShared).is_some();
    let late = weather.strikes(Fault::ProducerLate);
    let clock = weather.strikes(Fault::ClockDiffers);
    ProducerScene {
        name: if shared { "shared".into() } else { format!("p{n}") },
        order: if dice.random_range(0..4) == 0 { Order::Overlap } else { Order::Ordered },
        starts_ms: late.map_or(0, |shape| shaped(shape, 1_000, 120_000).as_millis() as u64),
        gap_ms: dice.random_range(40..600),
        clock: clock.map_or((0, 0), |shape| (shape % 1_000_000_000, (shape >> 32) as i64 % 200 - 100)),
        stranger,
    }
}

fn group(
    weather: &Weather,
    dice: &mut SmallRng,
    n: u32,
    topics: &[(TopicName, i32)],
    producers: u32,
) -> GroupScene {
    let slow = weather.strikes(Fault::GroupSlow);
    let late = weather.strikes(Fault::GroupLate).filter(|_| n > 0);
    GroupScene {
        name: format!("g{n}"),
        reading: if dice.random_range(0..2) == 0 { Reading::Chain } else { Reading::Stock },
        born_ms: late.map_or(0, |shape| shaped(shape, 1_000, 120_000).as_millis() as u64),
        poll_ms: slow.map_or_else(
            || dice.random_range(100..900) * u64::from(1 + producers / CROWD).min(8),
            |shape| shaped(shape, 2_000, 15_000).as_millis() as u64,
        ),
        topics: some_of(dice, topics),
    }
}

/// All of a few topics mostly, of many topics one to three.
fn some_of(dice: &mut SmallRng, topics: &[(TopicName, i32)]) -> BTreeSet<TopicName> {
    if topics.len() <= 2 && dice.random_range(0..4) != 0 {
        return topics.iter().map(|(topic, _)| topic.clone()).collect();
    }
    (0..dice.random_range(1..=3)).map(|_| topics[dice.random_range(0..topics.len())].0.clone()).collect()
}

/// Each goes to the colour that is not active then: there, back, there again, whatever a rollback has made of it.
fn steps(dice: &mut SmallRng) -> Vec<Step> {
    let step = |dice: &mut SmallRng| {
        let state = StateName::FORWARD[dice.random_range(2..12)];
        let after_ms = if dice.random_range(0..2) == 0 { 0 } else { dice.random_range(1..8_000) };
        Step { back: (dice.random_range(0..2) == 0).then_some((state, after_ms)) }
    };
    (0..dice.random_range(1..=3)).map(|_| step(dice)).collect()
}

fn plan(dice: &mut SmallRng, groups: &[GroupScene], waived: bool) -> Plan {
    let mut approval = || if dice.random_range(0..3) == 0 { Approval::Manual } else { Approval::Automatic };
    let (approve_redirect, approve_removal) = (approval(), approval());
    let required = groups.iter().filter(|group| group.born_ms == 0);
    Plan {
        deployment: DeploymentName::new("sim"),
        to: Colour::Green,
        topics: Topics::All,
        groups: required
            .map(|group| (GroupId::new(group.name.clone()), Some(group.topics.clone())))
            .collect(),
        waived_groups: BTreeSet::new(),
        waived_history: Topics::All,
        schemas_topic: "_schemas".into(),
        waived_deleted: [].into(),
        waived_members: [].into(),
        waived_replicas: Topics::none(),
        raised_retention: Topics::none(),
        fence: if waived { FencePolicy::Waived } else { FencePolicy::Required },
        connect: None,
        separation: SeparationPolicy::Required(Room { head_room: 1_000, most: 100_000 }),
        approve_redirect,
        approve_removal: if waived { Approval::Manual } else { approve_removal },
        remove_old: dice.random_range(0..5) != 0,
        abandoned: None,
        timings: Timings {
            ttl_s: dice.random_range(1..10),
            converge_ms: dice.random_range(1_000..15_000),
            barrier_ms: dice.random_range(500..10_000),
            quiet_window_ms: dice.random_range(1_000..10_000),
            soak_ms: dice.random_range(100..4_000),
            poll_ms: dice.random_range(100..1_000),
            command_timeout_ms: dice.random_range(3_000..15_000),
            retry_ms: 200,
            hold_limit_ms: Some(dice.random_range(60_000..600_000)),
        },
    }
}
