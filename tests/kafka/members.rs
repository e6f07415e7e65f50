//! A producer that has registered on a cluster, and says no more than a test has it say.

use std::sync::Arc;

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::messages::{MemberKind, MemberState};
use kutover_core::owner::Target;
use kutover_core::ports::{ClusterAdmin as _, Incarnation, MemberLink, MemberLinks as _};
use kutover_core::words::Generation;
use kutover_kafka::{ClientProperties, KafkaMemberLinks};

/// The producer. As long as nobody has it say anything it is dead to the controller.
pub struct Registered {
    link: Arc<dyn MemberLink>,
    state: MemberState,
    target: Target,
}

async fn target(of: &Incarnation, generation: u64) -> Target {
    let config = AdminConfig { bootstrap: of.bootstrap.clone(), ..AdminConfig::default() };
    let admin = KafkaAdmin::connect(config).await.expect("it answers");
    let cluster_id = admin.identity().await.expect("an identity").cluster_id;
    Target {
        generation: Generation(generation),
        colour: of.colour,
        cluster_id,
        bootstrap: of.bootstrap.clone(),
    }
}

impl Registered {
    /// It sends its first heartbeat, from the cluster of this generation.
    ///
    /// # Panics
    /// If that is not taken.
    pub async fn on(of: &Incarnation, generation: u64, name: &str) -> Self {
        let target = target(of, generation).await;
        let links = KafkaMemberLinks::new([(of.colour, ClientProperties::default())].into());
        let link = links.open(&target).await.expect("a link");
        let state = MemberState::new(MemberKind::Producer, name.into(), "run".into());
        let mut registered = Self { link, state, target };
        registered.beat().await;
        registered
    }

    /// It sends another one.
    ///
    /// # Panics
    /// If that is not taken.
    pub async fn beat(&mut self) {
        self.link.tell(&self.state.beat(&self.target)).await.expect("its heartbeat");
    }

    /// It says, where it was, that it is on this cluster now.
    ///
    /// # Panics
    /// If that is not taken.
    pub async fn move_to(&mut self, to: &Incarnation, generation: u64) {
        self.target = target(to, generation).await;
        self.beat().await;
    }
}
