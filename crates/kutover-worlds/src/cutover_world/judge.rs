//! What must hold in every state, whoever does what.

use kutover_core::chain::{ClosedBy, SegmentEnd};
use kutover_core::cutover::{Record, Stop};
use kutover_core::words::Colour;

use super::Stand;
use super::place::Place;
use crate::names::{cluster_id, place as the_partition};
use crate::promise::{Broken, Promise};

impl Stand {
    pub(super) fn judge(&mut self, place: &Place) {
        if self.broken.is_some() {
            return;
        }
        // With a second controller a late act of an older term may lift the fence: what is written then is found past the
        // closed end, and holds the cutover (L12). A removal must not rest on it, which its own judge looks at.
        let alone = self.controllers.len() == 1;
        let past_end = || closed(place).filter(|_| alone);
        self.broken = serving(place).or_else(past_end).or_else(|| self.stopped());
    }

    /// A machine that stops because a promise of its own is broken has broken it.
    fn stopped(&self) -> Option<Broken> {
        self.controllers.iter().flatten().find_map(|controller| match controller.stop() {
            Some(Stop::Broken(why)) => Some(Broken::new(Promise::Machine, why.clone())),
            _ => None,
        })
    }
}

/// Whoever asks the owner record finds a cluster there.
fn serving(place: &Place) -> Option<Broken> {
    let active = place.ground.published()?.colour;
    let there = place.infra[crate::names::index(active)].present;
    (!there)
        .then(|| Broken::new(Promise::G5, format!("producers belong on {active}, and nothing stands there")))
}

/// Nothing stands past an end that a fence has made final, while no newer segment has been opened there.
fn closed(place: &Place) -> Option<Broken> {
    Colour::BOTH.into_iter().find_map(|colour| {
        let length = place.ground.at(colour).log.len() as i64;
        // A dead cluster still says what was true when it died.
        let readable = Colour::BOTH.into_iter().filter(|colour| !place.ground.at(*colour).dead);
        readable.into_iter().find_map(|read_on| {
            let chain = &place.ground.at(read_on).control.chain;
            let last = chain.segments(&the_partition()).iter().rev();
            let mut last = last.filter(|segment| segment.cluster_id == cluster_id(colour));
            match last.next()?.end {
                SegmentEnd::Closed { end, by: ClosedBy::Fence } if length > end.0 => Some(Broken::new(
                    Promise::G3,
                    format!("{colour} is closed at {end}, and its log goes on to {length}"),
                )),
                _ => None,
            }
        })
    })
}

/// A journal record, for people.
pub(super) fn record(record: &Record) -> String {
    match record {
        Record::Takeover { .. } => "it has taken over".into(),
        Record::Checkpoint { progress } => format!("checkpoint in {}", progress.state.name()),
        Record::Intent { command, .. } => format!("it is about to {}", command.name()),
    }
}
