//! [`FenceSwitch`]. What is asked of a fence is asked of its cluster: the caller says how to write and how to read.

use kutover_core::error::ErrorKind;
use kutover_core::ports::FenceSwitch;
use kutover_core::words::{CONTROL_TOPIC, MEMBERS_TOPIC, TopicName};

use super::Clause;

const PORT: &str = "FenceSwitch";

/// Clause 1. `writes` says whether an ordinary client can write to a topic; both topics, and kutover's own, are there.
pub async fn only_what_is_named_is_fenced(
    switch: &dyn FenceSwitch,
    writes: impl AsyncFn(&TopicName) -> bool,
    named: &TopicName,
    other: &TopicName,
) {
    let clause = Clause::new(
        PORT,
        1,
        "`raise` and `lift` are repeatable and touch the named topics only, never kutover's own",
    );
    let asked = [named.clone(), TopicName::new(CONTROL_TOPIC)];
    clause.holds(writes(named).await, "records are refused before it");
    for _ in 0..2 {
        clause.ok(switch.raise(&asked).await);
        clause.holds(!writes(named).await, "records are taken under it");
        clause.holds(writes(other).await, "a topic that was not named is fenced");
        clause.holds(writes(&asked[1]).await, "kutover's own topic is fenced");
    }
    clause.ok(switch.raise(std::slice::from_ref(other)).await);
    for _ in 0..2 {
        clause.ok(switch.lift(&asked).await);
        clause.holds(writes(named).await, "records are refused after it");
        clause.holds(!writes(other).await, "the fence of a topic that was not named was lifted");
    }
    clause.ok(switch.lift(std::slice::from_ref(other)).await);
    clause.holds(writes(other).await, "records are refused after it");
}

/// Clause 2, and clause 4 where the fence can be asked. `earlier` raised its fence in a process that is gone; `later` was made afterwards, on the same cluster. Where
/// the fence has parts, `earlier` is one that died between them.
pub async fn a_later_process_takes_it_away(
    earlier: &dyn FenceSwitch,
    later: &dyn FenceSwitch,
    writes: impl AsyncFn(&TopicName) -> bool,
    named: &TopicName,
) {
    let clause =
        Clause::new(PORT, 2, "`lift` takes away all that `raise` ever added, also by an earlier process");
    let traces =
        Clause::new(PORT, 4, "`traces` names where anything of an earlier process's stands, where it can");
    // It may have died half way, so whether it says so is not asked.
    let _ = earlier.raise(std::slice::from_ref(named)).await;
    match later.traces().await {
        Err(error) if error.kind == ErrorKind::Unsupported => {}
        told => {
            let told = traces.ok(told);
            traces.holds(told.contains(named), told);
        }
    }
    clause.ok(later.lift(std::slice::from_ref(named)).await);
    clause.holds(writes(named).await, "records are refused after it");
}

/// Clause 4, for fences that can be asked, and of clause 1 that Kafka's internal topics and kutover's own are left alone.
pub async fn where_it_stands_is_told(switch: &dyn FenceSwitch, named: &TopicName) {
    let clause =
        Clause::new(PORT, 4, "`traces` names the topics on which anything stands that a `raise` added");
    let spared = Clause::new(PORT, 1, "`raise` touches never kutover's own topics or Kafka's internal ones");
    let reserved = [CONTROL_TOPIC, MEMBERS_TOPIC, "__consumer_offsets"].map(TopicName::new);
    let asked: Vec<TopicName> = reserved.iter().chain([named]).cloned().collect();
    clause.ok(switch.raise(&asked).await);
    let under = switch.traces().await;
    clause.ok(switch.lift(&asked).await);
    let under = clause.ok(under);
    clause.holds(under.contains(named), &under);
    spared.holds(reserved.iter().all(|topic| !under.contains(topic)), under);
    let after = clause.ok(switch.traces().await);
    clause.holds(!after.contains(named), after);
}

/// Clause 3. `reads` says whether an ordinary client can read a topic.
pub async fn readers_keep_reading(
    switch: &dyn FenceSwitch,
    reads: impl AsyncFn(&TopicName) -> bool,
    named: &TopicName,
) {
    let clause = Clause::new(PORT, 3, "readers keep reading while it is up");
    clause.ok(switch.raise(std::slice::from_ref(named)).await);
    let can_read = reads(named).await;
    clause.ok(switch.lift(std::slice::from_ref(named)).await);
    clause.holds(can_read, "they cannot");
}
