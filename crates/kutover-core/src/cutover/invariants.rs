//! What must hold after every step, in release builds too. A broken one stops the machine before it does harm.

use super::{Command, Cutover, Output, Progress, Retirement, State};

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
        // Fence and isolation fall on the cluster that producers have left, never on the one they belong to.
        Command::RaiseFence { old, .. } | Command::Isolate { old, .. }
            if active.is_none_or(|target| target.colour == old.colour) =>
        {
            Err(format!("{} on {}, where producers belong", command.name(), old.colour))
        }
        // The mark goes in after everything was proven on closed segments; destruction follows the mark alone.
        Command::MarkRemoval { mark, .. } => match &progress.state {
            State::Retiring(closed, _, Retirement::Mark) if closed.mark() == *mark => {
                let generation = closed.redirected.left;
                progress
                    .chain
                    .closed_ends(generation)
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
