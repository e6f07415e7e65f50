//! From the configuration to what the machine and the driver take.

use kutover_core::cutover::{Approval, FencePolicy, Plan, SeparationPolicy, Timings, Topics};
use kutover_core::decisions::separation::Room;

use kutover_core::decisions::fence::Means;
use kutover_core::survey::{Names, Waivers};
use kutover_core::words::Colour;

use crate::config::{
    Approve, ClusterConfig, Config, FenceConfig, FencePolicy as ConfiguredFence, NameSelection, Properties,
    Separation, TopicSelection, WATCHED,
};
use crate::driver::{Deployment, Gate};
use crate::survey::Watch;

/// The first wait after a failure.
const RETRY_MS: u64 = 200;

impl Config {
    /// The plan of a cutover.
    pub fn cutover_plan(&self) -> Plan {
        let approval = match self.plan.approve {
            Approve::Automatic => Approval::Automatic,
            Approve::Manual => Approval::Manual,
        };
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Plan {
            deployment: self.deployment.clone(),
            to: self.plan.to.unwrap_or(self.plan.active.other()),
            topics: topics(&self.plan.topics),
            groups: self.plan.groups.iter().map(|group| (group.clone(), None)).collect(),
            waived_groups: self.plan.waive_groups.clone(),
            waived_history: topics(&self.plan.waive_history),
            schemas_topic: self.plan.schemas_topic.clone(),
            waived_members: self.plan.waive_members.clone(),
            waived_deleted: self.plan.waive_deleted.clone(),
            waived_replicas: topics(&self.plan.waive_replicas),
            raised_retention: topics(&self.plan.raise_retention),
            fence: match self.plan.fence {
                ConfiguredFence::Required => FencePolicy::Required,
                ConfiguredFence::Waived => FencePolicy::Waived,
            },
            separation: match self.plan.separation {
                Separation::On => SeparationPolicy::Required(Room {
                    head_room: self.plan.separation_head_room,
                    most: self.plan.separation_limit,
                }),
                Separation::Off => SeparationPolicy::Waived,
            },
            connect: self.connect_plan(),
            approve_redirect: approval,
            approve_removal: approval,
            remove_old: self.plan.remove_old,
            abandoned: self.plan.abandon_old.clone(),
            timings: Timings {
                ttl_s: self.switch_ttl_s(),
                converge_ms: ms(self.plan.converge_deadline),
                quiet_window_ms: ms(self.plan.quiet_window),
                barrier_ms: ms(self.plan.barrier_deadline),
                soak_ms: ms(self.plan.soak),
                poll_ms: ms(self.plan.drain_poll),
                command_timeout_ms: ms(self.plan.command_timeout),
                retry_ms: RETRY_MS,
                hold_limit_ms: Some(ms(self.plan.hold_limit)),
            },
        }
    }

    /// What a cutover must not begin over.
    pub fn gate(&self) -> Gate {
        let time = self.plan.watch.unwrap_or(WATCHED.min(self.plan.command_timeout / 2));
        let watch = Watch { time, read_uncommitted: self.plan.read_uncommitted.clone() };
        Gate { waivers: self.waivers(), watch }
    }

    fn waivers(&self) -> Waivers {
        let plan = &self.plan;
        let users = |colour| self.clusters.get(colour).scram_users.names().map(str::to_owned).collect();
        let probe = |colour| Some((colour, principal(self.clusters.get(colour).probe_properties())?));
        let controller = |colour| Some((colour, principal(&self.clusters.get(colour).properties)?));
        Waivers {
            streams: names(&plan.waive_streams),
            transactions: names(&plan.waive_transactions),
            unread: topics(&plan.waive_unread),
            retention: topics(&plan.waive_retention),
            super_users: names(&plan.waive_super_users),
            unreachable: names(&plan.waive_unreachable),
            auto_create: plan.waive_auto_create,
            fences: Colour::BOTH.map(|colour| (colour, means(&self.clusters.get(colour).fence))).into(),
            probes: Colour::BOTH.into_iter().filter_map(probe).collect(),
            passwords: Colour::BOTH.map(|colour| (colour, users(colour))).into(),
            controllers: Colour::BOTH.into_iter().filter_map(controller).collect(),
        }
    }

    /// What the driver needs to know besides.
    pub fn deployment(&self) -> Deployment {
        Deployment {
            name: self.deployment.clone(),
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.key()).collect(),
            initial: self.plan.active,
            ordinary_ttl_s: self.dns.ttl_s,
            read_uncommitted: self.plan.read_uncommitted.clone(),
        }
    }
}

impl ClusterConfig {
    /// What gets the client in that asks leaders whether they refuse.
    fn probe_properties(&self) -> &Properties {
        if self.probe_properties.is_empty() { &self.properties } else { &self.probe_properties }
    }
}

/// Whom a cluster takes a client for, where its properties tell.
fn principal(properties: &Properties) -> Option<String> {
    let says = |name| properties.get(name).map(|value| value.expose().to_ascii_lowercase());
    match says("security.protocol").as_deref() {
        None | Some("plaintext") => Some("User:ANONYMOUS".to_owned()),
        // Of a certificate or a token the brokers' own rules make a name.
        Some("ssl") => None,
        Some(_) => {
            let mechanism = says("sasl.mechanism").or_else(|| says("sasl.mechanisms"));
            let name = properties.get("sasl.username")?;
            (mechanism.as_deref() != Some("oauthbearer")).then(|| format!("User:{}", name.expose()))
        }
    }
}

fn topics(selection: &TopicSelection) -> Topics {
    match selection {
        TopicSelection::All => Topics::All,
        TopicSelection::Named(topics) => Topics::Named(topics.clone()),
    }
}

fn names(selection: &NameSelection) -> Names {
    match selection {
        NameSelection::All => Names::All,
        NameSelection::Named(names) => Names::Named(names.clone()),
    }
}

fn means(fence: &FenceConfig) -> Means {
    match fence {
        FenceConfig::Acl {} => Means::Acl,
        FenceConfig::Size {} => Means::Size,
        FenceConfig::Exec { .. } => Means::Exec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With these lines in blue's table.
    fn waivers(lines: &str) -> Waivers {
        let cluster = "provisioner = { kind = \"lab\", kafka = \"embedded\" }";
        let text = format!(
            "deployment = \"orders\"\njournal = \"orders.journal\"\nendpoints = [{{ name = \"kafka.orders.test\", port = 9092 }}]\n\
             dns = {{ kind = \"local\", zone = \"orders.test\", listen = \"127.0.0.1:0\", ttl_s = 1 }}\n\
             [clusters.blue]\n{cluster}\n{lines}\n[clusters.green]\n{cluster}\n"
        );
        Config::parse(&text).unwrap().waivers()
    }

    /// Whoever asks leaders is known by name where a password makes the name, and by its own properties if it has any.
    #[test]
    fn who_asks_leaders_is_told_by_the_properties_it_uses() {
        let sasl = |name: &str, mechanism: &str| {
            format!(
                "{{ \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanism\" = \"{mechanism}\", \"sasl.username\" = \"{name}\" }}"
            )
        };
        let probe = |lines: &str| waivers(lines).probes.remove(&Colour::Blue);
        let plain = format!("properties = {}", sasl("kutover", "PLAIN"));
        assert_eq!(probe(&plain).as_deref(), Some("User:kutover"));
        let own = format!("{plain}\nprobe_properties = {}", sasl("asker", "SCRAM-SHA-512"));
        assert_eq!(probe(&own).as_deref(), Some("User:asker"));
        assert_eq!(
            waivers(&own).controllers[&Colour::Blue],
            "User:kutover",
            "the controller has not changed its name"
        );
        assert_eq!(probe(&format!("properties = {}", sasl("kutover", "OAUTHBEARER"))), None);
        assert_eq!(probe("properties = { \"security.protocol\" = \"ssl\" }"), None);
        assert_eq!(probe("").as_deref(), Some("User:ANONYMOUS"));
    }
}
