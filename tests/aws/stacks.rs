//! Stacks that are not as they should be behind green: whole cutovers under traffic hold or end with the reason, and nothing is
//! lost. A stack here is two conditions to be waited for, and an embedded cluster that it says it has made: what CloudFormation
//! makes of it is about no broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{Parameter, ResourceSignalStatus, Stack, StackStatus};
use kutover_aws::{CloudFormation, ClusterIds, StackOptions};
use kutover_core::error::ProviderResult;
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{
    ClusterProvisioner as _, DnsProvider as _, Incarnation, Published, RecordData, RecordSet,
};
use kutover_core::words::{ClusterId, Colour, DnsName, Nonce};
use kutover_testkit::until;
use kutover_tests::{Live, Program, run};
use serde_json::{Value, json};

use crate::account::on_aws;
use crate::emulated::register;
use crate::name_servers::{ZONE, free_port};
use crate::proxy::Proxy;
use crate::scene::{SOME, Scene};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// The name of green's load balancer.
const BALANCER: &str = "green.orders.test";
/// What has to say that it serves, one after the other.
const BROKERS: [&str; 2] = ["Serving0", "Serving1"];

/// A scene whose green is a stack.
struct Stacks {
    scene: Scene,
    client: Client,
    /// The stack's name without its suffix.
    name: &'static str,
    configuration: PathBuf,
}

impl Stacks {
    /// No stack of that name is there yet.
    async fn open(test: &str, name: &'static str) -> Option<Self> {
        let scene = Scene::open(test, &[ZONE]).await?;
        let client = Client::new(scene.account.aws.config());
        let configuration = scene.configuration(&format!("{name}.journal"), &[ZONE]);
        let stacks = Self { scene, client, name, configuration };
        stacks.configure(&stacks.configuration);
        let leads = RecordSet { ttl_s: 1, data: RecordData::Addresses(vec![[127, 8, 8, 2].into()]) };
        let (bind, balancer) = (stacks.scene.bind.provider(), DnsName::new(BALANCER));
        let nothing = bind.read(&balancer).await.expect("BIND answers");
        let wanted = Published { endpoint: Some(leads), owner: None };
        bind.compare_and_set(&balancer, &nothing, &wanted).await.expect("the balancer has its name");
        Some(stacks)
    }

    /// Puts the stack in the place of the cluster that exists.
    fn configure(&self, path: &Path) {
        const GREEN: &str = "[clusters.green.provisioner]\n";
        let text = std::fs::read_to_string(path).expect("read");
        let (before, after) = text.split_once(GREEN).expect("green is configured");
        let (_, plan) = after.split_once("\n[plan]").expect("a plan");
        let mut stack =
            format!("kind = \"cloudformation\"\nstack = \"{}\"\ntemplate = \"stack.json\"\n", self.name);
        stack += "\n[clusters.green.provisioner.parameters]\n";
        stack += &format!("Servers = \"{}\"\n", self.servers());
        std::fs::write(path, format!("{before}{GREEN}{stack}\n[plan]{plan}")).expect("written");
        std::fs::write(path.with_file_name("stack.json"), template(&BROKERS)).expect("written");
    }

    fn servers(&self) -> String {
        self.scene.clusters[1].bootstrap_servers()
    }

    /// The same stack, as a deployment makes and removes it by kutover.
    fn of(&self, deployment: &str) -> CloudFormation {
        let options = StackOptions {
            template: template(&BROKERS),
            parameters: [("Servers".to_owned(), self.servers())].into(),
            poll: Duration::from_millis(20),
            ..StackOptions::new(deployment.into(), self.name)
        };
        let ids = Arc::new(Green(self.scene.clusters[1].cluster_id()));
        CloudFormation::new(&self.scene.account.aws, options, ids)
    }

    async fn made_by(&self, deployment: &str, request: &Nonce) -> Incarnation {
        let stacks = self.of(deployment);
        let (made, ()) = tokio::join!(stacks.provision(Colour::Green, request), self.brokers_serve());
        made.expect("a stack")
    }

    async fn stack(&self) -> Option<Stack> {
        let name = format!("{}B", self.name);
        let found = self.client.describe_stacks().stack_name(name).send().await.ok()?;
        found.stacks?.pop()
    }

    async fn is_in(&self, status: StackStatus) {
        let look =
            async || self.stack().await.filter(|stack| stack.stack_status == Some(status.clone())).map(drop);
        until("the stack to get there", LIMIT, look).await;
    }

    /// Says something for a resource, once it is waited for.
    async fn says(&self, resource: &str, status: ResourceSignalStatus) {
        let stack = format!("{}B", self.name);
        let say = async || {
            let signal = self.client.signal_resource().stack_name(&stack).logical_resource_id(resource);
            signal.unique_id("i-0").status(status.clone()).send().await.ok().map(drop)
        };
        until("the signal to be taken", LIMIT, say).await;
    }

    async fn brokers_serve(&self) {
        for broker in BROKERS {
            self.says(broker, ResourceSignalStatus::Success).await;
        }
    }

    /// Approves what there is to approve, to the end, and counts.
    async fn goes_on_to_its_end(&self, up: &mut Program, mut live: Live) {
        self.scene.comes_to_the_switch(up, &mut live).await;
        up.say("approve redirect");
        up.wait_for("approve removal");
        up.say("approve removal");
        self.scene.completes(up, live).await;
        let owner = self.scene.owner().await;
        assert_eq!((owner.target.generation.0, owner.target.colour), (2, Colour::Green));
    }
}

/// The embedded cluster that the stack says it has made.
struct Green(ClusterId);

#[async_trait]
impl ClusterIds for Green {
    async fn cluster_id(&self, _: &Incarnation) -> ProviderResult<ClusterId> {
        Ok(self.0.clone())
    }
}

/// Conditions that are waited for one after the other, and where the cluster is.
fn template(conditions: &[&str]) -> String {
    let mut resources = serde_json::Map::new();
    for (number, &name) in conditions.iter().enumerate() {
        let mut condition = json!({
            "Type": "AWS::CloudFormation::WaitCondition",
            "CreationPolicy": { "ResourceSignal": { "Count": 1, "Timeout": "PT5M" } },
        });
        if number > 0 {
            condition["DependsOn"] = json!(conditions[number - 1]);
        }
        resources.insert(name.to_owned(), condition);
    }
    let text = |default: Value| json!({ "Type": "String", "Default": default });
    let servers = json!({ "Value": { "Ref": "Servers" } });
    json!({
        "Parameters": { "Suffix": text("".into()), "Isolation": text("".into()), "Servers": text("".into()) },
        "Resources": resources,
        "Outputs": {
            "Bootstrap": servers,
            "ControllerBootstrap": servers,
            "EndpointName": { "Value": BALANCER },
        },
    })
    .to_string()
}

/// One broker comes up and the next does not: the cutover ends with that one's reason, nothing of the stack stays, and blue
/// serves as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_that_fails_half_way_ends_the_cutover_and_loses_nothing() {
    let test = "a_stack_that_fails_half_way_ends_the_cutover_and_loses_nothing";
    let Some(stacks) = Stacks::open(test, "Halfway").await else { return };
    let (mut up, live) = stacks.scene.begun(&mut stacks.scene.up(&stacks.configuration)).await;
    stacks.says("Serving0", ResourceSignalStatus::Success).await;
    live.goes_on(SOME).await;
    stacks.says("Serving1", ResourceSignalStatus::Failure).await;
    let reason = stacks.scene.is_given_up(&mut up, live).await;
    for part in ["make the stack HalfwayB", "Serving1 CREATE_FAILED", "what had been made was removed again"]
    {
        assert!(reason.contains(part), "no `{part}` in {reason}");
    }
    assert!(stacks.stack().await.is_none(), "it was left behind");
}

/// An update of the stack failed. While it cannot be undone, the cutover holds and says what is to be done; once it is undone,
/// the stack serves as before, and is what the cutover leads to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_in_update_rollback_holds_the_cutover_until_it_is_undone_and_loses_nothing() {
    let test = "a_stack_in_update_rollback_holds_the_cutover_until_it_is_undone_and_loses_nothing";
    let Some(stacks) = Stacks::open(test, "Rolled").await else { return };
    let made = stacks.made_by("orders", &"one".into()).await;
    let kept = ["Suffix", "Servers"]
        .map(|name| Parameter::builder().parameter_key(name).use_previous_value(true).build());
    let update = stacks.client.update_stack().stack_name(made.id.as_str());
    let update = update.template_body(template(&["Serving0", "Serving1", "Extra"]));
    update.set_parameters(Some(kept.to_vec())).send().await.expect("an update");
    stacks.says("Extra", ResourceSignalStatus::Failure).await;
    stacks.is_in(StackStatus::UpdateRollbackComplete).await;

    let proxy = Proxy::before(stacks.scene.account.server.address).await;
    proxy.edit_replies(|reply| reply.replace(">UPDATE_ROLLBACK_COMPLETE<", ">UPDATE_ROLLBACK_FAILED<"));
    let mut up = stacks.scene.up(&stacks.configuration);
    up.env("AWS_ENDPOINT_URL_CLOUDFORMATION", format!("http://{}", proxy.address));
    let (mut up, live) = stacks.scene.begun(&mut up).await;
    let why = up.wait_for("hold: describe the stack RolledB");
    assert!(why.contains("UPDATE_ROLLBACK_FAILED") && why.contains("continue its update rollback"), "{why}");
    live.goes_on(SOME).await;
    assert_eq!(stacks.scene.owner().await.target.generation.0, 1);

    proxy.edit_replies(str::to_owned);
    stacks.goes_on_to_its_end(&mut up, live).await;
    let stack = stacks.stack().await.expect("it serves");
    assert_eq!(stack.stack_id(), Some(made.id.as_str()), "another one was made");
}

/// L13: the name is another deployment's. The cutover holds, names whose it is and leaves it alone; once that one has given the
/// name up, it makes its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_another_deployment_holds_the_cutover_and_loses_nothing() {
    let test = "a_name_of_another_deployment_holds_the_cutover_and_loses_nothing";
    let Some(stacks) = Stacks::open(test, "Taken").await else { return };
    let theirs = stacks.made_by("payments", &"theirs".into()).await;
    let (mut up, live) = stacks.scene.begun(&mut stacks.scene.up(&stacks.configuration)).await;
    let why = up.wait_for("hold: describe the stack TakenB");
    let whose = format!("{} belongs to deployment payments; choose another `stack`", theirs.id);
    assert!(why.contains(&whose), "{why}");
    live.goes_on(SOME).await;
    let stack = stacks.stack().await.expect("it is theirs");
    assert_eq!(
        (stack.stack_id(), stack.stack_status()),
        (Some(theirs.id.as_str()), Some(&StackStatus::CreateComplete))
    );

    let mark =
        RemovalMark { incarnation: theirs.id.clone(), cluster_id: stacks.scene.clusters[1].cluster_id() };
    stacks.of("payments").destroy(&mark).await.expect("they give it up");
    stacks.brokers_serve().await;
    stacks.goes_on_to_its_end(&mut up, live).await;
    let stack = stacks.stack().await.expect("it is ours");
    assert_ne!(stack.stack_id(), Some(theirs.id.as_str()));
}

/// The load balancer of the new stack knows none of its brokers, whatever else answers there: nothing is published while it
/// does not, and the cutover goes on by itself once it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_without_healthy_targets_is_not_switched_to_until_it_has_them_and_loses_nothing() {
    let test = "a_stack_without_healthy_targets_is_not_switched_to_until_it_has_them_and_loses_nothing";
    let Some(stacks) = Stacks::open(test, "Targets").await else { return };
    let mut with_targets: Value = serde_json::from_str(&template(&BROKERS)).expect("JSON");
    with_targets["Resources"]["BootstrapTargets"] = json!({
        "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
        "Properties": {
            "Name": "TargetsB-bootstrap", "Port": 9092, "Protocol": "TCP", "TargetType": "ip", "VpcId": "vpc-00000001",
        },
    });
    let file = stacks.configuration.with_file_name("stack.json");
    std::fs::write(file, with_targets.to_string()).expect("written");
    let (mut up, mut live) = stacks.scene.begun(&mut stacks.scene.up(&stacks.configuration)).await;
    stacks.brokers_serve().await;
    up.wait_for("approve redirect");
    up.say("approve redirect");
    let why = up.wait_for("hold: look whether");
    assert!(why.contains("the target group TargetsB-bootstrap has no target; register the brokers"), "{why}");
    live.goes_on(SOME).await;
    assert_eq!(stacks.scene.owner().await.target.generation.0, 1);
    live.follow(Colour::Green, &stacks.servers());

    register(&stacks.scene.account.aws, "TargetsB-bootstrap", &["10.0.0.10"]).await;
    up.wait_for("approve removal");
    up.say("approve removal");
    stacks.scene.completes(&mut up, live).await;
    assert_eq!(stacks.scene.owner().await.target.generation.0, 2);
}

/// What CloudFormation would refuse of a template's parameters is said before anything is reached.
#[test]
fn check_names_parameters_that_do_not_fit_the_template() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("orders.toml");
    let text = "deployment = \"orders\"\njournal = \"orders.journal\"\n\
        endpoints = [{ name = \"kafka.orders.test\", port = 9092 }]\n\n\
        [aws]\nregion = \"us-east-1\"\n\n[dns]\nkind = \"route53\"\nzone = \"orders.test\"\nttl_s = 60\n\n\
        [clusters.blue.provisioner]\nkind = \"cloudformation\"\nstack = \"Kafka\"\n\n\
        [clusters.green.provisioner]\nkind = \"cloudformation\"\nstack = \"Kafka\"\n\n\
        [clusters.green.provisioner.parameters]\nKafkaVersion = \"latest\"\nBrokerIds = \"0\"\n";
    std::fs::write(&file, text).expect("written");
    let ran = run(&mut on_aws(free_port(), &["check", file.to_str().expect("UTF-8")]));
    assert_eq!(ran.status, Some(2), "{}", ran.shown());
    for says in [
        "field `clusters.green.provisioner.parameters.KafkaVersion`: `latest` is not of the form",
        "field `clusters.green.provisioner.parameters.VpcId`: is missing",
    ] {
        assert!(ran.shown().contains(says), "no `{says}` in {}", ran.shown());
    }
    // One that is there already needs none.
    assert!(!ran.shown().contains("clusters.blue"), "{}", ran.shown());
}
