//! A deployment whose clusters are stacks on MiniStack. What that has no type for (instances, their interfaces and volumes)
//! is taken out of the template, and the tests speak for the brokers that are not there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{ResourceSignalStatus, StackStatus};
use kutover_aws::{Aws, CloudFormation, ClusterIds, StackOptions};
use kutover_core::error::ProviderResult;
use kutover_core::ports::Incarnation;
use kutover_core::words::{ClusterId, Colour, IncarnationId};

use crate::emulated::{emulated, lets_in, register};
use crate::server::MiniStack;

pub(crate) const CLUSTER: &str = "the-cluster-there";
/// How long anything may take that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The clusters that are not there all say this.
pub(crate) struct Ids;

#[async_trait]
impl ClusterIds for Ids {
    async fn cluster_id(&self, _: &Incarnation) -> ProviderResult<ClusterId> {
        Ok(ClusterId::new(CLUSTER))
    }
}

/// A deployment of a test's own, whose brokers say what they are told to.
pub(crate) struct World {
    server: &'static MiniStack,
    name: &'static str,
    pub(crate) client: Client,
    pub(crate) options: StackOptions,
    /// `None`: they are silent.
    pub(crate) brokers: Arc<Mutex<Option<ResourceSignalStatus>>>,
}

impl World {
    pub(crate) async fn new(server: &'static MiniStack, name: &'static str) -> Self {
        let client = Client::new(server.aws(None).await.config());
        let parameters = [
            ("Deployment", name),
            ("ArchiveBucket", "archives"),
            ("ArchiveKey", "kafka_2.13-4.3.1.tgz"),
            ("ArchiveSha512", &"0".repeat(128)),
            ("KafkaVersion", "4.3.1"),
            ("BrokerAddresses", "172.31.0.10,172.31.16.10,172.31.32.10"),
            ("BrokerSubnets", "subnet-00000001,subnet-00000002,subnet-00000003"),
            ("BrokerZones", "us-east-1a,us-east-1b,us-east-1c"),
            ("BalancerSubnets", "subnet-00000001,subnet-00000002,subnet-00000003"),
            ("VpcId", "vpc-00000001"),
            ("ClientCidr", "172.31.0.0/16"),
            ("ControllerCidr", "172.31.255.0/24"),
            ("ImageId", "ami-00000001"),
        ];
        let options = StackOptions {
            parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            template: emulated("0,1,2", &[]),
            poll: Duration::from_millis(20),
            ..StackOptions::new(name.into(), name)
        };
        let world = Self {
            server,
            name,
            client,
            options,
            brokers: Arc::new(Mutex::new(Some(ResourceSignalStatus::Success))),
        };
        world.speak_for_brokers();
        world
    }

    pub(crate) fn provisioner(&self, aws: &Aws) -> CloudFormation {
        CloudFormation::new(aws, self.options.clone(), Arc::new(Ids))
    }

    /// For as long as the test runs: whoever is waited for says what is to be said.
    fn speak_for_brokers(&self) {
        let (client, name, brokers) = (self.client.clone(), self.name, Arc::clone(&self.brokers));
        tokio::spawn(async move {
            let mut looks = tokio::time::interval(Duration::from_millis(20));
            loop {
                looks.tick().await;
                for stack in [format!("{name}A"), format!("{name}B")] {
                    for resource in ["Serving0", "Serving1", "Serving2", "Extra"] {
                        // Anew for each: what they say may have been changed meanwhile.
                        let Some(status) = brokers.lock().unwrap().clone() else { continue };
                        let signal =
                            client.signal_resource().stack_name(&stack).logical_resource_id(resource);
                        // Refused where nobody waits for it.
                        let _ = signal.unique_id(format!("i-{resource}")).status(status).send().await;
                    }
                }
            }
        });
    }

    pub(crate) fn brokers_say(&self, status: ResourceSignalStatus) {
        *self.brokers.lock().unwrap() = Some(status);
    }

    /// Has the load balancer of a colour know its brokers, which are healthy.
    pub(crate) async fn register_brokers(&self, colour: Colour) {
        let group = format!("{}{}-bootstrap", self.name, colour.suffix());
        let addresses: Vec<_> = self.options.parameters["BrokerAddresses"].split(',').collect();
        register(&self.server.aws(None).await, &group, &addresses).await;
    }

    pub(crate) async fn status(&self, stack: &str) -> Option<StackStatus> {
        let found = self.client.describe_stacks().stack_name(stack).send().await.ok()?;
        found.stacks?.pop()?.stack_status
    }

    pub(crate) async fn isolation(&self, id: &IncarnationId) -> String {
        let found = self.client.describe_stacks().stack_name(id.as_str()).send().await.unwrap();
        let parameters = found.stacks.unwrap().pop().unwrap().parameters.unwrap();
        let isolation =
            parameters.into_iter().find(|parameter| parameter.parameter_key() == Some("Isolation"));
        isolation.unwrap().parameter_value.unwrap_or_default()
    }

    /// Whether a security group lets anybody in at a port.
    pub(crate) fn lets_in(&self, group: &str, port: u16) -> bool {
        lets_in(self.server, &format!("{}A-{group}", self.name), port)
    }
}
