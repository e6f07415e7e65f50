//! Cluster ids as Kafka makes them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kutover_core::words::ClusterId;
use uuid::Uuid;

/// A new cluster id: 16 random bytes as 22 characters of URL-safe base64, as `org.apache.kafka.common.Uuid` writes
/// them. Like Kafka's, it never starts with a dash, which a command line would take for an option.
pub fn random_cluster_id() -> ClusterId {
    loop {
        let text = URL_SAFE_NO_PAD.encode(Uuid::new_v4().into_bytes());
        if !text.starts_with('-') {
            return ClusterId::new(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_look_like_kafkas_and_differ() {
        let (one, two) = (random_cluster_id(), random_cluster_id());
        assert_eq!(one.as_str().len(), 22);
        assert_ne!(one, two);
    }
}
