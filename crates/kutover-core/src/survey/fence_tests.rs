//! Whether the fence that is configured would hold, and could be proven.

use super::world::{World, places, set};
use super::*;
use crate::cutover::FencePolicy;
use crate::decisions::fence::Means;
use crate::ports::ConfigSource;

fn found(assessment: &Assessment) -> Vec<(Code, &str)> {
    assessment.refusals.iter().map(|refusal| (refusal.code, refusal.subject.as_str())).collect()
}

/// Who asks whether leaders refuse must be somebody whom the fence binds: that this super user does not produce is no help.
#[test]
fn a_probe_as_a_super_user_could_prove_no_fence() {
    let mut world = World::sound();
    let broker = world.blue().brokers.as_mut().unwrap().get_mut(&0).unwrap().as_mut().unwrap();
    broker.insert("super.users".into(), set("User:kutover;User:batch", ConfigSource::Broker));
    world.waivers.super_users = Names::All;
    world.waivers.probes =
        [(Colour::Blue, "User:kutover".to_owned()), (Colour::Green, "User:batch".to_owned())].into();
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::SuperUser, "User:kutover")]);
    assert!(assessment.refusals[0].waiver.is_none());
    assert!(assessment.refusals[0].reason.contains("clusters.blue.probe_properties"), "{assessment:#?}");
    // What no fence is made of ACLs for, or waived, asks for none.
    let mut waived = world.clone();
    waived.plan.fence = FencePolicy::Waived;
    assert_eq!(found(&waived.assess()), []);
    world.waivers.fences = [(Colour::Blue, Means::Exec)].into();
    assert_eq!(found(&world.assess()), []);
    world.waivers.fences.clear();
    world.waivers.probes = [(Colour::Blue, "User:probe".to_owned())].into();
    assert_eq!(found(&world.assess()), []);
}

/// L8: who is a super user to one broker alone passes the fence there, and who is one to a broker that does not answer is not
/// known.
#[test]
fn a_super_user_of_one_broker_is_one() {
    let mut world = World::sound();
    let brokers = world.blue().brokers.as_mut().unwrap();
    let mut other = brokers[&0].clone();
    other.as_mut().unwrap().insert("super.users".into(), set("User:batch", ConfigSource::Broker));
    brokers.insert(1, other);
    assert_eq!(found(&world.assess()), [(Code::SuperUser, "User:batch")]);
    world.blue().brokers.as_mut().unwrap().insert(1, Err("timed out".into()));
    let assessment = world.assess();
    // Nor is what it keeps by default.
    assert_eq!(found(&assessment), [(Code::Retention, "orders"), (Code::SuperUser, "super.users")]);
    assert!(assessment.refusals[1].reason.contains("broker 1: timed out"), "{assessment:#?}");
}

/// Where the probe is refused without a fence, its being refused under one says nothing.
#[test]
fn a_probe_that_is_refused_without_a_fence_is_refused_over() {
    let mut world = World::sound();
    let what = "prove that topic orders, partition 1 takes records: its leader refuses ordinary clients";
    world.survey.takes_records = Some(Err(what.into()));
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::Fence, "proof")]);
    let reason = &assessment.refusals[0].reason;
    assert!(reason.contains("topic orders") && reason.contains("grant it Write on the topics"), "{reason}");
    world.plan.fence = FencePolicy::Waived;
    assert_eq!(found(&world.assess()), []);
}

/// Ids that kutover may not describe are not told: partitions that know transactional producers give them away.
#[test]
fn transactional_ids_that_are_not_told_are_not_none() {
    let mut world = World::sound();
    for look in [&mut world.survey.traffic.first, &mut world.survey.traffic.second] {
        let writers = look.partitions.get_mut(&places()[0]).unwrap().as_mut().unwrap();
        writers.producers.get_mut(&7).unwrap().transactional = true;
    }
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::Transactions, "transactions")]);
    assert!(assessment.refusals[0].reason.contains("Describe on transactional ids"), "{assessment:#?}");
    assert_eq!(assessment.unknown[0].what, "transactional ids");
    world.waivers.transactions = Names::All;
    assert_eq!(found(&world.assess()), []);
    // A size fence over a transaction that nobody told of would wedge it for ever (L17).
    world.waivers.fences = [(Colour::Blue, Means::Size)].into();
    assert_eq!(found(&world.assess()), [(Code::Fence, "fence")]);
}

/// The new cluster is shut by a rollback alone, which goes back without a barrier where none can be had: that is said, and
/// nothing is refused over it.
#[test]
fn a_rollback_without_a_barrier_is_foreseen() {
    let world = World::sound();
    assert_eq!(world.assess().notes, Vec::<String>::new());
    let mut bare = world.clone();
    bare.access(Colour::Green).acls = None;
    let before = "a rollback from green would have no barrier, and order across it is not promised";
    let [note] = &bare.assess().notes[..] else { panic!("{:#?}", bare.assess().notes) };
    assert!(note.starts_with(before) && note.contains("authorizer"), "{note}");
    assert!(
        found(&bare.assess()).iter().all(|(code, _)| *code != Code::Fence),
        "{:#?}",
        bare.assess().refusals
    );
    bare.waivers.fences = [(Colour::Green, Means::Exec)].into();
    assert_eq!(bare.assess().notes, Vec::<String>::new(), "a command needs none");
    let mut probe = world.clone();
    let broker = probe.green().brokers.as_mut().unwrap().get_mut(&0).unwrap().as_mut().unwrap();
    broker.insert("super.users".into(), set("User:kutover", ConfigSource::Broker));
    probe.waivers.super_users = Names::All;
    assert_eq!(probe.assess().notes, Vec::<String>::new(), "it does not produce");
    probe.waivers.probes = [(Colour::Green, "User:kutover".to_owned())].into();
    assert!(probe.assess().notes[0].contains("User:kutover"), "and could prove no fence");
    let waived = World { plan: Plan { fence: FencePolicy::Waived, ..world.plan.clone() }, ..world };
    assert_eq!(waived.assess().notes, [format!("{before} (plan.fence = \"waived\")")]);
}
