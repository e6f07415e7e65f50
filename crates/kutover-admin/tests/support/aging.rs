//! Start offsets that nobody comes for during a long drain.

#![allow(unreachable_pub)]

use bytes::{BufMut as _, BytesMut};
use krafka::__private::protocol::ApiKey;
use krafka::Kafka;
use krafka::admin::{ListConsumerGroupOffsetsOptions, TopicPartition as Place};
use kutover_admin::KafkaAdmin;
use kutover_core::ports::{ClusterAdmin as _, Incarnation};
use kutover_core::words::{GroupId, TopicPartition};
use kutover_testkit::until;

use super::support::*;

/// Up to version 4 of OffsetCommit its sender says how long the broker is to keep it. A broker's own
/// `offsets.retention.minutes` is a minute at least, which a test would have to sit through.
const COMMIT_VERSION: i16 = 2;
/// How long that is. It passes while the other scenes are played.
const KEPT_MS: i64 = 15_000;
const GROUP: &str = "late-comer";
const OFFSET: i64 = 7;

/// A group without members whose two start offsets expire together, unless one is made young again.
pub struct Aging {
    kafka: Kafka,
    admin: KafkaAdmin,
    places: [TopicPartition; 2],
}

impl Aging {
    /// Sets both, old already, and one of them again.
    pub async fn begin(cluster: &Incarnation) -> Self {
        let bootstrap = cluster.bootstrap.join(",");
        let admin = KafkaAdmin::connect(config(&bootstrap)).await.expect("connect");
        let kafka = ordinary(&bootstrap).await;
        let topic = make_topic(&admin, "late", 2).await;
        let places = [TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic, 1)];
        let it = Self { kafka, admin, places };
        it.commit_old().await;
        let kept = std::slice::from_ref(&it.places[1]);
        let left = it.admin.set_start_offsets(&GroupId::new(GROUP), &at(kept, OFFSET)).await.expect("set");
        assert_eq!(left, kept, "a commit is there already");
        it
    }

    /// Commits to the only broker as an older client does, which says itself how long that is kept.
    async fn commit_old(&self) {
        let encode = |buffer: &mut BytesMut| {
            put_text(buffer, GROUP);
            buffer.put_i32(-1); // No generation,
            put_text(buffer, ""); // and no member.
            buffer.put_i64(KEPT_MS);
            buffer.put_i32(1);
            put_text(buffer, self.places[0].topic.as_str());
            buffer.put_i32(2);
            for place in &self.places {
                buffer.put_i32(place.partition);
                buffer.put_i64(OFFSET);
                put_text(buffer, "");
            }
        };
        let committed = async || {
            let answer = ask(&self.kafka, ApiKey::OffsetCommit, COMMIT_VERSION, encode).await;
            // It ends with the last partition's error: a coordinator may still be loading.
            let none = [0, 0];
            answer.ends_with(&none).then_some(())
        };
        until("the commit", BOUND, committed).await;
        assert_eq!(self.offsets().await, [Some(OFFSET); 2]);
    }

    async fn offsets(&self) -> [Option<i64>; 2] {
        let places = self.places.each_ref().map(|place| Place::new(place.topic.as_str(), place.partition));
        let options = ListConsumerGroupOffsetsOptions::default();
        let found = self.kafka.admin().list_consumer_group_offsets(GROUP, options).await.expect("an answer");
        places.map(|place| found.get(&place)?.as_ref().expect("an offset").offset)
    }

    /// L7: what was set once has expired, what was set again is kept.
    pub async fn end(self) {
        let expired = async || {
            let offsets = self.offsets().await;
            offsets[0].is_none().then_some(offsets[1])
        };
        let kept = until("the other offset's expiry", BOUND, expired).await;
        assert_eq!(kept, Some(OFFSET), "set again, it is young again");
        self.admin.delete_topics(&["late".into()]).await.expect("deleted");
    }
}
