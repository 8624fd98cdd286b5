//! What a run of groups found, as it stands in the JSON file. Fields may be added; none changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::results::{Cluster, Floor, Latency};

pub const FORMAT: &str = "gannet-load-groups/1";

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GroupsDocument {
    pub format: String,
    pub gannet_version: String,
    /// As it was typed.
    pub command: Vec<String>,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    pub machine: BTreeMap<String, String>,
    pub cluster: Cluster,
    pub floors: Vec<Floor>,
    pub workload: BTreeMap<String, String>,
    pub phases: Vec<Phase>,
    /// Why it ended before its end.
    pub cut: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    pub seconds: f64,
    /// Of the broker's process, where it was named.
    pub broker_cpu_s: Option<f64>,
    pub generator_cpu_s: f64,
    /// From the beginning of the phase, or of one round of it, until a group was stable: one for each group and round.
    pub stable: Latency,
    /// Groups that were not stable in time.
    pub unstable: u64,
    /// Longest time in which nothing came out of a partition of the disturbed groups: of those of the member that went, and
    /// of those of all others. One for each partition.
    pub without_consumption: Latency,
    pub without_consumption_others: Latency,
    /// Of groups that were not disturbed: heartbeats and commits from when they were due, records from when they were due.
    pub heartbeat: Latency,
    pub commit: Latency,
    pub end_to_end: Latency,
    pub disconnects: u64,
    /// By request and Kafka's name, the ordinary course of a rebalance left out.
    pub errors: BTreeMap<String, u64>,
}
