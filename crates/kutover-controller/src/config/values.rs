//! Durations with a unit, and properties that never show their values.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that may be a secret. Neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the client that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        // serde's own messages quote the value, so every scalar is taken here.
        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or true or false")
            }
            fn visit_str<E>(self, value: &str) -> Result<SecretText, E> {
                Ok(SecretText(value.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<SecretText, E> {
                Ok(SecretText(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<SecretText, E> {
                Ok(SecretText(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<SecretText, E> {
                Ok(SecretText(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<SecretText, E> {
                Ok(SecretText(value.to_string()))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// Client properties by librdkafka's names. Any of the values can be a secret, so none is ever shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties(BTreeMap<String, SecretText>);

impl Properties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets one, for configurations that are written by a program.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), SecretText::new(value));
    }

    /// Name and value of each, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretText)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// All of them with their values in the open, for the client that needs them.
    pub fn expose(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    }
}

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
