//! What a record says of its producer.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words::Offset;

/// Bytes of a key or header value that are shown.
const SHOWN: usize = 48;
/// Headers that are shown of one record.
const HEADERS_SHOWN: usize = 12;
/// Parts of header names whose values name a program. Other values stay unread: they can be secrets.
const TELLING: [&str; 13] = [
    "client",
    "source",
    "service",
    "application",
    "app",
    "producer",
    "origin",
    "agent",
    "host",
    "instance",
    "typeid",
    "ce_type",
    "schema",
];
/// Parts of header names whose values are never shown, whatever else the name says.
const SECRET: [&str; 7] = ["secret", "token", "auth", "password", "credential", "cookie", "key"];

/// What one record says of the program that wrote it, shortened and printable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sign {
    /// Its key, as text.
    pub key: Option<String>,
    /// Its headers' names, with the values of those that name a program.
    pub headers: Vec<(String, Option<String>)>,
}

/// One of a partition's last records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LastRecord {
    /// Where it stands.
    pub offset: Offset,
    /// Its timestamp, in milliseconds, by whatever clock stamped it.
    pub timestamp_ms: i64,
    /// The id of the producer whose batch it came in; `None` without idempotence.
    pub producer_id: Option<i64>,
    /// What it says of its producer.
    pub sign: Sign,
}

impl Sign {
    /// Reads a record's key and headers.
    pub fn of<'a>(
        key: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Self {
        let header = |(name, value): (&str, Option<&[u8]>)| {
            let low = name.to_lowercase();
            let has = |parts: &[&str]| parts.iter().any(|part| low.contains(part));
            let shown = value.filter(|_| has(&TELLING) && !has(&SECRET)).map(printable);
            (printable(name.as_bytes()), shown)
        };
        Self {
            key: key.map(printable),
            headers: headers.into_iter().take(HEADERS_SHOWN).map(header).collect(),
        }
    }
}

/// Text that fits a line: what is not text becomes a question mark.
fn printable(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let text = String::from_utf8_lossy(shown);
    let mut text: String =
        text.chars().map(|c| if c.is_control() || c == '\u{fffd}' { '?' } else { c }).collect();
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its last record: ")?;
        match &self.key {
            Some(key) => write!(f, "key \"{key}\"")?,
            None => f.write_str("no key")?,
        }
        for (at, (name, value)) in self.headers.iter().enumerate() {
            f.write_str(if at == 0 { ", headers " } else { ", " })?;
            match value {
                Some(value) => write!(f, "{name}=\"{value}\"")?,
                None => f.write_str(name)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_or_spoil_a_line_is_not_shown() {
        let long = [b'x'; 100];
        let sign = Sign::of(
            Some(b"a\x00\xffb\n"),
            [("X-Client-Token", Some(&b"t"[..])), ("ce_source", Some(&long)), ("app", None)],
        );
        assert_eq!(sign.key.as_deref(), Some("a??b?"));
        assert_eq!(sign.headers[0], ("X-Client-Token".to_owned(), None));
        assert_eq!(sign.headers[1].1.as_ref().map(String::len), Some(SHOWN + 3));
        assert_eq!(sign.to_string().matches("app").count(), 1);
        assert_eq!(Sign::of(None, []).to_string(), "its last record: no key");
    }
}
