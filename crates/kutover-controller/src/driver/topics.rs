//! Commands that prepare the new cluster: topics, who may do what, start offsets.

use std::collections::{BTreeMap, BTreeSet};

use kutover_core::controls::{Control, without};
use kutover_core::cutover::{Answer, Command, FencePolicy, StartOffsets};
use kutover_core::decisions::fence::not_provable;
use kutover_core::decisions::raise::Raised;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::parity::{access_plan, create_with_known_configs, parity_plan};
use kutover_core::ports::{ClusterAdmin, GroupListing, Incarnation};
use kutover_core::words::{Colour, GroupId, Offset, TopicName, TopicPartition};

use super::retention::as_before;
use super::rollback::supported;
use super::world::{World, list};

/// Groups with the topics they have offsets on.
type Groups = BTreeMap<GroupId, BTreeSet<TopicName>>;

impl World {
    /// Gives the new cluster the old one's topics, and its ACLs, quotas and SCRAM users. What it made is answered, and
    /// what differs for good.
    pub(super) async fn match_topics(
        &self,
        old: &Incarnation,
        new: &Incarnation,
        topics: &BTreeSet<TopicName>,
        strict: bool,
        raised: &[Raised],
    ) -> ProviderResult<Answer> {
        let (old_admin, new_admin) = (self.links(old).await?.admin, self.links(new).await?.admin);
        let on_old = as_before(old_admin.topics().await?, old, raised);
        let wanted: Vec<_> = on_old.iter().filter(|topic| topics.contains(&topic.name)).cloned().collect();
        let there = as_before(new_admin.topics().await?, new, raised);
        let plan = parity_plan(&wanted, &there);
        if let Some(refusal) = plan.refusals().next().filter(|_| strict) {
            return Err(ProviderError::new(ErrorKind::Refused, "match topics", refusal));
        }
        let mut notes: Vec<String> = plan.differences.iter().map(ToString::to_string).collect();
        let mut created = BTreeSet::new();
        for topic in &plan.create {
            let dropped = create_with_known_configs(&*new_admin, topic).await?;
            notes.extend(dropped.iter().map(|(config, value)| {
                format!(
                    "topic {}: the new cluster does not know {config} (was {value}); left out",
                    topic.name
                )
            }));
            if !there.iter().any(|known| known.name == topic.name) {
                created.insert(topic.name.clone());
            }
        }
        match match_access(&*old_admin, &*new_admin, strict).await {
            Ok(given) => notes.extend(given),
            Err(error) if strict => return Err(error),
            Err(error) => notes.push(error.to_string()),
        }
        Ok(Answer::TopicsMatched { created, notes, there: on_old })
    }

    /// The groups of a cluster, and whether it can list them.
    pub(super) async fn groups(&self, on: &Incarnation) -> ProviderResult<(Groups, bool)> {
        match self.links(on).await?.admin.groups().await? {
            GroupListing::Listed(groups) => Ok((groups, true)),
            GroupListing::Unsupported => Ok((BTreeMap::new(), false)),
        }
    }

    /// Sets start offsets where the new cluster's segments start: at its ends, unless it holds earlier ones.
    pub(super) async fn start_offsets(
        &self,
        new: &Incarnation,
        groups: &Groups,
        starts: &[(TopicPartition, Offset)],
    ) -> ProviderResult<BTreeMap<GroupId, Vec<TopicPartition>>> {
        if without(Control::NoStartOffsets) {
            return Ok(BTreeMap::new());
        }
        let admin = self.links(new).await?.admin;
        let topics: BTreeSet<TopicName> = groups.values().flatten().cloned().collect();
        let ends = admin.ends(&list(&topics)).await?;
        let mut all: BTreeMap<TopicPartition, Offset> =
            ends.into_iter().map(|end| (end.place, end.high_watermark)).collect();
        all.extend(starts.iter().filter(|(place, _)| topics.contains(&place.topic)).cloned());
        let mut kept = BTreeMap::new();
        for (group, topics) in groups {
            let starts = all.iter().filter(|(place, _)| topics.contains(&place.topic));
            let starts = starts.map(|(place, at)| (place.clone(), *at)).collect();
            kept.insert(group.clone(), admin.set_start_offsets(group, &starts).await?);
        }
        Ok(kept)
    }

    /// Sets start offsets again where there are none any more. A group that lives there already refuses; what fails for
    /// another reason is tried again at the next look. Gives why the cluster does not answer, if it does not.
    pub(super) async fn freshen(&self, starts: &[StartOffsets]) -> Option<String> {
        if without(Control::NoStartOffsets) {
            return None;
        }
        let mut left_out = None;
        for fresh in starts {
            let links = match self.links(&fresh.on).await {
                Ok(links) => links,
                Err(error) => return silent(&error),
            };
            for (group, topics) in &fresh.groups {
                let starts =
                    fresh.at.iter().filter(|(place, _)| topics.contains(&place.topic)).cloned().collect();
                if let Err(error) = links.admin.set_start_offsets(group, &starts).await {
                    tracing::debug!(%group, %error, "start offsets were not set again");
                    // One coordinator that is away does not keep the other groups from theirs.
                    left_out = left_out.or_else(|| Some(format!("group {group}: {}", silent(&error)?)));
                }
            }
        }
        left_out
    }

    /// Where producer ids stand. With a mark, the new cluster's are used up towards it, for as long as one call may take.
    pub(super) async fn producer_ids(
        &self,
        old: &Incarnation,
        new: &Incarnation,
        writers_of: Option<&BTreeSet<TopicName>>,
        mark: Option<u64>,
    ) -> ProviderResult<Answer> {
        let (of_old, of_new) = (self.links(old).await?.ids, self.links(new).await?.ids);
        let look = async {
            let old = of_old.newest().await?;
            let new = match mark {
                Some(mark) => of_new.pass(mark).await?,
                None => of_new.newest().await?,
            };
            let live = match writers_of {
                Some(topics) => Some(of_new.live(&list(topics)).await?),
                None => None,
            };
            Ok(Answer::ProducerIds { old, new, live })
        };
        look.await.map_err(|mut error: ProviderError| {
            if error.kind == ErrorKind::Unsupported {
                error.reason.push_str("; plan.separation = \"off\" goes on without knowing (L16)");
            }
            error
        })
    }

    pub(super) async fn recheck(&self, command: &Command) -> ProviderResult<Answer> {
        let Command::Recheck { old, new, topics, groups, starts, raised } = command else {
            return Err(ProviderError::new(ErrorKind::Invalid, "check again", "another command was given"));
        };
        let (old_admin, new_admin) = (self.links(old).await?.admin, self.links(new).await?.admin);
        let (old_identity, new_identity) = (old_admin.identity().await?, new_admin.identity().await?);
        self.match_topics(old, new, topics, true, raised).await?;
        self.start_offsets(new, groups, starts).await?;
        let there = old_admin.topics().await?;
        // A topic that was deleted meanwhile has no ends; the answer's topics say that it is gone.
        let left = there.iter().map(|topic| topic.name.clone()).filter(|topic| topics.contains(topic));
        let left: Vec<TopicName> = left.collect();
        if self.switch.fence == FencePolicy::Required {
            is_open_to_the_probe(&*old_admin, old.colour, &left).await?;
        }
        Ok(Answer::Rechecked {
            old: old_identity,
            new: new_identity,
            topics: there,
            old_ends: old_admin.ends(&left).await?,
            new_ends: new_admin.ends(&left).await?,
        })
    }
}

/// A fence is proven by leaders that refuse the probe, which says nothing if they refuse it without one. What carries a
/// fence already is left over from a late act: it is lifted at the next start, which proves the same.
async fn is_open_to_the_probe(
    old: &dyn ClusterAdmin,
    colour: Colour,
    topics: &[TopicName],
) -> ProviderResult<()> {
    // Where nobody can tell, or may, there is none as far as is known.
    let left_over = old.fence_traces().await.unwrap_or_default();
    let open: Vec<TopicName> = topics.iter().filter(|topic| !left_over.contains(*topic)).cloned().collect();
    supported(old.prove_open(&open).await).map_err(|mut error| {
        if error.kind != ErrorKind::Unreachable {
            error.reason = format!("{}; {}", error.reason, not_provable(colour));
        }
        error
    })
}

/// Lets in on the new cluster whom the old one lets in. What was given and what differs for good is answered.
async fn match_access(
    old: &dyn ClusterAdmin,
    new: &dyn ClusterAdmin,
    strict: bool,
) -> ProviderResult<Vec<String>> {
    const WHAT: &str = "match ACLs, quotas and users";
    let plan = access_plan(&old.access().await?, &new.access().await?);
    if let Some(refusal) = plan.refusals().next().filter(|_| strict) {
        return Err(ProviderError::new(ErrorKind::Refused, WHAT, refusal));
    }
    let mut notes: Vec<String> = plan.differences.iter().map(ToString::to_string).collect();
    let grant = &plan.grant;
    if grant.is_empty() {
        return Ok(notes);
    }
    let left = new.grant(grant).await?;
    if let Some((user, mechanisms)) = left.first_key_value() {
        let mechanisms = mechanisms.iter().cloned().collect::<Vec<_>>().join(" and ");
        let reason = format!(
            "SCRAM user {user} ({mechanisms}) is on the old cluster and not on the new one, and nobody can copy a \
             password; make it there, give its password under the new colour's `scram_users`, or delete it on the old \
             cluster if nobody uses it"
        );
        return Err(ProviderError::new(ErrorKind::Refused, WHAT, reason));
    }
    let given = [
        (grant.acls.len(), "ACLs"),
        (grant.quotas.values().map(BTreeMap::len).sum(), "quotas"),
        (grant.scram_users.len(), "SCRAM users"),
    ];
    let given: Vec<String> = given
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{what} ({count})"))
        .collect();
    notes.push(format!("the new cluster was given {}", given.join(", ")));
    Ok(notes)
}

/// Why a cluster does not answer, if that is what an error says.
fn silent(error: &ProviderError) -> Option<String> {
    matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Unavailable).then(|| error.to_string())
}
