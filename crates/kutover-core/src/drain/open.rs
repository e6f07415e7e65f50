//! Transactions that are open in a partition. What they wrote may yet become data, and no reader of committed records gets
//! past where the first of them begins (L10).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words::{Offset, TopicPartition};

/// What a transaction's coordinator says of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "coordinator")]
pub enum Coordinated {
    /// It could not be asked (before Kafka 3.0), or did not answer.
    Unknown {
        /// Why not.
        reason: String,
    },
    /// It knows the transaction, and will end it.
    Known {
        /// The transactional id, chosen by the producer's owner.
        transactional_id: String,
        /// Its state in Kafka's own word (`Ongoing`, `PrepareCommit`).
        state: String,
        /// When it ends by itself at the latest, in milliseconds since the Unix epoch, where that is known.
        ends_by_ms: Option<i64>,
    },
    /// It knows of no such transaction: it hangs, and nobody will ever end it.
    Forgotten,
}

/// A transaction that is open in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Its producer's id.
    pub producer_id: i64,
    /// Its producer's epoch.
    pub epoch: i32,
    /// The epoch of its coordinator.
    pub coordinator_epoch: i32,
    /// Where it begins in this partition.
    pub since: Offset,
    /// The timestamp of its producer's last batch here, in milliseconds since the Unix epoch.
    pub last_write_ms: i64,
    /// What its coordinator says.
    #[serde(flatten)]
    pub coordinator: Coordinated,
}

impl OpenTransaction {
    /// The command of Kafka's own tools that aborts it in a partition. Brokers before 3.0 want the producer's ids instead of
    /// the offset, so it has them where the coordinator cannot be asked.
    pub fn abort_command(&self, place: &TopicPartition) -> String {
        let which = match self.coordinator {
            Coordinated::Unknown { .. } => format!(
                "--producer-id {} --producer-epoch {} --coordinator-epoch {}",
                self.producer_id, self.epoch, self.coordinator_epoch
            ),
            _ => format!("--start-offset {}", self.since),
        };
        format!(
            "kafka-transactions.sh --bootstrap-server BROKER abort --topic {} --partition {} {which}",
            place.topic, place.partition
        )
    }
}

impl fmt::Display for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.producer_id;
        let since = self.since;
        match &self.coordinator {
            Coordinated::Forgotten => write!(
                f,
                "the transaction of producer id {id} hangs since offset {since}: its coordinator knows nothing of it, and \
                 nobody will end it"
            ),
            Coordinated::Unknown { .. } => {
                write!(f, "a transaction of producer id {id} is open since offset {since}")
            }
            Coordinated::Known { transactional_id, state, ends_by_ms } => {
                write!(
                    f,
                    "the transaction of `{transactional_id}` (producer id {id}) is open since offset {since}, {state}"
                )?;
                match ends_by_ms {
                    Some(at) => write!(f, ", and ends by itself at {at} (Unix milliseconds)"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_what_the_brokers_tool_wants() {
        let open = |coordinator| OpenTransaction {
            producer_id: 7,
            epoch: 2,
            coordinator_epoch: 3,
            since: Offset(12),
            last_write_ms: 5,
            coordinator,
        };
        let place = TopicPartition::new("ledger", 4);
        let begin = "kafka-transactions.sh --bootstrap-server BROKER abort --topic ledger --partition 4";
        assert_eq!(open(Coordinated::Forgotten).abort_command(&place), format!("{begin} --start-offset 12"));
        let unknown = open(Coordinated::Unknown { reason: "2.8".into() });
        let ids = "--producer-id 7 --producer-epoch 2 --coordinator-epoch 3";
        assert_eq!(unknown.abort_command(&place), format!("{begin} {ids}"));
        let known = open(Coordinated::Known {
            transactional_id: "till".into(),
            state: "Ongoing".into(),
            ends_by_ms: Some(9),
        });
        assert!(known.to_string().contains("`till` (producer id 7) is open since offset 12, Ongoing"));
        assert!(open(Coordinated::Forgotten).to_string().contains("hangs since offset 12"));
    }
}
