//! The owner record: the one authoritative statement of where a deployment is and who steers it.
//!
//! It stands as TXT at `_kutover.<endpoint>` and is swapped together with the endpoint's own record set. A TXT string
//! holds at most 255 bytes (RFC 1035, 3.3.14), so the text is cut into strings and joined again without a separator
//! (as RFC 7208, 3.3, does for SPF).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::words::{ClusterId, Colour, DeploymentName, DnsName, Generation, IncarnationId, Nonce, Term};

/// Where a producer has to be: what [`OwnerRecord`] and the control topic announce.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The generation whose segment this opens.
    pub generation: Generation,
    /// The colour to be on.
    pub colour: Colour,
    /// The id that the cluster must have.
    pub cluster_id: ClusterId,
    /// `host:port` of that colour's bootstrap servers, not of the shared endpoint.
    pub bootstrap: Vec<String>,
}

/// A rollback that has been decided on but not carried out yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intent {
    /// The generation whose segment is being closed.
    pub closing: Generation,
    /// The generation that will open.
    pub opening: Generation,
    /// The colour that `opening` will be on.
    pub colour: Colour,
}

/// The mark of removal: from here on the named incarnation may be destroyed, and there is no way back to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemovalMark {
    /// What is to be removed.
    pub incarnation: IncarnationId,
    /// The Kafka cluster that was proven to live there.
    pub cluster_id: ClusterId,
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// Whose record this is.
    pub deployment: DeploymentName,
    /// The controller in force.
    pub term: Term,
    /// The attempt that wrote this record.
    pub nonce: Nonce,
    /// Where the deployment's producers belong.
    pub target: Target,
    /// A rollback under way.
    pub intent: Option<Intent>,
    /// A removal under way.
    pub removal: Option<RemovalMark>,
}

/// Why a text is no owner record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("owner record: field `{field}`: {reason}")]
pub struct OwnerRecordError {
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

const VERSION: &str = "kutover1";
const LABEL: &str = "_kutover.";
/// The longest string a TXT record can hold.
const TXT_STRING_BYTES: usize = 255;

impl OwnerRecord {
    /// The name at which the owner record of an endpoint stands.
    pub fn name_for(endpoint: &DnsName) -> DnsName {
        DnsName::new(format!("{LABEL}{endpoint}"))
    }

    /// The endpoint whose owner record stands at a name in its normal spelling; `None` if it is the place of none.
    pub fn endpoint_of(name: &DnsName) -> Option<DnsName> {
        name.as_str().strip_prefix(LABEL).map(DnsName::new)
    }

    /// What keeps an owner record from a name at which a CNAME stands, and the fix.
    pub fn no_room(name: &DnsName) -> String {
        format!(
            "a CNAME stands at `{name}`, the owner record's place, or a wildcard gives one there: nothing can stand beside it \
             (RFC 1034, 3.6.2); remove it"
        )
    }

    /// The record as TXT strings of at most 255 bytes each.
    pub fn to_txt(&self) -> Vec<String> {
        let mut text = format!(
            "v={VERSION};deployment={};generation={};term={};nonce={};active={};cluster={};bootstrap={}",
            escape(self.deployment.as_str()),
            self.target.generation,
            self.term,
            escape(self.nonce.as_str()),
            self.target.colour,
            escape(self.target.cluster_id.as_str()),
            self.target.bootstrap.iter().map(|server| escape(server)).collect::<Vec<_>>().join(","),
        );
        if let Some(intent) = &self.intent {
            let _ = write!(text, ";intent={}>{}@{}", intent.closing, intent.opening, intent.colour);
        }
        if let Some(mark) = &self.removal {
            let _ = write!(
                text,
                ";removal={}@{}",
                escape(mark.incarnation.as_str()),
                escape(mark.cluster_id.as_str())
            );
        }
        // The text is pure ASCII (everything else is escaped), so any cut is between characters.
        text.as_bytes()
            .chunks(TXT_STRING_BYTES)
            .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
            .collect()
    }

    /// Reads TXT strings back.
    ///
    /// # Errors
    /// [`OwnerRecordError`] names the field that is missing or wrong. Unknown fields are ignored, so that a newer
    /// controller can add some.
    pub fn from_txt<S: AsRef<str>>(strings: &[S]) -> Result<Self, OwnerRecordError> {
        let text: String = strings.iter().map(AsRef::as_ref).collect();
        let fields: BTreeMap<&str, &str> = text.split(';').filter_map(|pair| pair.split_once('=')).collect();
        let get = |field: &'static str| {
            fields.get(field).copied().ok_or(OwnerRecordError { field, reason: "is missing".into() })
        };
        let version = get("v")?;
        if version != VERSION {
            return Err(OwnerRecordError { field: "v", reason: format!("`{version}` is not `{VERSION}`") });
        }
        Ok(Self {
            deployment: DeploymentName::new(unescape("deployment", get("deployment")?)?),
            term: Term(number("term", get("term")?)?),
            nonce: Nonce::new(unescape("nonce", get("nonce")?)?),
            target: Target {
                generation: Generation(number("generation", get("generation")?)?),
                colour: colour("active", get("active")?)?,
                cluster_id: ClusterId::new(unescape("cluster", get("cluster")?)?),
                bootstrap: get("bootstrap")?
                    .split(',')
                    .filter(|server| !server.is_empty())
                    .map(|server| unescape("bootstrap", server))
                    .collect::<Result<_, _>>()?,
            },
            intent: fields.get("intent").map(|text| parse_intent(text)).transpose()?,
            removal: fields.get("removal").map(|text| parse_removal(text)).transpose()?,
        })
    }
}

fn parse_intent(text: &str) -> Result<Intent, OwnerRecordError> {
    let wrong =
        || OwnerRecordError { field: "intent", reason: format!("`{text}` is not `closing>opening@colour`") };
    let (generations, to) = text.split_once('@').ok_or_else(wrong)?;
    let (closing, opening) = generations.split_once('>').ok_or_else(wrong)?;
    Ok(Intent {
        closing: Generation(number("intent", closing)?),
        opening: Generation(number("intent", opening)?),
        colour: colour("intent", to)?,
    })
}

fn parse_removal(text: &str) -> Result<RemovalMark, OwnerRecordError> {
    let (incarnation, cluster_id) = text.split_once('@').ok_or_else(|| OwnerRecordError {
        field: "removal",
        reason: format!("`{text}` is not `incarnation@cluster-id`"),
    })?;
    Ok(RemovalMark {
        incarnation: IncarnationId::new(unescape("removal", incarnation)?),
        cluster_id: ClusterId::new(unescape("removal", cluster_id)?),
    })
}

fn number(field: &'static str, text: &str) -> Result<u64, OwnerRecordError> {
    text.parse().map_err(|_| OwnerRecordError { field, reason: format!("`{text}` is not a whole number") })
}

fn colour(field: &'static str, text: &str) -> Result<Colour, OwnerRecordError> {
    text.parse().map_err(|reason| OwnerRecordError { field, reason })
}

/// Percent-encodes what would end a field or is not printable ASCII (RFC 3986, 2.1).
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b";,@%=>\"\\".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn unescape(field: &'static str, text: &str) -> Result<String, OwnerRecordError> {
    let wrong = || OwnerRecordError { field, reason: format!("`{text}` is not percent-encoded UTF-8") };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(wrong);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn record()(
            name in "\\PC{1,40}", nonce in "\\PC{0,20}", cluster in "\\PC{0,30}",
            bootstrap in proptest::collection::vec("[a-z0-9.:-]{1,60}", 0..9),
            numbers in any::<[u64; 4]>(), green in any::<bool>(), intent in any::<bool>(), mark in any::<bool>(),
        ) -> OwnerRecord {
            let colour = if green { Colour::Green } else { Colour::Blue };
            OwnerRecord {
                deployment: DeploymentName::new(name.clone()),
                term: Term(numbers[0]),
                nonce: Nonce::new(nonce),
                target: Target {
                    generation: Generation(numbers[1]), colour, cluster_id: ClusterId::new(cluster.clone()), bootstrap,
                },
                intent: intent.then_some(Intent {
                    closing: Generation(numbers[2]), opening: Generation(numbers[3]), colour: colour.other(),
                }),
                removal: mark.then(|| RemovalMark {
                    incarnation: IncarnationId::new(name), cluster_id: ClusterId::new(cluster),
                }),
            }
        }
    }

    proptest! {
        #[test]
        fn a_record_survives_txt(record in record()) {
            let txt = record.to_txt();
            prop_assert!(txt.iter().all(|string| string.len() <= TXT_STRING_BYTES));
            prop_assert_eq!(OwnerRecord::from_txt(&txt).unwrap(), record);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}", fields in "(v|term|active|removal|intent)=[a-z0-9%@>]{0,8}") {
            let _ = OwnerRecord::from_txt(&[text, format!("v=kutover1;{fields}")]);
        }
    }

    #[test]
    fn an_error_names_its_field() {
        let error = OwnerRecord::from_txt(&["v=kutover1;deployment=orders;term=x"]).unwrap_err();
        assert_eq!(error.to_string(), "owner record: field `term`: `x` is not a whole number");
        let error = OwnerRecord::from_txt(&["hello"]).unwrap_err();
        assert_eq!(error.to_string(), "owner record: field `v`: is missing");
    }
}
