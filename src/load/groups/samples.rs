//! What one phase sees, while it runs. Owned by the one thread of the storm.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::super::stats::{histogram, latency};
use super::results::Phase;

/// Durations are recorded in nanoseconds.
#[derive(Clone, Debug)]
pub struct Samples {
    pub stable: Histogram<u64>,
    pub heartbeat: Histogram<u64>,
    pub commit: Histogram<u64>,
    pub end_to_end: Histogram<u64>,
    pub without_consumption: Histogram<u64>,
    pub without_consumption_others: Histogram<u64>,
    pub disconnects: u64,
    pub errors: BTreeMap<String, u64>,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples {
            stable: histogram(),
            heartbeat: histogram(),
            commit: histogram(),
            end_to_end: histogram(),
            without_consumption: histogram(),
            without_consumption_others: histogram(),
            disconnects: 0,
            errors: BTreeMap::new(),
        }
    }
}

impl Samples {
    pub fn error(&mut self, name: String) {
        *self.errors.entry(name).or_default() += 1;
    }

    pub fn phase(&self, name: &str) -> Phase {
        Phase {
            name: name.into(),
            stable: latency(&self.stable),
            without_consumption: latency(&self.without_consumption),
            without_consumption_others: latency(&self.without_consumption_others),
            heartbeat: latency(&self.heartbeat),
            commit: latency(&self.commit),
            end_to_end: latency(&self.end_to_end),
            disconnects: self.disconnects,
            errors: self.errors.clone(),
            ..Phase::default()
        }
    }
}

/// When records last came out of each partition of one group, and the longest time in which none did.
#[derive(Clone, Debug)]
pub struct Consumption {
    last_ns: Vec<u64>,
    gap_ns: Vec<u64>,
}

impl Consumption {
    pub fn new(partitions: usize) -> Consumption {
        Consumption { last_ns: vec![0; partitions], gap_ns: vec![0; partitions] }
    }

    pub fn on_record(&mut self, partition: usize, now_ns: u64) {
        let gap_ns = now_ns.saturating_sub(std::mem::replace(&mut self.last_ns[partition], now_ns));
        self.gap_ns[partition] = self.gap_ns[partition].max(gap_ns);
    }

    /// Counts from now on.
    pub fn reset(&mut self, now_ns: u64) {
        self.last_ns.fill(now_ns);
        self.gap_ns.fill(0);
    }

    /// The longest time of each partition up to now.
    pub fn gaps_ns(&self, now_ns: u64) -> impl Iterator<Item = u64> + '_ {
        self.last_ns.iter().zip(&self.gap_ns).map(move |(last_ns, gap_ns)| now_ns.saturating_sub(*last_ns).max(*gap_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_without_a_record_counts_also_where_it_has_not_ended() {
        let mut consumption = Consumption::new(3);
        consumption.reset(100);
        for now_ns in [110, 150, 155] {
            consumption.on_record(0, now_ns);
        }
        consumption.on_record(1, 110);
        assert_eq!(consumption.gaps_ns(160).collect::<Vec<_>>(), [40, 50, 60]);
    }
}
