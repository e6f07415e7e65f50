//! [`Registry`], [`MemberLink`] and [`MemberLinks`], on one cluster. Both topics should be new: every function adds to them.

use futures_util::FutureExt as _;
use kutover_core::error::ErrorKind;
use kutover_core::messages::{ControlBody, ControlMessage, MemberKind, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{ClusterAdmin, MemberLink, MemberLinks, Registry};
use kutover_core::words::{CONTROL_TOPIC, Colour, Generation, MEMBERS_TOPIC, Term};

use super::Clause;

const PORT: &str = "Registry";
const LINK: &str = "MemberLink";
const LINKS: &str = "MemberLinks";

/// A controller's first word.
pub fn claim(term: u64) -> ControlMessage {
    ControlMessage {
        deployment: "orders".into(),
        term: Term(term),
        body: ControlBody::Claim { nonce: format!("n{term}").as_str().into() },
    }
}

/// An announcement of a generation.
pub fn announcement(term: u64, generation: u64) -> ControlMessage {
    let target = Target {
        generation: Generation(generation),
        colour: Colour::Green,
        cluster_id: "c".into(),
        bootstrap: vec!["127.0.0.9:9092".into()],
    };
    ControlMessage { deployment: "orders".into(), term: Term(term), body: ControlBody::Announce { target } }
}

/// A producer's state.
pub fn member(instance: &str, heartbeat: u64) -> MemberState {
    MemberState {
        kind: MemberKind::Producer,
        instance: instance.into(),
        incarnation: "i".into(),
        heartbeat,
        generation: Generation(1),
        cluster_id: "c".into(),
        receipts: Vec::new(),
    }
}

/// Clause 1.
pub async fn prepare_is_repeatable(registry: &dyn Registry) {
    let clause = Clause::new(PORT, 1, "`prepare` makes both topics where they are missing");
    for _ in 0..2 {
        clause.ok(registry.prepare().await);
        clause.ok(registry.control().await);
        clause.ok(registry.members().await);
    }
}

/// Clause 1: neither can lose what was said to its retention. `admin` is the same cluster's.
pub async fn both_topics_are_small_and_kept(registry: &dyn Registry, admin: &dyn ClusterAdmin) {
    let clause = Clause::new(PORT, 1, "`prepare` makes both topics (one partition, compacted)");
    clause.ok(registry.prepare().await);
    let topics = clause.ok(admin.topics().await);
    for name in [CONTROL_TOPIC, MEMBERS_TOPIC] {
        let found = topics.iter().find(|topic| topic.name.as_str() == name);
        clause.holds(found.is_some_and(|topic| topic.partitions == 1), (name, found));
        // Some cannot tell.
        let configs = found.and_then(|topic| topic.configs.as_ref());
        let policy = configs.map(|configs| configs.get("cleanup.policy").map(String::as_str));
        clause.holds(policy.is_none_or(|policy| policy == Some("compact")), (name, policy));
    }
}

/// Clauses 2 and 3.
pub async fn what_is_said_is_read(registry: &dyn Registry) {
    let clause = Clause::new(PORT, 3, "`control` reads the topic to its end as it stands at the call");
    let again = Clause::new(PORT, 2, "`Ok` means acknowledged; saying it again is harmless");
    clause.ok(registry.prepare().await);
    clause.ok(registry.say(&claim(1)).await);
    for generation in 1..=3 {
        clause.ok(registry.say(&announcement(1, generation)).await);
        let view = clause.ok(registry.control().await);
        let found = view.target.as_ref().map(|target| target.generation);
        clause.holds(found == Some(Generation(generation)), found);
        again.ok(registry.say(&announcement(1, generation)).await);
        let repeated = clause.ok(registry.control().await);
        again.holds(repeated == view, repeated);
    }
}

/// Clause 3 with the words' own rule: after a claim, lower terms count for nothing.
pub async fn lower_terms_are_ignored(registry: &dyn Registry) {
    let clause = Clause::new(PORT, 3, "after a claim, messages of lower terms are ignored");
    clause.ok(registry.prepare().await);
    clause.ok(registry.say(&claim(5)).await);
    let before = clause.ok(registry.control().await);
    clause.ok(registry.say(&announcement(4, 999)).await);
    let after = clause.ok(registry.control().await);
    clause.holds(before == after && after.term == Term(5), after);
}

/// Clause 4 of the registry, clause 2 of the link.
pub async fn members_come_and_go(registry: &dyn Registry, link: &dyn MemberLink) {
    let clause =
        Clause::new(PORT, 4, "a member whose tombstone is the newest message of its key is left out");
    clause.ok(registry.prepare().await);
    for state in [member("a", 1), member("b", 1), member("a", 2)] {
        clause.ok(link.tell(&state).await);
    }
    let mut found = clause.ok(registry.members().await);
    found.sort_by_key(MemberState::key);
    clause.holds(found == [member("a", 2), member("b", 1)], found);
    clause.ok(link.end(&member("a", 2)).await);
    let found = clause.ok(registry.members().await);
    clause.holds(found == [member("b", 1)], found);
    clause.ok(link.tell(&member("a", 3)).await);
    let found = clause.ok(registry.members().await).len();
    clause.holds(found == 2, found);
    clause.ok(link.end(&member("a", 3)).await);
    clause.ok(link.end(&member("b", 1)).await);
}

/// Clauses 1 and 3 of the link. The link is a new one.
pub async fn a_link_follows_the_control_topic(registry: &dyn Registry, link: &dyn MemberLink) {
    let first = Clause::new(LINK, 1, "`next_control` first gives the view at the end, then each change");
    let now = Clause::new(LINK, 3, "`control_now` reads to the end as it stands at the call");
    let term = first.ok(registry.control().await).term;
    let view = link.next_control().await;
    first.holds(view == first.ok(registry.control().await), view);
    // Cancel-safe: whoever waits for something else too drops this one often.
    drop(link.next_control().now_or_never());
    now.ok(registry.say(&announcement(term.0, 5_000)).await);
    let view = now.ok(link.control_now().await);
    now.holds(view.target.is_some_and(|target| target.generation == Generation(5_000)), "an older view");
    let view = link.next_control().await;
    first.holds(view.target.is_some_and(|target| target.generation == Generation(5_000)), "no change");
}

/// Clause 3, and clauses 1 and 3 of the link, which is a new one. `silence` has neither topic be read any more, `speak` undoes it.
pub async fn what_cannot_be_read_is_an_error(
    registry: &dyn Registry,
    link: &dyn MemberLink,
    (silence, speak): (impl AsyncFnOnce(), impl AsyncFnOnce()),
) {
    let clause =
        Clause::new(PORT, 3, "a topic that cannot be read to its end is an error, never a shorter answer");
    let waits = Clause::new(LINK, 1, "while the topic cannot be read `next_control` waits");
    let now = Clause::new(LINK, 3, "`control_now` reads to the end as it stands at the call");
    clause.ok(registry.prepare().await);
    silence().await;
    let view = registry.control().await;
    clause.holds(view.is_err(), view);
    let members = registry.members().await;
    clause.holds(members.is_err(), members);
    let view = link.control_now().await;
    now.holds(view.is_err(), view);
    let view = link.next_control().now_or_never();
    waits.holds(view.is_none(), view);
    speak().await;
    let view = link.next_control().await;
    waits.holds(view == waits.ok(registry.control().await), view);
}

/// Clause 4. `spoil` writes a message that makes no sense to the members topic. Nothing can be read there afterwards.
pub async fn a_message_without_sense_is_named(registry: &dyn Registry, spoil: impl AsyncFn()) {
    let clause = Clause::new(PORT, 4, "a message that makes no sense is `Invalid` and names its offset");
    clause.ok(registry.prepare().await);
    spoil().await;
    match registry.members().await {
        Ok(members) => clause.holds(false, members),
        Err(error) => {
            let named = error.to_string().contains("offset");
            clause.holds(error.kind == ErrorKind::Invalid && named, error);
        }
    }
}

/// Clause 2 of the link: once it is told it is there.
pub async fn what_is_told_is_there(registry: &dyn Registry, link: &dyn MemberLink) {
    let clause = Clause::new(LINK, 2, "`tell` returns once the message is acknowledged, or fails");
    clause.ok(registry.prepare().await);
    for heartbeat in 1..=3 {
        clause.ok(link.tell(&member("told", heartbeat)).await);
        let found = clause.ok(registry.members().await);
        clause.holds(found.contains(&member("told", heartbeat)), found);
    }
    clause.ok(link.end(&member("told", 3)).await);
}

/// Clause 1 of the links, with a cluster whose topics cannot be read, and clause 2, with one that serves.
pub async fn links_are_opened_at_once(links: &dyn MemberLinks, serving: &Target, dead: &Target) {
    let opens =
        Clause::new(LINKS, 1, "`open` does not wait for the topics; they show in the link's own calls");
    let link = opens.ok(links.open(dead).await);
    let given = link.control_now().await;
    opens.holds(given.is_err(), given);
    let own = Clause::new(LINKS, 2, "every call makes a link of its own");
    let (first, second) = (own.ok(links.open(serving).await), own.ok(links.open(serving).await));
    own.holds(!std::sync::Arc::ptr_eq(&first, &second), "the same one");
    drop(first);
    own.ok(second.control_now().await);
}

/// Every clause. `open` opens a new link.
pub async fn check_all<L: MemberLink>(registry: &dyn Registry, open: impl AsyncFn() -> L) {
    prepare_is_repeatable(registry).await;
    what_is_said_is_read(registry).await;
    lower_terms_are_ignored(registry).await;
    a_link_follows_the_control_topic(registry, &open().await).await;
    what_is_told_is_there(registry, &open().await).await;
    members_come_and_go(registry, &open().await).await;
}
