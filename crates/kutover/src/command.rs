//! The commands, from options to exit status.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kutover_controller::driver::Operator;
use kutover_core::cutover::{ApprovalGate, Event, StateName, Stop};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cli::{DemoOptions, DrainOptions, UpOptions};
use crate::demo as demonstration;
use crate::failure::Failure;
use crate::name_server::zone_path;
use crate::news::News;
use crate::report::TimelineEntry;
use crate::ui::Ui;
use crate::up as cutover;
use crate::wire::Hosts;

/// Between two looks whether the program has been brought to the foreground.
const LOOK_AT_TERMINAL: Duration = Duration::from_secs(1);

/// `kutover demo`: whether the run ended as its strategy asks.
pub(crate) async fn demo(options: DemoOptions) -> Result<bool, Failure> {
    if let Some(why) = options.contradiction() {
        return Err(Failure::Input(anyhow::anyhow!(why)));
    }
    let (strategy, rollback, json) = (options.strategy, options.rollback, options.json);
    let ui = Ui::new();
    let report = Box::pin(demonstration::run(options, Arc::clone(&ui))).await;
    ui.close();
    let report = report?;
    let mut err = std::io::stderr();
    let _ = writeln!(err, "\n{}", report.table());
    if let Some(reason) = &report.reason {
        let _ = writeln!(err, "{}: {reason}", report.outcome);
    }
    if json {
        print_json(&report)?;
    }
    Ok(report.is_success(strategy, rollback))
}

/// What `up --json` prints.
#[derive(Serialize)]
struct UpReport {
    schema: &'static str,
    deployment: String,
    outcome: &'static str,
    reason: Option<String>,
    took_ms: u64,
    timeline: Vec<TimelineEntry>,
}

/// `kutover up FILE`: whether the cutover is complete.
pub(crate) async fn up(options: UpOptions) -> Result<bool, Failure> {
    let config = cutover::load(&options.file)?;
    let ui = Ui::new();
    let (zone, kept) = (&config.dns.zone, zone_path(&config).ok());
    let mut hosts = Hosts::default();
    // Told with the first event: by then it is so.
    let mut served = Some(Arc::clone(&hosts.listens));
    let (say, words) = mpsc::unbounded_channel();
    let mut timeline = Vec::new();
    let (mut state, mut news) = (StateName::Planned, News::default());
    let teller = Arc::clone(&ui);
    listen(say, Arc::clone(&ui));
    let finished = cutover::run(&options.file, &mut hosts, options.again, words, |event| {
        let at = served.take().and_then(|listens| listens.get().copied());
        if let (Some(at), Some(kept)) = (at, &kept) {
            let kept = kept.display();
            teller.line(&format!(
                "the zone {zone} is served on {at} while this runs; what is published is kept in {kept}"
            ));
        }
        if !news.is(&event, teller.at_ms()) {
            return;
        }
        tell(&teller, &mut state, &event);
        timeline.push(TimelineEntry {
            at_ms: teller.at_ms(),
            state: state.to_string(),
            event: event.to_string(),
        });
    })
    .await;
    ui.close();
    let finished = finished?;
    let reason = cutover::reason(&finished.stop);
    if !reason.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}: {reason}", cutover::outcome(&finished.stop));
    }
    if options.json {
        print_json(&UpReport {
            schema: "kutover.up/1",
            deployment: config.deployment.to_string(),
            outcome: cutover::outcome(&finished.stop),
            reason: (!reason.is_empty()).then_some(reason),
            took_ms: ui.at_ms(),
            timeline,
        })?;
    }
    Ok(finished.stop == Stop::Complete)
}

/// `kutover drain FILE`: whether every required group has read everything.
pub(crate) async fn drain(options: DrainOptions) -> Result<bool, Failure> {
    let config = cutover::load(&options.file)?;
    let report = crate::drain::look(&config, options.colour, options.every).await?;
    let _ = writeln!(std::io::stderr(), "{}", report.text());
    if options.json {
        print_json(&report)?;
    }
    Ok(report.drained)
}

/// Shows one event of a cutover.
fn tell(ui: &Ui, state: &mut StateName, event: &Event) {
    match event {
        Event::Entered { state: entered } => {
            *state = *entered;
            ui.stage(*entered);
        }
        Event::Moved { moved, of, .. } => {
            ui.moved(*moved, *of);
            ui.line(&format!("  {event}"));
        }
        Event::AwaitingApproval { gate, .. } => {
            let (gate, otherwise) = match gate {
                ApprovalGate::Redirect => ("redirect", "abort"),
                ApprovalGate::Removal => ("removal", "rollback"),
            };
            ui.line(&format!("  {event}: type `approve {gate}` and press Enter, or `{otherwise}`"));
        }
        _ => ui.line(&format!("  {event}")),
    }
}

/// Reads what a person types while a cutover runs, on a thread that ends with the program: a read of a terminal cannot
/// be cut short.
fn listen(say: mpsc::UnboundedSender<Operator>, ui: Arc<Ui>) {
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines();
        loop {
            wait_for_foreground();
            // The end of the input says nothing: whoever waits for a word goes on waiting.
            let Some(Ok(line)) = lines.next() else { return };
            match word(&line) {
                Some(word) if say.send(word).is_err() => return,
                Some(_) => {}
                None if line.trim().is_empty() => {}
                None => ui.line("  type `approve redirect`, `approve removal`, `abort` or `rollback`"),
            }
        }
    });
}

/// Whoever reads its terminal from the background is stopped by it, and all the program with it.
fn wait_for_foreground() {
    let stdin = std::io::stdin();
    // Where it is no terminal there is no such group.
    while tcgetpgrp(&stdin).is_ok_and(|foreground| foreground != getpgrp()) {
        std::thread::sleep(LOOK_AT_TERMINAL);
    }
}

fn word(line: &str) -> Option<Operator> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["approve", "redirect"] => Some(Operator::Approve(ApprovalGate::Redirect)),
        ["approve", "removal"] => Some(Operator::Approve(ApprovalGate::Removal)),
        ["abort"] => Some(Operator::Abort),
        ["rollback"] => Some(Operator::RollBack),
        _ => None,
    }
}

/// `kutover template`.
pub(crate) fn template() -> Result<(), Failure> {
    let text = crate::aws::template()?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing the template to stdout")?;
    Ok(())
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).context("writing the report")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("writing the report to stdout")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_an_operator() {
        assert_eq!(word(" approve  removal "), Some(Operator::Approve(ApprovalGate::Removal)));
        assert_eq!(word("abort"), Some(Operator::Abort));
        assert_eq!(word("rollback"), Some(Operator::RollBack));
        assert_eq!(word("approve"), None);
        assert_eq!(word("yes"), None);
    }
}
