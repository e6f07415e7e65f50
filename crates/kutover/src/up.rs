//! `up`: carries out the cutover that a configuration file describes. The demo runs this very code on its own file.

use std::path::Path;

use kutover_controller::config::Config;
use kutover_controller::driver::{Controller, Finished, Operator};
use kutover_core::cutover::{Event, Stop};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::wire::{Hosts, wire};

/// Reads a configuration.
///
/// # Errors
/// What is wrong with it: file, line, field, fix.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|error| Failure::Input(error.into()))
}

/// Makes the deployment kutover's, and nothing else.
///
/// # Errors
/// It could not be adopted, and why.
pub(crate) async fn adopt(
    path: &Path,
    hosts: &mut Hosts,
    events: impl FnMut(Event) + Send,
) -> Result<Finished, Failure> {
    let finished = controller(path, hosts).await?.adopt(events).await.map_err(anyhow::Error::from)?;
    match &finished.stop {
        Stop::Adopted => Ok(finished),
        other => Err(Failure::Run(anyhow::anyhow!("the deployment could not be adopted: {}", reason(other)))),
    }
}

/// Runs the cutover to its end, whichever that is.
///
/// # Errors
/// Bad configuration, or a journal that could not be read or written.
pub(crate) async fn run(
    path: &Path,
    hosts: &mut Hosts,
    operator: mpsc::UnboundedReceiver<Operator>,
    events: impl FnMut(Event) + Send,
) -> Result<Finished, Failure> {
    let controller = controller(path, hosts).await?;
    Ok(controller.run(operator, events).await.map_err(anyhow::Error::from)?)
}

async fn controller(path: &Path, hosts: &mut Hosts) -> Result<Controller, Failure> {
    let config = load(path)?;
    let backends = wire(&config, hosts).await?;
    Ok(Controller::new(config.cutover_plan(), config.deployment(), backends))
}

/// The outcome's name in a report.
pub(crate) fn outcome(stop: &Stop) -> &'static str {
    match stop {
        Stop::Complete => "complete",
        Stop::Adopted => "adopted",
        Stop::Aborted(_) => "aborted",
        Stop::Held(_) => "held",
        Stop::Refused(_) => "refused",
        Stop::Superseded(_) => "superseded",
        Stop::Broken(_) => "broken",
    }
}

/// Why it did not complete.
pub(crate) fn reason(stop: &Stop) -> String {
    match stop {
        Stop::Complete | Stop::Adopted => String::new(),
        Stop::Aborted(reason)
        | Stop::Held(reason)
        | Stop::Refused(reason)
        | Stop::Superseded(reason)
        | Stop::Broken(reason) => reason.clone(),
    }
}
