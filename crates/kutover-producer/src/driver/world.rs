//! What DNS and the control topic say, turned into the machine's inputs.

use std::net::IpAddr;
use std::time::Duration;

use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::messages::ControlView;
use kutover_core::owner::{Intent, OwnerRecord, Target};
use kutover_core::ports::EndpointAnswer;
use kutover_core::switch::{Fences, HandOver, Input};
use kutover_core::words::{ClusterId, Colour, DeploymentName, Generation, Millis};

use super::{Driver, Mode};
use crate::events::ProducerEvent;

/// How often waiting records are looked through for expired ones.
pub(super) const EXPIRY_CHECK: Duration = Duration::from_millis(50);

/// What is known.
pub(super) struct World {
    mode: Mode,
    deployment: DeploymentName,
    owner_intent: Option<Intent>,
    view: ControlView,
    /// The last deployment of somebody else's control topic that was told about.
    stranger: Option<DeploymentName>,
    announced: Fences,
    announced_at: Millis,
    expiry_checked: Millis,
    /// `follow-dns`: where the last target led, and a newer answer that has to hold for a TTL first.
    followed: Option<Vec<IpAddr>>,
    candidate: Option<(Vec<IpAddr>, Millis, u64)>,
    generation: Generation,
}

impl World {
    pub(super) fn new(mode: Mode, deployment: DeploymentName) -> Self {
        Self {
            mode,
            deployment,
            owner_intent: None,
            view: ControlView::default(),
            stranger: None,
            announced: Fences::default(),
            announced_at: Millis(0),
            expiry_checked: Millis(0),
            followed: None,
            candidate: None,
            generation: Generation(0),
        }
    }

    /// Whether a control topic may be heeded. One of another deployment is told about, once.
    fn heeds(&mut self, view: &ControlView) -> Result<(), Option<ProviderError>> {
        let Some(stranger) = view.deployment.as_ref().filter(|name| **name != self.deployment) else {
            self.stranger = None;
            return Ok(());
        };
        if self.stranger.as_ref() == Some(stranger) {
            return Err(None);
        }
        self.stranger = Some(stranger.clone());
        let ours = &self.deployment;
        Err(Some(ProviderError::new(
            ErrorKind::Refused,
            format!("read the control topic for deployment {ours}"),
            format!("it belongs to deployment {stranger}: give each deployment clusters of its own"),
        )))
    }

    /// Remembers when a newer target was first heard of.
    pub(super) fn note_announcement(&mut self, newest: Option<&Target>, target: &Target, now: Millis) {
        if newest.is_none_or(|newest| newest.generation < target.generation) {
            self.announced_at = now;
        }
    }

    pub(super) fn announced_at(&self) -> Millis {
        self.announced_at
    }

    pub(super) fn expiry_due(&mut self, hand_over: &HandOver, now: Millis) -> bool {
        let interval = u64::try_from(EXPIRY_CHECK.as_millis()).unwrap_or(u64::MAX);
        if hand_over.is_empty() || now.since(self.expiry_checked) < interval {
            return false;
        }
        self.expiry_checked = now;
        hand_over.next_expiry().is_some_and(|expires| expires <= now)
    }

    /// `follow-dns`: a target, once one new answer has held for a TTL. The first answer of all is taken at once.
    fn follow(&mut self, addresses: Vec<IpAddr>, ttl_ms: u64, port: u16, now: Millis) -> Option<Target> {
        if self.followed.as_ref() == Some(&addresses) {
            self.candidate = None;
            return None;
        }
        let held = match &self.candidate {
            _ if self.followed.is_none() => true,
            Some((candidate, since, ttl)) if *candidate == addresses => now.since(*since) >= *ttl,
            _ => {
                self.candidate = Some((addresses.clone(), now, ttl_ms));
                false
            }
        };
        if !held {
            return None;
        }
        self.candidate = None;
        self.generation = self.generation.next();
        let bootstrap = addresses.iter().map(|ip| std::net::SocketAddr::new(*ip, port).to_string()).collect();
        self.followed = Some(addresses);
        Some(Target {
            generation: self.generation,
            colour: Colour::Blue,
            // Not known beforehand; a cluster that turns out to be the one we are on is no move.
            cluster_id: ClusterId::new(""),
            bootstrap,
        })
    }
}

impl Driver {
    /// A DNS answer. Failed and empty ones, and another deployment's, move nobody (L4).
    pub(super) fn answered(&mut self, answer: EndpointAnswer) {
        let (addresses, owner, ttl_ms) = match answer {
            EndpointAnswer::Found { addresses, owner, ttl_ms } => (addresses, owner, ttl_ms),
            EndpointAnswer::Empty => return self.dns_trouble("the answer is empty".into()),
            EndpointAnswer::Failed(reason) => return self.dns_trouble(reason),
        };
        match (&self.world.mode, owner) {
            (Mode::FollowDns { port }, _) => {
                let port = *port;
                if let Some(target) = self.world.follow(addresses, ttl_ms, port, self.shared.now()) {
                    self.input(Input::Target(target));
                }
            }
            (Mode::Owned, None) => self.dns_trouble("there is no owner record beside the endpoint".into()),
            (Mode::Owned, Some(owner)) if owner.deployment != self.world.deployment => {
                self.dns_trouble(format!(
                    "the owner record there belongs to deployment {}",
                    owner.deployment
                ));
            }
            (Mode::Owned, Some(owner)) => self.owner_says(owner),
        }
    }

    fn owner_says(&mut self, owner: OwnerRecord) {
        // A stale answer says nothing of fences either.
        if self.switch.newest().is_none_or(|newest| newest.generation <= owner.target.generation) {
            self.world.owner_intent = owner.intent;
            self.fences_changed();
        }
        self.input(Input::Target(owner.target));
    }

    /// What the control topic says. Another deployment's moves nobody and fences nothing.
    pub(super) fn viewed(&mut self, view: ControlView) {
        if let Err(trouble) = self.world.heeds(&view) {
            if let Some(error) = trouble {
                self.trouble(error);
            }
            return;
        }
        let target = view.target.clone();
        self.world.view = view;
        self.fences_changed();
        if let Some(target) = target {
            self.input(Input::Target(target));
        }
    }

    fn fences_changed(&mut self) {
        let world = &mut self.world;
        let fences = Fences {
            intent: world.owner_intent.clone().or_else(|| world.view.intent.clone()),
            fenced: world.view.fenced.iter().copied().collect(),
            generation: world.view.target.as_ref().map_or(Generation(0), |target| target.generation),
        };
        if world.announced != fences {
            world.announced = fences.clone();
            self.input(Input::Fences(fences));
        }
    }

    fn dns_trouble(&self, reason: String) {
        self.shared.listeners.tell(ProducerEvent::DnsTrouble(reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: u8) -> Vec<IpAddr> {
        vec![IpAddr::from([127, 0, 0, last])]
    }

    /// A foreign control topic counts for nothing and is told about once; an empty one and our own count.
    #[test]
    fn a_foreign_control_topic_is_not_heeded() {
        let mut world = World::new(Mode::Owned, "orders".into());
        let of = |name: Option<&str>| ControlView {
            deployment: name.map(DeploymentName::from),
            ..ControlView::default()
        };
        assert_eq!(world.heeds(&of(None)), Ok(()));
        assert_eq!(world.heeds(&of(Some("orders"))), Ok(()));
        let Err(Some(error)) = world.heeds(&of(Some("payments"))) else { panic!("it is told about") };
        assert_eq!(error.kind, ErrorKind::Refused);
        let text = error.to_string();
        assert!(text.contains("orders") && text.contains("payments"), "{text}");
        assert_eq!(world.heeds(&of(Some("payments"))), Err(None), "once");
    }

    /// `follow-dns`: the first answer counts at once, a newer one once it has held for its TTL, a flapping one never.
    #[test]
    fn a_followed_answer_has_to_hold_for_a_ttl() {
        let mut world = World::new(Mode::FollowDns { port: 9092 }, "orders".into());
        let mut follow = |last, now| world.follow(addresses(last), 1_000, 9092, Millis(now));
        let first = follow(2, 0).expect("the first answer counts");
        assert_eq!((first.generation, first.bootstrap), (Generation(1), vec!["127.0.0.2:9092".to_owned()]));
        assert_eq!(follow(3, 100), None);
        assert_eq!(follow(2, 200), None, "it flapped");
        assert_eq!(follow(3, 1_150), None, "so it has to hold anew");
        assert_eq!(follow(3, 2_149), None);
        let second = follow(3, 2_150).expect("it has held");
        assert_eq!((second.generation, second.bootstrap), (Generation(2), vec!["127.0.0.3:9092".to_owned()]));
        assert_eq!(follow(3, 9_000), None);
    }
}
