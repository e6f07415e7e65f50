//! Each defence taken out, by a proxy that changes what is said, and what notices: a suite, or a test that holds with the
//! defence in its place. What is shown of every port in kutover-testkit (`broken_backends`, `broken_worlds`) is not
//! shown again: a journal that takes any term, a removal that does not look.

use std::sync::Arc;

use kutover_aws::{CloudFormation, S3Journal};
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner as _, DnsProvider as _, Journal as _, Published};
use kutover_core::words::{Colour, Term};
use kutover_testkit::conformance::dns::{self, published};
use tokio::sync::Barrier;

use crate::journal::{KEY, bucket, entry};
use crate::proxy::{Deed, Held, Proxy};
use crate::route53::Zone;
use crate::server::ministack;
use crate::world::{CLUSTER, World};

const CHANGE: &str = "ChangeResourceRecordSetsRequest";
const UNPROTECT: &str = "Action=UpdateTerminationProtection";
const DELETE: &str = "Action=DeleteStack";

/// What a suite says against a backend, or nothing.
async fn verdict(suite: impl Future<Output = ()> + Send + 'static) -> Option<String> {
    let panic = tokio::spawn(suite).await.err()?.into_panic();
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

/// A change batch that takes what it creates for all there is to be, where it says so: nothing is deleted.
fn unguarded(request: &str, is_meant: fn(&str) -> bool) -> String {
    let edit = |change: &str| {
        if !is_meant(change) {
            format!("<Change>{change}")
        } else if let Some((_, rest)) = change.split_once("</Change>").filter(|_| change.contains("DELETE")) {
            rest.to_owned()
        } else {
            format!("<Change>{}", change.replacen("CREATE", "UPSERT", 1))
        }
    };
    let mut changes = request.split("<Change>");
    let head = changes.next().unwrap_or_default().to_owned();
    changes.fold(head, |text, change| text + &edit(change))
}

/// The swap is a compare-and-set by the deletions in its batch. All racers have looked before any of them writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_deletes_nothing_has_several_winners() {
    let Some(server) = ministack("a_batch_that_deletes_nothing_has_several_winners").await else { return };
    for (apex, is_whole) in [("guarded.test", true), ("unguarded.test", false)] {
        let zone = Zone::new(server, apex).await;
        let proxy = Proxy::before(server.address).await;
        if !is_whole {
            proxy.edit_requests(|request| unguarded(request, |_| true));
        }
        proxy.then(Deed::Pass, CHANGE);
        let race = Arc::new(Barrier::new(8));
        for _ in 0..8 {
            proxy.then(Deed::Meet(Arc::clone(&race)), CHANGE);
        }
        let provider = Arc::new(zone.provider(&server.aws(Some(proxy.address)).await));
        let endpoint = zone.endpoint();
        let suite = async move { dns::compare_and_set_has_one_winner(provider, &endpoint).await };
        match verdict(suite).await {
            None => assert!(is_whole, "the suite lets a blind swap pass"),
            Some(said) => {
                assert!(!is_whole, "{said}");
                assert!(said.contains("DnsProvider, clause 2: of several racing callers"), "{said}");
            }
        }
    }
}

/// L20: a controller that slept between its look and its change is stopped by the owner record alone, if its successor has
/// only raised the term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_owner_record_in_the_batch_a_sleeper_writes() {
    let Some(server) = ministack("without_the_owner_record_in_the_batch_a_sleeper_writes").await else {
        return;
    };
    for (apex, is_whole) in [("owned.test", true), ("unowned.test", false)] {
        let zone = Zone::new(server, apex).await;
        let proxy = Proxy::before(server.address).await;
        if !is_whole {
            proxy.edit_requests(|request| unguarded(request, |change| change.contains("<Type>TXT</Type>")));
        }
        let sleeper = zone.provider(&server.aws(Some(proxy.address)).await);
        let successor = zone.provider(&server.aws(None).await);
        let endpoint = zone.endpoint();
        let before = published(1);
        successor.compare_and_set(&endpoint, &Published::default(), &before).await.unwrap();
        let held = Held::default();
        proxy.then(Deed::Hold(held.clone()), CHANGE);
        let mut raised = before.clone();
        raised.owner.as_mut().unwrap().term = Term(7);
        let late = published(2);
        let raise = async {
            held.arrived().await;
            successor.compare_and_set(&endpoint, &before, &raised).await.unwrap();
            held.let_go();
        };
        let (written, ()) = tokio::join!(sleeper.compare_and_set(&endpoint, &before, &late), raise);
        let found = successor.read(&endpoint).await.unwrap();
        if is_whole {
            let error = written.unwrap_err();
            assert!(error.kind == ErrorKind::Conflict && error.reason.contains("term 7"), "{error}");
            assert_eq!(found, raised);
        } else {
            written.unwrap();
            assert_eq!(found, late, "the term that was raised would have to be lost");
        }
    }
}

/// L14: whose a record set is that stands there after a lost request is told by term and nonce: somebody else may have
/// written the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_term_and_nonce_somebody_elses_change_is_taken_for_ones_own() {
    let test = "without_term_and_nonce_somebody_elses_change_is_taken_for_ones_own";
    let Some(server) = ministack(test).await else { return };
    for (apex, is_whole) in [("signed.test", true), ("unsigned.test", false)] {
        let zone = Zone::new(server, apex).await;
        let proxy = Proxy::before(server.address).await;
        if !is_whole {
            proxy.edit_replies(|reply| reply.replace("term=5;nonce=theirs", "term=2;nonce=n2"));
        }
        let provider = zone.provider(&server.aws(Some(proxy.address)).await);
        let other = zone.provider(&server.aws(None).await);
        let endpoint = zone.endpoint();
        let (before, ours) = (published(1), published(2));
        other.compare_and_set(&endpoint, &Published::default(), &before).await.unwrap();
        let mut theirs = ours.clone();
        let owner = theirs.owner.as_mut().unwrap();
        (owner.term, owner.nonce) = (Term(5), "theirs".into());
        let held = Held::default();
        proxy.then(Deed::Hold(held.clone()), CHANGE);
        let overtake = async {
            held.arrived().await;
            other.compare_and_set(&endpoint, &before, &theirs).await.unwrap();
            held.let_go();
        };
        let (written, ()) = tokio::join!(provider.compare_and_set(&endpoint, &before, &ours), overtake);
        assert_eq!(other.read(&endpoint).await.unwrap(), theirs);
        match written {
            Ok(()) => assert!(!is_whole, "somebody else's change is called ours"),
            Err(error) => {
                let says_who = error.kind == ErrorKind::Conflict && error.reason.contains("term 5");
                assert!(is_whole && says_who, "{error}");
            }
        }
    }
}

/// Two controllers have looked, then both write: once at the beginning of a journal, once further on.
async fn of_two_appends_the_later_is_refused(journals: [S3Journal; 2], index: u64) -> ProviderResult<()> {
    let [first, second] = journals;
    first.read().await?;
    second.read().await?;
    first.append(&entry(index, 1, "acknowledged")).await?;
    let late = second.append(&entry(index, 1, "late")).await;
    let found = first.read().await?.pop().unwrap();
    assert_eq!(found, entry(index, 1, "acknowledged"), "an acknowledged entry is gone");
    assert_eq!(late.unwrap_err().kind, ErrorKind::Conflict);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_conditions_an_acknowledged_entry_is_overwritten() {
    let Some(server) = ministack("without_conditions_an_acknowledged_entry_is_overwritten").await else {
        return;
    };
    fn unconditional(request: &str) -> String {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let is_condition = |line: &&str| line.to_ascii_lowercase().starts_with("if-");
        let lines: Vec<_> = head.split("\r\n").filter(|line| !is_condition(line)).collect();
        format!("{}\r\n\r\n{body}", lines.join("\r\n"))
    }
    for (name, is_whole) in [("conditional", true), ("unconditional", false)] {
        bucket(server, name).await;
        let proxy = Proxy::before(server.address).await;
        if !is_whole {
            proxy.edit_requests(unconditional);
        }
        let aws = server.aws(Some(proxy.address)).await;
        for index in [0, 1] {
            let key = format!("{index}/{KEY}");
            let journal = || S3Journal::new(&aws, name, &key);
            for earlier in 0..index {
                journal().append(&entry(earlier, 1, "earlier")).await.unwrap();
            }
            let journals = [journal(), journal()];
            let race = async move { of_two_appends_the_later_is_refused(journals, index).await.unwrap() };
            match verdict(race).await {
                None => assert!(is_whole, "nothing is missed"),
                Some(said) => assert!(!is_whole && said.contains("an acknowledged entry is gone"), "{said}"),
            }
        }
    }
}

/// L13: from the moment that a cluster serves, nobody removes it by a slip, and a removal that is refused changes that
/// not even for a moment.
async fn it_withstands_a_slip(world: &World, stacks: CloudFormation) {
    let made = stacks.provision(Colour::Blue, &"one".into()).await.unwrap();
    let wrong = RemovalMark { incarnation: made.id.clone(), cluster_id: "another-cluster".into() };
    assert_eq!(stacks.destroy(&wrong).await.unwrap_err().kind, ErrorKind::Refused);
    // As a person does. It may be refused, or begun.
    let _ = world.client.delete_stack().stack_name(made.id.as_str()).send().await;
    assert_eq!(stacks.describe(Colour::Blue).await.unwrap(), Some(made), "it is gone by a slip");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_termination_protection_a_slip_removes_a_cluster() {
    let Some(server) = ministack("without_termination_protection_a_slip_removes_a_cluster").await else {
        return;
    };
    for (name, is_whole) in [("Kept", true), ("Unkept", false)] {
        let world = World::new(server, name).await;
        let proxy = Proxy::before(server.address).await;
        if !is_whole {
            proxy.edit_requests(|request| {
                request.replace("EnableTerminationProtection=true", "EnableTerminationProtection=false")
            });
        }
        let stacks = world.provisioner(&server.aws(Some(proxy.address)).await);
        match verdict(async move { it_withstands_a_slip(&world, stacks).await }).await {
            None => assert!(is_whole, "nothing is missed"),
            Some(said) => assert!(!is_whole && said.contains("it is gone by a slip"), "{said}"),
        }
    }
}

/// L13, L20: a removal that slept goes on after its incarnation has been removed by another, and a new one has been made
/// under the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_its_name_a_late_removal_takes_the_next_incarnation() {
    let Some(server) = ministack("by_its_name_a_late_removal_takes_the_next_incarnation").await else {
        return;
    };
    fn by_name(request: &str) -> String {
        if ![UNPROTECT, DELETE].iter().any(|action| request.contains(action)) {
            return request.to_owned();
        }
        let (before, id) = request.split_once("StackName=").unwrap();
        let (id, after) = id.split_once('&').unwrap_or((id, ""));
        let name = id.split("%2F").nth(1).unwrap_or(id);
        format!("{before}StackName={name}&{after}")
    }
    let whole = [("ByIdFirst", UNPROTECT, true), ("ByIdThen", DELETE, true)];
    for (name, asleep, is_whole) in
        [whole, [("ByNameFirst", UNPROTECT, false), ("ByNameThen", DELETE, false)]].concat()
    {
        let world = World::new(server, name).await;
        let proxy = Proxy::before(server.address).await;
        if !is_whole {
            proxy.edit_requests(by_name);
        }
        let sleeper = world.provisioner(&server.aws(Some(proxy.address)).await);
        let other = world.provisioner(&server.aws(None).await);
        let old = other.provision(Colour::Blue, &"one".into()).await.unwrap();
        let mark = RemovalMark { incarnation: old.id.clone(), cluster_id: CLUSTER.into() };
        let held = Held::default();
        proxy.then(Deed::Hold(held.clone()), asleep);
        let overtake = async {
            held.arrived().await;
            other.destroy(&mark).await.unwrap();
            let new = other.provision(Colour::Blue, &"two".into()).await.unwrap();
            if asleep == DELETE {
                // What protects it otherwise, and does not while it is being made.
                let open = world.client.update_termination_protection().stack_name(new.id.as_str());
                open.enable_termination_protection(false).send().await.unwrap();
            }
            held.let_go();
            new
        };
        // Whatever it says of one that is gone: it is about that one.
        let (_, new) = tokio::join!(sleeper.destroy(&mark), overtake);
        assert_ne!(new.id, old.id);
        let found = other.describe(Colour::Blue).await.unwrap();
        assert_eq!(found == Some(new), is_whole, "{asleep}: {found:?}");
    }
}
