//! Tokens for clusters of Amazon MSK that let clients in by IAM.
//!
//! A token is a request that is signed and never sent: the broker asks IAM what it is worth. Signed with the SDK's own
//! signer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_config::Region;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{AccessToken, TokenProvider};
use tokio::sync::OnceCell;
use url::Url;

use crate::connect::{Aws, AwsOptions};
use crate::failure;

const WHAT: &str = "make a token for MSK";
/// What IAM knows Kafka as.
const SERVICE: &str = "kafka-cluster";
/// How long a token is good for, as in AWS's own signers.
const LIFETIME: Duration = Duration::from_secs(900);
const CLIENT: &str = concat!("kutover/", env!("CARGO_PKG_VERSION"));

/// Tokens that prove who a client is to Amazon MSK: `security.protocol=SASL_SSL`, `sasl.mechanism=OAUTHBEARER`. Region and
/// credentials are found at the first token, and credentials that expire are fetched again.
#[derive(Clone, Debug)]
pub struct MskIamTokens {
    options: AwsOptions,
    aws: OnceCell<Aws>,
}

impl MskIamTokens {
    /// Tokens for clusters in this region.
    pub fn new(options: AwsOptions) -> Self {
        Self { options, aws: OnceCell::new() }
    }
}

/// From a connection that stands.
impl From<Aws> for MskIamTokens {
    fn from(aws: Aws) -> Self {
        Self { options: AwsOptions::default(), aws: OnceCell::from(aws) }
    }
}

#[async_trait]
impl TokenProvider for MskIamTokens {
    async fn token(&self) -> ProviderResult<AccessToken> {
        let aws = self.aws.get_or_try_init(|| Aws::connect(&self.options)).await?;
        let refused = |reason: &str| ProviderError::new(ErrorKind::NotAuthorised, WHAT, reason);
        let region = aws.config().region().ok_or_else(|| refused("no region is named; set `aws.region`"))?;
        let provider = aws.config().credentials_provider();
        let provider = provider.ok_or_else(|| refused("this SDK was configured without credentials"))?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| failure::no_credentials(WHAT, &error))?;
        // To the second, as it is signed.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if credentials.expiry().is_some_and(|end| end <= UNIX_EPOCH + Duration::from_secs(now)) {
            return Err(refused("the credentials have expired; whatever renews them does not"));
        }
        let token = signed(region, credentials, UNIX_EPOCH + Duration::from_secs(now));
        token.map_err(|reason| ProviderError::new(ErrorKind::Invalid, WHAT, reason))
    }
}

/// The token for these credentials at this time. No error shows a credential.
fn signed(region: &Region, credentials: Credentials, at: SystemTime) -> Result<AccessToken, String> {
    let invalid = |error: &dyn std::fmt::Display| format!("it cannot be signed: {error}");
    let mut expires = at + LIFETIME;
    if let Some(end) = credentials.expiry() {
        // What is signed with them is worth nothing after it.
        expires = expires.min(end);
    }
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let identity = credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region.as_ref())
        .name(SERVICE)
        .time(at)
        .settings(settings)
        .build()
        .map_err(|error| invalid(&error))?
        .into();
    let address = format!("https://kafka.{region}.amazonaws.com/?Action={SERVICE}%3AConnect");
    let mut address =
        Url::parse(&address).map_err(|error| format!("region {region} makes no address: {error}"))?;
    let request = SignableRequest::new("GET", address.as_str(), std::iter::empty(), SignableBody::empty());
    let instructions =
        request.and_then(|request| sign(request, &params)).map_err(|error| invalid(&error))?.into_parts().0;
    address.query_pairs_mut().extend_pairs(instructions.params()).append_pair("User-Agent", CLIENT);
    let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Ok(AccessToken {
        value: URL_SAFE_NO_PAD.encode(address.as_str()),
        principal: "msk-iam".into(),
        expires_ms: u64::try_from(expires).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use aws_config::BehaviorVersion;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use kutover_testkit::conformance::token;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const SESSION: &str = "token/of+a=session";

    fn credentials(expiry: Option<SystemTime>) -> Credentials {
        Credentials::new("AKIDEXAMPLE", SECRET, Some(SESSION.to_owned()), expiry, "test")
    }

    fn provider(expiry: Option<SystemTime>) -> MskIamTokens {
        let config = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials(expiry)));
        Aws::from(config.build()).into()
    }

    fn address_of(token: &AccessToken) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(&token.value).unwrap()).unwrap()
    }

    /// A known answer: what AWS's own signer for Python (aws-msk-iam-sasl-signer-python 1.0.2) makes of these credentials at
    /// 2026-01-02T03:04:05Z.
    #[test]
    fn a_token_is_what_awss_own_signer_makes() {
        let at = UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let token = signed(&Region::new("eu-west-1"), credentials(None), at).unwrap();
        let expected = "https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-west-1%2Fkafka-cluster%2Faws4_request\
            &X-Amz-Date=20260102T030405Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
            &X-Amz-Security-Token=token%2Fof%2Ba%3Dsession\
            &X-Amz-Signature=aa608905dc322524cefc3dc02936dbe68e8f8e78c3cd0a681d17cc8cc2b43d9a";
        let made = address_of(&token);
        let pairs = |address: &str| {
            let mut pairs: Vec<(String, String)> =
                Url::parse(address).unwrap().query_pairs().into_owned().collect();
            pairs.sort();
            pairs
        };
        let (made, client) = made.split_once("&User-Agent=").unwrap();
        assert_eq!(pairs(made), pairs(expected));
        assert_eq!(client, CLIENT.replace('/', "%2F"));
        assert_eq!(token.expires_ms, 1_767_323_945_000);
    }

    #[test]
    fn a_token_does_not_outlive_its_credentials() {
        let at = UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let end = at + Duration::from_secs(60);
        let token = signed(&Region::new("eu-west-1"), credentials(Some(end)), at).unwrap();
        assert_eq!(token.expires_ms, 1_767_323_105_000);
    }

    #[tokio::test]
    async fn it_keeps_the_contract_of_a_token_provider() {
        let (fresh, stale) = (provider(None), provider(Some(UNIX_EPOCH)));
        token::an_expired_token_is_an_error(&fresh, &stale).await;
        for secret in [SECRET, SESSION] {
            token::no_token_is_shown((&fresh, secret), (&stale, secret)).await;
        }
        let token = fresh.token().await.unwrap();
        assert!(!address_of(&token).contains(SECRET));
    }
}
