//! An account in emulation, as a person and as the program see it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType};
use kutover_aws::{Aws, Route53, Route53Options};
use kutover_core::words::DnsName;
use kutover_tests::{Planted, command_with_aws};

use crate::name_servers::ZONE;
use crate::server::{MiniStack, SECRET, ministack};

/// The bucket that journals are kept in.
pub(crate) const BUCKET: &str = "kutover-journals";
/// Planted as the session's token, which goes with every request.
pub(crate) const SESSION_TOKEN: &str = "planted-5e55/token+of/the+session==";

pub(crate) struct Account {
    pub(crate) server: &'static MiniStack,
    pub(crate) aws: Aws,
    route53: aws_sdk_route53::Client,
    s3: aws_sdk_s3::Client,
}

impl Account {
    /// The one of this test program, if MiniStack is here.
    pub(crate) async fn open(test: &str) -> Option<Self> {
        let server = ministack(test).await?;
        let aws = server.aws(None).await;
        let route53 = aws_sdk_route53::Client::new(aws.config());
        let s3 = aws_sdk_s3::Client::new(aws.config());
        // Who comes second finds it made.
        s3.create_bucket().bucket(BUCKET).send().await.expect("a bucket");
        Some(Self { server, aws, route53, s3 })
    }

    /// Makes a hosted zone and gives its id. `reference` is a test's own.
    pub(crate) async fn hosted_zone(&self, apex: &str, reference: &str) -> String {
        let made = self.route53.create_hosted_zone().name(apex).caller_reference(reference).send().await;
        let zone = made.expect("a hosted zone").hosted_zone.expect("it is told");
        zone.id.trim_start_matches("/hostedzone/").to_owned()
    }

    /// What stands in hosted zones, as kutover reads it.
    pub(crate) fn records(&self, zones: &[String]) -> Route53 {
        let options = Route53Options {
            gap: Duration::from_millis(5),
            zone_ids: zones.to_vec(),
            ..Route53Options::new(DnsName::new(ZONE))
        };
        Route53::new(&self.aws, options)
    }

    /// Changes a record set past kutover, as a person does.
    pub(crate) async fn by_hand(&self, zone: &str, name: &str, kind: RrType, ttl_s: i64, value: &str) {
        let record = ResourceRecord::builder().value(value).build().expect("a record");
        let set = ResourceRecordSet::builder().name(name).r#type(kind).ttl(ttl_s).resource_records(record);
        let set = set.build().expect("a record set");
        let change = Change::builder().action(ChangeAction::Upsert).resource_record_set(set).build();
        let batch = ChangeBatch::builder().changes(change.expect("a change")).build().expect("a batch");
        let request = self.route53.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch);
        request.send().await.expect("changed");
    }

    /// What stands in an object of the bucket.
    pub(crate) async fn object(&self, key: &str) -> String {
        let object = self.s3.get_object().bucket(BUCKET).key(key).send().await.expect("it is there");
        let bytes = object.body.collect().await.expect("it is read").to_vec();
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The program with this account's credentials in its environment and a log of all that it can tell. What it asks of
    /// Route 53 goes to `route53`.
    pub(crate) fn program(&self, route53: SocketAddr, arguments: &[&str]) -> Command {
        let mut command = on_aws(self.server.address, arguments);
        command.env("AWS_ENDPOINT_URL_ROUTE_53", format!("http://{route53}"));
        command
    }
}

/// The program with planted credentials, for an AWS that is to be found at an address.
pub(crate) fn on_aws(at: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = command_with_aws();
    // Nothing of the account of whoever runs the tests.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .env("AWS_ENDPOINT_URL", format!("http://{at}"))
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_SESSION_TOKEN", SESSION_TOKEN)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "no-such-file")
        .env("AWS_SHARED_CREDENTIALS_FILE", "no-such-file")
        .env("KUTOVER_LOG", "trace");
    command
}

/// What must not come out of a run on AWS.
pub(crate) fn planted() -> Planted {
    Planted::new([SECRET, SESSION_TOKEN])
}
