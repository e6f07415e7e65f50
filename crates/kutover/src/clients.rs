//! What the clients of a colour are made with, as its configuration says.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use kutover_admin::ScramPasswords;
use kutover_connect::{ConnectOptions, HttpConnect};
use kutover_controller::config::{AwsConfig, ClusterConfig, Config, ConnectConfig, Properties};
use kutover_core::ports::TokenProvider;
use kutover_core::words::Colour;
use kutover_kafka::{ClientHooks, ClientProperties, FileTokens};

/// What the clients of one colour are made with.
pub(crate) struct Clients {
    /// As configured, for the admin client.
    pub(crate) plain: BTreeMap<String, String>,
    /// Of the client that asks leaders whether they refuse, where it has its own.
    pub(crate) probe: Option<BTreeMap<String, String>>,
    /// The same as `plain`, for librdkafka's.
    pub(crate) checked: ClientProperties,
    pub(crate) tokens: Option<Arc<dyn TokenProvider>>,
    /// The probe's own, where it has some.
    pub(crate) probe_tokens: Option<Arc<dyn TokenProvider>>,
    /// For SCRAM users that the cluster may have to be given.
    pub(crate) scram_passwords: ScramPasswords,
    pub(crate) workers: Option<Arc<HttpConnect>>,
}

impl Clients {
    /// Those of a colour.
    ///
    /// # Errors
    /// A property that is not accepted, by its field.
    pub(crate) fn of(config: &Config, colour: Colour) -> anyhow::Result<Self> {
        let (aws, config) = (&config.aws, config.clusters.get(colour));
        let field = |name: &str| format!("field `clusters.{colour}.{name}`");
        let tokens = tokens(config, aws, &field)?;
        let (plain, checked) =
            read(&config.properties, tokens.as_ref()).with_context(|| field("properties"))?;
        let probe_tokens = config.probe_token_file.as_ref().map(|path| Arc::new(FileTokens::new(path)) as _);
        let of_the_probe = probe_tokens.as_ref().or(tokens.as_ref());
        let probe = match config.probe_properties.is_empty() {
            true => None,
            false => Some(
                read(&config.probe_properties, of_the_probe).with_context(|| field("probe_properties"))?,
            ),
        };
        if probe_tokens.is_some() && !probe.as_ref().map_or(&checked, |(_, checked)| checked).takes_tokens() {
            bail!(
                "{}: the client that proves fences takes no tokens; say `sasl.mechanism` = \"OAUTHBEARER\" in \
                 `probe_properties`, or leave it out",
                field("probe_token_file")
            );
        }
        let probe = probe.map(|(plain, _)| plain);
        let passwords = config.scram_users.read();
        let passwords = passwords
            .map_err(|(name, reason)| anyhow!("{}: {reason}", field(&format!("scram_users.{name}"))))?;
        let workers = config.connect.as_ref().map(|connect| workers(connect, &field)).transpose()?;
        let scram_passwords = ScramPasswords::new(passwords);
        Ok(Self { plain, probe, checked, tokens, probe_tokens, scram_passwords, workers })
    }

    /// What librdkafka calls back.
    pub(crate) fn hooks(&self) -> ClientHooks {
        match &self.tokens {
            Some(tokens) => {
                ClientHooks::default().with_tokens(Arc::clone(tokens), tokio::runtime::Handle::current())
            }
            None => ClientHooks::default(),
        }
    }
}

/// Client properties with their values, and the same for librdkafka.
fn read(
    properties: &Properties,
    tokens: Option<&Arc<dyn TokenProvider>>,
) -> anyhow::Result<(BTreeMap<String, String>, ClientProperties)> {
    let plain = properties.read().map_err(|(name, reason)| anyhow!("client property `{name}`: {reason}"))?;
    let checked = ClientProperties::new(plain.clone())?;
    if checked.takes_tokens() && tokens.is_none() {
        bail!(
            "`sasl.mechanism` is OAUTHBEARER, and there is no token; add `token_file` (for `probe_properties` alone \
             `probe_token_file`), or `msk_iam = true`, beside `provisioner`"
        );
    }
    kutover_admin::check_security(&plain, tokens)?;
    Ok((plain, checked))
}

/// Where a colour's tokens come from, if it takes any.
fn tokens(
    config: &ClusterConfig,
    aws: &AwsConfig,
    field: &impl Fn(&str) -> String,
) -> anyhow::Result<Option<Arc<dyn TokenProvider>>> {
    Ok(match (&config.token_file, config.msk_iam) {
        (Some(_), true) => {
            bail!(
                "{}: `token_file` and `msk_iam` are two sources of tokens; leave one out",
                field("token_file")
            )
        }
        (Some(path), false) => Some(Arc::new(FileTokens::new(path))),
        (None, true) => Some(crate::aws::msk_tokens(aws).with_context(|| field("msk_iam"))?),
        (None, false) => None,
    })
}

/// The Connect workers that a configuration names.
fn workers(config: &ConnectConfig, field: &impl Fn(&str) -> String) -> anyhow::Result<Arc<HttpConnect>> {
    let mut credentials = None;
    if let (Some(user), Some(password)) = (&config.username, &config.password) {
        let password =
            password.read().map_err(|reason| anyhow!("{}: {reason}", field("connect.password")))?;
        credentials = Some((user.clone(), password.expose().to_owned()));
    }
    let options = ConnectOptions { url: config.url.clone(), credentials, ca_file: config.ca_file.clone() };
    // What can be wrong before anybody is asked are the certificates.
    let workers = HttpConnect::new(&options).with_context(|| field("connect.ca_file"))?;
    Ok(Arc::new(workers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of green, with these lines beside its provisioner.
    fn refusal(lines: &str) -> String {
        refusal_beside("", lines)
    }

    /// The same, with others beside blue's.
    fn refusal_beside(blue: &str, lines: &str) -> String {
        match Clients::of(&config(blue, lines), Colour::Green) {
            Ok(_) => panic!("it was accepted"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn config(blue: &str, green: &str) -> Config {
        let cluster = "provisioner = { kind = \"lab\", kafka = \"embedded\" }";
        let text = format!(
            "deployment = \"orders\"\njournal = \"orders.journal\"\nendpoints = [{{ name = \"kafka.orders.test\", port = 9092 }}]\n\
             dns = {{ kind = \"local\", zone = \"orders.test\", listen = \"127.0.0.1:0\", ttl_s = 1 }}\n\
             [clusters.blue]\n{cluster}\n{blue}\n[clusters.green]\n{cluster}\n{green}\n"
        );
        Config::parse(&text).unwrap()
    }

    /// Where tokens come from is said once, and a program without AWS says how to have it.
    #[test]
    fn tokens_come_from_one_place() {
        let both = refusal("token_file = \"token\"\nmsk_iam = true");
        assert!(both.starts_with("field `clusters.green.token_file`: `token_file` and `msk_iam`"), "{both}");
        if cfg!(not(feature = "aws")) {
            let left_out = refusal("msk_iam = true");
            assert!(left_out.starts_with("field `clusters.green.msk_iam`"), "{left_out}");
            assert!(left_out.contains("--features aws"), "{left_out}");
        }
        if cfg!(feature = "tls") {
            let none = refusal(
                "properties = { \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanism\" = \"OAUTHBEARER\" }",
            );
            assert!(none.contains("`token_file`") && none.contains("`msk_iam = true`"), "{none}");
        }
    }

    /// Who asks leaders whether they refuse has all of its own properties, or all of the controller's.
    #[test]
    fn the_probe_has_its_own_properties_or_none() {
        let probe = |lines: &str| Clients::of(&config("", lines), Colour::Green).unwrap().probe;
        let controllers = "properties = { \"socket.timeout.ms\" = 1000 }";
        assert_eq!(probe(controllers), None);
        let own = probe(&format!("{controllers}\nprobe_properties = {{ \"socket.timeout.ms\" = 2000 }}"));
        assert_eq!(own, Some([("socket.timeout.ms".to_owned(), "2000".to_owned())].into()));
    }

    /// A principal of its own, which no fence of the controller's making has to spare, is a token of its own.
    #[tokio::test]
    async fn the_probe_takes_its_own_tokens_or_everybodys() {
        let vain = refusal("probe_token_file = \"probes\"");
        assert!(vain.starts_with("field `clusters.green.probe_token_file`: "), "{vain}");
        assert!(vain.contains("OAUTHBEARER") && vain.contains("`probe_properties`"), "{vain}");
        if cfg!(not(feature = "tls")) {
            return;
        }
        // Unsigned, of `kutover` and of `probe`, until the year 9999.
        const KUTOVERS: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJrdXRvdmVyIiwiZXhwIjoyNTMzNzA3NjQ4MDB9.";
        const PROBES: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwcm9iZSIsImV4cCI6MjUzMzcwNzY0ODAwfQ.";
        const BEARER: &str =
            "{ \"security.protocol\" = \"SASL_PLAINTEXT\", \"sasl.mechanism\" = \"OAUTHBEARER\" }";
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, token: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, token).unwrap();
            format!("{:?}", path.display().to_string())
        };
        let (kutovers, probes) = (file("kutovers", KUTOVERS), file("probes", PROBES));
        let of = |lines: String| Clients::of(&config("", &lines), Colour::Green).unwrap();
        // With properties of its own, and with the controller's.
        for more in [
            format!("probe_properties = {BEARER}"),
            format!("properties = {BEARER}\ntoken_file = {kutovers}"),
        ] {
            let clients = of(format!("{more}\nprobe_token_file = {probes}"));
            let provider = clients.probe_tokens.expect("it has its own");
            let taken = provider.token().await.unwrap();
            assert_eq!((taken.principal.as_str(), taken.value.as_str()), ("probe", PROBES));
            assert!(!format!("{provider:?} {taken:?}").contains(PROBES));
        }
        let shared = of(format!("properties = {BEARER}\ntoken_file = {kutovers}"));
        assert!(shared.probe_tokens.is_none() && shared.tokens.is_some());
    }

    /// What is wrong is told by the field that it stands in.
    #[test]
    fn each_part_is_told_by_its_own_field() {
        let unset = "{ env = \"KUTOVER_NO_SUCH_VARIABLE\" }";
        let blue = "connect = { url = \"https://blue.test:8083\" }";
        let connect = |more: &str| format!("connect = {{ url = \"https://green.test:8083\", {more} }}");
        for (blue, lines, field) in [
            (blue, connect("ca_file = \"/nowhere/ca.pem\""), "connect.ca_file"),
            (blue, connect(&format!("username = \"kutover\", password = {unset}")), "connect.password"),
            ("", format!("scram_users = {{ alice = {unset} }}"), "scram_users.alice"),
            ("", format!("properties = {{ \"sasl.password\" = {unset} }}"), "properties"),
            ("", "properties = { acks = \"1\" }".to_owned(), "properties"),
            ("", format!("probe_properties = {{ \"sasl.password\" = {unset} }}"), "probe_properties"),
            ("", "probe_properties = { acsk = \"all\" }".to_owned(), "probe_properties"),
        ] {
            let text = refusal_beside(blue, &lines);
            assert!(text.starts_with(&format!("field `clusters.green.{field}`: ")), "{field}: {text}");
            assert_eq!(text.matches("field `").count(), 1, "{text}");
        }
    }
}
