//! The suite of `TokenProvider` has its own control: a provider that breaks a clause is rejected, by that clause.

mod common;

use async_trait::async_trait;
use common::rejected;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{AccessToken, TokenProvider};
use kutover_testkit::conformance::token;
use parking_lot::Mutex;

/// Far in the future, in milliseconds since the Unix epoch: the year 9999.
const LATER: u64 = 253_370_764_800_000;

/// Finds a token with an expiry, and breaks what it is told to.
struct Flawed {
    found: Mutex<(String, u64)>,
    first: Mutex<Option<AccessToken>>,
    flaw: Flaw,
}

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    HandsOutExpired,
    HandsOutNothing,
    RemembersForEver,
    ShowsIt,
    TellsItInErrors,
}

impl std::fmt::Debug for Flawed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = if self.flaw == Flaw::ShowsIt { self.found.lock().0.clone() } else { "***".to_owned() };
        f.debug_tuple("Flawed").field(&shown).finish()
    }
}

impl Flawed {
    fn new(flaw: Flaw, value: &str, expires_ms: u64) -> Self {
        Self { found: Mutex::new((value.to_owned(), expires_ms)), first: Mutex::default(), flaw }
    }
}

#[async_trait]
impl TokenProvider for Flawed {
    async fn token(&self) -> ProviderResult<AccessToken> {
        let (value, expires_ms) = self.found.lock().clone();
        if expires_ms < LATER && self.flaw != Flaw::HandsOutExpired {
            let told = if self.flaw == Flaw::TellsItInErrors { value.as_str() } else { "it" };
            let reason = format!("{told} has expired");
            return Err(ProviderError::new(ErrorKind::Unavailable, "find a token", reason));
        }
        let value = if self.flaw == Flaw::HandsOutNothing { String::new() } else { value };
        let token = AccessToken { value, principal: "kutover".into(), expires_ms };
        let first = self.first.lock().get_or_insert_with(|| token.clone()).clone();
        Ok(if self.flaw == Flaw::RemembersForEver { first } else { token })
    }
}

async fn check_all(flaw: Flaw) {
    let (fresh, stale) = (Flawed::new(flaw, "first", LATER), Flawed::new(flaw, "past", 7));
    token::an_expired_token_is_an_error(&fresh, &stale).await;
    let renew = async || {
        *fresh.found.lock() = ("second".to_owned(), LATER);
        "second".to_owned()
    };
    token::a_renewed_token_comes(&fresh, renew).await;
    token::no_token_is_shown((&fresh, "second"), (&stale, "past")).await;
}

#[tokio::test]
async fn a_provider_without_a_flaw_is_accepted() {
    check_all(Flaw::None).await;
}

#[tokio::test]
async fn an_expired_or_empty_token_handed_out_is_rejected() {
    rejected("TokenProvider, clause 1", check_all(Flaw::HandsOutExpired)).await;
    rejected("TokenProvider, clause 1", check_all(Flaw::HandsOutNothing)).await;
}

#[tokio::test]
async fn a_token_remembered_for_ever_is_rejected() {
    rejected("TokenProvider, clause 2", check_all(Flaw::RemembersForEver)).await;
}

#[tokio::test]
async fn a_provider_that_shows_its_token_is_rejected() {
    rejected("TokenProvider, clause 3", check_all(Flaw::ShowsIt)).await;
    rejected("TokenProvider, clause 3", check_all(Flaw::TellsItInErrors)).await;
}
