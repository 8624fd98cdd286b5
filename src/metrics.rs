//! What one shard and its reactor count: plain numbers, one set a core, written by nobody else. A reader gets a clone and
//! merges the cores'. Never shared, never locked.

use std::fmt;

use hdrhistogram::Histogram;

/// One above the largest API key that is counted by its own number; the rest share the last place.
pub const API_KEYS: usize = 96;

macro_rules! metrics {
    (
        counters { $( #[doc = $counter_doc:literal] $counter:ident, )* }
        latencies { $( #[doc = $latency_doc:literal] $latency:ident, )* }
    ) => {
        /// Counters since the start, and distributions of times in microseconds.
        #[derive(Clone, Debug, Default)]
        pub struct Metrics {
            $( #[doc = $counter_doc] pub $counter: u64, )*
            $( #[doc = $latency_doc] pub $latency: Latency, )*
            /// Requests by API key.
            pub requests: Requests,
        }

        impl Metrics {
            /// Adds another core's.
            pub fn merge(&mut self, other: &Metrics) {
                $( self.$counter += other.$counter; )*
                $( self.$latency.merge(&other.$latency); )*
                for (own, others) in self.requests.0.iter_mut().zip(other.requests.0) {
                    *own += others;
                }
            }

            /// Name, meaning and value of every counter.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [ $( (stringify!($counter), $counter_doc, self.$counter), )* ].into_iter()
            }

            /// Name, meaning and distribution of every time.
            pub fn latencies(&self) -> impl Iterator<Item = (&'static str, &'static str, &Latency)> {
                [ $( (stringify!($latency), $latency_doc, &self.$latency), )* ].into_iter()
            }
        }
    };
}

metrics! {
    counters {
        /// Connections accepted.
        connections_opened,
        /// Connections gone, for whatever reason.
        connections_closed,
        /// Connections refused: too many, or no descriptor left.
        connections_refused,
        /// Connections closed because they took none of their responses for too long.
        connections_stalled,
        /// Connections closed because they were idle for too long.
        connections_idled,
        /// Frames that were no request: a length out of range, a header that does not parse, an unknown API.
        hostile_frames,
        /// Times a shard left its sockets unread because its memory was spent.
        memory_stalls,
        /// Bytes of requests received.
        request_bytes,
        /// Bytes of responses sent.
        response_bytes,
        /// Batches appended.
        produced_batches,
        /// Records in the batches appended.
        produced_records,
        /// Bytes of the batches appended.
        produced_bytes,
        /// Batches refused by a check.
        rejected_batches,
        /// Batches that an idempotent producer sent again.
        duplicate_batches,
        /// Bytes of batches fetched, from memory or from segments.
        fetched_bytes,
        /// Those of them that came from segments.
        fetched_disk_bytes,
        /// Times that a client over its quota was told to hold back.
        throttled,
        /// Fetches that waited for data.
        parked_fetches,
        /// Segments that retention or a deletion of records took away.
        removed_segments,
        /// Logs compacted.
        compactions,
        /// Bytes of the segments that compaction made.
        compacted_bytes,
        /// Batches found damaged by a read.
        corrupt_batches,
        /// Log directories that are offline because they failed.
        offline_log_dirs,
        /// Partitions that are offline with them.
        offline_partitions,
        /// Journal commits made durable.
        commits,
        /// Bytes of batches in those commits.
        commit_bytes,
        /// Bytes of headers and padding around them.
        commit_overhead_bytes,
        /// Commits that started while another was under way.
        overlapped_commits,
        /// Flushes of a device that commits asked for.
        flushes,
        /// Reads of segment files.
        segment_reads,
        /// Bytes those reads asked for.
        segment_read_bytes,
        /// Bytes written to segments.
        segment_bytes,
        /// Segment files made durable.
        segment_syncs,
        /// Rounds after which journal files were free again.
        checkpoints,
        /// Messages to other cores.
        messages_sent,
        /// Sleeping cores woken.
        doorbells,
        /// Turns of the loop.
        turns,
        /// Events those turns took in.
        events,
        /// System calls that entered the ring.
        ring_enters,
        /// Sends to sockets.
        sends,
    }
    latencies {
        /// Length of a turn, its wait left out.
        turn_us,
        /// From a commit's start until it is durable.
        commit_us,
        /// From a produce request's arrival until its response is handed to the socket.
        produce_us,
        /// How long clients over their quota were told to hold back.
        throttle_us,
    }
}

/// Requests counted by API key.
#[derive(Clone, Debug)]
pub struct Requests([u64; API_KEYS]);

impl Default for Requests {
    fn default() -> Requests {
        Requests([0; API_KEYS])
    }
}

impl Requests {
    pub fn count(&mut self, api_key: i16) {
        let place = usize::try_from(api_key).unwrap_or(API_KEYS).min(API_KEYS - 1);
        self.0[place] += 1;
    }

    /// API keys that were asked for, and how often. The last place stands for all keys from there on.
    pub fn iter(&self) -> impl Iterator<Item = (i16, u64)> {
        self.0.into_iter().enumerate().filter(|(_, count)| *count > 0).map(|(api_key, count)| (api_key as i16, count))
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A distribution of times up to a minute, right to a part in a hundred at least; longer ones count as a minute.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

const LATENCY_MAX_US: u64 = 60_000_000;

impl Default for Latency {
    fn default() -> Latency {
        Latency(Histogram::new_with_max(LATENCY_MAX_US, 2).expect("the bounds are valid"))
    }
}

impl Latency {
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us);
    }

    /// The time that a share of all, 0.99 for the 99th percentile, did not exceed; 0 if none was recorded.
    pub fn quantile_us(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    pub fn max_us(&self) -> u64 {
        self.0.max()
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    fn merge(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("all have the same bounds");
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.quantile_us(share));
        write!(f, "n={} p50={p50} p99={p99} p99.9={p999} max={}", self.count(), self.max_us())
    }
}

/// A snapshot to read: one line each, zeroes left out.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, _, value) in self.counters().filter(|(_, _, value)| *value > 0) {
            writeln!(f, "{name:<24} {value}")?;
        }
        for (api_key, count) in self.requests.iter() {
            writeln!(f, "{:<24} {count}", format!("requests[{api_key}]"))?;
        }
        for (name, _, latency) in self.latencies().filter(|(_, _, latency)| latency.count() > 0) {
            writeln!(f, "{name:<24} {latency}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_counters_requests_and_times() {
        let mut one = Metrics { commits: 2, ..Metrics::default() };
        one.requests.count(1);
        one.commit_us.record(100);
        let mut both = Metrics { commits: 3, ..Metrics::default() };
        both.requests.count(1);
        both.requests.count(0);
        both.commit_us.record(10_000);
        both.merge(&one);
        assert_eq!((both.commits, both.requests.total(), both.commit_us.count()), (5, 3, 2));
        assert_eq!(both.requests.iter().collect::<Vec<_>>(), [(0, 1), (1, 2)]);
        assert!((9_900..=10_100).contains(&both.commit_us.max_us()), "{}", both.commit_us.max_us());
    }

    #[test]
    fn any_api_key_and_any_time_can_be_counted() {
        let mut metrics = Metrics::default();
        for api_key in [i16::MIN, -1, 95, 96, i16::MAX] {
            metrics.requests.count(api_key);
        }
        assert_eq!(metrics.requests.iter().collect::<Vec<_>>(), [(95, 5)]);
        metrics.turn_us.record(0);
        metrics.turn_us.record(u64::MAX);
        assert_eq!(metrics.turn_us.count(), 2);
        assert!(metrics.turn_us.max_us() >= LATENCY_MAX_US);
    }

    #[test]
    fn a_snapshot_shows_what_was_counted_and_nothing_else() {
        let mut metrics = Metrics { doorbells: 7, ..Metrics::default() };
        metrics.requests.count(3);
        metrics.produce_us.record(40);
        assert_eq!(
            metrics.to_string(),
            "doorbells                7\nrequests[3]              1\n\
             produce_us               n=1 p50=40 p99=40 p99.9=40 max=40\n"
        );
    }
}
