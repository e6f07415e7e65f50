//! DNS names between kutover's text form and hickory's.

use hickory_proto::rr::Name;
use kutover_core::words::DnsName;

/// The one spelling of a name that maps are keyed by: lower case (RFC 4343), without the trailing dot.
pub(crate) fn normal(name: &DnsName) -> DnsName {
    DnsName::new(name.as_str().trim_end_matches('.').to_ascii_lowercase())
}

/// hickory's name as kutover spells it.
pub(crate) fn from_wire(name: &Name) -> DnsName {
    normal(&DnsName::new(name.to_ascii()))
}

/// A fully qualified name for questions and records, so that no search list is ever appended to it.
///
/// # Errors
/// Text that says what is wrong with the name and how to write it.
pub(crate) fn to_wire(name: &DnsName) -> Result<Name, String> {
    let text = normal(name);
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

/// Whether a name is a zone's apex or below it. Both in their normal spelling.
pub(crate) fn is_in_zone(name: &DnsName, zone: &DnsName) -> bool {
    name == zone || is_below(name, zone)
}

/// Whether a name is truly below another. Both in their normal spelling.
pub(crate) fn is_below(name: &DnsName, above: &DnsName) -> bool {
    name.as_str().strip_suffix(above.as_str()).is_some_and(|rest| rest.ends_with('.'))
}
