//! The configuration files of brokers and ZooKeeper, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use kutover_core::words::Colour;
use serde::{Deserialize, Serialize};

use super::secured::{SavedSecurity, TlsAlone};

/// Whom the controllers of a KRaft quorum know each other as.
const QUORUM_USER: &str = "kutover-quorum";

/// Where one broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokerPlace {
    /// Its id.
    pub(crate) id: i32,
    /// What it advertises to clients: a forwarder of its own.
    pub(crate) advertised: SocketAddr,
    /// Its clients' listener, behind that forwarder.
    pub(crate) clients: SocketAddr,
    /// Its listener for other brokers and for the controller's path; isolation leaves it open.
    pub(crate) internal: SocketAddr,
    /// Its KRaft controller's listener.
    pub(crate) quorum: SocketAddr,
    /// More listeners for clients, of a secured cluster.
    #[serde(default)]
    pub(crate) by_tls: Vec<TlsPlace>,
}

/// Where one broker takes clients by TLS alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TlsPlace {
    pub(crate) alone: TlsAlone,
    /// What it advertises there: a forwarder of its own.
    pub(crate) advertised: SocketAddr,
    /// The listener, behind that forwarder.
    pub(crate) listener: SocketAddr,
}

/// What a broker's configuration depends on.
pub(crate) struct BrokerConfig<'a> {
    pub(crate) colour: Colour,
    pub(crate) place: &'a BrokerPlace,
    pub(crate) all: &'a [BrokerPlace],
    pub(crate) log_dir: &'a Path,
    /// What the controllers of a KRaft quorum prove themselves to each other with.
    pub(crate) quorum_secret: &'a str,
    /// The ensemble, for versions that need one.
    pub(crate) zookeeper: Option<SocketAddr>,
    /// What it demands of clients, and the directory of the files that go with it; otherwise nothing.
    pub(crate) secured: Option<(&'a SavedSecurity, &'a Path)>,
}

/// A broker's `server.properties`.
pub(crate) fn broker(config: &BrokerConfig<'_>) -> String {
    let BrokerConfig { place, all, .. } = config;
    let brokers = all.len();
    let mut set = BTreeMap::new();
    let mut put = |key: &str, value: String| set.insert(key.to_owned(), value);
    let mut super_users: Vec<&str> =
        config.secured.iter().map(|(security, _)| security.super_user()).collect();
    put("log.dirs", config.log_dir.display().to_string());
    let [mut listeners, advertised, mut protocols] = listeners(place, config.secured.is_some());
    put("advertised.listeners", advertised);
    put("inter.broker.listener.name", "INTERNAL".into());
    put("auto.create.topics.enable", "false".into());
    put("allow.everyone.if.no.acl.found", "true".into());
    put("default.replication.factor", brokers.to_string());
    put("offsets.topic.replication.factor", brokers.to_string());
    put("transaction.state.log.replication.factor", brokers.to_string());
    // One of three brokers may be away without anything acknowledged being at risk, and without a stop.
    let min_isr = if brokers > 2 { "2" } else { "1" };
    put("min.insync.replicas", min_isr.into());
    put("transaction.state.log.min.isr", min_isr.into());
    // Few, because each costs files and start-up time.
    put("offsets.topic.num.partitions", "4".into());
    put("transaction.state.log.num.partitions", "4".into());
    put("group.initial.rebalance.delay.ms", "0".into());
    // Offsets that have expired are gone soon, so that it can be waited for; Kafka looks every ten minutes.
    put("offsets.retention.check.interval.ms", "2000".into());
    put("log.cleaner.dedupe.buffer.size", "8388608".into());
    if let Some(zookeeper) = config.zookeeper {
        put("broker.id", place.id.to_string());
        put("zookeeper.connect", format!("{zookeeper}{}", config.colour.chroot()));
        // How soon a killed broker is noticed, and its id free again.
        put("zookeeper.session.timeout.ms", "6000".into());
        put("authorizer.class.name", "kafka.security.authorizer.AclAuthorizer".into());
    } else {
        put("process.roles", "broker,controller".into());
        put("node.id", place.id.to_string());
        let _ = write!(listeners, ",CONTROLLER://{}", place.quorum);
        protocols.push_str(",CONTROLLER:SASL_PLAINTEXT");
        // Until it has read the ACLs from the quorum's log, StandardAuthorizer lets super users in alone, and without
        // votes there is no quorum: three controllers that are nobody to each other wait for ever. So the controllers'
        // own listener has a super user, and no other has: everyone else stays bound by ACLs.
        super_users.push(QUORUM_USER);
        put("sasl.mechanism.controller.protocol", "PLAIN".into());
        put("listener.name.controller.sasl.enabled.mechanisms", "PLAIN".into());
        let secret = config.quorum_secret;
        put(
            "listener.name.controller.plain.sasl.jaas.config",
            format!(
                "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{QUORUM_USER}\" \
                 password=\"{secret}\" user_{QUORUM_USER}=\"{secret}\";"
            ),
        );
        put("controller.listener.names", "CONTROLLER".into());
        let voters: Vec<String> =
            all.iter().map(|broker| format!("{}@{}", broker.id, broker.quorum)).collect();
        put("controller.quorum.voters", voters.join(","));
        put("broker.session.timeout.ms", "6000".into());
        put("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into());
    }
    put("listeners", listeners);
    put("listener.security.protocol.map", protocols);
    if !super_users.is_empty() {
        let names: Vec<String> = super_users.iter().map(|user| format!("User:{user}")).collect();
        put("super.users", names.join(";"));
    }
    if let Some((security, dir)) = config.secured {
        set.extend(security.properties(dir));
    }
    text(&set)
}

/// The listeners that clients and other brokers come to, as `listeners`, `advertised.listeners` and
/// `listener.security.protocol.map` have them.
fn listeners(place: &BrokerPlace, is_secured: bool) -> [String; 3] {
    let protocol = if is_secured { "SASL_SSL" } else { "PLAINTEXT" };
    let mut all = vec![
        ("CLIENTS", place.clients, place.advertised, protocol),
        ("INTERNAL", place.internal, place.internal, protocol),
    ];
    all.extend(place.by_tls.iter().map(|tls| (tls.alone.listener(), tls.listener, tls.advertised, "SSL")));
    let joined = |each: fn(&(&str, SocketAddr, SocketAddr, &str)) -> String| {
        all.iter().map(each).collect::<Vec<_>>().join(",")
    };
    [
        joined(|(name, listener, ..)| format!("{name}://{listener}")),
        joined(|(name, _, advertised, _)| format!("{name}://{advertised}")),
        joined(|(name, .., protocol)| format!("{name}:{protocol}")),
    ]
}

/// ZooKeeper's configuration: one server.
pub(crate) fn zookeeper(address: SocketAddr, data_dir: &Path) -> String {
    let set = [
        ("dataDir", data_dir.display().to_string()),
        ("clientPort", address.port().to_string()),
        ("clientPortAddress", address.ip().to_string()),
        ("admin.enableServer", "false".into()),
        ("maxClientCnxns", "0".into()),
        ("tickTime", "1000".into()),
    ];
    text(&set.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Logging to standard output, which goes into a file: for log4j 1 (the binding that is fetched) and for log4j 2 (that
/// of a Kafka directory from 4.0).
const LOGGING: [(&str, &str, &str); 2] = [
    (
        "log4j.configuration",
        "log4j.properties",
        "log4j.rootLogger=INFO, out\n\
         log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
         log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
         log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n\n",
    ),
    (
        "log4j2.configurationFile",
        "log4j2.properties",
        "rootLogger.level=info\n\
         rootLogger.appenderRef.out.ref=out\n\
         appender.out.type=Console\n\
         appender.out.name=out\n\
         appender.out.layout.type=PatternLayout\n\
         appender.out.layout.pattern=[%d] %p %m (%c)%n\n",
    ),
];

/// A Connect worker that listens on an address, and keeps its affairs in these topics (configs, offsets, status).
pub(crate) fn connect(address: &str, bootstrap: &[String], [configs, offsets, status]: [&str; 3]) -> String {
    const STRINGS: &str = "org.apache.kafka.connect.storage.StringConverter";
    let (bootstrap, listeners) = (bootstrap.join(","), format!("http://{address}"));
    let set = [
        ("bootstrap.servers", bootstrap.as_str()),
        ("listeners", &listeners),
        ("group.id", "connect-workers"),
        ("config.storage.topic", configs),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.topic", offsets),
        ("offset.storage.partitions", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.topic", status),
        ("status.storage.partitions", "1"),
        ("status.storage.replication.factor", "1"),
        ("key.converter", STRINGS),
        ("value.converter", STRINGS),
        // A drain is seen as soon as a sink has committed.
        ("offset.flush.interval.ms", "500"),
        ("plugin.discovery", "service_load"),
    ];
    text(&set.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
}

/// Writes the logging configuration into a directory; gives the options that name it.
pub(crate) fn write_logging(dir: &Path) -> io::Result<Vec<String>> {
    let mut options = Vec::new();
    for (property, name, text) in LOGGING {
        let path = dir.join(name);
        fs::write(&path, text)?;
        options.push(format!("-D{property}=file:{}", path.display()));
    }
    Ok(options)
}

fn text(set: &BTreeMap<String, String>) -> String {
    set.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::secured::{Identity, Secured};
    use super::*;

    fn place(id: i32) -> BrokerPlace {
        let at = |port: u16| SocketAddr::from(([127, 1, 2, 3], port));
        let base = 9000 + 10 * u16::try_from(id).expect("a small id");
        BrokerPlace {
            id,
            advertised: at(base),
            clients: at(base + 1),
            internal: at(base + 2),
            quorum: at(base + 3),
            by_tls: Vec::new(),
        }
    }

    fn secured_lines(zookeeper: Option<SocketAddr>) -> Vec<String> {
        let secured = Secured {
            issue: std::sync::Arc::new(|_| Identity { chain_pem: "chain".into(), key_pem: "key".into() }),
            ca_pem: "ca".into(),
            wants_client_certificate: true,
            super_user: ("root".into(), "word".into()),
        };
        let (security, mut all) = (secured.on(&[]), [place(0)]);
        let at = |port: u16| SocketAddr::from(([127, 1, 2, 3], port));
        let by_tls = |alone, port| TlsPlace { alone, advertised: at(port), listener: at(port + 1) };
        all[0].by_tls = vec![by_tls(TlsAlone::Mutual, 9004), by_tls(TlsAlone::OneWay, 9006)];
        let config = BrokerConfig {
            colour: Colour::Green,
            place: &all[0],
            all: &all,
            log_dir: Path::new("/data"),
            quorum_secret: "secret",
            zookeeper,
            secured: Some((&security, Path::new("/dir"))),
        };
        broker(&config).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_secured_broker_speaks_plain_text_with_nobody() {
        for zookeeper in [Some(SocketAddr::from(([127, 1, 2, 3], 2181))), None] {
            let lines = secured_lines(zookeeper);
            let value = |key: &str| {
                let found = lines.iter().find_map(|line| line.strip_prefix(&format!("{key}=")));
                found.unwrap_or_else(|| panic!("no {key} in {lines:#?}")).to_owned()
            };
            let protocols = value("listener.security.protocol.map");
            assert!(
                protocols.starts_with("CLIENTS:SASL_SSL,INTERNAL:SASL_SSL,MUTUAL:SSL,ONEWAY:SSL"),
                "{protocols}"
            );
            assert!(value("listeners").contains("MUTUAL://127.1.2.3:9005,ONEWAY://127.1.2.3:9007"));
            assert!(
                value("advertised.listeners").ends_with("MUTUAL://127.1.2.3:9004,ONEWAY://127.1.2.3:9006")
            );
            assert_eq!(value("listener.name.mutual.ssl.client.auth"), "required");
            assert_eq!(value("listener.name.oneway.ssl.client.auth"), "none");
            assert!(!lines.iter().any(|line| line.contains(":PLAINTEXT")), "{lines:#?}");
            assert_eq!(value("allow.everyone.if.no.acl.found"), "false");
            assert_eq!(value("ssl.keystore.location"), "/dir/keystore.pem");
            for listener in ["clients", "internal"] {
                assert_eq!(value(&format!("listener.name.{listener}.ssl.client.auth")), "required");
            }
            let quorum = if zookeeper.is_some() { "" } else { ";User:kutover-quorum" };
            assert_eq!(value("super.users"), format!("User:root{quorum}"));
        }
    }

    fn lines(zookeeper: Option<SocketAddr>) -> Vec<String> {
        let all = [place(0), place(1), place(2)];
        let config = BrokerConfig {
            colour: Colour::Green,
            place: &all[1],
            all: &all,
            log_dir: Path::new("/data"),
            quorum_secret: "secret",
            zookeeper,
            secured: None,
        };
        broker(&config).lines().map(str::to_owned).collect()
    }

    #[test]
    fn clients_are_sent_through_the_forwarder_and_brokers_are_not() {
        for zookeeper in [Some(SocketAddr::from(([127, 1, 2, 3], 2181))), None] {
            let lines = lines(zookeeper);
            let has = |line: &str| assert!(lines.iter().any(|found| found == line), "{line} in {lines:#?}");
            has("advertised.listeners=CLIENTS://127.1.2.3:9010,INTERNAL://127.1.2.3:9012");
            has("inter.broker.listener.name=INTERNAL");
            has("auto.create.topics.enable=false");
            has("allow.everyone.if.no.acl.found=true");
            has("offsets.topic.replication.factor=3");
            if zookeeper.is_some() {
                has("zookeeper.connect=127.1.2.3:2181/KafkaB");
            } else {
                has("controller.quorum.voters=0@127.1.2.3:9003,1@127.1.2.3:9013,2@127.1.2.3:9023");
            }
        }
    }
}
