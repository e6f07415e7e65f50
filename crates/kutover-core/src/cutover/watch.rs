//! Who still writes to the old cluster (L8): looked at again and again while producers move and groups drain.

use std::collections::{BTreeMap, BTreeSet};

use super::{Command, Cutover, Event, Next, Redirected};
use crate::decisions::stragglers::{
    LastRecord, Look, PartitionWriters, Report, Straggler, claimed_ids, stragglers,
};
use crate::messages::MemberState;
use crate::words::{Millis, TopicPartition};

/// Looks in the time that producers have to move, at the least: who stays is to be named well before the fence goes up.
const LOOKS_WHILE_CONVERGING: u64 = 4;
/// How many of those that write an event names.
const NAMED: usize = 10;

/// What is known of those that write to the old cluster. Not journalled: a look is compared with the one before it, and
/// after a restart there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    /// The cluster cannot tell who writes to it.
    blind: bool,
    /// The last look.
    last: Option<Look>,
    /// Whether every member had moved when they were last asked.
    pub(super) all_moved: bool,
    /// How many producers had moved by then. A move in between would look like writing.
    moved: usize,
    /// Ids that receipts claim.
    claimed: BTreeSet<i64>,
    /// What the last two looks came to.
    report: Option<Report>,
    /// Whether those that are silent have been named.
    named_silent: bool,
    /// Whether those that write are to be recognised by their last records before they are named.
    recognising: bool,
}

impl Watch {
    /// What members say: their receipts claim ids, and a move since the last look makes it useless.
    pub(super) fn heard(&mut self, moved: usize, members: &[Vec<MemberState>], left: &Redirected) {
        let cluster = &left.prepared.verified.old.identity.cluster_id;
        self.claimed = members.iter().flat_map(|members| claimed_ids(members, cluster)).collect();
        if self.moved != moved {
            self.moved = moved;
            self.begin_anew();
        }
    }

    /// Forgets what was seen: something happened that two looks cannot be compared across.
    pub(super) fn begin_anew(&mut self) {
        (self.last, self.report, self.recognising) = (None, None, false);
    }

    /// Whether somebody is known to write.
    pub(super) fn somebody_writes(&self) -> bool {
        self.report.as_ref().is_some_and(|report| !report.writing.is_empty())
    }

    /// Whether two looks have shown that nobody writes.
    fn nobody_writes(&self) -> bool {
        self.report.as_ref().is_some_and(Report::nobody_writes)
    }

    /// Those that write, without their numbers, so that the text stands still while they go on.
    pub(super) fn names(&self) -> String {
        let named = self.report.iter().flat_map(|report| &report.writing).take(NAMED).map(Straggler::name);
        named.collect::<Vec<_>>().join("; ")
    }
}

impl Cutover {
    /// The time between two looks; `None` if the plan leaves no time for any.
    fn survey_every_ms(&self) -> Option<u64> {
        let timings = &self.plan.timings;
        let every = timings.quiet_window_ms.min(timings.converge_ms / LOOKS_WHILE_CONVERGING);
        (every > 0).then_some(every)
    }

    /// The look that is due, if one is.
    pub(super) fn survey(&self, redirected: &Redirected) -> Option<Next> {
        let (every, now) = (self.survey_every_ms()?, self.now?);
        let since = self.watch.last.as_ref().map(|look| now.since(Millis(look.at_ms)));
        if self.watch.blind || since.is_some_and(|since| since < every) {
            return None;
        }
        let verified = &redirected.prepared.verified;
        let (old, partitions) = (verified.old.incarnation.clone(), verified.partitions());
        Some(Next::Run(Command::Survey { old, partitions, records_of: BTreeSet::new() }))
    }

    /// Whether all that can be known of those that write says that there is nobody.
    pub(super) fn nobody_else_writes(&self) -> bool {
        self.survey_every_ms().is_none() || self.watch.blind || self.watch.nobody_writes()
    }

    /// Takes a look in. Gives what is to be asked next, before anything follows from it: whose records they are.
    pub(super) fn surveyed(
        &mut self,
        redirected: &Redirected,
        partitions: Result<BTreeMap<TopicPartition, Result<PartitionWriters, String>>, String>,
        records: &BTreeMap<TopicPartition, Vec<LastRecord>>,
    ) -> Option<Next> {
        let partitions = match partitions {
            Ok(partitions) => partitions,
            Err(reason) => {
                self.watch.blind = true;
                let text = format!(
                    "who writes to the old cluster cannot be told ({reason}): a producer outside the library shows only \
                     when the fence refuses it"
                );
                self.notify(Event::Note { text });
                return None;
            }
        };
        if std::mem::take(&mut self.watch.recognising) {
            if let Some(report) = &mut self.watch.report {
                report.recognise(records);
            }
            self.name_stragglers();
            return None;
        }
        let look = Look { at_ms: self.now.unwrap_or_default().0, partitions };
        let wrote = self.watch.somebody_writes();
        if let Some(before) = self.watch.last.replace(look.clone()) {
            self.watch.report = Some(stragglers(&before, &look, &self.watch.claimed));
        }
        if wrote && self.watch.nobody_writes() {
            let text = "nobody writes to the old cluster any more";
            self.notify(Event::Note { text: text.into() });
        }
        let records_of = self.watch.report.as_ref().map(|report| report.places(NAMED)).unwrap_or_default();
        if records_of.is_empty() {
            return None;
        }
        self.watch.recognising = true;
        let old = redirected.prepared.verified.old.incarnation.clone();
        Some(Next::Run(Command::Survey { old, partitions: Vec::new(), records_of }))
    }

    /// Names those that the last look found silent, before the old cluster is closed: one of them may be the producer that nobody
    /// remembers.
    pub(super) fn name_silent(&mut self) {
        let silent = self.watch.report.as_ref().map(|report| report.silent.as_slice()).unwrap_or_default();
        if silent.is_empty() || self.watch.named_silent {
            return;
        }
        let (named, more) =
            (silent.iter().take(NAMED).cloned().collect(), silent.len().saturating_sub(NAMED));
        self.watch.named_silent = true;
        self.notify(Event::Silent { silent: named, more });
    }

    fn name_stragglers(&mut self) {
        let Some(report) = &self.watch.report else { return };
        let event = Event::Stragglers {
            writing: report.writing.iter().take(NAMED).cloned().collect(),
            more: report.writing.len().saturating_sub(NAMED),
            silent: report.silent.len(),
            unanswered: report.unanswered.len(),
        };
        self.notify(event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Answer, FencePolicy, Plan, StateName, Stop};
    use super::*;
    use crate::decisions::stragglers::{ProducerState, Sign};
    use crate::error::ProviderError;
    use crate::messages::Receipt;
    use crate::ports::{FenceKind, FenceProof};
    use crate::words::{Generation, Offset};

    /// Blue's log and a console producer that writes ten records between any two looks, or now and then, until the fence is
    /// up.
    #[derive(Default)]
    struct Console {
        sequence: i32,
        fenced: bool,
        looks: usize,
        /// It pauses for so many looks.
        pauses: usize,
        reads: usize,
    }

    impl Console {
        fn answer(&mut self, command: &Command) -> Option<Result<Answer, ProviderError>> {
            let end = |console: &Self| 100 + i64::from(console.sequence);
            match command {
                Command::Survey { records_of, partitions, .. } => {
                    self.looks += usize::from(!partitions.is_empty());
                    if !self.fenced && !partitions.is_empty() && self.looks.is_multiple_of(self.pauses + 1) {
                        self.sequence += 10;
                    }
                    let state = ProducerState {
                        epoch: 0,
                        last_sequence: self.sequence - 1,
                        last_timestamp_ms: 7,
                        transactional: false,
                        coordinator_epoch: -1,
                        open_since: None,
                    };
                    let at = Offset(end(self));
                    let writers = |partition| PartitionWriters {
                        end_before: if partition == 0 { at } else { Offset(100) },
                        end: if partition == 0 { at } else { Offset(100) },
                        producers: if partition == 0 { [(4, state)].into() } else { [].into() },
                    };
                    let sign = Sign::of(Some(b"till-3"), []);
                    let last = LastRecord { offset: at, timestamp_ms: 7, producer_id: Some(4), sign };
                    Some(Ok(Answer::Surveyed {
                        partitions: Ok(partitions
                            .iter()
                            .map(|place| (place.clone(), Ok(writers(place.partition))))
                            .collect()),
                        records: records_of.iter().map(|place| (place.clone(), vec![last.clone()])).collect(),
                    }))
                }
                Command::RaiseFence { .. } => {
                    self.fenced = true;
                    None
                }
                Command::ReadEnds { .. } => {
                    self.reads += 1;
                    self.sequence += i32::from(self.reads.is_multiple_of(self.pauses + 1));
                    Some(Ok(Answer::Ends { ends: vec![end_at(0, end(self)), end_at(1, 100)] }))
                }
                Command::ProveFence { .. } => Some(Ok(Answer::FenceProven {
                    proof: FenceProof {
                        kind: FenceKind::Acl,
                        topics: BTreeMap::new(),
                        ends: vec![end_at(0, end(self)), end_at(1, 100)],
                    },
                })),
                Command::ObserveDrain { .. } => Some(Err(failure(crate::error::ErrorKind::Superseded))),
                _ => None,
            }
        }
    }

    fn end_at(partition: i32, offset: i64) -> crate::ports::PartitionEnd {
        super::super::fixtures::end(partition, offset)
    }

    fn named(events: &[Event]) -> Vec<String> {
        let stragglers = |event: &&Event| matches!(event, Event::Stragglers { .. });
        events.iter().filter(stragglers).map(ToString::to_string).collect()
    }

    /// L8: who stays on the old cluster is named with topic, rate and what tells who it is. The cutover holds until the
    /// deadline, then the fence refuses it, and that it has ended is seen.
    #[test]
    fn a_producer_that_stays_is_named_and_holds_the_cutover_until_the_fence() {
        let mut console = Console::default();
        let (stop, world) = World::new(plan(), vec![]).but(|command, _| console.answer(command)).run();
        assert!(matches!(stop, Stop::Superseded(_)), "{stop:?}");
        let named = named(&world.events);
        assert!(named.len() >= 2, "again and again: {named:?}");
        let said = &named[0];
        assert!(said.contains("producer id 4 on topic orders, partition 0: 10 records in 1"), "{said}");
        assert!(said.contains("/s)") && said.contains("key \"till-3\""), "{said}");
        let place = |wanted: &dyn Fn(&Event) -> bool| world.events.iter().position(wanted).unwrap();
        let first = place(&|event| matches!(event, Event::Stragglers { .. }));
        let hold = place(&|event| matches!(event, Event::Hold { state: StateName::Converging, .. }));
        let fenced = place(&|event| matches!(event, Event::FenceProven { .. }));
        assert!(first < hold && hold < fenced, "{:?}", world.events);
        assert_eq!(
            world.holds()[0],
            "still writing to the old cluster: producer id 4 on topic orders, partition 0 (move or stop them; at the \
             deadline the fence refuses them)"
        );
        let waited = world.now.since(Millis(1_000)) - 60_000;
        assert!(waited >= plan().timings.converge_ms, "it had its time to move: {waited} ms");
    }

    /// The deadline ends the hold over those that stay, however much shorter holds may be, and so it does where nobody can be
    /// asked who has moved.
    #[test]
    fn the_hold_until_the_fence_does_not_end_the_run() {
        let mut plan = plan();
        (plan.timings.converge_ms, plan.timings.hold_limit_ms) = (60_000, Some(20_000));
        let mut console = Console::default();
        let (stop, world) = World::new(plan.clone(), vec![]).but(|command, _| console.answer(command)).run();
        assert!(matches!(stop, Stop::Superseded(_)), "{stop:?}");
        assert!(world.events.iter().any(|event| matches!(event, Event::FenceProven { .. })));

        let mut console = Console::default();
        let (stop, world) = World::new(plan, vec![])
            .but(|command, _| match command {
                Command::ReadMembers { .. } if console.looks > 8 => {
                    Some(Err(failure(crate::error::ErrorKind::Unreachable)))
                }
                command => console.answer(command),
            })
            .run();
        assert!(matches!(stop, Stop::Superseded(_)), "{stop:?}");
        let waited = world.now.since(Millis(1_000)) - 60_000;
        assert!(waited >= 60_000, "producers had their time to move: {waited} ms");
    }

    /// Where the fence was waived nothing is closed, and so nothing removed, while somebody writes.
    #[test]
    fn without_a_fence_nothing_is_closed_while_somebody_writes() {
        let mut plan = Plan { fence: FencePolicy::Waived, ..plan() };
        plan.timings.hold_limit_ms = Some(20_000);
        // One that writes now and then is no end of it either.
        for pauses in [0, 2] {
            let mut console = Console { pauses, ..Console::default() };
            let world = World::new(plan.clone(), vec![]);
            let (stop, world) = world.but(|command, _| console.answer(command)).run();
            assert!(
                matches!(&stop, Stop::Held(why) if why.contains("producer id 4 on topic orders")),
                "{stop:?}"
            );
            let closed = |event: &Event| matches!(event, Event::Closed { .. } | Event::Removed { .. });
            assert!(!world.events.iter().any(closed), "{:?}", world.events);
        }
    }

    /// L8: an id that wrote once, is claimed by nobody and is silent now is named before the old cluster is closed, and once.
    #[test]
    fn who_is_silent_is_named_before_the_fence() {
        let mut console = Console { fenced: true, sequence: 10, ..Console::default() };
        let (stop, world) = World::new(plan(), vec![])
            .but(|command, _| match command {
                Command::Survey { .. } => console.answer(command),
                _ => None,
            })
            .run();
        assert_eq!(stop, Stop::Complete);
        let silent = |event: &Event| matches!(event, Event::Silent { .. });
        let at = world.events.iter().position(silent).expect("it is named");
        let text = world.events[at].to_string();
        let expected =
            "claimed by no receipt: producer id 4 on topic orders, partition 0: silent, last write at 7";
        assert!(text.contains(expected), "{text}");
        let fenced =
            world.events.iter().position(|event| matches!(event, Event::FenceProven { .. })).unwrap();
        assert!(at < fenced);
        assert_eq!(world.events.iter().filter(|event| silent(event)).count(), 1);
    }

    /// A producer that moves between two looks has written before it moved: it is not named.
    #[test]
    fn who_moves_between_two_looks_is_no_straggler() {
        let mut machine = Cutover::new(plan(), "run".into(), []);
        let (_, world) = World::new(plan(), vec![]).run();
        let redirected = world.journal.iter().find_map(|record| match record {
            super::super::Record::Checkpoint { progress } => match &progress.state {
                super::super::State::Converging(redirected) => Some(redirected.clone()),
                _ => None,
            },
            _ => None,
        });
        let redirected = redirected.unwrap();
        let mut console = Console::default();
        let mut look = |machine: &mut Cutover, at| {
            machine.now = Some(Millis(at));
            let Some(Next::Run(command)) = machine.survey(&redirected) else { panic!("no look is due") };
            let Some(Ok(Answer::Surveyed { partitions, records })) = console.answer(&command) else {
                panic!()
            };
            machine.surveyed(&redirected, partitions, &records).is_some()
        };
        let green = target(2, crate::words::Colour::Green);
        let mut moved = producer(9, &green);
        machine.watch.heard(0, &[], &redirected);
        assert!(!look(&mut machine, 0));
        moved.receipts = vec![Receipt {
            generation: Generation(2),
            from: redirected.prepared.verified.old.identity.cluster_id.clone(),
            to: green.cluster_id.clone(),
            acknowledged: 10,
            possibly_duplicated: 0,
            returned: 0,
            sealed_ms: 1,
            producer_ids: vec![4],
        }];
        machine.watch.heard(1, &[vec![], vec![moved.clone()]], &redirected);
        assert!(!look(&mut machine, 5_000), "this look begins anew");
        assert!(!machine.nobody_else_writes(), "nothing is known yet");
        // It claims to have left, and goes on: a receipt is no proof.
        machine.watch.heard(1, &[vec![], vec![moved]], &redirected);
        assert!(look(&mut machine, 10_000), "somebody is to be recognised");
        assert!(machine.watch.somebody_writes() && !machine.nobody_else_writes());
    }
}
