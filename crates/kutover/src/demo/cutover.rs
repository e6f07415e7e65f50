//! The demo under kutover's own strategy: the world's configuration goes through the same `up` that a user runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kutover_audit::{KutoverSender, Sender, TOPIC, place as index, producer_name};
use kutover_controller::driver::{Finished, Operator};
use kutover_core::chain::{Chain, ClosedBy, SegmentEnd};
use kutover_core::cutover::{Event, StateName, Stop};
use kutover_core::words::Colour;
use tokio::sync::mpsc;

use super::scene::{Outcome, Scene};
use super::trouble::Trouble;
use crate::failure::Failure;
use crate::up;
use crate::world::World;

/// Adopts, starts traffic, and cuts over.
pub(crate) async fn perform(scene: &mut Scene, world: &World) -> Result<Outcome, Failure> {
    scene.step("adopt", "adopting the deployment: owner record and kutover's topics");
    let mut hosts = world.hosts.clone();
    up::adopt(&world.path, &mut hosts, |event| tracing::debug!(%event, "adopting")).await?;
    let blue = world.blue.bootstrap.join(",");
    scene.clusters[0].cluster_id = Some(world.identity(&world.blue).await?.cluster_id.to_string());
    scene.follow(Colour::Blue, &blue);
    let places = Colour::BOTH.map(|colour| world.lab.place(colour).to_string());
    scene.readers.follow_chain(&places, scene.options.partitions);
    scene.step("traffic", "starting producers and consumer groups");
    let mut trouble = Trouble::new(scene.options.trouble, world).await?;
    let senders = start_producers(scene, world, &trouble).await?;
    scene.ui.moved(0, senders.len());
    scene.start_traffic(senders);
    scene.let_it_run("traffic on blue").await;
    let finished = cut_over(scene, world, &mut trouble).await?;
    trouble.end(scene, world).await?;
    let (name, reason) = (up::outcome(&finished.stop), up::reason(&finished.stop));
    note_chain(scene, &finished.progress.chain);
    match &finished.stop {
        Stop::Complete => scene.let_it_run("traffic on green").await,
        Stop::RolledBack(_) if scene.options.rollback => {
            scene.let_it_run("traffic on blue again").await;
            return Ok(Outcome { name: name.to_owned(), reason: None });
        }
        _ => {}
    }
    Ok(Outcome { name: name.to_owned(), reason: (!reason.is_empty()).then_some(reason) })
}

async fn start_producers(scene: &Scene, world: &World, trouble: &Trouble) -> Result<Vec<Arc<dyn Sender>>> {
    let deployment = world.deployment(scene.options.hand_over);
    let starting = (0..usize::from(scene.options.producers))
        .map(|number| KutoverSender::start(producer_name(number), &deployment, trouble.sealed()));
    let senders = futures_util::future::try_join_all(starting).await.context("starting the producers")?;
    Ok(senders.into_iter().map(|sender| Arc::new(sender) as Arc<dyn Sender>).collect())
}

/// Runs `up` on the world's file and follows what it tells.
async fn cut_over(scene: &mut Scene, world: &World, trouble: &mut Trouble) -> Result<Finished, Failure> {
    scene.step("cutover", &format!("kutover up {}", file_name(&world.path)));
    let (tell, mut told) = mpsc::unbounded_channel();
    let (path, mut hosts) = (world.path.clone(), world.hosts.clone());
    let (operator, words) = mpsc::unbounded_channel();
    let mut way_back = WayBack { operator: operator.clone(), asked: None };
    trouble.operator(operator);
    let running = async move {
        up::run(&path, &mut hosts, false, words, move |event| {
            let _ = tell.send(event);
        })
        .await
    };
    tokio::pin!(running);
    let mut state = StateName::Planned;
    let finished = loop {
        tokio::select! {
            biased;
            Some(event) = told.recv() => {
                attend(scene, world, &mut state, &event).await?;
                way_back.at(scene, &event);
                trouble.at(scene, world, &event).await?;
            }
            () = way_back.due() => way_back.ask(scene),
            () = trouble.next(scene, world) => {}
            finished = &mut running => break finished?,
        }
    };
    while let Ok(event) = told.try_recv() {
        attend(scene, world, &mut state, &event).await?;
    }
    Ok(finished)
}

/// `--rollback`: the operator goes back once blue is closed and green has taken traffic for a while.
struct WayBack {
    operator: mpsc::UnboundedSender<Operator>,
    asked: Option<Instant>,
}

impl WayBack {
    fn at(&mut self, scene: &Scene, event: &Event) {
        if scene.options.rollback && matches!(event, Event::Entered { state: StateName::Draining }) {
            self.asked = Some(Instant::now() + Duration::from_secs(scene.options.warm_up.into()));
        }
    }

    async fn due(&self) {
        match self.asked {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    fn ask(&mut self, scene: &mut Scene) {
        self.asked = None;
        scene.step("rollback", "the operator goes back to blue");
        // Nobody listens any more if the cutover has ended, which its outcome says.
        let _ = self.operator.send(Operator::RollBack);
    }
}

/// Shows an event and does what the demo has to do at it.
async fn attend(
    scene: &mut Scene,
    world: &World,
    state: &mut StateName,
    event: &Event,
) -> Result<(), Failure> {
    if let Event::Entered { state: entered } = event {
        *state = *entered;
        scene.ui.stage(*entered);
    } else {
        scene.ui.line(&format!("  {event}"));
    }
    scene.note(state.as_str(), event.to_string());
    match event {
        Event::Published { target } => {
            if let (Colour::Blue, Some(began)) = (target.colour, scene.rollback_began) {
                scene.barrier_ms = u64::try_from(began.elapsed().as_millis()).ok();
            }
            scene.published_at = Some(Instant::now());
            scene.clusters[index(target.colour)].cluster_id = Some(target.cluster_id.to_string());
            scene.follow(target.colour, &target.bootstrap.join(","));
        }
        Event::Entered { state: StateName::RollingBack } => scene.rollback_began = Some(Instant::now()),
        Event::Moved { moved, of, .. } => scene.ui.moved(*moved, *of),
        // Blue is fenced and its ends are final, and clients still reach it: the audit reads it now or never.
        Event::Entered { state: StateName::Soaking } if !scene.options.rollback => {
            scene.finish_log(Colour::Blue).await.context("the audit's reading of blue")?;
        }
        Event::Entered { state: StateName::Isolating } => {
            scene.finish_log(Colour::Blue).await.context("the audit's reading of blue")?;
        }
        Event::Removed { incarnation, .. } if *incarnation == world.blue.id => {
            scene.clusters[0].removed = true
        }
        _ => {}
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Notes what the chain says of both clusters: how the newest segments there ended, where all partitions agree, and where
/// blue's log goes on after a rollback.
fn note_chain(scene: &mut Scene, chain: &Chain) {
    let mut ends: [BTreeSet<Option<&str>>; 2] = Default::default();
    for (place, segments) in chain.iter().filter(|(place, _)| place.topic.as_str() == TOPIC) {
        for colour in Colour::BOTH {
            let newest = segments.iter().rfind(|segment| segment.colour == colour);
            ends[index(colour)].extend(newest.map(|segment| match segment.end {
                SegmentEnd::Closed { by: ClosedBy::Fence, .. } => Some("fence"),
                SegmentEnd::Closed { by: ClosedBy::Quiet, .. } => Some("quiet"),
                SegmentEnd::Closed { by: ClosedBy::Barrier, .. } => Some("barrier"),
                SegmentEnd::Unreadable => Some("unreadable"),
                SegmentEnd::Open => None,
            }));
        }
        let on_blue: Vec<_> = segments.iter().filter(|segment| segment.colour == Colour::Blue).collect();
        if let [_, again] = on_blue[..] {
            scene.blue_again.insert(place.partition, again.start.0);
        }
    }
    for (cluster, ends) in scene.clusters.iter_mut().zip(ends) {
        let by = if ends.len() > 1 { Some("mixed") } else { ends.into_iter().next().flatten() };
        cluster.closed_by = by.map(str::to_owned);
    }
}
