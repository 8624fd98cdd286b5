//! One segment of a log: a base offset, a size, and two sparse indexes in Kafka's own entries.
//! It knows positions, never files: who holds the log names the file and reads or writes it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::record::BatchHeader;
use crate::types::{Offset, Timestamp};

/// Position of a batch in its segment. Kafka's index entries hold 32 bits of it.
pub type Position = u32;

/// Kafka's limit for `segment.bytes`, which keeps every position in an `i32`.
pub const SEGMENT_BYTES_LIMIT: u64 = i32::MAX as u64;

const OFFSET_ENTRY_BYTES: u64 = 8;
const TIME_ENTRY_BYTES: u64 = 12;

#[derive(Debug)]
pub struct Segment {
    pub base_offset: Offset,
    /// Bytes appended so far, whether or not they have reached the file.
    pub size: u64,
    /// Timestamp of the first record since the segment was begun; `segment.ms` counts from it.
    pub first_timestamp: Option<Timestamp>,
    /// (largest timestamp, last offset of its batch) of the batches indexed so far.
    pub largest: Option<(Timestamp, Offset)>,
    pub index: Index,
    pub life: Life,
    /// Wall clock when this process first appended to it or looked at its age.
    begun_ms: Option<Timestamp>,
    /// Its records cannot be read to find the largest timestamp.
    unreadable: bool,
    last_offset: Option<Offset>,
}

/// How far a segment has come; the order is the order of its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Life {
    /// The last one: appends go here.
    Active,
    /// Rolled, but its bytes or its index files are not all on disk.
    Sealing,
    /// Complete on disk: exact length, both index files.
    Sealed,
}

/// The sparse maps of a segment, as far as they are in memory.
#[derive(Debug, Default)]
pub struct Index {
    /// (last offset − base offset, position) of about every `index.interval.bytes`-th batch, rising.
    offsets: Vec<(u32, Position)>,
    /// (largest timestamp so far, last offset of its batch − base offset), both rising.
    times: Vec<(Timestamp, u32)>,
    /// The bytes below are covered. Behind a restart the rest is found by reading on from here.
    covered: u64,
    /// Size of the segment that its index files describe.
    on_disk: u64,
    bytes_since_entry: u64,
    /// False for a sealed segment whose index files have not been read.
    pub loaded: bool,
}

impl Segment {
    pub fn begin(base_offset: Offset) -> Segment {
        let index = Index { loaded: true, ..Index::default() };
        Segment {
            base_offset,
            size: 0,
            first_timestamp: None,
            largest: None,
            index,
            life: Life::Active,
            begun_ms: None,
            unreadable: false,
            last_offset: None,
        }
    }

    /// A sealed segment found on disk.
    pub fn sealed(base_offset: Offset, size: u64) -> Segment {
        let index = Index { on_disk: size, ..Index::default() };
        Segment { size, life: Life::Sealed, index, ..Segment::begin(base_offset) }
    }

    /// The active segment found on disk. Its index files describe its first `indexed_size` bytes; 0 if it has none, and
    /// what it holds is indexed when it is read.
    pub fn resumed(base_offset: Offset, size: u64, indexed_size: u64, first_timestamp: Option<Timestamp>) -> Segment {
        let index = Index { on_disk: indexed_size, loaded: indexed_size == 0, ..Index::default() };
        let begun_ms = first_timestamp.filter(|&timestamp| timestamp >= 0);
        Segment { size, first_timestamp, index, begun_ms, ..Segment::begin(base_offset) }
    }

    /// Accounts for a stamped batch at the end; returns its position.
    pub fn append(&mut self, header: &BatchHeader, interval_bytes: u64) -> Position {
        let position = Position::try_from(self.size).expect("a segment is rolled before its positions overflow");
        self.size += header.size() as u64;
        self.first_timestamp.get_or_insert(header.max_timestamp);
        self.last_offset = Some(header.last_offset());
        self.index_batch(header, u64::from(position), interval_bytes);
        position
    }

    /// Notes a batch whose position is known: appended just now, or met while reading on from `indexed_to`.
    pub fn index_batch(&mut self, header: &BatchHeader, position: u64, interval_bytes: u64) {
        let index = &mut self.index;
        if position != index.covered {
            return;
        }
        if position == 0 {
            self.first_timestamp.get_or_insert(header.max_timestamp);
        }
        let relative = u32::try_from(header.last_offset() - self.base_offset).expect("rolled before offsets overflow");
        if self.largest.is_none_or(|(largest, _)| header.max_timestamp > largest) {
            self.largest = Some((header.max_timestamp, header.last_offset()));
        }
        if index.bytes_since_entry > interval_bytes {
            index.offsets.push((relative, position as Position));
            index.note_time(self.base_offset, self.largest);
            index.bytes_since_entry = 0;
        }
        index.bytes_since_entry += header.size() as u64;
        index.covered += header.size() as u64;
    }

    /// The position up to which batches are indexed; reading on from there completes the index.
    pub fn indexed_to(&self) -> u64 {
        self.index.covered
    }

    /// Some number below `limit` that is this segment's own: from its first offset and its first timestamp, which no two
    /// partitions are likely to share.
    pub fn chance(&self, limit: i64) -> i64 {
        assert!(limit > 0);
        let seed = (self.base_offset as u64) ^ (self.first_timestamp.unwrap_or(0) as u64).rotate_left(32);
        // The finalizer of SplitMix64: nearby seeds give numbers far apart.
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as i64
    }

    /// One of its index files would not take another entry; as in Kafka the last one of the time index is kept back for the
    /// segment's end.
    pub fn has_full_index(&self, index_bytes: u64) -> bool {
        let (offsets, times) = (self.index.offsets.len() as u64, self.index.times.len() as u64);
        offsets >= index_bytes / OFFSET_ENTRY_BYTES || times + 1 >= index_bytes / TIME_ENTRY_BYTES
    }

    pub fn is_indexed(&self) -> bool {
        self.index.loaded && self.index.covered >= self.size
    }

    /// Where to start looking for `offset`: at a batch that is not behind it. None where the index has to be read first.
    pub fn lookup(&self, offset: Offset) -> Option<Position> {
        if !self.index.loaded {
            return None;
        }
        let relative = u32::try_from(offset - self.base_offset).unwrap_or(u32::MAX);
        let after = self.index.offsets.partition_point(|&(last, _)| last <= relative);
        Some(after.checked_sub(1).map_or(0, |i| self.index.offsets[i].1))
    }

    /// The last offset of the batch at this position, if the index has it.
    pub fn last_offset_at(&self, position: u64) -> Option<Offset> {
        let found = self.index.offsets.binary_search_by_key(&position, |&(_, position)| u64::from(position)).ok()?;
        Some(self.base_offset + Offset::from(self.index.offsets[found].0))
    }

    /// Where to start looking for the first record with a timestamp ≥ `timestamp`.
    pub fn lookup_time(&self, timestamp: Timestamp) -> Option<Position> {
        if !self.index.loaded {
            return None;
        }
        let after = self.index.times.partition_point(|&(time, _)| time < timestamp);
        match after.checked_sub(1) {
            None => Some(0),
            Some(i) => self.lookup(self.base_offset + Offset::from(self.index.times[i].1)),
        }
    }

    /// `largest` speaks for the whole segment: its index is, or once was, complete in memory.
    pub fn is_largest_known(&self) -> bool {
        self.is_indexed() || (self.life == Life::Sealed && self.largest.is_some())
    }

    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Of what was appended since this segment was begun here.
    pub fn last_offset(&self) -> Option<Offset> {
        self.last_offset
    }

    /// When this segment began, as far as this process knows.
    pub fn begun_ms(&mut self, now_ms: Timestamp) -> Timestamp {
        *self.begun_ms.get_or_insert(now_ms)
    }

    /// From when on the segment ages: its largest record timestamp. Records without one, and those that cannot be read, age
    /// from when they were first looked at. None where the index has to be read first.
    pub fn age_from(&mut self, now_ms: Timestamp) -> Option<Timestamp> {
        match self.largest.filter(|&(timestamp, _)| timestamp >= 0 && self.is_largest_known()) {
            Some((timestamp, _)) => Some(timestamp),
            None if self.unreadable || self.is_largest_known() => Some(self.begun_ms(now_ms)),
            None => None,
        }
    }

    /// The segment cannot be read to its end.
    pub fn give_up_age(&mut self) {
        self.unreadable = true;
    }

    /// Content of the `.index` and `.timeindex` files: 8-byte and 12-byte entries, big-endian.
    pub fn index_files(&mut self) -> (Bytes, Bytes) {
        assert!(self.is_indexed(), "only a whole index is written");
        self.index.note_time(self.base_offset, self.largest);
        let mut offsets = BytesMut::with_capacity(8 * self.index.offsets.len());
        for &(relative, position) in &self.index.offsets {
            offsets.put_u32(relative);
            offsets.put_u32(position);
        }
        let mut times = BytesMut::with_capacity(12 * self.index.times.len());
        for &(timestamp, relative) in &self.index.times {
            times.put_i64(timestamp);
            times.put_u32(relative);
        }
        (offsets.freeze(), times.freeze())
    }

    /// Takes the content of the index files; false when they do not fit this segment and have to be made anew.
    pub fn load_index(&mut self, offsets: &[u8], times: &[u8]) -> bool {
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("4 bytes"));
        let read: Vec<_> = offsets.chunks_exact(8).map(|entry| (word(&entry[..4]), word(&entry[4..]))).collect();
        let rising = read.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        let size = self.index.on_disk;
        let inside = read.last().is_none_or(|&(_, position)| u64::from(position) < size);
        let times: Vec<_> = times
            .chunks_exact(12)
            .map(|entry| (i64::from_be_bytes(entry[..8].try_into().expect("8 bytes")), word(&entry[8..])))
            .collect();
        let times_rising = times.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let whole =
            rising && inside && times_rising && offsets.len().is_multiple_of(8) && (size == 0 || !times.is_empty());
        self.index = Index { loaded: true, on_disk: size, ..Index::default() };
        if whole {
            // The first entry is of the first few kilobytes: as good as the first batch.
            self.first_timestamp = self.first_timestamp.or(times.first().map(|&(time, _)| time));
            self.largest = times.last().map(|&(time, relative)| (time, self.base_offset + Offset::from(relative)));
            self.index.offsets = read;
            self.index.times = times;
            self.index.covered = size;
        }
        whole
    }

    /// Gives back the memory of a sealed segment's index; it is read again when needed.
    pub fn unload_index(&mut self) {
        assert!(self.life == Life::Sealed);
        self.index = Index { on_disk: self.size, ..Index::default() };
    }

    pub fn index_bytes(&self) -> usize {
        self.index.offsets.capacity() * 8 + self.index.times.capacity() * 16
    }
}

impl Index {
    fn note_time(&mut self, base_offset: Offset, largest: Option<(Timestamp, Offset)>) {
        if let Some((timestamp, offset)) = largest
            && self.times.last().is_none_or(|&(last, _)| timestamp > last)
        {
            self.times.push((timestamp, (offset - base_offset) as u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(offset: Offset, count: i32, timestamp: Timestamp) -> BatchHeader {
        let mut builder = crate::record::BatchBuilder::new().base_offset(offset);
        for _ in 0..count {
            builder.push(timestamp, None, Some(&[0; 100]));
        }
        BatchHeader::parse(&builder.build()).expect("built whole")
    }

    fn filled(batches: i64) -> Segment {
        let mut segment = Segment::begin(1000);
        for i in 0..batches {
            segment.append(&header(1000 + 2 * i, 2, 5000 + i), 1000);
        }
        segment
    }

    #[test]
    fn a_lookup_never_starts_behind_the_offset() {
        let segment = filled(100);
        let batch_bytes = segment.size / 100;
        for offset in 1000..1200 {
            let position = u64::from(segment.lookup(offset).expect("loaded"));
            let found = 1000 + 2 * (position / batch_bytes) as i64;
            assert!(found <= offset && offset - found <= 2 * (1000 / batch_bytes as i64 + 3), "{offset} {found}");
        }
        assert_eq!(segment.lookup_time(0), Some(0));
        let position = u64::from(segment.lookup_time(5050).expect("loaded"));
        assert!(position <= 50 * batch_bytes && position > 0);
    }

    #[test]
    fn index_files_read_back_and_a_foreign_one_is_refused() {
        let mut segment = filled(100);
        let (offsets, times) = segment.index_files();
        let mut again = Segment::sealed(1000, segment.size);
        assert_eq!(again.lookup(1000), None);
        assert!(again.load_index(&offsets, &times));
        for offset in [1000, 1077, 1199] {
            assert_eq!(again.lookup(offset), segment.lookup(offset));
        }
        assert_eq!(again.largest, Some((5099, 1199)));
        again.unload_index();
        assert!(again.is_largest_known());
        let mut smaller = Segment::sealed(1000, 500);
        assert!(!smaller.load_index(&offsets, &times));
        assert_eq!((smaller.indexed_to(), smaller.is_indexed()), (0, false));
    }

    #[test]
    fn an_index_made_by_reading_equals_the_one_made_by_appending() {
        let mut appended = filled(50);
        let mut read = Segment::resumed(1000, appended.size, 0, None);
        let mut position = 0;
        for i in 0..50 {
            let header = header(1000 + 2 * i, 2, 5000 + i);
            read.index_batch(&header, position, 1000);
            position += header.size() as u64;
        }
        assert_eq!(read.index_files(), appended.index_files());
    }
}
