//! Compaction driven to its end over segments in memory: what survives, what it looks like, and what the log is after it.

use std::collections::BTreeMap;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::config::{CleanupPolicy, TopicConfig};
use crate::log::tests::{append_built, log, seal_all};
use crate::log::{CleaningPoint, Dirtiness, Log};
use crate::record::{BatchBuilder, Compression, Record};
use crate::types::Time;

const NOW: Timestamp = 1_700_000_000_000;
const DAY: i64 = 86_400_000;
const KEY_BYTES: u64 = 1 << 20;

fn now(after_ms: i64) -> Time {
    Time { monotonic_us: 0, wall_ms: NOW + after_ms }
}

/// A log and the files of its closed segments.
struct Bench {
    log: Log,
    files: BTreeMap<Offset, Vec<u8>>,
    /// By the last compaction.
    bytes_read: usize,
}

impl Bench {
    fn new(set: impl FnOnce(&mut TopicConfig)) -> Bench {
        let cleanup_policy = CleanupPolicy { delete: false, compact: true };
        let mut config = TopicConfig { cleanup_policy, ..TopicConfig::default() };
        set(&mut config);
        Bench { log: log(config), files: BTreeMap::new(), bytes_read: 0 }
    }

    fn append(&mut self, builder: BatchBuilder) {
        let appended = append_built(&mut self.log, now(0), builder);
        let active = self.log.segments().last().expect("never empty").base_offset;
        self.files.entry(active).or_default().extend_from_slice(appended.batch.bytes());
    }

    /// One batch of (key, value) pairs.
    fn put(&mut self, records: &[(&str, Option<&str>)]) {
        self.append(keyed(BatchBuilder::new(), records));
    }

    fn roll(&mut self) {
        self.log.roll();
        seal_all(&mut self.log);
        self.log.begin_checkpoint();
        self.log.on_checkpoint();
    }

    fn dirtiness(&mut self, after_ms: i64) -> Dirtiness {
        let end = self.log.log_end_offset();
        self.log.dirtiness(now(after_ms), end)
    }

    fn begin(&mut self, after_ms: i64, key_bytes: u64) -> Compaction {
        let end = self.log.log_end_offset();
        self.log.begin_compaction(now(after_ms), end, key_bytes, 7).expect("something to compact")
    }

    fn compact(&mut self, after_ms: i64) {
        self.compact_within(after_ms, KEY_BYTES);
    }

    fn compact_within(&mut self, after_ms: i64, key_bytes: u64) {
        let compaction = self.begin(after_ms, key_bytes);
        self.drive(compaction).expect("nothing is broken");
    }

    fn drive(&mut self, mut compaction: Compaction) -> Result<(), CompactionError> {
        let point =
            |holes_below, first_dirty_offset| CleaningPoint { log_start_offset: 0, first_dirty_offset, holes_below };
        self.log.on_cleaning_point(point(compaction.end_offset(), 0));
        self.bytes_read = 0;
        let mut made: Vec<u8> = Vec::new();
        loop {
            match compaction.next_step() {
                CompactionStep::Read { segment, position, length } => {
                    let file = &self.files[&segment];
                    let end = file.len().min(position as usize + length as usize);
                    self.bytes_read += end - position as usize;
                    compaction.take(&Bytes::copy_from_slice(&file[position as usize..end]));
                }
                CompactionStep::Write { position, bytes, .. } => {
                    assert_eq!(position as usize, made.len());
                    made.extend(bytes.concat());
                }
                CompactionStep::Replace(replacement) => {
                    assert_eq!(replacement.cleaned.size as usize, made.len());
                    replacement.sources.iter().for_each(|source| drop(self.files.remove(source)));
                    self.files.insert(replacement.sources[0], std::mem::take(&mut made));
                    self.log.replace(replacement);
                }
                CompactionStep::Done { first_dirty_offset } => {
                    self.log.on_cleaning_point(point(0, first_dirty_offset));
                    self.check_files();
                    return Ok(());
                }
                CompactionStep::Failed(error) => return Err(error),
            }
        }
    }

    fn batches(&self) -> Vec<(BatchHeader, Vec<Record>)> {
        let mut found = Vec::new();
        for file in self.files.values() {
            for batch in record::batches(file) {
                let (at, header) = batch.expect("whole");
                let bytes = &file[at..at + header.size()];
                assert!(record::check_crc(bytes));
                let records = record::records(bytes, 1 << 20).expect("it opens");
                found.push((header, records.map(|record| record.expect("it reads")).collect()));
            }
        }
        found
    }

    /// (offset, key, value) of all records, the active segment's included.
    fn records(&self) -> Vec<(Offset, String, Option<String>)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        let all = self.batches().into_iter().flat_map(|(_, records)| records);
        all.map(|record| {
            (record.offset, record.key.as_ref().map(text).unwrap_or_default(), record.value.as_ref().map(text))
        })
        .collect()
    }

    fn offsets(&self) -> Vec<Offset> {
        self.records().into_iter().map(|(offset, ..)| offset).collect()
    }

    /// Segments adjoin, each ends with the batch before the next one, and all stands where the log would look for it.
    fn check_files(&self) {
        let bases: Vec<Offset> = self.log.segments().iter().map(|segment| segment.base_offset).collect();
        for (index, base) in bases.iter().enumerate().take(bases.len() - 1) {
            let file = &self.files[base];
            assert_eq!(file.len() as u64, self.log.segments()[index].size);
            let (mut expected, mut last) = (None, None);
            for batch in record::batches(file) {
                let (at, header) = batch.expect("whole");
                assert!(self.log.is_in_place(*base, at as u64, expected, &header), "{header:?} in {base}");
                expected = Some(header.next_offset());
                last = Some(header);
            }
            assert_eq!(last.map(|header| header.next_offset()), Some(bases[index + 1]));
        }
    }
}

fn keyed(mut builder: BatchBuilder, records: &[(&str, Option<&str>)]) -> BatchBuilder {
    for (key, value) in records {
        builder.push(NOW, Some(key.as_bytes()), value.map(str::as_bytes));
    }
    builder
}

#[test]
fn the_last_record_of_each_key_stays_where_it_was() {
    let mut bench = Bench::new(|_| ());
    bench.put(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    bench.put(&[("a", Some("2"))]);
    bench.roll();
    bench.put(&[("b", Some("2")), ("a", Some("3"))]);
    bench.roll();
    bench.put(&[("c", Some("2"))]);
    assert_eq!(bench.dirtiness(0), Dirtiness::Dirty(1.0));
    bench.compact(0);
    let expected = [(2, "c", "1"), (4, "b", "2"), (5, "a", "3"), (6, "c", "2")]
        .map(|(offset, key, value)| (offset, key.to_owned(), Some(value.to_owned())));
    assert_eq!(bench.records(), expected, "the active segment is not looked at");
    assert_eq!(bench.log.segments().len(), 2, "small segments become one");
    assert_eq!(bench.dirtiness(0), Dirtiness::Clean);
}

#[test]
fn batches_longer_than_a_read_and_those_that_reads_cut_anywhere_are_read_once() {
    let mut bench = Bench::new(|_| ());
    for round in ["1", "2"] {
        for i in 0..300 {
            let length = if i % 50 == 0 { READ_BYTES * 3 - 60 + i } else { 900 + i };
            bench.put(&[(&i.to_string(), Some(&round.repeat(length)))]);
        }
    }
    bench.roll();
    let bytes: usize = bench.files.values().map(Vec::len).sum();
    bench.compact(0);
    let records = bench.records();
    assert_eq!(records.len(), 300);
    assert!(
        records
            .iter()
            .all(|(offset, _, value)| *offset >= 300 && value.as_ref().expect("no tombstone").starts_with('2'))
    );
    assert_eq!(bench.bytes_read, 2 * bytes, "once for the keys, once for what stays");
}

#[test]
fn a_tombstone_stays_until_its_horizon_and_hides_its_key_at_once() {
    let mut bench = Bench::new(|config| config.delete_retention_ms = DAY);
    bench.put(&[("a", Some("1")), ("b", Some("1"))]);
    bench.put(&[("a", None), ("c", Some("1"))]);
    bench.roll();
    bench.compact(0);
    assert_eq!(bench.offsets(), [1, 2, 3]);
    let horizons: Vec<_> = bench.batches().iter().map(|(header, _)| header.delete_horizon()).collect();
    assert_eq!(horizons, [None, Some(NOW + DAY)]);
    let again = |bench: &mut Bench, after_ms| {
        bench.put(&[("z", Some("1"))]);
        bench.roll();
        bench.compact(after_ms);
        bench.records().iter().any(|(_, key, _)| key == "a")
    };
    assert!(again(&mut bench, DAY - 1), "a horizon is set once");
    assert!(!again(&mut bench, DAY));
    assert!(bench.records().iter().any(|(_, key, _)| key == "c"));
}

#[test]
fn every_codec_is_kept() {
    let mut bench = Bench::new(|_| ());
    let codecs = [None].into_iter().chain(Compression::ALL.map(Some));
    for codec in codecs.clone() {
        bench.append(keyed(
            BatchBuilder::new().compression(codec),
            &[("same", Some("old")), (codec.map_or("none", Compression::name), Some("1"))],
        ));
    }
    bench.put(&[("same", Some("new"))]);
    bench.roll();
    bench.compact(0);
    let kept: Vec<_> = bench.batches().iter().map(|(header, _)| header.compression()).collect();
    assert_eq!(kept, codecs.chain([None]).collect::<Vec<_>>());
    assert_eq!(bench.offsets(), [1, 3, 5, 7, 9, 10]);
}

#[test]
fn the_last_batch_of_a_producer_stays_if_only_as_a_header() {
    let mut bench = Bench::new(|_| ());
    for (producer, sequence) in [(5, 0), (5, 1), (6, 0)] {
        bench.append(keyed(BatchBuilder::new().producer(producer, 2, sequence), &[("a", Some("1"))]));
    }
    bench.put(&[("a", Some("2"))]);
    bench.roll();
    bench.compact(0);
    let left: Vec<_> = bench
        .batches()
        .iter()
        .map(|(header, records)| (header.producer_id, header.last_sequence(), records.len()))
        .collect();
    assert_eq!(left, [(5, 1, 0), (6, 0, 0), (-1, -1, 1)]);
}

#[test]
fn a_segment_ends_where_the_next_begins_though_all_its_records_are_gone() {
    let mut bench = Bench::new(|config| config.segment_bytes = 1 << 20);
    bench.put(&[("a", Some("1"))]);
    bench.put(&[("a", Some("2"))]);
    bench.roll();
    bench.put(&[("a", Some("3"))]);
    bench.roll();
    bench.compact(0);
    assert_eq!((bench.offsets(), bench.batches().len()), (vec![2], 1));
    // Nothing of the next segment is left either, and the first one is too large to take it in.
    bench.put(&[("big", Some(&"x".repeat(600_000)))]);
    bench.roll();
    bench.put(&[("b", Some(&"x".repeat(600_000)))]);
    bench.put(&[("b", Some("2"))]);
    bench.roll();
    bench.compact(0);
    bench.put(&[("b", Some("3")), ("big", None)]);
    bench.roll();
    bench.compact(0);
    assert_eq!(bench.offsets(), [2, 6, 7]);
}

#[test]
fn what_does_not_fit_into_memory_is_left_for_the_next_time() {
    let mut bench = Bench::new(|_| ());
    for round in 0..3 {
        for key in 0..40 {
            bench.put(&[(&format!("key {key}"), Some(&format!("{round}")))]);
        }
    }
    bench.roll();
    // Room for 30 keys.
    bench.compact_within(0, 40 * 24);
    assert_eq!(bench.offsets().len(), 120);
    assert_eq!(bench.log.cleaning_point().first_dirty_offset, 30);
    bench.compact_within(0, KEY_BYTES);
    assert_eq!(bench.offsets(), (80..120).collect::<Vec<_>>());
    let mut bench = Bench::new(|_| ());
    let keys: Vec<String> = (0..40).map(|key| format!("key {key}")).collect();
    bench.put(&keys.iter().map(|key| (key.as_str(), Some("1"))).collect::<Vec<_>>());
    bench.roll();
    let compaction = bench.begin(0, 40 * 24);
    assert_eq!(bench.drive(compaction), Err(CompactionError::TooManyKeys { segment: 0, position: 0, keys: 40 }));
}

#[test]
fn damage_ends_a_compaction_and_nothing_is_replaced() {
    for (cut, bit) in [(Some(100), None), (None, Some(70 * 8)), (Some(0), None)] {
        let mut bench = Bench::new(|_| ());
        bench.put(&[("a", Some("1"))]);
        bench.put(&[("a", Some("2"))]);
        bench.roll();
        let file = bench.files.get_mut(&0).expect("there");
        file.truncate(cut.unwrap_or(file.len()));
        if let Some(bit) = bit {
            file[bit / 8] ^= 1;
        }
        let compaction = bench.begin(0, KEY_BYTES);
        assert!(bench.drive(compaction).is_err(), "{cut:?} {bit:?}");
        assert_eq!(bench.log.segments().len(), 2);
    }
}

#[test]
fn a_log_is_compacted_when_enough_of_it_is_dirty_or_it_has_waited_too_long() {
    let mut bench = Bench::new(|config| config.min_cleanable_dirty_ratio = 0.5);
    bench.put(&[("a", Some(&"x".repeat(1000)))]);
    assert_eq!(bench.dirtiness(0), Dirtiness::Clean, "the active segment does not count");
    bench.roll();
    bench.compact(0);
    bench.put(&[("b", Some("1"))]);
    bench.roll();
    assert_eq!(bench.dirtiness(0), Dirtiness::Clean);
    let mut config = TopicConfig::clone(bench.log.config());
    config.max_compaction_lag_ms = 1000;
    bench.log.set_config(std::sync::Arc::new(config.clone()));
    assert_eq!(bench.dirtiness(1000), Dirtiness::Clean);
    assert!(matches!(bench.dirtiness(1001), Dirtiness::Dirty(_)));
    config.min_compaction_lag_ms = 500;
    config.min_cleanable_dirty_ratio = 0.0;
    bench.log.set_config(std::sync::Arc::new(config));
    assert_eq!(bench.dirtiness(499), Dirtiness::Clean);
    assert!(matches!(bench.dirtiness(500), Dirtiness::Dirty(_)));
}

#[test]
fn a_segment_that_recovery_looks_for_is_not_touched() {
    let mut bench = Bench::new(|_| ());
    bench.put(&[("a", Some("1"))]);
    bench.log.roll();
    seal_all(&mut bench.log);
    assert_eq!(bench.dirtiness(0), Dirtiness::Unsettled);
    assert!(bench.log.begin_compaction(now(0), 1, KEY_BYTES, 7).is_none());
}

proptest! {
    /// Whatever was produced, in whichever batches, codecs and segments, compacted again and again.
    #[test]
    fn exactly_the_last_record_of_each_key_survives(
        rounds in prop::collection::vec(prop::collection::vec((prop::collection::vec((0u8..12, prop::option::of(0u8..5)), 1..6), 0u8..5, any::<bool>()), 1..12), 1..4),
        segment_bytes in prop_oneof![Just(200), Just(1000), Just(1 << 30)],
        key_bytes in prop_oneof![Just(30 * 24u64), Just(1 << 20)],
    ) {
        let mut bench = Bench::new(|config| {
            config.segment_bytes = segment_bytes;
            config.delete_retention_ms = i64::MAX / 2;
        });
        let mut last: BTreeMap<String, (Offset, Option<String>)> = BTreeMap::new();
        for batches in rounds {
            for (records, codec, rolls) in batches {
                let mut builder = BatchBuilder::new().compression(Compression::from_codec(codec));
                let base = bench.log.log_end_offset();
                for ((key, value), offset) in records.iter().zip(base..) {
                    let (key, value) = (format!("k{key}"), value.map(|value| format!("v{value}")));
                    builder.push(NOW, Some(key.as_bytes()), value.as_ref().map(|value| value.as_bytes()));
                    last.insert(key, (offset, value));
                }
                bench.append(builder);
                if rolls {
                    bench.roll();
                }
            }
            bench.roll();
            while bench.log.cleaning_point().first_dirty_offset < bench.log.log_end_offset() {
                bench.compact_within(0, key_bytes);
            }
            let mut expected: Vec<_> = last.iter().map(|(key, (offset, value))| (*offset, key.clone(), value.clone())).collect();
            expected.sort();
            if key_bytes == 1 << 20 {
                prop_assert_eq!(bench.records(), expected);
            } else {
                // In several passes an old record may outlive the first of them, never the last record.
                let found = bench.records();
                prop_assert!(expected.iter().all(|record| found.contains(record)));
            }
        }
    }

    #[test]
    fn hostile_segments_never_panic(bytes: Vec<u8>, at in 0usize..200, with: u8) {
        let mut bench = Bench::new(|_| ());
        bench.put(&[("a", Some("1"))]);
        bench.put(&[("a", None)]);
        bench.roll();
        let file = bench.files.get_mut(&0).expect("there");
        let mut bent = BytesMut::from(&file[..]);
        let at = at % bent.len();
        bent[at] = with;
        let crc = crc32c::crc32c(&bent[21..bent.len() / 2]);
        bent[17..21].copy_from_slice(&crc.to_be_bytes());
        let garbled = [&bent[..at], &bytes, &bent[at..]].concat();
        *file = if bytes.len().is_multiple_of(2) { bent.to_vec() } else { garbled };
        let compaction = bench.begin(0, KEY_BYTES);
        let _ = bench.drive(compaction);
    }
}
