//! Two clusters that let in nobody without a certificate, a name and a rule for it: 3.9.2 on ZooKeeper, 4.3.1 on KRaft.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kutover_admin::{AdminConfig, KafkaAdmin, ScramPasswords};
use kutover_core::ports::{
    AclRule, ClusterAdmin as _, ClusterProvisioner as _, Incarnation, NewAccess, NewTopic,
};
use kutover_core::words::Colour;
use kutover_lab::{
    ClusterSpec, Identity, KafkaVersion, LabOptions, LabProvisioner, MachineTurn, Secured, TlsAlone,
};
use kutover_tests::tools;
use tempfile::TempDir;

use crate::authority::{Authority, encrypted};
use crate::clients::token;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const PARTITIONS: i32 = 3;
const BLUE: KafkaVersion = KafkaVersion::new(3, 9, 2);
const GREEN: KafkaVersion = KafkaVersion::new(4, 3, 1);

/// Who there is, with a password that must show nowhere.
pub(crate) const CONTROLLER: (&str, &str) = ("kutover", "planted-1f6a-controller");
pub(crate) const SHOP: (&str, &str) = ("shop", "planted-2e7b-shop");
pub(crate) const BILLING: (&str, &str) = ("billing", "planted-3d8c-billing");
/// Whom leaders are asked as whether they refuse.
pub(crate) const PROBE: (&str, &str) = ("probe", "planted-7b4e-probe");
pub(crate) const SUPER: (&str, &str) = ("root", "planted-4c9d-root");
/// Of the controller's key, which its file holds encrypted.
pub(crate) const KEY_PASSWORD: &str = "planted-5a3f-key";
pub(crate) const PASSWORDS: [&str; 6] = [CONTROLLER.1, SHOP.1, BILLING.1, PROBE.1, SUPER.1, KEY_PASSWORD];

pub(crate) type Properties = BTreeMap<String, String>;

/// The clusters, and what clients need to get in.
pub(crate) struct World {
    pub(crate) lab: LabProvisioner,
    pub(crate) blue: Incarnation,
    pub(crate) green: Incarnation,
    /// Where the program's name server is to listen.
    pub(crate) dns: SocketAddr,
    authority: Arc<Authority>,
    pub(crate) client: Identity,
    /// Where the test keeps what is secret: none of the program's files.
    secrets: TempDir,
    _data: TempDir,
    _turn: MachineTurn,
}

impl World {
    /// Both clusters with their super user alone; `None` if this machine cannot run them.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let tools = tools(test, &[BLUE, GREEN]).await?;
        let turn = tools.machine_turn().await.expect("a turn");
        let authority = Arc::new(Authority::new());
        let client = authority.issue(CONTROLLER.0, &[]);
        let brokers = Arc::clone(&authority);
        let secured = Secured {
            ca_pem: authority.pem(),
            issue: Arc::new(move |addresses| brokers.issue("kafka", addresses)),
            wants_client_certificate: true,
            super_user: (SUPER.0.to_owned(), SUPER.1.to_owned()),
        };
        let data = tempfile::tempdir().expect("a directory");
        let spec = |version| ClusterSpec::apache(version).secured(secured.clone());
        let mut options = LabOptions::new(data.path(), spec(BLUE), spec(GREEN));
        options.tools = tools;
        options.is_disposable = true;
        let lab = LabProvisioner::new(options).await.expect("a world");
        let blue = lab.provision(Colour::Blue, &"b".into()).await.expect("blue");
        let green = lab.provision(Colour::Green, &"g".into()).await.expect("green");
        let dns = kutover_lab::loopback::fresh(1, 5353).expect("an address")[0];
        let secrets = tempfile::tempdir().expect("a directory");
        std::fs::write(secrets.path().join("ca.pem"), authority.pem()).expect("written");
        std::fs::write(secrets.path().join("client.pem"), &client.chain_pem).expect("written");
        let key = encrypted(&client.key_pem, KEY_PASSWORD);
        std::fs::write(secrets.path().join("client.key"), key).expect("written");
        std::fs::write(secrets.path().join("key.password"), format!("{KEY_PASSWORD}\n")).expect("written");
        std::fs::write(secrets.path().join("probe.password"), PROBE.1).expect("written");
        std::fs::write(secrets.path().join("token"), token(CONTROLLER.0)).expect("written");
        Some(Self { lab, blue, green, dns, authority, client, secrets, _data: data, _turn: turn })
    }

    /// A file of the test's own secrets.
    pub(crate) fn secret(&self, name: &str) -> PathBuf {
        self.secrets.path().join(name)
    }

    /// What gets a client in, with authority, certificate and key as texts.
    pub(crate) fn properties(&self, mechanism: &str, user: (&str, &str)) -> Properties {
        let mut properties = self.tls();
        properties.extend([
            ("sasl.mechanism".to_owned(), mechanism.to_owned()),
            ("sasl.username".to_owned(), user.0.to_owned()),
            ("sasl.password".to_owned(), user.1.to_owned()),
        ]);
        properties
    }

    /// The same without a name.
    pub(crate) fn tls(&self) -> Properties {
        let mut properties = self.ssl(Some(&self.client));
        properties.insert("security.protocol".to_owned(), "SASL_SSL".to_owned());
        properties
    }

    /// TLS alone, with a certificate or without.
    pub(crate) fn ssl(&self, client: Option<&Identity>) -> Properties {
        let mut properties: Properties = [
            ("security.protocol".to_owned(), "ssl".to_owned()),
            ("ssl.ca.pem".to_owned(), self.authority.pem()),
        ]
        .into();
        if let Some(Identity { chain_pem, key_pem }) = client {
            properties.insert("ssl.certificate.pem".to_owned(), chain_pem.clone());
            properties.insert("ssl.key.pem".to_owned(), key_pem.clone());
        }
        properties
    }

    /// A certificate that the brokers believe, for somebody else.
    pub(crate) fn certificate(&self, name: &str) -> Identity {
        self.authority.issue(name, &[])
    }

    /// A cluster where it takes clients by TLS alone.
    pub(crate) fn by_tls(&self, of: &Incarnation, alone: TlsAlone) -> Incarnation {
        let listeners = self.lab.apache(of.colour).expect("it runs").by_tls(alone);
        Incarnation { bootstrap: listeners.iter().map(SocketAddr::to_string).collect(), ..of.clone() }
    }

    /// The admin client of somebody.
    pub(crate) async fn admin(&self, of: &Incarnation, properties: Properties) -> KafkaAdmin {
        let passwords =
            [CONTROLLER, SHOP, BILLING, PROBE].map(|(user, password)| (user.to_owned(), password.to_owned()));
        let config = AdminConfig {
            bootstrap: of.bootstrap.clone(),
            properties,
            scram_passwords: ScramPasswords::new(passwords.into()),
            ..AdminConfig::default()
        };
        KafkaAdmin::connect(config).await.expect("the cluster lets it in")
    }

    /// The super user's.
    pub(crate) async fn root(&self, of: &Incarnation) -> KafkaAdmin {
        self.admin(of, self.properties("PLAIN", SUPER)).await
    }

    /// What people did before kutover came: on blue everybody and everything, on green the controller alone.
    pub(crate) async fn furnish(&self) {
        let blue = self.root(&self.blue).await;
        let mut all = access(&[CONTROLLER, SHOP, BILLING, PROBE]);
        all.acls.extend(everyones());
        let left = blue.grant(&all).await.expect("blue is furnished");
        assert!(left.is_empty(), "{left:?}");
        let configs = [("retention.ms".to_owned(), "86400000".to_owned())].into();
        let topic = NewTopic { name: TOPIC.into(), partitions: PARTITIONS, replication: 1, configs };
        blue.create_topic(&topic).await.expect("a topic");
        let green = self.root(&self.green).await;
        let left = green.grant(&access(&[CONTROLLER])).await.expect("green is furnished");
        assert!(left.is_empty(), "{left:?}");
    }

    /// The configuration of the program: on blue it gives a password, which is in the environment, on green a token from
    /// a file. Certificates and the key are files, on blue also texts; the key's password comes from the environment and from a
    /// file. On blue, leaders are asked as somebody else.
    pub(crate) fn configuration(&self, scram_users: &str) -> String {
        let mut text = self.beginning();
        let file = |name: &str| self.file(name);
        let scram = |user: &str, password: &str| {
            format!(
                "\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\"sasl.username\" = \"{user}\"\n\
                 \"sasl.password\" = {password}\n\"ssl.key.password\" = {{ env = \"KEY_PASSWORD\" }}\n"
            )
        };
        let with_token = format!(
            "\"sasl.mechanism\" = \"OAUTHBEARER\"\n\"ssl.key.password\" = {{ file = {} }}",
            file("key.password")
        );
        let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
        let common = format!("\"security.protocol\" = \"SASL_SSL\"\n\"ssl.ca.location\" = {ca}\n");
        let in_files =
            format!("\"ssl.certificate.location\" = {certificate}\n\"ssl.key.location\" = {key}\n");
        let as_texts = format!(
            "\"ssl.certificate.pem\" = {{ file = {certificate} }}\n\"ssl.key.pem\" = {{ file = {key} }}\n"
        );
        let as_controller = scram(CONTROLLER.0, "{ env = \"BLUE_PASSWORD\" }") + &as_texts;
        let with_token = with_token + "\n" + &in_files;
        for (colour, cluster, auth) in
            [(Colour::Blue, &self.blue, as_controller), (Colour::Green, &self.green, with_token)]
        {
            text += &self.cluster(colour, cluster, &(common.clone() + &auth));
        }
        let as_probe = scram(PROBE.0, &format!("{{ file = {} }}", file("probe.password"))) + &in_files;
        text += &format!("\n[clusters.blue.probe_properties]\n{common}{as_probe}");
        text + &format!(
            "\n[clusters.green]\ntoken_file = {}\n\n[clusters.green.scram_users]\n{scram_users}\n[plan]\napprove = \"manual\"\ngroups = [\"billing\"]\n\
             waive_history = [\"{TOPIC}\"]\nsoak = \"1s\"\ndrain_poll = \"100ms\"\nhold_limit = \"60s\"\n\
             separation_head_room = 1000\nwatch = \"1s\"\nwaive_super_users = \"*\"\n",
            file("token")
        )
    }

    /// The same without SASL: the controller is known by its certificate.
    pub(crate) fn by_certificate(&self) -> String {
        let mut text = self.beginning();
        let file = |name: &str| self.file(name);
        let properties = format!(
            "\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = {}\n\"ssl.certificate.location\" = {}\n\
             \"ssl.key.location\" = {}\n\"ssl.key.password\" = {{ env = \"KEY_PASSWORD\" }}\n",
            file("ca.pem"),
            file("client.pem"),
            file("client.key")
        );
        for (colour, cluster) in [(Colour::Blue, &self.blue), (Colour::Green, &self.green)] {
            text += &self.cluster(colour, &self.by_tls(cluster, TlsAlone::Mutual), &properties);
        }
        text + "\n[plan]\nwaive_history = \"*\"\nwaive_unread = \"*\"\nwaive_super_users = \"*\"\n"
    }

    /// What no cluster is part of.
    fn beginning(&self) -> String {
        format!(
            "deployment = \"orders\"\njournal = \"orders.journal\"\n\
             endpoints = [{{ name = \"kafka.orders.test\", port = 9092 }}]\n\n\
             [dns]\nkind = \"local\"\nzone = \"orders.test\"\nlisten = \"{}\"\nttl_s = 1\n",
            self.dns
        )
    }

    /// A secret file's name, as TOML has it.
    fn file(&self, name: &str) -> String {
        format!("{:?}", self.secret(name).display().to_string())
    }

    fn cluster(&self, colour: Colour, cluster: &Incarnation, properties: &str) -> String {
        let ip = self.lab.place(colour).ip();
        format!(
            "\n[clusters.{colour}.provisioner]\nkind = \"static\"\nbootstrap = {:?}\n\
             endpoint = {{ addresses = [\"{ip}\"] }}\n\n[clusters.{colour}.properties]\n{properties}",
            cluster.bootstrap
        )
    }

    pub(crate) fn write(&self, directory: &Path, scram_users: &str) -> String {
        written(directory, &self.configuration(scram_users))
    }
}

/// The configuration's file with this text.
pub(crate) fn written(directory: &Path, text: &str) -> String {
    let path = directory.join("orders.toml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn rule(principal: &str, resource: &str, name: &str, operation: &str) -> AclRule {
    let is_prefix = name.ends_with('-');
    AclRule {
        resource: resource.into(),
        name: name.into(),
        pattern: if is_prefix { "prefixed" } else { "literal" }.into(),
        principal: principal.into(),
        host: "*".into(),
        operation: operation.into(),
        permission: "allow".into(),
    }
}

/// What nobody needs for this, and is copied all the same: a prefix, and a denial.
fn everyones() -> [AclRule; 2] {
    let denied = AclRule { permission: "deny".into(), ..rule("User:intern", "topic", TOPIC, "write") };
    [rule("User:analyst", "topic", "order-", "read"), denied]
}

/// What the controller needs, under the name that it bears.
pub(crate) fn controllers(principal: &str) -> [AclRule; 4] {
    [
        ("cluster", "kafka-cluster", "all"),
        ("topic", "*", "all"),
        ("group", "*", "all"),
        ("transactional-id", "*", "describe"),
    ]
    .map(|(resource, name, operation)| rule(principal, resource, name, operation))
}

/// What these users need.
pub(crate) fn access(users: &[(&str, &str)]) -> NewAccess {
    let mut access = NewAccess::default();
    for (user, _) in users {
        access.scram_users.insert((*user).to_owned(), ["SCRAM-SHA-512".to_owned()].into());
        let who = format!("User:{user}");
        let may = |resource: &str, name: &str, operation: &str| rule(&who, resource, name, operation);
        if *user == CONTROLLER.0 {
            access.acls.extend(controllers(&who));
            continue;
        }
        access.acls.extend([
            may("topic", TOPIC, "read"),
            may("topic", TOPIC, "write"),
            may("group", "billing", "read"),
        ]);
        access
            .acls
            .extend([may("topic", "kutover.control", "read"), may("topic", "kutover.members", "write")]);
        let entity = [("user".to_owned(), Some((*user).to_owned()))].into();
        access.quotas.insert(entity, [("producer_byte_rate".to_owned(), 50_000_000.0)].into());
    }
    access
}
