//! Each way in, for both clients: krafka's admin client and librdkafka's.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::ports::{ClusterAdmin as _, Incarnation, Registry as _, TokenProvider};
use kutover_kafka::{ClientHooks, ClientProperties, FileTokens, KafkaRegistry, witness_cluster_id};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::traffic::BOUND;
use crate::world::{CONTROLLER, Properties, SUPER, World};

const SCRAM: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];

async fn id(world: &World, of: &Incarnation, properties: Properties) -> String {
    let admin = world.admin(of, properties).await;
    admin.identity().await.expect("its identity").cluster_id.to_string()
}

/// Both clients name themselves in the same way and meet the same cluster.
pub(crate) async fn agree(world: &World, of: &Incarnation, properties: Properties) {
    let admins = id(world, of, properties.clone()).await;
    let checked = ClientProperties::new(properties).expect("librdkafka knows them");
    let witness = witness_cluster_id(&of.bootstrap, &checked, BOUND).await.expect("librdkafka gets in");
    assert_eq!(witness.to_string(), admins);
}

pub(crate) async fn every_mechanism_gets_in(world: &World) {
    for cluster in [&world.blue, &world.green] {
        // The controller has one kind of password; here it needs the other, too.
        let mut both = crate::world::access(&[CONTROLLER]);
        both.acls.clear();
        both.scram_users.insert(CONTROLLER.0.to_owned(), SCRAM.map(str::to_owned).into());
        let left = world.root(cluster).await.grant(&both).await.expect("a second password");
        assert!(left.is_empty(), "{left:?}");
        for mechanism in SCRAM {
            agree(world, cluster, world.properties(mechanism, CONTROLLER)).await;
        }
        agree(world, cluster, world.properties("PLAIN", SUPER)).await;
        tokens(world, cluster).await;
    }
}

/// A token without a signature, as a broker takes it that was told nothing else.
pub(crate) fn token(sub: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"{sub}","iat":{now},"exp":{}}}"#, now + 3600);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// One provider serves both clients.
async fn tokens(world: &World, of: &Incarnation) {
    let provider: Arc<dyn TokenProvider> = Arc::new(FileTokens::new(world.secret("token")));
    let mut properties = world.tls();
    properties.insert("sasl.mechanism".to_owned(), "OAUTHBEARER".to_owned());
    let [made, read] = both_work(of, properties, Some(provider)).await;
    made.expect("the admin client makes kutover's own topics");
    read.expect("librdkafka reads them");
}

/// What the admin client makes, as it says, and what librdkafka reads of that.
pub(crate) async fn both_work(
    of: &Incarnation,
    properties: Properties,
    tokens: Option<Arc<dyn TokenProvider>>,
) -> [ProviderResult<()>; 2] {
    let config = AdminConfig {
        bootstrap: of.bootstrap.clone(),
        properties: properties.clone(),
        tokens: tokens.clone(),
        ..AdminConfig::default()
    };
    let admin = Arc::new(KafkaAdmin::connect(config).await.expect("the cluster lets it in"));
    let checked = ClientProperties::new(properties).expect("librdkafka knows them");
    let hooks = ClientHooks::default();
    let hooks = match tokens {
        Some(tokens) => hooks.with_tokens(tokens, tokio::runtime::Handle::current()),
        None => hooks,
    };
    let registry = KafkaRegistry::open(&of.bootstrap, &checked, hooks, BOUND).await.expect("it opens");
    let registry = registry.with_topics_made_by(admin);
    let made = registry.prepare().await;
    [made, registry.members().await.map(|members| assert_eq!(members, []))]
}

pub(crate) async fn nobody_else_gets_in(world: &World) {
    let wrong = "planted-5b0e-wrong";
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let said = refusal(&world.blue, world.properties(mechanism, (SUPER.0, wrong)));
        assert!(said.contains("uthentication failed") && !said.contains(wrong), "{mechanism}: {said}");
    }
    let config = |properties| AdminConfig {
        bootstrap: world.blue.bootstrap.clone(),
        properties,
        ..AdminConfig::default()
    };
    let named = config(world.properties("SCRAM-SHA-512", (CONTROLLER.0, wrong)));
    let error = match KafkaAdmin::connect(named).await {
        Err(error) => error,
        Ok(admin) => admin.identity().await.expect_err("a wrong password"),
    };
    assert_eq!(error.kind, ErrorKind::NotAuthorised, "{error}");
    assert!(!error.to_string().contains(wrong), "{error}");
    let mut anonymous = world.properties("SCRAM-SHA-512", CONTROLLER);
    anonymous.retain(|name, _| !name.starts_with("ssl.certificate") && !name.starts_with("ssl.key"));
    let refused = match KafkaAdmin::connect(config(anonymous.clone())).await {
        Err(_) => true,
        Ok(admin) => admin.identity().await.is_err(),
    };
    assert!(refused, "without a certificate of its own");
    let strangers = ("ssl.ca.pem".to_owned(), crate::authority::Authority::new().pem());
    let stranger = world.properties("SCRAM-SHA-512", CONTROLLER).into_iter().chain([strangers]).collect();
    assert!(KafkaAdmin::connect(config(stranger)).await.is_err(), "to a cluster that it does not believe");
}

/// Hands over what librdkafka says of its connections.
struct Told(mpsc::Sender<String>);

impl ClientContext for Told {
    fn error(&self, _: KafkaError, reason: &str) {
        let _ = self.0.send(reason.to_owned());
    }
}

impl ConsumerContext for Told {}

/// Why a cluster does not let librdkafka in, in its own words.
pub(crate) fn refusal(of: &Incarnation, properties: Properties) -> String {
    let mut config = ClientConfig::new();
    config.extend(properties);
    config.set("bootstrap.servers", of.bootstrap.join(","));
    let (tell, told) = mpsc::channel();
    let client: BaseConsumer<Told> = config.create_with_context(Told(tell)).expect("a client");
    let deadline = Instant::now() + BOUND;
    tokio::task::block_in_place(|| {
        loop {
            assert!(Instant::now() < deadline, "it is not refused");
            assert!(client.poll(Duration::from_millis(50)).is_none_or(|polled| polled.is_err()));
            if let Ok(reason) = told.try_recv() {
                return reason;
            }
        }
    })
}
