//! `kutover check FILE`: what is wrong with a configuration, and with `--online` whether all that it names can be reached. It
//! changes nothing and takes no lock, so that it can be asked at any time, also while a controller runs.

mod clusters;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use kutover_controller::config::{Config, ConfigError, DnsKind, JournalPlace, json_schema};
use kutover_core::ports::{DnsProvider, Published, RecordData};
use kutover_core::words::{Colour, DnsName};
use kutover_dns::LocalServer;
use serde::Serialize;

use crate::aws;
use crate::cli::CheckOptions;
use crate::command::print_json;
use crate::failure::Failure;
use crate::journal;
use crate::name_server::{Records, zone_path};
use crate::rfc2136;
use crate::wire::{Hosts, check_clients, provisioner};
use clusters::There;

/// The exit status if the configuration is at fault, as for every other command.
const FAULTY: u8 = 2;
/// The exit status if the configuration is sound and something that it names is not, as of `kutover plan`.
const UNREACHABLE: u8 = 4;

/// What `check --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    file: String,
    ok: bool,
    /// What is wrong with the file.
    faults: Vec<Fault>,
    /// What was reached, with `--online`.
    parts: Vec<Part>,
}

/// One thing that is wrong with the file.
#[derive(Debug, Serialize)]
struct Fault {
    field: Option<String>,
    line: Option<usize>,
    text: String,
}

/// One thing that the file names.
#[derive(Debug, Serialize)]
struct Part {
    part: String,
    ok: bool,
    says: String,
}

impl Part {
    fn new(part: impl Into<String>, found: Result<String, String>) -> Self {
        let (ok, says) = match found {
            Ok(says) => (true, says),
            Err(says) => (false, says),
        };
        Self { part: part.into(), ok, says }
    }
}

/// Checks a file and prints what was found.
///
/// # Errors
/// Standard output cannot be written. What is wrong with the file is no error: it is what was asked for.
pub(crate) async fn run(options: &CheckOptions) -> Result<u8, Failure> {
    let Some(file) = &options.file else {
        let schema = serde_json::to_string_pretty(&json_schema()).context("writing the schema")?;
        writeln!(std::io::stdout(), "{schema}").context("writing the schema to stdout")?;
        return Ok(0);
    };
    let (faults, parts) = match offline(file).await {
        Err(faults) => (faults, Vec::new()),
        Ok(config) if options.online => (Vec::new(), online(&config).await),
        Ok(_) => (Vec::new(), Vec::new()),
    };
    let mut err = std::io::stderr();
    for fault in &faults {
        let _ = writeln!(err, "{}", fault.text);
    }
    for part in &parts {
        let _ = writeln!(err, "{}  {}: {}", if part.ok { "ok    " } else { "FAILED" }, part.part, part.says);
    }
    let status = match (faults.is_empty(), parts.iter().all(|part| part.ok)) {
        (false, _) => FAULTY,
        (true, false) => UNREACHABLE,
        (true, true) => 0,
    };
    if status == 0 {
        let _ = writeln!(err, "{}: nothing is wrong with it", file.display());
    }
    if options.json {
        let (schema, file, ok) = ("kutover.check/1", file.display().to_string(), status == 0);
        print_json(&Report { schema, file, ok, faults, parts })?;
    }
    Ok(status)
}

/// What `up` would refuse before it connects to anything.
async fn offline(file: &Path) -> Result<Config, Vec<Fault>> {
    let of_file = |error: ConfigError| Fault {
        field: error.field().map(str::to_owned),
        line: error.line(),
        text: error.to_string(),
    };
    let config =
        Config::load_whole(file).map_err(|faults| faults.into_iter().map(of_file).collect::<Vec<_>>())?;
    let mut said = Vec::new();
    for colour in Colour::BOTH {
        said.extend(
            provisioner(&config, &Hosts::default(), colour).await.err().map(|failure| failure.to_string()),
        );
        said.extend(check_clients(&config, colour).err().map(|error| format!("{error:#}")));
    }
    let dns = match &config.dns.kind {
        DnsKind::Local { .. } => None,
        DnsKind::Rfc2136(at) => rfc2136::provider(&config.dns.zone, at).err(),
        DnsKind::Route53(at) => aws::dns(&config, at).await.err(),
    };
    // A file is opened by a controller alone, which locks it; an object is only named here.
    let journal = match &config.journal {
        JournalPlace::File(_) => None,
        JournalPlace::S3 { .. } => journal::open(&config).await.err(),
    };
    said.extend([dns, journal].into_iter().flatten().map(|failure| failure.to_string()));
    // What all that is on AWS lacks is said once.
    let mut told = BTreeSet::new();
    said.retain(|text| told.insert(text.clone()));
    if said.is_empty() {
        return Ok(config);
    }
    // These name their field in the text: "field `dns.secret`: ..".
    let field = |text: &str| text.strip_prefix("field `")?.split_once('`').map(|(field, _)| field.to_owned());
    let fault =
        |text: String| Fault { field: field(&text), line: None, text: format!("{}: {text}", file.display()) };
    Err(said.into_iter().map(fault).collect())
}

/// What the first endpoint says of which cluster is active.
enum Active {
    /// Nobody could tell.
    Unknown,
    /// Its owner record names the colour; or nothing is there yet, and the plan does.
    Colour(Colour),
    /// There is no owner record yet: whichever colour it leads to.
    Behind(RecordData),
}

/// Reaches each part.
async fn online(config: &Config) -> Vec<Part> {
    let mut parts = vec![Part::new("journal", journal(config).await)];
    let active = records(config, &mut parts).await;
    let mut found = Vec::new();
    for colour in Colour::BOTH {
        let is_active = matches!(&active, Active::Colour(active) if *active == colour);
        found.push(clusters::reach(config, colour, is_active, &mut parts).await);
    }
    if let Active::Behind(data) = active
        && !found.iter().any(|there| match there {
            There::Unknown => true,
            There::Nothing => false,
            There::At(at) => *at == data,
        })
    {
        let says = format!(
            "it leads to {}, which is neither blue nor green; correct `clusters` or the record",
            shown(&data)
        );
        parts.push(Part::new(format!("active cluster behind {}", config.term_endpoint().key()), Err(says)));
    }
    parts
}

/// What keeps the records, and each endpoint's.
async fn records(config: &Config, parts: &mut Vec<Part>) -> Active {
    let (records, serves) = match &config.dns.kind {
        DnsKind::Local { .. } => {
            let kept = zone_path(config).map_err(|error| error.to_string());
            let kept = kept.and_then(|path| {
                LocalServer::kept(&config.dns.zone, &path).map_err(|error| error.to_string())
            });
            let says = |count: usize| format!("{count} names are kept beside the journal; `up` serves them");
            parts.push(Part::new("dns", kept.as_ref().map(|kept| says(kept.len())).map_err(Clone::clone)));
            let Ok(kept) = kept else { return Active::Unknown };
            // `up` makes the records of those that it does not know yet.
            for endpoint in &config.endpoints {
                let Some(found) = kept.get(&endpoint.name) else { continue };
                let says = owned(config, found).and_then(|()| fit(found, true)).map(|()| describe(found));
                parts.push(Part::new(format!("dns {}", endpoint.name), says));
            }
            return active(config, kept.get(&config.term_endpoint().name));
        }
        DnsKind::Rfc2136(at) => match rfc2136::provider(&config.dns.zone, at) {
            Ok(dns) => {
                let says = || format!("{} takes updates with the key", config.dns.zone);
                let asked = dns.check_access().await.map(|()| says());
                parts.push(Part::new("dns", asked.map_err(|error| error.to_string())));
                (Records::all_in(Arc::new(dns)), true)
            }
            Err(failure) => {
                parts.push(Part::new("dns", Err(failure.to_string())));
                return Active::Unknown;
            }
        },
        // Route 53 says of changes alone whether its servers have them, and has no question that is none.
        DnsKind::Route53(at) => match aws::dns(config, at).await {
            Ok(records) => (records, false),
            Err(failure) => {
                parts.push(Part::new("dns", Err(failure.to_string())));
                return Active::Unknown;
            }
        },
    };
    let mut first = Active::Unknown;
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let key = endpoint.key();
        let found = published(config, records.of(&key), serves, &endpoint.name).await;
        if let (0, Ok(found)) = (index, &found) {
            first = active(config, Some(found));
        }
        let says = found.and_then(|found| {
            fit(&found, index == 0)?;
            fault(config, &found).map_or_else(|| Ok(describe(&found)), Err)
        });
        let unasked = if serves { "" } else { "; leave to change it is not asked" };
        parts.push(Part::new(format!("dns {key}"), says.map(|says| says + unasked)));
    }
    first
}

/// Which cluster the first endpoint's records name.
fn active(config: &Config, found: Option<&Published>) -> Active {
    match found {
        Some(Published { owner: Some(owner), .. }) => Active::Colour(owner.target.colour),
        Some(Published { endpoint: Some(set), .. }) => Active::Behind(set.data.clone()),
        Some(_) | None => Active::Colour(config.plan.active),
    }
}

/// Whether a journal can be read, and a file be written, without writing to it.
async fn journal(config: &Config) -> Result<String, String> {
    let entries = || async { journal::peek(config).await.map_err(|failure| failure.to_string()) };
    let Some(path) = config.journal.file() else {
        return Ok(format!("{} entries; leave to write is not asked", entries().await?.len()));
    };
    if !path.exists() {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        // Made and removed again at once.
        let tried = tempfile::tempfile_in(directory);
        tried.map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        return Ok(format!("{} is not there yet and can be made", path.display()));
    }
    let entries = entries().await?;
    let opened = OpenOptions::new().append(true).open(path);
    opened.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(format!("{} entries in {}", entries.len(), path.display()))
}

/// What stands at an endpoint; where it can be asked, at every server that has to show it.
async fn published(
    config: &Config,
    dns: &dyn DnsProvider,
    serves: bool,
    endpoint: &DnsName,
) -> Result<Published, String> {
    let found = dns.read(endpoint).await.map_err(|error| error.to_string())?;
    owned(config, &found)?;
    if serves && !dns.is_visible(endpoint, &found).await.map_err(|error| error.to_string())? {
        return Err("not every authoritative server shows what the primary has; see their logs".into());
    }
    Ok(found)
}

/// Whether `up` could begin with it: it makes the first endpoint's records, and no other's.
fn fit(found: &Published, is_first: bool) -> Result<(), String> {
    match (&found.endpoint, &found.owner) {
        (None, Some(_)) => Err("the record set is gone, and its owner record is there; put it back".into()),
        (None, None) if !is_first => {
            Err("there is no record set; make one that leads to the active cluster".into())
        }
        _ => Ok(()),
    }
}

/// What the provider does not take up as it stands.
fn fault(config: &Config, found: &Published) -> Option<String> {
    match &config.dns.kind {
        DnsKind::Route53(at) => aws::record_fault(config, at, found.endpoint.as_ref()?),
        DnsKind::Local { .. } | DnsKind::Rfc2136(_) => None,
    }
}

/// Whether an endpoint is another deployment's.
fn owned(config: &Config, found: &Published) -> Result<(), String> {
    match found.owner.as_ref().filter(|owner| owner.deployment != config.deployment) {
        Some(owner) => Err(format!("it belongs to deployment {}; use another name", owner.deployment)),
        None => Ok(()),
    }
}

fn describe(found: &Published) -> String {
    let Some(set) = &found.endpoint else { return "nothing is there yet".into() };
    let owner = match &found.owner {
        Some(owner) => format!("generation {}, term {}", owner.target.generation, owner.term),
        None => "no owner record yet".to_owned(),
    };
    format!("leads to {}, TTL {} s, {owner}", shown(&set.data), set.ttl_s)
}

fn shown(data: &RecordData) -> String {
    match data {
        RecordData::Cname(target) => target.to_string(),
        RecordData::Addresses(addresses) => {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use kutover_core::owner::{OwnerRecord, Target};
    use kutover_core::ports::RecordSet;
    use kutover_core::words::{Generation, Term};

    use super::*;

    fn set() -> Option<RecordSet> {
        Some(RecordSet { ttl_s: 30, data: RecordData::Cname("lb.test".into()) })
    }

    fn owner() -> Option<OwnerRecord> {
        let (generation, colour) = (Generation(2), Colour::Green);
        let bootstrap = vec!["green:9092".into()];
        let target = Target { generation, colour, cluster_id: "c".into(), bootstrap };
        let (deployment, nonce) = ("orders".into(), "n".into());
        Some(OwnerRecord { deployment, term: Term(3), nonce, target, intent: None, removal: None })
    }

    /// `up` makes the first endpoint's records, and asks for those of the others.
    #[test]
    fn what_up_would_fail_over_is_no_ok() {
        let nothing = Published::default();
        let gone = Published { endpoint: None, owner: owner() };
        let plain = Published { endpoint: set(), owner: None };
        assert!(fit(&nothing, true).is_ok() && fit(&plain, true).is_ok() && fit(&plain, false).is_ok());
        assert!(fit(&nothing, false).unwrap_err().contains("no record set; make one"));
        for first in [true, false] {
            assert!(fit(&gone, first).unwrap_err().contains("put it back"));
        }
    }

    const EMPTY: &str = r#"
deployment = "orders"
journal = "orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]

[dns]
kind = "local"
zone = "orders.test"
listen = "127.0.0.1:0"
ttl_s = 1

[clusters.blue.provisioner]
kind = "exec"
command = ["sh", "-c", "cat >/dev/null; printf '{\"incarnation\": null}'"]

[clusters.green.provisioner]
kind = "exec"
command = ["sh", "-c", "cat >/dev/null; printf '{\"incarnation\": null}'"]
"#;

    /// A standby colour may be empty, the active one not.
    #[tokio::test]
    async fn an_active_colour_without_a_cluster_is_no_ok() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.toml");
        std::fs::write(&path, EMPTY).unwrap();
        let config = Config::load(&path).unwrap();
        let parts = online(&config).await;
        let of = |name: &str| parts.iter().find(|part| part.part == name).unwrap();
        assert!(!of("cluster blue").ok && of("cluster blue").says.contains("active"), "{parts:?}");
        assert!(of("cluster green").ok, "{parts:?}");
        assert!(matches!(
            active(&config, Some(&Published { endpoint: set(), owner: owner() })),
            Active::Colour(Colour::Green)
        ));
        assert!(matches!(
            active(&config, Some(&Published { endpoint: set(), owner: None })),
            Active::Behind(_)
        ));
    }
}
