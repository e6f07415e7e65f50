//! `up`: carries out the cutover that a configuration file describes. The demo runs this very code on its own file.

use std::path::Path;

use kutover_controller::config::Config;
use kutover_controller::driver::{Controller, Finished, Operator};
use kutover_core::cutover::{Event, Stop};
use kutover_core::decisions::fence::Means;
use kutover_core::words::Colour;
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

/// Runs the cutover to its end, whichever that is. One that was rolled back is begun anew if that is said.
///
/// # Errors
/// Bad configuration, or a journal that could not be read or written.
pub(crate) async fn run(
    path: &Path,
    hosts: &mut Hosts,
    again: bool,
    operator: mpsc::UnboundedReceiver<Operator>,
    events: impl FnMut(Event) + Send,
) -> Result<Finished, Failure> {
    let mut controller = controller(path, hosts).await?;
    if again {
        controller = controller.again();
    }
    Ok(controller.run(operator, events).await.map_err(anyhow::Error::from)?)
}

async fn controller(path: &Path, hosts: &mut Hosts) -> Result<Controller, Failure> {
    let config = load(path)?;
    let backends = wire(&config, hosts).await?;
    let mut gate = config.gate();
    // An embedded cluster has a fence of its own, whatever the file says.
    for colour in Colour::BOTH {
        if hosts.lab.as_ref().is_some_and(|lab| lab.fence(colour).is_some()) {
            gate.waivers.fences.insert(colour, Means::Exec);
        }
    }
    Ok(Controller::new(config.cutover_plan(), config.deployment(), backends).with_gate(gate))
}

/// The outcome's name in a report.
pub(crate) fn outcome(stop: &Stop) -> &'static str {
    match stop {
        Stop::Complete => "complete",
        Stop::Adopted => "adopted",
        Stop::Aborted(_) => "aborted",
        Stop::RolledBack(_) => "rolled-back",
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
        | Stop::RolledBack(reason)
        | Stop::Held(reason)
        | Stop::Refused(reason)
        | Stop::Superseded(reason)
        | Stop::Broken(reason) => reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use kutover_core::cutover::StateName;
    use kutover_core::ports::{ClusterAdmin, Incarnation, NewTopic, RecordData};
    use kutover_core::words::Colour;
    use kutover_lab::embedded::{EmbeddedCluster, EmbeddedOptions};

    use super::*;
    use crate::wire::Connector;

    /// A configuration for two clusters that exist. They have nothing to be fenced with, so that is waived, and the old
    /// one stays.
    fn configuration(clusters: [&EmbeddedCluster; 2]) -> String {
        let mut text = "deployment = \"orders\"\njournal = \"orders.journal\"\n\
             endpoints = [{ name = \"kafka.orders.test\", port = 9092 }]\n\n\
             [dns]\nkind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"\nttl_s = 1\n"
            .to_owned();
        for ((colour, last), cluster) in [("blue", 1), ("green", 2)].into_iter().zip(clusters) {
            let servers =
                cluster.brokers().iter().map(|broker| format!("\"{broker}\"")).collect::<Vec<_>>().join(", ");
            text += &format!(
                "\n[clusters.{colour}.provisioner]\nkind = \"static\"\nbootstrap = [{servers}]\n\
                 endpoint = {{ addresses = [\"127.8.8.{last}\"] }}\n"
            );
        }
        text + "\n[plan]\nfence = \"waived\"\nremove_old = false\nquiet_window = \"100ms\"\nsoak = \"0s\"\n\
                converge_deadline = \"500ms\"\ndrain_poll = \"20ms\"\nhold_limit = \"20s\"\n\
                watch = \"100ms\"\nwaive_retention = \"*\"\nwaive_transactions = \"*\"\nwaive_auto_create = true\n\
                separation_head_room = 1000\n"
    }

    /// What the documentation shows can be run: `up` accepts every field and every kind in it.
    #[tokio::test]
    async fn the_example_of_the_documentation_can_be_run() {
        let page = include_str!("../../../docs/configuration.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let example = example.replace("127.0.0.1:5353", "127.0.0.1:0");
        // Built without TLS, librdkafka refuses these four.
        let (before, after) = example.split_once("[clusters.green.properties]").unwrap();
        let plan = &after[after.find("[plan]").unwrap()..];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.toml");
        std::fs::write(directory.path().join("green.password"), "never shown\n").unwrap();
        for (text, runs) in [(example.clone(), cfg!(feature = "tls")), (format!("{before}{plan}"), true)] {
            std::fs::write(&path, text).unwrap();
            let config = load(&path).map_err(|failure| failure.to_string()).unwrap();
            let wired = wire(&config, &mut Hosts::default()).await;
            if runs {
                wired.map_err(|failure| failure.to_string()).unwrap();
            }
        }
    }

    /// `up` on clusters that exist already, as a user runs it: nothing but a file.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_is_all_it_takes() {
        let blue = EmbeddedCluster::start(EmbeddedOptions::default()).await.unwrap();
        let green = EmbeddedCluster::start(EmbeddedOptions::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.toml");
        std::fs::write(&path, configuration([&blue, &green])).unwrap();
        let topic = NewTopic { name: "orders".into(), partitions: 3, replication: 1, configs: [].into() };
        let servers = vec![blue.bootstrap_servers()];
        let old = Incarnation {
            id: "test".into(),
            colour: Colour::Blue,
            bootstrap: servers.clone(),
            controller_bootstrap: servers,
            endpoint: RecordData::Addresses(vec![]),
        };
        let connector = Connector::new(&Config::load(&path).unwrap(), None).unwrap();
        connector.admin(&old).await.unwrap().create_topic(&topic).await.unwrap();

        let mut hosts = Hosts::default();
        let mut states = Vec::new();
        let (_operator, words) = mpsc::unbounded_channel();
        let running = run(&path, &mut hosts, false, words, |event| {
            if let Event::Entered { state } = event {
                states.push(state);
            }
        });
        let finished = tokio::time::timeout(std::time::Duration::from_secs(60), running).await.unwrap();
        let finished = finished.map_err(|failure| failure.to_string()).unwrap();
        assert_eq!((&finished.stop, outcome(&finished.stop)), (&Stop::Complete, "complete"));
        assert_eq!(states.last(), Some(&StateName::Complete));
        let published = finished.progress.published.unwrap();
        assert_eq!((published.colour, published.cluster_id), (Colour::Green, green.cluster_id()));
    }
}
