//! Where region and credentials come from. Each look is a process of its own, with an environment of its own.

use std::fs;
use std::process::Command;

use kutover_aws::{Aws, AwsOptions, Route53, Route53Options};
use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::ports::DnsProvider as _;

/// Says in this test's own process again which look it is to take.
const LOOK: &str = "KUTOVER_TEST_LOOK";

/// Runs a test of this program again, in an environment in which AWS's tools find nothing but what is given.
fn again(test: &str, look: &str, given: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    fs::write(&config, "[profile orders]\nregion = eu-west-3\n").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env_clear()
        .env(LOOK, look)
        .env("AWS_CONFIG_FILE", &config)
        .env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("none"))
        // No instance is asked for what it knows.
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(given.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{look}: {said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{look}: {said}");
}

async fn region(options: AwsOptions) -> Option<String> {
    let aws = Aws::connect(&options).await.ok()?;
    aws.config().region().map(ToString::to_string)
}

#[tokio::test]
async fn a_region_is_found_as_awss_own_tools_find_it() {
    let options = AwsOptions::default();
    let orders = || AwsOptions { profile: Some("orders".into()), ..AwsOptions::default() };
    match std::env::var(LOOK).as_deref() {
        Ok("nowhere") => {
            let error = Aws::connect(&options).await.unwrap_err();
            assert_eq!((error.kind, error.outcome), (ErrorKind::Refused, Outcome::NotDone));
            assert!(error.reason.contains("`aws.region`") && error.reason.contains("AWS_REGION"), "{error}");
        }
        Ok("environment") => assert_eq!(region(options).await.as_deref(), Some("eu-west-2")),
        Ok("profile") => assert_eq!(region(orders()).await.as_deref(), Some("eu-west-3")),
        Ok("options") => {
            let options = AwsOptions { region: Some("eu-west-1".into()), ..orders() };
            assert_eq!(region(options).await.as_deref(), Some("eu-west-1"));
        }
        _ => {
            let test = "connect::a_region_is_found_as_awss_own_tools_find_it";
            for look in ["nowhere", "profile"] {
                again(test, look, &[]);
            }
            for look in ["environment", "options"] {
                again(test, look, &[("AWS_REGION", "eu-west-2")]);
            }
        }
    }
}

/// A request without credentials was never sent, and who is to give them is told how.
#[tokio::test]
async fn without_credentials_it_is_said_where_to_put_them() {
    if std::env::var(LOOK).is_err() {
        again(
            "connect::without_credentials_it_is_said_where_to_put_them",
            "none",
            &[("AWS_REGION", "eu-west-2")],
        );
        return;
    }
    let aws = Aws::connect(&AwsOptions::default()).await.unwrap();
    let provider = Route53::new(&aws, Route53Options::new("orders.test".into()));
    let error = provider.read(&"kafka.orders.test".into()).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::NotAuthorised, Outcome::NotDone), "{error}");
    assert!(error.reason.contains("AWS_ACCESS_KEY_ID"), "{error}");
}
