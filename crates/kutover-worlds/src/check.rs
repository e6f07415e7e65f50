//! Runs a world through the model checker, whole, and judges what was seen.
//!
//! The checker ([`stateright`]) visits every state that can be reached and looks for a broken promise in each. What it
//! cannot say is whether every state can still *end*: its eventually-property looks at states without a next step alone.
//! So every transition is noted, and walked backwards from the states in which the world has ended; a state that this
//! walk does not meet is stuck, and the shortest way to one is what is reported.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::kept::print;
use crate::promise::{Broken, Promise};

/// A world small enough to be seen whole.
pub(crate) trait SmallWorld: Clone + Send + Sync + 'static {
    /// What can differ. Whatever only counts is left out or kept in a normal form, or there would be no end.
    type State: Clone + Debug + Hash + Send + Sync + 'static;
    /// One thing that happens.
    type Step: Clone + Debug + PartialEq + Send + Sync + 'static;

    /// How it begins.
    fn start(&self) -> Self::State;
    /// All that can happen next.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Self::Step>);
    /// What comes of it.
    fn take(&self, state: &Self::State, step: &Self::Step) -> Self::State;
    /// The promise that is broken, if one is. Nothing is looked at behind such a state.
    fn broken<'a>(&self, state: &'a Self::State) -> Option<&'a Broken>;
    /// Whether everything that was begun has come to its end, well.
    fn ended(&self, state: &Self::State) -> bool;
    /// The step in an operator's words.
    fn tell(&self, state: &Self::State, step: &Self::Step) -> String;
}

/// A state with its fingerprint, so that the deep hash is computed once.
#[derive(Clone, Debug)]
pub(crate) struct Node<S> {
    print: u64,
    state: S,
}

impl<S: Hash> Node<S> {
    fn new(state: S) -> Self {
        Self { print: print(&state), state }
    }
}

impl<S> Hash for Node<S> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.print);
    }
}

impl<S> PartialEq for Node<S> {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

/// What the walk backwards needs.
#[derive(Default)]
struct Graph {
    edges: Vec<(u64, u64)>,
    ended: Vec<u64>,
}

struct Checked<W> {
    world: W,
    graph: Option<Arc<Mutex<Graph>>>,
    /// States that cannot end: known in the second run alone, which looks for the shortest way to one.
    stuck: Arc<HashSet<u64>>,
}

impl<W: SmallWorld> Checked<W> {
    fn keeps(&self, node: &Node<W::State>, promise: Promise) -> bool {
        self.world.broken(&node.state).is_none_or(|broken| broken.promise != promise)
    }
}

impl<W: SmallWorld> Model for Checked<W> {
    type State = Node<W::State>;
    type Action = W::Step;

    fn init_states(&self) -> Vec<Self::State> {
        vec![Node::new(self.world.start())]
    }

    fn actions(&self, node: &Self::State, steps: &mut Vec<W::Step>) {
        if self.world.broken(&node.state).is_none() {
            self.world.steps(&node.state, steps);
        }
    }

    fn next_state(&self, node: &Self::State, step: W::Step) -> Option<Self::State> {
        let next = Node::new(self.world.take(&node.state, &step));
        if next.print == node.print {
            return None;
        }
        if let Some(graph) = &self.graph {
            let mut graph = graph.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            graph.edges.push((next.print, node.print));
            if self.world.ended(&next.state) {
                graph.ended.push(next.print);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Promise::G1.says(), |model, node| model.keeps(node, Promise::G1)),
            Property::always(Promise::G2.says(), |model, node| model.keeps(node, Promise::G2)),
            Property::always(Promise::G3.says(), |model, node| model.keeps(node, Promise::G3)),
            Property::always(Promise::G4.says(), |model, node| model.keeps(node, Promise::G4)),
            Property::always(Promise::G5.says(), |model, node| model.keeps(node, Promise::G5)),
            Property::always(Promise::G6.says(), |model, node| model.keeps(node, Promise::G6)),
            Property::always(Promise::Machine.says(), |model, node| model.keeps(node, Promise::Machine)),
            Property::always(CAN_END, |model: &Self, node: &Self::State| !model.stuck.contains(&node.print)),
            // Stable, so that it is enough to look at states without a next step; a broken one has no next step either.
            Property::eventually(ENDS, |model: &Self, node: &Self::State| {
                model.world.ended(&node.state) || model.world.broken(&node.state).is_some()
            }),
        ]
    }
}

const CAN_END: &str = "every state can still come to its end";
const ENDS: &str = "it comes to its end";

/// What was found: the promise, and the way there.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Found {
    /// The promise.
    pub promise: String,
    /// What was seen.
    pub seen: String,
    /// One line per step.
    pub path: Vec<String>,
}

/// What a run came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// The world.
    pub world: &'static str,
    /// Distinct states.
    pub states: usize,
    /// Transitions.
    pub transitions: usize,
    /// Steps of the longest shortest way.
    pub depth: usize,
    /// States in which everything has come to its end.
    pub ends: usize,
    /// Seconds.
    pub seconds: f64,
    /// The promise that is broken, with the shortest way that was seen.
    pub found: Option<Found>,
}

/// Visits every state of a world.
pub(crate) fn check<W: SmallWorld>(name: &'static str, world: &W, threads: usize) -> Outcome {
    let began = Instant::now();
    let graph = Arc::new(Mutex::new(Graph::default()));
    let first = Checked { world: world.clone(), graph: Some(Arc::clone(&graph)), stuck: Arc::default() };
    let mut outcome = run(name, first, threads);
    let graph = std::mem::take(&mut *graph.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let ended: HashSet<u64> = graph.ended.iter().copied().collect();
    outcome.ends = ended.len();
    if outcome.found.is_none() {
        let stuck = stuck(graph, ended);
        if !stuck.is_empty() {
            let count = stuck.len();
            let again = Checked { world: world.clone(), graph: None, stuck: Arc::new(stuck) };
            outcome.found = run(name, again, 1).found;
            if let Some(found) = &mut outcome.found {
                found.seen = format!("{count} states have no way to the end; {}", found.seen);
            }
        }
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome
}

/// The states from which no end can be reached.
fn stuck(graph: Graph, mut can_end: HashSet<u64>) -> HashSet<u64> {
    let Graph { mut edges, ended } = graph;
    edges.sort_unstable();
    let mut walk: Vec<u64> = ended;
    while let Some(node) = walk.pop() {
        let first = edges.partition_point(|(to, _)| *to < node);
        for (_, from) in edges[first..].iter().take_while(|(to, _)| *to == node) {
            if can_end.insert(*from) {
                walk.push(*from);
            }
        }
    }
    edges.into_iter().flat_map(|(to, from)| [to, from]).filter(|node| !can_end.contains(node)).collect()
}

fn run<W: SmallWorld>(name: &'static str, model: Checked<W>, threads: usize) -> Outcome {
    let checker =
        model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let shortest = checker.discoveries().into_iter().map(|(promise, path)| (promise, path.into_vec()));
    let found = shortest.min_by_key(|(_, path)| path.len()).map(|(promise, path)| {
        let world = &checker.model().world;
        let tell = |(node, step): &(Node<W::State>, Option<W::Step>)| {
            step.as_ref().map(|step| world.tell(&node.state, step))
        };
        let last = path.last().and_then(|(node, _)| world.broken(&node.state));
        Found {
            promise: promise.to_owned(),
            seen: last
                .map_or_else(|| "nothing more can happen that helps".into(), |broken| broken.seen.clone()),
            path: path.iter().filter_map(tell).collect(),
        }
    });
    Outcome {
        world: name,
        states: checker.unique_state_count(),
        transitions: checker.state_count(),
        depth: checker.max_depth(),
        ends: 0,
        seconds: 0.0,
        found,
    }
}
