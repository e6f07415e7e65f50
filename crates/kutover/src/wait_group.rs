//! `wait-group`: for a pipeline that deploys consumers anew, with the new cluster's address, once they may go on.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kutover_controller::config::Config;
use kutover_controller::driver::observe;
use kutover_core::cutover::{Progress, Release};
use kutover_core::drain::prove;
use kutover_core::ports::ClusterAdmin as _;
use kutover_core::words::{Colour, GroupId};
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::WaitGroupOptions;
use crate::command::print_json;
use crate::drain::{checkpoints, query, required};
use crate::failure::Failure;
use crate::up::load;
use crate::wire::look_at;

/// What `wait-group --json` prints.
#[derive(Serialize)]
struct WaitGroupReport<'a> {
    schema: &'static str,
    deployment: String,
    group: &'a GroupId,
    /// Whether it may go on.
    released: bool,
    /// Where it belongs; `None` while that is not known.
    colour: Option<Colour>,
    /// Why it was not released.
    reason: Option<String>,
    waited_ms: u64,
}

/// What a look came to.
enum Look {
    Released(Colour),
    Waits(String),
    Stays(String),
}

/// The exit status of a group that was not released.
const NOT_RELEASED: u8 = 1;

/// Waits for the group's release, and runs what is to follow. Gives the exit status: that of the command, where there is one.
pub(crate) async fn run(options: WaitGroupOptions) -> Result<u8, Failure> {
    let config = load(&options.file)?;
    let group = GroupId::new(options.group.clone());
    if config.cutover_plan().waived_groups.contains(&group) {
        return Err(Failure::Input(anyhow!(
            "field `plan.waive_groups`: nobody waits for group {group}; take it out there, or do not wait for it"
        )));
    }
    let begun = Instant::now();
    let limit = options.limit.map(|limit| Duration::from_secs(limit.into()));
    let (mut said, mut watch) = (String::new(), Watch::new(&config, &group));
    let (colour, reason) = loop {
        let reason = match watch.look().await {
            Ok(Look::Released(colour)) => break (Some(colour), None),
            Ok(Look::Stays(why)) => break (None, Some(why)),
            Ok(Look::Waits(why)) => why,
            Err(Failure::Run(error)) => format!("{error:#}"), // It may answer again.
            Err(error) => return Err(error),
        };
        if reason != said {
            tell(&format!("group {group} waits: {reason}"));
            said.clone_from(&reason);
        }
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(begun.elapsed()));
        if left.is_zero() {
            break (None, Some(reason));
        }
        tokio::time::sleep(left.min(Duration::from_secs(options.every.into()))).await;
    };
    match (colour, &reason) {
        (Some(colour), _) => tell(&format!("group {group} goes on to {colour}")),
        (None, reason) => {
            tell(&format!("group {group} is not released: {}", reason.as_deref().unwrap_or_default()))
        }
    }
    let waited = begun.elapsed();
    let status = match (colour, options.then.split_first()) {
        (Some(colour), Some((program, arguments))) => then(program, arguments, &group, colour).await?,
        (Some(_), None) => 0,
        (None, _) => NOT_RELEASED,
    };
    // What follows may write to stdout as well: the object is its last line.
    if options.json {
        print_json(&WaitGroupReport {
            schema: "kutover.wait-group/1",
            deployment: config.deployment.to_string(),
            group: &group,
            released: colour.is_some(),
            colour,
            reason,
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        })?;
    }
    Ok(status)
}

fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Looks, again and again, where one group belongs.
struct Watch<'a> {
    config: &'a Config,
    to: Colour,
    group: &'a GroupId,
    /// The cutover that was undone before the first look; `None` before that.
    undone_before: Option<Option<u64>>,
    /// Whether the old cluster was found to have such a group.
    is_known: bool,
}

impl<'a> Watch<'a> {
    fn new(config: &'a Config, group: &'a GroupId) -> Self {
        Self { config, to: config.cutover_plan().to, group, undone_before: None, is_known: false }
    }

    async fn look(&mut self) -> Result<Look, Failure> {
        let mut checkpoints = checkpoints(self.config).await?;
        let newest = checkpoints.next();
        let undone = newest.as_ref().filter(|progress| progress.is_undone()).map(|progress| progress.cutover);
        let undone_before = *self.undone_before.get_or_insert(undone);
        let Some(progress) = newest.as_ref() else {
            self.is_waited_for(None).await?;
            return Ok(Look::Waits("no cutover has begun".into()));
        };
        match progress.release(self.to) {
            Release::NotYet(why) => {
                self.is_waited_for(Some(progress)).await?;
                Ok(Look::Waits(why.into()))
            }
            Release::Free(colour) => {
                let recorded = newest.into_iter().chain(checkpoints);
                self.was_waited_for(recorded).await?;
                Ok(Look::Released(colour))
            }
            Release::Stays(why) => {
                // It stays where it is, whoever does not answer.
                if let Err(Failure::Input(error)) = self.is_waited_for(Some(progress)).await {
                    return Err(Failure::Input(error));
                }
                // One that was undone before says nothing of the one that is to come.
                if undone.is_some() && undone == undone_before {
                    return Ok(Look::Waits(format!(
                        "the last cutover was undone ({why}), no other has begun"
                    )));
                }
                Ok(Look::Stays(format!("it stays where it is, the cutover was undone ({why})")))
            }
            Release::Reads(old) => {
                let unread = unread(self.config, old.colour, self.group).await?;
                Ok(unread.map_or(Look::Released(old.colour.other()), Look::Waits))
            }
        }
    }

    fn is_named(&self) -> bool {
        self.config.plan.groups.contains(self.group)
    }

    /// Refuses a group that the cutover which is under way or yet to come does not wait for.
    async fn is_waited_for(&mut self, newest: Option<&Progress>) -> Result<(), Failure> {
        let recorded = newest.and_then(|progress| progress.recorded(self.to));
        if self.is_known || self.is_named() || recorded.is_some_and(|all| all.contains_key(self.group)) {
            return Ok(());
        }
        let old = self.to.other();
        let (there, admin) = look_at(self.config, old).await?;
        let (required, _) = required(self.config, &there, &admin).await?;
        self.is_known = required.groups.contains_key(self.group);
        if self.is_known { Ok(()) } else { Err(unknown(self.group, old)) }
    }

    /// Refuses a group that the cutover which is over did not wait for. The old cluster may be gone: the journal says it,
    /// or, where no cutover led here, the cluster that serves.
    async fn was_waited_for(&self, mut checkpoints: impl Iterator<Item = Progress>) -> Result<(), Failure> {
        if self.is_known || self.is_named() {
            return Ok(());
        }
        let waited_for = |progress: Progress| Some(progress.recorded(self.to)?.contains_key(self.group));
        let known = match checkpoints.find_map(waited_for) {
            Some(known) => known,
            None => {
                let (_, admin) = look_at(self.config, self.to).await?;
                let listing = admin.groups().await.map_err(anyhow::Error::from)?;
                listing.listed().contains_key(self.group)
            }
        };
        if known { Ok(()) } else { Err(unknown(self.group, self.to.other())) }
    }
}

fn unknown(group: &GroupId, old: Colour) -> Failure {
    Failure::Input(anyhow!(
        "GROUP: the cutover does not wait for {group}, which has read nothing on {old}; correct the name, or name it in \
         plan.groups"
    ))
}

/// Why a group is not done with the old cluster, if it is not.
async fn unread(config: &Config, old: Colour, group: &GroupId) -> Result<Option<String>, Failure> {
    let (there, admin) = look_at(config, old).await?;
    let (mut required, _) = required(config, &there, &admin).await?;
    required.groups.retain(|known, _| known == group);
    if required.groups.is_empty() {
        return Err(unknown(group, old));
    }
    let seen = observe(&admin, &admin, query(config, &required)).await.map_err(anyhow::Error::from)?;
    let verdict = prove(&required, &seen);
    let more = verdict.remaining.len().saturating_sub(1);
    Ok(verdict.remaining.first().map(|why| format!("{why} (and {more} more)")))
}

/// Runs what follows. Its status is as a shell has it: that of a command which a signal ended is 128 and the signal's number.
async fn then(program: &str, arguments: &[String], group: &GroupId, colour: Colour) -> Result<u8, Failure> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env("KUTOVER_GROUP", group.as_str()).env("KUTOVER_COLOUR", colour.to_string());
    let status = command.status().await.with_context(|| format!("running {program}"))?;
    let status = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(status.and_then(|status| u8::try_from(status).ok()).unwrap_or(NOT_RELEASED))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kutover_controller::journal::FileJournal;
    use kutover_core::cutover::{Record, State};
    use kutover_core::owner::Target;
    use kutover_core::ports::{Journal as _, JournalEntry};
    use kutover_core::words::{Generation, Term};

    use super::*;

    /// Two clusters of which none answers, so that whatever is known is in the journal.
    fn config(directory: &Path, plan: &str) -> Config {
        let cluster = |last: u8| {
            format!(
                "provisioner = {{ kind = \"static\", bootstrap = [\"127.8.8.{last}:9\"], endpoint = {{ addresses = \
                 [\"127.8.8.{last}\"] }} }}"
            )
        };
        let text = format!(
            "deployment = \"orders\"\njournal = \"orders.journal\"\n\
             endpoints = [{{ name = \"kafka.orders.test\", port = 9092 }}]\n\
             dns = {{ kind = \"local\", zone = \"orders.test\", listen = \"127.0.0.1:0\", ttl_s = 1 }}\n\
             [clusters.blue]\n{}\n[clusters.green]\n{}\n[plan]\n{plan}\n",
            cluster(1),
            cluster(2)
        );
        let path = directory.join("orders.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).unwrap()
    }

    async fn journal(directory: &Path, index: u64, progress: Progress) {
        let journal = FileJournal::open(&directory.join("orders.journal")).await.unwrap();
        let body = serde_json::to_value(Record::Checkpoint { progress: Box::new(progress) }).unwrap();
        journal.append(&JournalEntry { index, term: Term(1), body }).await.unwrap();
    }

    fn said(look: Result<Look, Failure>) -> String {
        match look {
            Ok(Look::Waits(why)) => format!("waits: {why}"),
            Ok(Look::Stays(why)) => format!("stays: {why}"),
            Ok(Look::Released(colour)) => format!("goes on to {colour}"),
            Err(failure) => format!("{}: {failure}", failure.status()),
        }
    }

    fn complete(colour: Colour) -> Progress {
        let target = Target {
            generation: Generation(2),
            colour,
            cluster_id: "cluster".into(),
            bootstrap: vec!["127.8.8.2:9".into()],
        };
        Progress { published: Some(target), state: State::Complete, ..Progress::default() }
    }

    /// L19: what an earlier cutover came to releases nobody for the next one, the way back.
    #[tokio::test]
    async fn a_cutover_that_is_over_releases_nobody_for_the_way_back() {
        let directory = tempfile::tempdir().unwrap();
        journal(directory.path(), 0, complete(Colour::Green)).await;
        let billing = GroupId::new("billing");
        let back = config(directory.path(), "to = \"blue\"\ngroups = [\"billing\"]");
        let waits = said(Watch::new(&back, &billing).look().await);
        assert_eq!(waits, "waits: the cutover that leads there has not begun yet");
        let there = config(directory.path(), "to = \"green\"\ngroups = [\"billing\"]");
        assert_eq!(said(Watch::new(&there, &billing).look().await), "goes on to green");
    }

    /// One that was undone before a look was ever taken says nothing of the one that is to come.
    #[tokio::test]
    async fn a_cutover_that_was_undone_before_is_waited_past() {
        let directory = tempfile::tempdir().unwrap();
        let undone = |cutover| {
            let state = State::Aborted("asked for by the operator".into());
            Progress { cutover, state, ..Progress::default() }
        };
        journal(directory.path(), 0, undone(1)).await;
        let (config, group) = (config(directory.path(), "groups = [\"billing\"]"), GroupId::new("billing"));
        let mut watch = Watch::new(&config, &group);
        for _ in 0..2 {
            let waits = said(watch.look().await);
            assert!(waits.starts_with("waits: the last cutover was undone (asked for"), "{waits}");
        }
        journal(directory.path(), 1, undone(2)).await;
        let stays = said(watch.look().await);
        assert!(stays.starts_with("stays: it stays where it is, the cutover was undone"), "{stays}");
    }
}
