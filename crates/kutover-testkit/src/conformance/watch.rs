//! [`EndpointWatch`]. Each function takes a new watch.

use futures_util::FutureExt as _;
use kutover_core::ports::{EndpointAnswer, EndpointWatch};

use super::Clause;

const PORT: &str = "EndpointWatch";

fn without_ttl(answer: EndpointAnswer) -> EndpointAnswer {
    match answer {
        EndpointAnswer::Found { addresses, owner, .. } => {
            EndpointAnswer::Found { addresses, owner, ttl_ms: 0 }
        }
        other => other,
    }
}

/// Clause 1: the first answer is what stands there.
pub async fn the_first_answer_is_what_stands_there(watch: &dyn EndpointWatch, expected: &EndpointAnswer) {
    let clause = Clause::new(PORT, 1, "`next` returns the first answer at once");
    let found = watch.next().await;
    clause.holds(without_ttl(found.clone()) == without_ttl(expected.clone()), found);
}

/// Clauses 1 and 3, with an endpoint that cannot be asked (L4). `recover` has it be answered again, and gives the answer that
/// then is right.
pub async fn a_failure_is_an_answer_and_is_tried_again(
    watch: &dyn EndpointWatch,
    recover: impl AsyncFn() -> EndpointAnswer,
) {
    let trouble = Clause::new(PORT, 3, "neither ever fails: trouble is an `EndpointAnswer`");
    let again = Clause::new(PORT, 1, "a failed answer is followed by a retry");
    let found = watch.next().await;
    trouble.holds(matches!(found, EndpointAnswer::Failed(_)), found);
    let asked = watch.ask_now().await;
    trouble.holds(matches!(asked, EndpointAnswer::Failed(_)), asked);
    let expected = without_ttl(recover().await);
    let found = without_ttl(watch.next().await);
    again.holds(found == expected, found);
}

/// Clauses 1 to 3: a `next` that was dropped while it waited loses nothing, and a change is seen by both functions.
/// `change` makes the endpoint lead elsewhere and gives the answer that then is right.
pub async fn a_change_is_seen_after_a_dropped_wait(
    watch: &dyn EndpointWatch,
    change: impl AsyncFn() -> EndpointAnswer,
) {
    let later = Clause::new(PORT, 3, "`next` is cancel-safe, and gives each later answer in its time");
    let now = Clause::new(PORT, 2, "`ask_now` asks past every cache that is ours");
    watch.next().await;
    drop(watch.next().now_or_never());
    let expected = without_ttl(change().await);
    let asked = without_ttl(watch.ask_now().await);
    now.holds(asked == expected, asked);
    let found = without_ttl(watch.next().await);
    later.holds(found == expected, found);
}
