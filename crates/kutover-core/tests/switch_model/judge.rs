//! The end of a run, and the judge who looks at the logs.

use std::collections::BTreeMap;

use kutover_core::ports::DeliveryFate;
use kutover_core::switch::{Fences, Input, Order, State};

use super::{Ending, World};

impl World {
    /// The faults end, and everything comes to its end. Bounded.
    pub(crate) fn heal(&mut self) {
        self.fenced.clear();
        self.announced.clear();
        self.input(Input::Fences(Fences::default()));
        for _ in 0..500 {
            let newest = self.published.last().expect("one is published").clone();
            self.input(Input::Target(newest));
            for lane in self.clients.keys().copied().collect::<Vec<_>>() {
                self.deliver_all(lane);
            }
            for _ in 0..self.pending.len() {
                self.finish(0, true);
            }
            for _ in 0..50 {
                self.replay_one();
            }
            let quiet = self.pending.is_empty() && self.replay.is_none() && self.hand_over.is_empty();
            let settled = self.clients.values().all(|client| client.outstanding() == 0);
            let newest = self.published.last().expect("one is published");
            let there = matches!(self.switch.state(),
                State::Serving { lane, .. } if lane.target.generation == newest.generation);
            if quiet && settled && there {
                break;
            }
            self.pass(100);
        }
        while let Some((colour, record)) = self.late.pop() {
            self.append(colour, record);
        }
    }

    /// G1, G2, G3 against the logs. Gives the first broken promise.
    pub(crate) fn judge(&self) -> Result<(), String> {
        if let Some(violation) = self.violations.first() {
            return Err(violation.clone());
        }
        let newest = self.published.last().expect("one is published");
        match self.switch.state() {
            State::Serving { lane, .. } if lane.target.colour == newest.colour => {}
            state => return Err(format!("after all faults ended it is not on {newest:?} but {state:?}")),
        }
        let mut copies = vec![0_u64; self.records.len()];
        let mut last = BTreeMap::new();
        for (_, partition, record) in &self.log {
            copies[*record] += 1;
            let known = &self.records[*record];
            // A late append of a record that was unknown once is its caller's to know.
            let judged = known.ending == Some(Ending::Acknowledged) && !known.maybe_written;
            if self.order == Order::Ordered
                && copies[*record] == 1
                && judged
                && let Some(before) = last.insert(*partition, *record).filter(|before| before > record)
            {
                return Err(format!("G3: record {before} stands before record {record}"));
            }
        }
        let mut duplicates = 0;
        for (record, known) in self.records.iter().enumerate() {
            let copies = copies[record];
            match known.ending {
                None => return Err(format!("G1: record {record} is stranded: {known:?}")),
                Some(Ending::Acknowledged) if copies == 0 => {
                    return Err(format!("G1: record {record} is lost"));
                }
                Some(Ending::Returned(DeliveryFate::NotWritten)) if copies > 0 => {
                    return Err(format!("G1: record {record} was returned as not written, and was"));
                }
                Some(_) => duplicates += copies.saturating_sub(1),
            }
            if copies > 1 && !known.maybe_written {
                return Err(format!("G2: record {record} stands {copies} times and was never unknown"));
            }
        }
        let bound = self.hand_over.counts().possibly_duplicated;
        if duplicates > bound {
            return Err(format!("G2: {duplicates} duplicates, {bound} were counted as possible"));
        }
        Ok(())
    }
}
