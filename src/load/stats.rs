//! What was measured: four latencies, counters, one set per interval and worker. Recorded by the thread that saw it happen;
//! added up by the thread that reports.

use std::collections::{BTreeMap, VecDeque};

use hdrhistogram::Histogram;

use super::results::{Latency, PERCENTILES};

/// 100 ns to 10 minutes with three digits; what is longer counts as the longest.
const SHORTEST_NS: u64 = 100;
const LONGEST_NS: u64 = 600_000_000_000;

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, 3).expect("sound bounds")
}

/// Each counted from when the record was due (intended), and from when the client was given it (actual).
#[derive(Clone, Debug)]
pub struct Latencies {
    pub acknowledged: Histogram<u64>,
    pub acknowledged_actual: Histogram<u64>,
    pub end_to_end: Histogram<u64>,
    pub end_to_end_actual: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            acknowledged: histogram(),
            acknowledged_actual: histogram(),
            end_to_end: histogram(),
            end_to_end_actual: histogram(),
        }
    }
}

impl Latencies {
    pub fn on_acknowledged(&mut self, now_ns: u64, due_ns: u64, given_ns: u64) {
        self.acknowledged.saturating_record(now_ns.saturating_sub(due_ns));
        self.acknowledged_actual.saturating_record(now_ns.saturating_sub(given_ns));
    }

    pub fn on_consumed(&mut self, now_ns: u64, due_ns: u64, given_ns: u64) {
        self.end_to_end.saturating_record(now_ns.saturating_sub(due_ns));
        self.end_to_end_actual.saturating_record(now_ns.saturating_sub(given_ns));
    }

    pub fn add(&mut self, other: &Latencies) {
        let all = [
            (&mut self.acknowledged, &other.acknowledged),
            (&mut self.acknowledged_actual, &other.acknowledged_actual),
            (&mut self.end_to_end, &other.end_to_end),
            (&mut self.end_to_end_actual, &other.end_to_end_actual),
        ];
        for (sum, part) in all {
            if !part.is_empty() {
                sum.add(part).expect("the bounds are the same");
            }
        }
    }
}

/// Percentiles of a histogram in microseconds.
pub fn latency(histogram: &Histogram<u64>) -> Latency {
    let us = |ns: u64| ns as f64 / 1000.0;
    if histogram.is_empty() {
        return Latency::default();
    }
    let curve: Vec<(f64, f64)> = histogram
        .iter_quantiles(8)
        .map(|step| (step.quantile_iterated_to() * 100.0, us(step.value_iterated_to().min(histogram.max()))))
        .collect();
    Latency {
        records: histogram.len(),
        min_us: us(histogram.min()),
        mean_us: histogram.mean() / 1000.0,
        max_us: us(histogram.max()),
        percentiles_us: PERCENTILES
            .map(|percentile| us(histogram.value_at_percentile(percentile).min(histogram.max()))),
        curve_us: curve,
    }
}

/// How often each thing happened.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Records that became due.
    pub due: u64,
    pub acknowledged: u64,
    pub acknowledged_bytes: u64,
    pub batches: u64,
    pub requests: u64,
    pub consumed: u64,
    pub consumed_bytes: u64,
    /// Records refused, or given up after delivery.timeout.ms.
    pub failed: u64,
    /// Records given up after max.block.ms.
    pub blocked_out: u64,
    /// How long producers had a due record and no buffer.memory for it, summed over producers.
    pub blocked_ns: u64,
    pub disconnects: u64,
    /// By Kafka's name.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    pub fn error(&mut self, name: &str, count: u64) {
        *self.errors.entry(name.to_owned()).or_default() += count;
    }

    pub fn add(&mut self, other: &Counts) {
        self.due += other.due;
        self.acknowledged += other.acknowledged;
        self.acknowledged_bytes += other.acknowledged_bytes;
        self.batches += other.batches;
        self.requests += other.requests;
        self.consumed += other.consumed;
        self.consumed_bytes += other.consumed_bytes;
        self.failed += other.failed;
        self.blocked_out += other.blocked_out;
        self.blocked_ns += other.blocked_ns;
        self.disconnects += other.disconnects;
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
    }
}

/// One worker's share of one interval. Records due before the measurement began are kept apart.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    pub warm_up: Latencies,
    pub measured: Latencies,
    pub counts: Counts,
    pub lag: u64,
}

impl Interval {
    /// Where a record that was due then is recorded.
    pub fn of(&mut self, due_ns: u64, measured_from_ns: u64) -> &mut Latencies {
        if due_ns >= measured_from_ns { &mut self.measured } else { &mut self.warm_up }
    }

    pub fn add(&mut self, other: &Interval) {
        self.warm_up.add(&other.warm_up);
        self.measured.add(&other.measured);
        self.counts.add(&other.counts);
        self.lag += other.lag;
    }
}

/// When the records of one destination were due and given, until their batch has ended. Batches may end in any order.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    first: u64,
    /// `None` for a record that has ended before an earlier one did.
    stamps: VecDeque<Option<(u64, u64, u32)>>,
}

impl Pending {
    /// Due time, given time and bytes of the next record.
    pub fn push(&mut self, due_ns: u64, given_ns: u64, bytes: usize) {
        self.stamps.push_back(Some((due_ns, given_ns, u32::try_from(bytes).unwrap_or(u32::MAX))));
    }

    /// Sequence of the next record.
    pub fn next(&self) -> u64 {
        self.first + self.stamps.len() as u64
    }

    /// These records have ended: what was known of them.
    pub fn take(&mut self, first_record: u64, records: u64, mut each: impl FnMut(u64, u64, u32)) {
        let from = first_record.saturating_sub(self.first) as usize;
        let upto = (from + records as usize).min(self.stamps.len());
        for stamp in self.stamps.range_mut(from.min(upto)..upto) {
            if let Some((due_ns, given_ns, bytes)) = stamp.take() {
                each(due_ns, given_ns, bytes);
            }
        }
        while matches!(self.stamps.front(), Some(None)) {
            self.stamps.pop_front();
            self.first += 1;
        }
    }

    /// First sequence and count of the records that have not ended.
    pub fn open(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let open = self.stamps.iter().enumerate().filter(|(_, stamp)| stamp.is_some());
        open.map(|(place, _)| (self.first + place as u64, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arithmetic of a stall. A server answers in 1 ms, but for one stall of 1 s; records are due every ms for 10 s.
    /// A closed loop would see one slow answer out of 9000. Seen from when they were due, the 1000 records due within the
    /// stall waited 1 ms to 1 s: that is 10 % of all, so p50 is 1 ms, p95 is about half a second, p99 about 0.9 s.
    #[test]
    fn a_stall_shows_in_the_latency_from_the_intended_time() {
        let ms = 1_000_000;
        let mut latencies = Latencies::default();
        for due in (0..10_000).map(|i| i * ms) {
            let stall = 4_000 * ms..5_000 * ms;
            let answered = if stall.contains(&due) { stall.end } else { due } + ms;
            // What a closed loop sends: the next one leaves when the last is answered.
            let given = if stall.contains(&due) && due > stall.start { stall.end } else { due };
            latencies.on_acknowledged(answered, due, given);
        }
        let intended = latency(&latencies.acknowledged);
        let close =
            |us: f64, expected_ms: f64| assert!((us / 1000.0 - expected_ms).abs() < 0.01 * expected_ms + 1.1, "{us}");
        close(intended.percentile(50.0), 1.0);
        close(intended.percentile(95.0), 501.0);
        close(intended.percentile(99.0), 901.0);
        close(intended.max_us, 1001.0);
        let actual = latency(&latencies.acknowledged_actual);
        close(actual.percentile(99.0), 1.0);
        close(actual.max_us, 1001.0);
    }

    #[test]
    fn batches_may_end_in_any_order() {
        let mut pending = Pending::default();
        (0..6).for_each(|i| pending.push(i, 10 + i, 1));
        let mut ended = Vec::new();
        pending.take(2, 2, |due, given, _| ended.push((due, given)));
        pending.take(0, 2, |due, given, _| ended.push((due, given)));
        assert_eq!(ended, [(2, 12), (3, 13), (0, 10), (1, 11)]);
        assert_eq!((pending.open().collect::<Vec<_>>(), pending.next()), (vec![(4, 1), (5, 1)], 6));
        pending.take(4, 99, |_, _, _| {});
        assert_eq!((pending.open().count(), pending.next()), (0, 6));
    }

    #[test]
    fn records_due_in_the_warm_up_are_kept_apart_whenever_they_end() {
        let mut interval = Interval::default();
        interval.of(99, 100).on_acknowledged(500, 99, 99);
        interval.of(100, 100).on_acknowledged(500, 100, 100);
        assert_eq!((interval.warm_up.acknowledged.len(), interval.measured.acknowledged.len()), (1, 1));
    }
}
