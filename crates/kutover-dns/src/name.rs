//! DNS names between kutover's text form and hickory's.

use hickory_proto::rr::Name;
use kutover_core::words::DnsName;

/// hickory's name as kutover spells it.
pub(crate) fn from_wire(name: &Name) -> DnsName {
    DnsName::new(name.to_ascii()).normal()
}

/// A fully qualified name for questions and records, so that no search list is ever appended to it.
///
/// # Errors
/// Text that says what is wrong with the name and how to write it.
pub(crate) fn to_wire(name: &DnsName) -> Result<Name, String> {
    let text = name.normal();
    if text.as_str().is_empty() {
        return Err("the name is empty; write a full name such as kafka.orders.test".into());
    }
    if !text.as_str().is_ascii() {
        return Err(format!("`{name}` is not ASCII; write its xn-- form (RFC 5891)"));
    }
    Name::from_ascii(format!("{text}.")).map_err(|error| {
        format!("`{name}` is no DNS name ({error}); labels have 1 to 63 bytes, a name at most 255 (RFC 1035, 2.3.4)")
    })
}
