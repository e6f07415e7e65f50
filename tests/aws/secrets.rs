//! Runs that fail: AWS that is not there, AWS that refuses, brokers that are not there. A secret is planted in every field
//! that takes one, and none of them is said, logged or kept. (What a run that succeeds says is looked through in `cutover`.)

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use kutover_tests::{Planted, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::account::{Account, BUCKET, SESSION_TOKEN, on_aws};
use crate::name_servers::{SECRET as TSIG, free_port};
use crate::proxy::{Proxy, reply};
use crate::server::SECRET;

/// By field.
const GIVEN: &str = "planted-1c4d-given/in+the file";
const FROM_FILE: &str = "planted-2b8e-password-of-a-file";
const SCRAM: &str = "planted-3f90-a-new-users";
const CONNECT: &str = "planted-4a6b-connects";
const COMMANDS: &str = "planted-5d21-of-the-command";
const PROBE: &str = "planted-6c37-of-who-is-refused";
const USER: &str = "kutover";

fn planted() -> Planted {
    Planted::new([SECRET, SESSION_TOKEN, TSIG, GIVEN, FROM_FILE, SCRAM, CONNECT, COMMANDS, PROBE])
        .with_pair(USER, CONNECT)
}

/// Nobody listens at any of these addresses.
const CLUSTERS: &str = r#"
[clusters.blue.provisioner]
kind = "static"
bootstrap = ["127.0.0.1:1"]
endpoint = { addresses = ["127.0.0.1"] }

[clusters.blue.properties]
"security.protocol" = "sasl_plaintext"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "kutover"
"sasl.password" = "@GIVEN@"

[clusters.blue.probe_properties]
"security.protocol" = "sasl_plaintext"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "kutover-probe"
"sasl.password" = "@PROBE@"

[clusters.blue.connect]
url = "http://127.0.0.1:1"
username = "kutover"
password = "@CONNECT@"

[clusters.green]
@GREEN@

[clusters.green.properties]
"security.protocol" = "sasl_plaintext"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "kutover"
"sasl.password" = { file = "password" }

[clusters.green.connect]
url = "http://127.0.0.1:2"
username = "kutover"
password = { env = "CONNECT_PASSWORD" }

[clusters.green.scram_users]
shop = "@SCRAM@"

[plan]
hold_limit = "1s"
command_timeout = "8s"
"#;

/// Its stack is asked for, and its own password is not in this file.
const STACK: &str = "provisioner = { kind = \"cloudformation\", stack = \"Planted\" }";

/// It says what it was given, and fails.
const FAILING: &str = "provisioner = { kind = \"exec\", environment = { TOKEN = \"@COMMANDS@\" }, \
    command = [\"sh\", \"-c\", \"echo \\\"no cluster for $TOKEN\\\" >&2; exit 1\"] }";

/// A configuration with a secret in each of its fields, in a directory of its own.
struct Case {
    directory: TempDir,
    file: String,
}

impl Case {
    /// The same, where something is on AWS.
    fn with_region(self) -> Self {
        let path = Path::new(&self.file);
        let text = std::fs::read_to_string(path).expect("read");
        std::fs::write(path, text.replace("[dns]\n", "[aws]\nregion = \"us-east-1\"\n\n[dns]\n"))
            .expect("written");
        self
    }

    fn new(journal: &str, dns: &str, green: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!(
            "deployment = \"orders\"\njournal = \"{journal}\"\n\
             endpoints = [{{ name = \"kafka.orders.test\", port = 9092 }}]\n\n[dns]\n{dns}\nzone = \"orders.test\"\n\
             ttl_s = 1\n{CLUSTERS}"
        );
        let text = text
            .replace("@GREEN@", green)
            .replace("@GIVEN@", GIVEN)
            .replace("@CONNECT@", CONNECT)
            .replace("@SCRAM@", SCRAM)
            .replace("@COMMANDS@", COMMANDS)
            .replace("@PROBE@", PROBE);
        let path = directory.path().join("orders.toml");
        std::fs::write(&path, text).expect("written");
        std::fs::write(directory.path().join("password"), format!("{FROM_FILE}\n")).expect("written");
        std::fs::write(directory.path().join("tsig"), format!("{TSIG}\n")).expect("written");
        let file = path.to_str().expect("UTF-8").to_owned();
        Self { directory, file }
    }

    /// Runs every command that takes a configuration. Each fails, says one of these, and none of what was planted.
    fn fails(&self, aws: SocketAddr, words: &[&str]) {
        let sound = self.run(aws, &["check", &self.file]);
        assert_eq!(sound.0, Some(0), "the file itself is sound: {}", sound.1);
        for arguments in [
            &["check", &self.file, "--online", "--json"][..],
            &["plan", &self.file, "--watch", "1", "--json"],
            &["up", &self.file, "--json"],
            &["drain", &self.file, "--every", "1", "--json"],
            &["wait-group", &self.file, "billing", "--every", "1", "--limit", "1", "--json"],
        ] {
            let (status, said) = self.run(aws, arguments);
            assert_ne!(status, Some(0), "{arguments:?}: {said}");
            if ["check", "up"].contains(&arguments[0]) {
                assert!(words.iter().any(|word| said.contains(word)), "{arguments:?}: {said}");
            }
        }
    }

    /// What a person sees, without the log; the log too is looked through.
    fn run(&self, aws: SocketAddr, arguments: &[&str]) -> (Option<i32>, String) {
        let ran = run(on_aws(aws, arguments).env("CONNECT_PASSWORD", CONNECT));
        let what = arguments[0];
        planted().assert_not_in(what, &ran.stdout);
        planted().assert_not_in(what, &ran.stderr);
        (ran.status, format!("{}{}", ran.stdout, ran.shown()))
    }
}

const ROUTE53: &str = "kind = \"route53\"\nzone_ids = [\"Z1\"]";

fn on_s3(key: &str) -> String {
    format!("s3://{BUCKET}/{key}")
}

/// It is not there at all.
#[test]
fn no_secret_comes_out_where_aws_is_not_there() {
    let nobody = free_port();
    let case = Case::new(&on_s3("nobody.journal"), ROUTE53, STACK);
    case.with_region().fails(nobody, &["dispatch failure", "Connection refused", "error trying to connect"]);
}

/// It refuses, and quotes the request that it was sent, token and all, as some of its services do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_where_aws_quotes_what_it_was_sent() {
    let proxy = Proxy::before(free_port()).await;
    proxy.answers(|request| {
        let token = request.to_ascii_lowercase().find("x-amz-security-token:").map(|at| &request[at..]);
        assert!(token.is_some_and(|token| token.contains(SESSION_TOKEN)), "the token is not sent at all");
        let said = format!(
            "<Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated does not match the signature \
             you provided. The Canonical String for this request should have been &apos;POST\n/\n\n\
             x-amz-security-token:{SESSION_TOKEN}\n&apos;</Message>"
        );
        let is_s3 = request.lines().next().is_some_and(|line| line.contains(BUCKET));
        let document = match is_s3 {
            true => format!("<?xml version=\"1.0\"?><Error>{said}</Error>"),
            false => format!("<?xml version=\"1.0\"?><ErrorResponse><Error>{said}</Error></ErrorResponse>"),
        };
        Some(reply("403 Forbidden", &document))
    });
    let case = Case::new(&on_s3("refused.journal"), ROUTE53, STACK).with_region();
    case.fails(proxy.address, &["SignatureDoesNotMatch"]);
}

/// AWS serves, and the brokers do not answer: what is held over that stands in the journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_where_no_broker_answers() {
    let test = "no_secret_comes_out_where_no_broker_answers";
    let Some(account) = Account::open(test).await else { return };
    let zone = account.hosted_zone("orders.test", test).await;
    let dns = format!("kind = \"route53\"\nzone_ids = [\"{zone}\"]");
    let case = Case::new(&on_s3("brokers.journal"), &dns, STACK).with_region();
    case.fails(account.server.address, &["127.0.0.1:1"]);
    planted().assert_not_in("the journal", &account.object("brokers.journal").await);
}

/// A name server that is not there, and a command that says what it was given.
#[test]
fn no_secret_comes_out_where_no_name_server_answers() {
    let server = free_port();
    let dns = format!(
        "kind = \"rfc2136\"\nserver = \"{server}\"\nkey_name = \"kutover\"\nsecret = {{ file = \"tsig\" }}"
    );
    let case = Case::new("orders.journal", &dns, FAILING);
    case.fails(free_port(), &["no cluster for ***", &server.to_string()]);
    // The journal among them.
    planted().assert_not_in_files(case.directory.path(), &["orders.toml", "password", "tsig"]);
}

/// Where a secret can stand in a configuration, as its schema says; a colour's once for both.
fn secret_fields(schema: &Value, node: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = node["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        if name == "Value" {
            found.insert(path.trim_end_matches(".*").to_owned());
            return;
        }
        secret_fields(schema, &schema["$defs"][name], path, found);
    }
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        let name = if ["blue", "green"].contains(&name.as_str()) { "COLOUR" } else { name };
        secret_fields(schema, field, &format!("{path}.{name}"), found);
    }
    for of in ["anyOf", "oneOf", "allOf"] {
        node[of].as_array().into_iter().flatten().for_each(|one| secret_fields(schema, one, path, found));
    }
    for (of, more) in [("additionalProperties", ".*"), ("items", "")] {
        if node[of].is_object() {
            secret_fields(schema, &node[of], &format!("{path}{more}"), found);
        }
    }
}

/// A field that is new and takes a secret is to be planted too. (The contents of token files are in `secured`.)
#[test]
fn every_field_that_takes_a_secret_is_planted() {
    let schema: Value = serde_json::from_str(include_str!("../../docs/kutover.schema.json")).expect("JSON");
    let mut found = BTreeSet::new();
    secret_fields(&schema, &schema, "", &mut found);
    let planted = [
        ".clusters.COLOUR.connect.password",
        ".clusters.COLOUR.probe_properties",
        ".clusters.COLOUR.properties",
        ".clusters.COLOUR.provisioner.environment",
        ".clusters.COLOUR.scram_users",
        ".dns.secret",
    ];
    assert_eq!(found, planted.map(str::to_owned).into());
    let given = ["@GIVEN@", "@PROBE@", "@CONNECT@", "@SCRAM@"];
    assert!(given.iter().all(|secret| CLUSTERS.contains(secret)) && FAILING.contains("@COMMANDS@"));
}
