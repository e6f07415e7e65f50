//! The resolver watch of kutover's producers, name servers that take dynamic updates, and a small authoritative server
//! for one machine.
//!
//! [`ResolverWatch`] is the producer's side: it asks for an endpoint and its owner record when the last answer's TTL
//! has run out, and keeps failed answers, empty answers and real ones apart. [`Rfc2136`] is the authoritative side on
//! BIND, Knot or PowerDNS. [`LocalServer`] is the authoritative
//! side for demos, rehearsals and tests: a real server on a loopback address with a real compare-and-set, whose
//! misbehaviour can be chosen ([`Faults`]).

mod local;
mod lookup;
mod name;
mod published;
mod rfc2136;
mod watch;

pub use local::{Fault, Faults, LocalServer, Lost, QueryCounts, Scope};
pub use lookup::{Addresses, LookupError, Resolvers, lookup_addresses};
pub use rfc2136::{Rfc2136, Rfc2136Options, TsigKey};
pub use watch::{ResolverWatch, WatchOptions};
