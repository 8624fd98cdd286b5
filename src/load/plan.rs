//! What all threads of a run know: the plan, which nothing changes, and the few words they say to each other meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::net::Clock;
use super::schedule::{Arrivals, Rate};
use super::settings::{ConsumerSettings, ProducerSettings};
use super::workload::{Keys, Sizes};
use crate::client::Cluster;
use crate::types::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId};

/// How a record without an own wish finds its partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Partitioning {
    /// By the key's hash, as Kafka's clients; without a key as `sticky`
    Murmur2,
    /// Each record to the next partition
    RoundRobin,
    /// One partition until a batch of bytes went there (KIP-794)
    Sticky,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Written into each record of this run.
    pub run: u32,
    pub client_id: String,
    pub rate: Rate,
    pub step_ns: u64,
    pub arrivals: Arrivals,
    pub sizes: Sizes,
    pub keys: Keys,
    pub pool: Arc<[u8]>,
    pub partitioning: Partitioning,
    pub is_verified: bool,
    pub producers: usize,
    pub consumers: usize,
    /// Records per second that each consumer takes at most.
    pub consumer_rate: Option<f64>,
    pub threads: usize,
    pub spin: bool,
    pub interval_ns: u64,
    pub producer: ProducerSettings,
    pub consumer: ConsumerSettings,
    pub partitions: Vec<Place>,
    pub partitions_per_topic: usize,
    pub addresses: BTreeMap<BrokerId, SocketAddr>,
    /// Of each producer, where they are idempotent.
    pub identities: Vec<(ProducerId, ProducerEpoch)>,
}

/// One partition of the workload; its place in `Plan::partitions` is what destinations and subscriptions are named by.
#[derive(Clone, Debug)]
pub struct Place {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partition: i32,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Where consumers begin.
    pub offset: Offset,
}

impl Place {
    pub fn name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }
}

impl Plan {
    pub fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<Arc<str>> = self.partitions.iter().map(|place| place.topic.clone()).collect();
        topics.dedup();
        topics
    }

    /// Where these brokers are reached; a name that does not resolve is left out.
    pub fn resolve(cluster: &Cluster) -> BTreeMap<BrokerId, SocketAddr> {
        use std::net::ToSocketAddrs;
        let found = cluster.brokers.iter().filter_map(|(id, broker)| {
            let mut addresses = (&*broker.host, broker.port).to_socket_addrs().ok()?;
            Some((*id, addresses.next()?))
        });
        found.collect()
    }
}

/// Said by the reporting thread to all workers. Times are nanoseconds since the run began; `u64::MAX` is "not yet known".
#[derive(Debug)]
pub struct Signals {
    pub clock: Clock,
    /// Records due from here on are measured.
    pub measure_from_ns: AtomicU64,
    /// No record is due from here on.
    pub end_ns: AtomicU64,
    /// Consumers have what they can get, or nobody waits any longer: report and end.
    pub stop: AtomicBool,
}

impl Signals {
    pub fn new(measure_from_ns: u64) -> Signals {
        Signals {
            clock: Clock::start(),
            measure_from_ns: AtomicU64::new(measure_from_ns),
            end_ns: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
        }
    }

    pub fn measure_from_ns(&self) -> u64 {
        self.measure_from_ns.load(Ordering::Relaxed)
    }

    pub fn end_ns(&self) -> u64 {
        self.end_ns.load(Ordering::Relaxed)
    }
}

/// Said by one worker, turn by turn.
#[derive(Debug, Default)]
pub struct Progress {
    pub acknowledged: AtomicU64,
    pub consumed: AtomicU64,
    pub lag: AtomicU64,
    /// All producers of this worker have ended.
    pub is_idle: AtomicBool,
    /// Since when no broker can be reached at all; `u64::MAX` while one can.
    pub unreachable_since_ns: AtomicU64,
}
