//! How a suite's verdict is taken.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

/// What a suite says of a backend.
pub(crate) async fn verdict(suite: impl Future<Output = ()>) -> String {
    let panic =
        AssertUnwindSafe(suite).catch_unwind().await.expect_err("the suite let a broken backend pass");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The suite rejects a backend by this clause, named as `Port, clause 1`, or by one half of it, with how that half's text
/// begins behind it.
#[allow(dead_code, reason = "not every test file names clauses this way")]
pub(crate) async fn rejected(by: &str, suite: impl Future<Output = ()>) {
    let text = verdict(suite).await;
    let named = if by.contains(": ") { by.to_owned() } else { format!("{by}:") };
    assert!(text.starts_with(&named), "not by {by}: {text}");
}
