//! Holds a producer's records against the logs, after every step.

use kutover_core::ports::DeliveryFate;
use kutover_core::switch::{LaneId, Order, State};
use kutover_core::words::{Colour, Generation};

use super::{Ending, Producer};
use crate::promise::Promise;

impl Producer {
    /// What must hold at any time.
    pub(super) fn judge(&mut self, before: Option<Generation>) {
        self.judge_records();
        if self.order == Order::Ordered {
            self.judge_order();
        }
        if let State::Stopped { reason } = self.switch.state() {
            let reason = reason.clone();
            self.broke(Promise::G1, format!("it stopped: {reason}"));
        }
        if let (Some(before), Some(now)) = (before, self.generation())
            && now < before
        {
            self.broke(Promise::G6, format!("it goes to generation {now} from generation {before}"));
        }
    }

    fn judge_records(&mut self) {
        for record in 0..self.records.len() {
            let known = self.records[record].clone();
            let copies = self.appends.iter().filter(|(_, copy)| usize::from(*copy) == record).count();
            match known.ending {
                Some(Ending::Acknowledged) if copies == 0 => {
                    self.broke(Promise::G1, format!("record {record} was acknowledged and is nowhere"));
                }
                Some(Ending::Returned(DeliveryFate::NotWritten)) if copies > 0 => {
                    self.broke(Promise::G1, format!("record {record} was returned as not written, and was"));
                }
                _ => {}
            }
            if copies > 1 && !known.maybe_written {
                let seen =
                    format!("record {record} stands {copies} times and was never sent again as unknown");
                self.broke(Promise::G2, seen);
            }
        }
    }

    /// First copies of what was acknowledged stand in send order. A record that was unknown once is its caller's to
    /// know.
    fn judge_order(&mut self) {
        let mut first = Vec::new();
        for (_, record) in &self.appends {
            let known = &self.records[usize::from(*record)];
            let judged = known.ending == Some(Ending::Acknowledged) && !known.maybe_written;
            if judged && !first.contains(record) {
                first.push(*record);
            }
        }
        if let Some(pair) = first.windows(2).find(|pair| pair[0] > pair[1]) {
            let seen = format!("record {} stands before record {}", pair[0], pair[1]);
            self.broke(Promise::G3, seen);
        }
    }
}

/// What a telling needs to know.
impl Producer {
    pub(crate) fn colour_of(&self, lane: LaneId) -> Option<Colour> {
        self.clients.get(&lane).map(|client| client.colour)
    }

    pub(crate) fn oldest(&self, lane: LaneId) -> Option<u8> {
        self.clients.get(&lane)?.queue.first().copied()
    }

    pub(crate) fn late_append(&self, nth: usize) -> String {
        let (colour, record) = self.late[nth];
        format!("record {record} is written on {colour}")
    }
}
