//! What the library's producer makes of a refusal by a fence that was announced: a hint to move.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kutover_core::error::ProviderResult;
use kutover_core::messages::{ControlView, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{Incarnation, MemberLink, MemberLinks};
use kutover_core::words::Colour;
use kutover_kafka::{ClientProperties, KafkaMemberLinks, read_topic};
use kutover_producer::{BlueGreenProducer, FutureRecord, WatchOptions};
use kutover_tests_kafka::clients::BOUND;
use kutover_tests_kafka::controller::Deployed;

use super::Stage;

/// Where it sends to; there before the cutover begins.
pub(super) const TOPIC: &str = "till";
/// Nothing is heard by itself while a test runs.
const AN_HOUR: Duration = Duration::from_secs(3_600);

/// Links over which a member is told nothing: it has to ask. Nor is anything told of it, so that nobody waits for it.
struct Asked(KafkaMemberLinks);

#[async_trait]
impl MemberLinks for Asked {
    async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>> {
        Ok(Arc::new(AskedLink(self.0.open(target).await?)))
    }
}

struct AskedLink(Arc<dyn MemberLink>);

#[async_trait]
impl MemberLink for AskedLink {
    async fn next_control(&self) -> ControlView {
        std::future::pending().await
    }

    async fn control_now(&self) -> ProviderResult<ControlView> {
        self.0.control_now().await
    }

    async fn tell(&self, _: &MemberState) -> ProviderResult<()> {
        Ok(())
    }

    async fn end(&self, _: &MemberState) -> ProviderResult<()> {
        Ok(())
    }
}

/// A producer on blue that looks at DNS once an hour, and hears of nothing in between.
pub(super) struct Till {
    producer: BlueGreenProducer,
    sent: Vec<String>,
}

impl Till {
    /// Before anybody is led to green.
    pub(super) async fn open(deployed: &Deployed) -> Self {
        let properties = Colour::BOTH.map(|colour| (colour, ClientProperties::default()));
        let options = WatchOptions { min_poll: AN_HOUR, max_poll: AN_HOUR, ..WatchOptions::default() };
        let nothing: [(&str, &str); 0] = [];
        let producer = BlueGreenProducer::builder()
            .deployment("orders")
            .endpoint("kafka.orders.test")
            .resolvers(deployed.resolvers())
            .watch_options(options)
            .links(Arc::new(Asked(KafkaMemberLinks::new(properties.into()))))
            .cluster(Colour::Blue, nothing)
            .cluster(Colour::Green, nothing);
        let mut till =
            Self { producer: producer.build().await.expect("it begins on blue"), sent: Vec::new() };
        till.sell(3).await;
        till
    }

    async fn sell(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.sent.len().to_string();
            let record = FutureRecord::to(TOPIC).key("till").payload(&number);
            let sent = self.producer.send(record, BOUND).await;
            sent.unwrap_or_else(|error| panic!("record {number} is not acknowledged: {error}"));
            self.sent.push(number);
        }
    }

    /// Blue refuses by now, which was announced. It goes where the deployment has gone, and each record stands once.
    pub(super) async fn moves_when_it_is_refused(mut self, stage: &Stage) {
        assert_eq!(self.producer.report().switches.len(), 0, "it has moved by itself");
        self.sell(3).await;
        let Self { producer, sent } = self;
        let moved = producer.report();
        assert_eq!(moved.switches.len(), 1, "{moved:?}");
        producer.close().await;
        let stored = [stored(&stage.world.blue, TOPIC).await, stored(&stage.world.green, TOPIC).await];
        assert_eq!(stored.map(|records| records.into_values().collect::<Vec<_>>()), [&sent[..3], &sent[3..]]);
    }
}

/// A topic's records on a cluster, by offset.
pub(super) async fn stored(on: &Incarnation, topic: &str) -> BTreeMap<i64, String> {
    let (tell, told) = std::sync::mpsc::channel();
    let visit = move |record: kutover_kafka::StoredRecord| {
        let text = String::from_utf8(record.payload.expect("a text")).expect("UTF-8");
        let _ = tell.send((record.offset, text));
    };
    let properties = ClientProperties::default();
    read_topic(&on.bootstrap, &properties, "audit", topic, BOUND, visit).await.expect("it is read");
    told.into_iter().collect()
}
