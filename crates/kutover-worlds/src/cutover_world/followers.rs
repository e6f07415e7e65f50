//! Who follows the chain: producers as small as they can be, and one reader that wants order.
//!
//! The real switch beside a whole controller would be too large a world, but for one producer that starts late
//! (`late-producer`); it has worlds of its own. What is kept of it is what order between clusters rests on: a producer has
//! nothing outstanding when it moves, parks what is refused, and moves to newer generations alone.

use kutover_core::chain::{Segment, SegmentEnd};
use kutover_core::owner::Target;
use kutover_core::words::{Colour, Generation};

use super::place::Place;
use crate::names::{index, place as the_partition};
use crate::promise::{Broken, Promise};

/// What a producer does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// It sends.
    Serving,
    /// It has settled everything and is about to go there.
    Sealed(Colour),
    /// It was refused, and waits.
    Parked,
    /// Its process is gone.
    Dead,
}

/// A producer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mover {
    pub(crate) at: Colour,
    /// The newest generation that it has heard of.
    pub(crate) known: u64,
    pub(crate) mode: Mode,
    /// Its next record.
    pub(crate) next: u8,
    /// How many it has.
    pub(crate) of: u8,
}

/// What can happen to a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Send,
    Hear(usize),
    Control,
    Go,
    Again,
}

impl Mover {
    pub(crate) const fn new(at: Colour, known: u64, of: u8) -> Self {
        Self { at, known, mode: Mode::Serving, next: 0, of }
    }

    pub(super) fn is_done(&self, active: Colour) -> bool {
        self.mode == Mode::Dead || self.next == self.of && self.mode == Mode::Serving && self.at == active
    }

    /// How many records there will ever be of it.
    fn due(&self) -> u8 {
        if self.mode == Mode::Dead { self.next } else { self.of }
    }

    pub(super) fn moves(&self, place: &Place, moves: &mut Vec<Move>) {
        let newer = |target: &Target| target.generation.0 > self.known;
        match self.mode {
            Mode::Dead => return,
            Mode::Serving if self.next < self.of => moves.push(Move::Send),
            Mode::Parked if self.may_write(place) => moves.push(Move::Again),
            Mode::Sealed(to) if place.is_open(to) => moves.push(Move::Go),
            _ => {}
        }
        let said = place.ground.owner.iter().enumerate();
        moves.extend(said.filter(|(_, said)| newer(&said.target)).map(|(nth, _)| Move::Hear(nth)));
        let announced = place.ground.at(self.at).control.target.as_ref();
        if place.is_open(self.at) && announced.is_some_and(newer) {
            moves.push(Move::Control);
        }
    }

    fn may_write(&self, place: &Place) -> bool {
        place.is_open(self.at) && !place.ground.at(self.at).fenced
    }

    fn heed(&mut self, target: &Target) {
        self.known = target.generation.0;
        self.mode = if target.colour == self.at { Mode::Serving } else { Mode::Sealed(target.colour) };
    }

    pub(super) fn take(&mut self, name: u8, step: &Move, place: &mut Place) {
        match step {
            Move::Send if self.may_write(place) => {
                place.ground.at_mut(self.at).log.push((name, self.next));
                self.next += 1;
            }
            Move::Send => self.mode = Mode::Parked,
            Move::Again => self.mode = Mode::Serving,
            Move::Hear(nth) => self.heed(&place.ground.owner[*nth].target),
            Move::Control => {
                if let Some(target) = &place.ground.at(self.at).control.target {
                    self.heed(target);
                }
            }
            Move::Go => {
                let Mode::Sealed(to) = self.mode else { return };
                // Whoever comes to a cluster reads its control topic before it sends there.
                match &place.ground.at(to).control.target {
                    Some(target) if target.generation.0 > self.known => self.heed(&target.clone()),
                    _ => (self.at, self.mode) = (to, Mode::Serving),
                }
                if self.mode == Mode::Sealed(to) {
                    (self.at, self.mode) = (to, Mode::Serving);
                }
            }
        }
    }
}

/// The reader: where it is, and what it has handed out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    generation: Generation,
    colour: Colour,
    /// It has a record in hand that it has not handed out.
    fetched: bool,
    /// The next record of each producer.
    next: Vec<u8>,
}

/// What the reader does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    Fetch,
    Give,
    Onwards(Colour),
}

impl Reader {
    /// At the chain's first segment.
    pub(super) fn first(producers: usize) -> Self {
        Self { generation: Generation(1), colour: Colour::Blue, fetched: false, next: vec![0; producers] }
    }

    /// Whether it has handed out everything that can be had.
    pub(super) fn has_all(&self, movers: &[Mover], place: &Place) -> bool {
        let dead = Colour::BOTH.into_iter().any(|colour| place.ground.at(colour).dead);
        let read = self.at(place) == place.ground.at(self.colour).log.len();
        !self.fetched
            && read
            && (dead || self.next.iter().zip(movers).all(|(next, mover)| *next == mover.due()))
    }

    /// The end of its segment, and the segment after it, as the control topic of a cluster has them.
    fn read<'a>(&self, on: Colour, place: &'a Place) -> (Option<SegmentEnd>, Option<&'a Segment>) {
        let segments = place.ground.at(on).control.chain.segments(&the_partition());
        let here = segments.iter().find(|segment| segment.generation == self.generation);
        (here.map(|here| here.end), segments.iter().find(|segment| segment.generation > self.generation))
    }

    /// Whether it has come to a target's segment.
    pub(super) fn is_on(&self, target: &Target) -> bool {
        (self.generation, self.colour) == (target.generation, target.colour)
    }

    fn at(&self, place: &Place) -> usize {
        place.infra[index(self.colour)].committed
    }

    /// Whether its segment is known to hold nothing more.
    fn is_over(&self, on: Colour, place: &Place) -> bool {
        match self.read(on, place).0 {
            Some(SegmentEnd::Closed { end, .. }) => self.at(place) as i64 >= end.0,
            Some(SegmentEnd::Unreadable) => true,
            Some(SegmentEnd::Open) | None => false,
        }
    }

    pub(super) fn hands(&self, place: &Place, hands: &mut Vec<Hand>) {
        if self.fetched {
            return hands.push(Hand::Give);
        }
        let there = place.is_open(self.colour) && self.at(place) < place.ground.at(self.colour).log.len();
        if there && !self.is_over(self.colour, place) {
            hands.push(Hand::Fetch);
        }
        let reached = Colour::BOTH.into_iter().filter(|on| place.is_open(*on));
        let next = |on: &Colour| self.is_over(*on, place) && self.read(*on, place).1.is_some();
        hands.extend(reached.filter(next).map(Hand::Onwards));
    }

    pub(super) fn take(&mut self, hand: &Hand, place: &mut Place) -> Option<Broken> {
        match hand {
            Hand::Fetch => {
                self.fetched = true;
                None
            }
            Hand::Give => {
                self.fetched = false;
                // After the fetch it has read the control topic of this cluster to its end; where it cannot, it waits.
                if !place.is_open(self.colour) || self.is_over(self.colour, place) {
                    return None;
                }
                self.hand_out(place)
            }
            Hand::Onwards(on) => self.onwards(*on, place),
        }
    }

    fn hand_out(&mut self, place: &mut Place) -> Option<Broken> {
        let (producer, record) = place.ground.at(self.colour).log[self.at(place)];
        place.infra(self.colour).committed += 1;
        let next = self.next.get_mut(usize::from(producer))?;
        let expected = std::mem::replace(next, record + 1);
        // What a dead cluster held is missing, and may be.
        let gap = record > expected && place.ground.clusters.iter().any(|cluster| cluster.dead);
        (record != expected && !gap).then(|| {
            let seen = format!("the reader gets record {record} of producer {producer}, not {expected}");
            Broken::new(Promise::G3, seen)
        })
    }

    fn onwards(&mut self, on: Colour, place: &mut Place) -> Option<Broken> {
        let next = self.read(on, place).1?.clone();
        (self.generation, self.colour) = (next.generation, next.colour);
        let (at, start) = (self.at(place), next.start.0 as usize);
        // A barrier's end is read before the chain is written, so the reader may be past it: it stays where it is, and what it
        // has handed out came from producers that have not been on the other cluster.
        place.infra(next.colour).committed = at.max(start);
        (place.ground.at(next.colour).log.len().min(start) > at).then(|| {
            let seen = format!("generation {} starts at {start}, and the reader is at {at}", next.generation);
            Broken::new(Promise::G1, seen)
        })
    }
}

/// What happens to a producer, for people.
pub(super) fn tell(step: &Move, mover: &Mover, place: &Place) -> String {
    match step {
        Move::Send => format!("sends record {} to {}", mover.next, mover.at),
        Move::Hear(nth) => {
            let target = &place.ground.owner[*nth].target;
            format!("hears of {}", crate::tell::at(target))
        }
        Move::Control => format!("reads the control topic of {}", mover.at),
        Move::Go => "moves".into(),
        Move::Again => format!("tries {} again", mover.at),
    }
}

/// What the reader does, for people.
pub(super) fn tell_reader(hand: &Hand, place: &Place, reader: &Reader) -> String {
    match hand {
        Hand::Fetch => format!("fetches offset {} of {}", reader.at(place), reader.colour),
        Hand::Give => "has read the control topic, and hands out what it may".into(),
        Hand::Onwards(on) => format!("goes on from generation {}, as {on} says", reader.generation),
    }
}
