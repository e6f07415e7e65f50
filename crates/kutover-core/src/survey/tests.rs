//! Each refusal alone is found alone, all together each is found, and each waiver waives its own.

use std::collections::{BTreeMap, BTreeSet};

use super::troubles::{Trouble, history, topics, troubles, with_workers};
use super::world::{World, places, progress, set};
use super::*;
use crate::cutover::{FencePolicy, Topics};
use crate::decisions::fence::Means;
use crate::drain::{Coordinated, Tail};
use crate::owner::Intent;
use crate::ports::{AclRule, ConfigSource, GroupProtocol};
use crate::words::Generation;

fn found(assessment: &Assessment) -> Vec<(Code, &str)> {
    assessment.refusals.iter().map(|refusal| (refusal.code, refusal.subject.as_str())).collect()
}

#[test]
fn nothing_is_wrong_with_a_sound_world() {
    let assessment = World::sound().assess();
    assert_eq!((assessment.outcome, found(&assessment)), (Outcome::Ready, vec![]));
    assert!(assessment.unknown.is_empty(), "{:?}", assessment.unknown);
    assert_eq!(assessment.waived.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::History]);
    assert_eq!(assessment.create.len(), 1);
}

#[test]
fn each_alone_is_found_alone_and_waived_by_its_name() {
    for Trouble { code, subject, field, spoil, waive } in troubles() {
        let mut world = World::sound();
        spoil(&mut world);
        let assessment = world.assess();
        assert_eq!(found(&assessment), [(code, subject)], "{assessment:#?}");
        assert_eq!(assessment.outcome, Outcome::Refused);
        let refusal = &assessment.refusals[0];
        assert_eq!(refusal.waiver.as_ref().map(|waiver| waiver.field), field, "{refusal}");
        let Some(waive) = waive else { continue };
        waive(&mut world);
        let assessment = world.assess();
        assert_eq!((assessment.outcome, found(&assessment)), (Outcome::Ready, vec![]), "{code:?} is waived");
    }
}

#[test]
fn a_world_with_every_refusal_shows_each() {
    let mut world = World::sound();
    troubles().iter().for_each(|trouble| (trouble.spoil)(&mut world));
    let assessment = world.assess();
    let found: BTreeSet<_> = found(&assessment).into_iter().collect();
    for Trouble { code, subject, .. } in troubles() {
        assert!(found.contains(&(code, subject)), "{code:?} of {subject} is not in {found:?}");
    }
    // Besides these: what can only be had by itself.
    let shown: BTreeSet<Code> = found.iter().map(|(code, _)| *code).collect();
    assert_eq!(shown.len(), 17, "{shown:?}");
}

/// Connectors are listed; what a cutover would hold over is refused, and Connect's own topics are nobody's history.
#[test]
fn connectors_are_listed_and_judged_as_the_cutover_does() {
    let mut world = World::sound();
    with_workers(&mut world);
    world.add_topic("connect-configs", &[("cleanup.policy", "compact")]);
    world.plan.connect.as_mut().unwrap().topics.insert("connect-configs".into());
    let assessment = world.assess();
    assert_eq!((assessment.outcome, found(&assessment)), (Outcome::Ready, vec![]));
    assert!(assessment.connect.connectors.contains_key(&"files-in".into()));
    let Some(Ok(seen)) = &mut world.blue().connect else { unreachable!() };
    seen.connectors.get_mut(&"files-in".into()).unwrap().failed = true;
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::Connect, "connectors")]);
    assert!(assessment.refusals[0].reason.starts_with("connector files-in (or a task of it) has failed"));
}

/// What stays behind dies, as the cutover says; a fence by command needs no ACLs.
#[test]
fn topics_that_do_not_move_and_other_fences_are_judged_as_the_cutover_does() {
    let mut world = World::sound();
    world.add_topic("stays", &[]);
    world.plan.topics = topics(&["orders"]);
    assert_eq!(found(&world.assess()), [(Code::History, "stays")]);
    history(&mut world, "stays");
    assert_eq!(found(&world.assess()), []);
    world.access(Colour::Blue).acls = None;
    world.waivers.fences = [(Colour::Blue, Means::Exec)].into();
    assert_eq!(found(&world.assess()), []);
}

/// What a cutover would abort over right after it began is refused before it begins.
#[test]
fn where_nothing_moves_there_is_no_cutover() {
    let mut world = World::sound();
    world.plan.topics = topics(&["orders", "oders"]);
    let assessment = world.assess();
    assert_eq!(
        (assessment.outcome, found(&assessment)),
        (Outcome::Refused, vec![(Code::NothingMoves, "plan")])
    );
    assert!(assessment.refusals[0].reason.starts_with("plan.topics names oders"), "{assessment:#?}");

    let mut world = World::sound();
    world.blue().topics.clear();
    assert_eq!(found(&world.assess()), [(Code::NothingMoves, "plan")]);
}

/// Two kinds that exclude others: no authorizer has no super users, and groups that nobody lists are not described.
#[test]
fn a_cluster_that_cannot_fence_or_list_is_refused() {
    let mut world = World::sound();
    world.access(Colour::Blue).acls = None;
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::Fence, "fence")]);
    assert!(assessment.refusals[0].to_string().ends_with("(or waive it: plan.fence = \"waived\")"));
    world.plan.fence = FencePolicy::Waived;
    assert_eq!(world.assess().outcome, Outcome::Ready);

    let mut world = World::sound();
    world.blue().groups = Ok(GroupListing::Unsupported);
    world.blue().described = Err("unsupported".into());
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::UnknownGroups, "groups")], "who reads what is not known either");
    world.plan.groups.insert("billing".into(), None);
    assert_eq!(found(&world.assess()), []);
    // Whoever names its readers has said who reads, and who does not.
    world.plan.groups.insert("billing".into(), Some(["orders".into()].into()));
    world.add_topic_unlisted("audit");
    assert_eq!(found(&world.assess()), [(Code::UnreadTopic, "audit")]);
}

/// Unknown is never "no": what was not answered is named, and what depends on it is refused until it is waived.
#[test]
fn what_was_not_answered_is_said() {
    type Case = (fn(&mut World), &'static str, &'static [Code]);
    let cases: [Case; 10] = [
        (
            |world| world.blue().access = Err("timed out".into()),
            "ACLs, quotas and SCRAM users of blue",
            &[Code::Access, Code::Fence],
        ),
        (
            |world| world.green().access = Err("timed out".into()),
            "ACLs, quotas and SCRAM users of green",
            &[Code::Access],
        ),
        (
            |world| world.access(Colour::Green).auto_creates_topics = None,
            "whether green makes topics by itself",
            &[Code::Access],
        ),
        (
            |world| world.blue().brokers = Err("timed out".into()),
            "configs of brokers of blue",
            &[Code::SuperUser],
        ),
        (
            |world| world.green().brokers = Err("timed out".into()),
            "configs of brokers of green",
            &[Code::Retention],
        ),
        (
            |world| world.blue().topic_configs = Err("timed out".into()),
            "configs of topics of blue",
            // Nor what green would make them with.
            &[Code::Retention, Code::Retention],
        ),
        (|world| world.blue().described = Err("timed out".into()), "groups of blue", &[Code::UnknownGroup]),
        (
            |world| world.blue().groups = Err("timed out".into()),
            "which groups there are of blue",
            &[Code::UnknownGroups],
        ),
        (
            |world| world.survey.traffic.transactional_ids = Some(Err("timed out".into())),
            "transactional ids",
            &[Code::Transactions],
        ),
        (
            |world| world.survey.refused_configs = Err("timed out".into()),
            "which configs the new cluster refuses",
            &[],
        ),
    ];
    for (silence, what, refused) in cases {
        let mut world = World::sound();
        silence(&mut world);
        let assessment = world.assess();
        assert!(
            assessment.unknown.iter().any(|unknown| unknown.what == what),
            "{what}: {:?}",
            assessment.unknown
        );
        let codes: Vec<Code> = assessment.refusals.iter().map(|refusal| refusal.code).collect();
        assert_eq!(codes, refused, "{what}");
    }
    let mut world = World::sound();
    let place = places()[0].clone();
    world.survey.traffic.now.progress.insert(("billing".into(), place.clone()), Err("timed out".into()));
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::Retention, "orders")]);
    let billing = &assessment.groups[0];
    assert_eq!(
        (billing.lag, billing.lost, billing.read),
        (None, None, None),
        "an unanswered partition is no zero"
    );
    world.survey.traffic.second.partitions.insert(place, Err("timed out".into()));
    assert!(world.assess().unknown.iter().any(|unknown| unknown.what == "who writes"));
}

#[test]
fn a_cluster_or_a_name_that_does_not_answer_is_unreachable() {
    let mut silent_old = World::sound();
    silent_old.survey.old = Err("connection refused".into());
    let mut silent_new = World::sound();
    silent_new.survey.new = Some(Err("connection refused".into()));
    let mut silent_dns = World::sound();
    *silent_dns.survey.endpoints.values_mut().next().unwrap() = Err("SERVFAIL".into());
    for world in [silent_old, silent_new, silent_dns] {
        assert_eq!(world.assess().outcome, Outcome::Unreachable);
    }
    let mut no_new = World::sound();
    no_new.survey.new = None;
    let assessment = no_new.assess();
    assert_eq!(assessment.outcome, Outcome::Ready, "it would be provisioned: {assessment:#?}");
    assert!(assessment.unknown.iter().any(|unknown| unknown.what == "everything of green"));
}

#[test]
fn what_serves_already_is_left_alone() {
    let mut world = World::sound();
    world.plan.to = Colour::Blue;
    world.green().reach.insert("green:9092".into(), Err("refused".into()));
    let assessment = world.assess();
    assert!(assessment.nothing_to_do && assessment.outcome == Outcome::Ready);
}

/// The traps of an upgrade (facts: 3.9 to 4.3): a config that green does not know, and a default that changed.
#[test]
fn removed_configs_and_changed_defaults_are_reported() {
    let mut world = World::sound();
    let orders = world.blue().topic_configs.as_mut().unwrap().get_mut(&TopicName::new("orders")).unwrap();
    let gone = "message.format.version";
    orders.as_mut().unwrap().insert(gone.into(), set("2.8-IV1", ConfigSource::Own));
    world.survey.refused_configs = Ok([(gone.to_owned(), "Unknown topic config name".to_owned())].into());
    let assessment = world.assess();
    let told: Vec<_> = assessment
        .configs
        .iter()
        .map(|one| (one.config.as_str(), one.why, one.new.as_deref(), one.weaker))
        .collect();
    assert_eq!(
        told,
        [
            (gone, ConfigWhy::NotKnown, None, false),
            ("message.timestamp.after.max.ms", ConfigWhy::Default, Some("3600000"), true),
        ]
    );
    assert_eq!(assessment.outcome, Outcome::Ready, "they are to be known, not to be refused over");
}

#[test]
fn the_pace_of_a_group_tells_how_long_it_takes() {
    let mut world = World::sound();
    for place in places() {
        world.survey.traffic.before.progress.insert(("billing".into(), place.clone()), progress(20));
        world.survey.traffic.now.progress.insert(("billing".into(), place.clone()), progress(40));
        world.survey.traffic.ages.insert(place, Ok(5_000));
    }
    let assessment = world.assess();
    let billing = &assessment.groups[0];
    assert_eq!((billing.lag, billing.read, billing.drain_ms), (Some(120), Some(40), Some(3_000)));
    let estimates = &assessment.estimates;
    assert_eq!(
        (estimates.ttl_ms, estimates.drain_ms, estimates.soak_ms),
        (Some(30_000), Some(3_000), 30_000)
    );
    assert_eq!(assessment.outcome, Outcome::Ready, "{:?}", assessment.refusals);
    // Age that is not known is not zero.
    world.survey.traffic.ages.insert(places()[0].clone(), Err("timed out".into()));
    assert_eq!(found(&world.assess()), [(Code::Retention, "orders")]);
}

/// Unknown is never zero: what nobody observed has no lag, no pace and no end.
#[test]
fn a_group_that_was_not_observed_has_no_numbers() {
    let numbers = |world: &World| {
        let assessment = world.assess();
        let group = assessment.groups.iter().find(|one| one.group.as_str() == "other").unwrap();
        (group.standing, group.lag, group.lost, group.read, group.drain_ms)
    };
    let mut world = World::sound();
    world.add_group("other", GroupProtocol::Share, "simple");
    assert_eq!(numbers(&world), (GroupStanding::Required, None, None, None, None));
    assert_eq!(world.assess().estimates.drain_ms, None, "nobody knows when it has read everything");
    world.plan.waived_groups = ["other".into()].into();
    assert_eq!(numbers(&world), (GroupStanding::Waived, None, None, None, None));
    assert_eq!(world.assess().estimates.drain_ms, Some(0));

    let mut world = World::sound();
    world.add_group("other", GroupProtocol::Classic, "range");
    assert_eq!(numbers(&world), (GroupStanding::Required, Some(0), Some(0), Some(0), Some(0)));
    world.plan.waived_groups = ["other".into()].into();
    assert_eq!(numbers(&world), (GroupStanding::Waived, None, None, None, None));
}

#[test]
fn writers_are_told_by_topic_and_transactions_by_place() {
    let mut world = World::sound();
    let assessment = world.assess();
    let orders = &assessment.producers[&TopicName::new("orders")];
    assert_eq!((orders.active.len(), orders.silent, orders.records), (1, 0, Some(100)));
    assert_eq!((orders.active[0].producer_id, orders.active[0].records), (Some(7), 100));
    let hanging = troubles().into_iter().find(|trouble| trouble.code == Code::HangingTransaction).unwrap();
    (hanging.spoil)(&mut world);
    let assessment = world.assess();
    assert!(assessment.transactions[0].hangs);
    assert!(assessment.refusals[0].reason.contains("kafka-transactions.sh"), "{}", assessment.refusals[0]);
    let hangs = |world: &World| world.assess().transactions.iter().map(|one| one.hangs).collect::<Vec<_>>();
    let open = |world: &mut World, coordinator| {
        let answer = world.survey.traffic.open.get_mut(&places()[1]).unwrap();
        answer.as_mut().unwrap()[0].coordinator = coordinator;
    };
    // Where coordinators cannot be asked, only age tells.
    open(&mut world, Coordinated::Unknown { reason: "2.8".into() });
    assert_eq!(hangs(&world), [true], "nothing was written in it for a thousand seconds");
    world.survey.traffic.open.get_mut(&places()[1]).unwrap().as_mut().unwrap()[0].last_write_ms = 999_000;
    assert_eq!(hangs(&world), [false]);
    // What its coordinator did not know because it had just ended is not open any more.
    open(&mut world, Coordinated::Forgotten);
    let writers = world.survey.traffic.second.partitions.get_mut(&places()[1]).unwrap().as_mut().unwrap();
    writers.producers.get_mut(&9).unwrap().open_since = None;
    assert!(hangs(&world).is_empty());
    world.survey.traffic.open.insert(places()[0].clone(), Err("timed out".into()));
    assert!(world.assess().unknown.iter().any(|unknown| unknown.what == "who writes"));
}

#[test]
fn access_that_the_new_cluster_lacks_is_listed() {
    let mut world = World::sound();
    let rule = AclRule {
        resource: "topic".into(),
        name: "private".into(),
        pattern: "literal".into(),
        principal: "User:alice".into(),
        host: "*".into(),
        operation: "read".into(),
        permission: "allow".into(),
    };
    world.access(Colour::Blue).acls = Some([rule.clone()].into());
    let alice = BTreeMap::from([("user".to_owned(), Some("alice".to_owned()))]);
    let limit = BTreeMap::from([("producer_byte_rate".to_owned(), 1_000.0)]);
    world.access(Colour::Blue).quotas = Some([(alice, limit)].into());
    let assessment = world.assess();
    assert_eq!(assessment.access.acls, [rule].into());
    let quota =
        QuotaToSet { entity: "user alice".into(), quota: "producer_byte_rate".into(), value: 1_000.0 };
    assert_eq!(assessment.access.quotas, [quota]);
    assert_eq!(assessment.outcome, Outcome::Ready, "it will be given them");
}

/// Who had read everything at the first look is no group that has stopped, whatever came since.
#[test]
fn a_group_that_keeps_up_has_not_stopped() {
    let mut world = World::sound();
    let stopped_at = |world: &mut World, committed| {
        for place in places() {
            for seen in [&mut world.survey.traffic.before, &mut world.survey.traffic.now] {
                seen.progress.insert(("billing".into(), place.clone()), progress(committed));
            }
        }
        world.assess()
    };
    let assessment = stopped_at(&mut world, 50);
    assert_eq!((found(&assessment), assessment.groups[0].lag), (vec![], Some(100)));
    assert_eq!(assessment.groups[0].drain_ms, Some(1_000), "no longer than it was watched");
    assert_eq!(found(&stopped_at(&mut world, 49)).len(), 2, "it is behind on both");
    // A transaction that is open further on is no excuse: records stand before it that the group could read.
    for answer in world.survey.traffic.now.progress.values_mut() {
        answer.as_mut().unwrap().tail = Tail::Data;
    }
    assert_eq!(found(&world.assess()).len(), 2);
    // What it stands before is a transaction that is not over, and nothing else.
    for answer in world.survey.traffic.now.progress.values_mut() {
        answer.as_mut().unwrap().tail = Tail::Open;
    }
    assert_eq!(found(&world.assess()), []);
}

/// L11: where the plan raises it, retention is no reason to refuse, and it is said what will be raised. A group that does not
/// read would never be done all the same.
#[test]
fn retention_that_will_be_raised_is_no_refusal() {
    let spoilt = |subject: &str| {
        let mut world = World::sound();
        let trouble = troubles().into_iter().find(|trouble| trouble.subject == subject).unwrap();
        (trouble.spoil)(&mut world);
        world
    };
    let mut short = spoilt("ticks");
    let refused = short.assess();
    assert!(refused.refusals[0].reason.contains("plan.raise_retention"), "{:?}", refused.refusals);
    short.plan.raised_retention = topics(&["ticks"]);
    let raised = short.assess();
    assert_eq!((raised.outcome, found(&raised)), (Outcome::Ready, vec![]));
    assert_eq!(raised.raised_retention, ["ticks".into()].into());
    let mut stopped = spoilt("slow");
    stopped.plan.raised_retention = Topics::All;
    assert_eq!(found(&stopped.assess()), [(Code::Retention, "slow")]);
    let mut compacted = World::sound();
    compacted.add_topic("ledger", &[("cleanup.policy", "compact")]);
    compacted.plan.raised_retention = Topics::All;
    assert_eq!(compacted.assess().raised_retention, ["orders".into()].into());
}

/// L6: whoever has looked at the brokers can say that they make no topics. That they do make them nobody waives.
#[test]
fn whether_green_makes_topics_has_to_be_told() {
    let mut world = World::sound();
    world.access(Colour::Green).auto_creates_topics = None;
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::Access, "auto.create.topics.enable")]);
    let text = assessment.refusals[0].to_string();
    assert!(text.ends_with("(or waive it: plan.waive_auto_create = true)"), "{text}");
    world.waivers.auto_create = true;
    assert_eq!(found(&world.assess()), []);
    world.access(Colour::Green).auto_creates_topics = Some(true);
    assert_eq!(found(&world.assess()), [(Code::Access, "green")]);
}

/// What nobody could describe is refused by each group's name, and waived by it.
#[test]
fn groups_that_nobody_describes_are_refused_each_by_name() {
    let mut world = World::sound();
    world.add_group("archive", GroupProtocol::Share, "simple");
    world.blue().described = Err("not authorised".into());
    let assessment = world.assess();
    assert_eq!(found(&assessment), [(Code::UnknownGroup, "archive"), (Code::UnknownGroup, "billing")]);
    let text = assessment.refusals[0].to_string();
    assert!(text.contains("what it is was not answered (not authorised)"), "{text}");
    assert!(text.contains("plan.waive_groups = [\"archive\"]"), "{text}");
    world.plan.waived_groups = ["archive".into(), "billing".into()].into();
    world.waivers.unread = Topics::All;
    assert_eq!(found(&world.assess()), []);
}

/// L11: a topic that is yet to be made on green is made with what is set on it on blue. Only where green refuses that does its
/// own default hold; where nobody knows whether it does, nothing is known.
#[test]
fn what_green_will_keep_is_what_it_will_be_made_with() {
    let mut world = World::sound();
    // Kept for ever on blue: what green would do by default is no matter.
    world.add_topic("ticks", &[("retention.ms", "-1")]);
    history(&mut world, "ticks");
    let brokers = world.green().brokers.as_mut().unwrap().get_mut(&0).unwrap().as_mut().unwrap();
    brokers.insert("log.retention.hours".into(), set("0", ConfigSource::Broker));
    let of_ticks = |world: &World| {
        let assessment = world.assess();
        let all = assessment.refusals.into_iter().filter(|one| one.code == Code::Retention);
        all.map(|one| one.subject).filter(|subject| subject == "ticks").collect::<Vec<_>>()
    };
    assert!(of_ticks(&world).is_empty());
    world.survey.refused_configs = Ok([("retention.ms".to_owned(), "Unknown".to_owned())].into());
    assert_eq!(of_ticks(&world), ["ticks"]);
    world.survey.refused_configs = Err("timed out".into());
    assert_eq!(of_ticks(&world), ["ticks"]);
}

/// A fence on the cluster that serves is left over, unless a rollback is closing it.
#[test]
fn a_fence_that_is_left_over_is_named() {
    let mut world = World::sound();
    world.blue().fence = Ok(["orders".into()].into());
    world.green().fence = Ok(["payments".into()].into());
    assert_eq!(world.assess().left_fence, ["orders".into()].into());
    let intent = Intent { closing: Generation(1), opening: Generation(2), colour: Colour::Green };
    for seen in world.survey.endpoints.values_mut() {
        seen.as_mut().unwrap().owner.as_mut().unwrap().intent = Some(intent.clone());
    }
    assert!(world.assess().left_fence.is_empty());
    world.blue().fence = Err("timed out".into());
    let unknown = world.assess().unknown;
    assert!(unknown.iter().any(|one| one.what == "fences that are left over of blue"), "{unknown:?}");
}
