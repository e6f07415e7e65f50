//! L8: two producers write to one partition of blue while the switch comes. The library's moves and claims in its receipt what it
//! has been there; the other one stays, and it alone is named.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use krafka::{Kafka, Record};
use kutover_core::cutover::Event;
use kutover_core::ports::ProducerSurvey as _;
use kutover_core::words::{Colour, TopicPartition};
use kutover_kafka::{ClientProperties, KafkaMemberLinks};
use kutover_producer::{BlueGreenProducer, FutureRecord};
use kutover_testkit::until;
use kutover_tests_kafka::clients::BOUND;
use kutover_tests_kafka::controller::{Deployed, Running};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Stage;
use super::hint::stored;

/// Where both write to; there before the cutover begins.
pub(super) const TOPIC: &str = "counter";
/// Between two records of one of them.
const PACE: Duration = Duration::from_millis(20);
/// How the library's own records begin.
const SOLD: &str = "sold ";

/// Who writes until it is told to stop, and what it comes to.
struct Writing<T> {
    stop: oneshot::Sender<()>,
    task: JoinHandle<T>,
}

impl<T: Send + 'static> Writing<T> {
    fn start<F: Future<Output = T> + Send + 'static>(write: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(write(stopped)) }
    }

    async fn end(self) -> T {
        let _ = self.stop.send(());
        self.task.await.expect("it wrote")
    }
}

/// Both of them, with their ids on blue.
pub(super) struct Both {
    library: Writing<(BlueGreenProducer, usize)>,
    stock: Writing<()>,
    ids: [i64; 2],
}

impl Both {
    /// Before anybody is led to green. Both write to blue by the end of this.
    pub(super) async fn start(stage: &Stage, deployed: &Deployed) -> Self {
        let properties = || Colour::BOTH.map(|colour| (colour, ClientProperties::default()));
        let nothing: [(&str, &str); 0] = [];
        let library = BlueGreenProducer::builder()
            .deployment("orders")
            .endpoint("kafka.orders.test")
            .instance("counter")
            .resolvers(deployed.resolvers())
            .links(Arc::new(KafkaMemberLinks::new(properties().into())))
            .cluster(Colour::Blue, nothing)
            .cluster(Colour::Green, nothing);
        let library = library.build().await.expect("it begins on blue");
        let library = Writing::start(|stop| sell(library, stop));
        let its = another_id(stage, &BTreeSet::new()).await;
        let kafka = stage.kafka.clone();
        let stock = Writing::start(|stop| write(kafka, stop));
        let others = another_id(stage, &[its].into()).await;
        Self { library, stock, ids: [its, others] }
    }

    /// The library's producer has moved, which the receipt says; the other one is named until it stops.
    pub(super) async fn who_stays_alone_is_named(self, stage: &Stage, run: &mut Running) {
        let moved = |event: &Event| matches!(event, Event::Moved { moved: 1, of: 1, .. });
        assert!(run.event(moved).await.is_some(), "the library's producer moves");
        let named = run.event(|event| matches!(event, Event::Stragglers { .. })).await;
        let Some(Event::Stragglers { writing, more: 0, .. }) = &named else { panic!("{named:?}") };
        let [one] = &writing[..] else { panic!("it alone: {writing:?}") };
        let [its, others] = self.ids;
        assert_eq!((one.producer_id, one.claimed), (Some(others), false), "{one}");
        assert_eq!(one.places, [place()].into(), "{one}");
        self.stock.end().await;
        // Nobody writes to blue any more: whoever is silent there is named, but for whom a receipt claims.
        let silent = run.event(|event| matches!(event, Event::Silent { .. })).await;
        let Some(Event::Silent { silent, more: 0 }) = &silent else { panic!("{silent:?}") };
        assert!(ids(stage).await.contains(&its), "blue's leader knows it still");
        let silent_ids: BTreeSet<_> = silent.iter().filter_map(|one| one.producer_id).collect();
        assert!(silent_ids.contains(&others) && !silent_ids.contains(&its), "{silent:?}");
        let (producer, sold) = self.library.end().await;
        producer.close().await;
        let mut all = stored(&stage.world.blue, TOPIC).await.into_values().collect::<Vec<_>>();
        let on_blue = all.iter().filter(|text| text.starts_with(SOLD)).count();
        all.extend(stored(&stage.world.green, TOPIC).await.into_values());
        all.retain(|text| text.starts_with(SOLD));
        let expected: Vec<String> = (0..sold).map(|number| format!("{SOLD}{number}")).collect();
        assert_eq!(all, expected, "each once, in order");
        assert!((1..sold).contains(&on_blue), "{on_blue} of {sold} on blue");
    }
}

fn place() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// The ids that blue's leader knows there.
async fn ids(stage: &Stage) -> BTreeSet<i64> {
    let writers = stage.admin.writers(&[place()]).await.expect("it answers").remove(&place());
    writers.expect("its leader").expect("its producers").producers.into_keys().collect()
}

/// The id on blue that is none of these.
async fn another_id(stage: &Stage, known: &BTreeSet<i64>) -> i64 {
    let look = async || ids(stage).await.into_iter().find(|id| !known.contains(id));
    until("its first record", BOUND, look).await
}

async fn sell(producer: BlueGreenProducer, mut stop: oneshot::Receiver<()>) -> (BlueGreenProducer, usize) {
    let (mut pace, mut sold) = (tokio::time::interval(PACE), 0);
    while stop.try_recv().is_err() {
        pace.tick().await;
        let text = format!("{SOLD}{sold}");
        let record = FutureRecord::to(TOPIC).key("till").payload(&text);
        producer
            .send(record, BOUND)
            .await
            .unwrap_or_else(|error| panic!("{text} is not acknowledged: {error}"));
        sold += 1;
    }
    (producer, sold)
}

async fn write(kafka: Kafka, mut stop: oneshot::Receiver<()>) {
    let producer = kafka.producer().metrics_push(false).build().await.expect("a producer");
    let mut pace = tokio::time::interval(PACE);
    while stop.try_recv().is_err() {
        pace.tick().await;
        let _stored = producer.send(Record::new(TOPIC, "counted").partition(0)).await.expect("stored");
    }
    producer.close().await.expect("closed");
}
