//! Whose history dies with the old cluster (L18).

use super::troubles::topics;
use super::world::World;
use super::*;
use crate::cutover::Topics;
use crate::decisions::history::Fate;

fn found(assessment: &Assessment) -> Vec<(Code, &str)> {
    assessment.refusals.iter().map(|refusal| (refusal.code, refusal.subject.as_str())).collect()
}

/// L18: what has expired before the old cluster goes is nobody's loss, and needs no waiver; nor does the cutover ask for one.
#[test]
fn history_that_has_expired_after_the_soak_is_refused_over_nothing() {
    let mut world = World::sound();
    world.add_topic("ticks", &[("retention.ms", "1000")]);
    world.plan.waived_history = topics(&["orders"]);
    world.plan.raised_retention = topics(&["ticks"]);
    let assessment = world.assess();
    assert_eq!((assessment.outcome, found(&assessment)), (Outcome::Ready, vec![]));
    let ticks = assessment.history.iter().find(|one| one.fate.topic.as_str() == "ticks").unwrap();
    assert_eq!(ticks.fate.fate, Fate::Expired);
}

/// L18: Schema Registry may keep its schemas elsewhere: they are waived by that name alone, and read by no group.
#[test]
fn the_schemas_are_where_the_plan_says() {
    let mut world = World::sound();
    world.add_topic("registry", &[("cleanup.policy", "compact")]);
    let Ok(GroupListing::Listed(groups)) = &mut world.blue().groups else { unreachable!() };
    groups.get_mut(&GroupId::new("billing")).unwrap().remove(&TopicName::new("registry"));
    world.plan.waived_history = Topics::All;
    assert_eq!(found(&world.assess()), [(Code::UnreadTopic, "registry")], "a topic like the others");
    world.plan.schemas_topic = "registry".into();
    assert_eq!(found(&world.assess()), [(Code::Schemas, "registry")]);
    world.plan.waived_history = topics(&["orders", "registry"]);
    assert_eq!(found(&world.assess()), []);
}
