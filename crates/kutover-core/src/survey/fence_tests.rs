//! Whether the fence that is configured would hold.

use super::world::{World, places};
use super::*;
use crate::decisions::fence::Means;

fn found(assessment: &Assessment) -> Vec<(Code, &str)> {
    assessment.refusals.iter().map(|refusal| (refusal.code, refusal.subject.as_str())).collect()
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
