//! What cleaning has decided and a restart must not take back: where logs start, and up to where they are compacted. Each
//! shard replaces the file of its own table as a whole; recovery merges all it finds, since every field only rises.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::types::{Map, Offset, PartitionId, Uuid};

const MAGIC: u32 = u32::from_be_bytes(*b"GnCl");
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 13;
const CHECKED_FROM: usize = 8;
const POINT_BYTES: usize = 44;

/// Name of the table that a run starts with, beside the shards' own.
pub const START_CLEANING: &str = "cleaning-start";

/// How far one log is cleaned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CleaningPoint {
    /// Readers below are out of range; segments below may be gone.
    pub log_start_offset: Offset,
    /// Compaction has seen everything below.
    pub first_dirty_offset: Offset,
    /// Below, offsets may be missing from the segments. Written before the first of them goes, so it may be ahead.
    pub holes_below: Offset,
}

impl CleaningPoint {
    /// Both are true, so what is further counts.
    pub fn merge(&mut self, other: CleaningPoint) {
        self.log_start_offset = self.log_start_offset.max(other.log_start_offset);
        self.first_dirty_offset = self.first_dirty_offset.max(other.first_dirty_offset);
        self.holes_below = self.holes_below.max(other.holes_below);
    }
}

/// Why a table cannot be used; a start ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CleaningTableError {
    /// Not a table, cut short, or its checksum does not match.
    Damaged,
    /// Written by another version of this program.
    Version(u8),
}

impl fmt::Display for CleaningTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CleaningTableError::Damaged => write!(
                f,
                "the table of cleaning is damaged: it is always replaced whole, so its disk gave back other bytes than \
                 were written. Move it away and start again: deleted records that still lie in a segment may come back, \
                 and compacted topics are read as damaged where records are missing"
            ),
            CleaningTableError::Version(version) => write!(
                f,
                "the table of cleaning has format {version}, which this version does not read. Start the version that \
                 wrote it"
            ),
        }
    }
}

impl std::error::Error for CleaningTableError {}

/// The whole content of a table's file.
pub fn encode_cleaning(points: &[(PartitionId, CleaningPoint)]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + POINT_BYTES * points.len());
    bytes.put_u32(MAGIC);
    bytes.put_u32(0);
    bytes.put_u8(VERSION);
    bytes.put_u32(u32::try_from(points.len()).expect("partitions are bounded by config"));
    for (id, point) in points {
        bytes.put_slice(&id.topic.0);
        bytes.put_i32(id.index);
        bytes.put_i64(point.log_start_offset);
        bytes.put_i64(point.first_dirty_offset);
        bytes.put_i64(point.holes_below);
    }
    let crc = crc32c::crc32c(&bytes[CHECKED_FROM..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// Reads one table into what is known already.
pub fn decode_cleaning(
    mut bytes: &[u8],
    known: &mut Map<PartitionId, CleaningPoint>,
) -> Result<(), CleaningTableError> {
    let checked = bytes.get(CHECKED_FROM..).ok_or(CleaningTableError::Damaged)?;
    let computed = crc32c::crc32c(checked);
    if bytes.len() < HEADER_BYTES || bytes.get_u32() != MAGIC {
        return Err(CleaningTableError::Damaged);
    }
    let (crc, version) = (bytes.get_u32(), bytes.get_u8());
    if version != VERSION {
        return Err(CleaningTableError::Version(version));
    }
    let count = bytes.get_u32() as usize;
    if crc != computed || !bytes.len().is_multiple_of(POINT_BYTES) || bytes.len() / POINT_BYTES != count {
        return Err(CleaningTableError::Damaged);
    }
    for _ in 0..count {
        let mut topic = Uuid::ZERO;
        bytes.copy_to_slice(&mut topic.0);
        let id = PartitionId { topic, index: bytes.get_i32() };
        let (log_start_offset, first_dirty_offset) = (bytes.get_i64(), bytes.get_i64());
        let point = CleaningPoint { log_start_offset, first_dirty_offset, holes_below: bytes.get_i64() };
        known.entry(id).or_default().merge(point);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: i32) -> PartitionId {
        PartitionId { topic: Uuid::from_random(0xabc), index }
    }

    fn point(log_start_offset: Offset, first_dirty_offset: Offset, holes_below: Offset) -> CleaningPoint {
        CleaningPoint { log_start_offset, first_dirty_offset, holes_below }
    }

    #[test]
    fn of_several_tables_the_furthest_of_each_field_counts() {
        let mut known = Map::default();
        decode_cleaning(&encode_cleaning(&[(id(0), point(5, 9, 9)), (id(1), point(1, 0, 0))]), &mut known).unwrap();
        decode_cleaning(&encode_cleaning(&[(id(0), point(7, 3, 12))]), &mut known).unwrap();
        assert_eq!(known[&id(0)], point(7, 9, 12));
        assert_eq!(known[&id(1)], point(1, 0, 0));
    }

    #[test]
    fn a_damaged_table_is_refused_whatever_the_damage() {
        let bytes = encode_cleaning(&[(id(0), point(5, 9, 9)), (id(1), point(1, 0, 0))]);
        let mut known = Map::default();
        for length in 0..bytes.len() {
            assert!(decode_cleaning(&bytes[..length], &mut known).is_err(), "cut at {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_cleaning(&damaged, &mut known).is_err(), "bit {bit}");
        }
        assert!(known.is_empty());
    }
}
