//! Groups: some follow the chain in order, some read as stock consumers do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kutover_core::chain::{Chain, Segment, SegmentEnd};
use kutover_core::ports::{MemberLink as _, Published, Registry as _};
use kutover_core::words::{ClusterId, DnsName, Generation, GroupId, Offset, TopicPartition};
use kutover_memory::MemoryCluster;

use crate::observed::{Handed, Reading, Skipped};
use crate::witness::note;
use crate::world::{World, bounded, record_of};

/// One group of one member.
pub(crate) struct Reader {
    world: Arc<World>,
    number: usize,
    group: GroupId,
    chain: Chain,
    /// Chain: the generation that is being read, and the next offset there. Stock: the next offset on each cluster.
    at: BTreeMap<(TopicPartition, Option<ClusterId>), (Generation, Offset)>,
    /// How often in a row it has found nothing new.
    idle: BTreeMap<TopicPartition, u32>,
    /// After how many empty fetches it looks at control: a matter of time, so the fewer, the more slowly it reads.
    polls_per_look: u32,
    /// How far it has read on each cluster: what it commits again where its offsets have expired.
    done: BTreeMap<(ClusterId, TopicPartition), Offset>,
}

/// Reads for ever.
pub(crate) async fn live(world: Arc<World>, number: usize) {
    let scene = world.scene.groups[number].clone();
    tokio::time::sleep(Duration::from_millis(scene.born_ms)).await;
    let born_ms = world.now_ms();
    world.witness.observed().groups[number].born_ms = born_ms;
    let group = GroupId::new(scene.name.clone());
    let (chain, at, done) = (Chain::default(), BTreeMap::new(), BTreeMap::new());
    let polls_per_look = (16_000 / scene.poll_ms.max(1)).clamp(1, 8) as u32;
    let idle = BTreeMap::new();
    let mut reader = Reader { world, number, group, chain, at, idle, polls_per_look, done };
    loop {
        match scene.reading {
            Reading::Chain => reader.follow_chain().await,
            Reading::Stock => reader.read_all().await,
        }
        tokio::time::sleep(Duration::from_millis(scene.poll_ms)).await;
    }
}

impl Reader {
    fn reachable(&self, id: &ClusterId) -> Option<MemoryCluster> {
        let known = self.world.cluster(id)?;
        let up = !known.gone && !known.cluster.is_isolated() && !self.world.is_out(id);
        up.then_some(known.cluster)
    }

    /// Where it reads on: what retention has taken is gone for it.
    fn position(&self, cluster: &MemoryCluster, place: &TopicPartition, from: Offset) -> Offset {
        let Some((start, _)) = cluster.extent(place).filter(|(start, _)| *start > from) else { return from };
        let (at_ms, cluster) = (self.world.now_ms(), cluster.cluster_id());
        note!(
            self.world.witness,
            "group {} finds {cluster} {place} begin at {start}, not {from}",
            self.group
        );
        let skipped = Skipped { at_ms, cluster, place: place.clone(), to: start };
        self.world.witness.observed().groups[self.number].skipped.push(skipped);
        start
    }

    fn hand_out(
        &self,
        cluster: &MemoryCluster,
        place: &TopicPartition,
        from: Offset,
        end: Option<Offset>,
    ) -> Offset {
        let id = cluster.cluster_id();
        let fetched = cluster.log(place, from);
        self.hand(&id, place, from, end, fetched)
    }

    fn hand(
        &self,
        id: &ClusterId,
        place: &TopicPartition,
        from: Offset,
        end: Option<Offset>,
        fetched: Vec<(Offset, kutover_memory::StoredRecord)>,
    ) -> Offset {
        let mut next = from;
        let at_ms = self.world.now_ms();
        for (offset, stored) in fetched {
            if end.is_some_and(|end| offset >= end) {
                break;
            }
            next = Offset(offset.0 + 1);
            let Some(record) = record_of(stored.payload.as_deref()) else { continue };
            note!(self.world.witness, "group {} is handed {id} {place} @{offset}", self.group);
            let handed = Handed { at_ms, cluster: id.clone(), place: place.clone(), offset, record };
            self.world.witness.observed().groups[self.number].handed.push(handed);
        }
        next
    }

    /// Reads what there is on every cluster, from its commits, or where there are none from the end.
    async fn read_all(&mut self) {
        for cluster in self.world.standing() {
            let id = cluster.cluster_id();
            if self.reachable(&id).is_none() || !self.has_served(&id) {
                continue;
            }
            for place in self.world.scene.places_of(self.number) {
                let key = (place.clone(), Some(id.clone()));
                let from = match self.at.get(&key) {
                    Some((_, from)) => *from,
                    None => match cluster.committed(&self.group, &place) {
                        Some(committed) => committed,
                        None => cluster
                            .log(&place, Offset(0))
                            .last()
                            .map_or(Offset(0), |(end, _)| Offset(end.0 + 1)),
                    },
                };
                let from = self.position(&cluster, &place, from);
                let next = self.hand_out(&cluster, &place, from, None);
                self.at.insert(key, (Generation(0), next));
                cluster.commit(&self.group, &place, next);
            }
        }
    }

    /// Whether a cluster was ever published: a stock consumer finds it by name, and not before.
    fn has_served(&self, id: &ClusterId) -> bool {
        let dns = &self.world.memory.dns;
        let leads_there = |(_, published): &(DnsName, Published)| {
            published.owner.as_ref().is_some_and(|owner| owner.target.cluster_id == *id)
        };
        dns.ever(leads_there) || !dns.ever(|_| true)
    }

    /// The one rule for a reader that wants order: segments in turn, and control read to its end between a fetch from an
    /// open segment and handing it out.
    async fn follow_chain(&mut self) {
        for ((id, place), offset) in &self.done {
            if let Some(cluster) = self.reachable(id)
                && cluster.committed(&self.group, place).is_none()
            {
                cluster.commit(&self.group, place, *offset);
            }
        }
        for place in self.world.scene.places_of(self.number) {
            self.follow(&place).await;
        }
    }

    async fn follow(&mut self, place: &TopicPartition) {
        let key = (place.clone(), None);
        if !self.at.contains_key(&key) && !self.begin(place).await {
            return;
        }
        let Some((generation, from)) = self.at.get(&key).copied() else { return };
        let Some(segment) = self.segment(place, generation) else { return };
        if let SegmentEnd::Closed { end, .. } = segment.end {
            return self.read_closed(place, &segment, from, end);
        }
        if segment.end == SegmentEnd::Unreadable {
            return self.go_on(place, generation);
        }
        let Some(cluster) = self.reachable(&segment.cluster_id) else {
            if self.world.cluster(&segment.cluster_id).is_none_or(|known| known.gone) {
                self.refresh_elsewhere(&segment.cluster_id).await;
                // The segment that was open is gone: whoever removed it has proven that it was drained.
                if self.segment(place, generation).is_none_or(|now| now.end == SegmentEnd::Open) {
                    self.go_on(place, generation);
                }
            }
            return;
        };
        let from = self.position(&cluster, place, from);
        self.at.insert(key.clone(), (generation, from));
        let fetched = cluster.log(place, from);
        let idle = self.idle.entry(place.clone()).or_default();
        *idle = if fetched.is_empty() { *idle + 1 } else { 0 };
        let (idle, polls) = (*idle, self.polls_per_look);
        if !idle.is_multiple_of(polls) {
            return; // Nothing to hand out, and control was read a moment ago.
        }
        if idle / polls % 4 == 3 {
            // A rollback without a barrier could not tell the cluster that it left.
            self.refresh_elsewhere(&segment.cluster_id).await;
        }
        tokio::time::sleep(self.world.weather.delay(4)).await;
        if !self.refresh(&cluster).await {
            return; // What was fetched is not handed out.
        }
        let end = match self.segment(place, generation).map(|segment| segment.end) {
            Some(SegmentEnd::Closed { end, .. }) => Some(end),
            Some(SegmentEnd::Open) => None,
            Some(SegmentEnd::Unreadable) | None => return,
        };
        let next = self.hand(&segment.cluster_id, place, from, end, fetched);
        self.at.insert(key, (generation, next));
        self.commit(&cluster, place, next);
    }

    fn read_closed(&mut self, place: &TopicPartition, segment: &Segment, from: Offset, end: Offset) {
        let cluster = self.reachable(&segment.cluster_id);
        if from >= end {
            // Where retention took the rest, a consumer commits where it found the log to begin.
            if let Some(cluster) = cluster {
                self.commit(&cluster, place, from);
            }
            return self.go_on(place, segment.generation);
        }
        let Some(cluster) = cluster else {
            if self.world.cluster(&segment.cluster_id).is_none_or(|known| known.gone) {
                self.go_on(place, segment.generation);
            }
            return;
        };
        let from = self.position(&cluster, place, from);
        let next = self.hand_out(&cluster, place, from, Some(end));
        self.at.insert((place.clone(), None), (segment.generation, next));
        self.commit(&cluster, place, next);
    }

    fn commit(&mut self, cluster: &MemoryCluster, place: &TopicPartition, next: Offset) {
        cluster.commit(&self.group, place, next);
        self.done.insert((cluster.cluster_id(), place.clone()), next);
    }

    fn segment(&self, place: &TopicPartition, generation: Generation) -> Option<Segment> {
        let segments = self.chain.segments(place);
        let known = segments.iter().find(|segment| segment.generation == generation).cloned();
        known.or_else(|| {
            // Before the first cutover there is no chain: the cluster that stands is the one segment.
            let first = self.world.first_cluster()?;
            (segments.is_empty() && generation == Generation(1)).then_some(Segment {
                generation,
                colour: kutover_core::words::Colour::Blue,
                cluster_id: first,
                start: Offset(0),
                end: SegmentEnd::Open,
            })
        })
    }

    /// Where a group that is new begins: with the oldest segment whose cluster stands.
    async fn begin(&mut self, place: &TopicPartition) -> bool {
        for cluster in self.world.standing() {
            if self.reachable(&cluster.cluster_id()).is_some() {
                self.refresh(&cluster).await;
            }
        }
        let standing = |id: &ClusterId| self.world.cluster(id).is_some_and(|known| !known.gone);
        let segments = self.chain.segments(place);
        let begin = match segments.iter().find(|segment| standing(&segment.cluster_id)) {
            Some(segment) => (segment.generation, segment.start),
            None if segments.is_empty() => (Generation(1), Offset(0)),
            None => return false,
        };
        self.at.insert((place.clone(), None), begin);
        true
    }

    fn go_on(&mut self, place: &TopicPartition, generation: Generation) {
        let next = self.chain.segments(place).iter().find(|segment| segment.generation > generation);
        if let Some(next) = next {
            self.at.insert((place.clone(), None), (next.generation, next.start));
        }
    }

    async fn refresh(&mut self, cluster: &MemoryCluster) -> bool {
        let who = format!("group {}", self.group);
        let read = async { cluster.link().control_now().await };
        match bounded("control", self.world.call(&who, "control", read)).await {
            Ok(view) => {
                self.learn(&view.chain);
                true
            }
            // Before kutover has made its topics there is nothing to read, and nothing to wait for.
            Err(error) => error.kind == kutover_core::error::ErrorKind::NotFound && !self.has_served_any(),
        }
    }

    fn has_served_any(&self) -> bool {
        self.world.memory.dns.ever(|_| true)
    }

    async fn refresh_elsewhere(&mut self, not: &ClusterId) {
        for cluster in self.world.standing() {
            if cluster.cluster_id() != *not
                && let Ok(view) = cluster.control().await
            {
                self.learn(&view.chain);
            }
        }
    }

    /// A chain only grows: what another cluster's topic knows less of changes nothing.
    fn learn(&mut self, chain: &Chain) {
        for (place, segments) in chain.iter() {
            let known = self.chain.segments(place);
            let closed = |segments: &[Segment]| {
                segments.iter().filter(|segment| segment.end != SegmentEnd::Open).count()
            };
            let newest = |segments: &[Segment]| segments.last().map(|segment| segment.generation);
            if (newest(segments), closed(segments)) >= (newest(known), closed(known)) {
                self.chain.replace(place.clone(), segments.to_vec());
            }
        }
    }
}
