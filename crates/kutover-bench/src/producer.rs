//! `bench producer`: records per second, pipelined, ours against the bare client.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::contender::{Bare, Contender, Offered, Ours};
use crate::world::World;

/// Records that may be under way: half of librdkafka's default queue, so that the queue itself is no contender.
const WINDOW: usize = 50_000;
/// Records sent before the clock starts: connections, producer id and the allocator are warm then.
const WARM_UP: usize = 2_000;

#[derive(Args)]
pub(crate) struct ProducerArgs {
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
    /// Runs of each contender; medians are compared
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Records of 100 bytes in one run; a fifth as many of 1 KiB
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    records: u32,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    bench: &'static str,
    rounds: u32,
    lost: u64,
    pairs: Vec<Pair>,
}

#[derive(Serialize)]
struct Pair {
    name: &'static str,
    records: usize,
    payload_bytes: usize,
    ours_per_s: u64,
    theirs_per_s: u64,
    ratio: f64,
    /// Nanoseconds of the whole process's CPU time for each record, the brokers' part included: what is left to compare
    /// where other programs keep the machine busy.
    ours_cpu_ns: u64,
    theirs_cpu_ns: u64,
}

/// What one run gave.
#[derive(Clone, Copy)]
struct Run {
    per_s: f64,
    cpu_ns: f64,
    /// Records that were acknowledged and do not stand in the log.
    lost: u64,
}

pub(crate) async fn run(args: &ProducerArgs) -> Result<()> {
    let records = args.records as usize;
    let (mut pairs, mut lost) = (Vec::new(), 0);
    for (name, records, bytes) in
        [("100 B pipelined", records, 100), ("1 KiB pipelined", (records / 5).max(1_000), 1024)]
    {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=args.rounds {
            // Who goes first changes, so that what warms up or wears out over a pair hits both.
            if round % 2 == 0 {
                ours.push(measure::<Ours>(records, bytes).await?);
                theirs.push(measure::<Bare>(records, bytes).await?);
            } else {
                theirs.push(measure::<Bare>(records, bytes).await?);
                ours.push(measure::<Ours>(records, bytes).await?);
            }
            if let (Some(ours), Some(theirs)) = (ours.last(), theirs.last()) {
                let (ours, theirs) = (ours.per_s, theirs.per_s);
                eprintln!("{name}, round {round} of {}: ours {ours:.0}/s, bare {theirs:.0}/s", args.rounds);
            }
        }
        let (ours, theirs) = (median_run(&ours), median_run(&theirs));
        lost += ours.lost + theirs.lost;
        pairs.push(Pair {
            name,
            records,
            payload_bytes: bytes,
            ours_per_s: ours.per_s.round() as u64,
            theirs_per_s: theirs.per_s.round() as u64,
            ratio: (ours.per_s / theirs.per_s * 1000.0).round() / 1000.0,
            ours_cpu_ns: ours.cpu_ns.round() as u64,
            theirs_cpu_ns: theirs.cpu_ns.round() as u64,
        });
    }
    print(
        &Report { schema: "kutover.bench/1", bench: "producer", rounds: args.rounds, lost, pairs },
        args.json,
    )?;
    ensure!(lost == 0, "{lost} acknowledged records do not stand in the log");
    Ok(())
}

fn print(report: &Report, json: bool) -> Result<()> {
    println!(
        "{:<16} {:>12} {:>12} {:>6} {:>12} {:>12}",
        "", "ours/s", "bare/s", "ratio", "ours CPU ns", "bare CPU ns"
    );
    for pair in &report.pairs {
        println!(
            "{:<16} {:>12} {:>12} {:>6.2} {:>12} {:>12}",
            pair.name, pair.ours_per_s, pair.theirs_per_s, pair.ratio, pair.ours_cpu_ns, pair.theirs_cpu_ns
        );
    }
    if json {
        println!("{}", serde_json::to_string(report)?);
    }
    Ok(())
}

/// One run on a cluster of its own, from the first offer to the last delivery.
async fn measure<C: Contender>(records: usize, payload_bytes: usize) -> Result<Run> {
    let world = World::start().await?;
    let contender = C::open(&world).await?;
    let payload = vec![b'x'; payload_bytes];
    pipeline(&contender, WARM_UP, &payload).await?;
    let (begun, cpu_begun) = (Instant::now(), cpu_time());
    pipeline(&contender, records, &payload).await?;
    let (took, cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu_begun));
    contender.close().await?;
    let (stored, acknowledged) = (world.stored(), (WARM_UP + records) as u64);
    ensure!(stored <= acknowledged, "{acknowledged} records were acknowledged and {stored} stand in the log");
    let lost = acknowledged - stored;
    let records = records as f64;
    Ok(Run { per_s: records / took.as_secs_f64(), cpu_ns: cpu.as_nanos() as f64 / records, lost })
}

/// The CPU time of this process, all threads together.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Sends records with up to [`WINDOW`] under way and waits for each one's delivery.
async fn pipeline<C: Contender>(contender: &C, records: usize, payload: &[u8]) -> Result<()> {
    let mut under_way = VecDeque::with_capacity(WINDOW);
    for _ in 0..records {
        if under_way.len() == WINDOW {
            settle_oldest::<C>(&mut under_way).await?;
        }
        loop {
            match contender.offer(payload)? {
                Offered::Taken(delivery) => {
                    under_way.push_back(delivery);
                    break;
                }
                Offered::Full => settle_oldest::<C>(&mut under_way).await?,
            }
        }
    }
    while !under_way.is_empty() {
        settle_oldest::<C>(&mut under_way).await?;
    }
    Ok(())
}

async fn settle_oldest<C: Contender>(under_way: &mut VecDeque<C::Delivery>) -> Result<()> {
    match under_way.pop_front() {
        Some(delivery) => C::settle(delivery).await,
        // Full with nothing of ours under way: another turn for whoever empties it.
        None => {
            tokio::task::yield_now().await;
            Ok(())
        }
    }
}

fn median_run(runs: &[Run]) -> Run {
    let median_of = |figure: fn(&Run) -> f64| median(&mut runs.iter().map(figure).collect::<Vec<_>>());
    Run {
        per_s: median_of(|run| run.per_s),
        cpu_ns: median_of(|run| run.cpu_ns),
        lost: runs.iter().map(|run| run.lost).sum(),
    }
}

/// The middle value; of an even number of values the mean of the middle two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(values[even / 2 - 1], values[even / 2]),
        odd => values[odd / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_counts_every_record() {
        assert!(measure::<Bare>(1_000, 100).await.unwrap().per_s > 0.0);
        assert!(measure::<Ours>(1_000, 100).await.unwrap().per_s > 0.0);
        assert_eq!(measure::<Ours>(1_000, 100).await.unwrap().lost, 0);
    }
}
