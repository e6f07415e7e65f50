//! `bench drain`: the drain proof of many groups against Kafka's own `kafka-consumer-groups --describe --all-groups`, on one
//! cluster, each as a program of its own from start to end.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream;
use krafka::{Kafka, Record};
use kutover_admin::{AdminConfig, KafkaAdmin, Timeouts};
use kutover_controller::driver::observe;
use kutover_core::drain::{Required, prove};
use kutover_core::ports::{ClusterAdmin as _, ClusterProvisioner as _, GroupListing, LagQuery, NewTopic};
use kutover_core::words::{Colour, Offset, TopicName, TopicPartition};
use kutover_lab::{ClusterSpec, KafkaVersion, LabOptions, LabProvisioner, Tools};
use serde::{Deserialize, Serialize};

const VERSION: KafkaVersion = KafkaVersion::new(4, 3, 1);
/// Topics made, groups committed and records sent at once while the world is made.
const AT_ONCE: usize = 16;
/// One group in so many stands one record short of the end: its tails have to be read.
const BEHIND: usize = 100;

#[derive(Args)]
pub(crate) struct DrainArgs {
    /// Prints one JSON object as the last line on stdout
    #[arg(long)]
    json: bool,
    /// Runs of each contender; medians are compared
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Groups; each reads the partitions of one topic
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// Topics
    #[arg(long, default_value_t = 100)]
    topics: usize,
    /// Partitions of each topic
    #[arg(long, default_value_t = 100)]
    partitions: i32,
    /// Takes one proof on a cluster that is there, and says what it took
    #[arg(long, hide = true)]
    prove: Option<String>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    bench: &'static str,
    rounds: u32,
    groups: usize,
    partitions: usize,
    pairs: usize,
    ours_ms: u64,
    theirs_ms: u64,
    ratio: f64,
    peak_memory_kib: u64,
}

/// What one proof says of itself.
#[derive(Serialize, Deserialize)]
struct Proof {
    pairs: usize,
    remaining: usize,
    peak_memory_kib: u64,
}

pub(crate) async fn run(args: &DrainArgs) -> Result<()> {
    if let Some(bootstrap) = &args.prove {
        println!("{}", serde_json::to_string(&take_proof(bootstrap).await?)?);
        return Ok(());
    }
    let tools = Tools::from_env();
    let class_path = tools.class_path(VERSION).await?;
    let _turn = tools.whole_machine().await?;
    let directory = tempfile::tempdir()?;
    let mut options =
        LabOptions::new(directory.path(), ClusterSpec::apache(VERSION), ClusterSpec::embedded());
    options.tools = tools.clone();
    options.is_disposable = true;
    let lab = LabProvisioner::new(options).await?;
    let cluster = lab.provision(Colour::Blue, &"bench".into()).await?;
    let bootstrap = cluster.bootstrap.join(",");
    eprintln!("making {} topics and {} groups", args.topics, args.groups);
    make_world(args, &bootstrap).await?;

    let (mut ours, mut theirs, mut peak) = (Vec::new(), Vec::new(), 0);
    let pairs = args.groups * usize::try_from(args.partitions)?;
    for round in 1..=args.rounds {
        let (took, proof) = ours_once(&bootstrap)?;
        ensure!(proof.pairs == pairs, "{} pairs were looked at, not {pairs}", proof.pairs);
        let behind = args.groups.div_ceil(BEHIND) * usize::try_from(args.partitions)?;
        ensure!(proof.remaining == behind, "{} pairs are not drained, not {behind}", proof.remaining);
        peak = peak.max(proof.peak_memory_kib);
        ours.push(took);
        let (took, lines) = theirs_once(&tools, &class_path, &bootstrap)?;
        ensure!(lines >= pairs, "the stock tool described {lines} lines, not {pairs}");
        theirs.push(took);
        eprintln!("round {round}: ours {:?}, stock {:?}", ours.last(), theirs.last());
    }
    let (ours_ms, theirs_ms) = (median(&mut ours), median(&mut theirs));
    let report = Report {
        schema: "kutover.bench/1",
        bench: "drain",
        rounds: args.rounds,
        groups: args.groups,
        partitions: args.topics * usize::try_from(args.partitions)?,
        pairs,
        ours_ms,
        theirs_ms,
        ratio: theirs_ms as f64 / ours_ms.max(1) as f64,
        peak_memory_kib: peak,
    };
    eprintln!(
        "{} pairs: {ours_ms} ms against {theirs_ms} ms, {:.1} times as fast, {} MiB at the most",
        report.pairs,
        report.ratio,
        peak / 1024
    );
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> u64 {
    times.sort_unstable();
    u64::try_from(times[times.len() / 2].as_millis()).unwrap_or(u64::MAX)
}

fn admin_config(bootstrap: &str) -> AdminConfig {
    let call = Duration::from_secs(120);
    let timeouts = Timeouts { request: Duration::from_secs(60), call, ..Timeouts::default() };
    AdminConfig { bootstrap: vec![bootstrap.to_owned()], timeouts, ..AdminConfig::default() }
}

fn topic_name(at: usize) -> TopicName {
    TopicName::new(format!("bench-{at:04}"))
}

/// Topics with one record in every partition, and groups that have read them but for every hundredth.
async fn make_world(args: &DrainArgs, bootstrap: &str) -> Result<()> {
    let admin = Arc::new(KafkaAdmin::connect(admin_config(bootstrap)).await?);
    let topics: Vec<TopicName> = (0..args.topics).map(topic_name).collect();
    let partitions = args.partitions;
    let mut made = stream::iter(topics.clone())
        .map(|name| {
            let admin = Arc::clone(&admin);
            async move {
                let topic = NewTopic { name, partitions, replication: 1, configs: BTreeMap::new() };
                admin.create_topic(&topic).await
            }
        })
        .buffer_unordered(4);
    while let Some(made) = made.next().await {
        made?;
    }
    let kafka = Kafka::builder(bootstrap).connect().await?;
    let producer = kafka.producer().metrics_push(false).build().await?;
    let producer = &producer;
    let records = topics.iter().flat_map(|topic| (0..partitions).map(move |partition| (topic, partition)));
    let mut sent = stream::iter(records)
        .map(|(topic, partition)| async move {
            producer.send(Record::new(topic.as_str(), "x").partition(partition)).await.map(|_| ())
        })
        .buffer_unordered(AT_ONCE * 8);
    while let Some(sent) = sent.next().await {
        sent?;
    }
    let mut committed = stream::iter(0..args.groups)
        .map(|at| {
            let (admin, topic) = (Arc::clone(&admin), topic_name(at % args.topics));
            let offset = Offset(i64::from(at % BEHIND != 0));
            async move {
                let places = (0..partitions).map(|partition| TopicPartition::new(topic.clone(), partition));
                let offsets = places.map(|place| (place, offset)).collect();
                admin.set_start_offsets(&format!("group-{at:05}").as_str().into(), &offsets).await
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(kept) = committed.next().await {
        kept?;
    }
    Ok(())
}

/// One proof as the controller takes it: groups listed, ends fresh, tails read.
async fn take_proof(bootstrap: &str) -> Result<Proof> {
    let admin = KafkaAdmin::connect(admin_config(bootstrap)).await?;
    let (topics, listing) = tokio::try_join!(admin.topics(), admin.groups())?;
    let GroupListing::Listed(groups) = listing else { anyhow::bail!("the cluster lists no groups") };
    let places = topics.iter().flat_map(|topic| {
        (0..topic.partitions).map(|partition| TopicPartition::new(topic.name.clone(), partition))
    });
    let partitions: Vec<TopicPartition> = places.collect();
    let query = LagQuery {
        groups: groups.clone(),
        partitions: partitions.clone(),
        read_tails: true,
        ..LagQuery::default()
    };
    let seen = observe(&admin, &admin, query).await?;
    let required = Required {
        groups,
        partitions: partitions.into_iter().map(|place| (place, None)).collect(),
        ..Required::default()
    };
    let verdict = prove(&required, &seen);
    Ok(Proof {
        pairs: verdict.pairs,
        remaining: verdict.remaining.len(),
        peak_memory_kib: peak_memory_kib()?,
    })
}

/// The most memory that this process ever held, as Linux counts it.
fn peak_memory_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("only Linux tells its peak memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(number.parse()?)
}

fn ours_once(bootstrap: &str) -> Result<(Duration, Proof)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["drain", "--prove", bootstrap]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let begun = Instant::now();
    let output = command.output()?;
    let took = begun.elapsed();
    ensure!(output.status.success(), "the proof failed");
    Ok((took, serde_json::from_slice(&output.stdout)?))
}

fn theirs_once(tools: &Tools, class_path: &str, bootstrap: &str) -> Result<(Duration, usize)> {
    let mut command = Command::new(&tools.java);
    // The heap that kafka-run-class.sh gives its tools.
    command.args(["-Xmx256m", "-cp", class_path]);
    command.arg("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
    command.args(["--bootstrap-server", bootstrap, "--describe", "--all-groups", "--timeout", "120000"]);
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let took = begun.elapsed();
    ensure!(output.status.success(), "the stock tool failed: {}", String::from_utf8_lossy(&output.stdout));
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"group-"));
    Ok((took, lines.count()))
}
