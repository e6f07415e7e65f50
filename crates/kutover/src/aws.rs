//! What a configuration keeps or makes on AWS. Without the feature `aws` it says how to build with it.

use std::sync::Arc;

use kutover_controller::config::{AwsConfig, Config, Route53Config, StackConfig};
use kutover_core::ports::{ClusterProvisioner, Journal, RecordSet, TokenProvider};
use kutover_core::words::Colour;

use crate::failure::Failure;
use crate::name_server::Records;

#[cfg(feature = "aws")]
pub(crate) use built::{dns, journal, msk_tokens, record_fault, stacks, template};
#[cfg(not(feature = "aws"))]
pub(crate) use left_out::{dns, journal, msk_tokens, record_fault, stacks, template};

#[cfg(feature = "aws")]
mod built {
    use anyhow::{Context as _, anyhow};
    use async_trait::async_trait;
    use kutover_aws::{
        Aws, AwsOptions, CloudFormation, ClusterIds, MskIamTokens, Route53, Route53Options, S3Journal,
        StackOptions, TemplateFault, template_faults,
    };
    use kutover_controller::config::DnsKind;
    use kutover_core::error::{ErrorKind, ProviderResult};
    use kutover_core::ports::{ClusterAdmin as _, DnsProvider, Incarnation};
    use kutover_core::words::{ClusterId, ZoneId};

    use super::{
        Arc, AwsConfig, ClusterProvisioner, Colour, Config, Failure, Journal, RecordSet, Records,
        Route53Config, StackConfig, TokenProvider,
    };
    use crate::wire::Connector;

    fn options(config: &AwsConfig) -> AwsOptions {
        AwsOptions { region: config.region.clone(), profile: config.profile.clone() }
    }

    /// The template that stacks are made of.
    pub(crate) fn template() -> Result<String, Failure> {
        Ok(kutover_aws::template())
    }

    /// Tokens for Amazon MSK.
    pub(crate) fn msk_tokens(config: &AwsConfig) -> anyhow::Result<Arc<dyn TokenProvider>> {
        Ok(Arc::new(MskIamTokens::new(options(config))))
    }

    async fn connect(config: &AwsConfig) -> Result<Aws, Failure> {
        Aws::connect(&options(config)).await.map_err(|error| match error.kind {
            ErrorKind::Refused => Failure::Input(anyhow!("field `aws.region`: {error}")),
            _ => Failure::Run(error.into()),
        })
    }

    /// A journal in S3.
    ///
    /// # Errors
    /// No region is named.
    pub(crate) async fn journal(
        config: &AwsConfig,
        bucket: &str,
        key: &str,
    ) -> Result<Arc<dyn Journal>, Failure> {
        Ok(Arc::new(S3Journal::new(&connect(config).await?, bucket, key)))
    }

    /// Records in Route 53.
    ///
    /// # Errors
    /// No region is named.
    pub(crate) async fn dns(config: &Config, at: &Route53Config) -> Result<Records, Failure> {
        let dns = Route53::new(&connect(&config.aws).await?, records(config, at));
        let pinned = |zone: ZoneId| (zone.clone(), Arc::new(dns.pinned(&zone)) as Arc<dyn DnsProvider>);
        let zones = config.endpoints.iter().filter_map(|endpoint| endpoint.key().zone).map(pinned).collect();
        Ok(Records { dns: Arc::new(dns), zones })
    }

    fn records(config: &Config, at: &Route53Config) -> Route53Options {
        Route53Options {
            zone_ids: at.zone_ids.clone(),
            alias_zone_id: at.alias_zone_id.clone(),
            ..Route53Options::new(config.dns.zone.clone())
        }
    }

    /// What keeps a record set that stands at an endpoint from being taken up.
    pub(crate) fn record_fault(config: &Config, at: &Route53Config, stands: &RecordSet) -> Option<String> {
        records(config, at).fault_of(stands)
    }

    /// A colour's stacks.
    ///
    /// # Errors
    /// No region is named; a template or a client property that cannot be used, by its field.
    pub(crate) async fn stacks(
        config: &Config,
        colour: Colour,
        at: &StackConfig,
    ) -> Result<Arc<dyn ClusterProvisioner>, Failure> {
        let mut options = StackOptions::new(config.deployment.clone(), &at.stack);
        options.parameters = at.parameters.clone();
        options.role_arn = at.role_arn.clone();
        // It has to be over before the command is, or nobody hears how far it is.
        options.patience = config.plan.command_timeout * 4 / 5;
        if let DnsKind::Route53(records) = &config.dns.kind {
            options.alias_zone_id = records.alias_zone_id.clone();
        }
        if let Some(path) = &at.template {
            let read = std::fs::read_to_string(path);
            let named = || format!("field `clusters.{colour}.provisioner.template`: {}", path.display());
            options.template = read.with_context(named).map_err(Failure::Input)?;
        }
        check_template(colour, &options).map_err(Failure::Input)?;
        let ids = Ids(Connector::new(config, None).map_err(Failure::Input)?);
        Ok(Arc::new(CloudFormation::new(&connect(&config.aws).await?, options, Arc::new(ids))))
    }

    /// What CloudFormation would refuse of the template and its parameters, by their fields.
    fn check_template(colour: Colour, options: &StackOptions) -> anyhow::Result<()> {
        let said = |fault: TemplateFault| {
            let field = fault.parameter.map_or("template".to_owned(), |name| format!("parameters.{name}"));
            format!("field `clusters.{colour}.provisioner.{field}`: {}", fault.reason)
        };
        let faults: Vec<_> =
            template_faults(&options.template, &options.parameters).into_iter().map(said).collect();
        anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
        Ok(())
    }

    /// Asks clusters by the controller's own path.
    struct Ids(Connector);

    #[async_trait]
    impl ClusterIds for Ids {
        async fn cluster_id(&self, incarnation: &Incarnation) -> ProviderResult<ClusterId> {
            Ok(self.0.admin(incarnation).await?.identity().await?.cluster_id)
        }
    }
}

#[cfg(not(feature = "aws"))]
mod left_out {
    use anyhow::anyhow;

    use super::{
        Arc, AwsConfig, ClusterProvisioner, Colour, Config, Failure, Journal, RecordSet, Records,
        Route53Config, StackConfig, TokenProvider,
    };

    const WITHOUT: &str = "this program was built without AWS; build it with `--features aws`";

    fn without<T>(field: &str) -> Result<T, Failure> {
        Err(Failure::Input(anyhow!("field `{field}`: {WITHOUT}")))
    }

    pub(crate) fn template() -> Result<String, Failure> {
        Err(Failure::Input(anyhow!(WITHOUT)))
    }

    pub(crate) fn msk_tokens(_: &AwsConfig) -> anyhow::Result<Arc<dyn TokenProvider>> {
        Err(anyhow!("`msk_iam`: {WITHOUT}"))
    }

    pub(crate) async fn journal(_: &AwsConfig, _: &str, _: &str) -> Result<Arc<dyn Journal>, Failure> {
        without("journal")
    }

    pub(crate) async fn dns(_: &Config, _: &Route53Config) -> Result<Records, Failure> {
        without("dns.kind")
    }

    pub(crate) fn record_fault(_: &Config, _: &Route53Config, _: &RecordSet) -> Option<String> {
        None
    }

    pub(crate) async fn stacks(
        _: &Config,
        colour: Colour,
        _: &StackConfig,
    ) -> Result<Arc<dyn ClusterProvisioner>, Failure> {
        without(&format!("clusters.{colour}.provisioner.kind"))
    }
}

#[cfg(all(test, not(feature = "aws")))]
mod tests {
    use super::*;
    use crate::wire::{Hosts, wire};

    const ON_AWS: &str = r#"
deployment = "Kafka"
journal = "s3://bucket/orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]

[dns]
kind = "route53"
zone = "orders.test"
ttl_s = 60

[clusters.blue.provisioner]
kind = "static"
bootstrap = ["127.8.8.1:9"]
endpoint = { addresses = ["127.8.8.1"] }

[clusters.green.provisioner]
kind = "cloudformation"
stack = "Kafka"
"#;

    #[test]
    fn there_is_no_template_without_the_feature() {
        let failure = template().unwrap_err();
        assert!(failure.status() == 2 && failure.to_string().contains("--features aws"), "{failure}");
    }

    #[tokio::test]
    async fn without_the_feature_it_says_how_to_build_with_it() {
        let cluster = "kind = \"cloudformation\"\nstack = \"Kafka\"";
        let existing =
            "kind = \"static\"\nbootstrap = [\"127.8.8.2:9\"]\nendpoint = { addresses = [\"127.8.8.2\"] }";
        let no_stack = ON_AWS.replace(cluster, existing);
        let directory = tempfile::tempdir().unwrap();
        let in_a_file = no_stack.replace("s3://bucket", &directory.path().display().to_string());
        for (text, field) in
            [(ON_AWS, "clusters.green.provisioner.kind"), (&no_stack, "journal"), (&in_a_file, "dns.kind")]
        {
            let failure = match wire(&Config::parse(text).unwrap(), &mut Hosts::default()).await {
                Err(failure) => failure,
                Ok(_) => panic!("it was wired"),
            };
            let said = failure.to_string();
            assert!(
                failure.status() == 2 && said.contains(field) && said.contains("--features aws"),
                "{said}"
            );
        }
    }
}
