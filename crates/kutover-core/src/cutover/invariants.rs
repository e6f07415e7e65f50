//! What must hold after every step, in release builds too. A broken one stops the machine before it does harm.

use super::{Barrier, Command, ConnectAct, Cutover, Output, Progress, Retirement, Rollback, State};
use crate::chain::Chain;
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::words::Colour;

/// Compares the progress before a step with the machine after it.
pub(super) fn check(before: &Progress, after: &Cutover) -> Result<(), String> {
    generation_only_grows(before, &after.progress)?;
    for output in &after.outputs {
        if let Output::Run(_, command) = output {
            acts_on_the_right_cluster(command, &after.progress)?;
        }
    }
    Ok(())
}

fn generation_only_grows(before: &Progress, after: &Progress) -> Result<(), String> {
    match (&before.published, &after.published) {
        (Some(old), Some(new)) if new.generation < old.generation => {
            Err(format!("generation went from {} back to {}", old.generation, new.generation))
        }
        (Some(_), None) => Err("the published target was forgotten".into()),
        _ => Ok(()),
    }
}

fn acts_on_the_right_cluster(command: &Command, progress: &Progress) -> Result<(), String> {
    let active = progress.published.as_ref();
    match command {
        // In a rollback the active cluster is what intent and chain say.
        Command::RaiseFence { old, .. } if closes(&progress.state, old.colour) => Ok(()),
        // Fence and isolation fall on the cluster that producers have left, never on the one they belong to.
        Command::RaiseFence { old, .. } | Command::Isolate { old, .. }
            if active.is_none_or(|target| target.colour == old.colour) =>
        {
            Err(format!("{} on {}, where producers belong", command.name(), old.colour))
        }
        // What a source writes belongs where producers do, and a sink reads on there.
        Command::Connect(connect)
            if connect.act == ConnectAct::Start
                && active.is_none_or(|target| target.colour != connect.to.incarnation.colour) =>
        {
            Err(format!(
                "{} on {}, where producers do not belong",
                command.name(),
                connect.to.incarnation.colour
            ))
        }
        Command::Publish { target, .. } => opens(&progress.state, target, &progress.chain),
        // The mark goes in after everything was proven on closed segments; destruction follows the mark alone.
        Command::MarkRemoval { mark, .. } => match &progress.state {
            State::Retiring(closed, _, Retirement::Mark) if closed.mark() == *mark => {
                let generation = closed.redirected.left;
                progress
                    .chain
                    .closed_ends(generation, &closed.redirected.prepared.verified.partitions())
                    .map(|_| ())
                    .ok_or_else(|| format!("mark of removal while generation {generation} is open"))
            }
            _ => {
                Err("mark of removal outside of Retiring, or for another incarnation than the proven one"
                    .into())
            }
        },
        Command::Destroy { colour, mark } => match &progress.state {
            State::Retiring(closed, _, Retirement::Destroy)
                if closed.mark() == *mark && active.is_some_and(|target| target.colour != *colour) =>
            {
                Ok(())
            }
            _ => Err("destroy without the mark, or of the cluster where producers belong".into()),
        },
        Command::Discard { colour, keep, .. }
            if active.is_none_or(|target| target.colour == *colour || target != keep) =>
        {
            Err(format!("discard of {colour}, where producers belong"))
        }
        _ => Ok(()),
    }
}

fn closes(state: &State, colour: Colour) -> bool {
    matches!(state, State::RollingBack(way, Rollback::Raise) if way.away().colour == colour)
}

/// Nobody is pointed anywhere before the chain says where that generation starts, and in a rollback with a fence before
/// it says where the one that is left ends.
fn opens(state: &State, target: &Target, chain: &Chain) -> Result<(), String> {
    if without(Control::PublishFirst) {
        return Ok(());
    }
    let verified = match state {
        State::Redirecting(prepared, _) => &prepared.verified,
        State::RollingBack(way, _) => &way.redirected.prepared.verified,
        _ => {
            return Err(format!(
                "generation {} is published outside of Redirecting and RollingBack",
                target.generation
            ));
        }
    };
    let opened =
        |place: &_| chain.segments(place).iter().any(|segment| segment.generation == target.generation);
    if let Some(place) = verified.partitions().iter().find(|place| !opened(place)) {
        return Err(format!("{place}: generation {} is published before it is opened", target.generation));
    }
    match state {
        State::RollingBack(way, _)
            if way.barrier == Barrier::Fence
                && chain.closed_ends(way.closing(), &verified.partitions()).is_none() =>
        {
            Err(format!("generation {} is published while {} is open", target.generation, way.closing()))
        }
        _ => Ok(()),
    }
}
