//! ACLs on the wire.
//!
//! krafka 0.28.1 numbers pattern types without MATCH, so that it can neither tell nor write a prefixed rule (its
//! `Prefixed` is LITERAL to a broker), and knows neither resource type USER nor the newer operations. A rule that is
//! copied must come out as it was; so these two requests are written here, in version 1 of Kafka's protocol, which is
//! the oldest that Kafka 4 takes and has all that is needed (DescribeAclsRequest.json, CreateAclsRequest.json).

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use krafka::error::ErrorCode;
use kutover_core::ports::AclRule;

/// The version of both requests.
pub(super) const VERSION: i16 = 1;
/// Every value of a filter (`ANY`).
const ANY: u8 = 1;

/// Kafka's numbers and words (ResourceType, PatternType, AclOperation, AclPermissionType in its sources).
const RESOURCES: &[(u8, &str)] = &[
    (2, "topic"),
    (3, "group"),
    (4, "cluster"),
    (5, "transactional-id"),
    (6, "delegation-token"),
    (7, "user"),
];
const PATTERNS: &[(u8, &str)] = &[(3, "literal"), (4, "prefixed")];
const OPERATIONS: &[(u8, &str)] = &[
    (2, "all"),
    (3, "read"),
    (4, "write"),
    (5, "create"),
    (6, "delete"),
    (7, "alter"),
    (8, "describe"),
    (9, "cluster-action"),
    (10, "describe-configs"),
    (11, "alter-configs"),
    (12, "idempotent-write"),
    (13, "create-tokens"),
    (14, "describe-tokens"),
    (15, "two-phase-commit"),
];
const PERMISSIONS: &[(u8, &str)] = &[(2, "deny"), (3, "allow")];

/// An answer that cannot be read.
pub(super) type Malformed = String;

fn word(of: &[(u8, &'static str)], number: u8) -> Result<String, Malformed> {
    let found = of.iter().find(|(known, _)| *known == number).map(|(_, word)| (*word).to_owned());
    found.ok_or_else(|| format!("an ACL has number {number} where one of {of:?} was expected"))
}

fn number(of: &[(u8, &'static str)], word: &str) -> Result<u8, Malformed> {
    let found = of.iter().find(|(_, known)| *known == word).map(|(number, _)| *number);
    found.ok_or_else(|| format!("`{word}` is no word of an ACL; one of {of:?} is"))
}

fn put_text(text: &str, into: &mut BytesMut) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    into.put_i16(length);
    into.put_slice(&text.as_bytes()[..usize::try_from(length).unwrap_or(0)]);
}

/// The body that asks for every rule.
pub(super) fn describe_all(into: &mut BytesMut) {
    into.put_u8(ANY); // Resource type,
    into.put_i16(-1); // its name,
    into.put_u8(ANY); // and pattern;
    into.put_i16(-1); // principal,
    into.put_i16(-1); // host,
    into.put_u8(ANY); // operation,
    into.put_u8(ANY); // permission.
}

/// The body that creates rules.
pub(super) fn create(rules: &[&AclRule], into: &mut BytesMut) -> Result<(), Malformed> {
    into.put_i32(i32::try_from(rules.len()).map_err(|_| "too many ACLs at once".to_owned())?);
    for rule in rules {
        into.put_u8(number(RESOURCES, &rule.resource)?);
        put_text(&rule.name, into);
        into.put_u8(number(PATTERNS, &rule.pattern)?);
        put_text(&rule.principal, into);
        put_text(&rule.host, into);
        into.put_u8(number(OPERATIONS, &rule.operation)?);
        into.put_u8(number(PERMISSIONS, &rule.permission)?);
    }
    Ok(())
}

/// An answer, read from its beginning.
struct Answer(Bytes);

impl Answer {
    fn need(&self, bytes: usize) -> Result<(), Malformed> {
        if self.0.remaining() < bytes { Err("the answer ends too early".to_owned()) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.need(1).map(|()| self.0.get_u8())
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        self.need(2).map(|()| self.0.get_i16())
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.need(4).map(|()| self.0.get_i32())
    }

    fn text(&mut self) -> Result<Option<String>, Malformed> {
        let Ok(length) = usize::try_from(self.i16()?) else { return Ok(None) };
        self.need(length)?;
        let text = self.0.split_to(length);
        String::from_utf8(text.to_vec()).map(Some).map_err(|_| "a text of the answer is no UTF-8".to_owned())
    }

    fn name(&mut self) -> Result<String, Malformed> {
        self.text()?.ok_or_else(|| "a name is missing in the answer".to_owned())
    }

    fn failure(&mut self) -> Result<Option<Refusal>, Malformed> {
        let code = ErrorCode::from_i16(self.i16()?);
        let message = self.text()?;
        Ok((!code.is_ok()).then(|| (code, message.unwrap_or_else(|| format!("{code:?}")))))
    }
}

/// What a broker said instead.
pub(super) type Refusal = (ErrorCode, String);

/// Reads the rules, or what the broker said instead.
pub(super) fn described(body: Bytes) -> Result<Result<BTreeSet<AclRule>, Refusal>, Malformed> {
    let mut answer = Answer(body);
    answer.i32()?; // How long it throttles.
    if let Some(refusal) = answer.failure()? {
        return Ok(Err(refusal));
    }
    let mut rules = BTreeSet::new();
    for _ in 0..answer.i32()? {
        let resource = word(RESOURCES, answer.u8()?)?;
        let name = answer.name()?;
        let pattern = word(PATTERNS, answer.u8()?)?;
        for _ in 0..answer.i32()? {
            rules.insert(AclRule {
                resource: resource.clone(),
                name: name.clone(),
                pattern: pattern.clone(),
                principal: answer.name()?,
                host: answer.name()?,
                operation: word(OPERATIONS, answer.u8()?)?,
                permission: word(PERMISSIONS, answer.u8()?)?,
            });
        }
    }
    Ok(Ok(rules))
}

/// Reads what became of each rule, in the order in which they were sent.
pub(super) fn created(body: Bytes) -> Result<Vec<Option<Refusal>>, Malformed> {
    let mut answer = Answer(body);
    answer.i32()?; // How long it throttles.
    (0..answer.i32()?).map(|_| answer.failure()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, operation: &str) -> AclRule {
        AclRule {
            resource: "topic".into(),
            name: "orders".into(),
            pattern: pattern.into(),
            principal: "User:shop".into(),
            host: "*".into(),
            operation: operation.into(),
            permission: "allow".into(),
        }
    }

    #[test]
    fn a_rule_is_told_as_it_was_written() {
        let wanted = rule("prefixed", "two-phase-commit");
        let mut request = BytesMut::new();
        create(&[&wanted], &mut request).unwrap();
        assert_eq!(&request[..4], [0, 0, 0, 1]);
        // A described resource begins as a created rule does: type, name, pattern; then its rules.
        let mut answer = BytesMut::new();
        answer.put_slice(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1]);
        answer.put_slice(&request[4..14]);
        answer.put_i32(1);
        answer.put_slice(&request[14..]);
        assert_eq!(described(answer.freeze()).unwrap().unwrap(), [wanted].into());
    }

    #[test]
    fn what_is_not_known_is_an_error_and_never_left_out() {
        let mut request = BytesMut::new();
        assert!(create(&[&rule("match", "read")], &mut request).unwrap_err().contains("`match`"));
        let unknown = [0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1, 9, 0, 1, b'x', 3, 0, 0, 0, 0];
        assert!(described(Bytes::copy_from_slice(&unknown)).unwrap_err().contains("number 9"));
        assert!(described(Bytes::copy_from_slice(&unknown[..13])).unwrap_err().contains("number 9"));
        assert!(described(Bytes::copy_from_slice(&unknown[..10])).unwrap_err().contains("too early"));
        let refused = [0, 0, 0, 0, 0, 54, 0, 2, b'n', b'o'];
        let (code, message) = described(Bytes::copy_from_slice(&refused)).unwrap().unwrap_err();
        assert_eq!((code, message.as_str()), (ErrorCode::SecurityDisabled, "no"));
    }
}
