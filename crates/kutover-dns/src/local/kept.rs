//! A zone in a file: what was published outlives the server.
//!
//! ```text
//! kutover-zone 1 9a0b11e4
//! {"zone":"orders.test","serial":3,"published":{"kafka.orders.test":{"endpoint":{..},"owner":["v=kutover1;.."]}}}
//! ```
//!
//! The first line ends with the CRC-32 of all that follows it. The file is never changed in place: a new one is written
//! beside it, made durable and renamed over it, so that there is always a whole one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{Published, RecordSet};
use kutover_core::words::DnsName;
use serde::{Deserialize, Serialize};

use super::zone::Zone;

const MAGIC: &str = "kutover-zone 1 ";

/// Where a zone is kept.
#[derive(Debug)]
pub(super) struct ZoneFile {
    path: PathBuf,
    /// A rename could not be made durable: which of two zones the disk holds is not known any more.
    lost_track: bool,
}

/// The second line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    zone: DnsName,
    serial: u32,
    published: BTreeMap<DnsName, Entry>,
}

/// What stands at one endpoint. The owner record is kept as its own text, whose form has a version of its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    endpoint: Option<RecordSet>,
    owner: Option<Vec<String>>,
}

impl ZoneFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), lost_track: false }
    }

    /// The zone as it was kept; an empty one where there is no file yet.
    ///
    /// # Errors
    /// `Invalid` for a file that is damaged or holds another zone; otherwise why it cannot be read.
    pub(super) fn load(&self, apex: &DnsName, server: IpAddr) -> ProviderResult<Zone> {
        let what = format!("read the zone `{apex}` from {}", self.path.display());
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Zone::new(apex.clone(), server));
            }
            Err(error) => return Err(io_error(&what, &error)),
        };
        let invalid = |reason: String| ProviderError::new(ErrorKind::Invalid, &what, reason);
        let damaged = |reason: String| {
            invalid(format!(
                "the file is damaged ({reason}); restore it from a copy, and do not delete it: it holds who owns the deployment"
            ))
        };
        let body = parse(&bytes).map_err(damaged)?;
        if body.zone != *apex {
            return Err(invalid(format!(
                "it holds the zone `{}`; serve that one, or keep this one in another file",
                body.zone
            )));
        }
        let mut published = BTreeMap::new();
        for (name, entry) in body.published {
            let owner = entry.owner.map(|text| OwnerRecord::from_txt(&text)).transpose();
            let owner = owner.map_err(|error| damaged(format!("{name}: {error}")))?;
            published.insert(name, Published { endpoint: entry.endpoint, owner });
        }
        Ok(Zone::restored(apex.clone(), server, body.serial, published))
    }

    /// Puts a zone in the place of the one that is kept, and gives `Ok` once it is durable.
    ///
    /// # Errors
    /// `NotDone` if the old one is still kept; `Unknown` if that is not known, and from then on
    /// [`check`](Self::check) fails.
    pub(super) fn store(&mut self, zone: &Zone) -> ProviderResult<()> {
        let what = format!("keep the zone `{}` in {}", zone.apex(), self.path.display());
        let bytes = text(zone).map_err(|error| ProviderError::new(ErrorKind::Invalid, &what, error))?;
        self.replace(&bytes).map_err(|error| {
            let outcome = if self.lost_track { Outcome::Unknown } else { Outcome::NotDone };
            io_error(&what, &error).with_outcome(outcome)
        })
    }

    /// Whether what is kept is known to be what is served.
    ///
    /// # Errors
    /// `Unavailable`: it is not, since a change could not be made durable.
    pub(super) fn check(&self, what: &str) -> ProviderResult<()> {
        if !self.lost_track {
            return Ok(());
        }
        let reason = format!(
            "a change of {} could not be made durable; free or repair the disk and start again",
            self.path.display()
        );
        Err(ProviderError::new(ErrorKind::Unavailable, what, reason))
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // From the rename on both may be found after a crash, until the directory is durable too.
        self.lost_track = true;
        if let Err(error) = std::fs::rename(&beside, &self.path) {
            self.lost_track = false;
            return Err(error);
        }
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        self.lost_track = false;
        Ok(())
    }
}

fn text(zone: &Zone) -> Result<Vec<u8>, serde_json::Error> {
    let entry = |at: &Published| Entry {
        endpoint: at.endpoint.clone(),
        owner: at.owner.as_ref().map(OwnerRecord::to_txt),
    };
    let published = zone.published().iter().map(|(name, at)| (name.clone(), entry(at))).collect();
    let body = Body { zone: zone.apex().clone(), serial: zone.serial(), published };
    let mut line = serde_json::to_vec(&body)?;
    line.push(b'\n');
    let mut bytes = format!("{MAGIC}{:08x}\n", crc32fast::hash(&line)).into_bytes();
    bytes.append(&mut line);
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<Body, String> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("it has no first line")?;
    let (first, rest) = (&bytes[..end], &bytes[end + 1..]);
    let sum = std::str::from_utf8(first)
        .ok()
        .and_then(|first| first.strip_prefix(MAGIC))
        .ok_or_else(|| format!("its first line does not begin with `{}`", MAGIC.trim_end()))?;
    if sum != format!("{:08x}", crc32fast::hash(rest)) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(rest).map_err(|error| error.to_string())
}

fn io_error(what: &str, error: &io::Error) -> ProviderError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ProviderError::new(ErrorKind::NotFound, what, format!("{error}; make the directory"))
        }
        io::ErrorKind::PermissionDenied => ProviderError::new(
            ErrorKind::NotAuthorised,
            what,
            format!("{error}; give this user the right to write it and its directory"),
        ),
        io::ErrorKind::IsADirectory => {
            ProviderError::new(ErrorKind::Invalid, what, format!("{error}; move the directory away"))
        }
        _ => ProviderError::new(ErrorKind::Unavailable, what, format!("{error}; free or repair the disk")),
    }
}
