//! `kutover plan FILE`: what a cutover would do, and what it is refused over. It changes nothing, takes no lock and starts
//! no server, so that it can be asked at any time, also while a cutover runs.

mod text;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kutover_controller::config::{Config, DnsKind, Endpoint};
use kutover_controller::driver::{ClusterConnector as _, Gate};
use kutover_controller::survey::{SurveyLinks, SurveyRequest, survey};
use kutover_core::cutover::{Plan, StateName};
use kutover_core::error::ProviderResult;
use kutover_core::ports::{ClusterProvisioner, Item, Published};
use kutover_core::survey::{Assessment, EndpointSeen, Outcome, assess};
use kutover_core::words::{Colour, EndpointKey};
use kutover_dns::LocalServer;
use serde::Serialize;

use crate::aws;
use crate::cli::PlanOptions;
use crate::command::print_json;
use crate::drain::progress;
use crate::failure::Failure;
use crate::name_server::{Records, zone_path};
use crate::rfc2136;
use crate::up;
use crate::wire::{Connector, Hosts, provisioners};

/// The exit status of a plan that is refused.
const REFUSED: u8 = 3;
/// The exit status if a cluster or the DNS did not answer.
const UNREACHABLE: u8 = 4;

/// What `plan --json` prints.
#[derive(Serialize)]
struct PlanReport<'a> {
    #[serde(flatten)]
    assessment: &'a Assessment,
    /// Where the cutover stands that is not over yet, if there is one.
    under_way: Option<StateName>,
}

/// Makes the plan and prints it.
///
/// # Errors
/// Bad input. Clusters that do not answer are part of the plan.
pub(crate) async fn run(options: &PlanOptions) -> Result<u8, Failure> {
    let config = up::load(&options.file)?;
    let mut gate = config.gate();
    if let Some(seconds) = options.watch {
        gate.watch.time = Duration::from_secs(seconds.into());
    }
    let assessment = make(&config, &gate).await?;
    let under_way = under_way(&config).await?;
    let mut err = std::io::stderr();
    let _ = writeln!(err, "{}", text::render(&assessment));
    if let Some(state) = under_way {
        let _ = writeln!(
            err,
            "a cutover is under way, and stands in {state}: `kutover up` goes on with it first"
        );
    }
    if options.json {
        print_json(&PlanReport { assessment: &assessment, under_way })?;
    }
    Ok(match assessment.outcome {
        Outcome::Ready => 0,
        Outcome::Refused => REFUSED,
        Outcome::Unreachable => UNREACHABLE,
    })
}

/// Where a cutover stands that has begun and is not over, as the journal says.
async fn under_way(config: &Config) -> Result<Option<StateName>, Failure> {
    let state = progress(config).await?.map(|progress| progress.state.name());
    Ok(state.filter(|state| {
        let over = [StateName::Planned, StateName::Complete, StateName::Aborted, StateName::RolledBack];
        !over.contains(state)
    }))
}

/// Looks at the world that a configuration describes, and judges it.
///
/// # Errors
/// A client property that is not accepted, or a cluster of kind `lab`: each names the field.
async fn make(config: &Config, gate: &Gate) -> Result<Assessment, Failure> {
    let [blue, green] = provisioners(config, &Hosts::default()).await?;
    let connector = Connector::new(config, None).map_err(Failure::Input)?;
    let plan = config.cutover_plan();
    let endpoints = endpoints(config).await?;
    let owner = endpoints.get(&config.term_endpoint().key());
    let owner = owner.and_then(|seen| seen.as_ref().ok()?.owner.as_ref());
    let from = owner.map_or(config.plan.active, |owner| owner.target.colour);
    let (old, new) = match from {
        Colour::Blue => (&*blue, &*green),
        Colour::Green => (&*green, &*blue),
    };
    let (old, new) =
        tokio::join!(connect(&plan, &connector, old, from), connect(&plan, &connector, new, from.other()));
    let nothing = || Err(format!("there is no cluster behind {from}"));
    let request = SurveyRequest {
        plan: &plan,
        from,
        endpoints,
        old: old.unwrap_or_else(nothing),
        new,
        watch: &gate.watch,
    };
    let _ = writeln!(std::io::stderr(), "watching groups and producers for {:?}", gate.watch.time);
    let seen = Box::pin(survey(request)).await;
    Ok(assess(&seen, &plan, &gate.waivers))
}

/// A connection to what stands behind a colour; `None` if nothing does.
async fn connect(
    plan: &Plan,
    connector: &Connector,
    provisioner: &dyn ClusterProvisioner,
    colour: Colour,
) -> Option<Item<SurveyLinks>> {
    let incarnation = match provisioner.describe(colour).await {
        Ok(found) => found?,
        Err(error) => return Some(Err(error.to_string())),
    };
    let links = async {
        let (links, look) =
            tokio::try_join!(connector.connect(&incarnation), connector.survey(&incarnation))?;
        let workers = match &plan.connect {
            Some(_) => Some(connector.workers(colour).await?),
            None => None,
        };
        ProviderResult::Ok(SurveyLinks { links, look, workers })
    };
    Some(links.await.map_err(|error| error.to_string()))
}

/// What is published. A zone of kind `local` is read where it is kept, whether it is served just now or not.
pub(crate) async fn endpoints(config: &Config) -> Result<BTreeMap<EndpointKey, Item<EndpointSeen>>, Failure> {
    let mut seen = BTreeMap::new();
    match &config.dns.kind {
        DnsKind::Local { .. } => {
            let path = zone_path(config).map_err(Failure::Input)?;
            let kept = LocalServer::kept(&config.dns.zone, &path).map_err(|error| error.to_string());
            for key in config.endpoints.iter().map(Endpoint::key) {
                let published = kept.as_ref().map(|kept| kept.get(&key.name).cloned().unwrap_or_default());
                seen.insert(key, published.map(endpoint).map_err(Clone::clone));
            }
        }
        DnsKind::Rfc2136(at) => {
            let records = Records::all_in(Arc::new(rfc2136::provider(&config.dns.zone, at)?));
            read(&records, config, &mut seen).await;
        }
        DnsKind::Route53(at) => read(&aws::dns(config, at).await?, config, &mut seen).await,
    }
    Ok(seen)
}

async fn read(records: &Records, config: &Config, seen: &mut BTreeMap<EndpointKey, Item<EndpointSeen>>) {
    for key in config.endpoints.iter().map(Endpoint::key) {
        let published = records.of(&key).read(&key.name).await;
        seen.insert(key, published.map(endpoint).map_err(|error| error.to_string()));
    }
}

fn endpoint(published: Published) -> EndpointSeen {
    EndpointSeen { record: published.endpoint.map(|set| (set.data, set.ttl_s)), owner: published.owner }
}
