//! The `exec` provisioner: a command makes, describes, isolates and removes the cluster. Terraform, Ansible, a script.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner, Incarnation, RecordData};
use kutover_core::words::{ClusterId, Colour, DeploymentName, DnsName, IncarnationId, Nonce};
use serde::{Deserialize, Deserializer, Serialize};

use crate::command::CommandLine;

/// The schema of requests and replies. A field may be added under it; one that goes or changes its meaning raises the
/// number.
pub const SCHEMA: &str = "kutover.provisioner/1";

/// Whose cluster a command makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecSubject {
    /// The deployment.
    pub deployment: DeploymentName,
    /// The colour.
    pub colour: Colour,
}

/// What the command reads from its standard input: one JSON object.
#[derive(Serialize)]
struct Request<'a> {
    schema: &'static str,
    #[serde(flatten)]
    subject: &'a ExecSubject,
    /// What the infrastructure's names end with: `A` for blue, `B` for green.
    suffix: &'static str,
    #[serde(flatten)]
    act: Act<'a>,
}

#[derive(Serialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
enum Act<'a> {
    Provision { request: &'a Nonce },
    Describe,
    Isolate { incarnation: &'a IncarnationId, nonce: &'a Nonce },
    PutBack { incarnation: &'a IncarnationId, nonce: &'a Nonce },
    Destroy { incarnation: &'a IncarnationId, cluster_id: &'a ClusterId },
}

impl Act<'_> {
    fn what(&self, colour: Colour) -> String {
        match self {
            Act::Provision { .. } => format!("provision {colour} by command"),
            Act::Describe => format!("describe {colour} by command"),
            Act::Isolate { incarnation, .. } => format!("isolate {incarnation} by command"),
            Act::PutBack { incarnation, .. } => format!("put back {incarnation} by command"),
            Act::Destroy { incarnation, .. } => format!("destroy {incarnation} by command"),
        }
    }
}

/// What it writes to its standard output: one JSON object with one of these, or an empty one where there is nothing to
/// tell.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    /// That nothing stands there has to be said; a reply that does not speak of it says nothing.
    #[serde(default, deserialize_with = "said")]
    incarnation: Option<Option<Described>>,
    #[serde(default)]
    pending: Option<String>,
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    unsupported: Option<String>,
}

fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Described>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    id: IncarnationId,
    #[serde(default)]
    cluster_id: Option<ClusterId>,
    bootstrap: Vec<String>,
    #[serde(default)]
    controller_bootstrap: Vec<String>,
    endpoint: Endpoint,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Endpoint {
    Addresses(Vec<IpAddr>),
    Cname(String),
}

/// Makes the cluster of one colour with a command, which gets one JSON object on its standard input:
///
/// ```json
/// {"schema": "kutover.provisioner/1", "deployment": "orders", "colour": "green", "suffix": "B",
///  "act": "provision", "request": "orders-7"}
/// ```
///
/// | `act` | with | done when |
/// |---|---|---|
/// | `provision` | `request` | the cluster serves. The same `request` gives the same incarnation, never a second one; where another one's stands, the reply is `refused` |
/// | `describe` | | at once; changes nothing. An incarnation is there until nothing is left of it; `pending` while one is being made |
/// | `isolate` | `incarnation`, `nonce` | clients are shut out, and `controller_bootstrap` still answers. The isolation is a thing of its own that bears the nonce |
/// | `put-back` | `incarnation`, `nonce` | the isolation of this nonce is gone, and no other |
/// | `destroy` | `incarnation`, `cluster_id` | this incarnation is gone; `refused` if another cluster lives there |
///
/// The reply is one JSON object on standard output and status 0: `{}` for done, `{"incarnation": {..}}` from `provision` and
/// `describe`, `{"incarnation": null}` from `describe` where nothing stands, `{"pending": "why"}` for what is under way and is to
/// be asked for again, `{"refused": "why"}` for what was not and will not be done, `{"unsupported": "why"}` for what it cannot do
/// (isolate). Any other status says that nothing is known, and the last line on standard error says why. All acts are
/// repeatable.
///
/// An incarnation is `id` (names it for ever), `bootstrap`, `endpoint` (`{"addresses": [..]}` or `{"cname": ".."}`), and
/// where it has them `controller_bootstrap` and `cluster_id`. With `cluster_id` known, the mark of removal is compared with
/// it here, before the command is asked to destroy anything.
#[derive(Clone, Debug)]
pub struct ExecProvisioner {
    command: CommandLine,
    subject: ExecSubject,
}

impl ExecProvisioner {
    /// A provisioner by `command`, the program first and then its arguments, ended if it takes longer than `limit`.
    pub fn new(command: Vec<String>, subject: ExecSubject, limit: Duration) -> Self {
        Self { command: CommandLine::new(command, limit), subject }
    }

    /// Adds variables to the command's environment: the place for secrets, which arguments are not. They are never shown.
    #[must_use]
    pub fn with_environment(mut self, environment: BTreeMap<String, String>) -> Self {
        self.command = self.command.with_environment(environment);
        self
    }

    /// Runs the command for one act. What it says of itself becomes an error here.
    async fn ask(&self, act: Act<'_>) -> ProviderResult<Option<Described>> {
        let what = act.what(self.subject.colour);
        // Looking changes nothing, so nothing of it can be left undone.
        let looks = matches!(act, Act::Describe);
        let outcome = if looks { Outcome::NotDone } else { Outcome::Unknown };
        let suffix = match self.subject.colour {
            Colour::Blue => "A",
            Colour::Green => "B",
        };
        let request = Request { schema: SCHEMA, subject: &self.subject, suffix, act };
        let said = self.command.run(&what, &request).await.map_err(|mut error| {
            if error.outcome == Outcome::Unknown {
                error.outcome = outcome;
            }
            error
        })?;
        let failed = |kind, outcome, reason: String| {
            Err(ProviderError::new(kind, &what, reason).with_outcome(outcome))
        };
        let told = |why: String| self.command.shown(&why);
        let reply: Reply = match serde_json::from_slice(&said) {
            Ok(reply) => reply,
            Err(error) => {
                let error = self.command.shown(&error.to_string());
                let reason = format!(
                    "its standard output is not the one JSON object of {SCHEMA} ({error}); write all else to standard error"
                );
                return failed(ErrorKind::Invalid, outcome, reason);
            }
        };
        match reply {
            Reply { refused: Some(why), .. } => failed(ErrorKind::Refused, Outcome::NotDone, told(why)),
            Reply { unsupported: Some(why), .. } => {
                failed(ErrorKind::Unsupported, Outcome::NotDone, told(why))
            }
            Reply { pending: Some(why), .. } => {
                failed(ErrorKind::Unavailable, outcome, format!("it is still under way: {}", told(why)))
            }
            Reply { incarnation: None, .. } if looks => {
                let reason = "its reply says neither what stands there nor that nothing does; write \
                              {\"incarnation\": null} where nothing stands";
                failed(ErrorKind::Invalid, outcome, reason.into())
            }
            Reply { incarnation, .. } => Ok(incarnation.flatten()),
        }
    }

    /// Checks that a colour is the one that this command is for.
    fn check(&self, colour: Colour) -> ProviderResult<()> {
        if colour == self.subject.colour {
            return Ok(());
        }
        let reason = format!("this command is for {}", self.subject.colour);
        Err(ProviderError::new(ErrorKind::Invalid, format!("ask for {colour}"), reason))
    }

    /// An incarnation as the command describes it.
    fn incarnation(&self, described: Described) -> ProviderResult<Incarnation> {
        let colour = self.subject.colour;
        let invalid = |reason: String| {
            let what = format!("what the command says of {colour}");
            ProviderError::new(ErrorKind::Invalid, what, reason).with_outcome(Outcome::Unknown)
        };
        let Described { id, bootstrap, controller_bootstrap, endpoint, .. } = described;
        if id.as_str().is_empty() || bootstrap.is_empty() {
            return Err(invalid("`id` and `bootstrap` must not be empty".into()));
        }
        let endpoint = match endpoint {
            Endpoint::Addresses(addresses) if addresses.is_empty() => {
                return Err(invalid("`endpoint.addresses` is empty; name an address".into()));
            }
            Endpoint::Addresses(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                RecordData::Addresses(addresses)
            }
            // The one spelling in which names are compared.
            Endpoint::Cname(name) => {
                RecordData::Cname(DnsName::new(name.trim_end_matches('.').to_ascii_lowercase()))
            }
        };
        let controller_bootstrap =
            if controller_bootstrap.is_empty() { bootstrap.clone() } else { controller_bootstrap };
        Ok(Incarnation { id, colour, bootstrap, controller_bootstrap, endpoint })
    }
}

#[async_trait]
impl ClusterProvisioner for ExecProvisioner {
    async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation> {
        self.check(colour)?;
        match self.ask(Act::Provision { request }).await? {
            Some(described) => self.incarnation(described),
            None => {
                let reason =
                    "the command says that it is done, and not what it made; reply with `incarnation`";
                let what = format!("provision {colour} by command");
                Err(ProviderError::new(ErrorKind::Invalid, what, reason).with_outcome(Outcome::Unknown))
            }
        }
    }

    async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>> {
        self.check(colour)?;
        self.ask(Act::Describe).await?.map(|described| self.incarnation(described)).transpose()
    }

    async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        self.ask(Act::Isolate { incarnation, nonce }).await.map(drop)
    }

    async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()> {
        match self.ask(Act::PutBack { incarnation, nonce }).await {
            // One that cannot isolate has nothing to put back.
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(()),
            other => other.map(drop),
        }
    }

    async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()> {
        let RemovalMark { incarnation, cluster_id } = mark;
        // What stands there now may be another one than the mark names: then there is nothing to destroy.
        let there = self.ask(Act::Describe).await?.filter(|there| there.id == *incarnation);
        let Some(there) = there else { return Ok(()) };
        if let Some(lives) = there.cluster_id.filter(|lives| lives != cluster_id) {
            let reason = format!("cluster {lives} lives there, and the mark names {cluster_id}");
            return Err(ProviderError::new(ErrorKind::Refused, format!("destroy {incarnation}"), reason));
        }
        self.ask(Act::Destroy { incarnation, cluster_id }).await.map(drop)
    }
}
