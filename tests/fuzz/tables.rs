//! The targets of the tables beside the logs: how far the journals are written back, how far logs are cleaned, what a log
//! remembers, a segment's index files. Their checksum is made right first, so that damage reaches what lies behind it.

use bytes::Bytes;
use gannet::journal::{Checkpoint, CommitId, PartitionCheckpoint, Run, decode_tables};
use gannet::log::{CleaningPoint, LogState, Producers, Segment, decode_cleaning, encode_cleaning};
use gannet::record::{BatchBuilder, BatchHeader};
use gannet::types::{Map, PartitionId, ShardId, Uuid};

use crate::allocation::peak_bytes_of;
use crate::targets::Seed;

const PEAK_PER_INPUT_BYTE: usize = 64;
const PEAK_BYTES: usize = 4096;

#[track_caller]
fn assert_bounded<T>(input: &[u8], decode: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_bytes_of(decode);
    let limit = PEAK_PER_INPUT_BYTE * input.len() + PEAK_BYTES;
    assert!(peak <= limit, "{peak} bytes held for an input of {}: {input:02x?}", input.len());
    result
}

/// Both tables have theirs behind the magic number, over all that follows.
fn with_checksum(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    if data.len() > 8 {
        let crc = crc32c::crc32c(&data[8..]);
        data[4..8].copy_from_slice(&crc.to_be_bytes());
    }
    data
}

pub fn checkpoint_table(data: &[u8]) -> bool {
    let data = with_checksum(data);
    let Ok(tables) = assert_bounded(&data, || decode_tables(&data)) else { return false };
    let written: Vec<u8> = tables.iter().flat_map(|table| table.encode()).collect();
    assert_eq!(written, data, "a table has one form");
    true
}

pub fn checkpoint_table_seeds() -> Vec<Seed> {
    let partition = |index, state: &'static [u8]| PartitionCheckpoint {
        partition: PartitionId { topic: Uuid([7; 16]), index },
        segment_base_offset: 100,
        segment_position: 4096,
        written_offset: 120,
        state: Bytes::from_static(state),
    };
    let table = |partitions| Checkpoint {
        shard: ShardId(1),
        shards: 2,
        run: Run { first_generation: 4, salt: 0x5a17 },
        generation: 6,
        next_commit: CommitId(12),
        partitions,
    };
    let full = table(vec![partition(0, b""), partition(1, b"state")]);
    [("empty", table(vec![])), ("full", full)]
        .map(|(name, table)| Seed { name: name.to_owned(), input: table.encode().to_vec() })
        .into()
}

pub fn cleaning_table(data: &[u8]) -> bool {
    let data = with_checksum(data);
    let mut known = Map::default();
    let outcome = assert_bounded(&data, || decode_cleaning(&data, &mut known));
    assert!(outcome.is_ok() || known.is_empty(), "nothing is taken from a table that is refused");
    outcome.is_ok()
}

pub fn cleaning_table_seeds() -> Vec<Seed> {
    let point = |index| {
        let id = PartitionId { topic: Uuid([7; 16]), index };
        (id, CleaningPoint { log_start_offset: 5, first_dirty_offset: 9, holes_below: 12 })
    };
    [("empty", vec![]), ("two", vec![point(0), point(1)])]
        .map(|(name, points)| Seed { name: name.to_owned(), input: encode_cleaning(&points).to_vec() })
        .into()
}

pub fn log_state(data: &[u8]) -> bool {
    let Some(state) = assert_bounded(data, || LogState::decode(data)) else { return false };
    assert_eq!(LogState::decode(&state.encode()), Some(state));
    true
}

pub fn log_state_seeds() -> Vec<Seed> {
    let mut builder = BatchBuilder::new().producer(7, 1, 0);
    builder.push(5, Some(b"k"), Some(b"v"));
    let header = BatchHeader::parse(&builder.build()).expect("built whole");
    let mut producers = Producers::default();
    producers.on_append(&header, 77);
    let mut full = LogState { log_start_offset: 3, log_end_offset: 105, producers, ..LogState::default() };
    full.epochs.on_append(0, 0);
    full.epochs.on_append(4, 17);
    [("empty", LogState::default()), ("full", full)]
        .map(|(name, state)| Seed { name: name.to_owned(), input: state.encode().to_vec() })
        .into()
}

/// The length of the offset index as a byte, then both index files.
pub fn segment_index(data: &[u8]) -> bool {
    let Some((length, rest)) = data.split_first() else { return false };
    let Some((offsets, times)) = rest.split_at_checked(usize::from(*length)) else { return false };
    let mut segment = Segment::sealed(1000, 100_000);
    let is_whole = assert_bounded(data, || segment.load_index(offsets, times));
    for offset in [0, 999, 1000, 1500, i64::MAX / 2] {
        assert!(segment.lookup(offset).is_none_or(|position| u64::from(position) < segment.size));
        let _ = segment.lookup_time(offset);
    }
    is_whole
}

pub fn segment_index_seeds() -> Vec<Seed> {
    let mut segment = Segment::begin(1000);
    for index in 0..20 {
        let mut builder = BatchBuilder::new().base_offset(1000 + index);
        builder.push(5000 + index, None, Some(&[0; 100]));
        segment.append(&BatchHeader::parse(&builder.build()).expect("built whole"), 1000);
    }
    let (offsets, times) = segment.index_files();
    vec![Seed { name: "some".to_owned(), input: [&[offsets.len() as u8][..], &offsets, &times].concat() }]
}
