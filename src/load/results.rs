//! What a run found, as it stands in the JSON file and is read back to compare. Times are microseconds unless a name says
//! otherwise. Fields may be added; none changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::verify::Faults;

pub const FORMAT: &str = "gannet-load/1";

pub const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];

/// One whole invocation: one run, or one of each point of a sweep.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Document {
    pub format: String,
    pub gannet_version: String,
    /// As it was typed.
    pub command: Vec<String>,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    pub machine: BTreeMap<String, String>,
    pub cluster: Cluster,
    /// The generator's own machine with nothing of Kafka in the way, before and after.
    pub floors: Vec<Floor>,
    pub workload: BTreeMap<String, String>,
    pub producer: BTreeMap<String, String>,
    pub consumer: BTreeMap<String, String>,
    /// The keys that a sweep varies, with their values, in order; empty for a single run.
    pub sweep: Vec<(String, Vec<String>)>,
    pub runs: Vec<Run>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    pub id: String,
    pub brokers: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Floor {
    /// A blocking round trip of 100 bytes over loopback TCP.
    pub loopback_round_trip_us: f64,
    /// A durable write of 4 KiB to the directory that was named; absent where none was.
    pub durable_write_us: Option<f64>,
    pub load_average: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// The point of the sweep: key and value.
    pub point: Vec<(String, String)>,
    pub verdict: Verdict,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
    pub warm_up_s: f64,
    pub measured_s: f64,
    /// Records per second that were intended; absent at the maximum rate.
    pub target_rate: Option<f64>,
    /// Records per second acknowledged, or consumed where nothing was produced.
    pub rate: f64,
    pub bytes_per_s: f64,
    pub consumed_rate: f64,
    pub consumed_bytes_per_s: f64,
    pub records: u64,
    pub batches: u64,
    pub requests: u64,
    /// Part of the producers' time in which a due record found no room in buffer.memory.
    pub blocked: f64,
    pub blocked_out: u64,
    pub failed: u64,
    pub disconnects: u64,
    pub errors: BTreeMap<String, u64>,
    pub lag: u64,
    /// Time on a processor of this program, per second; 1 is one core.
    pub generator_cores: f64,
    pub acknowledged: Latency,
    pub acknowledged_actual: Latency,
    pub end_to_end: Latency,
    pub end_to_end_actual: Latency,
    pub intervals: Vec<IntervalRow>,
    pub steps: Vec<Step>,
    pub verify: Option<Faults>,
}

/// Whether the figures may be used.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "because")]
pub enum Verdict {
    #[default]
    Valid,
    /// The rate was missed: this is not a measurement at that rate.
    Invalid(String),
    /// It did not come to its end.
    Cut(String),
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub records: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub max_us: f64,
    /// At 50, 75, 90, 95, 99, 99.9 and 99.99 percent.
    pub percentiles_us: [f64; PERCENTILES.len()],
    /// Percent and value.
    pub curve_us: Vec<(f64, f64)>,
}

impl Latency {
    /// One of `PERCENTILES`; not a number where nothing was measured.
    pub fn percentile(&self, percentile: f64) -> f64 {
        let at = PERCENTILES.iter().position(|known| *known == percentile);
        at.filter(|_| self.records > 0).map_or(f64::NAN, |at| self.percentiles_us[at])
    }
}

/// Latency over time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct IntervalRow {
    /// End of the interval, since the run began.
    pub at_s: f64,
    pub length_s: f64,
    pub is_measured: bool,
    pub rate: f64,
    pub bytes_per_s: f64,
    pub consumed_rate: f64,
    pub lag: u64,
    pub failed: u64,
    /// Connections lost, or refused.
    pub disconnects: u64,
    /// Part of the producers' time without buffer.memory.
    pub blocked: f64,
    pub acknowledged: Spread,
    pub end_to_end: Spread,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    pub records: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// One step of a ramp.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    pub target_rate: f64,
    pub rate: f64,
    pub lag: u64,
    pub acknowledged: Spread,
    pub end_to_end: Spread,
}
