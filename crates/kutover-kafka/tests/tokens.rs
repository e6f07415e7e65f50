//! The contract of `TokenProvider`, for the one that reads a file.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kutover_kafka::FileTokens;
use kutover_testkit::conformance::token;

/// A token without a signature for somebody, with its `exp` in seconds since 1970.
fn jwt(sub: &str, exp: u64) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&format!(r#"{{"sub":"{sub}","exp":{exp}}}"#)))
}

#[tokio::test]
async fn a_file_of_tokens_keeps_the_contract() {
    /// The year 9999.
    const LATER: u64 = 253_370_764_800;
    let dir = tempfile::tempdir().unwrap();
    let (fresh, stale) = (dir.path().join("fresh"), dir.path().join("stale"));
    std::fs::write(&fresh, jwt("first", LATER)).unwrap();
    std::fs::write(&stale, jwt("past", 7)).unwrap();
    let (provider, expired) = (FileTokens::new(&fresh), FileTokens::new(&stale));
    token::an_expired_token_is_an_error(&provider, &expired).await;
    let renew = async || {
        let renewed = jwt("second", LATER);
        std::fs::write(&fresh, renewed.clone() + "\n").unwrap();
        renewed
    };
    token::a_renewed_token_comes(&provider, renew).await;
    token::no_token_is_shown((&provider, &jwt("second", LATER)), (&expired, &jwt("past", 7))).await;
}
