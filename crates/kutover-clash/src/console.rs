//! Apache Kafka's console producer: a stock Java producer that sends what it reads, one record after the other.
//!
//! It comes with the jars that the lab has anyway, and needs no compiler, which a Java runtime does not bring along.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::world::World;
use crate::{AFTER, BOUND};

/// The clients' own defaults, where the console producer has others.
const DEFAULTS: [&str; 3] = ["retries=2147483647", "linger.ms=5", "request.timeout.ms=30000"];

pub(crate) struct ConsoleProducer {
    process: Child,
    input: ChildStdin,
}

impl ConsoleProducer {
    /// With `--sync` each record is acknowledged before the next one is read, and the first that is not ends the program
    /// with an error.
    pub(crate) async fn start(world: &World, bootstrap: &str, topic: &str) -> Result<Self> {
        let mut command = Command::new(world.java());
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(world.class_path().await?);
        command.args(["org.apache.kafka.tools.ConsoleProducer", "--sync"]);
        command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
        for setting in DEFAULTS {
            command.args(["--command-property", setting]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("the console producer does not start")?;
        let input = process.stdin.take().context("the console producer has no input")?;
        Ok(Self { process, input })
    }

    pub(crate) async fn send(&mut self, records: &[String]) -> Result<()> {
        for record in records {
            self.input
                .write_all(format!("{record}\n").as_bytes())
                .await
                .context("the console producer ended")?;
        }
        self.input.flush().await.context("the console producer ended")
    }

    /// Closes its input and waits until it has sent everything.
    pub(crate) async fn finish(self) -> Result<()> {
        let Self { process, input } = self;
        drop(input);
        let bound = BOUND * u32::try_from(AFTER.len()).unwrap_or(1);
        let ended = timeout(bound, process.wait_with_output()).await;
        let output = ended.context("the console producer does not end")??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("the console producer's records were not all acknowledged ({}): {said}", output.status);
        }
        Ok(())
    }
}
