//! Clusters as stacks.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_cloudformation::types::{ResourceSignalStatus, StackStatus};
use kutover_aws::{CloudFormation, StackOptions};
use kutover_core::error::ErrorKind;
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner as _, RecordData};
use kutover_core::words::{Colour, Nonce};
use kutover_testkit::conformance::provision;
use kutover_testkit::until;

use crate::proxy::{Deed, Held, Lost, Proxy};
use crate::server::{SECRET, http_get, ministack};
use crate::world::{CLUSTER, Ids, LIMIT, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let Some(server) = ministack("it_keeps_the_contract").await else { return };
    let world = World::new(server, "Conform").await;
    let stacks = world.provisioner(&server.aws(None).await);
    provision::nothing_there_is_none(&stacks, Colour::Blue).await;
    stacks.provision(Colour::Blue, &provision::request()).await.unwrap();
    world.register_brokers(Colour::Blue).await;
    provision::check_all(&stacks, Colour::Blue).await;
    provision::nothing_there_is_none(&stacks, Colour::Green).await;
    let options = StackOptions { alias_zone_id: Some("ZOTHER".into()), ..world.options.clone() };
    let other = CloudFormation::new(&server.aws(None).await, options, Arc::new(Ids));
    let error = other.describe(Colour::Blue).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Refused && error.reason.contains("`dns.alias_zone_id` is ZOTHER"),
        "{error}"
    );
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
    provision::an_isolation_is_undone_by_its_own_nonce(&stacks, Colour::Blue, &reaches).await;
    provision::an_isolated_one_is_ready(&stacks, Colour::Blue, reaches).await;
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
        for action in
            ["Action=CreateStack", "Action=CreateChangeSet", "Action=ExecuteChangeSet", "Action=DeleteStack"]
        {
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
    assert!(world.lets_in("client", 9092) && world.lets_in("balancer", 9092));
    for round in 0..6 {
        let (earlier, later) = (Nonce::new(format!("round-{round}")), Nonce::new(format!("later-{round}")));
        old.isolate(&made.id, &earlier).await.unwrap();
        let (put_back, isolated) =
            tokio::join!(old.put_back(&made.id, &earlier), new.isolate(&made.id, &later));
        put_back.unwrap();
        isolated.unwrap();
        assert_eq!(world.isolation(&made.id).await, later.as_str());
        assert!(!world.lets_in("client", 9092) && world.lets_in("broker", 9094));
        assert!(!world.lets_in("balancer", 9092));
    }
}

/// The same, with the put-back asleep at either of its steps: before its change set is made, which would then know of the
/// new isolation, and before it is carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_back_that_slept_undoes_no_newer_isolation() {
    let Some(server) = ministack("a_put_back_that_slept_undoes_no_newer_isolation").await else { return };
    for (name, step) in [("Drowsy", "Action=CreateChangeSet"), ("Asleep", "Action=ExecuteChangeSet")] {
        let world = World::new(server, name).await;
        let proxy = Proxy::before(server.address).await;
        let sleeper = world.provisioner(&server.aws(Some(proxy.address)).await);
        let awake = world.provisioner(&server.aws(None).await);
        let made = awake.provision(Colour::Blue, &"one".into()).await.unwrap();
        awake.isolate(&made.id, &"earlier".into()).await.unwrap();
        let held = Held::default();
        proxy.then(Deed::Hold(held.clone()), step);
        let overtake = async {
            held.arrived().await;
            awake.isolate(&made.id, &"later".into()).await.unwrap();
            held.let_go();
        };
        let earlier = Nonce::new("earlier");
        let (put_back, ()) = tokio::join!(sleeper.put_back(&made.id, &earlier), overtake);
        put_back.unwrap();
        assert_eq!(world.isolation(&made.id).await, "later", "asleep at {step}");
        assert!(!world.lets_in("client", 9092));
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

/// L14: two that begin at the same time get the same one, and there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_makings_at_once_make_one_stack() {
    let Some(server) = ministack("two_makings_at_once_make_one_stack").await else { return };
    let world = World::new(server, "Twice").await;
    let aws = server.aws(None).await;
    let (one, other) = (world.provisioner(&aws), world.provisioner(&aws));
    let request = Nonce::new("one");
    let made = tokio::join!(one.provision(Colour::Blue, &request), other.provision(Colour::Blue, &request));
    let (one, other) = (made.0.unwrap(), made.1.unwrap());
    assert_eq!(one, other);
    let listed = world.client.describe_stacks().send().await.unwrap().stacks.unwrap();
    let of_that_name = listed.iter().filter(|stack| stack.stack_name() == Some("TwiceA")).count();
    assert_eq!(of_that_name, 1);
}

/// What keeps a stack, and whose rights are used: in the requests themselves, since the emulator looks at none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_is_asked_for_with_what_keeps_it() {
    let Some(server) = ministack("a_stack_is_asked_for_with_what_keeps_it").await else { return };
    let world = World::new(server, "Asked").await;
    let proxy = Proxy::before(server.address).await;
    let role = "arn:aws:iam::111122223333:role/kutover";
    let options = StackOptions { role_arn: Some(role.into()), ..world.options.clone() };
    let aws = server.aws(Some(proxy.address)).await;
    let stacks = CloudFormation::new(&aws, options, Arc::new(Ids));
    let made = stacks.provision(Colour::Green, &"on_e/1".into()).await.unwrap();
    stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
    stacks.destroy(&RemovalMark { incarnation: made.id, cluster_id: CLUSTER.into() }).await.unwrap();
    let role = "RoleARN=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fkutover";
    for action in ["Action=CreateStack", "Action=CreateChangeSet", "Action=DeleteStack"] {
        let [request] = &proxy.seen(action)[..] else { panic!("{action} is not asked for once") };
        assert!(request.contains(role), "{request}");
    }
    // With a template that is to be transformed, "the previous one" is the outcome of the transform then.
    let [change] = &proxy.seen("Action=CreateChangeSet")[..] else { unreachable!() };
    assert!(change.contains("TemplateBody=") && !change.contains("UsePreviousTemplate"), "{change}");
    let [create] = &proxy.seen("Action=CreateStack")[..] else { unreachable!() };
    for part in [
        "StackPolicyBody=%7B",
        "ClientRequestToken=kutover-on-e-1",
        "OnFailure=ROLLBACK",
        "Tags.member.1.Key=kutover%3Adeployment&Tags.member.1.Value=Asked",
        "Tags.member.2.Key=kutover%3Arequest&Tags.member.2.Value=on_e%2F1",
        "CAPABILITY_NAMED_IAM",
        "CAPABILITY_AUTO_EXPAND",
    ] {
        assert!(create.contains(part), "no {part} in {create}");
    }
}

/// An isolation that CloudFormation could not carry out, and took back: clients still come in, and it says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolation_that_was_undone_says_why() {
    let Some(server) = ministack("an_isolation_that_was_undone_says_why").await else { return };
    let mut world = World::new(server, "Undone").await;
    let mut changed: serde_json::Value = serde_json::from_str(&world.options.template).unwrap();
    changed["Conditions"]["IsShut"] = serde_json::json!({ "Fn::Not": [{ "Condition": "IsOpen" }] });
    changed["Resources"]["Extra"] = serde_json::json!({
        "Type": "AWS::CloudFormation::WaitCondition",
        "Condition": "IsShut",
        "CreationPolicy": { "ResourceSignal": { "Count": 1, "Timeout": "PT5M" } },
    });
    world.options.template = changed.to_string();
    let stacks = world.provisioner(&server.aws(None).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    world.brokers_say(ResourceSignalStatus::Failure);
    let error = stacks.isolate(&made.id, &"nonce".into()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("WaitCondition Extra"), "{error}");
    assert!(world.lets_in("client", 9092) && world.isolation(&made.id).await.is_empty());
    world.brokers_say(ResourceSignalStatus::Success);
    stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
    assert!(!world.lets_in("client", 9092));
}

/// What the transform has worked out of a parameter is worked out anew: it is not only conditions that may depend on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolation_reaches_what_is_transformed() {
    let Some(server) = ministack("an_isolation_reaches_what_is_transformed").await else { return };
    let mut world = World::new(server, "Anew").await;
    let mut changed: serde_json::Value = serde_json::from_str(&world.options.template).unwrap();
    changed["Resources"]["ClientGroup"]["Properties"]["Tags"][1]["Value"] =
        serde_json::json!({ "Fn::ToJsonString": { "shut": { "Ref": "Isolation" } } });
    world.options.template = changed.to_string();
    let stacks = world.provisioner(&server.aws(None).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
    let query = "/?Action=DescribeSecurityGroups&Version=2016-11-15";
    let groups = http_get(server.address, query).unwrap();
    assert!(groups.contains(r#"{"shut":"nonce"}"#), "{groups}");
}

/// A template that makes nothing of the parameter shuts nobody out: that is said, and nobody else is blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolation_that_changes_nothing_is_refused() {
    let Some(server) = ministack("an_isolation_that_changes_nothing_is_refused").await else { return };
    let mut world = World::new(server, "Open").await;
    let mut changed: serde_json::Value = serde_json::from_str(&world.options.template).unwrap();
    changed["Conditions"]["IsOpen"] = serde_json::json!({ "Fn::Equals": ["", ""] });
    changed["Resources"]["ClientGroup"]["Properties"].as_object_mut().unwrap().remove("Tags");
    world.options.template = changed.to_string();
    let stacks = world.provisioner(&server.aws(None).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    let error = stacks.isolate(&made.id, &"nonce".into()).await.unwrap_err();
    let told =
        error.reason.contains("`Isolation` changes nothing") && error.reason.contains(made.id.as_str());
    assert!(error.kind == ErrorKind::Refused && told, "{error}");
    assert!(world.lets_in("client", 9092));
}

/// Whoever aborts while a stack is being made looks at what stands there: it is not nothing, and once it serves it is what
/// is to be removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_that_is_being_made_is_not_nothing() {
    let Some(server) = ministack("a_stack_that_is_being_made_is_not_nothing").await else { return };
    let world = World::new(server, "Coming").await;
    *world.brokers.lock().unwrap() = None;
    let stacks = world.provisioner(&server.aws(None).await);
    let request = Nonce::new("one");
    let begin = async || {
        tokio::select! {
            made = stacks.provision(Colour::Green, &request) => {
                panic!("nobody has said that it serves: {made:?}")
            }
            () = until("the making to begin", LIMIT, || async {
                (world.status("ComingB").await == Some(StackStatus::CreateInProgress)).then_some(())
            }) => {}
        }
    };
    provision::what_is_being_made_is_not_nothing(&stacks, Colour::Green, begin).await;
    let error = stacks.describe(Colour::Green).await.unwrap_err();
    assert!(error.reason.contains("being made (CREATE_IN_PROGRESS)"), "{error}");
    world.brokers_say(ResourceSignalStatus::Success);
    let made = until("it to serve", LIMIT, || async { stacks.describe(Colour::Green).await.ok() }).await;
    let made = made.expect("it is there");
    stacks.destroy(&RemovalMark { incarnation: made.id, cluster_id: CLUSTER.into() }).await.unwrap();
    provision::nothing_there_is_none(&stacks, Colour::Green).await;
}

/// L13: an update that could not be undone stops neither the brokers nor the look at who they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_that_got_stuck_in_an_update_is_asked_who_it_is() {
    let Some(server) = ministack("a_stack_that_got_stuck_in_an_update_is_asked_who_it_is").await else {
        return;
    };
    let world = World::new(server, "Asks").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    let wrong = RemovalMark { incarnation: made.id.clone(), cluster_id: "another-cluster".into() };
    let edits: [fn(&str) -> String; 2] = [
        |reply| reply.replace("<StackStatus>CREATE_COMPLETE<", "<StackStatus>UPDATE_ROLLBACK_FAILED<"),
        |reply| reply.replace("<StackStatus>CREATE_COMPLETE<", "<StackStatus>UPDATE_FAILED<"),
    ];
    for edit in edits {
        proxy.edit_replies(edit);
        let error = stacks.destroy(&wrong).await.unwrap_err();
        assert!(error.kind == ErrorKind::Refused && error.reason.contains(CLUSTER), "{error}");
        assert_eq!(world.status(made.id.as_str()).await, Some(StackStatus::CreateComplete));
    }
    let mark = RemovalMark { incarnation: made.id.clone(), cluster_id: CLUSTER.into() };
    stacks.destroy(&mark).await.unwrap();
    assert_eq!(world.status(made.id.as_str()).await, Some(StackStatus::DeleteComplete));
}

/// What only a person gets out of its state is left to that person, with a word on how; and one that could not be removed
/// whole serves nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_that_is_stuck_is_left_to_a_person() {
    let Some(server) = ministack("a_stack_that_is_stuck_is_left_to_a_person").await else { return };
    let world = World::new(server, "Stuck").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    proxy.edit_replies(|reply| {
        reply.replace("<StackStatus>CREATE_COMPLETE<", "<StackStatus>UPDATE_ROLLBACK_FAILED<")
    });
    let mark = RemovalMark { incarnation: made.id.clone(), cluster_id: CLUSTER.into() };
    for error in [
        stacks.describe(Colour::Blue).await.map(drop).unwrap_err(),
        stacks.provision(Colour::Blue, &"one".into()).await.map(drop).unwrap_err(),
        stacks.isolate(&made.id, &"nonce".into()).await.unwrap_err(),
    ] {
        assert!(
            error.kind == ErrorKind::Refused && error.reason.contains("continue its update rollback"),
            "{error}"
        );
    }
    proxy.edit_replies(|reply| reply.replace("<StackStatus>CREATE_COMPLETE<", "<StackStatus>DELETE_FAILED<"));
    assert_eq!(stacks.describe(Colour::Blue).await.unwrap(), None);
    proxy.edit_replies(str::to_owned);
    stacks.destroy(&mark).await.unwrap();
    // Clients reach nothing of what is gone, and nothing can be shut there.
    stacks.put_back(&made.id, &"nonce".into()).await.unwrap();
    let error = stacks.isolate(&made.id, &"nonce".into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

/// A change set that somebody else's change has made obsolete is made anew, and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolation_that_is_always_overtaken_is_given_up() {
    let Some(server) = ministack("an_isolation_that_is_always_overtaken_is_given_up").await else { return };
    let world = World::new(server, "Overtaken").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    let overtake = || proxy.then(Deed::Refuse(400, "InvalidChangeSetStatus"), "Action=ExecuteChangeSet");
    (0..5).for_each(|_| overtake());
    let error = stacks.isolate(&made.id, &"nonce".into()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.reason.contains("again and again"), "{error}");
    assert_eq!(world.isolation(&made.id).await, "");
    overtake();
    stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
    assert_eq!(world.isolation(&made.id).await, "nonce");
}
