//! Where producer ids stand, broker by broker (L16).
//!
//! Ids are asked for with InitProducerId on a connection to one broker, which answers out of its own block. krafka's
//! producers ask whichever broker they like, so its hidden internals are used here, as for the cluster's id. It is also
//! faster than building and closing producers, and the answer says the id itself, so that no scratch record is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use krafka::__private::network::BrokerConnection;
use krafka::__private::protocol::{
    ApiKey, InitProducerIdRequest, InitProducerIdResponse, VersionedDecode as _, VersionedEncode as _,
    versions,
};
use krafka::__private::{kafka_metadata, kafka_pool};
use krafka::admin::DescribeProducersOptions;
use krafka::error::{ErrorCode, KrafkaError};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{NewestIds, PartitionEnd, ProducerIds};
use kutover_core::words::{Offset, TopicName, TopicPartition};
use tokio::time::Instant;

use crate::admin::KafkaAdmin;
use crate::errors::{code, is_unsupported, provider, reason};
use crate::groups::place_of;

/// Requests under way at one broker, which answers those of a connection in turn: enough that it never waits for us.
const IN_FLIGHT: usize = 10;
/// Ids that are asked for between two looks at the clock.
const AT_ONCE: u64 = 500;
/// How soon a broker is asked again that is getting its next block.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl KafkaAdmin {
    /// The brokers as the cluster's metadata names them now.
    pub(crate) async fn brokers(&self) -> ProviderResult<Vec<(i32, String)>> {
        let what = "read the cluster's brokers";
        let metadata = kafka_metadata(&self.kafka);
        match tokio::time::timeout(self.config.timeouts.call, metadata.refresh()).await {
            Err(_) => Err(ProviderError::new(ErrorKind::Unreachable, what, "no answer in time")),
            Ok(Err(error)) => Err(provider(what, &error)),
            Ok(Ok(_)) => {
                let brokers = metadata.brokers();
                Ok(brokers.iter().map(|broker| (broker.id(), broker.address().to_owned())).collect())
            }
        }
    }

    /// Takes ids of one broker until it gives the mark or one above it, or the time is over; one at least. A broker that
    /// waits for its next block says that it is loading, and is asked again.
    async fn take_until(
        &self,
        broker: i32,
        address: &str,
        mark: u64,
        deadline: Instant,
    ) -> Result<u64, KrafkaError> {
        let connection = kafka_pool(&self.kafka).get_connection_by_id(broker, address).await?;
        let mut newest: Option<u64> = None;
        loop {
            // The mark may lie in a block of another broker: asking for fewer than are missing never goes beyond it by
            // more than a block.
            let missing = newest.map_or(1, |newest| (mark - newest).clamp(1, AT_ONCE));
            let asked = (0..missing).map(|_| take(&connection));
            let ids: Vec<_> = stream::iter(asked).buffer_unordered(IN_FLIGHT).collect().await;
            let mut loading = None;
            for id in ids {
                match id {
                    Ok(id) => newest = newest.max(Some(id)),
                    Err(error) if code(&error).is_some_and(|code| code.is_retriable()) => {
                        loading = Some(error)
                    }
                    Err(error) => return Err(error),
                }
            }
            match (newest, loading) {
                (Some(newest), _) if newest >= mark || Instant::now() >= deadline => return Ok(newest),
                (None, Some(error)) if Instant::now() >= deadline => return Err(error),
                (_, Some(_)) => tokio::time::sleep(ASK_AGAIN).await,
                (_, None) => {}
            }
        }
    }

    async fn take_all_until(&self, mark: u64) -> ProviderResult<NewestIds> {
        let brokers = self.brokers().await?;
        // Half of a call's time, so that whoever waits for the call gets its answer.
        let deadline = Instant::now() + self.config.timeouts.call / 2;
        let asked = brokers.iter().map(|(id, address)| self.take_until(*id, address, mark, deadline));
        let mut newest = NewestIds::new();
        for ((broker, _), answer) in brokers.iter().zip(join_all(asked).await) {
            match answer {
                // An old version, or a principal that may not: so it is with every broker, and for good.
                Err(error) if is_for_good(&error) => {
                    return Err(provider(format!("take a producer id of broker {broker}"), &error));
                }
                answer => newest.insert(*broker, answer.map_err(|error| reason(&error))),
            };
        }
        Ok(newest)
    }

    async fn live_ids(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>> {
        let what = |place: &TopicPartition| format!("read the producers of {place}");
        let ends = self.read_ends(topics).await?.ends;
        // Where there has never been a record there is no state, also on clusters that cannot tell.
        let is_written = |end: &PartitionEnd| end.leader_end.max(Some(end.high_watermark)) > Some(Offset(0));
        let written = ends.into_iter().filter(is_written);
        let places: Vec<TopicPartition> = written.map(|end| end.place).collect();
        let mut live = BTreeSet::new();
        if places.is_empty() {
            return Ok(live);
        }
        let asked = places.iter().map(place_of).collect::<Vec<_>>();
        let mut answers = self
            .admin
            .describe_producers(asked, DescribeProducersOptions::default())
            .await
            .map_err(|error| provider("describe producers", &error))?;
        for place in &places {
            match answers.remove(&place_of(place)) {
                Some(Ok(states)) => {
                    live.extend(states.iter().filter_map(|state| u64::try_from(state.producer_id).ok()));
                }
                Some(Err(error)) => return Err(provider(what(place), &error)),
                None => {
                    return Err(ProviderError::new(ErrorKind::Unavailable, what(place), "no answer"));
                }
            }
        }
        Ok(live)
    }
}

fn is_for_good(error: &KrafkaError) -> bool {
    is_unsupported(error) || provider("", error).kind == ErrorKind::NotAuthorised
}

/// Takes one id, as a client does that starts an idempotent producer.
async fn take(connection: &BrokerConnection) -> Result<u64, KrafkaError> {
    let (key, newest, oldest) =
        (ApiKey::InitProducerId, versions::INIT_PRODUCER_ID_MAX, versions::INIT_PRODUCER_ID_MIN);
    let version = connection
        .negotiate_api_version(key, newest, oldest)
        .ok_or_else(|| KrafkaError::broker(ErrorCode::UnsupportedVersion, "InitProducerId"))?;
    let request = InitProducerIdRequest::idempotent();
    let mut answer =
        connection.send_request(key, version, |buffer| request.encode_versioned(version, buffer)).await?;
    let answer = InitProducerIdResponse::decode_versioned(version, &mut answer)?;
    if !answer.is_ok() {
        return Err(KrafkaError::broker(answer.error_code, "InitProducerId"));
    }
    u64::try_from(answer.producer_id)
        .map_err(|_| KrafkaError::broker(ErrorCode::UnknownServerError, "a negative producer id"))
}

#[async_trait]
impl ProducerIds for KafkaAdmin {
    async fn newest(&self) -> ProviderResult<NewestIds> {
        self.take_all_until(0).await
    }

    async fn pass(&self, mark: u64) -> ProviderResult<NewestIds> {
        self.take_all_until(mark).await
    }

    async fn live(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>> {
        self.live_ids(topics).await
    }
}
