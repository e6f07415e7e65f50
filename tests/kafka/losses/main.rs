//! What is lost on real Kafka without a defence, from 3.9.2 to 4.3.1 (L8, L10 to L12, L16 to L19).
//!
//! With every defence in place all scenes are played on one world. `cargo xtask controls --kafka` takes out one defence
//! after the other: then only that one's scene is played, and what it lets in has to show.

mod claimed;
mod cutovers;
mod hint;
mod observed;
mod sinks;

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::controls::{Control, without};
use kutover_core::ports::Incarnation;
use kutover_tests_kafka::world::{TwoClusters, client};

use self::cutovers::Longer;

const BLUE: &str = "3.9.2";
const GREEN: &str = "4.3.1";

/// The world, and who acts on the old cluster.
struct Stage {
    world: TwoClusters,
    /// Ordinary clients of the old cluster.
    kafka: krafka::Kafka,
    /// The controller's client of it.
    admin: KafkaAdmin,
}

impl Stage {
    async fn new(world: TwoClusters) -> Self {
        let (kafka, admin) = (client(&world.blue).await, admin(&world.blue, AdminConfig::default()).await);
        Self { world, kafka, admin }
    }
}

async fn admin(of: &Incarnation, config: AdminConfig) -> KafkaAdmin {
    KafkaAdmin::connect(AdminConfig { bootstrap: of.bootstrap.clone(), ..config }).await.expect("it answers")
}

/// Fails with the words by which `cargo xtask controls` tells what was let in from a world that does not work.
#[track_caller]
fn stopped(is_it: bool, control: Control, otherwise: impl std::fmt::Display) {
    assert!(is_it, "LET IN: L{} {}: {otherwise}", control.loss_mode(), control.name());
}

/// Those that have a scene here.
const STAGED: [Control; 14] = [
    Control::ReceiptsClose,
    Control::StragglersIgnored,
    Control::LivingIgnored,
    Control::TailUnread,
    Control::RetentionIgnored,
    Control::RetentionNotRaised,
    Control::RetentionNotRestored,
    Control::PastEndIgnored,
    Control::ReCreatedIgnored,
    Control::NoSeparation,
    Control::AnyFence,
    Control::HistoryIgnored,
    Control::SinksEarly,
    Control::EarlyMembersIgnored,
];

/// The scenes that show what these stop. One cutover shows several; it comes first, when nothing else is there.
async fn play(stage: &Stage, controls: &[Control]) {
    let any = |of: &[Control]| of.iter().any(|control| controls.contains(control));
    if any(&[
        Control::HistoryIgnored,
        Control::ReceiptsClose,
        Control::LivingIgnored,
        Control::NoSeparation,
        Control::ReCreatedIgnored,
        Control::RetentionNotRaised,
        Control::RetentionNotRestored,
        Control::SinksEarly,
        Control::EarlyMembersIgnored,
    ]) {
        let longer = Longer {
            history: any(&[Control::HistoryIgnored]),
            living: any(&[Control::LivingIgnored]),
            sinks: any(&[Control::SinksEarly]),
            stragglers: any(&[Control::StragglersIgnored]),
        };
        cutovers::there_and_back(stage, longer).await;
    }
    if any(&[Control::StragglersIgnored]) {
        observed::who_writes_is_named(stage).await;
    }
    if any(&[Control::TailUnread]) {
        observed::a_marker_is_no_record(stage).await;
    }
    if any(&[Control::RetentionIgnored]) {
        observed::what_retention_took_is_not_read(stage).await;
    }
    if any(&[Control::PastEndIgnored]) {
        observed::records_behind_a_closed_end_are_seen(stage).await;
    }
    if any(&[Control::AnyFence]) {
        observed::no_size_fence_over_an_open_transaction(stage).await;
    }
}

/// A control of these loss modes without a scene would go unseen.
#[test]
fn every_control_of_these_loss_modes_has_a_scene() {
    let theirs = |control: &&Control| matches!(control.loss_mode(), 8 | 10..=12 | 16..=19);
    let all: Vec<Control> = Control::ALL.iter().filter(theirs).copied().collect();
    assert_eq!(STAGED.as_slice(), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_defences_stand() {
    let test = "nothing_is_lost_while_the_defences_stand";
    let out: Vec<Control> = Control::ALL.iter().filter(|control| without(**control)).copied().collect();
    let controls = if out.is_empty() { STAGED.to_vec() } else { out };
    let Some(world) = TwoClusters::start(test, BLUE, GREEN).await else { return };
    play(&Stage::new(world).await, &controls).await;
}
