//! World (a): producers whose generation is followed by newer ones in every state of their switch, while
//! acknowledgements get lost, records fail and are appended late.

use kutover_core::owner::Target;
use kutover_core::switch::Order;
use kutover_core::words::Colour;

use crate::check::SmallWorld;
use crate::ground::{Faults, Ground, OwnerSaid};
use crate::kept::Kept;
use crate::names::target;
use crate::producer::{Act, Producer};
use crate::promise::Broken;
use crate::tell;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct SwitchWorld {
    pub(crate) order: Order,
    /// How many records each producer sends.
    pub(crate) records: &'static [u8],
    /// The colours of the generations from the second on.
    pub(crate) generations: &'static [Colour],
    /// Whether the cluster that is left is fenced, unannounced, once the next generation is published.
    pub(crate) fence: bool,
    pub(crate) faults: Faults,
}

/// How it stands.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Stand {
    producers: Vec<Kept<Producer>>,
    ground: Kept<Ground>,
    faults: Faults,
    /// Whether a fence may yet go up.
    may_fence: bool,
    broken: Option<Broken>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Publish,
    Fence(Colour),
    Lift(Colour),
    Producer(usize, Act),
}

impl SwitchWorld {
    fn generation(&self, published: usize) -> Option<Target> {
        let colour = self.generations.get(published.checked_sub(1)?)?;
        Some(target(published as u64 + 1, *colour))
    }
}

impl SmallWorld for SwitchWorld {
    type State = Stand;
    type Step = Step;

    fn start(&self) -> Stand {
        let first = target(1, Colour::Blue);
        let named = (0..).zip(self.records);
        let producers = named
            .map(|(name, records)| Kept::new(Producer::new(name, self.order, *records).serving(&first)))
            .collect();
        let owner = vec![OwnerSaid { target: first, intent: None }];
        let ground = Ground { owner, ..Ground::default() };
        Stand {
            producers,
            ground: Kept::new(ground),
            faults: self.faults,
            may_fence: self.fence,
            broken: None,
        }
    }

    fn steps(&self, stand: &Stand, steps: &mut Vec<Step>) {
        let next = self.generation(stand.ground.owner.len());
        if let Some(next) = &next {
            // As the controller does: a cluster is published only once it takes writes.
            if stand.ground.at(next.colour).fenced {
                steps.push(Step::Lift(next.colour));
            } else {
                steps.push(Step::Publish);
            }
        }
        let active = stand.ground.published().map(|target| target.colour);
        if stand.may_fence
            && let Some(active) = active
            && stand.ground.owner.len() > 1
        {
            steps.push(Step::Fence(active.other()));
        }
        let mut acts = Vec::new();
        for (name, producer) in stand.producers.iter().enumerate() {
            producer.acts(&stand.ground, &stand.faults, &mut acts);
            steps.extend(acts.drain(..).map(|act| Step::Producer(name, act)));
        }
    }

    fn take(&self, stand: &Stand, step: &Step) -> Stand {
        let mut next = stand.clone();
        let mut ground = Ground::clone(&stand.ground);
        match step {
            Step::Publish => {
                let said =
                    self.generation(ground.owner.len()).map(|target| OwnerSaid { target, intent: None });
                ground.owner.extend(said);
            }
            Step::Fence(colour) => {
                next.may_fence = false;
                ground.at_mut(*colour).fenced = true;
            }
            Step::Lift(colour) => ground.at_mut(*colour).fenced = false,
            Step::Producer(name, act) => {
                let mut producer = Producer::clone(&next.producers[*name]);
                producer.take(act, &mut ground, &mut next.faults);
                next.broken = producer.broken.take();
                next.producers[*name] = Kept::new(producer);
                if !ground.offsets {
                    return next; // Nothing of what is shared has changed.
                }
            }
        }
        next.ground = Kept::new(ground);
        next
    }

    fn broken<'a>(&self, stand: &'a Stand) -> Option<&'a Broken> {
        stand.broken.as_ref()
    }

    fn ended(&self, stand: &Stand) -> bool {
        self.generation(stand.ground.owner.len()).is_none()
            && stand
                .producers
                .iter()
                .all(|producer| producer.is_done() && producer.rests_on() == stand.ground.published())
    }

    fn tell(&self, stand: &Stand, step: &Step) -> String {
        match step {
            Step::Publish => {
                let next = self.generation(stand.ground.owner.len());
                let next =
                    next.map(|target| format!("generation {} on {}", target.generation, target.colour));
                format!("the owner record says {}", next.unwrap_or_default())
            }
            Step::Fence(colour) => format!("{colour} is fenced"),
            Step::Lift(colour) => format!("{colour}'s fence is lifted"),
            Step::Producer(name, act) => {
                format!("producer {name}: {}", tell::act(&stand.producers[*name], act, &stand.ground))
            }
        }
    }
}
