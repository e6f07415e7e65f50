//! A cluster's assignment, drawn from a seed: which broker has which replica of which partition, and who leads.

use super::Options;
use super::copy::Move;

/// A partition.
#[derive(Clone, Debug, PartialEq)]
struct Partition {
    topic: u32,
    /// In order of preference.
    replicas: Vec<u32>,
    leader: u32,
    mib: u64,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cluster {
    racks: u32,
    /// MiB on each broker.
    disks: Vec<u64>,
    partitions: Vec<Partition>,
    /// Groups per topic.
    readers: Vec<u64>,
    /// Groups by the partition whose leader coordinates them (they stand for `__consumer_offsets`, one partition in 40).
    coordinated: Vec<u64>,
    retention_s: f64,
}

/// One replica that goes from one broker to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    partition: usize,
    from: u32,
    to: u32,
}

impl Place {
    pub(super) fn reversed(&self) -> Self {
        Self { partition: self.partition, from: self.to, to: self.from }
    }
}

/// SplitMix64. The table in the documentation must not change with a library's choice of generator.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % bound
    }
}

/// Each partition's topic and size. The seed decides how sizes are spread; their mean is as it was asked for, so that a
/// cost does not hang on one topic that happened to be drawn large.
fn sizes(options: &Options, draws: &mut Draws) -> Vec<(u32, u64)> {
    let mut drawn = Vec::new();
    for topic in 0..options.topics {
        // Few topics are large: a topic's weight falls as one over its rank, as drawn, from 25 to one.
        let weight = (1000 / (1 + draws.below(1000))).clamp(1, 25);
        for _ in 0..options.partitions {
            drawn.push((topic, weight * (50 + draws.below(101))));
        }
    }
    let sum = drawn.iter().map(|(_, share)| share).sum::<u64>().max(1);
    let all = options.mean_mib * drawn.len() as u64;
    drawn.into_iter().map(|(topic, share)| (topic, (all * share / sum).max(1))).collect()
}

/// One partition in so many coordinates groups.
const COORDINATORS: usize = 40;

impl Cluster {
    /// Draws one.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub(super) fn draw(options: &Options) -> Result<Self, String> {
        let Options { brokers, racks, batch, replication, .. } = *options;
        if racks == 0 || batch == 0 || brokers % racks != 0 || (brokers / racks) % batch != 0 {
            return Err(format!("{brokers} brokers in {racks} racks cannot be cut into batches of {batch}"));
        }
        if replication == 0 || replication >= racks || options.catch_up == 0 || options.throttle_mib_s == 0 {
            return Err(
                "replication must be below the number of racks, throttle and catch-up above zero".into()
            );
        }
        let mut draws = Draws(options.seed);
        let mut cluster = Self {
            racks,
            disks: vec![0; brokers as usize],
            partitions: Vec::new(),
            readers: vec![0; options.topics as usize],
            coordinated: Vec::new(),
            retention_s: options.retention_h as f64 * 3600.0,
        };
        for (topic, mib) in sizes(options, &mut draws) {
            cluster.place(topic, mib, replication, &mut draws);
        }
        for _ in 0..options.groups {
            let topic = draws.below(u64::from(options.topics)) as usize;
            cluster.readers[topic] += 1;
        }
        cluster.coordinated = vec![0; cluster.partitions.len()];
        let coordinators = cluster.partitions.len().div_ceil(COORDINATORS) as u64;
        for _ in 0..options.groups {
            cluster.coordinated[draws.below(coordinators) as usize * COORDINATORS] += 1;
        }
        Ok(cluster)
    }

    /// Puts a partition on the emptiest brokers of consecutive racks; the first leads.
    fn place(&mut self, topic: u32, mib: u64, replication: u32, draws: &mut Draws) {
        let first = draws.below(u64::from(self.racks)) as u32;
        let mut replicas = Vec::new();
        for step in 0..replication {
            let rack = (first + step) % self.racks;
            let emptiest = (0..self.brokers() as u32)
                .filter(|broker| broker % self.racks == rack)
                .min_by_key(|broker| (self.disks[*broker as usize], *broker))
                .unwrap_or_default();
            self.disks[emptiest as usize] += mib;
            replicas.push(emptiest);
        }
        let leader = replicas[0];
        self.partitions.push(Partition { topic, replicas, leader, mib });
    }

    pub(super) fn brokers(&self) -> usize {
        self.disks.len()
    }

    pub(super) fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// All data with its replicas, in MiB.
    pub(super) fn stored_mib(&self) -> u64 {
        self.disks.iter().sum()
    }

    /// Groups that read a partition.
    pub(super) fn readers(&self, partition: usize) -> u64 {
        self.readers[self.partitions[partition].topic as usize]
    }

    /// Groups that are coordinated by the leaders of these partitions.
    pub(super) fn coordinated(&self, partitions: &[usize]) -> u64 {
        partitions.iter().map(|partition| self.coordinated[*partition]).sum()
    }

    /// The brokers in batches, each of one rack.
    pub(super) fn batches(&self, options: &Options) -> Vec<Vec<u32>> {
        let mut by_rack: Vec<u32> = (0..self.brokers() as u32).collect();
        by_rack.sort_by_key(|broker| (broker % self.racks, *broker));
        by_rack.chunks(options.batch as usize).map(<[u32]>::to_vec).collect()
    }

    /// The replicas on these brokers, as copies onto themselves.
    pub(super) fn replicas_on(&self, brokers: &[u32]) -> Vec<Place> {
        let mut places = Vec::new();
        for (partition, found) in self.partitions.iter().enumerate() {
            for broker in found.replicas.iter().filter(|broker| brokers.contains(broker)) {
                places.push(Place { partition, from: *broker, to: *broker });
            }
        }
        places
    }

    /// Where each replica of these brokers goes: the emptiest broker that is in no rack of the partition's other replicas.
    pub(super) fn plan_away(&self, leaving: &[u32]) -> Vec<Place> {
        let mut disks = self.disks.clone();
        let mut places = self.replicas_on(leaving);
        for place in &mut places {
            let partition = &self.partitions[place.partition];
            let others = partition.replicas.iter().filter(|broker| **broker != place.from);
            let taken: Vec<u32> = others.map(|broker| broker % self.racks).collect();
            let emptiest = (0..self.brokers() as u32)
                .filter(|broker| !leaving.contains(broker) && !taken.contains(&(broker % self.racks)))
                .min_by_key(|broker| (disks[*broker as usize], *broker));
            if let Some(to) = emptiest {
                disks[to as usize] += partition.mib;
                place.to = to;
            }
        }
        places
    }

    /// The copy that such a place takes: from the partition's leader, with what is written meanwhile.
    pub(super) fn copy_of(&self, place: &Place) -> Move {
        let partition = &self.partitions[place.partition];
        let mib = partition.mib as f64;
        Move {
            from: partition.leader as usize,
            to: place.to as usize,
            mib,
            written_per_s: mib / self.retention_s,
        }
    }

    /// Completes a reassignment. The old replica goes, and where it led, the one in its place leads: the target list's first
    /// replica in sync. Gives the partitions that got another leader.
    pub(super) fn reassign(&mut self, places: &[Place]) -> Vec<usize> {
        let mut led = Vec::new();
        for place in places {
            let partition = &mut self.partitions[place.partition];
            for replica in partition.replicas.iter_mut().filter(|replica| **replica == place.from) {
                *replica = place.to;
            }
            self.disks[place.from as usize] -= partition.mib;
            self.disks[place.to as usize] += partition.mib;
            if partition.leader == place.from {
                partition.leader = partition.replicas[0];
                led.push(place.partition);
            }
        }
        led
    }

    /// Stops brokers cleanly: what they led is led by the next replica.
    pub(super) fn stop(&mut self, brokers: &[u32]) -> Vec<usize> {
        let mut led = Vec::new();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            let next = partition.replicas.iter().find(|broker| !brokers.contains(broker));
            if brokers.contains(&partition.leader)
                && let Some(next) = next
            {
                partition.leader = *next;
                led.push(index);
            }
        }
        led
    }

    /// Preferred leader election: each partition is led by its first replica again.
    pub(super) fn elect_preferred(&mut self) -> Vec<usize> {
        let mut led = Vec::new();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            if partition.leader != partition.replicas[0] {
                partition.leader = partition.replicas[0];
                led.push(index);
            }
        }
        led
    }

    /// How full the fullest broker is, against the fullest before.
    pub(super) fn fullest_against(&self, before: &Cluster) -> f64 {
        let fullest = |cluster: &Cluster| cluster.disks.iter().max().copied().unwrap_or(1).max(1) as f64;
        fullest(self) / fullest(before)
    }
}
