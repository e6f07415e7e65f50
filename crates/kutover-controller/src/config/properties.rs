//! Client properties: their values are not shown, and may stand elsewhere than in the file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
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

/// Where a property's value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// In the configuration.
    Given(SecretText),
    /// In an environment variable of the program: `{ env = "NAME" }`.
    Env(String),
    /// In a file: `{ file = "PATH" }`. A line's end at its end is not part of the value.
    File(PathBuf),
}

impl PropertyValue {
    /// The value.
    ///
    /// # Errors
    /// The variable is not set or the file cannot be read, by name.
    pub fn read(&self) -> Result<SecretText, String> {
        let text = match self {
            Self::Given(text) => return Ok(text.clone()),
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => format!("environment variable {name} is not set; set it"),
                std::env::VarError::NotUnicode(_) => format!("environment variable {name} is no UTF-8"),
            })?,
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("file {} cannot be read: {error}", path.display()))?,
        };
        let text =
            text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        match (text.is_empty(), self) {
            (false, _) | (_, Self::Given(_)) => Ok(SecretText::new(text)),
            (true, Self::Env(name)) => Err(format!("environment variable {name} is empty; set it")),
            (true, Self::File(path)) => Err(format!("file {} is empty", path.display())),
        }
    }

    /// Takes a relative path from this directory.
    pub(super) fn beside(&mut self, directory: &Path) {
        if let Self::File(path) = self {
            *path = directory.join(&*path);
        }
    }
}

impl Serialize for PropertyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Given(text) => serializer.serialize_str(text.expose()),
            Self::Env(name) => serializer.collect_map([("env", name)]),
            Self::File(path) => serializer.collect_map([("file", path)]),
        }
    }
}

impl<'de> Deserialize<'de> for PropertyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        fn given<E>(value: impl ToString) -> Result<PropertyValue, E> {
            Ok(PropertyValue::Given(SecretText(value.to_string())))
        }

        // serde's own messages quote the value, so every scalar is taken here.
        impl<'de> Visitor<'de> for Value {
            type Value = PropertyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false, { env = \"NAME\" } or { file = \"PATH\" }")
            }
            fn visit_str<E>(self, value: &str) -> Result<PropertyValue, E> {
                given(value)
            }
            fn visit_bool<E>(self, value: bool) -> Result<PropertyValue, E> {
                given(value)
            }
            fn visit_i64<E>(self, value: i64) -> Result<PropertyValue, E> {
                given(value)
            }
            fn visit_u64<E>(self, value: u64) -> Result<PropertyValue, E> {
                given(value)
            }
            fn visit_f64<E>(self, value: f64) -> Result<PropertyValue, E> {
                given(value)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PropertyValue, A::Error> {
                let wrong = || {
                    A::Error::custom(
                        "is neither { env = \"NAME\" } nor { file = \"PATH\" }; a name with dots in it stands in quotes, \
                         as in \"linger.ms\" = 5",
                    )
                };
                // The place is judged before its value is read: an error there would quote it as a field.
                let value = match map.next_key::<String>()?.as_deref() {
                    Some("env") => PropertyValue::Env(map.next_value()?),
                    Some("file") => PropertyValue::File(map.next_value()?),
                    _ => return Err(wrong()),
                };
                match map.next_key::<String>()? {
                    None => Ok(value),
                    Some(_) => Err(wrong()),
                }
            }
        }

        deserializer.deserialize_any(Value)
    }
}

impl JsonSchema for PropertyValue {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = |name: &str, what: &str| {
            json_schema!({
                "type": "object",
                "properties": { name: { "type": "string", "description": what } },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A value, which may be a secret, or where it stands. Read at the start.",
            "anyOf": [
                { "type": ["string", "number", "boolean"] },
                place("env", "The environment variable of kutover's that holds it."),
                place("file", "The file that holds it; a line's end at its end is not part of it."),
            ],
        })
    }
}

/// Client properties by librdkafka's names. Any of the values can be a secret, so none is shown but `sasl.username`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Properties(BTreeMap<String, PropertyValue>);

impl Properties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets one, for configurations that are written by a program.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), PropertyValue::Given(SecretText::new(value)));
    }

    /// Their names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// One of them, if it is there and can be had.
    pub(crate) fn get(&self, name: &str) -> Option<SecretText> {
        self.0.get(name)?.read().ok()
    }

    /// All of them with their values in the open, for the client that needs them.
    ///
    /// # Errors
    /// The property whose value cannot be had, and why.
    pub fn read(&self) -> Result<BTreeMap<String, String>, (String, String)> {
        let read = |(name, value): (&String, &PropertyValue)| match value.read() {
            Ok(text) => Ok((name.clone(), text.expose().to_owned())),
            Err(reason) => Err((name.clone(), reason)),
        };
        self.0.iter().map(read).collect()
    }

    /// Takes relative paths from this directory.
    pub(super) fn beside(&mut self, directory: &Path) {
        for value in self.0.values_mut() {
            value.beside(directory);
        }
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        fn no_table<E: serde::de::Error>() -> Result<Properties, E> {
            Err(E::custom("is no table; write each property with its value"))
        }

        // As above: what stands where a table should be may hold a secret.
        impl<'de> Visitor<'de> for Table {
            type Value = Properties;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of properties")
            }
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Properties, E> {
                no_table()
            }
            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Properties, E> {
                no_table()
            }
            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Properties, E> {
                no_table()
            }
            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Properties, E> {
                no_table()
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut properties = Properties::default();
                while let Some((name, value)) = map.next_entry()? {
                    properties.0.insert(name, value);
                }
                Ok(properties)
            }
        }

        deserializer.deserialize_any(Table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Properties {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_value_may_stand_in_the_environment_or_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), "hunter2\n").unwrap();
        let mut properties = parse(
            "\"sasl.username\" = { env = \"CARGO_PKG_NAME\" }\n\"sasl.password\" = { file = \"password\" }\nacks = \"all\"\n",
        );
        properties.beside(dir.path());
        let read = properties.read().unwrap();
        assert_eq!(read["sasl.username"], env!("CARGO_PKG_NAME"));
        assert_eq!((read["sasl.password"].as_str(), read["acks"].as_str()), ("hunter2", "all"));
        // Written again, it still says where, not what.
        let written = toml::to_string(&properties).unwrap();
        assert!(!written.contains("hunter2") && !format!("{properties:?}").contains("hunter2"), "{written}");
        assert_eq!(parse(&written), properties);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        for (value, expected) in [
            ("{ env = \"KUTOVER_NO_SUCH_VARIABLE\" }", "variable KUTOVER_NO_SUCH_VARIABLE is not set"),
            ("{ file = \"nothing\" }", "nothing cannot be read"),
            ("{ file = \"empty\" }", "empty is empty"),
        ] {
            let mut properties = parse(&format!("\"sasl.password\" = {value}"));
            properties.beside(dir.path());
            let (name, reason) = properties.read().unwrap_err();
            assert!(name == "sasl.password" && reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn no_error_quotes_a_value() {
        for wrong in ["{ hunter2 = \"x\" }", "{ env = \"A\", file = \"hunter2\" }", "{}", "[\"hunter2\"]"] {
            let error = toml::from_str::<Properties>(&format!("p = {wrong}")).unwrap_err();
            assert!(!error.message().contains("hunter2"), "{}", error.message());
            assert!(error.message().contains("env = "), "{}", error.message());
        }
        let unquoted = toml::from_str::<Properties>("linger.ms = 5").unwrap_err();
        assert!(unquoted.message().contains("stands in quotes"), "{}", unquoted.message());
        #[derive(Debug, Deserialize)]
        struct Cluster {
            #[serde(rename = "properties")]
            _properties: Properties,
        }
        for wrong in ["\"sasl.password=hunter2\"", "[\"hunter2\"]", "4711", "1.5", "true"] {
            let error = toml::from_str::<Cluster>(&format!("properties = {wrong}")).unwrap_err();
            assert!(!error.message().contains(wrong.trim_matches('"')), "{}", error.message());
            assert!(!error.message().contains("hunter2"), "{}", error.message());
        }
    }
}
