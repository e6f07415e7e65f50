//! Commands that look, and the few that prepare.

use std::collections::BTreeMap;

use kutover_core::controls::{Control, without};
use kutover_core::cutover::{Answer, Command};
use kutover_core::drain::{GroupProgress, LogRange, Observation, Tail};
use kutover_core::error::{ErrorKind, ProviderResult};
use kutover_core::ports::{FenceKind, FenceProof, Incarnation, PartitionEnd, TopicDescription};
use kutover_core::words::{Colour, GroupId, Offset, Term, TopicName};

use super::carry::error;
use super::controller::{Scratch, Went};
use super::place::{Place, group};
use crate::names::{TOPIC, identity, incarnation, index, place};

impl Place {
    pub(super) fn look(
        &mut self,
        command: &Command,
        scratch: &mut Scratch,
        term: Term,
    ) -> ProviderResult<Went> {
        let answer = match command {
            Command::Provision { colour, .. } => {
                self.infra(*colour).present = true;
                let old = self.incarnation(colour.other())?;
                Answer::Provisioned { old, new: incarnation(*colour, 1), made: true }
            }
            Command::Verify { old, new, .. } => {
                self.reach(old).and_then(|()| self.reach(new))?;
                let (topics, old, new) =
                    (self.topics(old.colour), identity(old.colour), identity(new.colour));
                Answer::Verified { old, new, topics, ttls: BTreeMap::new() }
            }
            Command::MatchTopics { old, new, topics, named, .. } => {
                self.reach(old).and_then(|()| self.reach(new))?;
                let infra = self.infra(new.colour);
                let unnamed = named.as_ref().is_some_and(|named| !topics.is_subset(named));
                if unnamed && !infra.topic {
                    return Ok(Went::Done(Answer::TopicsMissing { topics: topics.clone() }));
                }
                infra.topic = true;
                Answer::TopicsMatched { notes: vec![], there: self.topics(old.colour) }
            }
            Command::ListGroups { old } => {
                self.reach(old)?;
                Answer::Groups { listed: listed(), complete: true }
            }
            Command::SetStartOffsets { new, .. } => {
                self.reach(new)?;
                Answer::StartOffsetsSet { kept: BTreeMap::new() }
            }
            Command::SetTtl { .. } => Answer::TtlSet { old_ttl_s: 0 },
            Command::Recheck { old, new, .. } => {
                self.reach(old).and_then(|()| self.reach(new))?;
                let (old_ends, new_ends) = (self.ends(old.colour), self.ends(new.colour));
                let topics = self.topics(old.colour);
                let (old, new) = (identity(old.colour), identity(new.colour));
                Answer::Rechecked { old, new, old_ends, new_ends, topics }
            }
            Command::ReadMembers { on } => {
                on.iter().try_for_each(|incarnation| self.reach(incarnation))?;
                Answer::Members { by_cluster: self.read_members(on) }
            }
            Command::ProveFence { old, .. } => {
                self.proven(old)?;
                let topics = [(TopicName::new(TOPIC), (None, 1))].into();
                let proof = FenceProof { kind: FenceKind::Hook, topics, ends: self.ends(old.colour) };
                Answer::FenceProven { proof }
            }
            Command::ReadEnds { old, .. } => {
                self.reach(old)?;
                Answer::Ends { ends: self.ends(old.colour) }
            }
            Command::ObserveDrain { old, .. } => {
                self.reach(old)?;
                Answer::Drain { seen: self.observe(old.colour), listed: listed() }
            }
            Command::ListTopics { old } => {
                self.reach(old)?;
                Answer::Topics { there: self.topics(old.colour) }
            }
            Command::LookForFence { on } => return self.look_for_fence(on, term, scratch),
            Command::LookForEarly { .. } => Answer::EarlyLooked { there: Ok(BTreeMap::new()) },
            // Time stands still: it is never due.
            Command::LookBehind { .. } => Answer::Behind { found: Err("not looked at".into()) },
            Command::FreshenStarts { starts } => {
                let mut reached = starts.iter().map(|fresh| self.reach(&fresh.on));
                let silent = reached.find_map(Result::err).map(|error| error.to_string());
                Answer::StartsFresh { silent }
            }
            Command::Reprove { old, new, fence_too, .. } => {
                return self.reprove(old, new, *fence_too, scratch);
            }
            other => return Err(error(ErrorKind::Unsupported, other.name())),
        };
        Ok(Went::Done(answer))
    }

    /// Whether the term is still in force is asked after the look.
    fn look_for_fence(
        &mut self,
        on: &Incarnation,
        term: Term,
        scratch: &mut Scratch,
    ) -> ProviderResult<Went> {
        if scratch.at == 0 {
            self.reach(on)?;
            if self.ground.at(on.colour).fenced {
                return Ok(Went::More);
            }
            return Ok(Went::Done(Answer::FenceTraces {
                topics: Default::default(),
                blind: None,
                refusal: None,
            }));
        }
        if self.dns.owner.as_ref().is_some_and(|owner| owner.term > term) && !without(Control::SkipTerm) {
            return Err(error(ErrorKind::Superseded, "another controller has taken over"));
        }
        Ok(Went::Done(Answer::FenceTraces {
            topics: [TopicName::new(TOPIC)].into(),
            blind: None,
            refusal: None,
        }))
    }

    fn reprove(
        &mut self,
        old: &Incarnation,
        new: &Incarnation,
        fence_too: bool,
        scratch: &mut Scratch,
    ) -> ProviderResult<Went> {
        if scratch.at == 0 {
            let owner =
                self.dns.owner.as_ref().ok_or_else(|| error(ErrorKind::NotFound, "no owner record"))?;
            if self.dns.endpoint != owner.target.colour {
                return Err(error(ErrorKind::Refused, "the endpoint points elsewhere"));
            }
            scratch.published = Some(owner.target.clone());
            return Ok(Went::More);
        }
        self.reach(old).and_then(|()| self.reach(new))?;
        if fence_too {
            self.proven(old)?;
        }
        let published = scratch.published.clone().ok_or_else(|| error(ErrorKind::NotFound, "not read"))?;
        let (seen, topics) = (self.observe(old.colour), self.topics(old.colour));
        let new = identity(new.colour);
        Ok(Went::Done(Answer::Reproved { published, new, seen, listed: listed(), topics }))
    }

    fn proven(&self, on: &Incarnation) -> ProviderResult<()> {
        self.reach(on)?;
        let fenced = self.ground.at(on.colour).fenced;
        if fenced { Ok(()) } else { Err(error(ErrorKind::Refused, "a leader would take a record")) }
    }

    fn end(&self, colour: Colour) -> Offset {
        Offset(self.ground.at(colour).log.len() as i64)
    }

    fn ends(&self, colour: Colour) -> Vec<PartitionEnd> {
        let (place, start, end) = (place(), Offset(0), self.end(colour));
        vec![PartitionEnd {
            place,
            start,
            stable_end: end,
            high_watermark: end,
            leader_end: None,
            epoch: None,
        }]
    }

    fn topics(&self, colour: Colour) -> Vec<TopicDescription> {
        let there = TopicDescription {
            name: TOPIC.into(),
            id: None,
            partitions: 1,
            replication: 1,
            configs: None,
            defaults: BTreeMap::new(),
        };
        if self.infra[index(colour)].topic { vec![there] } else { vec![] }
    }

    fn observe(&self, colour: Colour) -> Observation {
        let range = LogRange { start: Offset(0), end: self.end(colour) };
        let committed = Some(Offset(self.infra[index(colour)].committed as i64));
        let tail = if committed < Some(range.end) { Tail::Data } else { Tail::NotRead };
        Observation {
            logs: [(place(), Ok(range))].into(),
            progress: [((group(), place()), Ok(GroupProgress { committed, tail }))].into(),
            ..Observation::default()
        }
    }
}

fn listed() -> BTreeMap<GroupId, std::collections::BTreeSet<TopicName>> {
    [(group(), [TopicName::new(TOPIC)].into())].into()
}
