//! What is kept of partitions whose log directory is offline, beside the journals, until a start finds the directory again:
//! where their recovery resumes, how far they are cleaned, and the batches that their segments may lack.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::journal::PartitionCheckpoint;
use crate::log::CleaningPoint;
use crate::record::{self, RecordBatch};
use crate::types::{PartitionId, Uuid};

const MAGIC: u32 = u32::from_be_bytes(*b"GnKp");
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 13;
const CHECKED_FROM: usize = 8;
/// A file holds several partitions up to about this size, so that many idle ones cost one flush.
const FILE_BYTES: usize = 32 << 20;

/// Of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub id: PartitionId,
    /// `None` if no table ever named it.
    pub checkpoint: Option<PartitionCheckpoint>,
    pub cleaning: CleaningPoint,
    /// In the order of their append, those already in the segments perhaps included.
    pub batches: Vec<RecordBatch>,
}

/// Why such a file cannot be used; a start ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptError {
    /// Not such a file, cut short, or its checksum does not match.
    Damaged,
    /// Written by another version of this program.
    Version(u8),
}

impl fmt::Display for KeptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptError::Damaged => write!(
                f,
                "what was kept of an offline log directory's partitions is damaged: the file is always replaced whole, \
                 so its disk gave back other bytes than were written. Restore it from a copy, or move it away and start \
                 again: those partitions then end where their segments end"
            ),
            KeptError::Version(version) => write!(
                f,
                "what was kept of an offline log directory's partitions has format {version}, which this version does \
                 not read. Start the version that wrote it"
            ),
        }
    }
}

impl Kept {
    pub fn batch_bytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::size).sum()
    }

    /// So many of the first ones belong into one file.
    pub fn count_for_one_file<'a>(all: impl Iterator<Item = &'a Kept>) -> usize {
        let mut bytes = 0;
        let fits = all.take_while(|kept| {
            let before = bytes;
            bytes += kept.batch_bytes();
            before == 0 || bytes <= FILE_BYTES
        });
        fits.count()
    }

    /// The whole content of a file.
    pub fn encode_all(all: &[Kept]) -> Bytes {
        let batch_bytes: usize = all.iter().map(Kept::batch_bytes).sum();
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + 256 * all.len() + batch_bytes);
        bytes.put_u32(MAGIC);
        bytes.put_u32(0);
        bytes.put_u8(VERSION);
        bytes.put_u32(u32::try_from(all.len()).expect("partitions are bounded by config"));
        for kept in all {
            kept.encode(&mut bytes);
        }
        let crc = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }

    fn encode(&self, bytes: &mut BytesMut) {
        bytes.put_slice(&self.id.topic.0);
        bytes.put_i32(self.id.index);
        bytes.put_u8(u8::from(self.checkpoint.is_some()));
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.encode(bytes);
        }
        bytes.put_i64(self.cleaning.log_start_offset);
        bytes.put_i64(self.cleaning.first_dirty_offset);
        bytes.put_i64(self.cleaning.holes_below);
        bytes.put_u64(self.batch_bytes() as u64);
        for batch in &self.batches {
            bytes.put_slice(batch.bytes());
        }
    }

    /// All of a file; the batches share its memory.
    pub fn decode_all(file: &Bytes) -> Result<Vec<Kept>, KeptError> {
        let mut head = file.get(..HEADER_BYTES).ok_or(KeptError::Damaged)?;
        let (magic, crc, version) = (head.get_u32(), head.get_u32(), head.get_u8());
        if magic != MAGIC {
            return Err(KeptError::Damaged);
        }
        if version != VERSION {
            return Err(KeptError::Version(version));
        }
        if crc32c::crc32c(&file[CHECKED_FROM..]) != crc {
            return Err(KeptError::Damaged);
        }
        let (count, mut rest, mut all) = (head.get_u32(), &file[HEADER_BYTES..], Vec::new());
        for _ in 0..count {
            all.push(Kept::decode(file, &mut rest).ok_or(KeptError::Damaged)?);
        }
        if rest.is_empty() { Ok(all) } else { Err(KeptError::Damaged) }
    }

    fn decode(file: &Bytes, rest: &mut &[u8]) -> Option<Kept> {
        let mut topic = Uuid::ZERO;
        rest.try_copy_to_slice(&mut topic.0).ok()?;
        let id = PartitionId { topic, index: rest.try_get_i32().ok()? };
        let checkpoint = match rest.try_get_u8().ok()? {
            0 => None,
            1 => Some(PartitionCheckpoint::decode(rest).filter(|checkpoint| checkpoint.partition == id)?),
            _ => return None,
        };
        let cleaning = CleaningPoint {
            log_start_offset: rest.try_get_i64().ok()?,
            first_dirty_offset: rest.try_get_i64().ok()?,
            holes_below: rest.try_get_i64().ok()?,
        };
        let length = usize::try_from(rest.try_get_u64().ok()?).ok()?;
        let content = file.slice_ref(rest.split_off(..length)?);
        let mut batches = Vec::new();
        for batch in record::batches(&content) {
            let (at, header) = batch.ok()?;
            batches.push(RecordBatch::parse(content.slice(at..at + header.size())).ok()?);
        }
        (batches.iter().map(RecordBatch::size).sum::<usize>() == length).then_some(Kept {
            id,
            checkpoint,
            cleaning,
            batches,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchBuilder;

    fn kept(index: i32) -> Kept {
        let id = PartitionId { topic: Uuid::from_random(5), index };
        let checkpoint = PartitionCheckpoint {
            partition: id,
            segment_base_offset: 4,
            segment_position: 99,
            written_offset: 7,
            state: Bytes::from_static(b"state"),
        };
        let batch = |value: &[u8]| {
            let mut builder = BatchBuilder::new();
            builder.push(1, None, Some(value));
            RecordBatch::parse(builder.build()).expect("built here")
        };
        Kept {
            id,
            checkpoint: (index > 0).then_some(checkpoint),
            cleaning: CleaningPoint { log_start_offset: 1, first_dirty_offset: 2, holes_below: 3 },
            batches: (0..index).map(|_| batch(b"value")).collect(),
        }
    }

    #[test]
    fn a_file_reads_back_as_it_was_written() {
        let all: Vec<_> = (0..3).map(kept).collect();
        assert_eq!(Kept::decode_all(&Kept::encode_all(&all)), Ok(all));
        assert_eq!(Kept::decode_all(&Kept::encode_all(&[])), Ok(Vec::new()));
    }

    #[test]
    fn a_damaged_file_is_refused_whatever_the_damage() {
        let bytes = Kept::encode_all(&[kept(0), kept(1)]);
        for length in 0..bytes.len() {
            assert_eq!(Kept::decode_all(&bytes.slice(..length)), Err(KeptError::Damaged), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            let found = Kept::decode_all(&damaged.clone().into());
            assert!(found.is_err(), "byte {at}");
            // The same with a checksum that fits: whatever it says, it is read within its bounds.
            let crc = crc32c::crc32c(&damaged[CHECKED_FROM..]);
            damaged[4..8].copy_from_slice(&crc.to_be_bytes());
            let _ = Kept::decode_all(&damaged.into());
        }
    }

    #[test]
    fn idle_partitions_share_a_file_and_a_large_one_has_its_own() {
        let mut all: Vec<_> = (0..100).map(|_| kept(1)).collect();
        assert_eq!(Kept::count_for_one_file(all.iter()), 100);
        let mut builder = BatchBuilder::new();
        builder.push(1, None, Some(&vec![0; FILE_BYTES]));
        all[1].batches = vec![RecordBatch::parse(builder.build()).expect("built here")];
        assert_eq!(Kept::count_for_one_file(all.iter()), 1);
        assert_eq!(Kept::count_for_one_file(all[1..].iter()), 1);
    }
}
