//! A configuration's `[dns] kind = "rfc2136"`.

use std::time::Duration;

use anyhow::anyhow;
use kutover_controller::config::Rfc2136Config;
use kutover_core::words::DnsName;
use kutover_dns::{Rfc2136, Rfc2136Options, TsigKey};

use crate::failure::Failure;

/// How long the name server may take to connect, and for each reply.
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// The name server that takes updates. Nothing is connected yet.
///
/// # Errors
/// A secret that cannot be had or is none, by its field.
pub(crate) fn provider(zone: &DnsName, at: &Rfc2136Config) -> Result<Rfc2136, Failure> {
    let secret =
        at.secret.read().map_err(|reason| Failure::Input(anyhow!("field `dns.secret`: {reason}")))?;
    let key =
        TsigKey::new(&at.key_name, secret.expose()).map_err(|reason| Failure::Input(anyhow!(reason)))?;
    Ok(Rfc2136::new(Rfc2136Options {
        server: at.server,
        zone: zone.clone(),
        key,
        visible_at: at.visible_at.clone(),
        limit: REPLY_LIMIT,
    }))
}
