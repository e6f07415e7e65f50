//! How long sends wait at a switch: for room, and behind a closed gate (G7).

use kutover_core::switch::{Seal, State};

use super::driver::Driver;
use super::{Shared, Slot};
use crate::observed::{Sealed, Wait};

impl Shared {
    /// A send's wait is over: a client has its record, or its caller has it back.
    pub(super) fn waited(&self, slot: &mut Slot) {
        let Some(parked_ms) = slot.parked_ms.take() else { return };
        let room_ms = std::mem::take(&mut slot.room_ms);
        self.saw_wait(parked_ms - room_ms, room_ms);
    }

    /// A sender that waits for room gives up, or its process ends.
    pub(super) fn stopped_waiting(&self) {
        let since = self.core.lock().roomless_ms.take();
        if let Some(since) = since {
            self.saw_wait(since, self.world.now_ms() - since);
        }
    }

    /// A send waited until now, and so long of it for room.
    pub(super) fn saw_wait(&self, from_ms: u64, room_ms: u64) {
        let until_ms = self.world.now_ms();
        if from_ms < until_ms {
            let wait = Wait { producer: self.number, from_ms, until_ms, room_ms };
            self.world.witness.observed().waits.push(wait);
        }
    }
}

impl Driver {
    /// Notes when a client begins to be settled behind its closed gate, and how long that took.
    pub(super) fn watch_seal(&mut self) {
        let (State::Preparing { seal, .. } | State::Sealing { seal, .. }) = self.switch.state() else {
            return self.sealed();
        };
        match seal {
            Seal::Flushing { .. } | Seal::Purging { .. } => {
                self.sealing_ms.get_or_insert_with(|| self.shared.world.now_ms());
            }
            Seal::Open | Seal::OpenAsking { .. } | Seal::Settled | Seal::Asking { .. } => self.sealed(),
        }
    }

    fn sealed(&mut self) {
        let Some(from_ms) = self.sealing_ms.take() else { return };
        let (producer, took_ms) = (self.shared.number, self.shared.world.now_ms() - from_ms);
        self.shared.world.witness.observed().seals.push(Sealed { producer, took_ms });
    }
}
