//! [`DnsProvider`]. Every function may replace what stands at the endpoint.

use std::sync::Arc;

use kutover_core::error::{ErrorKind, Outcome};
use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::{DnsProvider, Published, RecordData, RecordSet};
use kutover_core::words::{Colour, DnsName, Generation, Term};

use super::Clause;

const PORT: &str = "DnsProvider";

/// What a cutover publishes, told apart by a number.
pub fn published(number: u64) -> Published {
    let last = u8::try_from(number % 200).unwrap_or(0) + 1;
    Published {
        endpoint: Some(RecordSet { ttl_s: 5, data: RecordData::Addresses(vec![[127, 0, 9, last].into()]) }),
        owner: Some(OwnerRecord {
            deployment: "conformance".into(),
            term: Term(number),
            nonce: format!("n{number}").as_str().into(),
            target: Target {
                generation: Generation(number),
                colour: Colour::Blue,
                cluster_id: "c".into(),
                bootstrap: vec![format!("127.0.9.{last}:9092")],
            },
            intent: None,
            removal: None,
        }),
    }
}

async fn put(clause: Clause, provider: &dyn DnsProvider, endpoint: &DnsName, number: u64) -> Published {
    let found = clause.ok(provider.read(endpoint).await);
    let wanted = published(number);
    clause.ok(provider.compare_and_set(endpoint, &found, &wanted).await);
    wanted
}

/// Clause 1.
pub async fn read_gives_what_is_stored(provider: &dyn DnsProvider, endpoint: &DnsName) {
    let clause = Clause::new(PORT, 1, "`read` gives what is stored");
    for number in [1, 2] {
        let wanted = put(clause, provider, endpoint, number).await;
        let found = clause.ok(provider.read(endpoint).await);
        clause.holds(found == wanted, (found, wanted));
    }
}

/// Clause 1, at an endpoint whose owner record the caller has spoilt.
pub async fn a_spoilt_owner_record_is_invalid(provider: &dyn DnsProvider, endpoint: &DnsName) {
    let clause =
        Clause::new(PORT, 1, "an owner record that cannot be parsed is `Invalid`, never an absent one");
    clause.refused(provider.read(endpoint).await, ErrorKind::Invalid);
}

/// Clause 1, at an endpoint at whose owner record's name the caller has put a CNAME. For servers of which others can write to
/// that name.
pub async fn a_cname_in_the_owners_place_is_refused(provider: &dyn DnsProvider, endpoint: &DnsName) {
    let clause = Clause::new(PORT, 1, "a CNAME in the owner record's place is `Refused`, by a swap too");
    clause.refused(provider.read(endpoint).await, ErrorKind::Refused);
    let swap = provider.compare_and_set(endpoint, &Published::default(), &published(70)).await;
    clause.refused(swap, ErrorKind::Refused);
}

/// Clause 2: what does not meet the expectation is left alone.
pub async fn a_stale_expectation_is_a_conflict(provider: &dyn DnsProvider, endpoint: &DnsName) {
    let clause = Clause::new(
        PORT,
        2,
        "a swap whose expectation is not met is `Conflict`, `NotDone`, and changes nothing",
    );
    let old = put(clause, provider, endpoint, 3).await;
    let new = put(clause, provider, endpoint, 4).await;
    let half = |set: &Published, owner: &Published| Published {
        endpoint: set.endpoint.clone(),
        owner: owner.owner.clone(),
    };
    for expected in [Published::default(), old.clone(), half(&new, &old), half(&old, &new)] {
        clause
            .refused(provider.compare_and_set(endpoint, &expected, &published(5)).await, ErrorKind::Conflict);
        let found = clause.ok(provider.read(endpoint).await);
        clause.holds(found == new, found);
    }
}

/// Clause 2: of several racing callers one wins, and what it wrote stands there whole.
pub async fn compare_and_set_has_one_winner(provider: Arc<dyn DnsProvider>, endpoint: &DnsName) {
    let clause =
        Clause::new(PORT, 2, "of several racing callers with the same expectation exactly one gets `Ok`");
    let expected = put(clause, &*provider, endpoint, 9).await;
    let racers: Vec<_> = (10..18)
        .map(|number| {
            let (provider, endpoint, expected) = (Arc::clone(&provider), endpoint.clone(), expected.clone());
            tokio::spawn(async move {
                (number, provider.compare_and_set(&endpoint, &expected, &published(number)).await)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        match racer.await {
            Ok((number, Ok(()))) => winners.push(number),
            Ok((_, lost)) => drop(clause.refused(lost, ErrorKind::Conflict)),
            Err(panicked) => clause.holds(false, panicked),
        }
    }
    clause.holds(winners.len() == 1, &winners);
    let found = clause.ok(provider.read(endpoint).await);
    clause.holds(found == published(winners[0]), found);
}

/// Clause 5: what is stored becomes visible, and what is not stored is not. Asks `looks` times at most.
pub async fn only_what_is_stored_becomes_visible(provider: &dyn DnsProvider, endpoint: &DnsName, looks: u32) {
    let clause =
        Clause::new(PORT, 5, "`is_visible` is true once every authoritative server answers with the set");
    let wanted = put(clause, provider, endpoint, 20).await;
    becomes_visible(clause, provider, endpoint, &wanted, looks).await;
    for other in [published(21), Published { owner: published(21).owner, ..wanted }] {
        let seen = clause.ok(provider.is_visible(endpoint, &other).await);
        clause.holds(!seen, "visible, but never stored");
    }
}

/// Clause 5. `hold` has one authoritative server answer with what stands there now, whatever is stored, and `let_go` has it
/// follow again. Asks `looks` times at most.
pub async fn one_server_behind_hides_it(
    provider: &dyn DnsProvider,
    endpoint: &DnsName,
    (hold, let_go): (impl AsyncFnOnce(), impl AsyncFnOnce()),
    looks: u32,
) {
    let clause = Clause::new(PORT, 5, "`is_visible` is true only once every authoritative server has it");
    put(clause, provider, endpoint, 50).await;
    hold().await;
    let wanted = put(clause, provider, endpoint, 51).await;
    let seen = clause.ok(provider.is_visible(endpoint, &wanted).await);
    clause.holds(!seen, "visible, while one server answers with what stood there before");
    let_go().await;
    becomes_visible(clause, provider, endpoint, &wanted, looks).await;
}

async fn becomes_visible(
    clause: Clause,
    provider: &dyn DnsProvider,
    endpoint: &DnsName,
    wanted: &Published,
    looks: u32,
) {
    for _ in 0..looks {
        if clause.ok(provider.is_visible(endpoint, wanted).await) {
            return;
        }
        tokio::task::yield_now().await;
    }
    clause.holds(false, format!("not visible after {looks} looks"));
}

/// Clause 3: what was acknowledged is read back at once, however late it becomes visible.
pub async fn ok_means_stored(provider: &dyn DnsProvider, endpoint: &DnsName) {
    let clause = Clause::new(PORT, 3, "`Ok` means stored, not visible");
    let wanted = put(clause, provider, endpoint, 30).await;
    let found = clause.ok(provider.read(endpoint).await);
    clause.holds(found == wanted, found);
}

/// Clause 4. `lose_answer` arranges that the next swap is carried out and its answer does not arrive.
pub async fn a_lost_answer_is_unknown(
    provider: &dyn DnsProvider,
    endpoint: &DnsName,
    lose_answer: impl FnOnce(),
) {
    let clause = Clause::new(PORT, 4, "a swap without an answer may have happened, and its error says so");
    let before = put(clause, provider, endpoint, 40).await;
    let wanted = published(41);
    lose_answer();
    match provider.compare_and_set(endpoint, &before, &wanted).await {
        Err(error) => clause.holds(error.outcome == Outcome::Unknown, error),
        Ok(()) => clause.holds(false, "`Ok` without an answer"),
    }
    let found = clause.ok(provider.read(endpoint).await);
    let nonce = found.owner.as_ref().map(|owner| owner.nonce.clone());
    clause.holds(found == wanted || found == before, (nonce, found));
}

/// Clause 6. `ttls` asks an authoritative server for the TTLs of record set and owner record.
pub async fn the_owners_ttl_is_the_sets(
    provider: &dyn DnsProvider,
    endpoint: &DnsName,
    ttls: impl AsyncFn() -> (u32, u32),
) {
    let clause = Clause::new(PORT, 6, "the owner record's TTL is the record set's, or 1 s less");
    put(clause, provider, endpoint, 60).await;
    let (set, owner) = ttls().await;
    clause.holds(set == 5 && (owner == set || owner + 1 == set), (set, owner));
}

/// Every clause that needs nothing but the provider and an endpoint of its own.
pub async fn check_all(provider: Arc<dyn DnsProvider>, endpoint: &DnsName) {
    read_gives_what_is_stored(&*provider, endpoint).await;
    a_stale_expectation_is_a_conflict(&*provider, endpoint).await;
    ok_means_stored(&*provider, endpoint).await;
    only_what_is_stored_becomes_visible(&*provider, endpoint, 1_000).await;
    compare_and_set_has_one_winner(provider, endpoint).await;
}
