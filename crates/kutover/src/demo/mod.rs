//! `demo`: a world of its own, live traffic in it, a cutover (or what passes for one under the other strategies), and the
//! audit.

mod closing;
mod cutover;
mod scene;
mod trouble;
mod without;

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use crate::cli::{DemoOptions, Strategy};
use crate::failure::Failure;
use crate::report::Report;
use crate::ui::Ui;
use crate::world::World;
use scene::Scene;

/// Runs the demo and gives its report.
///
/// # Errors
/// What could not be carried out.
pub(crate) async fn run(options: DemoOptions, ui: Arc<Ui>) -> Result<Report, Failure> {
    let limit = Duration::from_secs(options.limit.into());
    tokio::time::timeout(limit, Box::pin(perform(options, ui))).await.unwrap_or_else(|_| {
        Err(Failure::Run(anyhow!(
            "the run had not ended after {} s; raise --limit if that is too short for this machine",
            limit.as_secs()
        )))
    })
}

async fn perform(options: DemoOptions, ui: Arc<Ui>) -> Result<Report, Failure> {
    let groups: Vec<String> = (0..options.groups).map(group_name).collect();
    ui.step(&format!("making a world: blue ({}), name server, topic", options.kafka));
    let world = World::open(&options, &groups).await?;
    let mut scene = Scene::new(options, ui, groups);
    let outcome = match scene.options.strategy {
        Strategy::Kutover => cutover::perform(&mut scene, &world).await,
        Strategy::Recipe | Strategy::DnsOnly => without::perform(&mut scene, &world).await,
    };
    let report = match outcome {
        Ok(outcome) => closing::perform(&mut scene, &world, outcome).await,
        Err(failure) => Err(failure),
    };
    scene.ui.step("taking the world away");
    drop(scene);
    world.close().await;
    report
}

/// Names that a shop's groups could have.
fn group_name(number: u16) -> String {
    match number {
        0 => "billing".into(),
        1 => "shipping".into(),
        2 => "search".into(),
        other => format!("group-{other}"),
    }
}
