//! The demo without kutover: the published recipe, and a changed record alone. World, traffic, topic, record change and
//! audit are the same; what differs is what the producers and the person at the controls do, and that groups read both
//! clusters at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use kutover_audit::{Sender, ends_of};
use kutover_core::ports::{ClusterProvisioner, Incarnation};
use kutover_core::words::{Colour, DnsName, Nonce};

use super::scene::{Outcome, Scene};
use crate::cli::Strategy;
use crate::failure::Failure;
use crate::name_server::point;
use crate::traffic::{DnsOnlySender, Endpoint, RecipePlan, RecipeSender};

use crate::world::{ENDPOINT, World};

/// For how long blue must have taken no record before the recipe's operator believes that everybody has moved.
const QUIET: Duration = Duration::from_secs(1);
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The outcome where blue goes on taking records, or holds some that no group has read.
pub(super) const NOT_DRAINED: &str = "not-drained";
/// How often blue is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Starts traffic, and does what the recipe's operator does.
pub(crate) async fn perform(scene: &mut Scene, world: &World) -> Result<Outcome, Failure> {
    let blue = world.blue.bootstrap.join(",");
    scene.clusters[0].cluster_id = Some(world.identity(&world.blue).await?.cluster_id.to_string());
    scene.follow(Colour::Blue, &blue);
    scene.readers.read_also(Colour::Blue, &blue);
    scene.step("traffic", "starting producers and consumer groups");
    let senders = start_producers(scene, world).await?;
    scene.start_traffic(senders);
    scene.let_it_run("traffic on blue").await;
    let green = make_green(scene, world).await?;
    scene.step("redirecting", "pointing the record at green");
    point(&*world.dns, &DnsName::new(ENDPOINT), scene.options.ttl, &green.endpoint).await?;
    scene.published_at = Some(Instant::now());
    let plan = recipe_plan(scene.options.ttl);
    scene.step("waiting", "waiting for the TTL and for producers to re-create their clients");
    let ttl = Duration::from_secs(scene.options.ttl.into());
    tokio::time::sleep(ttl + plan.period).await;
    scene.step("draining", "waiting until blue takes nothing and groups have read it");
    let drained = wait_for_zero_lag(scene, &blue).await?;
    scene.let_it_run("traffic goes on").await;
    let name = if drained { "complete" } else { NOT_DRAINED };
    scene.note("done", format!("ended as {name}"));
    Ok(Outcome { name: name.into(), reason: None })
}

/// The recipe's timer: longer than the TTL, so that a tick sees a changed record.
fn recipe_plan(ttl_s: u32) -> RecipePlan {
    let period = Duration::from_secs(ttl_s.into()) + Duration::from_secs(1);
    RecipePlan { initial_delay: period, period }
}

async fn start_producers(scene: &Scene, world: &World) -> Result<Vec<Arc<dyn Sender>>> {
    let endpoint =
        Endpoint { watch: Arc::new(world.watch()?), port: world.config.term_endpoint().port.get() };
    let count = scene.options.producers;
    let mut senders: Vec<Arc<dyn Sender>> = Vec::new();
    for number in 0..count {
        let sender: Result<Arc<dyn Sender>, String> = match scene.options.strategy {
            Strategy::DnsOnly => DnsOnlySender::start(&endpoint).await.map(|sender| Arc::new(sender) as _),
            Strategy::Recipe | Strategy::Kutover => {
                let mut plan = recipe_plan(scene.options.ttl);
                // Services were started at different times: their ticks are spread over a period.
                plan.initial_delay = plan.period * (u32::from(number) + 1) / u32::from(count);
                RecipeSender::start(endpoint.clone(), plan).await.map(|sender| Arc::new(sender) as _)
            }
        };
        senders.push(sender.map_err(|reason| anyhow!("producer {number}: {reason}"))?);
    }
    Ok(senders)
}

/// Provisions green with blue's topic; audit and groups begin to read it.
async fn make_green(scene: &mut Scene, world: &World) -> Result<Incarnation> {
    scene.step("provisioning", "making green, with blue's topic");
    let green = world.lab.provision(Colour::Green, &Nonce::new("demo-green")).await?;
    world.make_topic(&green, scene.options.partitions).await?;
    scene.clusters[1].cluster_id = Some(world.identity(&green).await?.cluster_id.to_string());
    let bootstrap = green.bootstrap.join(",");
    scene.follow(Colour::Green, &bootstrap);
    scene.readers.read_also(Colour::Green, &bootstrap);
    Ok(green)
}

/// Whether blue stood still and was read to its end in good time.
async fn wait_for_zero_lag(scene: &Scene, blue: &str) -> Result<bool> {
    let give_up = Instant::now() + PATIENCE;
    let mut seen: Option<(BTreeMap<i32, i64>, Instant)> = None;
    while Instant::now() < give_up {
        let bootstrap = blue.to_owned();
        let ends =
            tokio::task::spawn_blocking(move || ends_of(&bootstrap)).await?.context("looking at blue")?;
        let since = match &seen {
            Some((before, since)) if *before == ends => *since,
            _ => Instant::now(),
        };
        if since.elapsed() >= QUIET && scene.readers.have_read(Colour::Blue, &ends) {
            return Ok(true);
        }
        seen = Some((ends, since));
        tokio::time::sleep(LOOK).await;
    }
    Ok(false)
}
