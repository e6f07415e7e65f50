//! Commands on the owner record and the endpoints' records: all by compare-and-set, all under the term.

use std::collections::BTreeMap;

use kutover_core::controls::{Control, without};
use kutover_core::cutover::Answer;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::owner::{OwnerRecord, RemovalMark, Target};
use kutover_core::ports::{Incarnation, Published, RecordData, RecordSet};
use kutover_core::words::{Colour, DeploymentName, EndpointKey, Generation, Nonce, Term};

use super::missing;
use super::world::{World, superseded};

impl World {
    pub(super) fn first_endpoint(&self) -> &EndpointKey {
        &self.deployment.endpoints[0]
    }

    /// Raises the term by compare-and-set, or makes the first owner record.
    pub(super) async fn take_term(
        &self,
        nonce: &Nonce,
        adopt: bool,
        earlier: &[Nonce],
    ) -> ProviderResult<Answer> {
        let endpoint = self.first_endpoint();
        let what = format!("take the term at {endpoint}");
        let found = self.dns(endpoint)?.read(&endpoint.name).await?;
        let owner = match &found.owner {
            None if adopt => self.adopt(endpoint, &found, nonce).await?,
            None => {
                return Err(ProviderError::new(
                    ErrorKind::Refused,
                    what,
                    format!(
                        "the journal knows this deployment, but there is no owner record at {}: put it back from the \
                         journal's last checkpoint, or start with an empty journal if the deployment is new",
                        OwnerRecord::name_for(&endpoint.name)
                    ),
                ));
            }
            Some(owner) if owner.deployment != self.deployment.name => {
                return Err(foreign(what, &owner.deployment, &self.deployment.name));
            }
            // An earlier try of ours whose outcome was not learnt.
            Some(owner) if owner.nonce == *nonce => owner.clone(),
            Some(owner) if adopt && !earlier.contains(&owner.nonce) => {
                return Err(ProviderError::new(
                    ErrorKind::Refused,
                    what,
                    format!(
                        "the owner record is at generation {}, term {}, but the journal is empty: use the journal of \
                         the controller that wrote it (an empty one would forget what it had begun)",
                        owner.target.generation, owner.term
                    ),
                ));
            }
            Some(owner) => {
                let ours = OwnerRecord { term: owner.term.next(), nonce: nonce.clone(), ..owner.clone() };
                let desired = Published { owner: Some(ours.clone()), ..found.clone() };
                self.dns(endpoint)?.compare_and_set(&endpoint.name, &found, &desired).await?;
                ours
            }
        };
        let active = self.incarnation(owner.target.colour).await?;
        Ok(Answer::TermTaken { term: owner.term, owner, active })
    }

    /// The first act on a deployment that kutover has not seen: generation 1, for the colour that the endpoint points at.
    async fn adopt(
        &self,
        endpoint: &EndpointKey,
        found: &Published,
        nonce: &Nonce,
    ) -> ProviderResult<OwnerRecord> {
        let active = match &found.endpoint {
            None => self.incarnation(self.deployment.initial).await?,
            Some(set) => self.behind(endpoint, set).await?,
        };
        let identity = self.links(&active).await?.admin.identity().await?;
        let owner = OwnerRecord {
            deployment: self.deployment.name.clone(),
            term: Term(1),
            nonce: nonce.clone(),
            target: Target {
                generation: Generation(1),
                colour: active.colour,
                cluster_id: identity.cluster_id,
                bootstrap: active.bootstrap.clone(),
            },
            intent: None,
            removal: None,
        };
        let set = RecordSet { ttl_s: self.deployment.ordinary_ttl_s, data: active.endpoint };
        let desired =
            Published { endpoint: Some(found.endpoint.clone().unwrap_or(set)), owner: Some(owner.clone()) };
        self.dns(endpoint)?.compare_and_set(&endpoint.name, found, &desired).await?;
        Ok(owner)
    }

    /// The incarnation that an endpoint's record set points at.
    async fn behind(&self, endpoint: &EndpointKey, set: &RecordSet) -> ProviderResult<Incarnation> {
        for colour in Colour::BOTH {
            if let Some(incarnation) = self.provisioner(colour).describe(colour).await?
                && incarnation.endpoint == set.data
            {
                return Ok(incarnation);
            }
        }
        Err(ProviderError::new(
            ErrorKind::Refused,
            format!("adopt {endpoint}"),
            format!(
                "it points at {:?}, which is neither blue nor green; correct `clusters` or the record",
                set.data
            ),
        ))
    }

    /// What stands at an endpoint, under our term or not at all.
    pub(super) async fn ours(
        &self,
        endpoint: &EndpointKey,
        term: Term,
    ) -> ProviderResult<(Published, OwnerRecord, RecordSet)> {
        let found = self.dns(endpoint)?.read(&endpoint.name).await?;
        self.judge(endpoint, term, found)
    }

    fn judge(
        &self,
        endpoint: &EndpointKey,
        term: Term,
        found: Published,
    ) -> ProviderResult<(Published, OwnerRecord, RecordSet)> {
        let what = format!("record of {endpoint}");
        let Some(owner) = found.owner.clone() else {
            return Err(missing(
                what,
                "its owner record is gone: put it back from the journal's last checkpoint",
            ));
        };
        let Some(set) = found.endpoint.clone() else {
            return Err(missing(what, "the record set itself is gone: put it back"));
        };
        if owner.deployment != self.deployment.name {
            return Err(foreign(what, &owner.deployment, &self.deployment.name));
        }
        if *endpoint == *self.first_endpoint() && owner.term > term && !without(Control::SkipTerm) {
            return Err(superseded(what, owner.term, term));
        }
        Ok((found, owner, set))
    }

    /// As [`World::ours`]; but a further endpoint has no owner record before its first publication.
    pub(super) async fn standing(
        &self,
        endpoint: &EndpointKey,
        term: Term,
    ) -> ProviderResult<(Published, RecordSet)> {
        let found = self.dns(endpoint)?.read(&endpoint.name).await?;
        if endpoint != self.first_endpoint() && found.owner.is_none() {
            let set = found.endpoint.clone().ok_or_else(|| {
                let reason = "there is no record set: make one that leads to the active cluster";
                missing(format!("record of {endpoint}"), reason)
            })?;
            return Ok((found, set));
        }
        let (found, _, set) = self.judge(endpoint, term, found)?;
        Ok((found, set))
    }

    /// Whether the owner record still carries our term; where that cannot be read, nothing is said.
    pub(super) async fn still_ours(&self, term: Term) -> ProviderResult<()> {
        let endpoint = self.first_endpoint();
        match self.dns(endpoint)?.read(&endpoint.name).await {
            Ok(Published { owner: Some(owner), .. }) if term != Term(0) && owner.term > term => {
                Err(superseded(format!("record of {endpoint}"), owner.term, term))
            }
            _ => Ok(()),
        }
    }

    /// Whether the owner record is still under our term and says this target; what is to be destroyed rests on it.
    pub(super) async fn still_says(&self, term: Term, target: &Target) -> ProviderResult<()> {
        let endpoint = self.first_endpoint();
        let (_, owner, _) = self.ours(endpoint, term).await?;
        if owner.target == *target {
            return Ok(());
        }
        Err(ProviderError::new(
            ErrorKind::Refused,
            format!("record of {endpoint}"),
            format!("it says generation {} now, not {}", owner.target.generation, target.generation),
        ))
    }

    pub(super) async fn mark_removal(
        &self,
        term: Term,
        mark: &RemovalMark,
        nonce: &Nonce,
    ) -> ProviderResult<Answer> {
        let endpoint = self.first_endpoint();
        let (found, owner, _) = self.ours(endpoint, term).await?;
        match &owner.removal {
            Some(known) if known == mark => return Ok(Answer::Done),
            Some(known) => {
                return Err(ProviderError::new(
                    ErrorKind::Refused,
                    format!("mark the removal of {}", mark.incarnation),
                    format!("the owner record already marks {}", known.incarnation),
                ));
            }
            None => {}
        }
        let owner = OwnerRecord { nonce: nonce.clone(), removal: Some(mark.clone()), ..owner };
        let desired = Published { owner: Some(owner), ..found.clone() };
        self.dns(endpoint)?.compare_and_set(&endpoint.name, &found, &desired).await?;
        Ok(Answer::Done)
    }

    /// Takes the mark out and restores the TTL, `each` its own where it names it.
    pub(super) async fn tidy(
        &self,
        term: Term,
        ttl_s: u32,
        each: &BTreeMap<EndpointKey, u32>,
        nonce: &Nonce,
    ) -> ProviderResult<Answer> {
        for endpoint in &self.deployment.endpoints {
            let ttl_s = each.get(endpoint).copied().unwrap_or(ttl_s);
            let (found, owner, set) = self.ours(endpoint, term).await?;
            if owner.removal.is_none() && set.ttl_s == ttl_s {
                continue;
            }
            let desired = Published {
                endpoint: Some(RecordSet { ttl_s, ..set }),
                owner: Some(OwnerRecord { nonce: nonce.clone(), removal: None, ..owner }),
            };
            self.dns(endpoint)?.compare_and_set(&endpoint.name, &found, &desired).await?;
        }
        Ok(Answer::Done)
    }

    /// The target that owner record and every endpoint agree on.
    pub(super) async fn published(&self) -> ProviderResult<Target> {
        let mut agreed: Option<(Target, RecordData)> = None;
        for endpoint in &self.deployment.endpoints {
            let what = format!("check where {endpoint} points");
            let found = self.dns(endpoint)?.read(&endpoint.name).await?;
            let owner = found.owner.ok_or_else(|| missing(&what, "its owner record is gone"))?;
            let (expected, leads_to) = match &agreed {
                Some(agreed) => agreed,
                None => {
                    let leads_to = self.incarnation(owner.target.colour).await?.endpoint;
                    agreed.insert((owner.target.clone(), leads_to))
                }
            };
            let points_at = found.endpoint.map(|set| set.data);
            if owner.target != *expected || points_at.as_ref() != Some(leads_to) {
                return Err(ProviderError::new(
                    ErrorKind::Refused,
                    what,
                    format!(
                        "it points at {points_at:?}, not at {leads_to:?} of {}: put it right",
                        expected.colour
                    ),
                ));
            }
        }
        let agreed = agreed.map(|(target, _)| target);
        agreed.ok_or_else(|| missing("check the endpoints", "the deployment has none"))
    }
}

fn foreign(what: impl std::fmt::Display, found: &DeploymentName, ours: &DeploymentName) -> ProviderError {
    ProviderError::new(
        ErrorKind::Refused,
        what,
        format!(
            "the owner record there belongs to deployment {found}, not {ours}: use another endpoint name"
        ),
    )
}
