//! The clash of producer ids (L16), on real Apache Kafka and with stock clients.
//!
//! Two fresh clusters give out the same producer ids. P has written three records to blue. Q, to whom green gave the id
//! that P has from blue, has written five to green, one a batch. Then blue goes away and the name leads to green: P, a
//! stock client that re-bootstraps, goes on there with its id and sequence numbers, as whom green knows Q. What P sends
//! under a sequence that Q used is acknowledged, with the offset of Q's record, and thrown away.
//!
//! With the ids of green raised above all of blue's, nothing of P's is known there and all of it is taken.

mod console;
mod librdkafka;
mod world;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use tokio::time::timeout;

pub use world::{BLUE, GREEN, World};

/// What P sends to blue.
const BEFORE: std::ops::Range<usize> = 0..3;
/// What P sends after blue is gone. The first of them meet what green remembers of Q: five batches.
const AFTER: std::ops::Range<usize> = 3..8;
/// What Q sends to green.
const OF_Q: usize = 5;
/// The bound on one record's acknowledgement, the re-bootstrap included.
const BOUND: Duration = Duration::from_secs(90);

/// Which stock client P is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Apache Kafka's own console producer, on kafka-clients of green's version.
    Java,
    /// librdkafka, as the rdkafka crate brings it.
    Librdkafka,
}

impl Client {
    /// Both of them.
    pub const BOTH: [Client; 2] = [Client::Java, Client::Librdkafka];

    /// Its name and version.
    pub fn version(self) -> String {
        match self {
            Client::Java => format!("kafka-clients {GREEN}"),
            Client::Librdkafka => format!("librdkafka {}", rdkafka::util::get_rdkafka_version().1),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Client::Java => "java",
            Client::Librdkafka => "librdkafka",
        }
    }
}

/// What one half came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Half {
    /// Which client P was.
    pub client: Client,
    /// Its name and version.
    pub version: String,
    /// Whether green's ids had been separated from blue's.
    pub separated: bool,
    /// The id that blue gave to P.
    pub id_of_p: u64,
    /// The id that green gave to Q.
    pub id_of_q: u64,
    /// Records of P that were acknowledged.
    pub acknowledged: usize,
    /// Of those, the ones that blue holds.
    pub in_blue: usize,
    /// Of those, the ones that green holds.
    pub in_green: usize,
    /// Of those, the ones that no cluster holds.
    pub lost: Vec<String>,
}

impl Half {
    /// Whether it shows what it is there for: every record is acknowledged, and some are lost without separation and
    /// none with it.
    pub fn shows(&self) -> bool {
        self.acknowledged == AFTER.end && self.lost.is_empty() == self.separated
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<22} {:<8} separation: {} acknowledged, {} in blue, {} in green, {} lost",
            self.version,
            if self.separated { "with" } else { "without" },
            self.acknowledged,
            self.in_blue,
            self.in_green,
            self.lost.len()
        )?;
        if !self.lost.is_empty() {
            write!(f, " ({})", self.lost.join(", "))?;
        }
        write!(f, "; ids of P and Q: {} and {}", self.id_of_p, self.id_of_q)
    }
}

/// Both halves for both clients, each as soon as it is done. Halves without separation come first: separating is for
/// good.
///
/// # Errors
/// A server or client fails, or the ids do not come out as the recipe wants them. What a half came to is no error.
pub async fn reproduce(world: &World, mut tell: impl FnMut(&Half)) -> Result<Vec<Half>> {
    let mut halves = Vec::new();
    for separated in [false, true] {
        for client in Client::BOTH {
            let half = half(world, client, separated).await;
            let half = half.with_context(|| format!("{} (separated: {separated})", client.name()))?;
            tell(&half);
            halves.push(half);
        }
    }
    Ok(halves)
}

/// P, whichever client it is.
enum Producer {
    Java(console::ConsoleProducer),
    Librdkafka(librdkafka::Stock),
}

impl Producer {
    async fn start(world: &World, client: Client, topic: &str) -> Result<Self> {
        let bootstrap = world.name();
        Ok(match client {
            Client::Java => Producer::Java(console::ConsoleProducer::start(world, &bootstrap, topic).await?),
            Client::Librdkafka => Producer::Librdkafka(librdkafka::Stock::new(&bootstrap, topic)?),
        })
    }

    /// Sends records, each after the one before it was acknowledged.
    async fn send(&mut self, records: &[String]) -> Result<()> {
        match self {
            Producer::Java(producer) => producer.send(records).await,
            Producer::Librdkafka(producer) => {
                for record in records {
                    timeout(BOUND, producer.send(record)).await.context("no acknowledgement in time")??;
                }
                Ok(())
            }
        }
    }

    /// Ends it, with every record that it was given acknowledged.
    async fn finish(self) -> Result<()> {
        match self {
            Producer::Java(producer) => producer.finish().await,
            Producer::Librdkafka(_) => Ok(()),
        }
    }
}

async fn half(world: &World, client: Client, separated: bool) -> Result<Half> {
    let topic = format!("clash-{}-{}", client.name(), if separated { "separated" } else { "as-it-is" });
    world.name_leads_to_blue().await?;
    world.make_topic(&topic).await?;
    if separated {
        world.separate(&topic).await?;
    } else {
        world.level_ids().await?;
    }
    let of_p = |numbers: std::ops::Range<usize>| numbers.map(|n| format!("P{n}")).collect::<Vec<_>>();
    let mut p = Producer::start(world, client, &topic).await?;
    p.send(&of_p(BEFORE)).await?;
    world.blue_holds(&topic, BEFORE.len()).await?;
    let q = librdkafka::Stock::new(&world.green_bootstrap(), &topic)?;
    for number in 0..OF_Q {
        timeout(BOUND, q.send(&format!("Q{number}"))).await.context("green does not take Q's records")??;
    }
    let (id_of_p, id_of_q) = world.writers(&topic).await?;
    if !separated {
        ensure!(id_of_p == id_of_q, "P is {id_of_p} and Q is {id_of_q}: somebody else took an id in between");
    }

    world.blue_goes_and_name_leads_to_green().await?;
    p.send(&of_p(AFTER)).await?;
    p.finish().await?;
    let acknowledged: BTreeSet<String> = of_p(0..AFTER.end).into_iter().collect();
    let (blue, green) = world.contents(&topic).await?;
    if green.iter().filter(|record| record.starts_with('Q')).count() != OF_Q {
        bail!("green does not hold Q's records: {green:?}");
    }
    Ok(Half {
        client,
        version: client.version(),
        separated,
        id_of_p,
        id_of_q,
        acknowledged: acknowledged.len(),
        in_blue: acknowledged.intersection(&blue).count(),
        in_green: acknowledged.intersection(&green).count(),
        lost: acknowledged
            .iter()
            .filter(|record| !blue.contains(*record) && !green.contains(*record))
            .cloned()
            .collect(),
    })
}
