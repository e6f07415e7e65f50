//! Which events are worth a line. A drain is looked at every `drain_poll`, for hours if need be: who reads its lines wants to know
//! what has changed.

use std::time::Duration;

use kutover_core::cutover::Event;

/// How often a drain that goes on says how far it is.
const DRAIN_EVERY: Duration = Duration::from_secs(30);

/// What was told last of that which is looked at again and again.
#[derive(Default)]
pub(crate) struct News {
    moved: String,
    /// What stood in the way of the drain, and when that was told.
    drain: Option<(String, u64)>,
}

impl News {
    /// Whether an event says anything that has not just been said.
    pub(crate) fn is(&mut self, event: &Event, at_ms: u64) -> bool {
        match event {
            Event::Moved { .. } => {
                let text = event.to_string();
                std::mem::replace(&mut self.moved, text.clone()) != text
            }
            Event::Draining { remaining, .. } => {
                let text = event.to_string();
                let told = self.drain.as_ref();
                let same = told.is_some_and(|(last, _)| *last == text);
                let lately = told.is_some_and(|(_, at)| u128::from(at_ms - at) < DRAIN_EVERY.as_millis());
                let news = !same && (remaining.is_empty() || !lately);
                if news {
                    self.drain = Some((text, at_ms));
                }
                news
            }
            Event::Entered { .. } => {
                *self = Self::default();
                true
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use kutover_core::cutover::StateName;

    use super::*;

    fn draining(unread: i64) -> Event {
        let remaining =
            if unread == 0 { vec![] } else { vec![format!("group billing: {unread} records unread")] };
        Event::Draining { pairs: 1, unread, remaining }
    }

    #[test]
    fn a_drain_that_goes_on_speaks_twice_a_minute_and_at_its_end() {
        let mut news = News::default();
        let looks = [
            (9, 0),
            (8, 5_000),
            (7, 29_999),
            (6, 30_000),
            (6, 90_000),
            (5, 90_001),
            (0, 90_002),
            (0, 95_000),
        ];
        let told = looks.map(|(unread, at_ms)| news.is(&draining(unread), at_ms));
        assert_eq!(told, [true, false, false, true, false, true, true, false]);
        assert!(news.is(&Event::Entered { state: StateName::Soaking }, 95_001));
        assert!(news.is(&draining(0), 95_002), "proven once more");
    }

    #[test]
    fn who_has_moved_is_told_when_somebody_has() {
        let moved = |moved| Event::Moved { moved, of: 2, waiting: vec!["p2".into()] };
        let mut news = News::default();
        assert_eq!([0, 0, 1, 1].map(|count| news.is(&moved(count), 0)), [true, false, true, false]);
        let note = Event::Note { text: "again".into() };
        assert!(news.is(&note, 0) && news.is(&note, 0));
    }
}
