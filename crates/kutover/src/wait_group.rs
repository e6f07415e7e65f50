//! `wait-group`: for a pipeline that deploys consumers anew, with the new cluster's address, once they may go on.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kutover_controller::config::Config;
use kutover_controller::driver::observe;
use kutover_core::cutover::Release;
use kutover_core::drain::prove;
use kutover_core::words::{Colour, GroupId};
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::WaitGroupOptions;
use crate::command::print_json;
use crate::drain::{progress, query, required};
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

/// Whether the group was released, and the command that was to follow succeeded.
pub(crate) async fn run(options: WaitGroupOptions) -> Result<bool, Failure> {
    let config = load(&options.file)?;
    let group = GroupId::new(options.group.clone());
    if config.cutover_plan().waived_groups.contains(&group) {
        return Err(Failure::Input(anyhow!(
            "field `plan.waive_groups`: nobody waits for group {group}; take it out there, or do not wait for it"
        )));
    }
    let begun = Instant::now();
    let limit = options.limit.map(|limit| Duration::from_secs(limit.into()));
    let mut said = String::new();
    let (colour, reason) = loop {
        let reason = match look(&config, &group).await {
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
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break (None, Some(reason));
        }
        tokio::time::sleep(Duration::from_secs(options.every.into())).await;
    };
    match (colour, &reason) {
        (Some(colour), _) => tell(&format!("group {group} goes on to {colour}")),
        (None, reason) => {
            tell(&format!("group {group} is not released: {}", reason.as_deref().unwrap_or_default()))
        }
    }
    if options.json {
        print_json(&WaitGroupReport {
            schema: "kutover.wait-group/1",
            deployment: config.deployment.to_string(),
            group: &group,
            released: colour.is_some(),
            colour,
            reason,
            waited_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })?;
    }
    match (colour, options.then.split_first()) {
        (Some(colour), Some((program, arguments))) => then(program, arguments, &group, colour).await,
        (colour, _) => Ok(colour.is_some()),
    }
}

fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn look(config: &Config, group: &GroupId) -> Result<Look, Failure> {
    let Some(progress) = progress(config).await? else {
        return Ok(Look::Waits("no cutover has begun".into()));
    };
    match progress.release() {
        Release::NotYet(why) => Ok(Look::Waits(why.into())),
        Release::Free(colour) => Ok(Look::Released(colour)),
        Release::Stays(why) => {
            Ok(Look::Stays(format!("it stays where it is, the cutover was undone ({why})")))
        }
        Release::Reads(old) => {
            let unread = unread(config, old.colour, group).await?;
            Ok(unread.map_or(Look::Released(old.colour.other()), Look::Waits))
        }
    }
}

/// Why a group is not done with the old cluster, if it is not.
async fn unread(config: &Config, old: Colour, group: &GroupId) -> Result<Option<String>, Failure> {
    let (there, admin) = look_at(config, old).await?;
    let (mut required, _) = required(config, &there, &admin).await?;
    required.groups.retain(|known, _| known == group);
    if required.groups.is_empty() {
        return Err(Failure::Input(anyhow!(
            "GROUP: the cutover does not wait for {group}, which has read nothing on {old}; correct the name, or name it in \
             plan.groups"
        )));
    }
    let seen = observe(&admin, &admin, query(config, &required)).await.map_err(anyhow::Error::from)?;
    let verdict = prove(&required, &seen);
    let more = verdict.remaining.len().saturating_sub(1);
    Ok(verdict.remaining.first().map(|why| format!("{why} (and {more} more)")))
}

async fn then(program: &str, arguments: &[String], group: &GroupId, colour: Colour) -> Result<bool, Failure> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env("KUTOVER_GROUP", group.as_str()).env("KUTOVER_COLOUR", colour.to_string());
    let status = command.status().await.with_context(|| format!("running {program}"))?;
    Ok(status.success())
}
