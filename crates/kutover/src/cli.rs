//! The command line: what can be asked for, and what is wrong with what was asked for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kutover_core::words::Colour;

/// Blue/green deployment of Kafka clusters with no message lost.
#[derive(Debug, Parser)]
#[command(
    name = "kutover",
    version,
    about,
    propagate_version = true,
    after_help = "KUTOVER_LOG=debug shows what happens inside (a filter, as in KUTOVER_LOG=kutover_controller=debug)."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cutover in a world of its own on this machine, under live traffic, and count what was lost.
    #[command(allow_negative_numbers = true)]
    Demo(DemoOptions),
    /// Say what is wrong with a configuration file, and with --online whether all that it names can be reached. Changes
    /// nothing.
    Check(CheckOptions),
    /// Say what the cutover that a configuration file describes would do, and what it is refused over. Changes nothing.
    #[command(allow_negative_numbers = true)]
    Plan(PlanOptions),
    /// Make the cluster that a deployment begins with, as the configuration has it for the active colour. All later ones are
    /// made by `up`.
    Provision(ProvisionOptions),
    /// Print the CloudFormation template that clusters are made of on AWS, and nothing else (needs the feature `aws`).
    Template,
    /// Run the cutover that a configuration file describes.
    Up(UpOptions),
    /// Show how far groups have read the cluster that is left, why that is not enough, and when it will be.
    #[command(allow_negative_numbers = true)]
    Drain(DrainOptions),
    /// Wait until a group has read the cluster that is left to its end, and may go on to the new one.
    #[command(allow_negative_numbers = true)]
    WaitGroup(WaitGroupOptions),
}

impl Command {
    /// What becomes of what was done when somebody ends it half way.
    pub(crate) fn when_interrupted(&self) -> String {
        match self {
            Command::Demo(_) => "everything that was started has been ended".to_owned(),
            Command::Up(options) => format!(
                "nothing was undone, and what was done stands in the journal: run `kutover up {}` again, and it goes on \
                 from there",
                options.file.display()
            ),
            Command::Provision(options) => format!(
                "what a provider was asked for goes on by itself, and a command that was running was killed: run `kutover \
                 provision {}` again to see how far it is",
                options.file.display()
            ),
            Command::WaitGroup(options) if !options.then.is_empty() => {
                format!("kutover changed nothing; if {} was running already, it was killed", options.then[0])
            }
            Command::Check(_)
            | Command::Plan(_)
            | Command::Template
            | Command::Drain(_)
            | Command::WaitGroup(_) => "nothing was changed".to_owned(),
        }
    }
}

/// Options of `kutover check`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckOptions {
    /// The configuration, as TOML.
    #[arg(required_unless_present = "schema")]
    pub file: Option<PathBuf>,
    /// Reach each part: the journal's file, the DNS server and its leave to update, both colours' provisioners, clusters (as the
    /// controller, and as the client that proves fences) and Connect workers.
    #[arg(long)]
    pub online: bool,
    /// Print what was found as one JSON object, as the last line on stdout.
    #[arg(long)]
    pub json: bool,
    /// Print the JSON schema of configurations, and nothing else.
    #[arg(long, exclusive = true)]
    pub schema: bool,
}

/// Options of `kutover drain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DrainOptions {
    /// The configuration, as TOML. Nothing is changed, and a controller may be running on it.
    pub file: PathBuf,
    /// The colour to look at. Default: the one that the cutover leaves.
    #[arg(long, value_name = "COLOUR", value_parser = colour)]
    pub colour: Option<Colour>,
    /// Seconds between the two looks that tell how fast groups read.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = whole::<u32, 1, 3600>)]
    pub every: u32,
    /// Print the table as one JSON object, as the last line on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kutover wait-group`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitGroupOptions {
    /// The configuration, as TOML. Nothing is changed; a controller is to run on it, now or later.
    pub file: PathBuf,
    /// The consumer group.
    pub group: String,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = whole::<u32, 1, 3600>)]
    pub every: u32,
    /// Seconds after which it gives up, with status 1. Default: never.
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32, 1, 31_536_000>)]
    pub limit: Option<u32>,
    /// Print the outcome as one JSON object, as the last line on stdout.
    #[arg(long)]
    pub json: bool,
    /// A command to run then, after `--`. It is told KUTOVER_GROUP and KUTOVER_COLOUR (where the group belongs now), and its
    /// status becomes this one's.
    #[arg(last = true, value_name = "COMMAND")]
    pub then: Vec<String>,
}

fn colour(text: &str) -> Result<Colour, String> {
    match text {
        "blue" => Ok(Colour::Blue),
        "green" => Ok(Colour::Green),
        _ => Err("write `blue` or `green`".to_owned()),
    }
}

/// Options of `kutover plan`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanOptions {
    /// The configuration, as TOML.
    pub file: PathBuf,
    /// For how long groups and producers are watched, to tell their pace, if not for `plan.watch`. Longer than groups take
    /// between two commits.
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u32, 1, 3600>)]
    pub watch: Option<u32>,
    /// Print the plan as one JSON object, as the last line on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kutover provision`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProvisionOptions {
    /// The configuration, as TOML.
    pub file: PathBuf,
    /// Print what was made as one JSON object, as the last line on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kutover up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpOptions {
    /// The configuration, as TOML.
    pub file: PathBuf,
    /// Cut over anew although the last cutover was rolled back.
    #[arg(long)]
    pub again: bool,
    /// Print the run's timeline as one JSON object, as the last line on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kutover demo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoOptions {
    /// The clusters: `embedded`, `apache` (3.9.2 under /KafkaA to 4.3.1 KRaft), or `apache:BLUE,GREEN` with two versions.
    #[arg(long, default_value = "embedded", value_name = "KIND")]
    pub kafka: KafkaChoice,
    /// A directory of Apache Kafka on this machine to run that version from (its `libs/*.jar`), instead of fetching it by
    /// Maven; once for each version.
    #[arg(long, value_name = "VERSION=DIRECTORY", value_parser = kafka_dir)]
    pub kafka_dir: Vec<(String, PathBuf)>,
    /// How the producers are moved.
    #[arg(long, value_enum, default_value_t = Strategy::Kutover)]
    pub strategy: Strategy,
    /// How a producer treats records that are sent while it moves.
    #[arg(long, value_enum, default_value_t = HandOverChoice::Ordered)]
    pub hand_over: HandOverChoice,
    /// Producers, each a client of its own.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = whole::<u16, 1, 200>)]
    pub producers: u16,
    /// Records per second, of all producers together.
    #[arg(long, default_value_t = 6_000, value_name = "RECORDS", value_parser = whole::<u32, 1, 1_000_000>)]
    pub rate: u32,
    /// Consumer groups that read everything.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = whole::<u16, 1, 100>)]
    pub groups: u16,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = whole::<u16, 1, 1000>)]
    pub partitions: u16,
    /// Time to live of the endpoint's DNS record, in seconds.
    #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = whole::<u32, 1, 60>)]
    pub ttl: u32,
    /// Seconds of traffic before the cutover begins, and again after it has ended.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = whole::<u32, 1, 600>)]
    pub warm_up: u32,
    /// Seconds after which a run that has not ended is given up.
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = whole::<u32, 10, 86_400>)]
    pub limit: u32,
    /// Make something go wrong on purpose, and see what becomes of it (strategy `kutover`).
    #[arg(long, value_enum, value_name = "TROUBLE")]
    pub trouble: Option<TroubleKind>,
    /// Go back to blue once green has taken traffic: the cutover ends "rolled-back" (strategy `kutover`).
    #[arg(long, conflicts_with = "trouble")]
    pub rollback: bool,
    /// Seed of the traffic's random choices; drawn and reported when not given.
    #[arg(long, value_parser = whole::<u64, 0, { u64::MAX }>)]
    pub seed: Option<u64>,
    /// Print the report as one JSON object, as the last line on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Reads a whole number between bounds; the error names them.
fn whole<T: TryFrom<u64>, const LOW: u64, const HIGH: u64>(text: &str) -> Result<T, String> {
    let number = text.parse::<u64>().ok().filter(|number| (LOW..=HIGH).contains(number));
    let wrong = || format!("write a whole number from {LOW} to {HIGH}");
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(wrong)
}

fn kafka_dir(text: &str) -> Result<(String, PathBuf), String> {
    let (version, directory) = text
        .split_once('=')
        .filter(|(_, directory)| !directory.is_empty())
        .ok_or("write a version and its directory, as in `4.3.1=/opt/kafka`")?;
    Ok((supported(version)?.to_owned(), directory.into()))
}

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TroubleKind {
    /// A broker of blue dies while a producer is sealed (embedded clusters).
    BrokerDies,
    /// From the publication until the drain every DNS answer is SERVFAIL.
    DnsFails,
    /// From the publication until the drain every DNS answer is empty.
    DnsEmpty,
    /// From the publication until the drain DNS answers with the older generation.
    DnsStale,
    /// Green has blue's cluster id (embedded clusters).
    SameCluster,
    /// One more producer starts in the middle of it all, behind DNS that still answers with the older generation.
    LateProducer,
    /// The operator aborts while the new cluster is being prepared.
    Abort,
}

impl TroubleKind {
    /// Whether it can be made on embedded clusters only.
    fn needs_embedded(self) -> bool {
        matches!(self, TroubleKind::BrokerDies | TroubleKind::SameCluster)
    }
}

impl DemoOptions {
    /// What does not go together, and what to change.
    pub(crate) fn contradiction(&self) -> Option<String> {
        if self.rollback && self.strategy != Strategy::Kutover {
            return Some(format!("--rollback goes with --strategy kutover, not {}", self.strategy));
        }
        if self.hand_over != HandOverChoice::Ordered && self.strategy != Strategy::Kutover {
            return Some(format!("--hand-over goes with --strategy kutover, not {}", self.strategy));
        }
        if self.warm_up.saturating_mul(2) >= self.limit {
            return Some(format!(
                "--warm-up {} comes twice, before the cutover and after it, and --limit is {}: raise that one",
                self.warm_up, self.limit
            ));
        }
        if let Some((version, _)) = self.kafka_dir.iter().find(|(version, _)| !self.kafka.runs(version)) {
            return Some(format!("--kafka-dir names {version}, and --kafka {} does not run it", self.kafka));
        }
        let versions = || self.kafka_dir.iter().map(|(version, _)| version);
        if let Some(twice) =
            versions().find(|version| versions().filter(|other| other == version).count() > 1)
        {
            return Some(format!("--kafka-dir names {twice} twice: give one directory for each version"));
        }
        let trouble = self.trouble?;
        if self.strategy != Strategy::Kutover {
            return Some(format!("--trouble goes with --strategy kutover, not {}", self.strategy));
        }
        (trouble.needs_embedded() && self.kafka != KafkaChoice::Embedded)
            .then(|| "this --trouble can be made on embedded clusters only: leave --kafka out".to_owned())
    }
}

/// How the producers are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// kutover's own producer and controller.
    Kutover,
    /// The published recipe: producers re-create their client on a timer and drop the old one.
    Recipe,
    /// Stock producers, and nothing but a changed DNS record.
    DnsOnly,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strategy::Kutover => "kutover",
            Strategy::Recipe => "recipe",
            Strategy::DnsOnly => "dns-only",
        })
    }
}

/// How a producer treats records that are sent while it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HandOverChoice {
    /// Every record offered to the old cluster is settled before the first is offered to the new one.
    Ordered,
    /// The new cluster takes records while the old one still settles its own.
    Overlap,
}

impl HandOverChoice {
    /// The word that is used in configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            HandOverChoice::Ordered => "ordered",
            HandOverChoice::Overlap => "overlap",
        }
    }
}

/// Versions of Apache Kafka that the lab can run.
pub(crate) const APACHE_VERSIONS: [&str; 4] = ["2.8.2", "3.3.2", "3.9.2", "4.3.1"];

fn known_versions() -> String {
    format!("supported versions: {}", APACHE_VERSIONS.join(", "))
}

/// A version that the lab can run; the error names them all.
fn supported(version: &str) -> Result<&str, String> {
    let wrong = || format!("Apache Kafka `{version}` is not supported; {}", known_versions());
    APACHE_VERSIONS.contains(&version).then_some(version).ok_or_else(wrong)
}

/// Which clusters the demo runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KafkaChoice {
    /// In-process clusters.
    Embedded,
    /// Apache Kafka on this machine.
    Apache {
        /// Version of the cluster that is replaced.
        blue: String,
        /// Version of the cluster that replaces it.
        green: String,
    },
}

impl KafkaChoice {
    /// Whether one of the clusters is Apache Kafka of this version.
    fn runs(&self, version: &str) -> bool {
        matches!(self, KafkaChoice::Apache { blue, green } if version == blue || version == green)
    }

    /// The version of a colour's cluster, for the report.
    pub(crate) fn version(&self, colour: kutover_core::words::Colour) -> &str {
        match (self, colour) {
            (KafkaChoice::Embedded, _) => "embedded",
            (KafkaChoice::Apache { blue, .. }, kutover_core::words::Colour::Blue) => blue,
            (KafkaChoice::Apache { green, .. }, kutover_core::words::Colour::Green) => green,
        }
    }
}

impl fmt::Display for KafkaChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KafkaChoice::Embedded => f.write_str("embedded"),
            KafkaChoice::Apache { blue, green } => write!(f, "apache:{blue},{green}"),
        }
    }
}

impl FromStr for KafkaChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(versions) = text.strip_prefix("apache:") else {
            return match text {
                "embedded" => Ok(KafkaChoice::Embedded),
                "apache" => Ok(KafkaChoice::Apache { blue: "3.9.2".into(), green: "4.3.1".into() }),
                _ => Err(format!(
                    "`{text}` is no kind of cluster: write `embedded`, `apache` or `apache:BLUE,GREEN` ({})",
                    known_versions()
                )),
            };
        };
        let Some((blue, green)) = versions.split_once(',') else {
            return Err(format!("`{versions}` names one version: write two, as in `apache:3.9.2,4.3.1`"));
        };
        for version in [blue, green] {
            supported(version)?;
        }
        Ok(KafkaChoice::Apache { blue: blue.into(), green: green.into() })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn kinds_of_cluster() {
        assert_eq!("embedded".parse(), Ok(KafkaChoice::Embedded));
        let apache = |blue: &str, green: &str| KafkaChoice::Apache { blue: blue.into(), green: green.into() };
        assert_eq!("apache".parse(), Ok(apache("3.9.2", "4.3.1")));
        assert_eq!("apache:3.9.2,3.9.2".parse(), Ok(apache("3.9.2", "3.9.2")));
        assert_eq!(apache("2.8.2", "4.3.1").to_string(), "apache:2.8.2,4.3.1");
    }

    #[test]
    fn an_unknown_version_lists_the_known_ones() {
        let error = "apache:3.9.2,9.9.9".parse::<KafkaChoice>().unwrap_err();
        assert_eq!(
            error,
            "Apache Kafka `9.9.9` is not supported; supported versions: 2.8.2, 3.3.2, 3.9.2, 4.3.1"
        );
        let error = "redpanda".parse::<KafkaChoice>().unwrap_err();
        assert!(
            error.contains("`redpanda`") && error.contains("embedded") && error.contains("3.9.2"),
            "{error}"
        );
        assert!("apache:3.9.2".parse::<KafkaChoice>().unwrap_err().contains("write two"));
    }

    #[test]
    fn defaults_are_those_that_the_readme_promises() {
        let Command::Demo(options) = Cli::try_parse_from(["kutover", "demo"]).unwrap().command else {
            panic!("not the demo");
        };
        assert_eq!((options.producers, options.rate, options.groups, options.partitions), (8, 6_000, 3, 12));
        assert_eq!((options.ttl, options.strategy), (1, Strategy::Kutover));
        assert_eq!((options.hand_over, options.json), (HandOverChoice::Ordered, false));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let contradiction = |arguments: &[&str]| {
            let arguments = ["kutover", "demo"].iter().chain(arguments);
            match Cli::try_parse_from(arguments).unwrap().command {
                Command::Demo(options) => options.contradiction().unwrap_or_default(),
                other => panic!("not the demo: {other:?}"),
            }
        };
        let twice = ["--kafka", "apache", "--kafka-dir", "3.9.2=/a", "--kafka-dir", "3.9.2=/b"];
        assert!(contradiction(&twice).contains("names 3.9.2 twice"));
        assert!(contradiction(&["--kafka-dir", "3.9.2=/a"]).contains("embedded does not run it"));
        assert_eq!(contradiction(&["--kafka", "apache", "--kafka-dir", "3.9.2=/a"]), "");
    }

    #[test]
    fn wrong_values_name_the_option() {
        for (arguments, words) in [
            (&["kutover", "demo", "--producers", "0"][..], &["--producers", "from 1 to 200"][..]),
            (&["kutover", "demo", "--producers", "-1"], &["--producers", "from 1 to 200"]),
            (&["kutover", "demo", "--seed", "x"], &["--seed", "a whole number from 0"]),
            (&["kutover", "demo", "--rate", "fast"], &["--rate", "fast", "from 1 to 1000000"]),
            (&["kutover", "demo", "--strategy", "hope"], &["--strategy", "kutover", "recipe", "dns-only"]),
            (&["kutover", "demo", "--colour", "red"], &["--colour"]),
            (&["kutover", "up"], &["FILE"]),
            (&["kutover", "plan"], &["FILE"]),
            (&["kutover", "provision"], &["FILE"]),
            (&["kutover", "plan", "a.toml", "--watch", "0"], &["--watch", "from 1 to 3600"]),
        ] {
            let error = Cli::try_parse_from(arguments).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{arguments:?}: {error}");
        }
    }
}
