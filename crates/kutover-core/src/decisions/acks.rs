//! Weak acknowledgements (L15): properties with which a broker's failure loses acknowledged records.

use std::collections::BTreeMap;

use crate::controls::{Control, without};

/// The names under which librdkafka and the Java client know `acks`.
const ACKS: [&str; 2] = ["acks", "request.required.acks"];

/// A property that makes acknowledgements weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeakAcks {
    /// The property.
    pub property: &'static str,
    /// What it costs.
    pub why: &'static str,
}

/// The first of a client's properties that weakens its acknowledgements. What is absent is strong: kutover sets it.
pub fn weak_acks(properties: &BTreeMap<String, String>) -> Option<WeakAcks> {
    if without(Control::WeakAcks) {
        return None;
    }
    let weak = |property: &&str| properties.get(*property).is_some_and(|acks| acks != "all" && acks != "-1");
    if let Some(property) = ACKS.into_iter().find(weak) {
        return Some(WeakAcks { property, why: "only `all` keeps acknowledged records" });
    }
    let property = "enable.idempotence";
    // What librdkafka takes for a yes.
    let yes = |on: &String| ["true", "t", "1"].iter().any(|yes| on.eq_ignore_ascii_case(yes));
    let off = properties.get(property).is_some_and(|on| !yes(on));
    off.then_some(WeakAcks { property, why: "without it a retry can duplicate and reorder records" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(property: &str, value: &str) -> Option<&'static str> {
        weak_acks(&[(property.to_owned(), value.to_owned())].into()).map(|weak| weak.property)
    }

    #[test]
    fn all_and_minus_one_are_strong_and_nothing_else_is() {
        for property in ACKS {
            for weak in ["0", "1", "2", "", "ALL", "quorum"] {
                assert_eq!(found(property, weak), Some(property), "{property}={weak}");
            }
            assert_eq!((found(property, "all"), found(property, "-1")), (None, None));
        }
        assert_eq!(found("enable.idempotence", "false"), Some("enable.idempotence"));
        assert_eq!(found("enable.idempotence", "true"), None);
        assert_eq!(weak_acks(&BTreeMap::new()), None);
    }

    #[test]
    fn one_strong_name_does_not_hide_a_weak_one() {
        let both =
            [("acks".to_owned(), "all".to_owned()), ("request.required.acks".to_owned(), "1".to_owned())];
        assert_eq!(weak_acks(&both.into()).map(|weak| weak.property), Some("request.required.acks"));
    }
}
