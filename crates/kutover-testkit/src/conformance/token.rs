//! [`TokenProvider`]. What it hands out is compared with what the caller has put where it looks.

use std::time::{SystemTime, UNIX_EPOCH};

use kutover_core::ports::{AccessToken, TokenProvider};

use super::Clause;

const PORT: &str = "TokenProvider";

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis()).unwrap_or_default()
}

fn usable(clause: Clause, token: &AccessToken) {
    clause.holds(!token.value.is_empty(), "an empty token");
    clause.holds(u128::from(token.expires_ms) > now_ms(), token);
}

/// Clause 1. `provider` finds a token that can be used, `stale` one that has expired.
pub async fn an_expired_token_is_an_error(provider: &dyn TokenProvider, stale: &dyn TokenProvider) {
    let clause =
        Clause::new(PORT, 1, "`Ok` is a token that can be used now; one that has expired is an error");
    usable(clause, &clause.ok(provider.token().await));
    let found = stale.token().await;
    clause.holds(found.is_err(), found);
}

/// Clause 2. `renew` puts another token where the provider looks, and gives it.
pub async fn a_renewed_token_comes(provider: &dyn TokenProvider, renew: impl AsyncFn() -> String) {
    let clause = Clause::new(PORT, 2, "each call looks anew");
    clause.ok(provider.token().await);
    let wanted = renew().await;
    let found = clause.ok(provider.token().await);
    usable(clause, &found);
    clause.holds(found.value == wanted, "the old one, after it was renewed");
}

/// Clause 3. `provider` finds `token`; `stale` finds `expired`, which has expired.
pub async fn no_token_is_shown(
    (provider, token): (&dyn TokenProvider, &str),
    (stale, expired): (&dyn TokenProvider, &str),
) {
    let clause =
        Clause::new(PORT, 3, "neither the provider's `Debug` nor the text of an error contains a token");
    let answer = provider.token().await;
    let shown = format!("{provider:?} {answer:?}");
    clause.holds(!shown.contains(token), "the provider shows it");
    let error = stale.token().await.err();
    let shown = format!("{stale:?} {error:?}");
    clause.holds(!shown.contains(expired), "its error shows it");
}
