//! The proof that a fence stands: every leader refuses, and the ends stand still.

use std::collections::BTreeMap;
use std::time::Duration;

use kutover_core::error::{ErrorKind, ProviderError, ProviderResult, Retry};
use kutover_core::ports::FenceProof;
use kutover_core::words::{TopicName, TopicPartition};
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::ends::Ends;
use crate::probe::ProbeAnswer;

/// Between two looks while a fence takes hold or replicas catch up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl KafkaAdmin {
    pub(crate) async fn prove(&self, topics: &[TopicName]) -> ProviderResult<FenceProof> {
        self.prove_bindings(topics).await?;
        let deadline = Instant::now() + self.config.timeouts.proof;
        // The topics as they stood before any leader was asked: partitions that come later were never asked.
        let before = self.read_ends(topics).await?;
        self.prove_refusals(topics, deadline).await?;
        let ends = self.prove_stillness(topics, deadline).await?;
        if ends.topics != before.topics {
            let reason = "topics or partitions came or went while it was proven; prove it again";
            return Err(ProviderError::new(ErrorKind::Conflict, "prove the fence", reason));
        }
        Ok(FenceProof { kind: self.fence.switch().kind(), topics: ends.topics, ends: ends.ends })
    }

    /// The opposite: every leader would take a record. One that has not learnt of it yet is asked again.
    pub(crate) async fn prove_takes(&self, topics: &[TopicName]) -> ProviderResult<()> {
        let deadline = Instant::now() + self.config.timeouts.proof;
        loop {
            let answers = self.probe(topics).await?;
            let Some((place, answer)) = answers.iter().find(|(_, answer)| **answer != ProbeAnswer::Open)
            else {
                return Ok(());
            };
            let reason = match answer {
                ProbeAnswer::Unclear(reason) => reason.as_str(),
                _ => "its leader refuses ordinary clients: find out which ACL or fence does it",
            };
            if Instant::now() >= deadline {
                let what = format!("prove that {place} takes records");
                return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A refusal says that the probe may not write, the binding says that nobody may: both are asked for.
    async fn prove_bindings(&self, topics: &[TopicName]) -> ProviderResult<()> {
        match self.fence.unfenced(topics).await?.first() {
            None => Ok(()),
            Some(topic) => {
                let reason = "nothing there refuses everyone's records; raise the fence first";
                Err(ProviderError::new(
                    ErrorKind::Refused,
                    format!("prove the fence of topic {topic}"),
                    reason,
                ))
            }
        }
    }

    /// Brokers learn of ACLs one by one: a leader that is still open is asked again until the deadline.
    async fn prove_refusals(&self, topics: &[TopicName], deadline: Instant) -> ProviderResult<()> {
        loop {
            let answers = self.probe(topics).await?;
            let Err(error) = judge(&answers) else { return Ok(()) };
            if error.retry == Retry::Never || Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The high watermark is the leader's own end, and neither moves between two reads.
    async fn prove_stillness(&self, topics: &[TopicName], deadline: Instant) -> ProviderResult<Ends> {
        let mut last = self.read_ends(topics).await?;
        loop {
            let ends = self.read_ends(topics).await?;
            let moving = unsettled(&last, &ends);
            let Some((place, reason)) = moving else { return Ok(ends) };
            if Instant::now() >= deadline {
                return Err(ProviderError::new(
                    ErrorKind::Unavailable,
                    format!("prove the fence of {place}"),
                    reason,
                ));
            }
            last = ends;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

fn judge(answers: &BTreeMap<TopicPartition, ProbeAnswer>) -> ProviderResult<()> {
    for (place, answer) in answers {
        let what = format!("prove the fence of {place}");
        match answer {
            ProbeAnswer::Fenced => {}
            ProbeAnswer::Open => {
                let reason = "its leader would take a record";
                return Err(ProviderError::new(ErrorKind::Refused, what, reason).with_retry(Retry::Later));
            }
            ProbeAnswer::Unclear(reason) => {
                let reason = format!("its leader did not refuse as a fenced one does: {reason}");
                return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
            }
        }
    }
    Ok(())
}

/// The first partition whose end is not settled yet, and why.
fn unsettled(last: &Ends, now: &Ends) -> Option<(TopicPartition, String)> {
    let behind =
        now.ends.iter().find(|end| end.leader_end.is_some_and(|leader| leader != end.high_watermark));
    if let Some(end) = behind {
        let leader = end.leader_end.map_or(0, |leader| leader.0);
        let reason = format!("its leader holds {leader} offsets, readers get to {} only", end.high_watermark);
        return Some((end.place.clone(), reason));
    }
    let moved = now.ends.iter().enumerate().find(|(index, end)| last.ends.get(*index) != Some(*end))?.1;
    Some((moved.place.clone(), "its end or its leader changed between two reads".to_owned()))
}

#[cfg(test)]
mod tests {
    use kutover_core::ports::PartitionEnd;
    use kutover_core::words::Offset;

    use super::*;

    fn ends(high: i64, leader: Option<i64>, epoch: i32) -> Ends {
        let end = PartitionEnd {
            place: TopicPartition::new("orders", 3),
            start: Offset(0),
            high_watermark: Offset(high),
            leader_end: leader.map(Offset),
            epoch: Some(epoch),
        };
        Ends { topics: BTreeMap::new(), ends: vec![end] }
    }

    #[test]
    fn an_end_is_settled_when_it_is_the_leaders_and_stands_still() {
        assert_eq!(unsettled(&ends(7, Some(7), 1), &ends(7, Some(7), 1)), None);
        assert_eq!(unsettled(&ends(7, None, 1), &ends(7, None, 1)), None);
        assert!(unsettled(&ends(3, Some(7), 1), &ends(3, Some(7), 1)).is_some(), "replicas are behind");
        assert!(unsettled(&ends(6, Some(6), 1), &ends(7, Some(7), 1)).is_some(), "the end moved");
        assert!(unsettled(&ends(7, Some(7), 1), &ends(7, Some(7), 2)).is_some(), "the leader changed");
    }

    #[test]
    fn a_leader_that_is_open_or_silent_is_named() {
        let answers = |answer| BTreeMap::from([(TopicPartition::new("orders", 3), answer)]);
        assert!(judge(&answers(ProbeAnswer::Fenced)).is_ok());
        for answer in [ProbeAnswer::Open, ProbeAnswer::Unclear("no answer".into())] {
            let error = judge(&answers(answer)).unwrap_err();
            assert!(error.to_string().contains("topic orders, partition 3"), "{error}");
        }
    }
}
