//! A bound on how often an API is asked, across all calls.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Hands out turns, one per gap, in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Pace {
    gap: Duration,
    /// When the next turn may begin. tokio's lock is fair, so nobody waits for ever.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(gap: Duration) -> Self {
        Self { gap, next: Mutex::new(None) }
    }

    /// Waits for a turn. One that is given up is left for the next caller.
    pub(crate) async fn turn(&self) {
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let turn = next.map_or(now, |next| next.max(now));
        sleep_until(turn).await;
        *next = Some(turn + self.gap);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Route 53 allows five requests a second, whoever makes them.
    #[tokio::test(start_paused = true)]
    async fn turns_of_all_callers_keep_the_gap() {
        let pace = Arc::new(Pace::new(Duration::from_millis(200)));
        let started = Instant::now();
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move {
                    let mut turns = Vec::new();
                    for _ in 0..5 {
                        pace.turn().await;
                        turns.push(started.elapsed());
                    }
                    turns
                })
            })
            .collect();
        let mut turns = Vec::new();
        for caller in callers {
            turns.extend(caller.await.unwrap());
        }
        turns.sort_unstable();
        let gaps: Vec<_> = turns.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(turns.len() == 15 && gaps.iter().all(|gap| *gap >= Duration::from_millis(200)), "{turns:?}");
    }
}
