//! Whether every record came once, whole and in order. Each producer counts its records per partition; a reader of that
//! partition must see the count go up by one. Plain values, fed by the consumers, judged once the run is over.

use std::collections::{BTreeMap, BTreeSet};

use super::stamp::Stamp;
use crate::types::Offset;

/// Faults that are told one by one; all are counted.
const NAMED_MAX: usize = 20;
/// Gaps that one stream may have open; beyond it the oldest count as lost at once.
const GAPS_MAX: usize = 100_000;

/// One producer's records in one partition, as a destination of the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stream {
    pub destination: usize,
    pub producer: u32,
}

/// What the reader of one partition saw.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    streams: BTreeMap<Stream, Seen>,
    pub faults: Faults,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// One more than the highest sequence seen.
    next: u64,
    /// Below `next` and not seen yet.
    missing: BTreeSet<u64>,
}

/// What was found wrong, counted and, up to a limit, named.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Faults {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub corrupt: u64,
    /// Records with a good checksum that this run did not send.
    pub foreign: u64,
    /// Records that came and were judged.
    pub checked: u64,
    /// Sent, and refused or given up: they may have come or not.
    pub unacknowledged: u64,
    pub named: Vec<String>,
}

impl Faults {
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.corrupt == 0
    }

    fn name(&mut self, text: impl FnOnce() -> String) {
        if self.named.len() < NAMED_MAX {
            self.named.push(text());
        }
    }

    pub fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
        self.checked += other.checked;
        self.unacknowledged += other.unacknowledged;
        let room = NAMED_MAX - self.named.len().min(NAMED_MAX);
        self.named.extend(other.named.iter().take(room).cloned());
    }
}

impl Verifier {
    /// `place` names the partition, such as `orders-3`, where it must be named.
    pub fn on_record(&mut self, place: impl Fn() -> String, destination: usize, offset: Offset, stamp: &Stamp) {
        let (producer, sequence) = (stamp.producer, stamp.sequence);
        let seen = self.streams.entry(Stream { destination, producer }).or_default();
        self.faults.checked += 1;
        if sequence >= seen.next {
            let gap = seen.next..sequence;
            seen.next = sequence + 1;
            let room = (GAPS_MAX - seen.missing.len().min(GAPS_MAX)) as u64;
            let told = gap.start..gap.end.min(gap.start.saturating_add(room));
            self.faults.lost += gap.end - told.end;
            seen.missing.extend(told);
        } else if seen.missing.remove(&sequence) {
            let late = seen.next - 1;
            self.faults.reordered += 1;
            self.faults.name(|| {
                let place = place();
                format!(
                    "reordered: {place} offset {offset} holds record {sequence} of producer {producer}, behind record {late}"
                )
            });
        } else {
            self.faults.duplicated += 1;
            self.faults.name(|| {
                let place = place();
                format!("duplicated: {place} offset {offset} holds record {sequence} of producer {producer} once more")
            });
        }
    }

    pub fn on_corrupt(&mut self, place: &str, offset: Offset, reason: &str) {
        self.faults.corrupt += 1;
        self.faults.name(|| format!("corrupt: {place} offset {offset}: {reason}"));
    }

    pub fn on_foreign(&mut self) {
        self.faults.foreign += 1;
    }

    /// How many records of each stream were acknowledged to the producers, and which were not; `place` names destinations.
    pub fn finish(mut self, sent: &BTreeMap<Stream, Sent>, place: impl Fn(usize) -> String) -> Faults {
        for (stream, sent) in sent {
            let seen = self.streams.remove(stream).unwrap_or_default();
            let missing = seen.missing.iter().copied().chain(seen.next..sent.records);
            let mut lost: Vec<u64> = missing.filter(|sequence| !sent.is_excused(*sequence)).collect();
            lost.dedup();
            self.faults.lost += lost.len() as u64;
            self.faults.unacknowledged += sent.unacknowledged.iter().map(|(_, records)| records).sum::<u64>();
            for (first, last) in runs(&lost) {
                self.faults.name(|| {
                    format!(
                        "lost: {} records {first} to {last} of producer {}",
                        place(stream.destination),
                        stream.producer
                    )
                });
            }
        }
        self.faults
    }

    /// Takes in what the reader of other partitions saw.
    pub fn join(&mut self, other: Verifier) {
        self.streams.extend(other.streams);
        self.faults.add(&other.faults);
    }
}

/// What a producer sent to one destination.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub records: u64,
    /// First sequence and count of the batches that were not acknowledged.
    pub unacknowledged: Vec<(u64, u64)>,
}

impl Sent {
    fn is_excused(&self, sequence: u64) -> bool {
        self.unacknowledged.iter().any(|(first, records)| (*first..first + records).contains(&sequence))
    }
}

/// First and last of each run of consecutive numbers.
fn runs(numbers: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(sequences: &[u64], sent: Sent) -> Faults {
        let mut verifier = Verifier::default();
        for (offset, sequence) in sequences.iter().enumerate() {
            let stamp = Stamp { producer: 2, sequence: *sequence, ..Stamp::default() };
            verifier.on_record(|| "t-0".into(), 0, offset as i64, &stamp);
        }
        let stream = Stream { destination: 0, producer: 2 };
        verifier.finish(&BTreeMap::from([(stream, sent)]), |destination| format!("t-{destination}"))
    }

    fn sent(records: u64) -> Sent {
        Sent { records, unacknowledged: vec![] }
    }

    fn counts(faults: &Faults) -> [u64; 4] {
        [faults.lost, faults.duplicated, faults.reordered, faults.corrupt]
    }

    #[test]
    fn records_that_come_once_and_in_order_are_clean() {
        let faults = judged(&[0, 1, 2, 3], sent(4));
        assert!(faults.is_clean() && faults.named.is_empty() && faults.checked == 4);
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let lost = judged(&[0, 3], sent(6));
        assert_eq!(counts(&lost), [4, 0, 0, 0]);
        assert_eq!(lost.named, ["lost: t-0 records 1 to 2 of producer 2", "lost: t-0 records 4 to 5 of producer 2"]);
        assert_eq!(counts(&judged(&[0, 1, 1, 2], sent(3))), [0, 1, 0, 0]);
        assert_eq!(counts(&judged(&[0, 2, 1, 3], sent(4))), [0, 0, 1, 0]);
        assert_eq!(counts(&judged(&[], sent(3))), [3, 0, 0, 0]);
    }

    #[test]
    fn what_was_never_acknowledged_is_not_lost() {
        let faults = judged(&[0, 3], Sent { records: 4, unacknowledged: vec![(1, 2)] });
        assert_eq!((counts(&faults), faults.unacknowledged), ([0, 0, 0, 0], 2));
    }

    #[test]
    fn a_jump_to_the_far_end_costs_bounded_memory_and_counts_as_lost() {
        let faults = judged(&[0, 1 << 40], sent(1));
        assert_eq!(faults.lost, (1 << 40) - 1);
    }
}
