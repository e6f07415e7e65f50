use kutover_core::cutover::SeparationPolicy;

use super::*;

const GOOD: &str = r#"
deployment = "orders"
journal = "orders.journal"
endpoints = [{ name = "Kafka.orders.test.", port = 9092 }, { name = "internal.orders.test", port = 9094 }]

[dns]
kind = "local"
zone = "orders.test"
listen = "127.0.0.1:5353"
ttl_s = 30

[clusters.blue.provisioner]
kind = "static"
bootstrap = ["10.0.0.1:9092", "10.0.0.2:9092"]
endpoint = { addresses = ["10.0.0.2", "10.0.0.1"] }

[clusters.blue.properties]
"sasl.password" = "hunter2"
"socket.keepalive.enable" = true
"socket.timeout.ms" = 30000

[clusters.green.provisioner]
kind = "lab"
kafka = "apache:4.3.1"
brokers = 3

[plan]
topics = ["orders", "audit"]
groups = ["billing"]
soak = "1m 30s"
ttl = "5s"
"#;

const LOCAL: &str = "kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:5353\"";
const RFC2136: &str = "kind = \"rfc2136\"\nzone = \"orders.test\"\nserver = \"127.0.0.1:53\"\n\
    key_name = \"kutover\"\nsecret = \"hunter2\"\nvisible_at = [\"127.0.0.1:53\", \"[::1]:53\"]";

/// `GOOD` with one text put in place of another.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the good file has no `{from}`");
    GOOD.replacen(from, to, 1)
}

#[test]
fn what_the_file_says_is_what_there_is() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.term_endpoint().name, DnsName::new("kafka.orders.test"));
    assert_eq!(config.switch_ttl_s(), 5);
    assert_eq!(config.plan.soak, Duration::from_secs(90));
    assert_eq!(config.plan.approve, Approve::Automatic);
    assert_eq!(config.plan.waive_history, TopicSelection::none());
    assert_eq!(config.plan.schemas_topic.as_str(), "_schemas");
    assert_eq!(config.cutover_plan().separation, SeparationPolicy::Required(Room::default()));
    assert!(config.plan.topics.contains(&"audit".into()));
    assert!(!config.plan.topics.contains(&"other".into()));
    assert!(!TopicSelection::All.contains(&"__consumer_offsets".into()), "reserved topics never are");
    let ProvisionerConfig::Static { endpoint, .. } = &config.clusters.blue.provisioner else {
        panic!("not static")
    };
    let sorted = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    assert_eq!(*endpoint, kutover_core::ports::RecordData::Addresses(sorted));
    let exposed = config.clusters.blue.properties.read().unwrap();
    assert_eq!(exposed["socket.timeout.ms"], "30000");
    assert_eq!(exposed["sasl.password"], "hunter2");
}

#[test]
fn a_written_configuration_reads_back_the_same() {
    let plain = with("[plan]", "[ignored]").split("[ignored]").next().unwrap().to_owned();
    let cname =
        with(r#"endpoint = { addresses = ["10.0.0.2", "10.0.0.1"] }"#, r#"endpoint = { cname = "lb.test" }"#);
    let lab = with("brokers = 3", "brokers = 3\naddress = \"127.4.5.6\"\ndirectory = \"/var/lib/kutover\"");
    let selections = with(
        r#"topics = ["orders", "audit"]"#,
        "topics = \"*\"\nwaive_history = [\"*\"]\nremove_old = false",
    );
    let rfc2136 = with(LOCAL, RFC2136);
    let exec = with(
        "kind = \"lab\"\nkafka = \"apache:4.3.1\"\nbrokers = 3",
        "kind = \"exec\"\ncommand = [\"make-cluster\", \"-v\"]\nenvironment = { TOKEN = { env = \"T\" } }",
    );
    for text in [GOOD, &plain, &cname, &lab, &selections, &rfc2136, &exec] {
        let config = Config::parse(text).unwrap();
        let written = config.to_toml().unwrap();
        assert_eq!(Config::parse(&written).unwrap(), config, "{written}");
    }
}

/// The examples that people copy are configurations.
#[test]
fn the_documented_examples_are_taken() {
    let module: String = include_str!("../config.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .fold(String::new(), |text, line| text + line.strip_prefix(' ').unwrap_or(line) + "\n");
    for documented in [module.as_str(), include_str!("../../../../docs/configuration.md")] {
        let example = documented.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let config = Config::parse(example).unwrap();
        assert_eq!(config.plan.soak, Duration::from_secs(600));
    }
}

/// Every field of the reference is in the overview.
#[test]
fn the_overview_names_every_field() {
    let overview = include_str!("../../../../docs/configuration.md");
    let config = Config::parse(GOOD).unwrap();
    let written: toml::Table = toml::from_str(&config.to_toml().unwrap()).unwrap();
    for table in ["dns", "plan"] {
        for field in written[table].as_table().unwrap().keys() {
            assert!(
                overview.contains(&format!("| `{field}` |")),
                "docs/configuration.md lacks `{table}.{field}`"
            );
        }
    }
}

#[test]
fn a_file_is_named_in_its_errors_and_its_journal_lies_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.toml");
    let missing = Config::load(&path).unwrap_err().to_string();
    assert!(missing.contains("orders.toml: cannot be read"), "{missing}");
    std::fs::write(&path, GOOD).unwrap();
    let loaded = Config::load(&path).unwrap();
    assert_eq!(loaded.journal.file(), Some(directory.path().join("orders.journal").as_path()));
    std::fs::write(&path, with("ttl_s = 30", "ttl_s = 0")).unwrap();
    let broken = Config::load(&path).unwrap_err().to_string();
    assert!(
        broken.ends_with(
            "orders.toml, line 10: field `dns.ttl_s`: 0 is out of range; write 1 to 86400 seconds"
        )
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let config = Config::parse(&with(LOCAL, RFC2136)).unwrap();
    let shown = format!("{config:?} {:#?}", config.clusters.blue);
    assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    for broken in [
        with(r#""hunter2""#, r#"{ hunter2 = 1 }"#),
        with(r#""hunter2""#, r#"["hunter2"]"#),
        with(r#""hunter2""#, r#""hunter2"#),
        with(r#""hunter2""#, "hunter2"),
        with("ttl_s = 30", "ttl_s = 0"),
        with(LOCAL, &RFC2136.replace("\"hunter2\"", "[\"hunter2\"]")),
        with(LOCAL, &RFC2136.replace("\"hunter2\"", "{ hunter2 = 1 }")),
    ] {
        let error = Config::parse(&broken).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

/// What is put in place of what, and what the error then says.
const BROKEN: &[(&str, &str, &str)] = &[
    ("deployment = \"orders\"\n", "", "missing field `deployment`; add it"),
    (
        "\"orders\"",
        "\"or ders\"",
        "line 2: field `deployment`: `or ders` is no deployment name; use 1 to 63 letters",
    ),
    (
        "\"orders\"",
        "7",
        "line 2: field `deployment`: invalid type: integer `7`, expected a string; write it in that form",
    ),
    ("journal = \"orders.journal\"\n", "", "missing field `journal`; add it"),
    ("\"orders.journal\"", "\"/\"", "line 3: field `journal`: names no file; write a path"),
    (
        "Kafka.orders.test.",
        "kafka..test",
        "line 4: field `endpoints[0].name`: `kafka..test` is no DNS name; use labels",
    ),
    ("port = 9092", "port = 0", "line 4: field `endpoints[0].port`: invalid value: integer `0`"),
    (
        "port = 9092",
        "prot = 9092",
        "field `endpoints[0].prot`: unknown field `prot`, expected one of `name`, `port`, `zone_id`; correct",
    ),
    (
        "internal.orders.test",
        "kafka.orders.test",
        "field `endpoints[1].name`: `kafka.orders.test` stands there twice; delete",
    ),
    (
        "internal.orders.test",
        "internal.bills.test",
        "field `endpoints[1].name`: `internal.bills.test` is not in the zone `orders.test`; correct",
    ),
    (
        "kind = \"local\"",
        "kind = \"route54\"",
        "line 7: field `dns.kind`: unknown variant `route54`, expected one of `local`, `rfc2136`, `route53`; write one",
    ),
    (
        "listen = \"127.0.0.1:5353\"",
        "listen = \"127.0.0.1\"",
        "line 9: field `dns.listen`: invalid socket address syntax; write address and port, as in 127.0.0.1:5353",
    ),
    ("listen = \"127.0.0.1:5353\"\n", "", "field `dns`: `listen` is missing; write listen = "),
    (
        "listen = \"127.0.0.1:5353\"",
        "listen = \"127.0.0.1:5353\"\nserver = \"127.0.0.1:53\"",
        "field `dns`: `server` does not belong to kind `local`; delete it or change the kind",
    ),
    (
        "kind = \"local\"",
        "kind = \"rfc2136\"",
        "field `dns`: `listen` does not belong to kind `rfc2136`; delete it",
    ),
    (
        "kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:5353\"",
        "kind = \"rfc2136\"\nzone = \"orders.test\"\nserver = \"127.0.0.1:53\"\nkey_name = \"k\"",
        "field `dns`: `secret` is missing; write secret = { file = ",
    ),
    (
        "kind = \"local\"\nzone = \"orders.test\"\nlisten = \"127.0.0.1:5353\"",
        "kind = \"rfc2136\"\nzone = \"orders.test\"\nserver = \"ns.orders.test\"",
        "line 9: field `dns.server`: invalid socket address syntax; write address and port",
    ),
    (
        "ttl_s = 30",
        "ttl_s = -1",
        "line 10: field `dns.ttl_s`: invalid value: integer `-1`, expected u32; write it in that form",
    ),
    (
        "ttl_s = 30",
        "ttl_s = 90000",
        "line 10: field `dns.ttl_s`: 90000 is out of range; write 1 to 86400 seconds",
    ),
    (
        "kind = \"static\"",
        "",
        "field `clusters.blue.provisioner`: `kind` is missing; write kind = \"static\"",
    ),
    (
        "kind = \"static\"",
        "kind = \"terraform\"",
        "field `clusters.blue.provisioner`: `kind`: `terraform` is unknown; write",
    ),
    (
        "kind = \"static\"",
        "kind = \"static\"\nkafka = \"embedded\"",
        "`kafka` does not belong to kind `static`; delete it or change",
    ),
    (
        "kind = \"static\"",
        "kind = \"exec\"",
        "field `clusters.blue.provisioner`: `bootstrap` does not belong to kind `exec`; delete it",
    ),
    (
        "kind = \"lab\"\nkafka = \"apache:4.3.1\"\nbrokers = 3",
        "kind = \"exec\"\ncommand = [\"\"]",
        "field `clusters.green.provisioner`: `command` is missing; write the program",
    ),
    ("\"10.0.0.1:9092\", ", "\"10.0.0.1\", ", "`bootstrap`: `10.0.0.1` is no server; write host:port"),
    (
        "{ addresses = [\"10.0.0.2\", \"10.0.0.1\"] }",
        "{ addresses = [] }",
        "`endpoint` must say where the name leads; write either",
    ),
    (
        "{ addresses = [\"10.0.0.2\", \"10.0.0.1\"] }",
        "{ cname = \"a b\" }",
        "`endpoint.cname`: `a b` is no DNS name; use labels",
    ),
    (
        "kafka = \"apache:4.3.1\"",
        "kafka = \"apache:4\"",
        "field `clusters.green.provisioner`: `kafka`: `apache:4` is no lab cluster; write",
    ),
    ("brokers = 3", "brokers = 0", "`brokers`: 0 is out of range; write 1 to 9"),
    ("brokers = 3", "borkers = 3", "unknown field `borkers`, expected one of"),
    (
        "\"sasl.password\"",
        "\"bootstrap.servers\"",
        "field `clusters.blue.properties.bootstrap.servers`: is set by kutover from the provisioner; delete it",
    ),
    (
        "[\"orders\", \"audit\"]",
        "\"orders\"",
        "field `plan.topics`: `orders` is neither `\"*\"` nor a list; write `\"*\"` or `[\"orders\"]`",
    ),
    (
        "\"audit\"",
        "\"kutover.control\"",
        "field `plan.topics`: topic `kutover.control` is kutover's or Kafka's own; take it out",
    ),
    ("\"audit\"", "\"au dit\"", "field `plan.topics`: `au dit` is no topic name; use 1 to 249"),
    (
        "[\"orders\", \"audit\"]",
        "3",
        "field `plan.topics`: expected `\"*\"` or a list of names; write it in that form",
    ),
    (
        "soak = \"1m 30s\"",
        "soak = 90",
        "field `plan.soak`: `90` is no duration (its unit is missing); write a number and a unit",
    ),
    ("soak = \"1m 30s\"", "soak = \"90\"", "field `plan.soak`: `\"90\"` is no duration (time unit needed"),
    (
        "soak = \"1m 30s\"",
        "soak = \"20 days\"",
        "field `plan.soak`: 20days is out of range; write 0s to 7days",
    ),
    (
        "soak = \"1m 30s\"",
        "drain_poll = \"0s\"",
        "field `plan.drain_poll`: 0s is out of range; write 10ms to 7days",
    ),
    ("soak = \"1m 30s\"", "soka = \"90s\"", "field `plan.soka`: unknown field `soka`, expected one of"),
    (
        "soak = \"1m 30s\"",
        "approve = \"maybe\"",
        "field `plan.approve`: unknown variant `maybe`, expected `automatic` or `manual`; write one",
    ),
    (
        "soak = \"1m 30s\"",
        "active = \"red\"",
        "field `plan.active`: unknown variant `red`, expected `blue` or `green`; write one",
    ),
    (
        "soak = \"1m 30s\"",
        "fence = \"waived\"",
        "field `plan.fence`: without a fence nothing is removed automatically; set plan.approve",
    ),
    (
        "soak = \"1m 30s\"",
        "separation = \"maybe\"",
        "field `plan.separation`: unknown variant `maybe`, expected `on` or `off`; write one",
    ),
    (
        "soak = \"1m 30s\"",
        "separation_limit = 50000",
        "field `plan.separation_head_room`: 100000 ids are more than plan.separation_limit = 50000 allows",
    ),
    (
        "ttl = \"5s\"",
        "ttl = \"31s\"",
        "field `plan.ttl`: 31s is no time to live here; write whole seconds, 1s to 30s (`dns.ttl_s`)",
    ),
    (
        "ttl = \"5s\"",
        "ttl = \"1s 5ms\"",
        "field `plan.ttl`: 1s 5ms is no time to live here; write whole seconds",
    ),
    ("[plan]", "[plan", "line 27: is not TOML ("),
    ("[plan]", "deployment = \"twice\"\n[plan]", "`deployment`, expected one of"),
    (
        "soak = \"1m 30s\"",
        "waive_groups = [\"billing\"]",
        "field `plan.waive_groups`: `billing` stands in plan.groups too; delete it",
    ),
    ("[\"billing\"]", "[\"\"]", "field `plan.groups`: `` is no group id; delete it"),
    ("soak = \"1m 30s\"", "schemas_topic = \"\"", "field `plan.schemas_topic`: is empty; name Schema"),
    (
        "[clusters.green.provisioner]",
        "[clusters.green.fence]\nkind = \"exec\"\ncommand = []\n\n[clusters.green.provisioner]",
        "field `clusters.green.fence.command`: is empty; write the program and its arguments",
    ),
    (
        "[clusters.green.provisioner]",
        "[clusters.green.fence]\nkind = \"acl\"\ncommand = [\"x\"]\n\n[clusters.green.provisioner]",
        "unknown field `command`",
    ),
    (
        "[clusters.green.provisioner]",
        "[clusters.green.fence]\nkind = \"firewall\"\n\n[clusters.green.provisioner]",
        "unknown variant `firewall`, expected one of `acl`, `size`, `exec`",
    ),
];

#[test]
fn what_is_wrong_is_named_with_its_field_and_fix() {
    let mut failures = Vec::new();
    for (from, to, expected) in BROKEN {
        match Config::parse(&with(from, to)) {
            Ok(_) => failures.push(format!("`{to}` was taken; expected: {expected}")),
            Err(error) if !error.to_string().contains(expected) => {
                failures.push(format!("`{to}`\n  said:     {error}\n  expected: {expected}"));
            }
            Err(_) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A deployment that is all on AWS.
const AWS: &str = r#"
deployment = "Kafka"
journal = "s3://example-kutover/orders.journal"
endpoints = [{ name = "kafka.orders.test", port = 9092 }]

[aws]
region = "eu-west-1"

[dns]
kind = "route53"
zone = "orders.test"
ttl_s = 60
zone_ids = ["Z1", "Z2"]

[clusters.blue.provisioner]
kind = "cloudformation"
stack = "Kafka"
role_arn = "arn:aws:iam::1:role/kutover"

[clusters.blue.provisioner.parameters]
KafkaVersion = "3.9.2"

[clusters.green.provisioner]
kind = "cloudformation"
stack = "Kafka"
template = "cluster.yaml"
"#;

#[test]
fn a_deployment_on_aws_is_taken_and_written_back() {
    let config = Config::parse(AWS).unwrap();
    let at = JournalPlace::S3 { bucket: "example-kutover".into(), key: "orders.journal".into() };
    assert_eq!(config.journal, at);
    assert_eq!(Config::parse(&config.to_toml().unwrap()).unwrap(), config);
    for (from, to, expected) in [
        (
            "s3://example-kutover/orders.journal",
            "s3://example-kutover",
            "field `journal`: `s3://example-kutover` names no object",
        ),
        ("stack = \"Kafka\"", "", "`stack` is missing"),
        ("stack = \"Kafka\"", "stack = \"Kafka_1\"", "`stack`: `Kafka_1` is no stack's name"),
        ("KafkaVersion", "Isolation", "`parameters.Isolation` is set by kutover"),
        (
            "stack = \"Kafka\"",
            "stack = \"Kafka\"\nbrokers = 3",
            "`brokers` does not belong to kind `cloudformation`",
        ),
        (
            "zone_ids = [\"Z1\", \"Z2\"]",
            "listen = \"127.0.0.1:53\"",
            "`listen` does not belong to kind `route53`",
        ),
        (
            "zone_ids = [\"Z1\", \"Z2\"]",
            "alias_zone_id = \"Z3\"\n[plan]\nttl = \"5s\"",
            "field `dns.ttl_s`: must be 60",
        ),
        (
            "kind = \"route53\"",
            "kind = \"local\"\nlisten = \"127.0.0.1:5353\"",
            "`zone_ids` does not belong to kind `local`",
        ),
        ("region", "regoin", "unknown field `regoin`"),
    ] {
        assert!(AWS.contains(from));
        let error = Config::parse(&AWS.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
    // Named by their ids, hosted zones may be several; found by its name, it is one.
    let outside = AWS.replace("kafka.orders.test", "kafka.internal.test");
    Config::parse(&outside).unwrap();
    let error = Config::parse(&outside.replace("zone_ids = [\"Z1\", \"Z2\"]", "")).unwrap_err();
    assert_eq!(error.field(), Some("endpoints[0].name"));
    let local = AWS.replace("kind = \"route53\"", "kind = \"local\"\nlisten = \"127.0.0.1:5353\"");
    let error = Config::parse(&local.replace("zone_ids = [\"Z1\", \"Z2\"]", "")).unwrap_err();
    assert_eq!(error.field(), Some("journal"));
}

/// The document's example, with what it leaves out for brevity.
#[test]
fn the_documented_aws_example_is_taken() {
    let document = include_str!("../../../../docs/aws.md");
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    Config::parse(example).unwrap();
}

/// L5: two colours that lead to the same place move nobody.
#[test]
fn colours_that_are_the_same_cluster_are_refused() {
    let green = "[clusters.green.provisioner]\nkind = \"lab\"\nkafka = \"apache:4.3.1\"\nbrokers = 3";
    let shared = |server: &str, address: &str| {
        let to = format!(
            "[clusters.green.provisioner]\nkind = \"static\"\nbootstrap = [\"{server}:9092\"]\nendpoint = {{ addresses = [{address}] }}"
        );
        Config::parse(&with(green, &to)).unwrap_err()
    };
    let error = shared("10.0.0.2", "\"10.0.0.9\"");
    assert_eq!(error.field(), Some("clusters.green.provisioner.bootstrap"));
    assert_eq!(error.line(), Some(24));
    let error = shared("10.0.0.9", "\"10.0.0.1\", \"10.0.0.2\"");
    assert_eq!(error.field(), Some("clusters.green.provisioner.endpoint"));
}
