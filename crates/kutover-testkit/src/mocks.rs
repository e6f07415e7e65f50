//! A mockall mock of every port.

// The macro writes the mocks' own builders and modules, which cannot be documented from here.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::Stream;
use kutover_core::decisions::stragglers::{LastRecord, PartitionWriters};
use kutover_core::drain::OpenTransaction;
use kutover_core::error::ProviderResult;
use kutover_core::messages::{ControlMessage, ControlView, MemberState};
use kutover_core::owner::{RemovalMark, Target};
use kutover_core::ports::{
    Access, AccessToken, ClientEvents, ClusterAdmin, ClusterIdentity, ClusterProvisioner, ClusterSurvey,
    ConfigMap, ConnectAdmin, ConnectorConfig, ConnectorDescription, ConnectorState, Delivery, DnsProvider,
    EndpointAnswer, EndpointWatch, FenceKind, FenceProof, FenceSwitch, GroupDescription, GroupListing,
    Incarnation, Item, Journal, JournalEntry, LagBatch, LagQuery, LagSource, MemberLink, MemberLinks,
    NewAccess, NewTopic, NewestIds, PartitionEnd, ProducerClient, ProducerFactory, ProducerIds,
    ProducerSurvey, Published, RecordRef, Refusal, RefusedTopics, Registry, ScramUsers, SourceOffsets, Token,
    TokenProvider, TopicConfigs, TopicDescription,
};
use kutover_core::words::{
    ClusterId, Colour, ConnectorName, DnsName, GroupId, IncarnationId, Nonce, Offset, TopicName,
    TopicPartition,
};
use mockall::mock;

mock! {
    /// A [`DnsProvider`].
    pub DnsProvider {}
    #[async_trait]
    impl DnsProvider for DnsProvider {
        async fn read(&self, endpoint: &DnsName) -> ProviderResult<Published>;
        async fn compare_and_set(&self, endpoint: &DnsName, expected: &Published, desired: &Published) -> ProviderResult<()>;
        async fn is_visible(&self, endpoint: &DnsName, published: &Published) -> ProviderResult<bool>;
    }
}

mock! {
    /// An [`EndpointWatch`].
    pub EndpointWatch {}
    #[async_trait]
    impl EndpointWatch for EndpointWatch {
        async fn next(&self) -> EndpointAnswer;
        async fn ask_now(&self) -> EndpointAnswer;
    }
}

mock! {
    /// A [`ClusterProvisioner`].
    pub ClusterProvisioner {}
    #[async_trait]
    impl ClusterProvisioner for ClusterProvisioner {
        async fn provision(&self, colour: Colour, request: &Nonce) -> ProviderResult<Incarnation>;
        async fn describe(&self, colour: Colour) -> ProviderResult<Option<Incarnation>>;
        async fn isolate(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()>;
        async fn put_back(&self, incarnation: &IncarnationId, nonce: &Nonce) -> ProviderResult<()>;
        async fn destroy(&self, mark: &RemovalMark) -> ProviderResult<()>;
        async fn is_ready(&self, incarnation: &IncarnationId) -> ProviderResult<()>;
    }
}

mock! {
    /// A [`ConnectAdmin`].
    pub ConnectAdmin {}
    #[async_trait]
    impl ConnectAdmin for ConnectAdmin {
        async fn kafka_cluster_id(&self) -> ProviderResult<ClusterId>;
        async fn connectors(&self) -> ProviderResult<BTreeMap<ConnectorName, ConnectorDescription>>;
        async fn config(&self, name: &ConnectorName) -> ProviderResult<ConnectorConfig>;
        async fn create_stopped(&self, name: &ConnectorName, config: &ConnectorConfig) -> ProviderResult<()>;
        async fn set_state(&self, name: &ConnectorName, state: ConnectorState) -> ProviderResult<()>;
        async fn offsets(&self, name: &ConnectorName) -> ProviderResult<SourceOffsets>;
        async fn alter_offsets(&self, name: &ConnectorName, offsets: &SourceOffsets) -> ProviderResult<()>;
        async fn delete(&self, name: &ConnectorName) -> ProviderResult<()>;
    }
}

mock! {
    /// A [`Journal`].
    pub Journal {}
    #[async_trait]
    impl Journal for Journal {
        async fn read(&self) -> ProviderResult<Vec<JournalEntry>>;
        async fn append(&self, entry: &JournalEntry) -> ProviderResult<()>;
    }
}

mock! {
    /// A [`LagSource`]. Its stream owns all it yields.
    pub LagSource {
        pub fn stream(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send>>;
    }
}

impl LagSource for MockLagSource {
    fn lag(&self, query: LagQuery) -> Pin<Box<dyn Stream<Item = ProviderResult<LagBatch>> + Send + '_>> {
        self.stream(query)
    }
}

mock! {
    /// A [`ClusterAdmin`].
    pub ClusterAdmin {}
    #[async_trait]
    impl ClusterAdmin for ClusterAdmin {
        async fn identity(&self) -> ProviderResult<ClusterIdentity>;
        async fn topics(&self) -> ProviderResult<Vec<TopicDescription>>;
        async fn create_topic(&self, topic: &NewTopic) -> ProviderResult<()>;
        async fn delete_topics(&self, topics: &[TopicName]) -> ProviderResult<()>;
        async fn access(&self) -> ProviderResult<Access>;
        async fn grant(&self, access: &NewAccess) -> ProviderResult<ScramUsers>;
        async fn groups(&self) -> ProviderResult<GroupListing>;
        async fn ends(&self, topics: &[TopicName]) -> ProviderResult<Vec<PartitionEnd>>;
        async fn set_start_offsets(&self, group: &GroupId, offsets: &BTreeMap<TopicPartition, Offset>) -> ProviderResult<Vec<TopicPartition>>;
        async fn raise_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceKind>;
        async fn prove_fence(&self, topics: &[TopicName]) -> ProviderResult<FenceProof>;
        async fn lift_fence(&self, topics: &[TopicName]) -> ProviderResult<()>;
        async fn alter_configs(&self, configs: &TopicConfigs) -> ProviderResult<()>;
        async fn fence_traces(&self) -> ProviderResult<BTreeSet<TopicName>>;
        async fn prove_open(&self, topics: &[TopicName]) -> ProviderResult<()>;
    }
}

mock! {
    /// A [`ProducerSurvey`].
    pub ProducerSurvey {}
    #[async_trait]
    impl ProducerSurvey for ProducerSurvey {
        async fn writers(&self, places: &[TopicPartition]) -> ProviderResult<BTreeMap<TopicPartition, Result<PartitionWriters, String>>>;
        async fn last_records(&self, place: &TopicPartition, at_most: usize) -> ProviderResult<Vec<LastRecord>>;
        async fn open_transactions(&self, places: &[TopicPartition]) -> ProviderResult<BTreeMap<TopicPartition, Result<Vec<OpenTransaction>, String>>>;
    }
}

mock! {
    /// A [`ClusterSurvey`].
    pub ClusterSurvey {}
    #[async_trait]
    impl ClusterSurvey for ClusterSurvey {
        async fn topic_configs(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicName, Item<ConfigMap>>>;
        async fn broker_configs(&self) -> ProviderResult<BTreeMap<i32, Item<ConfigMap>>>;
        async fn refused_topics(&self, topics: &[NewTopic]) -> ProviderResult<RefusedTopics>;
        async fn describe_groups(&self) -> ProviderResult<BTreeMap<GroupId, Item<GroupDescription>>>;
        async fn transactional_ids(&self) -> ProviderResult<BTreeMap<String, String>>;
        async fn sizes(&self, topics: &[TopicName]) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>>;
        async fn ages(&self, at: &BTreeMap<TopicPartition, Offset>, now_ms: i64) -> ProviderResult<BTreeMap<TopicPartition, Item<u64>>>;
        async fn client_addresses(&self) -> Option<BTreeSet<String>>;
        async fn reach(&self, addresses: &BTreeSet<String>) -> BTreeMap<String, Item<()>>;
    }
}

mock! {
    /// A [`FenceSwitch`].
    pub FenceSwitch {}
    #[async_trait]
    impl FenceSwitch for FenceSwitch {
        fn kind(&self) -> FenceKind;
        async fn raise(&self, topics: &[TopicName]) -> ProviderResult<()>;
        async fn lift(&self, topics: &[TopicName]) -> ProviderResult<()>;
        async fn traces(&self) -> ProviderResult<BTreeSet<TopicName>>;
    }
}

mock! {
    /// A [`Registry`].
    pub Registry {}
    #[async_trait]
    impl Registry for Registry {
        async fn prepare(&self) -> ProviderResult<()>;
        async fn say(&self, message: &ControlMessage) -> ProviderResult<()>;
        async fn control(&self) -> ProviderResult<ControlView>;
        async fn members(&self) -> ProviderResult<Vec<MemberState>>;
    }
}

mock! {
    /// A [`MemberLink`].
    pub MemberLink {}
    #[async_trait]
    impl MemberLink for MemberLink {
        async fn next_control(&self) -> ControlView;
        async fn control_now(&self) -> ProviderResult<ControlView>;
        async fn tell(&self, state: &MemberState) -> ProviderResult<()>;
        async fn end(&self, state: &MemberState) -> ProviderResult<()>;
    }
}

mock! {
    /// A [`MemberLinks`].
    pub MemberLinks {}
    #[async_trait]
    impl MemberLinks for MemberLinks {
        async fn open(&self, target: &Target) -> ProviderResult<Arc<dyn MemberLink>>;
    }
}

mock! {
    /// A [`ProducerFactory`].
    pub ProducerFactory {}
    #[async_trait]
    impl ProducerFactory for ProducerFactory {
        async fn connect(&self, target: &Target, topics: &[String], events: Arc<dyn ClientEvents>) -> ProviderResult<Arc<dyn ProducerClient>>;
    }
}

mock! {
    /// A [`ProducerClient`].
    pub ProducerClient {}
    impl ProducerClient for ProducerClient {
        fn try_send<'a>(&self, record: RecordRef<'a>, token: Token) -> Result<(), Refusal>;
        fn flush(&self, timeout_ms: u64) -> bool;
        fn purge(&self);
        fn outstanding(&self) -> usize;
        fn cluster_id(&self) -> ClusterId;
    }
}

mock! {
    /// A [`ProducerIds`].
    pub ProducerIds {}
    #[async_trait]
    impl ProducerIds for ProducerIds {
        async fn newest(&self) -> ProviderResult<NewestIds>;
        async fn pass(&self, mark: u64) -> ProviderResult<NewestIds>;
        async fn live(&self, topics: &[TopicName]) -> ProviderResult<BTreeSet<u64>>;
    }
}

mock! {
    /// A [`ClientEvents`].
    pub ClientEvents {}
    impl ClientEvents for ClientEvents {
        fn delivered(&self, token: Token, delivery: Delivery);
        fn acknowledged(&self, token: Token, partition: i32, offset: i64, append_time_ms: Option<i64>);
        fn fatal(&self, reason: String);
        fn producer_id(&self, id: i64);
    }
}

mock! {
    /// A [`TokenProvider`].
    #[derive(Debug)]
    pub TokenProvider {}
    #[async_trait]
    impl TokenProvider for TokenProvider {
        async fn token(&self) -> ProviderResult<AccessToken>;
    }
}
