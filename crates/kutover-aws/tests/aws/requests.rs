//! Which request made a stack: what stands there of another one is no maker's to take away, and a making that failed is told
//! to whoever asks for it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_cloudformation::types::{ResourceSignalStatus, StackStatus};
use kutover_aws::{CloudFormation, StackOptions};
use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::ClusterProvisioner as _;
use kutover_core::words::{Colour, Nonce};
use kutover_testkit::until;

use crate::proxy::{Deed, Edit, Held, Proxy, reply};
use crate::server::{MiniStack, ministack};
use crate::world::{CLUSTER, Ids, LIMIT, World};

const CREATE: &str = "Action=CreateStack";

/// L13: from its beginning on, a stack is that request's alone. Whoever is refused it, and then finds it, made nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_is_the_one_requests_that_made_it() {
    let Some(server) = ministack("a_stack_is_the_one_requests_that_made_it").await else { return };
    let world = World::new(server, "Whose").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    *world.brokers.lock().unwrap() = None;
    let (one, another) = (Nonce::new("one"), Nonce::new("another"));
    let refused = async || {
        let error = stacks.provision(Colour::Green, &another).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (ErrorKind::Refused, Outcome::NotDone), "{error}");
        assert!(error.reason.contains("was made for request one, not for another"), "{error}");
    };
    tokio::select! {
        made = stacks.provision(Colour::Green, &one) => panic!("nobody has said that it serves: {made:?}"),
        () = until("the making to begin", LIMIT, || async {
            (world.status("WhoseB").await == Some(StackStatus::CreateInProgress)).then_some(())
        }) => {}
    }
    refused().await;
    world.brokers_say(ResourceSignalStatus::Success);
    let made = stacks.provision(Colour::Green, &one).await.unwrap();
    refused().await;
    // As while somebody's update of it is under way.
    proxy.edit_replies(|reply| {
        reply.replace("<StackStatus>CREATE_COMPLETE<", "<StackStatus>UPDATE_IN_PROGRESS<")
    });
    refused().await;
    proxy.edit_replies(str::to_owned);
    // One of a version that wrote no request down.
    stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
    assert_eq!(stacks.provision(Colour::Green, &one).await.unwrap(), made, "an isolation lost the tag");
    proxy.edit_replies(|reply| reply.replace("kutover:request", "somebody:else"));
    let error = stacks.provision(Colour::Green, &one).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.reason.contains("does not say for which"), "{error}");
}

/// Thirty-two makers with a request each, of two deployments that share a name by mistake: one makes it, and each other one is
/// told whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thirty_two_makers_one_makes_it() {
    const DEPLOYMENTS: [&str; 2] = ["Race", "Rival"];
    let Some(server) = ministack("of_thirty_two_makers_one_makes_it").await else { return };
    let world = World::new(server, "Race").await;
    let aws = server.aws(None).await;
    let racers: Vec<_> = (0..32)
        .map(|number: usize| {
            let (deployment, request) = (DEPLOYMENTS[number % 2], Nonce::new(format!("maker-{number:02}")));
            let options = StackOptions { deployment: deployment.into(), ..world.options.clone() };
            let stacks = CloudFormation::new(&aws, options, Arc::new(Ids));
            tokio::spawn(async move {
                let made = stacks.provision(Colour::Green, &request).await;
                (deployment, request, made)
            })
        })
        .collect();
    let (mut winners, mut losers) = (Vec::new(), Vec::new());
    for racer in racers {
        match racer.await.unwrap() {
            (deployment, request, Ok(made)) => winners.push((deployment, request, made)),
            (deployment, request, Err(error)) => losers.push((deployment, request, error)),
        }
    }
    let [(owner, winner, made)] = &winners[..] else { panic!("{winners:?} won") };
    assert_eq!(losers.len(), 31);
    for (deployment, request, error) in &losers {
        assert_eq!((error.kind, error.outcome), (ErrorKind::Refused, Outcome::NotDone), "{error}");
        let whose = match deployment == owner {
            true => format!("{} was made for request {winner}, not for {request}", made.id),
            false => format!("{} belongs to deployment {owner}", made.id),
        };
        assert!(error.reason.contains(&whose), "{request} of {deployment}: {error}, and not: {whose}");
    }
    // Also by the account's own word there is one, and it is the winner's.
    let listed = world.client.describe_stacks().send().await.unwrap().stacks.unwrap();
    let [stack] = &listed.iter().filter(|stack| stack.stack_name() == Some("RaceB")).collect::<Vec<_>>()[..]
    else {
        panic!("not one stack of that name: {listed:?}")
    };
    let tag = |key: &str| stack.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value());
    assert_eq!(
        (stack.stack_id(), tag("kutover:deployment"), tag("kutover:request")),
        (Some(made.id.as_str()), Some(*owner), Some(winner.as_str()))
    );
}

/// Leaves behind what the request `one` has failed to make: whoever waited for it gave up before the removal was begun.
async fn fails_and_is_given_up(server: &MiniStack, world: &World) {
    let proxy = Proxy::before(server.address).await;
    let given_up = world.provisioner(&server.aws(Some(proxy.address)).await);
    world.brokers_say(ResourceSignalStatus::Failure);
    let held = Held::default();
    proxy.then(Deed::Hold(held.clone()), "Action=DeleteStack");
    let one = Nonce::new("one");
    tokio::select! {
        made = given_up.provision(Colour::Green, &one) => panic!("it is held: {made:?}"),
        () = held.arrived() => {}
    }
}

/// A call that was given up on before it could say why a making failed: the next one says it, and makes no second one. What
/// another request has left is cleared away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_nobody_was_told_is_told_to_the_next() {
    let Some(server) = ministack("a_failure_that_nobody_was_told_is_told_to_the_next").await else { return };
    for (name, next) in [("Again", "one"), ("Other", "two")] {
        let world = World::new(server, name).await;
        let stacks = world.provisioner(&server.aws(None).await);
        fails_and_is_given_up(server, &world).await;
        world.brokers_say(ResourceSignalStatus::Success);
        let asked = stacks.provision(Colour::Green, &next.into()).await;
        if next == "two" {
            asked.unwrap();
            continue;
        }
        let error = asked.unwrap_err();
        let told = error.reason.contains("received failed message") && error.reason.contains("removed again");
        assert!(error.kind == ErrorKind::Refused && told, "{error}");
        assert_eq!(world.status(&format!("{name}B")).await, None);
    }
}

/// How often the stack that failed was looked at.
static LOOKS: AtomicUsize = AtomicUsize::new(0);

/// A removal that fails: begun by the first look already, or after it.
fn is_not_removed(reply: &str, begun: usize) -> String {
    const FAILED: &str = "<StackStatus>ROLLBACK_COMPLETE<";
    if !reply.contains(FAILED) {
        return reply.to_owned();
    }
    let look = LOOKS.fetch_add(1, Ordering::SeqCst);
    let status = [["ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS"][begun], "DELETE_FAILED"][look.min(1)];
    reply.replace(FAILED, &format!("<StackStatus>{status}<"))
}

/// What could not be removed again is not said to be gone, and why it was not kept is said all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_making_whose_remains_stay_says_so() {
    let Some(server) = ministack("a_making_whose_remains_stay_says_so").await else { return };
    let cases: [(&str, Edit); 2] =
        [("Stays", |reply| is_not_removed(reply, 0)), ("Stayed", |reply| is_not_removed(reply, 1))];
    for (name, edit) in cases {
        let world = World::new(server, name).await;
        fails_and_is_given_up(server, &world).await;
        let proxy = Proxy::before(server.address).await;
        LOOKS.store(0, Ordering::SeqCst);
        proxy.edit_replies(edit);
        // The emulator would remove it.
        proxy.answers(|request| request.contains("Action=DeleteStack").then(deleting));
        let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
        let error = stacks.provision(Colour::Green, &"one".into()).await.unwrap_err();
        let stuck = ["is not removed yet", "is in DELETE_FAILED", "remove what it could not"];
        assert!(error.kind == ErrorKind::Refused, "{error}");
        assert!(stuck.iter().all(|part| error.reason.contains(part)), "{name}: {error}");
        assert!(!error.reason.contains("removed again"), "{name}: {error}");
        // What came before a removal is told by its events, of which there are none here.
        assert_eq!(error.reason.contains("received failed message"), name == "Stays", "{name}: {error}");
    }
}

fn deleting() -> String {
    let document = "<DeleteStackResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"/>";
    reply("200 OK", document)
}

/// A stack takes longer than anybody waits for one answer: how far it is, is said meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_says_how_far_it_is() {
    let Some(server) = ministack("what_is_under_way_says_how_far_it_is").await else { return };
    let world = World::new(server, "Distant").await;
    *world.brokers.lock().unwrap() = None;
    let aws = server.aws(None).await;
    let hasty = StackOptions { patience: Duration::ZERO, ..world.options.clone() };
    let hasty = CloudFormation::new(&aws, hasty, Arc::new(Ids));
    let one = Nonce::new("one");
    let waits_for_a_broker = async || {
        let error = hasty.provision(Colour::Green, &one).await.unwrap_err();
        assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
        assert!(error.reason.contains("it is in CREATE_IN_PROGRESS"), "{error}");
        let (_, done) = error.reason.split_once(": ")?;
        done.ends_with("the last event is Serving0 CREATE_IN_PROGRESS").then(|| done.to_owned())
    };
    let said = until("it to wait for its first broker", LIMIT, waits_for_a_broker).await;
    let done: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert!(done > 5, "all but those that wait for brokers: {said}");
    world.brokers_say(ResourceSignalStatus::Success);
    let made = until("it to be made", LIMIT, async || hasty.provision(Colour::Green, &one).await.ok()).await;
    let mark = RemovalMark { incarnation: made.id, cluster_id: CLUSTER.into() };
    until("it to be gone", LIMIT, async || hasty.destroy(&mark).await.ok()).await;
    assert_eq!(world.status("DistantB").await, None);
}

/// CloudFormation remembers the token of a making whose stack is gone. The request of a first cluster is the same each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_used_for_a_stack_that_is_gone_stops_nobody() {
    let test = "a_token_that_was_used_for_a_stack_that_is_gone_stops_nobody";
    let Some(server) = ministack(test).await else { return };
    let world = World::new(server, "Token").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let is_used = || proxy.then(Deed::Refuse(400, "TokenAlreadyExistsException"), CREATE);
    let tokens = || {
        let token = |request: String| {
            let (_, token) = request.split_once("ClientRequestToken=").expect("a token");
            token.split('&').next().unwrap().to_owned()
        };
        proxy.seen(CREATE).into_iter().map(token).collect::<Vec<_>>()
    };
    let long = Nonce::new("first-".repeat(30));
    (0..2).for_each(|_| is_used());
    let error = stacks.provision(Colour::Green, &long).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    is_used();
    let made = stacks.provision(Colour::Green, &long).await.unwrap();
    let [_, _, used, another] = &tokens()[..] else {
        panic!("it is not asked for twice each time: {:?}", tokens())
    };
    assert!(used != another && another.starts_with(used.as_str()) && another.len() <= 128, "{another}");
    // Where a stack of the name stands, which a look had missed, no other is asked for.
    is_used();
    let missed = std::sync::atomic::AtomicBool::new(false);
    proxy.answers(move |request| {
        let is_first = request.contains("Action=DescribeStacks") && !missed.swap(true, Ordering::SeqCst);
        is_first.then(|| {
            reply(
                "400 No",
                "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code>\
                 <Message>Stack with id TokenB does not exist</Message></Error></ErrorResponse>",
            )
        })
    });
    assert_eq!(stacks.provision(Colour::Green, &long).await.unwrap(), made);
    assert_eq!(tokens().len(), 5, "{:?}", tokens());
}
