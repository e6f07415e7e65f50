//! Clusters as stacks. What MiniStack has no type for (instances, their interfaces and volumes) is taken out of the
//! template, and the tests speak for the brokers that are not there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{ResourceSignalStatus, StackStatus};
use kutover_aws::{Aws, CloudFormation, ClusterIds, StackOptions};
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner as _, Incarnation, RecordData};
use kutover_core::words::{ClusterId, Colour, IncarnationId, Nonce};
use kutover_testkit::conformance::provision;
use kutover_testkit::until;

use crate::emulated::{emulated, lets_in};
use crate::proxy::{Lost, Proxy};
use crate::server::{MiniStack, SECRET, ministack};

pub(crate) const CLUSTER: &str = "the-cluster-there";
const LIMIT: Duration = Duration::from_secs(60);

/// The clusters that are not there all say this.
struct Ids;

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
    options: StackOptions,
    brokers: Arc<Mutex<ResourceSignalStatus>>,
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
            brokers: Arc::new(Mutex::new(ResourceSignalStatus::Success)),
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
                        let status = brokers.lock().unwrap().clone();
                        let signal =
                            client.signal_resource().stack_name(&stack).logical_resource_id(resource);
                        // Refused where nobody waits for it.
                        let _ = signal.unique_id(format!("i-{resource}")).status(status).send().await;
                    }
                }
            }
        });
    }

    fn brokers_say(&self, status: ResourceSignalStatus) {
        *self.brokers.lock().unwrap() = status;
    }

    pub(crate) async fn status(&self, stack: &str) -> Option<StackStatus> {
        let found = self.client.describe_stacks().stack_name(stack).send().await.ok()?;
        found.stacks?.pop()?.stack_status
    }

    async fn isolation(&self, id: &IncarnationId) -> String {
        let found = self.client.describe_stacks().stack_name(id.as_str()).send().await.unwrap();
        let parameters = found.stacks.unwrap().pop().unwrap().parameters.unwrap();
        let isolation =
            parameters.into_iter().find(|parameter| parameter.parameter_key() == Some("Isolation"));
        isolation.unwrap().parameter_value.unwrap_or_default()
    }

    /// Whether a security group lets anybody in at a port.
    fn lets_in(&self, group: &str, port: u16) -> bool {
        lets_in(self.server, &format!("{}A-{group}", self.name), port)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let Some(server) = ministack("it_keeps_the_contract").await else { return };
    let world = World::new(server, "Conform").await;
    let stacks = world.provisioner(&server.aws(None).await);
    provision::nothing_there_is_none(&stacks, Colour::Blue).await;
    provision::check_all(&stacks, Colour::Blue).await;
    provision::nothing_there_is_none(&stacks, Colour::Green).await;
    let blue = stacks.describe(Colour::Blue).await.unwrap().unwrap();
    assert_eq!(blue.controller_bootstrap, ["172.31.0.10:9094", "172.31.16.10:9094", "172.31.32.10:9094"]);
    let RecordData::Cname(balancer) = &blue.endpoint else { panic!("{blue:?}") };
    assert_eq!(blue.bootstrap.concat().to_lowercase(), format!("{balancer}:9092"));
    let reaches = async |servers: &[String]| {
        if servers == blue.controller_bootstrap {
            world.lets_in("broker", 9094)
        } else {
            world.lets_in("client", 9092)
        }
    };
    provision::an_isolation_is_undone_by_its_own_nonce(&stacks, Colour::Blue, reaches).await;
    provision::the_marked_is_destroyed_for_good(&stacks, Colour::Blue, &CLUSTER.into()).await;
    assert_eq!(world.status(blue.id.as_str()).await, Some(StackStatus::DeleteComplete));
    let again = stacks.provision(Colour::Blue, &"another".into()).await.unwrap();
    assert_ne!(again.id, blue.id, "the name is the same, the incarnation is not");
    stacks.destroy(&RemovalMark { incarnation: blue.id, cluster_id: CLUSTER.into() }).await.unwrap();
    assert!(
        stacks.describe(Colour::Blue).await.unwrap().is_some(),
        "the mark of the old one removed the new one"
    );
}

/// It says which resource failed and why, and leaves nothing behind; the next try begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_making_that_fails_says_why_and_leaves_nothing() {
    let Some(server) = ministack("a_making_that_fails_says_why_and_leaves_nothing").await else { return };
    let world = World::new(server, "Fail").await;
    let aws = server.aws(None).await;
    let stacks = world.provisioner(&aws);
    world.brokers_say(ResourceSignalStatus::Failure);
    let error = stacks.provision(Colour::Green, &"one".into()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("Serving"), "{error}");
    assert!(
        error.reason.contains("received failed message") && error.reason.contains("removed again"),
        "{error}"
    );
    assert_eq!(world.status("FailB").await, None);
    provision::nothing_there_is_none(&stacks, Colour::Green).await;
    assert!(!format!("{error:?} {stacks:?} {aws:?}").contains(SECRET), "a secret is shown");
    world.brokers_say(ResourceSignalStatus::Success);
    stacks.provision(Colour::Green, &"one".into()).await.unwrap();
    let shown = world.client.describe_stacks().stack_name("FailB").send().await.unwrap().stacks.unwrap();
    assert_eq!(shown[0].enable_termination_protection, Some(true));
}

/// One that went back to how it was before an update serves, and can be isolated and removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_whose_update_was_rolled_back_serves() {
    let Some(server) = ministack("a_stack_whose_update_was_rolled_back_serves").await else { return };
    let world = World::new(server, "Rolled").await;
    let stacks = world.provisioner(&server.aws(None).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    let mut changed: serde_json::Value = serde_json::from_str(&world.options.template).unwrap();
    changed["Resources"]["Extra"] = serde_json::json!({
        "Type": "AWS::CloudFormation::WaitCondition",
        "CreationPolicy": { "ResourceSignal": { "Count": 1, "Timeout": "PT5M" } },
    });
    world.brokers_say(ResourceSignalStatus::Failure);
    let update = world.client.update_stack().stack_name(made.id.as_str()).template_body(changed.to_string());
    let kept = world.options.parameters.keys().map(String::as_str).chain(["Suffix"]).map(|name| {
        aws_sdk_cloudformation::types::Parameter::builder()
            .parameter_key(name)
            .use_previous_value(true)
            .build()
    });
    let capabilities = ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"].map(Into::into).to_vec();
    update.set_parameters(Some(kept.collect())).set_capabilities(Some(capabilities)).send().await.unwrap();
    until("the rollback", LIMIT, || async {
        let status = world.status(made.id.as_str()).await;
        (status == Some(StackStatus::UpdateRollbackComplete)).then_some(())
    })
    .await;
    assert_eq!(stacks.describe(Colour::Blue).await.unwrap(), Some(made.clone()));
    stacks.isolate(&made.id, &"one".into()).await.unwrap();
    assert!(!world.lets_in("client", 9092));
    stacks.destroy(&RemovalMark { incarnation: made.id, cluster_id: CLUSTER.into() }).await.unwrap();
}

/// L13: what another deployment, or a person, has made under the name is neither used nor touched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_of_somebody_else_is_left_alone() {
    let Some(server) = ministack("a_stack_of_somebody_else_is_left_alone").await else { return };
    let world = World::new(server, "Theirs").await;
    let aws = server.aws(None).await;
    let theirs = world.provisioner(&aws).provision(Colour::Blue, &"one".into()).await.unwrap();
    let ours = StackOptions { deployment: "ours".into(), ..world.options.clone() };
    let ours = CloudFormation::new(&aws, ours, Arc::new(Ids));
    let nonce = Nonce::new("two");
    let mark = RemovalMark { incarnation: theirs.id.clone(), cluster_id: CLUSTER.into() };
    let errors = [
        ours.provision(Colour::Blue, &nonce).await.map(drop).unwrap_err(),
        ours.describe(Colour::Blue).await.map(drop).unwrap_err(),
        ours.isolate(&theirs.id, &nonce).await.unwrap_err(),
        ours.destroy(&mark).await.unwrap_err(),
    ];
    for error in errors {
        let told = error.kind == ErrorKind::Refused && error.reason.contains("belongs to deployment Theirs");
        assert!(told, "{error}");
    }
    assert_eq!(world.isolation(&theirs.id).await, "");
}

/// L14: lost requests are made again, and what lost replies were about is not made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_request_is_found_out() {
    let Some(server) = ministack("what_became_of_a_request_is_found_out").await else { return };
    let world = World::new(server, "Lossy").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let mut losses = Vec::new();
    for part in [Lost::Reply, Lost::Request] {
        for action in ["Action=CreateStack", "Action=ExecuteChangeSet", "Action=DeleteStack"] {
            proxy.lose(part, action);
            losses.push(part);
        }
        let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
        stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
        assert_eq!(world.isolation(&made.id).await, "nonce");
        stacks
            .destroy(&RemovalMark { incarnation: made.id.clone(), cluster_id: CLUSTER.into() })
            .await
            .unwrap();
        assert_eq!(world.status(made.id.as_str()).await, Some(StackStatus::DeleteComplete));
    }
    assert_eq!(proxy.lost(), losses);
}

/// L20: whoever of an old put-back and a new isolation comes first, the new isolation stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_put_back_undoes_no_newer_isolation() {
    let Some(server) = ministack("a_late_put_back_undoes_no_newer_isolation").await else { return };
    let world = World::new(server, "Late").await;
    let aws = server.aws(None).await;
    let (old, new) = (world.provisioner(&aws), world.provisioner(&aws));
    let made = new.provision(Colour::Blue, &"one".into()).await.unwrap();
    for round in 0..6 {
        let (earlier, later) = (Nonce::new(format!("round-{round}")), Nonce::new(format!("later-{round}")));
        old.isolate(&made.id, &earlier).await.unwrap();
        let (put_back, isolated) =
            tokio::join!(old.put_back(&made.id, &earlier), new.isolate(&made.id, &later));
        put_back.unwrap();
        isolated.unwrap();
        assert_eq!(world.isolation(&made.id).await, later.as_str());
        assert!(!world.lets_in("client", 9092) && world.lets_in("broker", 9094));
    }
}

/// What is made here, and what a template of somebody else's must give too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_with_its_fix() {
    let Some(server) = ministack("what_cannot_be_used_is_refused_with_its_fix").await else { return };
    let world = World::new(server, "Broken").await;
    let aws = server.aws(None).await;
    let with = |change: fn(&mut StackOptions)| {
        let mut options = world.options.clone();
        change(&mut options);
        CloudFormation::new(&aws, options, Arc::new(Ids))
    };
    let one = Nonce::new("one");
    let own = with(|options| drop(options.parameters.insert("Suffix".into(), "A".into())));
    let error = own.provision(Colour::Blue, &one).await.unwrap_err();
    assert!(error.reason.contains("`Suffix` is set by kutover"), "{error}");
    let wrong = with(|options| options.parameters = BTreeMap::new());
    let error = wrong.provision(Colour::Blue, &one).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("ArchiveBucket"), "{error}");
    let poor = with(|options| {
        let mut template: serde_json::Value = serde_json::from_str(&options.template).unwrap();
        template["Outputs"].as_object_mut().unwrap().remove("ControllerBootstrap");
        options.template = template.to_string();
    });
    let error = poor.provision(Colour::Blue, &one).await.unwrap_err();
    assert!(error.reason.contains("no output `ControllerBootstrap`"), "{error}");
}
