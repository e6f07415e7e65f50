//! [`ClusterProvisioner`].

use std::fmt::Debug;

use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::ClusterProvisioner;
use kutover_core::words::{ClusterId, Colour, Nonce};

use super::Clause;

const PORT: &str = "ClusterProvisioner";

/// The request under which every function provisions.
pub fn request() -> Nonce {
    Nonce::new("conformance")
}

/// Clause 1.
pub async fn the_same_request_gives_the_same_incarnation(
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
) {
    let clause =
        Clause::new(PORT, 1, "`provision` with the same request gives the same incarnation, never a second");
    let first = clause.ok(provisioner.provision(colour, &request()).await);
    let second = clause.ok(provisioner.provision(colour, &request()).await);
    clause.holds(first == second, (&first, &second));
    clause.holds(first.colour == colour && !first.bootstrap.is_empty(), &first);
    clause.holds(!first.controller_bootstrap.is_empty(), &first);
    let described = clause.ok(provisioner.describe(colour).await);
    clause.holds(described.as_ref() == Some(&first), described);
}

/// Clause 1, for provisioners that make clusters: what another request made is not handed out as this one's.
pub async fn another_requests_cluster_is_refused(provisioner: &dyn ClusterProvisioner, colour: Colour) {
    let clause = Clause::new(PORT, 1, "`provision` is refused where another request's incarnation stands");
    let standing = clause.ok(provisioner.provision(colour, &request()).await);
    match provisioner.provision(colour, &"conformance-2".into()).await {
        Ok(given) => clause.holds(false, given),
        Err(error) => {
            let refused = error.kind == ErrorKind::Refused && error.outcome == Outcome::NotDone;
            clause.holds(refused, error);
        }
    }
    let found = clause.ok(provisioner.describe(colour).await);
    clause.holds(found.as_ref() == Some(&standing), found);
}

/// Clause 2, with a colour that has nothing behind it.
pub async fn nothing_there_is_none(provisioner: &dyn ClusterProvisioner, empty: Colour) {
    let clause = Clause::new(PORT, 2, "`describe` of a colour with nothing behind it is `Ok(None)`");
    let found = clause.ok(provisioner.describe(empty).await);
    clause.holds(found.is_none(), found);
}

/// Clause 2. `begin` has a cluster come to be made behind a colour with nothing behind it, and returns while that is under
/// way.
pub async fn what_is_being_made_is_not_nothing(
    provisioner: &dyn ClusterProvisioner,
    empty: Colour,
    begin: impl AsyncFnOnce(),
) {
    let clause = Clause::new(PORT, 2, "what is only being made is an error (`Unavailable`), never `None`");
    let before = clause.ok(provisioner.describe(empty).await);
    clause.holds(before.is_none(), before);
    begin().await;
    clause.refused(provisioner.describe(empty).await, ErrorKind::Unavailable);
}

/// Clause 3, and the end of clause 1. `reaches` says whether a client gets through to one of these servers.
pub async fn an_isolation_is_undone_by_its_own_nonce(
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
    reaches: impl AsyncFn(&[String]) -> bool,
) {
    let clause = Clause::new(
        PORT,
        3,
        "`isolate` shuts clients out while `controller_bootstrap` answers, and only `put_back` with its nonce undoes it",
    );
    let serves = Clause::new(PORT, 1, "`provision` returns once the cluster serves");
    let incarnation = clause.ok(provisioner.provision(colour, &request()).await);
    let clients = || reaches(&incarnation.bootstrap);
    serves.holds(clients().await, "clients do not get through");
    for _ in 0..2 {
        clause.ok(provisioner.isolate(&incarnation.id, &"one".into()).await);
        clause.holds(!clients().await, "clients get through under it");
    }
    clause.holds(
        reaches(&incarnation.controller_bootstrap).await,
        "the controller does not get through under it",
    );
    clause.ok(provisioner.put_back(&incarnation.id, &"another".into()).await);
    clause.holds(!clients().await, "another nonce undid it");
    clause.ok(provisioner.isolate(&incarnation.id, &"two".into()).await);
    clause.ok(provisioner.put_back(&incarnation.id, &"one".into()).await);
    clause.holds(!clients().await, "a late put-back of an earlier isolation undid a later one");
    for _ in 0..2 {
        clause.ok(provisioner.put_back(&incarnation.id, &"two".into()).await);
        clause.holds(clients().await, "its own nonce did not undo it");
    }
}

/// Clause 3. `data` reads what stands in the cluster, by its controller's servers.
pub async fn an_isolation_leaves_the_data<T: PartialEq + Debug>(
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
    data: impl AsyncFn(&[String]) -> T,
) {
    let clause = Clause::new(PORT, 3, "`isolate` shuts clients out while the data stays");
    let incarnation = clause.ok(provisioner.provision(colour, &request()).await);
    let before = data(&incarnation.controller_bootstrap).await;
    clause.ok(provisioner.isolate(&incarnation.id, &"one".into()).await);
    let under = data(&incarnation.controller_bootstrap).await;
    clause.ok(provisioner.put_back(&incarnation.id, &"one".into()).await);
    clause.holds(before == under, (before, under));
}

/// Clause 3, for provisioners that cannot isolate: whoever is told `Ok` takes the clients for shut out.
pub async fn what_cannot_isolate_says_so(provisioner: &dyn ClusterProvisioner, colour: Colour) {
    let clause = Clause::new(PORT, 3, "a provisioner that cannot isolate answers `Unsupported`");
    let incarnation = clause.ok(provisioner.provision(colour, &request()).await);
    clause.refused(provisioner.isolate(&incarnation.id, &"one".into()).await, ErrorKind::Unsupported);
}

/// Clause 4: what the mark does not name, by incarnation and by cluster id, stays.
pub async fn only_the_marked_is_destroyed(provisioner: &dyn ClusterProvisioner, colour: Colour) {
    let clause = Clause::new(
        PORT,
        4,
        "`destroy` removes the marked incarnation only, and refuses where another cluster lives there",
    );
    let standing = clause.ok(provisioner.provision(colour, &request()).await);
    let other_cluster =
        RemovalMark { incarnation: standing.id.clone(), cluster_id: "some-other-cluster".into() };
    match provisioner.destroy(&other_cluster).await {
        // Released by one that destroys nothing.
        Ok(()) => {}
        Err(error) => {
            let refused = error.kind == ErrorKind::Refused && error.outcome == Outcome::NotDone;
            clause.holds(refused, error);
        }
    }
    let gone = RemovalMark { incarnation: "long-gone".into(), cluster_id: "some-other-cluster".into() };
    clause.ok(provisioner.destroy(&gone).await);
    let found = clause.ok(provisioner.describe(colour).await);
    clause.holds(found.as_ref() == Some(&standing), found);
}

/// Clause 4, for provisioners that destroy: it is gone afterwards and nothing else is, and destroying it again is `Ok`.
pub async fn the_marked_is_destroyed_for_good(
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
    cluster_id: &ClusterId,
) {
    let clause =
        Clause::new(PORT, 4, "`destroy` removes the marked incarnation; one that is gone already is `Ok`");
    let refuses = Clause::new(PORT, 4, "`destroy` refuses where another cluster lives than the mark names");
    let standing = clause.ok(provisioner.provision(colour, &request()).await);
    let mark = RemovalMark { incarnation: standing.id, cluster_id: cluster_id.clone() };
    let wrong = RemovalMark { cluster_id: "some-other-cluster".into(), ..mark.clone() };
    refuses.refused(provisioner.destroy(&wrong).await, ErrorKind::Refused);
    // Some are of one colour only.
    let beside = provisioner.describe(colour.other()).await.ok();
    for _ in 0..2 {
        clause.ok(provisioner.destroy(&mark).await);
        let found = clause.ok(provisioner.describe(colour).await);
        clause.holds(found.is_none(), found);
    }
    let left = provisioner.describe(colour.other()).await.ok();
    clause.holds(left == beside, (beside, left));
}

/// Clause 4, for clusters that somebody else manages.
pub async fn the_marked_is_released_and_stays(
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
    cluster_id: &ClusterId,
) {
    let clause =
        Clause::new(PORT, 4, "a cluster that somebody else manages is released by `destroy`, not destroyed");
    let standing = clause.ok(provisioner.provision(colour, &request()).await);
    let mark = RemovalMark { incarnation: standing.id.clone(), cluster_id: cluster_id.clone() };
    clause.ok(provisioner.destroy(&mark).await);
    let found = clause.ok(provisioner.describe(colour).await);
    clause.holds(found.as_ref() == Some(&standing), found);
}

/// Clause 5.
pub async fn what_serves_is_ready(provisioner: &dyn ClusterProvisioner, colour: Colour) {
    let clause =
        Clause::new(PORT, 5, "`is_ready` of an incarnation that serves is `Ok`, and changes nothing");
    let standing = clause.ok(provisioner.provision(colour, &request()).await);
    for _ in 0..2 {
        clause.ok(provisioner.is_ready(&standing.id).await);
        let found = clause.ok(provisioner.describe(colour).await);
        clause.holds(found.as_ref() == Some(&standing), found);
    }
}

/// Clause 5, for provisioners that isolate. `reaches` as in [`an_isolation_is_undone_by_its_own_nonce`].
pub async fn an_isolated_one_is_ready(
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
    reaches: impl AsyncFn(&[String]) -> bool,
) {
    let clause =
        Clause::new(PORT, 5, "an isolation in force is no reason against `is_ready`, which does not undo it");
    let standing = clause.ok(provisioner.provision(colour, &request()).await);
    clause.ok(provisioner.isolate(&standing.id, &"one".into()).await);
    clause.ok(provisioner.is_ready(&standing.id).await);
    clause.holds(!reaches(&standing.bootstrap).await, "clients get through after it");
    clause.ok(provisioner.put_back(&standing.id, &"one".into()).await);
}

/// Clause 5, for provisioners whose platform knows whether traffic is served. `fail` has what serves behind the colour go
/// out of service, and `recover` serve again.
pub async fn what_does_not_serve_is_not_ready(
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
    fail: impl AsyncFnOnce(),
    recover: impl AsyncFnOnce(),
) {
    let clause = Clause::new(PORT, 5, "`is_ready` of what is out of service is an error, `NotDone`");
    let standing = clause.ok(provisioner.provision(colour, &request()).await);
    fail().await;
    match provisioner.is_ready(&standing.id).await {
        Ok(()) => clause.holds(false, "it is ready"),
        Err(error) => clause.holds(error.outcome == Outcome::NotDone, error),
    }
    recover().await;
    clause.ok(provisioner.is_ready(&standing.id).await);
}

/// Every clause that needs nothing but the provisioner and leaves the cluster standing, for provisioners that make clusters.
pub async fn check_all(provisioner: &dyn ClusterProvisioner, colour: Colour) {
    the_same_request_gives_the_same_incarnation(provisioner, colour).await;
    another_requests_cluster_is_refused(provisioner, colour).await;
    only_the_marked_is_destroyed(provisioner, colour).await;
    what_serves_is_ready(provisioner, colour).await;
}
