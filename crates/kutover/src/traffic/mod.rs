//! The demo's producers that are not kutover's.

mod dns_only;
mod recipe;
mod stock;

pub(crate) use dns_only::DnsOnlySender;
pub(crate) use recipe::{RecipePlan, RecipeSender};
pub(crate) use stock::Endpoint;
