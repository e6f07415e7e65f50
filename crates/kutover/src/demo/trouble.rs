//! What goes wrong on purpose (`--trouble`): each kind at the moment at which it hurts most.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kutover_audit::{KutoverSender, producer_name};
use kutover_controller::driver::Operator;
use kutover_core::cutover::{Event, StateName};
use kutover_core::owner::OwnerRecord;
use kutover_core::ports::{ClusterProvisioner, DnsProvider};
use kutover_core::words::{Colour, DnsName};
use kutover_dns::{Fault, Scope};
use tokio::sync::{Notify, mpsc};

use super::scene::Scene;
use crate::cli::TroubleKind;
use crate::world::{ENDPOINT, World};

/// The broker of blue that dies.
const VICTIM: i32 = 1;

/// See the [module](self).
pub(super) struct Trouble {
    kind: Option<TroubleKind>,
    /// Blue's owner record, as DNS answers with it where it is stale.
    older: Option<OwnerRecord>,
    sealed: Arc<Notify>,
    struck: bool,
    operator: Option<mpsc::UnboundedSender<Operator>>,
}

impl Trouble {
    pub(super) async fn new(kind: Option<TroubleKind>, world: &World) -> Result<Self> {
        let older = world.dns.read(&DnsName::new(ENDPOINT)).await?.owner;
        Ok(Self { kind, older, sealed: Arc::default(), struck: false, operator: None })
    }

    /// Told by each producer that shuts its client.
    pub(super) fn sealed(&self) -> Arc<Notify> {
        Arc::clone(&self.sealed)
    }

    /// The operator's side of the cutover; it has to live as long as the cutover does.
    pub(super) fn operator(&mut self, operator: mpsc::UnboundedSender<Operator>) {
        self.operator = Some(operator);
    }

    /// What strikes at an event.
    pub(super) async fn at(&mut self, scene: &mut Scene, world: &World, event: &Event) -> Result<()> {
        let faults = world.dns.faults();
        match (self.kind, event) {
            (Some(TroubleKind::DnsFails), Event::Published { .. }) => {
                self.say(scene, "every DNS answer is SERVFAIL");
                faults.set(Scope::Everything, Fault::ServFail);
            }
            (Some(TroubleKind::DnsEmpty), Event::Published { .. }) => {
                self.say(scene, "every DNS answer is empty");
                faults.set(Scope::Everything, Fault::NoData);
            }
            (Some(TroubleKind::DnsStale), Event::Published { .. }) => self.stale(scene, world)?,
            (Some(TroubleKind::LateProducer), Event::Published { .. }) => {
                self.stale(scene, world)?;
                let number = usize::from(scene.options.producers);
                let deployment = world.deployment(scene.options.hand_over);
                let starting = KutoverSender::start(producer_name(number), &deployment, self.sealed());
                let late = starting.await.context("starting one more producer")?;
                self.say(scene, "one more producer has started");
                let plan = scene.traffic_plan();
                if let Some(traffic) = &mut scene.traffic {
                    traffic.join(Arc::new(late), plan);
                }
            }
            (Some(TroubleKind::Abort), Event::Entered { state: StateName::Preparing }) => {
                self.say(scene, "the operator aborts");
                if let Some(operator) = &self.operator {
                    operator.send(Operator::Abort).context("the cutover listens")?;
                }
            }
            (Some(_), Event::Entered { state: StateName::Draining }) => {
                faults.heal();
                faults.remove_owner_text(&DnsName::new(ENDPOINT));
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for a producer's seal where that is when it strikes, and strikes.
    pub(super) async fn next(&mut self, scene: &mut Scene, world: &World) {
        if self.kind != Some(TroubleKind::BrokerDies) || self.struck {
            return std::future::pending().await;
        }
        self.sealed.notified().await;
        if let Some(blue) = world.lab.embedded(Colour::Blue) {
            blue.kill_broker(VICTIM);
            self.say(scene, "a producer is sealed: broker 1 of blue dies");
        }
    }

    /// After the cutover: what was to strike has struck, and an abort has left nothing behind.
    pub(super) async fn end(&self, scene: &mut Scene, world: &World) -> Result<()> {
        let needs_no_moment = matches!(self.kind, None | Some(TroubleKind::SameCluster));
        if !self.struck && !needs_no_moment {
            bail!("the trouble that was asked for had no occasion to strike");
        }
        if self.kind == Some(TroubleKind::Abort) {
            let green = world.lab.describe(Colour::Green).await?;
            let published = world.dns.read(&DnsName::new(ENDPOINT)).await?;
            let ttl_s = published.endpoint.map(|set| set.ttl_s);
            let target = published.owner.map(|owner| owner.target);
            if green.is_some() || target != self.older.as_ref().map(|owner| owner.target.clone()) {
                bail!("the abort left something behind: green {green:?}, target {target:?}");
            }
            if ttl_s != Some(scene.options.ttl) {
                bail!("the abort left a TTL of {ttl_s:?} behind");
            }
            scene.note("aborted", "nothing stands behind green, and the record is as it was".into());
        }
        Ok(())
    }

    fn stale(&mut self, scene: &mut Scene, world: &World) -> Result<()> {
        let older = self.older.as_ref().context("blue's owner record")?.to_txt();
        let texts: Vec<&str> = older.iter().map(String::as_str).collect();
        world.dns.faults().put_owner_text(&DnsName::new(ENDPOINT), &texts);
        self.say(scene, "DNS answers with the older generation");
        Ok(())
    }

    fn say(&mut self, scene: &mut Scene, what: &str) {
        self.struck = true;
        scene.ui.line(&format!("  trouble: {what}"));
        scene.note("trouble", what.to_owned());
    }
}
