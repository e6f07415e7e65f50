//! `kutover provision FILE`: makes the cluster that a deployment begins with. Every later one is made by a cutover.

use std::io::Write as _;
use std::time::Duration;

use anyhow::anyhow;
use kutover_controller::config::Config;
use kutover_core::error::{ProviderResult, Retry};
use kutover_core::ports::{Incarnation, RecordData};
use kutover_core::words::Nonce;
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::ProvisionOptions;
use crate::command::print_json;
use crate::failure::Failure;
use crate::plan::endpoints;
use crate::up;
use crate::wire::{Hosts, provisioner};

/// Between two questions whether it is done.
const PAUSE: Duration = Duration::from_secs(2);

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    deployment: String,
    incarnation: Incarnation,
}

/// Makes the cluster of the active colour, unless the deployment has begun already.
///
/// # Errors
/// Bad input, a deployment that has begun, or whatever the platform says.
pub(crate) async fn run(options: &ProvisionOptions) -> Result<(), Failure> {
    let config = up::load(&options.file)?;
    check_not_begun(&config).await?;
    let colour = config.plan.active;
    let by = provisioner(&config, &Hosts::default(), colour).await?;
    // The same each time: who was interrupted finds what was begun.
    let request = Nonce::new(format!("{}-first", config.deployment));
    let mut err = std::io::stderr();
    let _ = writeln!(err, "making {colour}; this can take many minutes");
    let limit = config.plan.hold_limit;
    let incarnation =
        until_done(limit, || by.provision(colour, &request)).await.map_err(anyhow::Error::from)?;
    let leads_to = match &incarnation.endpoint {
        RecordData::Cname(name) => name.to_string(),
        RecordData::Addresses(addresses) => {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    };
    let (id, bootstrap) = (&incarnation.id, incarnation.bootstrap.join(","));
    let _ = writeln!(
        err,
        "{colour} is {id}: clients bootstrap from {bootstrap}; point the endpoints at {leads_to}"
    );
    if options.json {
        let deployment = config.deployment.to_string();
        print_json(&Report { schema: "kutover.provision/1", deployment, incarnation })?;
    }
    Ok(())
}

/// A deployment that has an owner record has a cluster, and its next one is a cutover's to make.
async fn check_not_begun(config: &Config) -> Result<(), Failure> {
    for (name, seen) in endpoints(config).await? {
        let seen =
            seen.map_err(|reason| Failure::Run(anyhow!("whether {name} is in use is not known: {reason}")))?;
        if let Some(owner) = seen.owner {
            let (deployment, target) = (owner.deployment, owner.target);
            return Err(Failure::Input(anyhow!(
                "deployment {deployment} has begun: {name} leads to {} in generation {}; `kutover up` makes the next cluster",
                target.colour,
                target.generation
            )));
        }
    }
    Ok(())
}

/// Asks again while the answer is that it is to be asked later, for `limit` from the first such answer.
async fn until_done<F>(limit: Duration, ask: impl Fn() -> F) -> ProviderResult<Incarnation>
where
    F: Future<Output = ProviderResult<Incarnation>>,
{
    let mut deadline = None;
    let mut said = String::new();
    loop {
        let error = match ask().await {
            Err(error) if error.retry == Retry::Later => error,
            done => return done,
        };
        let now = Instant::now();
        if now >= *deadline.get_or_insert(now + limit) {
            return Err(error);
        }
        if said != error.reason {
            let _ = writeln!(std::io::stderr(), "  {}", error.reason);
            said = error.reason;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use kutover_core::error::{ErrorKind, ProviderError};
    use kutover_core::words::Colour;

    use super::*;

    fn made() -> Incarnation {
        Incarnation {
            id: "one".into(),
            colour: Colour::Blue,
            bootstrap: vec!["127.8.8.1:9".into()],
            controller_bootstrap: vec!["127.8.8.1:9".into()],
            endpoint: RecordData::Cname("a.test".into()),
        }
    }

    fn later(_: u32) -> ProviderResult<Incarnation> {
        Err(ProviderError::new(ErrorKind::Unavailable, "make it", "3 of 9"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_asked_for_again_and_not_for_ever() {
        let asked = AtomicU32::new(0);
        let third = |number: u32| if number < 2 { later(number) } else { Ok(made()) };
        let ask = async || third(asked.fetch_add(1, Ordering::SeqCst));
        assert_eq!(until_done(Duration::from_secs(60), ask).await.unwrap(), made());
        let error = until_done(Duration::from_secs(60), async || later(0)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let refused = || ProviderError::new(ErrorKind::Refused, "make it", "no quota");
        let error = until_done(Duration::from_secs(60), async || Err(refused())).await.unwrap_err();
        assert_eq!(error, refused());
    }

    /// The command is asked under the same request each time, and its answer is the cluster.
    #[tokio::test]
    async fn the_first_cluster_is_made_by_the_active_colours_provisioner() {
        let directory = tempfile::tempdir().unwrap();
        let script = r#"cat >>"$STATE/asked"
            [ -e "$STATE/begun" ] || { touch "$STATE/begun"; echo '{"pending": "soon"}'; exit; }
            echo '{"incarnation": {"id": "one", "bootstrap": ["127.8.8.1:9"], "endpoint": {"cname": "a.test"}}}'"#;
        let text = format!(
            "deployment = \"orders\"\njournal = \"journal\"\nendpoints = [{{ name = \"kafka.orders.test\", port = 9092 }}]\n\
             [dns]\nkind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:0\"\nttl_s = 5\n\
             [clusters.blue.provisioner]\nkind = \"exec\"\ncommand = [\"sh\", \"-c\", {script:?}]\n\
             environment = {{ STATE = {:?} }}\n\
             [clusters.green.provisioner]\nkind = \"static\"\nbootstrap = [\"127.8.8.2:9\"]\n\
             endpoint = {{ addresses = [\"127.8.8.2\"] }}\n",
            directory.path()
        );
        let file = directory.path().join("orders.toml");
        std::fs::write(&file, text).unwrap();
        run(&ProvisionOptions { file, json: false }).await.unwrap();
        let asked = std::fs::read_to_string(directory.path().join("asked")).unwrap();
        assert_eq!(asked.matches(r#""act":"provision","request":"orders-first""#).count(), 2, "{asked}");
    }
}
