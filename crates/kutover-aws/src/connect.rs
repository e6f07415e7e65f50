//! Region, credentials and the HTTP client: as every AWS tool finds them.

use std::fmt;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::{Builder, tls};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};

/// How long a connection may take to stand.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long one request may take. Longer than AWS takes for any that is made here, and short enough that a lost reply is
/// looked up well within a command's time-out.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Where to connect. What is not said is found as the AWS command line finds it: environment, shared configuration
/// files, the instance's or the container's role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsOptions {
    /// The region.
    pub region: Option<String>,
    /// The profile in the shared configuration files.
    pub profile: Option<String>,
}

/// A connection to AWS, from which [`Route53`](crate::Route53) and the others are made. Never shows a credential.
#[derive(Clone)]
pub struct Aws {
    config: SdkConfig,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("region", &self.config.region()).finish_non_exhaustive()
    }
}

impl Aws {
    /// Finds region and credentials. Nothing is asked of AWS yet: credentials are fetched with the first request.
    ///
    /// # Errors
    /// `Refused` if no region is named anywhere.
    pub async fn connect(options: &AwsOptions) -> ProviderResult<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_LIMIT)
            .operation_attempt_timeout(REQUEST_LIMIT)
            .build();
        let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            .http_client(http.build_https());
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        // Boxed: it holds every way to find credentials, and would make its callers as large.
        let config = Box::pin(loader.load()).await;
        if config.region().is_none() {
            return Err(ProviderError::new(
                ErrorKind::Refused,
                "connect to AWS",
                "no region is named; set `aws.region`, or AWS_REGION in the environment",
            ));
        }
        Ok(Self { config })
    }

    /// The SDK's own configuration, to make a changed one from.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }
}

/// For who configures the SDK by themselves. It needs an HTTP client: the SDK is built without its default one.
impl From<SdkConfig> for Aws {
    fn from(config: SdkConfig) -> Self {
        Self { config }
    }
}
