//! Commands that prepare the new cluster: topics, who may do what, start offsets.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _};
use kutover_core::controls::{Control, without};
use kutover_core::cutover::{Answer, Command, FencePolicy, StartOffsets};
use kutover_core::decisions::fence::not_provable;
use kutover_core::decisions::raise::Raised;
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::parity::{Difference, access_plan, create_with_known_configs, parity_plan};
use kutover_core::ports::{ClusterAdmin, GroupListing, Incarnation, NewTopic};
use kutover_core::words::{Colour, GroupId, Offset, TopicName, TopicPartition};

use super::retention::as_before;
use super::world::{World, list};

/// Topics that are made at once: each is looked at until all its partitions have leaders.
const TOPICS_AT_ONCE: usize = 16;
/// Groups whose start offsets are set at once. One command gets through all of them in its time or begins again.
const GROUPS_AT_ONCE: usize = 64;

/// Groups with the topics they have offsets on.
type Groups = BTreeMap<GroupId, BTreeSet<TopicName>>;

impl World {
    /// Gives the new cluster the old one's topics, and its ACLs, quotas and SCRAM users. What differs for good is answered.
    /// If topics are missing that are not `named`, that is answered, and nothing is given.
    pub(super) async fn match_topics(
        &self,
        old: &Incarnation,
        new: &Incarnation,
        topics: &BTreeSet<TopicName>,
        strict: bool,
        raised: &[Raised],
        named: Option<&BTreeSet<TopicName>>,
    ) -> ProviderResult<Answer> {
        let (old_admin, new_admin) = (self.links(old).await?.admin, self.links(new).await?.admin);
        let on_old = as_before(old_admin.topics().await?, old, raised);
        let wanted: Vec<_> = on_old.iter().filter(|topic| topics.contains(&topic.name)).cloned().collect();
        let there = as_before(new_admin.topics().await?, new, raised);
        let plan = parity_plan(&wanted, &there, new_admin.identity().await?.brokers.len());
        let stands =
            |one: &&Difference| one.waiver().is_none() || !self.switch.waived_replicas.includes(one.topic());
        if let Some(refusal) = plan.refusals().find(stands).filter(|_| strict) {
            let or_waive = refusal.waiver().map(|field| format!(", or name the topic in {field}"));
            let reason = format!("{refusal}{}", or_waive.unwrap_or_default());
            return Err(ProviderError::new(ErrorKind::Refused, "match topics", reason));
        }
        if let Some(named) = named {
            let known: BTreeSet<&TopicName> = there.iter().map(|topic| &topic.name).collect();
            let missing = plan.create.iter().map(|topic| &topic.name).filter(|name| !known.contains(name));
            let missing: BTreeSet<TopicName> = missing.cloned().collect();
            if !missing.is_subset(named) {
                return Ok(Answer::TopicsMissing { topics: missing });
            }
        }
        let mut notes: Vec<String> = plan.differences.iter().map(ToString::to_string).collect();
        notes.extend(make(&*new_admin, &plan.create).await?);
        match match_access(&*old_admin, &*new_admin, strict).await {
            Ok(given) => notes.extend(given),
            Err(error) if strict => return Err(error),
            Err(error) => notes.push(error.to_string()),
        }
        Ok(Answer::TopicsMatched { notes, there: on_old })
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
        set_starts(&*admin, groups, all).await.into_iter().map(|(group, set)| Ok((group, set?))).collect()
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
            for (group, set) in set_starts(&*links.admin, &fresh.groups, fresh.at.iter().cloned()).await {
                if let Err(error) = set {
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
        // First of all, since clients come the platform's way and not the controller's: a cluster that answers here may have no
        // healthy target behind its load balancer. A rollback asks for none of it: the way back must not be barred by it.
        self.provisioner(new.colour).is_ready(&new.id).await?;
        let (old_admin, new_admin) = (self.links(old).await?.admin, self.links(new).await?.admin);
        let (old_identity, new_identity) = (old_admin.identity().await?, new_admin.identity().await?);
        self.match_topics(old, new, topics, true, raised, None).await?;
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
    match old.prove_open(&open).await {
        Err(mut error) if error.kind == ErrorKind::Refused => {
            error.reason = format!("{}; {}", error.reason, not_provable(colour));
            Err(error)
        }
        // A leader that takes nothing from anybody, or does not answer, says nothing of who asks, and may be why one leaves.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes topics, or gives them more partitions; what their cluster does not know of them is told, in order of topic. One
/// that cannot be made keeps no other from it.
async fn make(on: &dyn ClusterAdmin, topics: &[NewTopic]) -> ProviderResult<Vec<String>> {
    let making: Vec<_> = topics
        .iter()
        .map(|topic| async move { (&topic.name, create_with_known_configs(on, topic).await) })
        .collect();
    let made: BTreeMap<_, _> = stream::iter(making).buffer_unordered(TOPICS_AT_ONCE).collect().await;
    let mut notes = Vec::new();
    for (topic, left_out) in made {
        notes.extend(left_out?.iter().map(|(config, value)| {
            format!("topic {topic}: the new cluster does not know {config} (was {value}); left out")
        }));
    }
    Ok(notes)
}

/// Sets start offsets; what came of it, in order of group. One that fails keeps no other group from theirs.
async fn set_starts(
    on: &dyn ClusterAdmin,
    groups: &Groups,
    at: impl IntoIterator<Item = (TopicPartition, Offset)>,
) -> BTreeMap<GroupId, ProviderResult<Vec<TopicPartition>>> {
    let mut by_topic: BTreeMap<TopicName, Vec<(TopicPartition, Offset)>> = BTreeMap::new();
    for (place, offset) in at {
        by_topic.entry(place.topic.clone()).or_default().push((place, offset));
    }
    let by_topic = &by_topic;
    let setting: Vec<_> = groups
        .iter()
        .map(|(group, topics)| async move {
            let starts = topics.iter().filter_map(|topic| by_topic.get(topic)).flatten().cloned().collect();
            (group.clone(), on.set_start_offsets(group, &starts).await)
        })
        .collect();
    stream::iter(setting).buffer_unordered(GROUPS_AT_ONCE).collect().await
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
    error.kind.is_silence().then(|| error.to_string())
}
