//! CloudFormation takes a request, and its looks show for a while what was there before: nothing follows from these.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_cloudformation::types::StackStatus;
use kutover_aws::{CloudFormation, StackOptions};
use kutover_core::error::{ErrorKind, Outcome, ProviderError};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner as _, Incarnation};
use kutover_core::words::{Colour, Nonce};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::proxy::{Deed, Held, Lost, Proxy, reply};
use crate::server::ministack;
use crate::world::{CLUSTER, Ids, World};

const EXECUTE: &str = "ExecuteChangeSet";
const DELETE: &str = "DeleteStack";
/// Looks that come too early.
const EARLY: usize = 3;

/// The proxy takes one action itself from now on. What was taken is given out once it was looked for some times in vain.
fn takes(proxy: &Proxy, action: &'static str) -> UnboundedReceiver<String> {
    let (sender, taken) = unbounded_channel();
    let (looks, held) = (AtomicUsize::new(0), std::sync::Mutex::new(None));
    proxy.answers(move |request| {
        if request.contains(&format!("Action={action}&")) {
            looks.store(0, Ordering::SeqCst);
            *held.lock().unwrap() = Some(request.to_owned());
            let document = format!(
                "<{action}Response xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"><{action}Result/></{action}Response>"
            );
            return Some(reply("200 OK", &document));
        }
        let is_last =
            request.contains("Action=DescribeStacks") && looks.fetch_add(1, Ordering::SeqCst) + 1 == EARLY;
        if let Some(request) = held.lock().unwrap().take_if(|_| is_last) {
            // Nobody may wait for it any more.
            let _ = sender.send(request);
        }
        None
    });
    taken
}

/// The name of a request's change set.
fn change_set(request: &str) -> String {
    let (_, named) = request.split_once("ChangeSetName=").expect("a change set");
    let (_, name) = named.split_once("kutover-").expect("one of kutover's");
    format!("kutover-{}", &name[..32])
}

fn not_known_yet(error: &ProviderError) {
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    assert!(error.reason.contains("does not show yet"), "{error}");
}

fn mark(made: &Incarnation) -> RemovalMark {
    RemovalMark { incarnation: made.id.clone(), cluster_id: CLUSTER.into() }
}

/// A stack as it was made, and one that was changed before, successfully too.
const BEFORE: [bool; 2] = [false, true];

async fn made(stacks: &CloudFormation, is_updated: bool) -> Incarnation {
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    if is_updated {
        let zero = Nonce::new("zero");
        stacks.isolate(&made.id, &zero).await.unwrap();
        stacks.put_back(&made.id, &zero).await.unwrap();
    }
    made
}

/// L20: what is said to be isolated is isolated, and what is said to be gone is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_shown_yet_is_waited_for() {
    let Some(server) = ministack("what_is_not_shown_yet_is_waited_for").await else { return };
    for (name, is_updated) in ["LateFresh", "LateUpdated"].into_iter().zip(BEFORE) {
        let world = World::new(server, name).await;
        let proxy = Proxy::before(server.address).await;
        let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
        let made = made(&stacks, is_updated).await;
        let mut taken = takes(&proxy, EXECUTE);
        let begin = async {
            let change_set = change_set(&taken.recv().await.expect("it is taken"));
            let execute = world.client.execute_change_set().stack_name(format!("{name}A"));
            execute.change_set_name(change_set).send().await.unwrap();
        };
        let nonce = Nonce::new("nonce");
        let isolate = async {
            stacks.isolate(&made.id, &nonce).await.unwrap();
            assert_eq!(world.isolation(&made.id).await, "nonce", "{name}: it was said to be isolated");
            assert!(!world.lets_in("client", 9092));
        };
        tokio::join!(isolate, begin);
        let mut taken = takes(&proxy, DELETE);
        let begin = async {
            taken.recv().await.expect("it is taken");
            world.client.delete_stack().stack_name(made.id.as_str()).send().await.unwrap();
        };
        let destroy = async {
            stacks.destroy(&mark(&made)).await.unwrap();
            assert_eq!(world.status(made.id.as_str()).await, Some(StackStatus::DeleteComplete));
        };
        tokio::join!(destroy, begin);
    }
}

/// And not for ever: then what became of it is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_shown_is_not_known() {
    let Some(server) = ministack("what_is_never_shown_is_not_known").await else { return };
    for (name, is_updated) in ["NeverFresh", "NeverUpdated"].into_iter().zip(BEFORE) {
        let world = World::new(server, name).await;
        let proxy = Proxy::before(server.address).await;
        let made = made(&world.provisioner(&server.aws(None).await), is_updated).await;
        let hasty = StackOptions { patience: Duration::from_millis(100), ..world.options.clone() };
        let hasty =
            CloudFormation::new(&server.aws(Some(proxy.address)).await, hasty, std::sync::Arc::new(Ids));
        drop(takes(&proxy, EXECUTE));
        not_known_yet(&hasty.isolate(&made.id, &"nonce".into()).await.unwrap_err());
        assert_eq!(world.isolation(&made.id).await, "");
        drop(takes(&proxy, DELETE));
        not_known_yet(&hasty.destroy(&mark(&made)).await.unwrap_err());
        assert_ne!(world.status(made.id.as_str()).await, Some(StackStatus::DeleteComplete));
    }
}

/// AWS matches a policy against the stack that a request names: a change set's ARN alone names none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_set_is_named_with_its_stack() {
    let Some(server) = ministack("a_change_set_is_named_with_its_stack").await else { return };
    let world = World::new(server, "Named").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let other = world.provisioner(&server.aws(None).await);
    let made = made(&other, false).await;
    // One is thrown away, since somebody else isolates meanwhile; the next is carried out.
    let held = Held::default();
    proxy.then(Deed::Hold(held.clone()), "Action=CreateChangeSet");
    let overtake = async {
        held.arrived().await;
        other.isolate(&made.id, &"other".into()).await.unwrap();
        held.let_go();
    };
    let nonce = Nonce::new("nonce");
    let (isolated, ()) = tokio::join!(stacks.isolate(&made.id, &nonce), overtake);
    isolated.unwrap();
    for action in ["DescribeChangeSet", EXECUTE, "DeleteChangeSet"] {
        let seen = proxy.seen(&format!("Action={action}&"));
        assert!(!seen.is_empty(), "no {action}");
        for request in seen {
            let names = request.contains("StackName=NamedA") && request.contains("ChangeSetName=kutover-");
            assert!(names, "{request}");
        }
    }
    assert_eq!(world.isolation(&made.id).await, "nonce");
}

/// L14: the SDK asks again by itself, and AWS answers that there is one of that name. The emulator does not, where the stack is
/// named by its id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_set_whose_making_was_not_answered_is_ones_own() {
    let Some(server) = ministack("a_change_set_whose_making_was_not_answered_is_ones_own").await else {
        return;
    };
    let world = World::new(server, "Unanswered").await;
    let proxy = Proxy::before(server.address).await;
    let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
    let made = made(&stacks, false).await;
    proxy.lose(Lost::Reply, "Action=CreateChangeSet");
    proxy.then(Deed::Refuse(400, "AlreadyExistsException"), "Action=CreateChangeSet");
    stacks.isolate(&made.id, &"nonce".into()).await.unwrap();
    assert_eq!(world.isolation(&made.id).await, "nonce");
    assert_eq!(proxy.seen("Action=CreateChangeSet").len(), 2);
}

/// A stack that goes while its change set is looked at or carried out: nothing of it can be put back, nor need be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_set_whose_stack_is_gone_is_gone_too() {
    let Some(server) = ministack("a_change_set_whose_stack_is_gone_is_gone_too").await else { return };
    for (name, step) in [("GoneFirst", "Action=DescribeChangeSet"), ("GoneThen", "Action=ExecuteChangeSet")] {
        let world = World::new(server, name).await;
        let proxy = Proxy::before(server.address).await;
        let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
        let other = world.provisioner(&server.aws(None).await);
        let made = made(&other, false).await;
        let nonce = Nonce::new("nonce");
        other.isolate(&made.id, &nonce).await.unwrap();
        // AWS looks for the stack first.
        proxy.edit_replies(|reply| {
            let reply = reply.replace("<Code>ChangeSetNotFound<", "<Code>ValidationError<");
            reply.replace("<Message>ChangeSet [", "<Message>Stack [")
        });
        let held = Held::default();
        proxy.then(Deed::Hold(held.clone()), step);
        let remove = async {
            held.arrived().await;
            other.destroy(&mark(&made)).await.unwrap();
            held.let_go();
        };
        let (put_back, ()) = tokio::join!(stacks.put_back(&made.id, &nonce), remove);
        put_back.expect(step);
    }
}
