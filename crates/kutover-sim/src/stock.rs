//! Producers outside the library: strangers, the published recipe, and clients that are moved by DNS alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::owner::Target;
use kutover_core::ports::{
    ClientEvents, Delivery, DeliveryFate, EndpointAnswer, HeadersRef, ProducerClient, RecordRef, Token,
};
use kutover_core::words::{ClusterId, Colour, Generation};
use parking_lot::Mutex;
use rand::Rng as _;

use crate::observed::{Ending, Record};
use crate::producer::Reach;
use crate::scene::Strategy;
use crate::weather::STRANGER_REFUSED;
use crate::witness::note;
use crate::world::World;

/// The recipe's timer.
const RECIPE_PERIOD: Duration = Duration::from_secs(10);

struct Stock {
    world: Arc<World>,
    number: usize,
    records: Mutex<BTreeMap<Token, usize>>,
    cluster: Mutex<ClusterId>,
}

impl Stock {
    fn end(&self, token: Token, ending: Ending) {
        let Some(record) = self.records.lock().remove(&token) else { return };
        let at_ms = self.world.now_ms();
        if self.world.scene.producers[self.number].stranger && ending == Ending::NotWritten {
            self.world.memory.faults.fire(STRANGER_REFUSED);
        }
        note!(self.world.witness, "producer {}: record {record} is {ending:?}", self.number);
        let mut observed = self.world.witness.observed();
        observed.records[record].unknown |= ending == Ending::Unknown;
        observed.records[record].endings.push((at_ms, Some(ending)));
    }
}

impl ClientEvents for Stock {
    fn delivered(&self, token: Token, delivery: Delivery) {
        let ending = match delivery {
            Delivery::Acknowledged { .. } => Ending::Acknowledged(self.cluster.lock().clone()),
            Delivery::Failed { fate: DeliveryFate::NotWritten, .. } => Ending::NotWritten,
            Delivery::Failed { fate: DeliveryFate::Unknown, .. } => Ending::Unknown,
        };
        self.end(token, ending);
    }

    fn fatal(&self, _reason: String) {}

    fn producer_id(&self, _id: i64) {}
}

/// A stock client's life. Under `recipe` it is made anew on a timer and the old one dropped as it is; otherwise it
/// stays where it is for as long as it is answered.
pub(crate) async fn live(world: Arc<World>, number: usize, reach: Reach) {
    let scene = world.scene.producers[number].clone();
    tokio::time::sleep(Duration::from_millis(scene.starts_ms)).await;
    let stock = Arc::new(Stock {
        world: Arc::clone(&world),
        number,
        records: Mutex::default(),
        cluster: Mutex::new(ClusterId::new("")),
    });
    let Some(mut client) = connect(&stock, &reach).await else { return };
    let mut renewed = tokio::time::Instant::now();
    let mut dice = world.weather.dice(10_000 + number as u64);
    let (topics, burst, mut sequence) = (world.scene.topics.len(), world.scene.burst, 0);
    while !world.is_ending() {
        let slower = 1 << (sequence / burst).min(8);
        let gap = dice.random_range(1..scene.gap_ms * 2) * slower;
        tokio::select! {
            biased;
            () = world.until_ending() => break,
            () = tokio::time::sleep(Duration::from_millis(gap)) => {}
        }
        if world.scene.strategy == Strategy::Recipe
            && renewed.elapsed() > RECIPE_PERIOD
            && let Some(new) = connect(&stock, &reach).await
        {
            // The old one goes as it is, with whatever it holds.
            client = new;
            renewed = tokio::time::Instant::now();
        }
        sequence += 1;
        send(&stock, &*client, dice.random_range(0..topics), dice.random_range(0..4), sequence);
    }
    // A proper end: what it holds is waited for, as long as its delivery time-out.
    let bound = Duration::from_millis(world.scene.delivery_timeout_ms * 2);
    let settled = async {
        while client.outstanding() > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let _ = tokio::time::timeout(bound, settled).await;
}

async fn connect(stock: &Arc<Stock>, reach: &Reach) -> Option<Arc<dyn ProducerClient>> {
    for _ in 0..1_000 {
        if let Some(target) = endpoint(stock, reach).await {
            let topics: Vec<String> =
                stock.world.scene.topics.iter().map(|(topic, _)| topic.as_str().to_owned()).collect();
            let events: Arc<dyn ClientEvents> = Arc::clone(stock) as _;
            if let Ok(client) = reach.factory.connect(&target, &topics, events).await {
                let id = client.cluster_id();
                let at_ms = stock.world.now_ms();
                let mut observed = stock.world.witness.observed();
                observed.producers[stock.number].moves.push((at_ms, id.clone()));
                drop(observed);
                *stock.cluster.lock() = id;
                return Some(client);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if stock.world.is_ending() {
            return None;
        }
    }
    None
}

/// Where the name leads, by a resolver's word alone.
async fn endpoint(stock: &Stock, reach: &Reach) -> Option<Target> {
    let nobody = || Target {
        generation: Generation(0),
        colour: Colour::Blue,
        cluster_id: ClusterId::new(""),
        bootstrap: Vec::new(),
    };
    match reach.watch.ask_now().await {
        EndpointAnswer::Found { addresses, .. } => {
            let bootstrap = addresses.iter().map(|address| format!("{address}:9092")).collect();
            Some(Target { bootstrap, ..nobody() })
        }
        // Before the deployment is kutover's, the name leads to the one cluster there is.
        EndpointAnswer::Empty if !stock.world.memory.dns.ever(|_| true) => {
            let first = stock.world.memory.provisioner.cluster(Colour::Blue)?;
            let identity = kutover_core::ports::ClusterAdmin::identity(&first).await.ok()?;
            Some(Target { bootstrap: identity.brokers.into_iter().collect(), ..nobody() })
        }
        _ => None,
    }
}

fn send(stock: &Arc<Stock>, client: &dyn ProducerClient, topic: usize, key: u8, sequence: u64) {
    let world = &stock.world;
    let record = {
        let mut observed = world.witness.observed();
        observed.records.push(Record {
            producer: stock.number,
            key,
            topic,
            sequence,
            accepted_ms: world.now_ms(),
            ..Record::default()
        });
        observed.records.len() - 1
    };
    let token = Token(record as u64);
    stock.records.lock().insert(token, record);
    note!(world.witness, "producer {}: record {record}", stock.number);
    let key = [stock.number as u8, (stock.number >> 8) as u8, key];
    let payload = (record as u64).to_le_bytes();
    let offered = RecordRef {
        topic: world.scene.topics[topic].0.as_str(),
        partition: None,
        key: Some(&key),
        payload: Some(&payload),
        timestamp_ms: 0,
        headers: HeadersRef::None,
    };
    if client.try_send(offered, token).is_err() {
        stock.end(token, Ending::NotWritten);
    }
}
