//! A group that rebalances: its coordinator does not tell what its members read.

#![allow(unreachable_pub)]

use bytes::{BufMut as _, BytesMut};
use krafka::__private::protocol::ApiKey;
use krafka::Kafka;
use kutover_admin::KafkaAdmin;
use kutover_core::error::ErrorKind;
use kutover_core::ports::{ClusterAdmin as _, GroupListing, Incarnation};
use kutover_testkit::until;

use super::support::*;

/// The last version of JoinGroup, and one of LeaveGroup, in which a member is one with its first request.
const VERSION: i16 = 2;
const GROUP: &str = "settling";
const TOPIC: &str = "unsettled";
/// Nobody waits it out.
const SESSION_MS: i32 = 60_000;

/// Joins as the only member, and so as the leader, on whose assignment the group waits then. Gives the member's id.
async fn join(kafka: &Kafka) -> String {
    let joined = async || {
        let answer = ask(kafka, ApiKey::JoinGroup, VERSION, |buffer| {
            put_text(buffer, GROUP);
            buffer.put_i32(SESSION_MS);
            buffer.put_i32(SESSION_MS);
            put_text(buffer, ""); // No member yet.
            put_text(buffer, "consumer");
            buffer.put_i32(1);
            put_text(buffer, "range");
            let mut subscription = BytesMut::new();
            subscription.put_i16(0);
            subscription.put_i32(1);
            put_text(&mut subscription, TOPIC);
            subscription.put_i32(-1); // No data of its own.
            buffer.put_i32(i32::try_from(subscription.len()).expect("a short one"));
            buffer.put_slice(&subscription);
        });
        let answer = answer.await;
        // throttle_time_ms, error_code, generation_id; then the protocol's name, the leader, the member. A coordinator may
        // still be loading.
        if answer[4..6] != [0, 0] {
            return None;
        }
        let mut rest = &answer[10..];
        let mut next = || {
            let (length, after) = rest.split_at(2);
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let (text, after) = after.split_at(length);
            rest = after;
            String::from_utf8(text.to_vec()).expect("text")
        };
        let [protocol, leader, member] = [next(), next(), next()];
        assert_eq!((protocol.as_str(), &leader), ("range", &member));
        Some(member)
    };
    until("the group to take a member", BOUND, joined).await
}

/// L9: what the group reads is not known, which is not nothing. Once its member is gone, it is.
pub async fn is_not_known(cluster: &Incarnation) {
    let bootstrap = cluster.bootstrap.join(",");
    let admin = KafkaAdmin::connect(config(&bootstrap)).await.expect("connect");
    let kafka = ordinary(&bootstrap).await;
    let member = join(&kafka).await;
    let error = admin.groups().await.expect_err("nobody knows what it reads");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("group settling is rebalancing"), "{error}");
    let left = ask(&kafka, ApiKey::LeaveGroup, VERSION, |buffer| {
        put_text(buffer, GROUP);
        put_text(buffer, &member);
    });
    assert!(left.await.ends_with(&[0, 0]), "it left");
    let listed = async || admin.groups().await.ok();
    let GroupListing::Listed(listed) = until("the groups", BOUND, listed).await else {
        panic!("real Kafka lists")
    };
    assert!(listed.get(&GROUP.into()).is_none_or(|topics| topics.is_empty()), "{listed:?}");
}
