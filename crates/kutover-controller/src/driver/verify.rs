//! The command that looks at both clusters before either is touched: who they are, and what a plan would be refused over.

use std::collections::BTreeMap;
use std::fmt::Display;

use kutover_core::cutover::{Answer, Plan};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::Incarnation;
use kutover_core::survey::{Outcome, assess};
use kutover_core::words::Term;

use super::Gate;
use super::world::World;
use crate::survey::{SurveyLinks, SurveyRequest, survey};

/// Refusals that are told at once.
const TOLD: usize = 5;

impl World {
    pub(super) async fn verify(
        &self,
        old: &Incarnation,
        new: &Incarnation,
        term: Term,
    ) -> ProviderResult<Answer> {
        if let Some((plan, gate)) = &self.gate {
            self.pass(plan, gate, old, new).await?;
        }
        let (old_admin, new_admin) = (self.links(old).await?.admin, self.links(new).await?.admin);
        Ok(Answer::Verified {
            old: old_admin.identity().await?,
            new: new_admin.identity().await?,
            topics: old_admin.topics().await?,
            ttls: self.ttls(term).await?,
        })
    }

    /// What a plan is refused over, no cutover begins over. DNS is not looked at here: the machine has read its owner
    /// record, and compares.
    async fn pass(
        &self,
        plan: &Plan,
        gate: &Gate,
        old: &Incarnation,
        new: &Incarnation,
    ) -> ProviderResult<()> {
        const WHAT: &str = "plan the cutover";
        let (from, watch) = (old.colour, &gate.watch);
        let (old, new) = (self.survey_links(plan, old).await?, self.survey_links(plan, new).await?);
        let request =
            SurveyRequest { plan, from, endpoints: BTreeMap::new(), old: Ok(old), new: Some(Ok(new)), watch };
        let assessment = assess(&Box::pin(survey(request)).await, plan, &gate.waivers);
        match assessment.outcome {
            Outcome::Ready => Ok(()),
            Outcome::Refused => {
                Err(ProviderError::new(ErrorKind::Refused, WHAT, first(&assessment.refusals)))
            }
            Outcome::Unreachable => {
                let silent = assessment.clusters.iter().filter_map(|cluster| cluster.unreachable.as_ref());
                Err(ProviderError::new(ErrorKind::Unreachable, WHAT, first(&silent.collect::<Vec<_>>())))
            }
        }
    }

    async fn survey_links(&self, plan: &Plan, on: &Incarnation) -> ProviderResult<SurveyLinks> {
        let (links, look) = (self.links(on).await?, self.look(on).await?);
        let workers = match &plan.connect {
            Some(_) => Some(self.backends.clusters.workers(on.colour).await?),
            None => None,
        };
        Ok(SurveyLinks { links, look, workers })
    }
}

fn first(all: &[impl Display]) -> String {
    let mut text = all.iter().take(TOLD).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if all.len() > TOLD {
        text += &format!("; and {} more, which `kutover plan` names", all.len() - TOLD);
    }
    text
}
