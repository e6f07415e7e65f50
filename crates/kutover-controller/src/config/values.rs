//! Durations with a unit.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// A duration as a text with a unit.
pub(super) mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer, parse};

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse::<D>(toml::Value::deserialize(from)?)
    }
}

/// The same, where there may be none.
pub(super) mod duration_option {
    use super::{Deserialize, Deserializer, Duration, Serializer, duration, parse};

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        parse::<D>(toml::Value::deserialize(from)?).map(Some)
    }
}

fn parse<'de, D: Deserializer<'de>>(value: toml::Value) -> Result<Duration, D::Error> {
    let wrong = |reason: &str| {
        D::Error::custom(format!(
            "`{value}` is no duration ({reason}); write a number and a unit, as in \"1m 30s\""
        ))
    };
    match &value {
        toml::Value::String(text) => {
            humantime::parse_duration(text).map_err(|error| wrong(&error.to_string()))
        }
        toml::Value::Integer(_) | toml::Value::Float(_) => Err(wrong("its unit is missing")),
        _ => Err(wrong("it is not a text")),
    }
}
