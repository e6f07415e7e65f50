//! `kutover check FILE`: what is wrong with a configuration, and with `--online` whether all that it names can be reached. It
//! changes nothing and takes no lock, so that it can be asked at any time, also while a controller runs.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use kutover_controller::config::{Config, ConfigError, DnsKind, JournalPlace, json_schema};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ClusterAdmin as _, DnsProvider as _, Published, RecordData};
use kutover_core::words::{Colour, DnsName};
use kutover_dns::{LocalServer, Rfc2136};
use serde::Serialize;

use crate::aws;
use crate::cli::CheckOptions;
use crate::command::print_json;
use crate::failure::Failure;
use crate::journal;
use crate::rfc2136;
use crate::wire::{Connector, Hosts, check_clients, provisioner, zone_path};

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

/// Reaches each part.
async fn online(config: &Config) -> Vec<Part> {
    let mut parts = vec![Part::new("journal", journal(config).await)];
    match &config.dns.kind {
        DnsKind::Local { .. } => {
            let says = |count: usize| format!("{count} names are kept beside the journal; `up` serves them");
            let kept = zone_path(config).map_err(|error| error.to_string());
            let kept = kept.and_then(|path| {
                LocalServer::kept(&config.dns.zone, &path).map_err(|error| error.to_string())
            });
            parts.push(Part::new("dns", kept.map(|kept| says(kept.len()))));
        }
        DnsKind::Rfc2136(at) => match rfc2136::provider(&config.dns.zone, at) {
            Ok(dns) => zone(config, &dns, &mut parts).await,
            Err(failure) => parts.push(Part::new("dns", Err(failure.to_string()))),
        },
        DnsKind::Route53(at) => match aws::dns(config, at).await {
            Ok(dns) => {
                for endpoint in &config.endpoints {
                    let found = dns.read(&endpoint.name).await.map_err(|error| error.to_string());
                    let found = found.and_then(|found| owned(config, &found).map(|()| describe(&found)));
                    parts.push(Part::new(format!("dns {}", endpoint.name), found));
                }
            }
            Err(failure) => parts.push(Part::new("dns", Err(failure.to_string()))),
        },
    }
    for colour in Colour::BOTH {
        parts.push(Part::new(format!("cluster {colour}"), cluster(config, colour).await));
    }
    parts
}

fn told(result: ProviderResult<String>) -> Result<String, String> {
    result.map_err(|error| error.to_string())
}

/// Whether a journal can be read and written, without writing to it.
async fn journal(config: &Config) -> Result<String, String> {
    let entries = || async { journal::peek(config).await.map_err(|failure| failure.to_string()) };
    let Some(path) = config.journal.file() else {
        return Ok(format!("{} entries", entries().await?.len()));
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

/// A name server that takes updates: leave to update, then each endpoint at every server that has to show it.
async fn zone(config: &Config, dns: &Rfc2136, parts: &mut Vec<Part>) {
    let asked = dns.check_access().await;
    let says = || format!("{} takes updates with the key", config.dns.zone);
    parts.push(Part::new("dns", told(asked.map(|()| says()))));
    for endpoint in &config.endpoints {
        parts.push(Part::new(format!("dns {}", endpoint.name), published(config, dns, &endpoint.name).await));
    }
}

async fn published(config: &Config, dns: &Rfc2136, endpoint: &DnsName) -> Result<String, String> {
    let found = dns.read(endpoint).await.map_err(|error| error.to_string())?;
    owned(config, &found)?;
    if !dns.is_visible(endpoint, &found).await.map_err(|error| error.to_string())? {
        return Err("not every authoritative server shows what the primary has; see their logs".into());
    }
    Ok(describe(&found))
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
    let leads_to = match &set.data {
        RecordData::Cname(target) => target.to_string(),
        RecordData::Addresses(addresses) => {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    };
    let owner = match &found.owner {
        Some(owner) => format!("generation {}, term {}", owner.target.generation, owner.term),
        None => "no owner record yet".to_owned(),
    };
    format!("leads to {leads_to}, TTL {} s, {owner}", set.ttl_s)
}

/// What stands behind a colour.
async fn cluster(config: &Config, colour: Colour) -> Result<String, String> {
    let look = async {
        let by =
            provisioner(config, &Hosts::default(), colour).await.map_err(|failure| failure.to_string())?;
        let Some(there) = by.describe(colour).await.map_err(|error| error.to_string())? else {
            return Ok("nothing stands there".to_owned());
        };
        let connector = Connector::new(config, None).map_err(|error| format!("{error:#}"))?;
        let admin = connector.admin(&there).await.map_err(|error| error.to_string())?;
        let found = admin.identity().await.map_err(|error| error.to_string())?;
        Ok(format!("{} is cluster {}, {} brokers", there.id, found.cluster_id, found.brokers.len()))
    };
    let limit = config.plan.command_timeout;
    tokio::time::timeout(limit, look).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}
