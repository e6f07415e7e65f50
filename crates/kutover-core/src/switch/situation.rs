//! For model checkers: two machines that behave alike must be equal, whatever they have counted.

use std::collections::BTreeMap;

use super::machine::{Candidate, Seal, Start, State, Switch};

impl Switch {
    /// Counts its numbers anew, in their order, together with those that its driver still knows of (clients, flushes and looks share one count). Gives what each number has become. How often something failed is
    /// forgotten, so the next back-off is the first one again; nothing else that it does changes. Only between
    /// [`Output::Wait`](super::Output::Wait) and the next input.
    pub fn renumber(&mut self, known: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
        let mut names: BTreeMap<u64, u64> = known.into_iter().map(|number| (number, 0)).collect();
        self.each_number(|number| {
            names.insert(*number, 0);
        });
        for (new, name) in names.values_mut().zip(1..) {
            *new = name;
        }
        self.each_number(|number| *number = names[number]);
        self.last_id = names.len() as u64;
        self.failures = 0;
        names
    }

    fn each_number(&mut self, mut each: impl FnMut(&mut u64)) {
        match &mut self.state {
            State::Starting { phase: Start::Connecting(lane) | Start::Reading(lane), .. } => {
                each(&mut lane.id.0)
            }
            State::Serving { lane, .. } => each(&mut lane.id.0),
            State::Preparing { lane, candidate, seal } => {
                each(&mut lane.id.0);
                if let Candidate::Connecting(next) = candidate {
                    each(&mut next.id.0);
                }
                seal.each_number(&mut each);
            }
            State::Sealing { lane, next, seal, .. } => {
                each(&mut lane.id.0);
                each(&mut next.id.0);
                seal.each_number(&mut each);
            }
            State::Replaying { lane, left, look } => {
                each(&mut lane.id.0);
                each(&mut left.0);
                look.iter_mut().for_each(|look| each(&mut look.0));
            }
            State::Starting { .. } | State::Stopped { .. } => {}
        }
        self.refusal_look.iter_mut().for_each(|look| each(&mut look.0));
        self.open.iter_mut().for_each(|lane| each(&mut lane.0));
        let unsettled = std::mem::take(&mut self.unsettled);
        self.unsettled = unsettled
            .into_iter()
            .map(|mut lane| {
                each(&mut lane.0);
                lane
            })
            .collect();
    }
}

impl Seal {
    fn each_number(&mut self, each: &mut impl FnMut(&mut u64)) {
        match self {
            Seal::OpenAsking { look } | Seal::Asking { look } => each(&mut look.0),
            Seal::Flushing { id, .. } | Seal::Purging { id } => each(&mut id.0),
            Seal::Open | Seal::Settled => {}
        }
    }
}
