//! Controls on real Apache Kafka: what is let in there when a defence is missing.
//!
//! The scenes are one test program, which plays all of them with every defence in place, and otherwise the one of the
//! defence that is taken out. Only its own words count as noticing: a broker that does not start has shown nothing.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Result, bail, ensure};

use super::{
    Control, built, controls,
    process::{self, Ended},
    report::{Catch, Report, Row},
};
use crate::{programs::Program, test::Context};

/// The loss modes that depend on what real brokers do.
const LOSS_MODES: [u64; 8] = [8, 10, 11, 12, 16, 17, 18, 19];

/// What the scenes are called in a report.
const SUITE: &str = "kafka";

/// What became of the scenes.
pub(super) enum Staged {
    /// They were played.
    Played(Report),
    /// They could not be, for want of this.
    Missing(String),
}

/// How many scenes are played at once: each waits for groups, fences and workers more than it computes.
const AT_ONCE: usize = 2;

/// Plays the scenes with every defence in place, which the test program does by itself too.
pub(super) fn play_all(context: &Context) -> Result<()> {
    let started = Instant::now();
    let (scenes, _) = built::on_kafka(context)?;
    let usual = process::run(&scenes, &[], None, process::LONG)?;
    ensure!(usual.is_success(), "{SUITE}: fails with every defence in place:\n{}", usual.output);
    println!("green with every defence: {SUITE}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Takes out the controls of [`LOSS_MODES`], or `only` some of them, and plays the scene of each.
pub(super) fn take_out_each(context: &Context, only: &[String]) -> Result<Staged> {
    let (scenes, list) = built::on_kafka(context)?;
    let all = controls(&list)?;
    let is_staged = |control: &&Control| LOSS_MODES.contains(&control.loss_mode);
    let staged: Vec<&Control> = all.iter().filter(is_staged).collect();
    for name in only {
        ensure!(staged.iter().any(|control| control.name == *name), "{name} has no scene on real Kafka");
    }
    let chosen: Vec<&Control> =
        staged.into_iter().filter(|control| only.is_empty() || only.contains(&control.name)).collect();
    let next = AtomicUsize::new(0);
    let play_some = || {
        let mut played = Vec::new();
        while let Some(control) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            played.push(take_out(&scenes, control)?);
        }
        Ok(played)
    };
    let played: Vec<Result<Vec<Took>>> = thread::scope(|scope| {
        let players: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(play_some)).collect();
        players.into_iter().map(|player| player.join().expect("a player panicked")).collect()
    });
    let mut report = Report::default();
    for took in played.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        match took {
            Took::Out(row) => report.rows.push(row),
            Took::Missing(what) => return Ok(Staged::Missing(what)),
        }
    }
    report.rows.sort_by_key(|row| chosen.iter().position(|control| control.name == row.control));
    Ok(Staged::Played(report))
}

/// What became of one scene.
enum Took {
    Out(Row),
    Missing(String),
}

fn take_out(scenes: &Program, control: &Control) -> Result<Took> {
    let started = Instant::now();
    let ended = process::run(scenes, &[], Some(control.name.as_str()), process::LONG)?;
    if let Some(what) = missing(&ended.output) {
        return Ok(Took::Missing(what.to_owned()));
    }
    let row = Row {
        loss_mode: control.loss_mode,
        control: control.name.clone(),
        what: control.what.clone(),
        tried: vec![SUITE],
        caught: let_in(control, &ended)?
            .into_iter()
            .map(|by| Catch { suite: SUITE, by, after: None })
            .collect(),
        unproven: Vec::new(),
        elapsed: started.elapsed(),
    };
    println!("{row}");
    Ok(Took::Out(row))
}

/// What a test says that a part of its world is missing.
fn missing(output: &str) -> Option<&str> {
    output.lines().find_map(|line| line.split_once("SKIPPED: ")).map(|(_, what)| what)
}

/// What was let in, in the scene's own words; nothing if all of it held. A scene shows several things, and what it says of
/// another defence, which is in its place, says nothing of the one that was taken out.
fn let_in(control: &Control, ended: &Ended) -> Result<Option<String>> {
    if ended.is_success() {
        return Ok(None);
    }
    let its_own = format!("L{} {}: ", control.loss_mode, control.name);
    let mut said = ended.output.lines().filter_map(|line| line.strip_prefix("LET IN: "));
    match said.find(|what| what.starts_with(&its_own)) {
        Some(what) => Ok(Some(what.to_owned())),
        None => {
            bail!("{SUITE}: {}: it failed, and not over what that let in:\n{}", control.name, ended.output)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn ended(code: u8, output: &str) -> Ended {
        let status = Command::new("/bin/sh").args(["-c", &format!("exit {code}")]).status().unwrap();
        Ended { status: Some(status), output: output.to_owned() }
    }

    fn control(loss_mode: u64, name: &str) -> Control {
        Control { name: name.to_owned(), loss_mode, what: String::new() }
    }

    #[test]
    fn only_what_was_let_in_counts_as_noticing() {
        let said = "thread 'a' panicked at losses/main.rs:1:1:\nLET IN: L10 tail-unread: for ever\nnote: run";
        let tail = &control(10, "tail-unread");
        assert_eq!(let_in(tail, &ended(101, said)).unwrap().as_deref(), Some("L10 tail-unread: for ever"));
        assert_eq!(let_in(tail, &ended(0, "test a ... ok")).unwrap(), None);
        assert!(
            let_in(&control(19, "sinks-early"), &ended(101, said)).is_err(),
            "nor do another one's words"
        );
        assert!(
            let_in(&control(10, "tail"), &ended(101, said)).is_err(),
            "nor those of one of a longer name"
        );
        assert!(let_in(tail, &ended(101, "a broker does not start")).is_err());
        assert!(let_in(tail, &Ended { status: None, output: String::new() }).is_err(), "nor does hanging");
    }

    #[test]
    fn a_world_that_is_not_here_is_seen() {
        assert_eq!(missing("running 1 test\nSKIPPED: a_test: Java 17\n"), Some("a_test: Java 17"));
        assert_eq!(missing("test a ... ok"), None);
    }
}
