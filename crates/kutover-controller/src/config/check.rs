//! What no field can say by itself: rules between fields.

use std::collections::BTreeSet;
use std::time::Duration;

use kutover_core::ports::{Published, RecordData, RecordSet};
use kutover_core::words::{Colour, DnsName};

use super::{Approve, Config, DnsKind, FenceConfig, FencePolicy, JournalPlace, ProvisionerConfig};

/// The field at fault, and what is wrong with it and the fix.
pub(super) type Fault = (String, String);

/// RFC 2181, 8: a TTL has 31 bits. A day is more than anybody waits out at a cutover.
const LONGEST_TTL_S: u32 = 86_400;

/// The first fault of each table.
pub(super) fn check(config: &Config) -> Vec<Fault> {
    let tables = [paths, aws, endpoints, dns, clusters, super::connect::check, plan];
    tables.into_iter().filter_map(|table| table(config).err()).collect()
}

pub(super) fn fault<T>(field: impl Into<String>, message: impl Into<String>) -> Result<T, Fault> {
    Err((field.into(), message.into()))
}

fn paths(config: &Config) -> Result<(), Fault> {
    match (&config.journal, &config.dns.kind) {
        (JournalPlace::File(path), _) if path.file_name().is_none() => {
            fault("journal", "names no file; write a path as in \"orders.journal\"")
        }
        (JournalPlace::S3 { .. }, DnsKind::Local { .. }) => fault(
            "journal",
            "is no file, and dns.kind = \"local\" keeps its zone beside it; name a file, or keep the records elsewhere",
        ),
        _ => Ok(()),
    }
}

/// A region is a part of host names: what is none is refused by the SDK in words that name neither field nor fix.
fn aws(config: &Config) -> Result<(), Fault> {
    let is_label = |region: &str| {
        !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match config.aws.region.as_deref().filter(|region| !is_label(region)) {
        Some(region) => fault("aws.region", format!("`{region}` is no region; write it as in \"eu-west-1\"")),
        None => Ok(()),
    }
}

fn endpoints(config: &Config) -> Result<(), Fault> {
    if config.endpoints.is_empty() {
        return fault("endpoints", "is empty; name at least the one that clients bootstrap from");
    }
    let mut seen = BTreeSet::new();
    let inside = format!(".{}", config.dns.zone);
    // Hosted zones that are named by their ids may be several, and their names stand in Route 53.
    let elsewhere = matches!(&config.dns.kind, DnsKind::Route53(at) if !at.zone_ids.is_empty());
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let field = format!("endpoints[{index}].name");
        if let Some(id) = &endpoint.zone_id {
            zone_id(config, index, id)?;
        }
        if !seen.insert(endpoint.key()) {
            return fault(field, format!("`{}` stands there twice; delete one of them", endpoint.key()));
        }
        // One of them might lie in the other's zone.
        let twin = |other: &&super::Endpoint| other.name == endpoint.name && other.zone_id.is_none();
        if endpoint.zone_id.is_some() && config.endpoints.iter().any(|other| twin(&other)) {
            let message = format!("`{}` stands there without `zone_id` too; name each one's", endpoint.name);
            return fault(field, message);
        }
        let stands_there = elsewhere || endpoint.zone_id.is_some();
        if !stands_there && endpoint.name != config.dns.zone && !endpoint.name.as_str().ends_with(&inside) {
            let message = format!(
                "`{}` is not in the zone `{}`; correct the name or `dns.zone`",
                endpoint.name, config.dns.zone
            );
            return fault(field, message);
        }
    }
    Ok(())
}

fn zone_id(config: &Config, index: usize, id: &str) -> Result<(), Fault> {
    let field = format!("endpoints[{index}].zone_id");
    if !matches!(config.dns.kind, DnsKind::Route53(_)) {
        return fault(
            field,
            "is for dns.kind = \"route53\" alone: others keep one zone, `dns.zone`; delete it",
        );
    }
    is_zone_id(&field, id)
}

/// As Route 53 gives them, without the `/hostedzone/` that some of its answers put before them.
fn is_zone_id(field: &str, id: &str) -> Result<(), Fault> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return fault(field, format!("`{id}` is no hosted zone's id; write it as in \"Z0123456789ABC\""));
    }
    Ok(())
}

fn dns(config: &Config) -> Result<(), Fault> {
    if !(1..=LONGEST_TTL_S).contains(&config.dns.ttl_s) {
        let message = format!("{} is out of range; write 1 to {LONGEST_TTL_S} seconds", config.dns.ttl_s);
        return fault("dns.ttl_s", message);
    }
    if let DnsKind::Local { listen } = &config.dns.kind {
        if !listen.ip().is_loopback() {
            let message =
                format!("{listen}: it serves this machine alone; take a loopback address, as in 127.0.0.1:0");
            return fault("dns.listen", message);
        }
        let zone = config.dns.zone.as_str();
        if zone == "localhost" || zone.ends_with(".localhost") {
            return fault(
                "dns.zone",
                "resolvers answer for `localhost` themselves (RFC 6761, 6.3); take another name",
            );
        }
    }
    if let DnsKind::Route53(at) = &config.dns.kind {
        at.zone_ids.iter().try_for_each(|id| is_zone_id("dns.zone_ids", id))?;
        // It would be found out when the first alias is made: at the switch.
        at.alias_zone_id.iter().try_for_each(|id| is_zone_id("dns.alias_zone_id", id))?;
    }
    // An alias of a load balancer is answered with the balancer's own TTL, and no other.
    if let DnsKind::Route53(at) = &config.dns.kind
        && at.alias_zone_id.is_some()
        && (config.dns.ttl_s, config.switch_ttl_s()) != (60, 60)
    {
        return fault(
            "dns.ttl_s",
            "must be 60 with dns.alias_zone_id, and plan.ttl left out: an alias has 60 s always",
        );
    }
    Ok(())
}

fn clusters(config: &Config) -> Result<(), Fault> {
    for colour in Colour::BOTH {
        if let FenceConfig::Exec { command } = &config.clusters.get(colour).fence
            && command.first().is_none_or(String::is_empty)
        {
            return fault(
                format!("clusters.{colour}.fence.command"),
                "is empty; write the program and its arguments",
            );
        }
        let cluster = config.clusters.get(colour);
        for (table, properties) in
            [("properties", &cluster.properties), ("probe_properties", &cluster.probe_properties)]
        {
            let is_ours =
                |name: &&str| matches!(*name, "bootstrap.servers" | "metadata.broker.list" | "client.id");
            if let Some(name) = properties.names().find(is_ours) {
                let field = format!("clusters.{colour}.{table}.{name}");
                return fault(field, "is set by kutover from the provisioner; delete it");
            }
        }
    }
    records(config)?;
    let (blue, green) = (&config.clusters.blue.provisioner, &config.clusters.green.provisioner);
    match (blue, green) {
        // L5: a colour that leads to the same cluster moves nobody.
        (
            ProvisionerConfig::Static { bootstrap: blue, endpoint: blue_at },
            ProvisionerConfig::Static { bootstrap: green, endpoint: green_at },
        ) => {
            if let Some(server) = green.iter().find(|server| blue.contains(server)) {
                let message = format!("`{server}` is one of blue's servers too; name green's own");
                return fault("clusters.green.provisioner.bootstrap", message);
            }
            if blue_at == green_at {
                return fault(
                    "clusters.green.provisioner.endpoint",
                    "is the same as blue's; say where green is",
                );
            }
        }
        (
            ProvisionerConfig::Lab { address: Some(blue), .. },
            ProvisionerConfig::Lab { address: Some(green), .. },
        ) if blue == green => {
            let message = format!("{green} is blue's too; give each colour its own loopback address");
            return fault("clusters.green.provisioner.address", message);
        }
        _ => {}
    }
    Ok(())
}

/// What no DNS server takes is found before anything is prepared for it.
fn records(config: &Config) -> Result<(), Fault> {
    let alias = matches!(&config.dns.kind, DnsKind::Route53(at) if at.alias_zone_id.is_some());
    let apex = (!alias).then_some(&config.dns.zone);
    for colour in Colour::BOTH {
        let (data, of_stack) = match &config.clusters.get(colour).provisioner {
            ProvisionerConfig::Static { endpoint, .. } => (endpoint.clone(), false),
            // Its load balancer's name, whatever that will be.
            ProvisionerConfig::CloudFormation(_) => (RecordData::Cname(DnsName::new("balancer")), true),
            _ => continue,
        };
        let set = RecordSet { ttl_s: config.dns.ttl_s, data };
        let published = Published { endpoint: Some(set), owner: None };
        for endpoint in &config.endpoints {
            match published.check(&endpoint.name, apex) {
                Ok(()) => {}
                Err(reason) if of_stack => {
                    let message = format!(
                        "at {}: {reason}, or an alias of the stack's load balancer: `dns.alias_zone_id`, in Route 53",
                        endpoint.name
                    );
                    return fault(format!("clusters.{colour}.provisioner.stack"), message);
                }
                Err(reason) => {
                    let field = format!("clusters.{colour}.provisioner.endpoint");
                    return fault(field, format!("at {}: {reason}", endpoint.name));
                }
            }
        }
    }
    Ok(())
}

/// For how long a plan watches groups and producers if nothing is said.
pub(crate) const WATCHED: Duration = Duration::from_secs(10);

fn plan(config: &Config) -> Result<(), Fault> {
    let plan = &config.plan;
    let bounds = [
        ("converge_deadline", plan.converge_deadline, Duration::from_millis(100)),
        ("quiet_window", plan.quiet_window, Duration::from_millis(100)),
        ("barrier_deadline", plan.barrier_deadline, Duration::from_millis(100)),
        ("soak", plan.soak, Duration::ZERO),
        ("hold_limit", plan.hold_limit, Duration::from_millis(100)),
        ("command_timeout", plan.command_timeout, Duration::from_millis(100)),
        ("drain_poll", plan.drain_poll, Duration::from_millis(10)),
        ("watch", plan.watch.unwrap_or(WATCHED), Duration::from_millis(100)),
    ];
    // A week: longer is a slip of the unit.
    let longest = Duration::from_secs(7 * 86_400);
    for (field, value, shortest) in bounds {
        if value < shortest || value > longest {
            let show = humantime::format_duration;
            let message =
                format!("{} is out of range; write {} to {}", show(value), show(shortest), show(longest));
            return fault(format!("plan.{field}"), message);
        }
    }
    if let Some(watch) = plan.watch.filter(|watch| *watch > plan.command_timeout / 2) {
        let message = format!(
            "{} is more than half of plan.command_timeout, which has to cover it; shorten it, or raise that",
            humantime::format_duration(watch)
        );
        return fault("plan.watch", message);
    }
    if let Some(ttl) = plan.ttl {
        let whole = ttl.subsec_nanos() == 0 && (1..=u64::from(config.dns.ttl_s)).contains(&ttl.as_secs());
        if !whole {
            let message = format!(
                "{} is no time to live here; write whole seconds, 1s to {}s (`dns.ttl_s`)",
                humantime::format_duration(ttl),
                config.dns.ttl_s
            );
            return fault("plan.ttl", message);
        }
    }
    if plan.schemas_topic.as_str().is_empty() {
        return fault("plan.schemas_topic", "is empty; name Schema Registry's topic, or leave it out");
    }
    for (field, groups) in [("plan.groups", &plan.groups), ("plan.waive_groups", &plan.waive_groups)] {
        if let Some(group) = groups.iter().find(|group| group.as_str().is_empty()) {
            return fault(field, format!("`{group}` is no group id; delete it"));
        }
    }
    if let Some(group) = plan.waive_groups.intersection(&plan.groups).next() {
        return fault(
            "plan.waive_groups",
            format!("`{group}` stands in plan.groups too; delete it from one of them"),
        );
    }
    if plan.separation_head_room > plan.separation_limit {
        let message = format!(
            "{} ids are more than plan.separation_limit = {} allows to be used up; raise that, or lower this",
            plan.separation_head_room, plan.separation_limit
        );
        return fault("plan.separation_head_room", message);
    }
    if plan.fence == FencePolicy::Waived && plan.remove_old && plan.approve == Approve::Automatic {
        return fault(
            "plan.fence",
            "without a fence nothing is removed automatically; set plan.approve = \"manual\", \
             plan.remove_old = false, or plan.fence = \"required\"",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_THE_APEX: &str = r#"
deployment = "Kafka"
journal = "s3://example-kutover/orders.journal"
endpoints = [{ name = "orders.test", port = 9092 }]

[dns]
kind = "route53"
zone = "orders.test"
ttl_s = 60

[clusters.blue.provisioner]
kind = "static"
bootstrap = ["10.0.0.1:9092"]
endpoint = { addresses = ["10.0.0.1"] }

[clusters.green.provisioner]
kind = "cloudformation"
stack = "Kafka"
"#;

    /// A stack is led to by its load balancer's name, which is not there yet.
    #[test]
    fn a_stack_at_a_zones_apex_needs_an_alias() {
        let error = Config::parse(AT_THE_APEX).unwrap_err();
        assert_eq!(error.field(), Some("clusters.green.provisioner.stack"));
        let said = error.to_string();
        assert!(
            said.contains("a zone's apex cannot be a CNAME") && said.contains("dns.alias_zone_id"),
            "{said}"
        );
        Config::parse(&AT_THE_APEX.replace("ttl_s = 60", "ttl_s = 60\nalias_zone_id = \"Z3\"")).unwrap();
        Config::parse(&AT_THE_APEX.replace("name = \"orders.test\"", "name = \"kafka.orders.test\""))
            .unwrap();
    }

    /// What AWS would answer to with words of its own, at the switch in the worst case.
    #[test]
    fn what_is_no_id_region_or_role_is_named() {
        let zone = "is no hosted zone's id";
        for (after, line, field, says) in [
            ("ttl_s = 60", "zone_ids = [\"Z1\", \"\"]", "dns.zone_ids", zone),
            ("ttl_s = 60", "zone_ids = [\"/hostedzone/Z1\"]", "dns.zone_ids", zone),
            ("ttl_s = 60", "alias_zone_id = \"\"", "dns.alias_zone_id", zone),
            ("ttl_s = 60", "alias_zone_id = \"Z 3\"", "dns.alias_zone_id", zone),
            ("ttl_s = 60", "[aws]\nregion = \"\"", "aws.region", "is no region"),
            ("ttl_s = 60", "[aws]\nregion = \"eu west 1\"", "aws.region", "is no region"),
            (
                "stack = \"Kafka\"",
                "role_arn = \"kutover\"",
                "clusters.green.provisioner",
                "`role_arn`: `kutover`",
            ),
        ] {
            let text = AT_THE_APEX.replace(after, &format!("{after}\n{line}"));
            let error = Config::parse(&text).unwrap_err();
            assert_eq!(error.field(), Some(field), "{line}: {error}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }

    /// One name in several zones is several endpoints, where the records are kept in hosted zones and each one's is named.
    #[test]
    fn a_name_stands_once_in_a_zone() {
        let with = |dns: &str, endpoints: &str| {
            let one = "endpoints = [{ name = \"orders.test\", port = 9092 }]";
            assert!(AT_THE_APEX.contains(one));
            let text = AT_THE_APEX.replace(one, &format!("endpoints = [{endpoints}]"));
            let text = text.replace("s3://example-kutover/", "");
            Config::parse(&text.replace("kind = \"route53\"", dns))
        };
        let at = |zone: &str| format!("{{ name = \"kafka.orders.test\", port = 9092{zone} }}");
        let [public, private, bare] = [", zone_id = \"Z1\"", ", zone_id = \"Z2\"", ""].map(at);
        let split = format!("{public}, {private}");
        let config = with("kind = \"route53\"", &split);
        let keys: Vec<String> = config.map_or_else(
            |error| vec![error.to_string()],
            |config| config.endpoints.iter().map(|endpoint| endpoint.key().to_string()).collect(),
        );
        assert_eq!(keys, ["kafka.orders.test@Z1", "kafka.orders.test@Z2"]);
        let local = "kind = \"local\"\nlisten = \"127.0.0.1:0\"";
        for (dns, endpoints, said) in [
            (
                "kind = \"route53\"",
                format!("{public}, {public}"),
                "`kafka.orders.test@Z1` stands there twice",
            ),
            ("kind = \"route53\"", format!("{public}, {bare}"), "without `zone_id` too; name each one's"),
            ("kind = \"route53\"", at(", zone_id = \"/hostedzone/Z1\""), "is no hosted zone's id"),
            (local, split, "field `endpoints[0].zone_id`: is for dns.kind = \"route53\" alone"),
        ] {
            let error = with(dns, &endpoints).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
