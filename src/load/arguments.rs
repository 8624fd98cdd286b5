//! The command line of `gannet load`: options in groups, each with its unit and default. A workload file holds the same
//! options under the same names.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::compare::FILES_MAX;
use super::groups::GroupsArguments;
use super::plan::Partitioning;
use super::schedule::{Arrivals, Rate};
use super::settings::Profile;
use super::units;
use super::workload::{Keys, Payload, Sizes};

const EXAMPLES: &str = "\
Latency counts from the moment a record was due (open loop), beside the latency from when it was really sent: a broker that
stalls cannot hide it by being asked less. A run that misses its rate by more than 1 % says that it is invalid.

Examples:
  gannet load --topic bench --create --partitions 16 --rate 50k --record-size 1k --duration 60s --html report.html
  gannet load --topic bench --rate max --producer-prop linger.ms=10 --producer-prop batch.size=256k
  gannet load --topic bench --ramp 10k:200k:10k --step-duration 10s --consumers 4
  gannet load --topic bench --rate 20k --sweep linger.ms=0,1,5,20 batch.size=16k,64k --html sweep.html
  gannet load --topic bench --rate 5k --verify
  gannet load compare before.json after.json
  gannet load groups --create --groups 1000 --members 10

Exit codes: 0 done, 1 failed or cut short, 2 wrong usage, 3 records were lost, duplicated, reordered or corrupt, 4 the rate was
missed.";

/// Put load on any Kafka-compatible cluster and measure it: open loop, from intended send times.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LoadArguments {
    #[command(subcommand)]
    pub command: Option<LoadCommand>,
    #[command(flatten)]
    pub load: LoadOptions,
}

#[derive(Subcommand, Debug)]
pub enum LoadCommand {
    /// Put the figures of JSON files side by side
    Compare {
        /// What `--json` wrote at different times, or against different clusters; ratios are to the first
        #[arg(required = true, num_args = 2..=FILES_MAX)]
        files: Vec<PathBuf>,
        /// What the files are called; A, B and so on if not given
        #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
        names: Vec<String>,
        /// Write the latency curves and the figures as one page too
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Write the end to end curves as a plot too
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    Groups(GroupsArguments),
}

#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// Brokers to ask first, HOST:PORT[,HOST:PORT…]
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092",
        help_heading = "Cluster"
    )]
    pub bootstrap_server: Vec<String>,
    /// The topic, or with --topics the beginning of the topics' names
    #[arg(long, default_value = "gannet-load", help_heading = "Cluster")]
    pub topic: String,
    /// How many topics: TOPIC-0, TOPIC-1 and so on; 1 uses TOPIC itself
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Cluster")]
    pub topics: u32,
    /// Create topics that are missing
    #[arg(long, help_heading = "Cluster")]
    pub create: bool,
    /// Partitions of each topic that is created; the broker's default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000), help_heading = "Cluster")]
    pub partitions: Option<i32>,
    /// Replicas of each topic that is created; the broker's default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..), help_heading = "Cluster")]
    pub replication_factor: Option<i16>,
    /// A setting of each topic that is created, such as flush.messages=1; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = "Cluster")]
    pub topic_config: Vec<(String, String)>,

    /// Records per second of all producers together, such as 500 or 50k; or max, as fast as the producers' settings allow
    #[arg(long, value_name = "N|max", default_value = "1000", conflicts_with = "ramp", help_heading = "Load")]
    pub rate: Rate,
    /// A rate that climbs: FROM:TO:STEP in records per second, such as 10k:100k:10k
    #[arg(long, value_name = "FROM:TO:STEP", value_parser = Rate::ramp, help_heading = "Load")]
    pub ramp: Option<Rate>,
    /// How long each step of --ramp lasts; then --duration is not used
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration, help_heading = "Load")]
    pub step_duration: Duration,
    /// How records are spread over time
    #[arg(long, value_name = "KIND", default_value = "fixed", help_heading = "Load")]
    pub arrivals: Arrivals,
    /// How long to measure, such as 10s or 5m, after the warm-up
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration, help_heading = "Load")]
    pub duration: Duration,
    /// How long to run before measuring: a time, or auto, until three intervals agree (rate within 5 %, p50 within 10 %)
    #[arg(long, value_name = "TIME|auto", default_value = "auto", value_parser = warm_up, help_heading = "Load")]
    pub warm_up: WarmUp,
    /// Makes keys, sizes, payload and Poisson arrivals the same again
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub seed: u64,

    /// Size of values: 1k, uniform:100:2k, normal:MEAN:DEVIATION or mix:100=90,10k=10 (sizes with weights). The first 32
    /// bytes are the generator's own
    #[arg(long, value_name = "SIZE", default_value = "1k", help_heading = "Records")]
    pub record_size: Sizes,
    /// What values hold: random, compressible:RATIO or file:PATH
    #[arg(long, value_name = "KIND", default_value = "random", help_heading = "Records")]
    pub payload: Payload,
    /// Keys: none, uniform:N, zipf:N:EXPONENT, or hot:P, where part P of the records share one key
    #[arg(long, value_name = "KIND", default_value = "none", help_heading = "Records")]
    pub keys: Keys,
    /// How records find their partition
    #[arg(long, value_name = "KIND", default_value = "murmur2", help_heading = "Records")]
    pub partitioner: Partitioning,

    /// How many producers, each with connections of its own; 0 only consumes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100_000), help_heading = "Clients")]
    pub producers: u32,
    /// How many consumers share the partitions, as a group would; 0 only produces
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100_000), help_heading = "Clients")]
    pub consumers: u32,
    /// Records per second that each consumer takes at most; the lag is shown
    #[arg(long, value_name = "N", value_parser = consumer_rate, help_heading = "Clients")]
    pub consumer_rate: Option<f64>,
    /// Consume from the beginning of the partitions; with --producers 0 until their end
    #[arg(long, help_heading = "Clients")]
    pub from_beginning: bool,
    /// Whose defaults hold for what is not set below
    #[arg(long, value_name = "CLIENT", default_value = "java", help_heading = "Clients")]
    pub profile: Profile,
    /// A setting of the producers under Kafka's name, such as linger.ms=5, batch.size=64k, acks=1, compression.type=lz4,
    /// buffer.memory=64m, max.in.flight.requests.per.connection=1, enable.idempotence=false; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = "Clients")]
    pub producer_prop: Vec<(String, String)>,
    /// A setting of the consumers under Kafka's name, such as fetch.min.bytes=64k, fetch.max.wait.ms=100,
    /// max.partition.fetch.bytes=2m, max.poll.records=1000; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = "Clients")]
    pub consumer_prop: Vec<(String, String)>,
    /// Threads of the generator; the producers and consumers are shared out among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Clients")]
    pub threads: Option<u32>,
    /// Never sleep: each thread takes a whole core, and wakes up without delay
    #[arg(long, help_heading = "Clients")]
    pub spin: bool,

    /// Try every combination of these, one run each. KEY is a setting of the producers or consumers under Kafka's name, or
    /// rate, record-size, keys, producers, consumers, consumer-rate or profile
    #[arg(long, value_name = "KEY=V1,V2,…", num_args = 1.., value_parser = sweep, help_heading = "What is asked")]
    pub sweep: Vec<(String, Vec<String>)>,
    /// Give every record a sequence number and a checksum, and name what was lost, duplicated, reordered or corrupt
    #[arg(long, help_heading = "What is asked")]
    pub verify: bool,
    /// A workload in YAML: these options by their names, or OpenMessaging's; options given here come first
    #[arg(long, value_name = "FILE", help_heading = "What is asked")]
    pub workload: Option<PathBuf>,

    /// How often figures are taken and shown
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration, help_heading = "Output")]
    pub interval: Duration,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write one page with plots, complete in itself
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Write each plot as an SVG file into this directory
    #[arg(long, value_name = "DIRECTORY", help_heading = "Output")]
    pub svg: Option<PathBuf>,
    /// Write each plot as a PNG file into this directory
    #[arg(long, value_name = "DIRECTORY", help_heading = "Output")]
    pub png: Option<PathBuf>,
    /// Also measure a durable 4 KiB write in this directory as a floor: name the broker's device where it is on this machine
    #[arg(long, value_name = "DIRECTORY", help_heading = "Output")]
    pub floor: Option<PathBuf>,
    /// Nothing but the summary
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum WarmUp {
    Auto,
    For(Duration),
}

fn warm_up(text: &str) -> Result<WarmUp, String> {
    match text {
        "auto" => Ok(WarmUp::Auto),
        text => units::duration(text).map(WarmUp::For),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn consumer_rate(text: &str) -> Result<f64, String> {
    units::count(text).and_then(|rate| if rate >= 0.001 { Ok(rate) } else { Err("a consumer takes something".into()) })
}

fn sweep(text: &str) -> Result<(String, Vec<String>), String> {
    let (key, values) = pair(text).map_err(|_| format!("'{text}' is not KEY=V1,V2,…"))?;
    let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
    match values.iter().any(String::is_empty) {
        true => Err(format!("'{text}' holds an empty value")),
        false => Ok((key, values)),
    }
}

impl LoadOptions {
    pub fn rate(&self) -> &Rate {
        self.ramp.as_ref().unwrap_or(&self.rate)
    }

    pub fn topic_names(&self) -> Vec<String> {
        match self.topics {
            1 => vec![self.topic.clone()],
            topics => (0..topics).map(|index| format!("{}-{index}", self.topic)).collect(),
        }
    }
}
