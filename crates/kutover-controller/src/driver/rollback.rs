//! Commands of a rollback: the intent, and a cluster that takes clients and records again.

use std::collections::BTreeSet;

use kutover_core::cutover::{Answer, Command};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlBody, ControlMessage};
use kutover_core::owner::{Intent, OwnerRecord, RemovalMark};
use kutover_core::ports::{ClusterAdmin, Incarnation, Published};
use kutover_core::words::{Nonce, Term, TopicName, is_reserved_topic};

use super::world::{World, list};

impl World {
    /// The owner record first: it alone is fenced by the term. The cluster that is left is told if it answers; who
    /// reads DNS or the other cluster learns of it all the same.
    pub(super) async fn write_intent(&self, command: &Command, term: Term) -> ProviderResult<Answer> {
        let Command::WriteIntent { intent, unmark, nonce, claim, on, also } = command else {
            return Err(ProviderError::new(
                ErrorKind::Invalid,
                "write the intent",
                "another command was given",
            ));
        };
        self.own_intent(intent, unmark.as_ref(), nonce, term).await?;
        let body = ControlBody::Intent { intent: Some(intent.clone()) };
        self.say(term, std::slice::from_ref(on), body.clone()).await?;
        match self.tell_other(also, claim, body, term).await {
            Err(error) if !error.kind.is_silence() => Err(error),
            _ => Ok(Answer::Done),
        }
    }

    async fn own_intent(
        &self,
        intent: &Intent,
        unmark: Option<&RemovalMark>,
        nonce: &Nonce,
        term: Term,
    ) -> ProviderResult<()> {
        let endpoint = self.first_endpoint();
        let refuse = |why: String| {
            Err(ProviderError::new(ErrorKind::Refused, format!("write the intent at {endpoint}"), why))
        };
        let (found, owner, _) = self.ours(endpoint, term).await?;
        if let Some(mark) = owner.removal.as_ref().filter(|mark| unmark != Some(mark)) {
            return refuse(format!("the removal of {} is marked: there is no way back", mark.incarnation));
        }
        if owner.intent.as_ref() == Some(intent) || owner.target.generation >= intent.opening {
            return Ok(());
        }
        if owner.target.generation != intent.closing {
            return refuse(format!(
                "it says generation {}, not {}: find out who changed it",
                owner.target.generation, intent.closing
            ));
        }
        let (nonce, intent) = (nonce.clone(), Some(intent.clone()));
        let owner = OwnerRecord { term, nonce, intent, removal: None, ..owner };
        let desired = Published { owner: Some(owner), ..found.clone() };
        self.dns(endpoint)?.compare_and_set(&endpoint.name, &found, &desired).await
    }

    async fn tell_other(
        &self,
        also: &Incarnation,
        claim: &Nonce,
        body: ControlBody,
        term: Term,
    ) -> ProviderResult<()> {
        let registry = self.links(also).await?.registry;
        let view = registry.control().await?;
        if let Some(target) = &view.target {
            self.may_claim(&view, also, term, claim, target)?;
        }
        for body in [ControlBody::Claim { nonce: claim.clone() }, body] {
            let message = ControlMessage { deployment: self.deployment.name.clone(), term, body };
            registry.say(&message).await?;
        }
        Ok(())
    }

    /// Topics on which a fence stands. What was found while the term was ours was raised before anybody else had it: a fence
    /// of a newer term is not left over.
    pub(super) async fn look_for_fence(&self, on: &Incarnation, term: Term) -> ProviderResult<Answer> {
        let admin = self.links(on).await?.admin;
        let (mut topics, mut blind, mut refusal) = (BTreeSet::new(), None, None);
        match admin.fence_traces().await {
            Ok(found) => topics = found,
            // Silence says nothing of a fence.
            Err(error) if error.kind == ErrorKind::Unsupported => {
                let mut there = topics_there(&*admin).await?;
                // The client that asks may write to the topics that move, and to no others.
                there.retain(|topic| self.gate.as_ref().is_none_or(|(plan, _)| plan.topics.includes(topic)));
                let open = admin.prove_open(&list(&there)).await;
                refusal = open.err().filter(|error| error.kind == ErrorKind::Refused);
            }
            Err(error) if error.kind == ErrorKind::NotAuthorised => blind = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        if !topics.is_empty() || refusal.is_some() {
            self.still_ours(term).await?;
        }
        Ok(Answer::FenceTraces { topics, blind, refusal: refusal.map(|error| error.to_string()) })
    }

    pub(super) async fn reopen(
        &self,
        on: &Incarnation,
        topics: Option<&BTreeSet<TopicName>>,
        isolations: &[Nonce],
        prove: bool,
    ) -> ProviderResult<Answer> {
        for nonce in isolations {
            supported(self.provisioner(on.colour).put_back(&on.id, nonce).await)?;
        }
        let admin = self.links(on).await?.admin;
        let mut topics = match topics {
            Some(topics) => topics.clone(),
            None => topics_there(&*admin).await?,
        };
        supported(admin.lift_fence(&list(&topics)).await)?;
        if prove {
            // A rule about a topic outlives it. What is gone has no leader to be asked.
            let there = topics_there(&*admin).await?;
            topics.retain(|topic| there.contains(topic));
            supported(admin.prove_open(&list(&topics)).await)?;
        }
        Ok(Answer::Done)
    }
}

/// What a backend cannot do at all it cannot have done before either.
fn supported(result: ProviderResult<()>) -> ProviderResult<()> {
    match result {
        Err(error) if error.kind == ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

/// The topics of a cluster that a fence may touch.
async fn topics_there(admin: &dyn ClusterAdmin) -> ProviderResult<BTreeSet<TopicName>> {
    let there = admin.topics().await?.into_iter().map(|topic| topic.name);
    Ok(there.filter(|topic| !is_reserved_topic(topic.as_str())).collect())
}
