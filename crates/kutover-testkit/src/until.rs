//! Waiting for a condition, with a bound: what tests do instead of sleeping.

use std::future::Future;
use std::time::Duration;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until a look gives something.
///
/// # Panics
///
/// When `bound` has passed: the message says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(bound, found).await.unwrap_or_else(|_| panic!("waited {bound:?} in vain for {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_until_it_is_there() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(1), || {
            looks += 1;
            let now = looks;
            async move { (now == 3).then_some(now) }
        });
        assert_eq!(found.await, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "in vain for rain")]
    async fn waits_no_longer_than_its_bound() {
        until("rain", Duration::from_secs(1), || async { None::<()> }).await;
    }
}
