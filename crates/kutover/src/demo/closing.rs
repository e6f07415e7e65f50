//! The end of a demo: traffic stops, groups read what is left, the audit compares, the report is written.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use kutover_audit::{ClusterLog, Evidence, SenderAccount, Traffic, ends_of, over_all, place, producer_name};
use kutover_core::words::Colour;

use super::scene::{Outcome, Scene};
use super::without::NOT_DRAINED;
use crate::failure::Failure;
use crate::report::{ProducerReport, Report, SCHEMA};
use crate::world::World;

/// How long groups have to read what is left.
const READ_LIMIT: Duration = Duration::from_secs(60);
const READ_LIMIT_AFTER_TROUBLE: Duration = Duration::from_secs(5);

/// Ends a run and gives its report.
pub(crate) async fn perform(scene: &mut Scene, world: &World, outcome: Outcome) -> Result<Report, Failure> {
    scene.step("audit", "stopping the traffic; every record is settled");
    let mut traffic = scene.traffic.take().ok_or_else(|| anyhow!("there was no traffic"))?;
    traffic.stop().await?;
    scene.step("audit", "groups read what is left; the audit reads both logs");
    for colour in Colour::BOTH {
        let at = place(colour);
        if let Some(bootstrap) = standing(scene, world, colour) {
            wait_for_groups(scene, colour, &bootstrap, outcome.reason.is_none()).await?;
            scene.finish_log(colour).await.with_context(|| format!("the audit's reading of {colour}"))?;
        }
        // A cluster that never served has no log; one that served and was not read must not pass for empty.
        if scene.clusters[at].cluster_id.is_some() && scene.logs[at].is_none() {
            return Err(anyhow!("{colour} was removed before the audit had read it").into());
        }
        scene.logs[at].get_or_insert_with(ClusterLog::default);
    }
    scene.readers.stop().await?;
    scene.stop_gauge();
    Ok(report(scene, &traffic, outcome))
}

/// Bootstrap servers of a colour's cluster, where it still stands and takes part in the run.
fn standing(scene: &Scene, world: &World, colour: Colour) -> Option<String> {
    let report = &scene.clusters[place(colour)];
    let there = report.cluster_id.is_some() && !report.removed && scene.logs[place(colour)].is_none();
    there.then(|| world.lab.place(colour).to_string())
}

/// Gives the groups time to read a cluster to its end. What they have not read then, the audit counts as missed.
async fn wait_for_groups(scene: &Scene, colour: Colour, bootstrap: &str, went_well: bool) -> Result<()> {
    let bootstrap = bootstrap.to_owned();
    let ends = tokio::task::spawn_blocking(move || ends_of(&bootstrap)).await??;
    // After a cutover that did not end well a group may have no way on: it is not waited for as long.
    let give_up = Instant::now() + if went_well { READ_LIMIT } else { READ_LIMIT_AFTER_TROUBLE };
    while !scene.readers.have_read(colour, &ends) {
        if Instant::now() > give_up {
            scene
                .ui
                .line(&format!("  not every group has read {colour} to its end; what is missing is counted"));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn report(scene: &mut Scene, traffic: &Traffic, outcome: Outcome) -> Report {
    let accounts: Vec<SenderAccount> = traffic.senders.iter().map(|sender| sender.account()).collect();
    let findings = kutover_audit::audit(&Evidence {
        ledger: &traffic.ledger.entries(),
        predicted_duplicates: accounts.iter().map(|account| account.possibly_duplicated).sum(),
        blue: scene.logs[0].as_ref().unwrap_or(&ClusterLog::default()),
        green: scene.logs[1].as_ref().unwrap_or(&ClusterLog::default()),
        blue_again: &scene.blue_again,
        groups: scene.readers.groups.iter().map(|(name, book)| (name.clone(), book.lock().clone())).collect(),
    });
    let [blue, green] = std::mem::take(&mut scene.clusters);
    let mut report = Report {
        schema: SCHEMA,
        strategy: scene.options.strategy.to_string(),
        kafka: scene.options.kafka.to_string(),
        hand_over: scene.options.hand_over.as_str().to_owned(),
        outcome: outcome.name,
        reason: outcome.reason,
        seed: scene.seed,
        took_ms: scene.ui.at_ms(),
        records_per_s: traffic.records_per_s(),
        barrier_ms: scene.barrier_ms,
        blue,
        green,
        producers: producers(scene.published_at, traffic, accounts, &findings.on_green),
        timeline: std::mem::take(&mut scene.timeline),
        findings,
    };
    // What tells whether anybody moved is the log, not what a strategy is known for.
    if report.outcome == NOT_DRAINED && report.producers.iter().all(|one| one.records_on_green == 0) {
        report.outcome = "not-moved".into();
    }
    report
}

fn producers(
    published_at: Option<Instant>,
    traffic: &Traffic,
    accounts: Vec<SenderAccount>,
    on_green: &[u64],
) -> Vec<ProducerReport> {
    let since = |at: Instant| u64::try_from(at.saturating_duration_since(published_at?).as_millis()).ok();
    let each = accounts.into_iter().zip(traffic.accepting()).enumerate();
    each.map(|(number, (account, accepting))| ProducerReport {
        instance: producer_name(number),
        switched_after_ms: account.switched_at.and_then(since),
        records_on_green: on_green.get(number).copied().unwrap_or_default(),
        stall_us: over_all(&accepting, account.held_up),
        receipt: account.receipt,
        on: account.on,
    })
    .collect()
}
