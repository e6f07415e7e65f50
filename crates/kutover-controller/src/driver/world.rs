//! Carries out commands. Every one of them looks before it acts, so that doing it again is harmless and an unknown
//! outcome is looked up by doing it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kutover_core::controls::{Control, without};
use kutover_core::cutover::{Answer, Command, Plan};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult, Retry};
use kutover_core::messages::{ControlBody, ControlMessage, ControlView};
use kutover_core::owner::{RemovalMark, Target};
use kutover_core::ports::{
    ClusterAdmin, ClusterProvisioner, ClusterSurvey, DnsProvider, Incarnation, RecordData,
};
use kutover_core::words::{ClusterId, Colour, EndpointKey, IncarnationId, Nonce, Term, TopicName};

use super::ttl::{Longer, Switch};
use super::{Backends, ClusterLinks, Deployment, Gate, missing};

/// The world as the commands see it.
pub(super) struct World {
    pub(super) deployment: Deployment,
    pub(super) backends: Backends,
    /// What a cutover must not begin over, with its plan.
    pub(super) gate: Option<(Plan, Gate)>,
    /// What the plan says of the switch.
    pub(super) switch: Switch,
    /// Endpoints whose TTL was longer than it should be.
    pub(super) longer: Mutex<BTreeMap<EndpointKey, Longer>>,
    /// What has led to each colour, as far as this controller knows.
    led: Mutex<BTreeMap<Colour, RecordData>>,
    /// Connections that have worked, by incarnation.
    links: Mutex<BTreeMap<IncarnationId, ClusterLinks>>,
    /// The same for what only a plan asks otherwise.
    looks: Mutex<BTreeMap<IncarnationId, Arc<dyn ClusterSurvey>>>,
}

impl World {
    pub(super) fn new(
        deployment: Deployment,
        backends: Backends,
        switch: Switch,
        gate: Option<(Plan, Gate)>,
    ) -> Self {
        Self {
            deployment,
            backends,
            gate,
            switch,
            longer: Mutex::default(),
            led: Mutex::default(),
            links: Mutex::default(),
            looks: Mutex::default(),
        }
    }

    /// Carries out one command under a term.
    pub(super) async fn execute(&self, command: &Command, term: Term) -> ProviderResult<Answer> {
        let result = self.dispatch(command, term).await;
        let Err(error) = &result else { return result };
        if error.kind == ErrorKind::Unreachable {
            // A connection that has seen an outage is made anew.
            locked(&self.links).clear();
            locked(&self.looks).clear();
        }
        // What fails may fail because another controller has gone on without us (L20).
        self.still_ours(term).await?;
        result
    }

    async fn dispatch(&self, command: &Command, term: Term) -> ProviderResult<Answer> {
        match command {
            Command::TakeTerm { nonce, adopt, earlier } => self.take_term(nonce, *adopt, earlier).await,
            claim @ Command::Claim { .. } => self.claim(claim, term).await,
            Command::Provision { colour, request } => self.provision(*colour, request, term).await,
            Command::Verify { old, new } => self.verify(old, new, term).await,
            Command::MatchTopics { old, new, topics, strict, raised, named } => {
                self.match_topics(old, new, topics, *strict, raised, named.as_ref()).await
            }
            Command::ListGroups { old } => {
                let (listed, complete) = self.groups(old).await?;
                Ok(Answer::Groups { listed, complete })
            }
            Command::SetStartOffsets { new, groups, starts } => {
                Ok(Answer::StartOffsetsSet { kept: self.start_offsets(new, groups, starts).await? })
            }
            Command::Connect(command) => self.connect(command).await,
            Command::ProducerIds { old, new, writers_of, mark } => {
                self.producer_ids(old, new, writers_of.as_ref(), *mark).await
            }
            Command::ReadConfigs { old, new } => self.read_configs(old, new).await,
            Command::RaiseRetention { raised } => self.raise_retention(raised).await,
            Command::RestoreRetention { raised } => self.restore_retention(raised).await,
            Command::SetTtl { ttl_s, each } => self.set_ttl(term, *ttl_s, each).await,
            recheck @ Command::Recheck { .. } => self.recheck(recheck).await,
            Command::WriteChain { on, chain } => {
                for body in ControlBody::of_chain(chain) {
                    self.say(term, on, body).await?;
                }
                Ok(Answer::Done)
            }
            Command::Publish { target, to, nonce } => self.publish(term, target, to, nonce).await,
            Command::Announce { target, on } => {
                // A fence that was announced when this colour was left for another is over.
                self.say(term, on, ControlBody::Fence { colour: target.colour, up: false }).await?;
                self.say(term, on, ControlBody::Announce { target: target.clone() }).await?;
                self.say(term, on, ControlBody::Intent { intent: None }).await?;
                Ok(Answer::Done)
            }
            Command::ReadMembers { on } => {
                let mut by_cluster = Vec::with_capacity(on.len());
                for incarnation in on {
                    by_cluster.push(self.links(incarnation).await?.registry.members().await?);
                }
                Ok(Answer::Members { by_cluster })
            }
            Command::Survey { old, partitions, records_of } => {
                self.look_who_writes(old, partitions, records_of).await
            }
            Command::RaiseFence { old, on, topics } => {
                self.say(term, on, ControlBody::Fence { colour: old.colour, up: true }).await?;
                let kind = self.links(old).await?.admin.raise_fence(&list(topics)).await?;
                Ok(Answer::FenceRaised { kind })
            }
            Command::ProveFence { old, topics } => {
                let proof = self.links(old).await?.admin.prove_fence(&list(topics)).await?;
                Ok(Answer::FenceProven { proof })
            }
            Command::ReadEnds { old, topics } => {
                let ends = self.links(old).await?.admin.ends(&list(topics)).await?;
                Ok(Answer::Ends { ends })
            }
            Command::ListTopics { old } => {
                Ok(Answer::Topics { there: self.links(old).await?.admin.topics().await? })
            }
            Command::LookForEarly { new, groups, starts } => {
                Ok(self.look_for_early(new, groups, starts).await)
            }
            Command::LookBehind { old, topics } => {
                let found = self.look_behind(old, topics).await;
                Ok(Answer::Behind { found: found.map_err(|error| error.to_string()) })
            }
            Command::FreshenStarts { starts } => {
                Ok(Answer::StartsFresh { silent: self.freshen(starts).await })
            }
            Command::ObserveDrain { old, groups, partitions } => {
                let (listed, _) = self.groups(old).await?;
                let seen = self.observe(old, groups, partitions).await?;
                Ok(Answer::Drain { seen, listed })
            }
            Command::Isolate { old, nonce } => self.isolate(old, nonce).await,
            Command::Reprove { old, new, groups, topics, fence_too } => {
                self.reprove(old, new, groups, topics, *fence_too).await
            }
            Command::MarkRemoval { mark, nonce } => self.mark_removal(term, mark, nonce).await,
            Command::Destroy { colour, .. } if without(Control::RemoveByColour) => {
                let there = self.incarnation(*colour).await?;
                let (cluster_id, _) = self.who(&there).await?;
                let mark = RemovalMark { incarnation: there.id, cluster_id };
                self.provisioner(*colour).destroy(&mark).await?;
                Ok(Answer::Done)
            }
            Command::Destroy { colour, mark } => {
                self.provisioner(*colour).destroy(mark).await?;
                Ok(Answer::Done)
            }
            Command::Tidy { ttl_s, each, nonce } => self.tidy(term, *ttl_s, each, nonce).await,
            intent @ Command::WriteIntent { .. } => self.write_intent(intent, term).await,
            Command::LookForFence { on } => self.look_for_fence(on, term).await,
            Command::Reopen { on, topics, isolations, prove } => {
                self.reopen(on, topics.as_ref(), isolations, *prove).await
            }
            discard @ Command::Discard { .. } => self.discard(discard, term).await,
        }
    }

    /// Where an endpoint's records are kept.
    pub(super) fn dns(&self, endpoint: &EndpointKey) -> ProviderResult<&dyn DnsProvider> {
        let Some(zone) = &endpoint.zone else { return Ok(&*self.backends.dns) };
        let known = self.backends.zones.get(zone).map(|dns| &**dns);
        known.ok_or_else(|| {
            missing(format!("record of {endpoint}"), "nothing here keeps records in that zone")
        })
    }

    pub(super) fn provisioner(&self, colour: Colour) -> &dyn ClusterProvisioner {
        match colour {
            Colour::Blue => &*self.backends.blue,
            Colour::Green => &*self.backends.green,
        }
    }

    /// What stands behind a colour; nothing there is an error.
    pub(super) async fn incarnation(&self, colour: Colour) -> ProviderResult<Incarnation> {
        self.provisioner(colour).describe(colour).await?.ok_or_else(|| {
            missing(
                format!("describe {colour}"),
                "there is no cluster behind this colour; provision it first",
            )
        })
    }

    /// Whether this has led to a colour while this controller ran.
    pub(super) fn led_to(&self, colour: Colour, data: &RecordData) -> bool {
        locked(&self.led).get(&colour) == Some(data)
    }

    /// Connections to an incarnation, made once.
    pub(super) async fn links(&self, incarnation: &Incarnation) -> ProviderResult<ClusterLinks> {
        locked(&self.led).insert(incarnation.colour, incarnation.endpoint.clone());
        let known = locked(&self.links).get(&incarnation.id).cloned();
        if let Some(links) = known {
            return Ok(links);
        }
        let links = self.backends.clusters.connect(incarnation).await?;
        locked(&self.links).insert(incarnation.id.clone(), links.clone());
        Ok(links)
    }

    /// A connection that has seen an outage is made anew.
    pub(super) fn forget(&self, incarnation: &Incarnation) {
        locked(&self.links).remove(&incarnation.id);
        locked(&self.looks).remove(&incarnation.id);
    }

    /// What a plan asks of an incarnation, connected once.
    pub(super) async fn look(&self, incarnation: &Incarnation) -> ProviderResult<Arc<dyn ClusterSurvey>> {
        let known = locked(&self.looks).get(&incarnation.id).cloned();
        if let Some(look) = known {
            return Ok(look);
        }
        let look = self.backends.clusters.survey(incarnation).await?;
        locked(&self.looks).insert(incarnation.id.clone(), Arc::clone(&look));
        Ok(look)
    }

    /// Writes one control message on several clusters.
    pub(super) async fn say(&self, term: Term, on: &[Incarnation], body: ControlBody) -> ProviderResult<()> {
        let message = ControlMessage { deployment: self.deployment.name.clone(), term, body };
        for incarnation in on {
            self.links(incarnation).await?.registry.say(&message).await?;
        }
        Ok(())
    }

    async fn claim(&self, command: &Command, term: Term) -> ProviderResult<Answer> {
        let Command::Claim { nonce, target, on, known } = command else {
            return Err(ProviderError::new(ErrorKind::Invalid, "claim", "another command was given"));
        };
        for incarnation in on {
            let links = self.links(incarnation).await?;
            if let Some(verified) = known.get(&incarnation.id) {
                same_cluster(
                    "claim the control topic",
                    incarnation,
                    &links.admin.identity().await?.cluster_id,
                    verified,
                )?;
            }
            links.registry.prepare().await?;
            self.may_claim(&links.registry.control().await?, incarnation, term, nonce, target)?;
        }
        self.say(term, on, ControlBody::Claim { nonce: nonce.clone() }).await?;
        // Two deployments may have claimed it at once: the first word in it decides.
        for incarnation in on {
            let view = self.links(incarnation).await?.registry.control().await?;
            self.may_claim(&view, incarnation, term, nonce, target)?;
        }
        self.say(term, on, ControlBody::Announce { target: target.clone() }).await?;
        Ok(Answer::Done)
    }

    async fn provision(&self, colour: Colour, request: &Nonce, term: Term) -> ProviderResult<Answer> {
        let provisioner = self.provisioner(colour);
        let anew = without(Control::AskAnew).then(|| Nonce::new(format!("{request}-{term}")));
        let request = anew.as_ref().unwrap_or(request);
        // One that cannot be described may be put right. Only one that will not be made is given up.
        let later = |error: ProviderError| error.with_retry(Retry::Later);
        let (new, made) = match provisioner.provision(colour, request).await {
            // Something stands there that this request did not make: kept from an earlier cutover, or somebody else's.
            // What it is will be verified like anything else.
            Err(error) if error.kind == ErrorKind::Refused => {
                match provisioner.describe(colour).await.map_err(later)? {
                    Some(kept) => (kept, false),
                    None => return Err(error),
                }
            }
            made => (made?, true),
        };
        let old = self.incarnation(colour.other()).await.map_err(later)?;
        Ok(Answer::Provisioned { old, new, made })
    }

    async fn isolate(&self, old: &Incarnation, nonce: &Nonce) -> ProviderResult<Answer> {
        match self.provisioner(old.colour).isolate(&old.id, nonce).await {
            Ok(()) => Ok(Answer::Isolated { shut_out: true }),
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(Answer::Isolated { shut_out: false }),
            Err(error) => Err(error),
        }
    }

    /// Whether a control topic is ours to claim: not another deployment's, not a newer controller's, and not one that
    /// knows of more than the record we act on.
    pub(super) fn may_claim(
        &self,
        view: &ControlView,
        on: &Incarnation,
        term: Term,
        nonce: &Nonce,
        target: &Target,
    ) -> ProviderResult<()> {
        let what = format!("claim the control topic of {}", on.id);
        let refuse = |why: String| Err(ProviderError::new(ErrorKind::Refused, &what, why));
        if let Some(other) = view.deployment.as_ref().filter(|other| **other != self.deployment.name) {
            return refuse(format!(
                "it belongs to deployment {other}, not {}: two deployments cannot share a cluster. If that one is over, \
                 delete the topics kutover.control and kutover.members there",
                self.deployment.name
            ));
        }
        if view.term > term {
            return Err(superseded(what, view.term, term));
        }
        if view.term == term && view.claim.as_ref().is_some_and(|claim| claim != nonce) {
            return refuse(format!("term {term} was claimed there by another controller"));
        }
        match &view.target {
            Some(known) if known.generation > target.generation => refuse(format!(
                "it knows generation {}, the owner record says {}: put the owner record back as it was",
                known.generation, target.generation
            )),
            Some(known) if known.generation == target.generation && known != target => refuse(format!(
                "it says that generation {} is on {} ({}), the owner record says {} ({}): put the owner record back as \
                 it was",
                known.generation, known.colour, known.cluster_id, target.colour, target.cluster_id
            )),
            _ => Ok(()),
        }
    }

    /// Undoes a preparation. Only what this cutover made goes: never a cluster that was published once, never under a
    /// record that says something else than when the abort began.
    async fn discard(&self, command: &Command, term: Term) -> ProviderResult<Answer> {
        let Command::Discard { colour, new, keep, cluster_id, published, created, request, kept } = command
        else {
            return Err(ProviderError::new(ErrorKind::Invalid, "discard", "another command was given"));
        };
        let provisioner = self.provisioner(*colour);
        // It may be gone already, from an earlier try whose outcome was not learnt.
        let Some(there) = provisioner.describe(*colour).await? else { return Ok(Answer::Done) };
        if new.as_ref().is_some_and(|new| new.id != there.id) {
            return Ok(Answer::Done);
        }
        let (id, admin) = match (self.who(&there).await, cluster_id) {
            (Ok((id, admin)), _) => (id, Some(admin)),
            // It is dead; the provisioner checks the id that was verified.
            (Err(_), Some(verified)) => (verified.clone(), None),
            (Err(error), None) => return Err(error),
        };
        if id == keep.cluster_id {
            return Err(ProviderError::new(
                ErrorKind::Refused,
                format!("discard {}", there.id),
                format!("it leads to cluster {id}, which serves; remove {} by hand", there.id),
            ));
        }
        if let Some(verified) = cluster_id {
            same_cluster("discard", &there, &id, verified)?;
        }
        if let Some(admin) = admin {
            admin.delete_topics(&list(created)).await?;
        }
        // Kept from an earlier cutover, fenced: discarding it needs the full proof. Or somebody else's.
        if kept.unwrap_or(false) || published.contains(&id) {
            return Ok(Answer::Done);
        }
        // Who made it was not learnt. Something stands there, so asking again makes nothing.
        if kept.is_none() {
            match provisioner.provision(*colour, request).await {
                Err(error) if error.kind == ErrorKind::Refused => return Ok(Answer::Done),
                made => made?,
            };
        }
        self.still_says(term, keep).await?;
        if !without(Control::AbortLeaves) {
            provisioner.destroy(&RemovalMark { incarnation: there.id, cluster_id: id }).await?;
        }
        Ok(Answer::Done)
    }

    /// Who lives in an incarnation.
    pub(super) async fn who(
        &self,
        incarnation: &Incarnation,
    ) -> ProviderResult<(ClusterId, Arc<dyn ClusterAdmin>)> {
        let admin = self.links(incarnation).await?.admin;
        Ok((admin.identity().await?.cluster_id, admin))
    }
}

pub(super) fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing is written to, or taken from, another cluster than the one that was verified there.
pub(super) fn same_cluster(
    what: &str,
    there: &Incarnation,
    found: &ClusterId,
    verified: &ClusterId,
) -> ProviderResult<()> {
    if found == verified {
        return Ok(());
    }
    Err(ProviderError::new(
        ErrorKind::Refused,
        format!("{what} of {}", there.id),
        format!("it was cluster {verified} and is now {found}: find out who replaced it"),
    ))
}

/// Another controller has taken over.
pub(super) fn superseded(what: impl std::fmt::Display, found: Term, ours: Term) -> ProviderError {
    ProviderError::new(
        ErrorKind::Superseded,
        what,
        format!("term {found} is in force, ours is {ours}: another controller has taken over"),
    )
}

pub(super) fn list(topics: &BTreeSet<TopicName>) -> Vec<TopicName> {
    topics.iter().cloned().collect()
}
