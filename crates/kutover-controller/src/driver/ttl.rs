//! The endpoints' TTL: for how long resolvers go on leading clients to where a name pointed before.

use std::collections::BTreeMap;
use std::time::Duration;

use kutover_core::cutover::{Answer, FencePolicy, Topics};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::ports::{Published, RecordSet};
use kutover_core::words::{Colour, EndpointKey, Term};
use tokio::time::Instant;

use super::world::{World, locked};

/// What the plan says of the switch itself.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    /// The colour that a cutover leads to; what leads to the other one is a way back.
    pub(super) to: Colour,
    /// The TTL around the switch, in seconds: what is waited for after it.
    pub(super) ttl_s: u32,
    /// For how long a command is waited for.
    pub(super) command_timeout: Duration,
    /// Whether the cluster that is left has to refuse records after it.
    pub(super) fence: FencePolicy,
    /// Topics that may have fewer replicas behind it.
    pub(super) waived_replicas: Topics,
}

/// A TTL that was longer than it should be when it was last seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Longer {
    ttl_s: u32,
    /// When resolvers have forgotten what they were answered then.
    over: Instant,
}

impl World {
    /// Sets the endpoints' TTL, `each` its own where it names it, and answers with the longest that stood before. One that was
    /// lowered is served by then: the old one is waited out from here on, and a server that still gave it would begin that time
    /// anew. After a try whose outcome was not learnt a record says the new one already, and the ordinary one stands in for
    /// what was there.
    pub(super) async fn set_ttl(
        &self,
        term: Term,
        ttl_s: Option<u32>,
        each: &BTreeMap<EndpointKey, u32>,
    ) -> ProviderResult<Answer> {
        let deadline = self.patience();
        let ttl_s = ttl_s.unwrap_or(self.deployment.ordinary_ttl_s);
        let (mut longest, mut lowered) = (0, false);
        for endpoint in &self.deployment.endpoints {
            let wanted_s = each.get(endpoint).copied().unwrap_or(ttl_s);
            let (found, set) = self.standing(endpoint, term).await?;
            let stood_s = if set.ttl_s == wanted_s { self.deployment.ordinary_ttl_s } else { set.ttl_s };
            longest = longest.max(stood_s);
            lowered |= stood_s > wanted_s;
            if set.ttl_s != wanted_s {
                let set = RecordSet { ttl_s: wanted_s, ..set };
                let desired = Published { endpoint: Some(set), ..found.clone() };
                self.dns(endpoint)?.compare_and_set(&endpoint.name, &found, &desired).await?;
                if stood_s > wanted_s {
                    // As a rule it has long run out when the switch comes. It may have been raised since the cutover began.
                    self.note_longer(endpoint, stood_s);
                }
            }
        }
        // A try before this one may have lowered it, and have seen that not everybody serves it yet.
        if lowered || each.is_empty() {
            self.served("set the TTL", deadline).await?;
        }
        Ok(Answer::TtlSet { old_ttl_s: longest })
    }

    /// The TTL of each endpoint, in seconds.
    pub(super) async fn ttls(&self, term: Term) -> ProviderResult<BTreeMap<EndpointKey, u32>> {
        let mut ttls = BTreeMap::new();
        for endpoint in &self.deployment.endpoints {
            let (_, set) = self.standing(endpoint, term).await?;
            ttls.insert(endpoint.clone(), set.ttl_s);
        }
        Ok(ttls)
    }

    /// L4: what is waited for after the switch is the TTL that was set before it, and then the old cluster may go. Where
    /// somebody has raised it since, resolvers would lead clients there for longer: until it is set right and the longer one
    /// has run out, nothing is switched. The plan does not know of that time, so it is counted here, from when the longer one
    /// was last seen; a run that begins anew counts from when it sees it.
    pub(super) fn check_ttl(&self, endpoint: &EndpointKey, set: &RecordSet) -> ProviderResult<()> {
        let lowered_s = self.switch.ttl_s;
        let reason = if set.ttl_s > lowered_s {
            self.note_longer(endpoint, set.ttl_s);
            format!(
                "its TTL is {0} s, above the {lowered_s} s that are waited out after the switch (`plan.ttl`): resolvers would \
                 lead clients to the old cluster for longer. Set it to {lowered_s} s and find out who changed it; kutover goes \
                 on by itself {0} s later, when the longer one has run out. If it ends before, let those {0} s pass before \
                 you begin anew",
                set.ttl_s
            )
        } else if let Some(ttl_s) = self.longer_until_now(endpoint) {
            format!(
                "its TTL was {ttl_s} s not long ago, and resolvers may lead clients to the old cluster for as long: kutover \
                 waits for that time and goes on by itself"
            )
        } else {
            return Ok(());
        };
        Err(ProviderError::new(ErrorKind::Refused, format!("publish {endpoint}"), reason))
    }

    /// Resolvers may have been answered with this TTL just now.
    fn note_longer(&self, endpoint: &EndpointKey, ttl_s: u32) {
        let over = Instant::now() + Duration::from_secs(ttl_s.into());
        let mut longer = locked(&self.longer);
        if longer.get(endpoint).is_none_or(|known| known.over <= over) {
            longer.insert(endpoint.clone(), Longer { ttl_s, over });
        }
    }

    /// The longer TTL that has not run out yet.
    fn longer_until_now(&self, endpoint: &EndpointKey) -> Option<u32> {
        let longer = locked(&self.longer);
        longer.get(endpoint).filter(|known| known.over > Instant::now()).map(|known| known.ttl_s)
    }
}
