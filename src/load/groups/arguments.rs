//! The command line of `gannet load groups`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::units;

const ABOUT: &str = "\
Phases, in this order:
  join       all members of all groups join at one moment, until every group is stable
  steady     heartbeats and commits, spread evenly, for --duration
  death      one member's connections close in each group that is disturbed; its session has to time out
  leave      one member leaves each group that is disturbed
  rebalance  one member leaves each group that is disturbed and comes back, again and again, for --duration
  end        all members leave at one moment

Disturbed are all groups that consume but the last, and at least one. The latencies of all others show whether a rebalance
reaches them. A group is stable when every member has its part, the parts differ by one partition at most, every partition
has one owner, and the owner knows where to read. Time without consumption is the longest time in which nothing came out of
a partition.

Examples:
  gannet load groups --create --groups 1000 --members 10
  gannet load groups --create --protocol consumer --broker-pid $(pidof gannet) --json groups.json

Exit codes: 0 done, 1 failed or cut short, 2 a group did not become stable.";

/// Put consumer groups on any Kafka-compatible cluster and measure joins, deaths, rebalances and heartbeats.
#[derive(Args, Clone, Debug)]
#[command(after_help = ABOUT)]
pub struct GroupsArguments {
    /// Brokers to ask first, HOST:PORT[,HOST:PORT…]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:9092")]
    pub bootstrap_server: Vec<String>,
    /// The topic that all groups read
    #[arg(long, default_value = "gannet-load-groups")]
    pub topic: String,
    /// Create the topic if it is missing
    #[arg(long)]
    pub create: bool,
    /// Partitions of the topic if it is created; as many as --members if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub partitions: Option<i32>,
    /// Replicas of the topic if it is created; the broker's default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: Option<i16>,

    /// The beginning of the groups' names: NAME-0, NAME-1 and so on
    #[arg(long, value_name = "NAME", default_value = "gannet-load")]
    pub group: String,
    /// How many groups
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub groups: u32,
    /// Members of each group, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub members: u32,
    /// How members speak to their coordinator
    #[arg(long, value_name = "PROTOCOL", default_value = "classic")]
    pub protocol: GroupProtocol,
    /// How many of the groups fetch what is produced, over a second connection for each member; the others know their
    /// positions, commit them and fetch nothing [default: 4, or all if there are fewer]
    #[arg(long, value_name = "N")]
    consuming: Option<u32>,
    /// Records per second that are produced to the topic meanwhile; 0 produces none, and nothing is told of consumption
    #[arg(long, value_name = "N", default_value = "500", value_parser = units::count)]
    pub rate: f64,
    /// session.timeout.ms of members of the classic protocol; of the consumer protocol it is the broker's to say
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = units::duration)]
    pub session_timeout: Duration,
    /// heartbeat.interval.ms of members of the classic protocol; of the consumer protocol it is the broker's to say
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = units::duration)]
    pub heartbeat_interval: Duration,
    /// auto.commit.interval.ms of every member
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    pub commit_interval: Duration,

    /// What is measured, beside join
    #[arg(long, value_name = "PHASE,…", value_delimiter = ',', default_value = "steady,death,leave,rebalance,end")]
    pub phases: Vec<PhaseName>,
    /// How long steady and rebalance last
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = units::duration)]
    pub duration: Duration,
    /// How long a phase may take until its groups are stable; without it a death may take twice its session timeout more
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = units::duration)]
    pub patience: Duration,
    /// The broker's process on this machine: its time on processors is told for each phase
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Makes the spreading of heartbeats and commits the same again
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// How often the state is shown
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    pub interval: Duration,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Nothing but the summary
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum GroupProtocol {
    /// JoinGroup, SyncGroup, Heartbeat, with the range assignor
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848), with the broker's assignor
    Consumer,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum PhaseName {
    Join,
    Steady,
    Death,
    Leave,
    Rebalance,
    End,
}

impl PhaseName {
    pub fn text(self) -> &'static str {
        match self {
            PhaseName::Join => "join",
            PhaseName::Steady => "steady",
            PhaseName::Death => "death",
            PhaseName::Leave => "leave",
            PhaseName::Rebalance => "rebalance",
            PhaseName::End => "end",
        }
    }
}

impl GroupsArguments {
    pub fn consuming(&self) -> u32 {
        self.consuming.unwrap_or(self.groups.min(4))
    }

    pub fn all_members(&self) -> u64 {
        u64::from(self.groups) * u64::from(self.members)
    }

    /// What contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        if self.consuming() > self.groups {
            return Err(format!("--consuming {} is more than --groups {}", self.consuming(), self.groups));
        }
        if self.all_members() > 1_000_000 {
            return Err(format!("{} members are too many for one process: at most 1000000", self.all_members()));
        }
        if self.duration.is_zero() || self.interval < Duration::from_millis(10) {
            return Err("--duration is above zero, and --interval at least 10ms".into());
        }
        Ok(())
    }
}
