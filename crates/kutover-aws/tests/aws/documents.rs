//! What is shipped beside the code: the template, the brokers' script, the policy.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use kutover_aws::{STACK_POLICY, template};
use regex_lite::Regex;

use crate::server::tool;

const STACK: &str = "arn:aws:cloudformation:eu-west-1:1:stack/KafkaA/1f6c0d2e-0000-11ee-be56-0242ac120002";

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn cfn_lint_has_nothing_to_say_about_the_template() {
    let Some(lint) = tool("cfn-lint") else {
        let what = "cfn-lint (`cargo xtask test --only aws` installs it)";
        return kutover_testkit::skip("cfn_lint_has_nothing_to_say_about_the_template", what);
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.yaml");
    fs::write(&file, template()).unwrap();
    let output = Command::new(lint).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// CloudFormation takes templates of 51,200 bytes and EC2 user data of 16 KiB.
#[test]
fn the_script_is_whole_in_the_template_and_fits() {
    let script = fs::read_to_string(folder().join("template/broker.sh")).unwrap();
    let template = template();
    let lines: Vec<_> = template.lines().map(str::trim).collect();
    let wanted: Vec<_> = script.lines().map(str::trim).collect();
    assert!(lines.windows(wanted.len()).any(|part| part == wanted), "the script is not in the template");
    assert!(template.len() <= 51_200 && script.len() <= 14 * 1024, "{} and {}", template.len(), script.len());
}

/// A stack that is slow, but not too slow for its template, is waited for: the guide's hold lasts longer.
#[test]
fn the_guides_hold_outlasts_the_templates_timeout() {
    let guide = fs::read_to_string(folder().join("../../docs/aws.md")).unwrap();
    let number = |text: &str, before: &str, after: &str| -> u32 {
        let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).expect(before).0;
        found.parse().expect(before)
    };
    let minutes = number(&template(), "Timeout: PT", "M\n");
    let hours = number(&guide, "\nhold_limit = \"", "h\"");
    assert!(hours * 60 > minutes, "{hours} h, {minutes} min");
    assert!(guide.contains(&format!("have {minutes} minutes")), "the guide says another time than {minutes}");
}

#[test]
fn shellcheck_has_nothing_to_say_about_the_script() {
    let script = folder().join("template/broker.sh");
    let read = Command::new("shellcheck").args(["--shell=bash", "--severity=info"]).arg(script).output();
    let Ok(output) = read else {
        let what = "ShellCheck (Debian: apt-get install shellcheck)";
        return kutover_testkit::skip("shellcheck_has_nothing_to_say_about_the_script", what);
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The policy of a stack names what the template makes: a name that it has not would guard nothing.
#[test]
fn the_stack_policy_guards_what_a_broker_is() {
    let policy: serde_json::Value = serde_json::from_str(STACK_POLICY).unwrap();
    let denied = &policy["Statement"][1];
    assert_eq!((denied["Effect"].as_str(), denied["Principal"].as_str()), (Some("Deny"), Some("*")));
    assert_eq!(denied["Action"], serde_json::json!(["Update:Replace", "Update:Delete"]));
    let guarded = denied["Resource"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let guarded: BTreeSet<_> = guarded.map(|name| name.strip_prefix("LogicalResourceId/").unwrap()).collect();
    assert_eq!(guarded, ["Balancer", "Broker*", "Interface*", "Volume*"].into());
    let template = template();
    let defined = |name: &str| {
        let key = format!("{}:", name.replace('*', "${Id}"));
        template.lines().any(|line| line.trim().trim_start_matches("- ") == key)
    };
    assert!(guarded.iter().all(|name| defined(name)), "not all of {guarded:?} are in the template");
}

/// What the template says of one resource of each broker.
fn of_each(resource: &str) -> String {
    let template = template();
    let after = template.split_once(&format!("- {resource}${{Id}}:\n")).expect("it is there").1;
    after.split("\n\n").next().unwrap_or_default().to_owned()
}

/// A volume whose attachment is deleted while a broker runs is stuck busy: so the stack deletes none, and ends the instance
/// before the volume, which outlives the stack, but no making that fails.
#[test]
fn an_instance_goes_before_its_volume_and_the_volume_stays() {
    let (broker, volume) = (of_each("Broker"), of_each("Volume"));
    assert!(!template().contains("AWS::EC2::VolumeAttachment"));
    assert!(broker.contains("VolumeId: { Ref: !Sub \"Volume${Id}\" }"), "{broker}");
    assert!(!volume.contains("Broker${Id}"), "{volume}");
    for line in
        ["DeletionPolicy: RetainExceptOnCreate\n", "UpdateReplacePolicy: Retain\n", "Encrypted: true\n"]
    {
        assert!(volume.contains(line), "no {line} in {volume}");
    }
}

/// Each property as the script writes it for one broker of some.
fn configured(id: &str, addresses: &str, zookeeper: &str) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let status = Command::new("bash")
        .arg(folder().join("template/broker.sh"))
        .arg("configure")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("KUTOVER_ROOT", root.path())
        .envs([("BROKER_ID", id), ("BROKER_ADDRESSES", addresses), ("ZOOKEEPER_CONNECT", zookeeper)])
        .envs([
            ("SUFFIX", "B"),
            ("STACK_ID", STACK),
            ("SERVER_PROPERTIES", "num.io.threads=4;num.network.threads=2"),
        ])
        .status()
        .unwrap();
    assert!(status.success());
    let text = fs::read_to_string(root.path().join("etc/kafka/server.properties")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_broker_is_configured_for_its_place() {
    let has = |lines: &[String], line: &str| {
        assert!(lines.iter().any(|found| found == line), "no {line} in {lines:?}")
    };
    let four = "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4";
    let second = configured("1", four, "");
    has(&second, "node.id=1");
    has(&second, "process.roles=broker,controller");
    has(&second, "controller.quorum.voters=0@10.0.0.1:9096,1@10.0.0.2:9096,2@10.0.0.3:9096");
    let listens = "CLIENT://10.0.0.2:9092,KUTOVER://10.0.0.2:9094,REPLICATION://10.0.0.2:9095";
    has(&second, &format!("advertised.listeners={listens}"));
    has(&second, &format!("listeners={listens},CONTROLLER://10.0.0.2:9096"));
    has(&second, "min.insync.replicas=2");
    has(&second, "num.network.threads=2");
    // What was acknowledged is on two brokers at least, and a leader without it is none.
    for line in [
        "auto.create.topics.enable=false",
        "default.replication.factor=3",
        "offsets.topic.replication.factor=3",
        "transaction.state.log.replication.factor=3",
        "transaction.state.log.min.isr=2",
        "unclean.leader.election.enable=false",
    ] {
        has(&second, line);
    }
    has(&configured("3", four, ""), "process.roles=broker");
    let alone = configured("0", "10.0.0.1", "");
    for line in [
        "min.insync.replicas=1",
        "default.replication.factor=1",
        "offsets.topic.replication.factor=1",
        "transaction.state.log.replication.factor=1",
        "transaction.state.log.min.isr=1",
    ] {
        has(&alone, line);
    }
    // Both colours may share one ZooKeeper, and so do the stacks of one colour in turn: each has a root of its own.
    let older = configured("0", four, "zk1:2181,zk2:2181");
    let root = format!("/KafkaB/{}", STACK.rsplit('/').next().unwrap());
    has(&older, &format!("zookeeper.connect=zk1:2181,zk2:2181{root}"));
    assert!(!older.iter().any(|line| line.starts_with("process.roles")), "{older:?}");
}

/// An ACL fence needs an authorizer, and binds no super users: nobody who comes by the clients' listener is one.
#[test]
fn a_broker_can_be_fenced() {
    let kraft = configured("1", "10.0.0.1,10.0.0.2,10.0.0.3", "");
    let older = configured("1", "10.0.0.1,10.0.0.2,10.0.0.3", "zk1:2181");
    let value = |lines: &[String], key: &str| {
        let found = lines.iter().rev().find_map(|line| line.strip_prefix(&format!("{key}=")));
        found.map(str::to_owned)
    };
    let authorizer = |lines: &[String]| value(lines, "authorizer.class.name").expect("an authorizer");
    assert_eq!(authorizer(&kraft), "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    assert_eq!(authorizer(&older), "kafka.security.authorizer.AclAuthorizer");
    for lines in [&kraft, &older] {
        assert_eq!(value(lines, "allow.everyone.if.no.acl.found").as_deref(), Some("true"));
        let protocols = value(lines, "listener.security.protocol.map").expect("a map");
        assert!(protocols.starts_with("CLIENT:PLAINTEXT,KUTOVER:PLAINTEXT"), "{protocols}");
    }
    assert_eq!(value(&kraft, "super.users").as_deref(), Some("User:kutover-quorum"));
    assert_eq!(value(&older, "super.users"), None);
}

/// Kafka's id of the cluster: the stack's own UUID in 22 characters.
#[test]
fn a_cluster_has_the_id_of_its_stack() {
    let script = folder().join("template/broker.sh");
    let output = Command::new("bash").arg(script).arg("cluster_id").env("STACK_ID", STACK).output().unwrap();
    let id = String::from_utf8(output.stdout).unwrap();
    // The UUID's sixteen bytes in the URL-safe alphabet, without padding.
    assert_eq!(id.trim(), "H2wNLgAAEe6-VgJCrBIAAg");
}

/// What the template says of one resource that there is once.
fn of_one(resource: &str) -> String {
    let template = template();
    let after = template.split_once(&format!("\n  {resource}:\n")).expect("it is there").1;
    after.split("\n\n").next().unwrap_or_default().to_owned()
}

/// Two stacks stand side by side: what has a name carries the suffix in it.
#[test]
fn every_name_carries_the_suffix() {
    let template = template();
    let resources = template.split_once("\nResources:\n").expect("resources").1;
    let resources = resources.split_once("\nOutputs:\n").expect("outputs").0;
    let names: Vec<&str> = resources
        .lines()
        .map(str::trim)
        .filter(|line| {
            ["Name: ", "GroupName: ", "RoleName: "].iter().any(|key| line.starts_with(key))
                || line.contains("Key: Name,")
        })
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let without: Vec<&&str> = names.iter().filter(|line| !line.contains("${Suffix}")).collect();
    assert!(without.is_empty(), "{without:?}");
}

/// Under isolation clients come in nowhere: neither at the brokers nor at the load balancer.
#[test]
fn clients_come_in_while_it_is_open_alone() {
    for group in ["ClientGroup", "BalancerGroup"] {
        let group = of_one(group);
        let rules = group.split_once("SecurityGroupIngress:\n").expect("rules").1;
        let rules = rules.split_once("      Tags:").expect("tags").0;
        let each: Vec<_> =
            rules.split("\n        - ").map(|rule| rule.trim().trim_start_matches("- ")).collect();
        let is_shut = |rule: &&str| {
            rule.starts_with("!If\n          - IsOpen\n") && rule.ends_with("- !Ref AWS::NoValue")
        };
        assert!(each.iter().all(is_shut), "{each:?}");
    }
    let anywhere = template().matches("CidrIp: !Ref ClientCidr").count();
    let from_balancer = template().matches("SourceSecurityGroupId: !GetAtt BalancerGroup.GroupId").count();
    assert_eq!((anywhere, from_balancer), (2, 1), "clients come in by another group");
}

/// One listener for the bootstrap, over all zones, to targets that are looked at.
#[test]
fn the_load_balancer_serves_the_bootstrap_alone() {
    let listeners = template().matches("Type: AWS::ElasticLoadBalancingV2::Listener\n").count();
    assert_eq!(listeners, 1);
    let (balancer, listener, targets) =
        (of_one("Balancer"), of_one("BootstrapListener"), of_one("BootstrapTargets"));
    assert!(balancer.contains("Type: network\n") && balancer.contains("Scheme: internal\n"), "{balancer}");
    assert!(balancer.contains("{ Key: load_balancing.cross_zone.enabled, Value: \"true\" }"), "{balancer}");
    assert!(listener.contains("Port: 9092\n") && listener.contains("TargetGroupArn: !Ref BootstrapTargets"));
    for looked_at in ["HealthCheckProtocol: TCP", "HealthyThresholdCount: 2", "UnhealthyThresholdCount: 2"] {
        assert!(targets.contains(looked_at), "no {looked_at} in {targets}");
    }
}

/// A broker may do three things, the first two to one thing each.
#[test]
fn a_brokers_role_grants_what_its_script_calls() {
    let role = of_one("BrokerRole");
    let granted: BTreeSet<&str> =
        role.split("Action: \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let wanted = [
        "cloudformation:SignalResource",
        "elasticloadbalancing:DescribeTargetHealth",
        "s3:GetObject",
        "sts:AssumeRole",
    ];
    assert_eq!(granted, wanted.into());
    assert_eq!(role.matches("Action:").count(), wanted.len());
    assert!(
        role.contains("s3:::${ArchiveBucket}/${ArchiveKey}\"")
            && role.contains("Resource: !Ref AWS::StackId")
    );
    let script = fs::read_to_string(folder().join("template/broker.sh")).unwrap();
    for calls in ["aws s3 cp", "aws elbv2 wait target-in-service", "cfn-signal"] {
        assert!(script.contains(calls), "{calls}");
    }
}

/// Who may hand over a role may be what the role may be: it goes to instances alone.
#[test]
fn the_brokers_role_is_handed_to_instances_alone() {
    let text = fs::read_to_string(folder().join("role-policy.json")).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hands = |statement: &&serde_json::Value| statement["Action"].to_string().contains("iam:PassRole");
    let handing: Vec<_> = policy["Statement"].as_array().unwrap().iter().filter(hands).collect();
    let [one] = handing[..] else { panic!("{handing:?}") };
    assert_eq!(one["Action"], "iam:PassRole");
    assert_eq!(one["Condition"]["StringEquals"]["iam:PassedToService"], "ec2.amazonaws.com");
}

/// Rust files below a folder.
fn sources(below: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Where a file has an AWS client otherwise than as `self.client.OPERATION(`, as what it was made as, or as the whole copy of one
/// in the same field: a call by another name would be looked for in vain.
fn aliases(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<_> = code.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
    let code = Regex::new(r"\s*\.\s*").unwrap().replace_all(&lines.join(" "), ".").into_owned();
    let known = [
        r"use aws_sdk_\w+::Client;",
        r"client: self\.client\.clone\(\),",
        r"client: Client,",
        r"(client: |let client = )Client::(new|from_conf)\(",
        // Taken apart by the same words, it is used as `client.`, and that is not known.
        r"Self \{ client, ",
        r"self\.client\.([abd-z]|c[a-km-z])\w+\(",
    ];
    let unknown = known.iter().fold(code, |code, known| {
        Regex::new(&format!(r"\b{known}")).unwrap().replace_all(&code, "").into_owned()
    });
    // Between two blanks it is prose.
    let used = Regex::new(r".{0,30}(\bClient\b|[^ \w]client\b|\bclient[^ \w]).{0,30}").unwrap();
    used.find_iter(&unknown).map(|found| found.as_str().to_owned()).collect()
}

#[test]
fn a_client_has_no_other_name() {
    for path in sources(&folder().join("src")) {
        let found = aliases(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
    for alias in [
        "let asked = &self.client;",
        "let asked = self\n    .client\n    .clone();",
        "let Self { client, .. } = self;\n client.delete_stack()",
        "delete(&self.client).await",
        "fn delete(by: &aws_sdk_cloudformation::Client) {}",
        "use aws_sdk_cloudformation::Client as Stacks;",
    ] {
        assert!(!aliases(alias).is_empty(), "{alias}");
    }
}

/// The actions that the code calls: `self.client`, then the operation, in the folder of its service.
fn called() -> BTreeSet<String> {
    let source = folder().join("src");
    let places = [
        ("route53", source.join("route53/mod.rs")),
        ("s3", source.join("journal.rs")),
        ("cloudformation", source.join("cloudformation/api.rs")),
        ("cloudformation", source.join("cloudformation/isolation.rs")),
        ("elasticloadbalancing", source.join("cloudformation/targets.rs")),
    ];
    for path in sources(&source) {
        let calls = fs::read_to_string(&path)
            .unwrap()
            .split_whitespace()
            .collect::<String>()
            .contains("self.client.");
        let known = places.iter().any(|(_, place)| *place == path);
        assert_eq!(calls, known, "which service {} calls is to be told here", path.display());
    }
    let mut called = BTreeSet::new();
    for (service, path) in places {
        let text: String = fs::read_to_string(path).unwrap().split_whitespace().collect();
        for call in text.split("self.client.").skip(1) {
            let operation = call.split('(').next().unwrap();
            if operation == "clone" {
                continue;
            }
            let words = operation.split('_').map(|word| {
                let (first, rest) = word.split_at(1);
                format!("{}{rest}", first.to_uppercase())
            });
            called.insert(format!("{service}:{}", words.collect::<String>()));
        }
    }
    called
}

/// What is asked for beside what is called: each of these is a call's own condition.
const BESIDE: [&str; 4] =
    ["cloudformation:SetStackPolicy", "cloudformation:TagResource", "iam:PassRole", "s3:ListBucket"];

/// Every action that a policy grants.
fn granted(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut granted = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        match &statement["Action"] {
            serde_json::Value::String(action) => drop(granted.insert(action.clone())),
            many => granted
                .extend(many.as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned())),
        }
    }
    granted
}

/// What makes and removes a thing of each type that the template names. `None`: nobody's rights are asked for.
const MAKES: [(&str, Option<[&str; 2]>); 10] = [
    ("AWS::CloudFormation::WaitCondition", None),
    ("AWS::EC2::Instance", Some(["ec2:RunInstances", "ec2:TerminateInstances"])),
    ("AWS::EC2::NetworkInterface", Some(["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"])),
    ("AWS::EC2::SecurityGroup", Some(["ec2:CreateSecurityGroup", "ec2:DeleteSecurityGroup"])),
    ("AWS::EC2::Volume", Some(["ec2:CreateVolume", "ec2:DeleteVolume"])),
    (
        "AWS::ElasticLoadBalancingV2::Listener",
        Some(["elasticloadbalancing:CreateListener", "elasticloadbalancing:DeleteListener"]),
    ),
    (
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        Some(["elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:DeleteLoadBalancer"]),
    ),
    (
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        Some(["elasticloadbalancing:CreateTargetGroup", "elasticloadbalancing:DeleteTargetGroup"]),
    ),
    ("AWS::IAM::InstanceProfile", Some(["iam:CreateInstanceProfile", "iam:DeleteInstanceProfile"])),
    ("AWS::IAM::Role", Some(["iam:CreateRole", "iam:DeleteRole"])),
];

/// A type that is new in the template needs new rights.
#[test]
fn the_role_for_cloudformation_may_make_and_remove_each_type() {
    let template = template();
    let resources = template.split_once("\nResources:\n").expect("resources").1;
    let types = resources.lines().filter_map(|line| line.trim().strip_prefix("Type: AWS::"));
    let types: BTreeSet<_> = types.map(|kind| format!("AWS::{kind}")).collect();
    assert_eq!(types, MAKES.map(|(kind, _)| kind.to_owned()).into());
    let granted = granted("role-policy.json");
    for action in MAKES.into_iter().filter_map(|(_, actions)| actions).flatten() {
        assert!(granted.contains(action), "no {action}");
    }
}

#[test]
fn the_policy_grants_what_is_called_and_no_more() {
    let granted = granted("policy.json");
    let mut wanted = called();
    assert!(wanted.len() > 10, "the calls are not found: {wanted:?}");
    wanted.extend(BESIDE.map(str::to_owned));
    assert_eq!(granted, wanted, "left: policy.json; right: what the code calls");
}
