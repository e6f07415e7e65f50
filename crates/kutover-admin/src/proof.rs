//! The proof that a fence stands: every leader refuses, nothing is open, and the ends stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kutover_core::decisions::closing::{self, LeaderAnswer, LeaderEnd, Look, NotClosed, Remedy};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult, Retry};
use kutover_core::ports::FenceProof;
use kutover_core::words::{TopicName, TopicPartition};
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::ends::Ends;
use crate::probe::ProbeAnswer;

/// Between two looks while a fence takes hold, replicas catch up or transactions end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How far one broker may be behind another.
const GRACE: Duration = Duration::from_secs(1);

impl KafkaAdmin {
    pub(crate) async fn prove(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        self.prove_bindings(topics).await?;
        let deadline = Instant::now() + self.config.timeouts.proof;
        let names: BTreeSet<TopicName> = topics.iter().cloned().collect();
        let mut before: Option<Look> = None;
        loop {
            let (is_final, error) = match (self.look(topics).await, before.take()) {
                // Behind a load balancer it may have been the dead one of several brokers that was asked.
                (Err(error), looked) => {
                    before = looked;
                    (error.retry == Retry::Never, error)
                }
                (Ok((first, _)), None) => {
                    before = Some(first);
                    continue;
                }
                (Ok((second, ends)), Some(first)) => {
                    let Err(against) = closing::prove(&names, &first, &second) else {
                        let kind = self.fence.switch().kind();
                        return Ok(FenceProof { kind, topics: ends.topics, ends: ends.ends });
                    };
                    before = Some(second);
                    (against.why.remedy() == Remedy::Anew, unproven(&against))
                }
            };
            if is_final || Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The opposite: every leader would take a record. One that has not learnt of it yet is asked again.
    pub(crate) async fn prove_takes(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let deadline = Instant::now() + self.config.timeouts.proof;
        loop {
            let answers = self.probe(topics).await?;
            // A refusal says more than silence.
            let refused = answers.iter().find(|(_, answer)| **answer == ProbeAnswer::Fenced);
            let Some((place, answer)) =
                refused.or_else(|| answers.iter().find(|(_, answer)| **answer != ProbeAnswer::Open))
            else {
                return Ok(());
            };
            let (kind, reason) = match answer {
                ProbeAnswer::Unclear(reason) => (ErrorKind::Unavailable, reason.as_str()),
                _ => {
                    let reason = "its leader refuses ordinary clients: find out which ACL or fence does it";
                    (ErrorKind::Refused, reason)
                }
            };
            if Instant::now() >= deadline {
                let what = format!("prove that {place} takes records");
                return Err(ProviderError::new(kind, what, reason).with_retry(Retry::Later));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A refusal says that the probe may not write, the binding says that nobody may: both are asked for. The broker that
    /// tells it may be behind the one that told whoever raised it.
    async fn prove_bindings(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let deadline = Instant::now() + GRACE.min(self.config.timeouts.proof);
        while let Some(topic) = self.fence.unfenced(topics).await?.first() {
            if Instant::now() >= deadline {
                let what = format!("prove the fence of topic {topic}");
                let reason = "nothing there refuses everyone's records: somebody has taken the fence away. It is raised again \
                              until the cluster is closed; one that is added by hand would never be lifted";
                return Err(ProviderError::new(ErrorKind::Refused, what, reason));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Asks every leader, and only then what the logs come to: what it took before it refused is in its end.
    async fn look(&self, topics: &[TopicName]) -> ProviderResult<(Look, Ends)> {
        let answers = self.probe(topics).await?;
        let ends = self.read_ends(topics).await?;
        Ok((look_of(answers, &ends), ends))
    }
}

/// What was seen, in the words of whoever judges it. A partition that came after the leaders were asked has no answer.
fn look_of(mut answers: BTreeMap<TopicPartition, ProbeAnswer>, ends: &Ends) -> Look {
    let leaders = ends.ends.iter().filter_map(|end| {
        let refuses = match answers.remove(&end.place)? {
            ProbeAnswer::Unclear(reason) => return Some((end.place.clone(), Err(reason))),
            answer => answer == ProbeAnswer::Fenced,
        };
        let leader_end = match end.leader_end {
            Some(end) => LeaderEnd::At(end),
            None if ends.alone.contains(&end.place) => LeaderEnd::Alone,
            None => LeaderEnd::Unknown,
        };
        let (stable_end, high_watermark, epoch) = (end.stable_end, end.high_watermark, end.epoch);
        let answer = LeaderAnswer { refuses, stable_end, high_watermark, epoch, leader_end };
        Some((end.place.clone(), Ok(answer)))
    });
    Look { leaders: leaders.collect(), topics: ends.topics.clone() }
}

/// An open leader is no outage: brokers learn of a fence one by one, but somebody may have taken it away.
fn unproven(against: &NotClosed) -> ProviderError {
    let error =
        |kind| ProviderError::new(kind, format!("prove the fence of {}", against.place()), &against.why);
    match against.why.remedy() {
        Remedy::Anew => error(ErrorKind::Conflict),
        Remedy::Fence => error(ErrorKind::Refused).with_retry(Retry::Later),
        Remedy::Wait => error(ErrorKind::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use kutover_core::ports::PartitionEnd;
    use kutover_core::words::Offset;

    use super::*;

    fn place() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    /// What the one partition of a topic comes to.
    fn ends(stable: i64, high: i64, leader: Option<i64>) -> Ends {
        let end = PartitionEnd {
            place: place(),
            start: Offset(0),
            stable_end: Offset(stable),
            high_watermark: Offset(high),
            leader_end: leader.map(Offset),
            epoch: Some(1),
        };
        Ends { topics: [("orders".into(), (None, 1))].into(), ends: vec![end], alone: BTreeSet::new() }
    }

    fn judged(first: &Look, second: &Look) -> Result<(), ProviderError> {
        closing::prove(&["orders".into()].into(), first, second).map_err(|against| unproven(&against))
    }

    /// The partition is named, and callers are told whether somebody has to raise the fence, or time mends it.
    #[test]
    fn a_leader_that_is_open_silent_or_behind_is_named() {
        let fenced = || Some(ProbeAnswer::Fenced);
        let unclear = Some(ProbeAnswer::Unclear("gone".into()));
        for (answer, ends, expected) in [
            (fenced(), ends(7, 7, Some(7)), None),
            (Some(ProbeAnswer::Open), ends(7, 7, Some(7)), Some(ErrorKind::Refused)),
            (unclear, ends(7, 7, Some(7)), Some(ErrorKind::Unavailable)),
            (None, ends(7, 7, Some(7)), Some(ErrorKind::Unavailable)),
            (fenced(), ends(3, 3, Some(7)), Some(ErrorKind::Unavailable)),
            (fenced(), ends(7, 7, None), Some(ErrorKind::Unavailable)),
            (fenced(), ends(5, 7, Some(7)), Some(ErrorKind::Unavailable)),
        ] {
            let look = look_of(answer.iter().map(|answer| (place(), answer.clone())).collect(), &ends);
            let error = judged(&look, &look).err();
            assert_eq!(error.as_ref().map(|error| error.kind), expected, "{answer:?}, {ends:?}");
            if let Some(error) = error {
                assert_eq!(error.what, "prove the fence of topic orders, partition 0");
                assert_eq!(error.retry, Retry::Later, "{error}");
            }
        }
    }

    /// A cluster that has no such call (embedded) has one replica of everything.
    #[test]
    fn one_replica_waits_for_nobody() {
        let alone = Ends { alone: [place()].into(), ..ends(7, 7, None) };
        let look = look_of([(place(), ProbeAnswer::Fenced)].into(), &alone);
        assert_eq!(judged(&look, &look), Ok(()));
    }

    #[test]
    fn topics_that_came_or_went_are_a_conflict() {
        let look = look_of([(place(), ProbeAnswer::Fenced)].into(), &ends(7, 7, Some(7)));
        let fewer = Look { topics: [("orders".into(), (None, 0))].into(), ..look.clone() };
        assert_eq!(judged(&fewer, &look).unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(judged(&Look::default(), &look).unwrap_err().kind, ErrorKind::Conflict);
    }
}
