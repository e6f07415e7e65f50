//! The demo under kutover's own strategy: the world's configuration goes through the same `up` that a user runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use kutover_controller::driver::Finished;
use kutover_core::chain::{ClosedBy, SegmentEnd};
use kutover_core::cutover::{Event, StateName};
use kutover_core::messages::ControlView;
use kutover_core::ports::MemberLink;
use kutover_core::words::Colour;
use kutover_kafka::{ClientHooks, ClientProperties, KafkaMemberLink};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::closing::producer_name;
use super::scene::{Outcome, Scene};
use super::trouble::Trouble;
use crate::consumers::Barrier;
use crate::failure::Failure;
use crate::traffic::{KutoverSender, Sender, TOPIC};
use crate::up;
use crate::world::World;

/// Bounds one call of the link that tells the groups where blue ends.
const LINK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Adopts, starts traffic, and cuts over.
pub(crate) async fn perform(scene: &mut Scene, world: &World) -> Result<Outcome, Failure> {
    scene.step("adopt", "adopting the deployment: owner record and kutover's topics");
    let mut hosts = world.hosts.clone();
    up::adopt(&world.path, &mut hosts, |event| tracing::debug!(%event, "adopting")).await?;
    let blue = world.blue.bootstrap.join(",");
    scene.clusters[0].cluster_id = Some(world.identity(&world.blue).await?.cluster_id.to_string());
    scene.follow(Colour::Blue, &blue);
    let barrier = ChainWatch::start(world, scene.options.partitions).await?;
    scene.readers.follow_chain(&blue, &barrier.known);
    scene.step("traffic", "starting producers and consumer groups");
    let mut trouble = Trouble::new(scene.options.trouble, world).await?;
    let senders = start_producers(scene, world, &trouble).await?;
    scene.ui.moved(0, senders.len());
    scene.start_traffic(senders);
    scene.let_it_run("traffic on blue").await;
    let finished = cut_over(scene, world, &mut trouble).await?;
    trouble.end(scene, world).await?;
    let (name, reason) = (up::outcome(&finished.stop), up::reason(&finished.stop));
    scene.clusters[0].closed_by = barrier.closed_by();
    if name == "complete" {
        scene.let_it_run("traffic on green").await;
    }
    Ok(Outcome { name: name.to_owned(), reason: (!reason.is_empty()).then_some(reason) })
}

async fn start_producers(scene: &Scene, world: &World, trouble: &Trouble) -> Result<Vec<Arc<dyn Sender>>> {
    let starting = (0..usize::from(scene.options.producers))
        .map(|number| KutoverSender::start(producer_name(number), &scene.options, world, trouble.sealed()));
    let senders = futures_util::future::try_join_all(starting).await.context("starting the producers")?;
    Ok(senders.into_iter().map(|sender| Arc::new(sender) as Arc<dyn Sender>).collect())
}

/// Runs `up` on the world's file and follows what it tells.
async fn cut_over(scene: &mut Scene, world: &World, trouble: &mut Trouble) -> Result<Finished, Failure> {
    scene.step("cutover", &format!("kutover up {}", file_name(&world.path)));
    let (tell, mut told) = mpsc::unbounded_channel();
    let (path, mut hosts) = (world.path.clone(), world.hosts.clone());
    let (operator, words) = mpsc::unbounded_channel();
    trouble.operator(operator);
    let running = async move {
        up::run(&path, &mut hosts, words, move |event| {
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
                trouble.at(scene, world, &event).await?;
            }
            () = trouble.next(scene, world) => {}
            finished = &mut running => break finished?,
        }
    };
    while let Ok(event) = told.try_recv() {
        attend(scene, world, &mut state, &event).await?;
    }
    Ok(finished)
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
            scene.published_at = Some(Instant::now());
            scene.clusters[1].cluster_id = Some(target.cluster_id.to_string());
            scene.follow(Colour::Green, &target.bootstrap.join(","));
        }
        Event::Moved { moved, of, .. } => scene.ui.moved(*moved, *of),
        // Blue is fenced and its ends are final, and clients still reach it: the audit reads it now or never.
        Event::Entered { state: StateName::Soaking | StateName::Isolating } => {
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

/// Watches blue's control topic for the end of the segment that the groups read.
struct ChainWatch {
    known: watch::Receiver<Option<Barrier>>,
    by: Arc<parking_lot::Mutex<Option<ClosedBy>>>,
    task: JoinHandle<()>,
}

impl ChainWatch {
    async fn start(world: &World, partitions: u16) -> Result<Self> {
        let link = KafkaMemberLink::open(
            &world.blue.bootstrap,
            &ClientProperties::default(),
            ClientHooks::default(),
            LINK_TIMEOUT,
        )
        .await?;
        let (tell, known) = watch::channel(None);
        let by = Arc::new(parking_lot::Mutex::new(None));
        let noted = Arc::clone(&by);
        let task = tokio::spawn(async move {
            loop {
                let view = link.next_control().await;
                tracing::debug!(target = ?view.target, fenced = ?view.fenced, "the control topic says");
                if let Some((barrier, closed_by)) = barrier(&view, partitions) {
                    *noted.lock() = Some(closed_by);
                    let _ = tell.send(Some(barrier));
                    return;
                }
            }
        });
        Ok(Self { known, by, task })
    }

    fn closed_by(&self) -> Option<String> {
        self.by.lock().map(|by| match by {
            ClosedBy::Fence => "fence".to_owned(),
            ClosedBy::Quiet => "quiet".to_owned(),
        })
    }
}

impl Drop for ChainWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The barrier, once every partition's segment on blue is closed and the next cluster is known.
fn barrier(view: &ControlView, partitions: u16) -> Option<(Barrier, ClosedBy)> {
    let target = view.target.as_ref().filter(|target| target.colour == Colour::Green)?;
    let mut ends = BTreeMap::new();
    let mut closed_by = ClosedBy::Fence;
    for (place, segments) in view.chain.iter().filter(|(place, _)| place.topic.as_str() == TOPIC) {
        let segment = segments.iter().find(|segment| segment.colour == Colour::Blue)?;
        let SegmentEnd::Closed { end, by } = segment.end else { return None };
        if by == ClosedBy::Quiet {
            closed_by = ClosedBy::Quiet;
        }
        ends.insert(place.partition, (segment.start.0, end.0));
    }
    (ends.len() == usize::from(partitions))
        .then(|| (Barrier { ends, next: target.bootstrap.join(",") }, closed_by))
}

#[cfg(test)]
mod tests {
    use kutover_core::owner::Target;
    use kutover_core::words::{Generation, Offset, TopicPartition};

    use super::*;

    fn view(closed: &[(i32, ClosedBy)]) -> ControlView {
        let target = |generation, colour| Target {
            generation: Generation(generation),
            colour,
            cluster_id: "g".into(),
            bootstrap: vec!["127.9.9.9:9092".into()],
        };
        let mut view = ControlView { target: Some(target(2, Colour::Green)), ..ControlView::default() };
        for partition in 0..2 {
            let place = TopicPartition::new(TOPIC, partition);
            let chain = &mut view.chain;
            chain.open(place.clone(), Generation(1), Colour::Blue, "b".into(), Offset(0)).unwrap();
            chain.open(place, Generation(2), Colour::Green, "g".into(), Offset(0)).unwrap();
        }
        for (partition, by) in closed {
            view.chain.close(&TopicPartition::new(TOPIC, *partition), Generation(1), Offset(9), *by).unwrap();
        }
        view
    }

    #[test]
    fn the_barrier_is_known_when_every_partition_is_closed() {
        assert_eq!(barrier(&view(&[(0, ClosedBy::Fence)]), 2), None);
        assert_eq!(barrier(&ControlView::default(), 2), None);
        let (all, by) = barrier(&view(&[(0, ClosedBy::Fence), (1, ClosedBy::Fence)]), 2).unwrap();
        assert_eq!(all, Barrier { ends: [(0, (0, 9)), (1, (0, 9))].into(), next: "127.9.9.9:9092".into() });
        assert_eq!(by, ClosedBy::Fence);
        assert_eq!(
            barrier(&view(&[(0, ClosedBy::Fence), (1, ClosedBy::Fence)]), 3),
            None,
            "a partition is missing"
        );
        let (_, by) = barrier(&view(&[(0, ClosedBy::Fence), (1, ClosedBy::Quiet)]), 2).unwrap();
        assert_eq!(by, ClosedBy::Quiet, "one partition that was only quiet makes it no fence");
    }
}
