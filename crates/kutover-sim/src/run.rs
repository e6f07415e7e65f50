//! One seed, one world, one run: faults first, then calm, in which everything has to come to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::switch::SwitchPolicy;
use kutover_core::words::{Colour, GroupId, Nonce, Offset, TopicPartition};
use kutover_memory::MemoryCluster;
use tokio::task::JoinSet;

use crate::data::{SimFactory, SimLinks, SimWatch, resolvers};
use crate::invariants::{self, Violation};
use crate::observed::{Act, End, Group, Observed, Producer, WaitBounds};
use crate::operator::{Operator, Tally};
use crate::panics;
use crate::producer::{self, Reach};
use crate::scene::{Scene, Size, Strategy};
use crate::stock;
use crate::weather::{Fault, Level, Occurrence, Struck, Weather, mostly_short, shaped};
use crate::witness::Witness;
use crate::world::World;

/// After all faults have ended, everything has to come to its end within so many milliseconds of virtual time.
const HEALING_MS: u64 = 2 * 3_600_000;

/// How a world is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much goes wrong.
    pub level: Level,
    /// What moves the producers.
    pub strategy: Strategy,
    /// How many producers, groups and resolvers.
    pub size: Size,
    /// `Some`: only these faults strike.
    pub only: Option<BTreeSet<Occurrence>>,
    /// Keep a line for every event.
    pub lines: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Heavy,
            strategy: Strategy::Kutover,
            size: Size::default(),
            only: None,
            lines: false,
        }
    }
}

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Things that happened.
    pub events: u64,
    /// A hash over all of them, with their times.
    pub trace: u64,
    /// Their lines, if they were to be kept.
    pub lines: Vec<String>,
    /// Cutovers that came to their end.
    pub cutovers: u64,
    /// Cutovers that were rolled back.
    pub rollbacks: u64,
    /// Cutovers that were aborted, each time that one was.
    pub aborts: u64,
    /// Cutovers that the operator took back, since they were held with nothing left to wait for.
    pub taken_back: u64,
    /// Controllers that died.
    pub crashes: u64,
    /// Controllers that slept.
    pub pauses: u64,
    /// Controllers that went on where another had stopped.
    pub resumes: u64,
    /// What went wrong, in order.
    pub struck: Vec<Struck>,
    /// How often each kind of fault of the world in memory really fired, by its name there.
    pub fired: BTreeMap<&'static str, u64>,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// Records: what was lost and the like.
    pub count: invariants::Count,
}

/// Runs one seed.
///
/// # Panics
/// If the runtime cannot be built.
pub fn run(seed: u64, options: &Options) -> Outcome {
    run_beside(seed, options, |_| {})
}

/// Runs one seed, with something more going on in its world.
fn run_beside(seed: u64, options: &Options, beside: impl FnOnce(&Arc<World>)) -> Outcome {
    panics::watch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime for seed {seed}: {error}"));
    runtime.block_on(world(seed, options, beside))
}

async fn world(seed: u64, options: &Options, beside: impl FnOnce(&Arc<World>)) -> Outcome {
    let weather = Arc::new(Weather::new(seed, options.level, options.only.clone()));
    let scene = Scene::draw(&weather, seed, options.size, options.strategy);
    let world = World::new(scene, weather, Witness::new(options.lines));
    first_cluster(&world).await;
    let operator = Operator::new(&world);
    operator.adopt().await;
    let mut actors = JoinSet::new();
    start(&world, &mut actors);
    beside(&world);
    let mut running = tokio::spawn(Arc::clone(&operator).run());
    let safety = tokio::time::sleep(Duration::from_millis(world.scene.safety_ms));
    let early = tokio::select! {
        biased;
        ended = &mut running => Some(ended),
        () = safety => None,
    };
    heal(&world);
    // Nothing is promised for the other strategies, and what waits for them may wait for ever.
    let bound_ms = if options.strategy == Strategy::Kutover { HEALING_MS } else { 600_000 };
    let healing = Duration::from_millis(bound_ms);
    let ended = match early {
        Some(ended) => Ok(ended),
        None => tokio::time::timeout(healing, &mut running).await,
    };
    match ended {
        // That it panicked is known by now, as it is of every task.
        Ok(_) => {}
        Err(_) => {
            running.abort();
            let last = world.last_stop.lock().clone();
            world.witness.observed().end.stuck.push(format!("a cutover never ended: {last:?}"));
        }
    }
    settle(&world, actors).await;
    report(&world, seed, operator.tally())
}

async fn first_cluster(world: &Arc<World>) {
    let provisioner = &world.memory.provisioner;
    provisioner.set_isolates(world.scene.isolates);
    let request = Nonce::new("first");
    let Ok(first) = provisioner.provision(Colour::Blue, &request).await else { return };
    let Some(cluster) = world.memory.cluster(Colour::Blue) else { return };
    for (topic, partitions) in &world.scene.topics {
        cluster.add_topic(topic.as_str(), *partitions);
    }
    world.learn(&first.id, cluster.clone());
    world.witness.act(None, Act::Made(Colour::Blue, first.id, cluster.cluster_id(), request));
    let mut observed = world.witness.observed();
    observed.producers = world
        .scene
        .producers
        .iter()
        .map(|producer| Producer {
            name: producer.name.clone(),
            ordered: producer.order == kutover_core::switch::Order::Ordered,
            ours: !producer.stranger && world.scene.strategy == Strategy::Kutover,
            possibly_duplicated: 0,
            slept_ms: 0,
            moves: Vec::new(),
        })
        .collect();
    observed.groups = world
        .scene
        .groups
        .iter()
        .map(|group| Group {
            name: group.name.clone(),
            reading: group.reading,
            topics: group.topics.clone(),
            born_ms: u64::MAX,
            handed: Vec::new(),
            skipped: Vec::new(),
        })
        .collect();
    observed.ttl_ms = u64::from(world.scene.plan.timings.ttl_s) * 1_000;
    observed.bounds = wait_bounds(&world.scene);
}

/// What the policies of producers and plan come to.
fn wait_bounds(scene: &Scene) -> WaitBounds {
    let (switch, plan) = (SwitchPolicy::default(), &scene.plan.timings);
    WaitBounds {
        parked_ms: scene.delivery_timeout_ms,
        seal_ms: switch.purge_ms,
        switch_ms: switch.purge_ms + plan.barrier_ms,
    }
}

fn start(world: &Arc<World>, actors: &mut JoinSet<()>) {
    let resolvers = resolvers(world);
    for number in 0..world.scene.producers.len() {
        let resolver = &resolvers[number % resolvers.len()];
        let who: Arc<str> = format!("producer {number}").into();
        let reach = Reach {
            factory: Arc::new(SimFactory::new(world, Arc::clone(&who))),
            links: Arc::new(SimLinks::new(world, Arc::clone(&who))),
            watch: Arc::new(SimWatch::new(world, who, resolver)),
        };
        let stranger = world.scene.producers[number].stranger;
        match world.scene.strategy {
            Strategy::Kutover if !stranger => actors.spawn(producer::live(Arc::clone(world), number, reach)),
            _ => actors.spawn(stock::live(Arc::clone(world), number, reach)),
        };
    }
    for number in 0..world.scene.groups.len() {
        tokio::spawn(crate::readers::live(Arc::clone(world), number));
    }
    tokio::spawn(mischief(Arc::clone(world)));
}

/// What befalls clusters.
async fn mischief(world: Arc<World>) {
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if world.weather.is_calm() {
            return;
        }
        for known in world.known() {
            let id = known.cluster.cluster_id();
            if known.gone {
                continue;
            }
            if let Some(shape) = world.weather.strikes(Fault::ClusterOut) {
                crate::witness::note!(world.witness, "{id} is out");
                world.set_out(&id, true);
                let (world, id) = (Arc::clone(&world), id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(mostly_short(shape, 200, 60_000)).await;
                    world.set_out(&id, false);
                });
            }
            let places = world.scene.places();
            if let Some(shape) = world.weather.strikes(Fault::LeaderMoves) {
                known.cluster.move_leader(&places[shape as usize % places.len()], shape >> 8 & 4_095);
            }
            if let Some(shape) = world.weather.strikes(Fault::BrokerStops) {
                let (broker, cluster) = ((shape % 3) as i32, known.cluster.clone());
                world.witness.act(None, Act::OutOfReach(id.clone()));
                cluster.stop_broker(broker, (shape & 4 == 0).then_some(shape >> 8 & 4_095));
                tokio::spawn(async move {
                    tokio::time::sleep(shaped(shape >> 20, 500, 30_000)).await;
                    cluster.start_broker(broker);
                });
            }
            if let Some(shape) = world.weather.strikes(Fault::OffsetsExpire) {
                // A broker keeps what was committed for as long as it was told, if nothing longer.
                let expired = known.cluster.expire_offsets(120_000 + shape % 240_000);
                if !expired.is_empty() {
                    world.witness.act(None, Act::OffsetsExpired(id.clone(), expired));
                }
            }
            if let Some(shape) = world.weather.strikes(Fault::Retention) {
                age_out(&world, &known.cluster, &places[shape as usize % places.len()], shape >> 8);
            }
            befall_groups(&world, &known.cluster);
            if let Some(shape) = world.weather.strikes(Fault::LeaderGone) {
                world.witness.act(None, Act::OutOfReach(id.clone()));
                known.cluster.silence(places[shape as usize % places.len()].clone());
                tokio::spawn(async move {
                    tokio::time::sleep(shaped(shape >> 8, 100, 15_000)).await;
                    known.cluster.speak();
                });
            }
        }
    }
}

/// Retention deletes the older half of a partition, or all of it: by age or size, whoever has not read it yet.
fn age_out(world: &World, cluster: &MemoryCluster, place: &TopicPartition, shape: u64) {
    let Some((start, end)) = cluster.extent(place).filter(|(start, end)| start < end) else { return };
    let from = if shape.is_multiple_of(2) { end } else { Offset(start.0 + (end.0 - start.0 + 1) / 2) };
    cluster.retain(place, from);
    world.witness.act(None, Act::Retained(cluster.cluster_id(), place.clone(), from));
}

/// What befalls those who know of a cluster's groups.
fn befall_groups(world: &World, cluster: &MemoryCluster) {
    if let Some(shape) = world.weather.strikes(Fault::CoordinatorSilent) {
        let groups = &world.scene.groups;
        let group = GroupId::new(groups[shape as usize % groups.len()].name.clone());
        cluster.set_coordinator(&group, false);
        // It may load for longer than a cutover takes from its drain to its removal: what is proven then is proven twice.
        let silent = tokio::time::sleep(mostly_short(shape >> 8, 500, 180_000));
        let cluster = cluster.clone();
        tokio::spawn(async move {
            silent.await;
            cluster.set_coordinator(&group, true);
        });
    }
    if let Some(shape) = world.weather.strikes(Fault::GroupsUnlisted) {
        cluster.set_groups_answer(false);
        let silent = tokio::time::sleep(shaped(shape >> 8, 500, 20_000));
        let cluster = cluster.clone();
        tokio::spawn(async move {
            silent.await;
            cluster.set_groups_answer(true);
        });
    }
}

/// All faults end.
fn heal(world: &Arc<World>) {
    crate::witness::note!(world.witness, "all faults end");
    world.weather.calm();
    world.witness.observed().calm_ms = Some(world.now_ms());
    for known in world.known() {
        world.set_out(&known.cluster.cluster_id(), false);
        known.cluster.speak();
        known.cluster.stop_leaking();
        known.cluster.set_groups_answer(true);
        for group in &world.scene.groups {
            known.cluster.set_coordinator(&GroupId::new(group.name.clone()), true);
        }
        (0..3).for_each(|broker| known.cluster.start_broker(broker));
    }
}

/// Traffic ends, what is accepted ends, readers read to the end.
async fn settle(world: &Arc<World>, mut actors: JoinSet<()>) {
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.end_traffic();
    while actors.join_next().await.is_some() {}
    tokio::time::sleep(Duration::from_secs(120)).await;
}

fn report(world: &Arc<World>, seed: u64, tally: Tally) -> Outcome {
    let mut standing = BTreeMap::new();
    for cluster in world.standing() {
        let fenced = cluster.fenced().into_iter().collect();
        standing.insert(cluster.cluster_id(), (fenced, cluster.is_isolated()));
    }
    let published = world.memory.dns.published(&world.endpoint());
    let appends = world.appends();
    let (mut observed, events, trace, lines) = world.witness.take();
    observed.appends = appends;
    observed.panics = panics::take();
    let journal = world.memory.journal.entries().iter().map(|entry| entry.term).collect();
    observed.end = End { standing, published, journal, stuck: observed.end.stuck };
    let (violations, count) = judge(&observed, world.scene.strategy);
    Outcome {
        seed,
        events,
        trace,
        lines,
        cutovers: tally.cutovers,
        rollbacks: tally.rollbacks,
        aborts: tally.aborts,
        taken_back: observed.taken_back.len() as u64,
        crashes: tally.crashes,
        pauses: tally.pauses,
        resumes: tally.resumes,
        struck: world.weather.struck(),
        fired: world.memory.fired(),
        violations,
        count,
    }
}

/// Other strategies promise nothing: there it is only counted.
fn judge(observed: &Observed, strategy: Strategy) -> (Vec<Violation>, invariants::Count) {
    let ours = strategy == Strategy::Kutover;
    let violations = if ours { invariants::check(observed) } else { invariants::check_any(observed) };
    (violations, invariants::Count::of(observed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody joins this task; a driver's, a reader's and a client's are no different.
    #[test]
    fn a_task_that_panics_is_a_broken_promise() {
        let options = Options { level: Level::None, ..Options::default() };
        for strategy in [Strategy::Kutover, Strategy::Recipe] {
            let options = Options { strategy, ..options.clone() };
            let outcome = run_beside(0, &options, |_| drop(tokio::spawn(async { panic!("made to") })));
            let broken: Vec<_> = outcome.violations.iter().map(|broken| broken.invariant).collect();
            assert_eq!(broken, ["no_panic"], "{:?}", outcome.violations);
        }
        assert_eq!(run(0, &options).violations, [], "the next world is another one");
    }

    /// The operator ends by a rollback what is held again and again: that the world goes on makes it no success.
    #[test]
    fn a_cutover_that_is_held_for_good_is_a_broken_promise() {
        let options = Options { level: Level::None, ..Options::default() };
        let outcome =
            run_beside(STAYS_AHEAD, &options, |world| drop(tokio::spawn(hide_groups(Arc::clone(world)))));
        let broken: Vec<_> = outcome.violations.iter().map(|broken| broken.invariant).collect();
        assert_eq!((broken, outcome.taken_back), (vec!["comes_to_an_end"], 1), "{:?}", outcome.violations);
    }

    /// A seed whose operator does not want back by itself in its first cutover.
    const STAYS_AHEAD: u64 = 2;

    /// From the first publication on no cluster lists its groups, until the operator has had enough.
    async fn hide_groups(world: Arc<World>) {
        let published = |(_, published): &(_, kutover_core::ports::Published)| {
            published.owner.as_ref().is_some_and(|owner| owner.target.generation.0 > 1)
        };
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while world.witness.observed().taken_back.is_empty() && !world.is_ending() {
            let hidden = world.memory.dns.ever(published);
            world.known().iter().for_each(|known| known.cluster.set_groups_answer(!hidden));
            looks.tick().await;
        }
        world.known().iter().for_each(|known| known.cluster.set_groups_answer(true));
    }
}
