//! Worlds (b), (c) and (d): whole controllers, with everything that they steer.

mod carry;
mod controller;
mod followers;
mod judge;
mod look;
mod members;
mod place;

use kutover_core::cutover::{Input, Rollback, State, StateName, Stop};
use kutover_core::switch::Order;
use kutover_core::words::Colour;

use self::controller::{Controller, Doing, KeptController};
use self::followers::{Hand, Mode, Move, Reader};
use self::members::Member;
use self::place::{Dns, Infra, Journal, Place, plan};
use crate::check::SmallWorld;
use crate::ground::{Faults, Ground};
use crate::kept::Kept;
use crate::producer::{Act, Producer};
use crate::promise::Broken;

pub(crate) use self::followers::Mover;

/// What may still happen, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Starts of a controller while another one runs.
    pub(crate) takeovers: u8,
    /// Controllers that are killed.
    pub(crate) crashes: u8,
    /// Answers that get lost.
    pub(crate) unknowns: u8,
    /// Records of a producer that nobody knows of.
    pub(crate) strangers: u8,
    /// Whether the operator may ask for a rollback.
    pub(crate) rollbacks: u8,
    /// Deaths of the new cluster.
    pub(crate) deaths: u8,
    /// Producers whose process dies.
    pub(crate) kills: u8,
    /// Heartbeats, beside each producer's first word on a cluster.
    pub(crate) beats: u8,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct CutoverWorld {
    /// Where the first controller stands at the beginning; `None`: nothing has been done, and the deployment is new.
    /// Rolling back: it has just been asked to, in the middle of converging.
    pub(crate) from: Option<StateName>,
    pub(crate) controllers: usize,
    pub(crate) remove_old: bool,
    pub(crate) budget: Budget,
    /// How many records each producer sends; they have started unless `late`.
    pub(crate) producers: &'static [u8],
    pub(crate) late: bool,
    /// Producers as small as they can be; with any, the group is a reader that follows the chain.
    pub(crate) movers: &'static [Mover],
    /// Whether they say as members where they are, and that they live.
    pub(crate) members: bool,
    pub(crate) faults: Faults,
}

/// No controller is started more often than this; one that had to be would be stuck.
const RUNS: u8 = 8;

/// How it stands.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Stand {
    place: Kept<Place>,
    controllers: Vec<Option<KeptController>>,
    producers: Vec<Kept<Producer>>,
    movers: Vec<Mover>,
    reader: Option<Reader>,
    runs: u8,
    budget: Budget,
    faults: Faults,
    broken: Option<Broken>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Start(usize),
    Crash(usize),
    Journal(usize),
    Carry(usize),
    Lose { controller: usize, done: bool },
    Tick(usize),
    RollBack(usize),
    Stranger(Colour),
    Read(Colour),
    Die,
    Producer(usize, Act),
    Mover(usize, Move),
    Say(usize),
    Kill(usize),
    Reader(Hand),
}

impl Stand {
    fn running(&self) -> impl Iterator<Item = (usize, &Controller)> {
        let all = self.controllers.iter().enumerate();
        all.filter_map(|(n, kept)| Some((n, &**kept.as_ref()?)))
            .filter(|(_, running)| running.stop().is_none())
    }

    /// How the cutover has ended, if it has.
    fn end(&self) -> Option<&Stop> {
        let stops = self.controllers.iter().flatten().filter_map(|controller| controller.stop());
        let mut ends =
            stops.filter(|stop| matches!(stop, Stop::Complete | Stop::RolledBack(_) | Stop::Adopted));
        ends.next()
    }
}

impl CutoverWorld {
    fn first(&self) -> Stand {
        let mut ground = Ground { offsets: true, ..Ground::default() };
        ground.clusters[0].log = vec![];
        let blue = Infra { present: true, topic: true, ..Infra::default() };
        let dns = Dns { owner: None, endpoint: Colour::Blue };
        let place = Place {
            ground,
            dns,
            infra: [blue, Infra::default()],
            journal: Journal::default(),
            members: vec![],
        };
        Stand {
            place: Kept::new(place),
            controllers: vec![None; self.controllers],
            producers: vec![],
            movers: vec![],
            reader: None,
            runs: 0,
            budget: self.budget,
            faults: self.faults,
            broken: None,
        }
    }

    /// What a controller does next by itself.
    fn onwards(stand: &Stand, n: usize) -> Option<Step> {
        match &stand.controllers[n].as_ref()?.doing {
            Doing::Waiting(Some(_)) => Some(Step::Tick(n)),
            Doing::Waiting(None) | Doing::Stopped(_) => None,
            Doing::Journal(..) => Some(Step::Journal(n)),
            Doing::Command(..) => Some(Step::Carry(n)),
        }
    }

    fn start_controller(&self, next: &mut Stand, n: usize) {
        next.runs += 1;
        let over = next.end().is_some();
        let controller =
            Controller::start(plan(self.remove_old), &format!("run-{}", next.runs), &next.place, over);
        if next.running().next().is_some() {
            next.budget.takeovers -= 1;
        }
        next.controllers[n] = Some(Kept::new(controller));
    }

    fn controller_steps(&self, stand: &Stand, steps: &mut Vec<Step>) {
        let alone = stand.running().next().is_none();
        for n in 0..self.controllers {
            let running = stand.running().any(|(running, _)| running == n);
            let wanted = if alone { n == 0 && !self.ended(stand) } else { stand.budget.takeovers > 0 };
            if !running && wanted && stand.runs < RUNS {
                steps.push(Step::Start(n));
            }
            if !running {
                continue;
            }
            steps.extend(Self::onwards(stand, n));
            if stand.budget.crashes > 0 {
                steps.push(Step::Crash(n));
            }
            let Some(controller) = &stand.controllers[n] else { continue };
            if stand.budget.unknowns > 0 && matches!(controller.doing, Doing::Command(..)) {
                steps.push(Step::Lose { controller: n, done: true });
                steps.push(Step::Lose { controller: n, done: false });
            }
            let published = stand.place.ground.owner.len() > 1;
            let quiet = !matches!(controller.doing, Doing::Journal(..));
            if stand.budget.rollbacks > 0 && published && quiet {
                steps.push(Step::RollBack(n));
            }
        }
    }
}

impl SmallWorld for CutoverWorld {
    type State = Stand;
    type Step = Step;

    fn start(&self) -> Stand {
        let mut stand = self.first();
        let Some(from) = self.from else { return stand };
        stand = self.take(&stand, &Step::Start(0));
        let back = from == StateName::RollingBack;
        let from = if back { StateName::Converging } else { from };
        while let Some(step) = Self::onwards(&stand, 0) {
            let controller = stand.controllers[0].as_ref();
            if controller.is_some_and(|controller| controller.machine().progress().state.name() == from) {
                break;
            }
            stand = self.take(&stand, &step);
        }
        if back {
            while matches!(Self::onwards(&stand, 0), Some(Step::Journal(0))) {
                stand = self.take(&stand, &Step::Journal(0));
            }
            stand = self.take(&stand, &Step::RollBack(0));
        }
        let mut named = (0..).zip(self.producers);
        stand.producers = named
            .by_ref()
            .map(|(name, records)| {
                let producer = Producer::new(name, Order::Ordered, *records);
                let first = &stand.place.ground.owner[0].target;
                Kept::new(if self.late { producer } else { producer.serving(first) })
            })
            .collect();
        stand.movers = self.movers.to_vec();
        if self.members {
            let mut place = Place::clone(&stand.place);
            place.members = self.movers.iter().map(|mover| Member::new(mover.at)).collect();
            stand.place = Kept::new(place);
        }
        stand.reader = (!self.movers.is_empty()).then(|| Reader::first(self.movers.len()));
        stand
    }

    fn steps(&self, stand: &Stand, steps: &mut Vec<Step>) {
        self.controller_steps(stand, steps);
        for colour in Colour::BOTH {
            let cluster = stand.place.ground.at(colour);
            let known = stand.place.ground.owner.iter().any(|said| said.target.colour == colour);
            let open = stand.place.is_open(colour);
            if stand.budget.strangers > 0 && open && known && !cluster.fenced {
                steps.push(Step::Stranger(colour));
            }
            if stand.reader.is_none()
                && open
                && stand.place.infra[crate::names::index(colour)].committed < cluster.log.len()
            {
                steps.push(Step::Read(colour));
            }
        }
        if stand.budget.deaths > 0 && stand.place.is_open(Colour::Green) && stand.barrier_is_rising() {
            steps.push(Step::Die);
        }
        let mut acts = Vec::new();
        for (name, producer) in stand.producers.iter().enumerate() {
            producer.acts(&stand.place.ground, &stand.faults, &mut acts);
            steps.extend(acts.drain(..).map(|act| Step::Producer(name, act)));
        }
        let (mut moves, mut hands) = (Vec::new(), Vec::new());
        for (name, mover) in stand.movers.iter().enumerate() {
            mover.moves(&stand.place, &mut moves);
            steps.extend(moves.drain(..).map(|step| Step::Mover(name, step)));
        }
        stand.member_steps(steps);
        if let Some(reader) = &stand.reader {
            reader.hands(&stand.place, &mut hands);
            steps.extend(hands.drain(..).map(Step::Reader));
        }
    }

    fn take(&self, stand: &Stand, step: &Step) -> Stand {
        let mut next = stand.clone();
        let mut place = Place::clone(&stand.place);
        match step {
            Step::Start(n) => self.start_controller(&mut next, *n),
            Step::Crash(n) => {
                next.budget.crashes -= 1;
                next.controllers[*n] = None;
            }
            Step::Journal(n) => {
                next.controller(*n, |controller| controller.append(&mut place));
                let others = next.controllers.iter_mut().enumerate().filter(|(other, _)| other != n);
                for kept in others.filter_map(|(_, kept)| kept.as_mut()).filter(|kept| kept.journal_is_ours) {
                    let mut stale = Controller::clone(kept);
                    stale.journal_is_ours = false;
                    *kept = Kept::new(stale);
                }
            }
            Step::Carry(n) => next.controller(*n, |controller| controller.carry_on(&mut place)),
            Step::Lose { controller, done } => {
                next.budget.unknowns -= 1;
                next.controller(*controller, |controller| controller.lose_answer(*done, &mut place));
            }
            Step::Tick(n) => next.controller(*n, Controller::tick),
            Step::RollBack(n) => {
                // Not spent: who asked a controller that was killed before it wrote that down asks again.
                next.controller(*n, |controller| controller.word(Input::RollBack));
            }
            Step::Stranger(colour) => {
                next.budget.strangers -= 1;
                place.ground.at_mut(*colour).log.push((u8::MAX, next.budget.strangers));
            }
            Step::Read(colour) => place.infra(*colour).committed += 1,
            Step::Die => {
                next.budget.deaths -= 1;
                place.ground.at_mut(Colour::Green).dead = true;
            }
            Step::Producer(name, act) => {
                let mut producer = Producer::clone(&next.producers[*name]);
                producer.take(act, &mut place.ground, &mut next.faults);
                next.broken = producer.broken.take();
                next.producers[*name] = Kept::new(producer);
            }
            Step::Mover(name, step) => next.movers[*name].take(*name as u8, step, &mut place),
            Step::Say(name) => {
                let (at, member) = (next.movers[*name].at, &mut place.members[*name]);
                next.budget.beats -= u8::from(member.is_at() == at);
                member.say(at);
            }
            Step::Kill(name) => {
                next.budget.kills -= 1;
                next.movers[*name].mode = Mode::Dead;
            }
            Step::Reader(hand) => {
                next.broken = next.reader.as_mut().and_then(|reader| reader.take(hand, &mut place));
            }
        }
        next.journal_unseen(&mut place);
        next.judge(&place);
        next.place = Kept::new(place);
        next
    }

    fn broken<'a>(&self, stand: &'a Stand) -> Option<&'a Broken> {
        stand.broken.as_ref()
    }

    fn ended(&self, stand: &Stand) -> bool {
        let Some(end) = stand.end() else { return false };
        let place = &stand.place;
        let Some(active) = place.ground.published() else { return false };
        let old = active.colour.other();
        let removed = self.remove_old && matches!(end, Stop::Complete);
        let marked = place.dns.owner.as_ref().is_some_and(|owner| owner.removal.is_some());
        stand.running().next().is_none()
            && place.is_open(active.colour)
            && !place.ground.at(active.colour).fenced
            && place.dns.endpoint == active.colour
            && (!removed || (!place.infra[crate::names::index(old)].present && !marked))
            && stand
                .producers
                .iter()
                .all(|producer| producer.is_done() && producer.rests_on() == Some(active))
            && stand.movers.iter().all(|mover| mover.is_done(active.colour))
            && stand
                .reader
                .as_ref()
                .is_none_or(|reader| reader.has_all(&stand.movers, place) && reader.is_on(active))
    }

    fn tell(&self, stand: &Stand, step: &Step) -> String {
        let doing = |n: &usize| match stand.controllers[*n].as_ref().map(|controller| &controller.doing) {
            Some(Doing::Journal(_, record)) => judge::record(record),
            Some(Doing::Command(_, command, scratch)) => {
                format!("{} (part {})", command.name(), scratch.at + 1)
            }
            _ => "nothing".into(),
        };
        match step {
            Step::Start(n) => format!("controller {n} starts from the journal"),
            Step::Crash(n) => format!("controller {n} is killed"),
            Step::Journal(n) => format!("controller {n} journals: {}", doing(n)),
            Step::Carry(n) => format!("controller {n}: {}", doing(n)),
            Step::Lose { controller, done: true } => {
                format!("controller {controller}: {}: done, but the answer is lost", doing(controller))
            }
            Step::Lose { controller, done: false } => {
                format!("controller {controller}: {}: not done, and no answer comes", doing(controller))
            }
            Step::Tick(n) => format!("controller {n} looks again"),
            Step::RollBack(n) => format!("the operator asks controller {n} for a rollback"),
            Step::Stranger(colour) => format!("a producer that nobody knows of writes to {colour}"),
            Step::Read(colour) => format!("the group reads and commits a record of {colour}"),
            Step::Die => "green dies".into(),
            Step::Mover(name, step) => {
                let told = followers::tell(step, &stand.movers[*name], &stand.place);
                format!("producer {name} {told}")
            }
            Step::Say(name) => format!("producer {name} says that it is on {}", stand.movers[*name].at),
            Step::Kill(name) => format!("producer {name} dies"),
            Step::Reader(hand) => stand.reader.as_ref().map_or_else(String::new, |reader| {
                format!("the reader {}", followers::tell_reader(hand, &stand.place, reader))
            }),
            Step::Producer(name, act) => {
                format!(
                    "producer {name}: {}",
                    crate::tell::act(&stand.producers[*name], act, &stand.place.ground)
                )
            }
        }
    }
}

impl Stand {
    /// What producers do as members: each says once that it is on a cluster, and now and then that it lives.
    fn member_steps(&self, steps: &mut Vec<Step>) {
        let living = self.movers.iter().zip(&self.place.members).enumerate();
        for (name, (mover, member)) in living.filter(|(_, (mover, _))| mover.mode != Mode::Dead) {
            if self.place.is_open(mover.at) && (member.is_at() != mover.at || self.budget.beats > 0) {
                steps.push(Step::Say(name));
            }
            if self.budget.kills > 0 {
                steps.push(Step::Kill(name));
            }
        }
    }

    /// With one controller that is not killed, nobody can tell when it journals.
    fn journal_unseen(&mut self, place: &mut Place) {
        if self.movers.is_empty() || self.controllers.len() > 1 || self.budget.crashes > 0 {
            return;
        }
        while self.controllers[0].as_ref().is_some_and(|kept| matches!(kept.doing, Doing::Journal(..))) {
            self.controller(0, |controller| controller.append(place));
        }
    }

    /// A rollback has begun, and the fence of the cluster that is left is not proven yet.
    fn barrier_is_rising(&self) -> bool {
        let checkpoint = self.place.journal.checkpoint.as_ref().map(|progress| &progress.state);
        let Some(State::RollingBack(_, step)) = checkpoint else { return false };
        matches!(
            step,
            Rollback::Topics
                | Rollback::LookAway
                | Rollback::GroupsAway
                | Rollback::LookHome
                | Rollback::Intent
                | Rollback::Raise
                | Rollback::Prove
        )
    }

    fn controller(&mut self, n: usize, act: impl FnOnce(&mut Controller)) {
        let Some(kept) = &self.controllers[n] else { return };
        let mut controller = Controller::clone(kept);
        act(&mut controller);
        self.broken = controller.broken.take().or(self.broken.take());
        self.controllers[n] = Some(Kept::new(controller));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::ROLLBACK_DEAD;

    #[test]
    fn green_may_die_at_every_step_before_its_fence_is_proven() {
        let (mut stand, mut may_die) = (ROLLBACK_DEAD.start(), Vec::new());
        while stand.place.dns.endpoint == Colour::Green {
            let mut steps = Vec::new();
            ROLLBACK_DEAD.steps(&stand, &mut steps);
            let journalled = stand.place.journal.checkpoint.as_ref().map(|progress| &progress.state);
            if let Some(State::RollingBack(_, step)) = journalled
                && steps.contains(&Step::Die)
            {
                may_die.push(step.clone());
            }
            let onwards = CutoverWorld::onwards(&stand, 0).expect("the way back goes on by itself");
            stand = ROLLBACK_DEAD.take(&stand, &onwards);
        }
        may_die.dedup();
        let until_proven = [
            Rollback::Topics,
            Rollback::LookAway,
            Rollback::GroupsAway,
            Rollback::LookHome,
            Rollback::Intent,
            Rollback::Raise,
            Rollback::Prove,
        ];
        assert_eq!(may_die, until_proven);
    }
}
