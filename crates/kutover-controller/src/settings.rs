//! From the configuration to what the machine and the driver take.

use kutover_core::cutover::{Approval, FencePolicy, Plan, SeparationPolicy, Timings, Topics};
use kutover_core::decisions::separation::Room;

use kutover_core::decisions::fence::Means;
use kutover_core::survey::{Names, Waivers};
use kutover_core::words::Colour;

use crate::config::{
    Approve, Config, FenceConfig, FencePolicy as ConfiguredFence, NameSelection, Separation, TopicSelection,
    WATCHED,
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
        Waivers {
            streams: names(&plan.waive_streams),
            transactions: names(&plan.waive_transactions),
            unread: topics(&plan.waive_unread),
            retention: topics(&plan.waive_retention),
            super_users: names(&plan.waive_super_users),
            unreachable: names(&plan.waive_unreachable),
            auto_create: plan.waive_auto_create,
            fences: Colour::BOTH.map(|colour| (colour, means(&self.clusters.get(colour).fence))).into(),
            passwords: Colour::BOTH.map(|colour| (colour, users(colour))).into(),
        }
    }

    /// What the driver needs to know besides.
    pub fn deployment(&self) -> Deployment {
        Deployment {
            name: self.deployment.clone(),
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
            initial: self.plan.active,
            ordinary_ttl_s: self.dns.ttl_s,
            read_uncommitted: self.plan.read_uncommitted.clone(),
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
