//! Who may use kutover's own topics. Whoever writes to the control topic steers the controller and every producer; a producer
//! that may not read it, or not write to the members topic, has DNS alone. A cutover works either way, so nothing is refused
//! over it: the ACLs that should be there are asked for.

use std::collections::BTreeSet;

use serde::Serialize;

use super::access::covers;
use super::fence::super_users;
use super::{ClusterSeen, Waivers};
use crate::ports::{AclRule, ConfigMap, Item};
use crate::words::{CONTROL_TOPIC, Colour, MEMBERS_TOPIC};

/// What decides over a topic that has no ACL.
const SETTING: &str = "allow.everyone.if.no.acl.found";
const EVERYONE: &str = "User:*";
/// Every client of a listener without authentication.
const ANONYMOUS: &str = "User:ANONYMOUS";
/// What stands in a command for a principal that nobody has told.
const SOME_CONTROLLER: &str = "User:CONTROLLER";
const SOME_PRODUCER: &str = "User:PRODUCER";
/// Brokers in a command, and ACLs in a reason.
const SHOWN: usize = 3;

/// What is wrong with who may use a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stands {
    /// Others than the controller may write to the control topic, or it is not known that they may not.
    Open,
    /// Producers may not do there what they need to, or it is not known that they may.
    Shut,
}

/// One of kutover's own topics, and what is wrong with who may use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnTopic {
    /// The topic.
    pub topic: &'static str,
    /// What is wrong.
    pub stands: Stands,
    /// Why, and what comes of it.
    pub reason: String,
}

/// The ACLs that a cluster is asked to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AclsAsked {
    /// Its colour.
    pub colour: Colour,
    /// What they are asked for over.
    pub topics: Vec<OwnTopic>,
    /// The commands that add them. The controller's come first: a topic with any ACL is nobody's whom none lets in.
    pub commands: Vec<String>,
}

/// What is asked of both clusters, `from` being the old one's colour. The new one is judged with what it will be `given`.
pub(super) fn asked(
    from: Colour,
    (old, new): (&ClusterSeen, Option<&ClusterSeen>),
    given: &BTreeSet<AclRule>,
    waivers: &Waivers,
) -> Vec<AclsAsked> {
    let of_old = asked_of(from, old, &BTreeSet::new(), waivers);
    let of_new = new.and_then(|new| asked_of(from.other(), new, given, waivers));
    of_old.into_iter().chain(of_new).collect()
}

/// Nothing where all is well, where there is no authorizer, and where the ACLs are not known, which is said elsewhere.
fn asked_of(
    colour: Colour,
    cluster: &ClusterSeen,
    given: &BTreeSet<AclRule>,
    waivers: &Waivers,
) -> Option<AclsAsked> {
    let acls = cluster.access.as_ref().ok()?.acls.as_ref()?;
    let on = |topic: &str| Rules(acls.union(given).filter(|rule| covers(rule, topic)).collect());
    let (control, members) = (on(CONTROL_TOPIC), on(MEMBERS_TOPIC));
    let super_users = super_users(cluster).unwrap_or_default();
    let mut writers = control.letting(&["write"]);
    writers.retain(|rule| !super_users.contains(&rule.principal));
    let told = waivers.controllers.get(&colour).map(String::as_str).filter(|name| *name != ANONYMOUS);
    let controller = told.or_else(|| sole(&control, &writers));
    writers.retain(|rule| Some(rule.principal.as_str()) != controller);
    // A super user may be a producer, unless a waiver says that it is none.
    let mut insiders: Vec<&str> = super_users.iter().map(String::as_str).collect();
    insiders.retain(|one| Some(*one) != controller && !waivers.super_users.include(one));
    let lets_in = |rules: &Rules<'_>, operation| {
        let mut let_in = rules.letting(&[operation, "describe"]).into_iter();
        !insiders.is_empty() || let_in.any(|rule| Some(rule.principal.as_str()) != controller)
    };
    let without = without_acls(cluster);
    let reads = lets_in(&control, "read");
    let writes = lets_in(&members, "write");
    let is_told = controller.is_some() || waivers.controllers.contains_key(&colour);
    let found = [
        open(&control, &writers, without, is_told),
        shut(CONTROL_TOPIC, &control, reads, without),
        shut(MEMBERS_TOPIC, &members, writes, without),
    ];
    let topics: Vec<OwnTopic> = found.into_iter().flatten().collect();
    let commands = commands(cluster, controller.unwrap_or(SOME_CONTROLLER));
    (!topics.is_empty()).then_some(AclsAsked { colour, topics, commands })
}

/// Whether a topic without ACLs is everybody's, or nobody's but super users'; `None` if the brokers do not all tell the same: one
/// that keeps the value to itself has it set.
fn without_acls(cluster: &ClusterSeen) -> Option<bool> {
    let is_open = |broker: &Item<ConfigMap>| match broker.as_ref().ok()?.get(SETTING) {
        None => Some(false),
        Some(set) => set.value.as_ref().map(|value| value.eq_ignore_ascii_case("true")),
    };
    let brokers = cluster.brokers.as_ref().ok()?.values();
    let mut told: BTreeSet<bool> = brokers.map(is_open).collect::<Option<_>>()?;
    told.pop_first().filter(|_| told.is_empty())
}

/// The ACLs on one topic.
struct Rules<'a>(Vec<&'a AclRule>);

impl<'a> Rules<'a> {
    /// Those that let somebody do the first of these operations, and all of the others with it (reading and writing imply
    /// describing), from somewhere. Kafka puts a denial above every allowance; one from some hosts leaves the others.
    fn letting(&self, operations: &[&str]) -> Vec<&'a AclRule> {
        let denies = |denied: &AclRule, allowed: &AclRule| {
            denied.permission == "deny"
                && denied.host == "*"
                && (denied.principal == allowed.principal || denied.principal == EVERYONE)
                && (denied.operation == "all" || operations.contains(&denied.operation.as_str()))
        };
        let lets = |rule: &AclRule| {
            rule.permission == "allow"
                && (rule.operation == "all" || operations.first() == Some(&rule.operation.as_str()))
                && !self.0.iter().any(|denied| denies(denied, rule))
        };
        self.0.iter().copied().filter(|rule| lets(rule)).collect()
    }
}

/// Where the controller's properties do not tell a name of its own, it is whoever alone may write to the control topic, and alter it too:
/// a producer that may write to every topic may not.
fn sole<'a>(control: &Rules<'a>, writers: &[&'a AclRule]) -> Option<&'a str> {
    let names: BTreeSet<&str> = writers.iter().map(|rule| rule.principal.as_str()).collect();
    let name = names.first().copied().filter(|_| names.len() == 1)?;
    let alters = control.letting(&["alter"]).iter().any(|rule| rule.principal == name);
    (alters && ![EVERYONE, ANONYMOUS].contains(&name)).then_some(name)
}

/// `writers`: the ACLs that let others than the controller write, and where nothing has told who that is, perhaps the one that
/// lets itself: whoever deletes that shuts the controller out.
fn open(control: &Rules<'_>, writers: &[&AclRule], without: Option<bool>, is_told: bool) -> Option<OwnTopic> {
    let (cause, who, by) = if control.0.is_empty() {
        (bare(without, true)?, "any client", String::new())
    } else if writers.is_empty() {
        return None;
    } else {
        let shown: Vec<String> = writers.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = writers.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let may_be_it = |rule: &&AclRule| ![EVERYONE, ANONYMOUS].contains(&rule.principal.as_str());
        let whom = if is_told || !writers.iter().any(may_be_it) {
            ". Narrow or delete what lets them"
        } else {
            ". The controller's properties do not tell which of these the controller is. Narrow or delete what lets the others"
        };
        let by = format!("{whom}: {}{more}", shown.join(", "));
        (String::new(), "others than the controller", by)
    };
    let reason = format!(
        "{cause}{who} may write there, and so stop the controller with a higher term, or send producers to another \
         cluster{by}"
    );
    Some(OwnTopic { topic: CONTROL_TOPIC, stands: Stands::Open, reason })
}

/// `lets_in`: whether anybody but the controller may do there what producers need to.
fn shut(topic: &'static str, rules: &Rules<'_>, lets_in: bool, without: Option<bool>) -> Option<OwnTopic> {
    if lets_in {
        return None;
    }
    let cause = match rules.0.is_empty() {
        true => bare(without, false)?,
        false => "its ACLs let in nobody but the controller: ".to_owned(),
    };
    let effect = match topic {
        CONTROL_TOPIC => "producers may not read there, and learn of a switch from DNS alone",
        _ => "producers may not write there, so that the cutover knows none of them by name",
    };
    Some(OwnTopic { topic, stands: Stands::Shut, reason: format!("{cause}{effect}") })
}

/// Why a topic without an ACL is open, or shut; `None` if it is known not to be so.
fn bare(without: Option<bool>, is_open: bool) -> Option<String> {
    let is = if is_open { "true" } else { "not true" };
    match without {
        Some(known) => (known == is_open).then(|| format!("it has no ACL, and {SETTING} is {is}: ")),
        None => Some(format!(
            "it has no ACL, and the brokers do not all tell the same of {SETTING}; if that is {is}, "
        )),
    }
}

fn commands(cluster: &ClusterSeen, controller: &str) -> Vec<String> {
    let brokers: Vec<&str> = cluster.identity.brokers.iter().take(SHOWN).map(String::as_str).collect();
    let brokers = brokers.join(",");
    let all = [
        (CONTROL_TOPIC, controller, "All"),
        (MEMBERS_TOPIC, controller, "All"),
        (CONTROL_TOPIC, SOME_PRODUCER, "Read"),
        (MEMBERS_TOPIC, SOME_PRODUCER, "Write"),
    ];
    let command = |(topic, principal, operation): (&str, &str, &str)| {
        let principal = principal.replace('\'', r"'\''");
        format!(
            "kafka-acls.sh --bootstrap-server {brokers} --add --topic {topic} --allow-principal '{principal}' --operation {operation}"
        )
    };
    all.into_iter().map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, may, own_topics, set};
    use super::super::{Names, Outcome};
    use super::*;
    use crate::ports::{ConfigSource, ConfigValue};

    const KUTOVER: &str = "User:kutover";
    const SHOP: &str = "User:shop";
    const BOTH_SHUT: [(&str, Stands); 2] = [(CONTROL_TOPIC, Stands::Shut), (MEMBERS_TOPIC, Stands::Shut)];
    const OPEN: [(&str, Stands); 1] = [(CONTROL_TOPIC, Stands::Open)];

    /// A world with these ACLs on both clusters, which tell the controller's name.
    fn with(acls: impl IntoIterator<Item = AclRule>) -> World {
        let (mut world, acls) = (World::sound(), acls.into_iter().collect::<BTreeSet<_>>());
        for colour in Colour::BOTH {
            world.access(colour).acls = Some(acls.clone());
            world.waivers.controllers.insert(colour, KUTOVER.into());
        }
        world
    }

    /// What should be there, and more.
    fn sound_and(more: impl IntoIterator<Item = AclRule>) -> World {
        with(own_topics().into_iter().chain(more))
    }

    fn deny(rule: AclRule) -> AclRule {
        AclRule { permission: "deny".into(), ..rule }
    }

    fn prefixed(rule: AclRule) -> AclRule {
        AclRule { pattern: "prefixed".into(), ..rule }
    }

    /// Sets something on both clusters' brokers, which keep the value to themselves where there is none.
    fn tell(world: &mut World, config: &str, value: Option<&str>) {
        let is_secret = value.is_none();
        let set = ConfigValue { value: value.map(str::to_owned), source: ConfigSource::Broker, is_secret };
        let put = |cluster: &mut ClusterSeen| {
            let broker = cluster.brokers.as_mut().unwrap().get_mut(&0).unwrap();
            broker.as_mut().unwrap().insert(config.into(), set.clone());
        };
        put(world.blue());
        put(world.green());
    }

    /// What is asked for on blue, and on green too. The plan is ready all the same.
    fn asked(world: &World) -> Vec<OwnTopic> {
        let assessment = world.assess();
        assert_eq!(assessment.outcome, Outcome::Ready, "{:?}", assessment.refusals);
        let [blue, green] = &assessment.acls_asked[..] else {
            assert!(assessment.acls_asked.is_empty(), "{:?}", assessment.acls_asked);
            return Vec::new();
        };
        assert_eq!((blue.colour, green.colour, &blue.topics), (Colour::Blue, Colour::Green, &green.topics));
        blue.topics.clone()
    }

    fn stand(world: &World) -> Vec<(&'static str, Stands)> {
        asked(world).iter().map(|one| (one.topic, one.stands)).collect()
    }

    /// Where brokers make something else of it, it is both.
    #[test]
    fn a_topic_without_acls_is_what_each_broker_makes_of_it() {
        let mut world = with([may(SHOP, "write", "orders")]);
        let differ = |cluster: &mut ClusterSeen| {
            let brokers = cluster.brokers.as_mut().unwrap();
            let mut other = brokers[&0].clone();
            other.as_mut().unwrap().insert(SETTING.into(), set("true", ConfigSource::Broker));
            brokers.insert(1, other);
        };
        differ(world.blue());
        differ(world.green());
        assert_eq!(stand(&world), [&OPEN[..], &BOTH_SHUT[..]].concat());
    }

    #[test]
    fn a_topic_without_acls_is_what_the_brokers_make_of_it() {
        let mut world = with([may(SHOP, "write", "orders")]);
        assert_eq!(stand(&world), BOTH_SHUT, "it is not true unless it is set");
        tell(&mut world, SETTING, Some("true"));
        assert_eq!(stand(&world), OPEN);
        assert!(asked(&world)[0].reason.contains("is true: any client may write there"));
        tell(&mut world, SETTING, Some("false"));
        assert_eq!(stand(&world), BOTH_SHUT);
        assert!(asked(&world)[0].reason.contains("is not true: producers may not read there"));
        tell(&mut world, SETTING, None);
        assert_eq!(stand(&world), [&OPEN[..], &BOTH_SHUT[..]].concat());
        for one in asked(&world) {
            assert!(
                one.reason.contains("the brokers do not all tell the same of allow.everyone.if.no.acl.found"),
                "{one:?}"
            );
        }
    }

    #[test]
    fn whoever_may_write_besides_the_controller_is_named_with_the_acl_that_lets_it() {
        assert_eq!(asked(&sound_and([])), []);
        for rule in [
            may(EVERYONE, "write", CONTROL_TOPIC),
            may(EVERYONE, "all", "*"),
            may(ANONYMOUS, "write", CONTROL_TOPIC),
            may(SHOP, "write", "*"),
            prefixed(may(SHOP, "all", "kut")),
        ] {
            let world = sound_and([rule.clone()]);
            assert_eq!(stand(&world), OPEN, "{rule}");
            assert!(asked(&world)[0].reason.contains(&rule.to_string()), "{:?}", asked(&world));
        }
        let elsewhere = AclRule { resource: "group".into(), ..may(EVERYONE, "all", "*") };
        let others =
            [may(SHOP, "write", "orders"), may(EVERYONE, "read", "*"), prefixed(may(SHOP, "all", "kutx"))];
        assert_eq!(asked(&sound_and(others)), []);
        assert_eq!(asked(&sound_and([elsewhere, may(KUTOVER, "write", "*")])), []);
    }

    /// A denial is above every allowance, if it is from everywhere, and for the same principal or all.
    #[test]
    fn what_is_denied_is_not_allowed() {
        let open = may(SHOP, "all", "*");
        let denied = deny(may(SHOP, "write", CONTROL_TOPIC));
        assert_eq!(asked(&sound_and([open.clone(), denied.clone()])), []);
        let from_one = AclRule { host: "10.0.0.1".into(), ..denied };
        assert_eq!(stand(&sound_and([open.clone(), from_one])), OPEN);
        let of_another = deny(may("User:intern", "write", CONTROL_TOPIC));
        assert_eq!(stand(&sound_and([open, of_another])), OPEN);
        for (rule, shut) in [
            (deny(may(SHOP, "describe", CONTROL_TOPIC)), CONTROL_TOPIC),
            (deny(may(EVERYONE, "read", CONTROL_TOPIC)), CONTROL_TOPIC),
            (deny(may(SHOP, "all", MEMBERS_TOPIC)), MEMBERS_TOPIC),
            (prefixed(deny(may(SHOP, "write", "kutover.m"))), MEMBERS_TOPIC),
        ] {
            assert_eq!(stand(&sound_and([rule.clone()])), [(shut, Stands::Shut)], "{rule}");
        }
    }

    /// As soon as a topic has any ACL, the brokers' setting is no matter.
    #[test]
    fn topics_that_let_in_nobody_but_the_controller_are_shut() {
        let mut world = with([may(KUTOVER, "all", "*")]);
        tell(&mut world, SETTING, Some("true"));
        assert_eq!(stand(&world), BOTH_SHUT);
        assert!(asked(&world)[1].reason.starts_with("its ACLs let in nobody but the controller"));
        let world = with([may(KUTOVER, "all", "*"), may(SHOP, "read", CONTROL_TOPIC)]);
        assert_eq!(stand(&world), BOTH_SHUT[1..]);
    }

    /// It may be a producer as long as nobody has said that it is none.
    #[test]
    fn a_super_user_may_do_everything_and_is_no_intruder() {
        let mut world = with([may(KUTOVER, "all", "*"), may(SHOP, "write", "*")]);
        assert_eq!(stand(&world), [OPEN[0], BOTH_SHUT[0]]);
        tell(&mut world, "super.users", Some("User:admin;User:shop"));
        world.waivers.super_users = Names::All;
        assert_eq!(stand(&world), BOTH_SHUT[..1]);
        world.waivers.super_users = Names::default();
        assert_eq!(world.assess().acls_asked, [], "which is refused over for another reason");
    }

    /// Without a name in the properties it is whoever alone may write, if that is somebody.
    #[test]
    fn a_controller_without_a_name_is_guessed_by_what_it_may() {
        let nameless = |acls: &[AclRule]| {
            let mut world = with(acls.iter().cloned());
            world.waivers.controllers.clear();
            world
        };
        let sound: Vec<AclRule> = own_topics().into_iter().collect();
        assert_eq!(asked(&nameless(&sound)), []);
        let world = nameless(&[may(KUTOVER, "all", "*")]);
        assert_eq!(stand(&world), BOTH_SHUT);
        assert!(world.assess().acls_asked[0].commands[0].contains("'User:kutover'"));
        let two = nameless(&[may(KUTOVER, "all", "*"), may(SHOP, "all", "*")]);
        assert_eq!(stand(&two), OPEN);
        let others = "do not tell which of these the controller is. Narrow or delete what lets the others: ";
        assert!(asked(&two)[0].reason.contains(others), "one of them is its own: {:?}", asked(&two));
        let everyone = nameless(&[may(EVERYONE, "all", "*")]);
        assert!(!asked(&everyone)[0].reason.contains(others), "{:?}", asked(&everyone));
        assert!(two.assess().acls_asked[0].commands[0].contains("'User:CONTROLLER'"));
        assert_eq!(stand(&nameless(&[may(SHOP, "write", "*")])), [OPEN[0], BOTH_SHUT[0]], "it is a producer");
        let mut anonymous = nameless(&[may(ANONYMOUS, "all", "*")]);
        assert_eq!(stand(&anonymous), OPEN, "it is everybody");
        anonymous.waivers.controllers = Colour::BOTH.map(|colour| (colour, ANONYMOUS.to_owned())).into();
        assert_eq!(stand(&anonymous), OPEN, "also where the controller is one of them");
    }

    #[test]
    fn where_acls_bind_nobody_or_are_not_known_nothing_is_asked() {
        let mut world = with([]);
        assert_eq!(stand(&world), BOTH_SHUT);
        world.green().access = Err("timed out".into());
        world.access(Colour::Blue).acls = None;
        assert_eq!(world.assess().acls_asked, []);
    }

    /// What blue has green is given before the switch, and needs nobody's command.
    #[test]
    fn green_is_judged_with_what_it_will_be_given() {
        let mut world = sound_and([]);
        world.access(Colour::Green).acls = Some(BTreeSet::new());
        assert_eq!(asked(&world), []);
        world.access(Colour::Green).acls = Some([may(EVERYONE, "write", CONTROL_TOPIC)].into());
        let asked = world.assess().acls_asked;
        assert_eq!(asked.iter().map(|one| one.colour).collect::<Vec<_>>(), [Colour::Green]);
    }

    #[test]
    fn the_commands_let_the_controller_in_first() {
        let mut world = with([]);
        world.waivers.controllers.insert(Colour::Green, "User:o'brien".into());
        let asked = world.assess().acls_asked;
        let command = |broker: &str, topic: &str, principal: &str, operation: &str| {
            format!(
                "kafka-acls.sh --bootstrap-server {broker}:9092 --add --topic kutover.{topic} --allow-principal '{principal}' \
                 --operation {operation}"
            )
        };
        assert_eq!(
            asked[0].commands,
            [
                command("blue", "control", KUTOVER, "All"),
                command("blue", "members", KUTOVER, "All"),
                command("blue", "control", SOME_PRODUCER, "Read"),
                command("blue", "members", SOME_PRODUCER, "Write"),
            ]
        );
        assert_eq!(asked[1].commands[0], command("green", "control", r"User:o'\''brien", "All"));
        let json = serde_json::to_value(&asked[0]).unwrap();
        assert_eq!(json["topics"][0]["stands"], "shut");
        assert_eq!((&json["colour"], &json["topics"][1]["topic"]), (&"blue".into(), &MEMBERS_TOPIC.into()));
    }
}
