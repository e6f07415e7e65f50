//! The key that updates are signed with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::TSigner;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use kutover_core::words::DnsName;

use crate::name::to_wire;

/// How far the clocks of server and controller may be apart, in seconds: RFC 8945, 10, recommends it.
pub(super) const FUDGE_S: u16 = 300;

/// A TSIG key (RFC 8945) for HMAC-SHA256. Its secret is never shown.
#[derive(Clone)]
pub struct TsigKey {
    name: DnsName,
    pub(super) signer: TSigner,
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsigKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TsigKey {
    /// A key by its name and its secret in base64, as `tsig-keygen`, `keymgr` and `pdnsutil` write it.
    ///
    /// # Errors
    /// The name is no DNS name, or the secret is not base64: which field it is, never the secret.
    pub fn new(name: &DnsName, secret: &str) -> Result<Self, String> {
        let wire = to_wire(name).map_err(|reason| format!("field `dns.key_name`: {reason}"))?;
        let wrong =
            "field `dns.secret`: is not the base64 text of a TSIG secret; copy it as the name server has it";
        // What base64 itself says may quote a part of the secret.
        let secret = STANDARD.decode(secret.trim()).map_err(|_| wrong.to_owned())?;
        if secret.is_empty() {
            return Err(wrong.into());
        }
        let signer = TSigner::new(secret, TsigAlgorithm::HmacSha256, wire, FUDGE_S)
            .map_err(|_| "HMAC-SHA256 is not built in".to_owned())?;
        Ok(Self { name: name.normal(), signer })
    }

    /// Its name, which the name server has to know it by.
    pub fn name(&self) -> &DnsName {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let name = DnsName::new("kutover.key");
        let secret = "c2VjcmV0LXRoYXQtbm9ib2R5LXNlZXM=";
        let key = TsigKey::new(&name, &format!("{secret}\n")).unwrap();
        let shown = format!("{key:?}");
        // Neither as it stands in the file nor as it is used.
        assert!(!["c2Vj", "nobody", "115, 101, 99"].iter().any(|form| shown.contains(form)), "{shown}");
        for wrong in ["c2VjcmV0!", "", "%%%"] {
            let error = TsigKey::new(&name, wrong).unwrap_err();
            assert!(error.contains("`dns.secret`") && !error.contains("c2Vj"), "{error}");
        }
        let error = TsigKey::new(&DnsName::new("a..b"), secret).unwrap_err();
        assert!(error.contains("`dns.key_name`"), "{error}");
    }
}
