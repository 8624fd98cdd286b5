//! Checkpoint tables: up to where the partitions of one shard are in their segments. Each shard replaces the file of its
//! own table after its segments are synced; the file of `START_TABLES` holds those of all shards at the start of the run,
//! replaced in one go, so that a crash finds either the former run in force or this one. Recovery reads all of them.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{CommitId, Run};
use crate::types::{Map, Offset, PartitionId, ShardId, Uuid};

const MAGIC: u32 = u32::from_be_bytes(*b"GnCp");
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 53;
const CHECKED_FROM: usize = 8;
const PARTITION_BYTES: usize = 48;

/// Name of the file in which the tables of all shards begin a run, beside the shards' own.
pub const START_TABLES: &str = "checkpoint-start";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub shard: ShardId,
    /// How many shards this run has.
    pub shards: u16,
    pub run: Run,
    /// `Journal::next_generation` when the table was written, the run's first in `START_TABLES`: the newest table that
    /// names a partition counts.
    pub generation: u64,
    /// The commits of this run below are in the segments.
    pub next_commit: CommitId,
    pub partitions: Vec<PartitionCheckpoint>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionCheckpoint {
    pub partition: PartitionId,
    /// The segment that was being written.
    pub segment_base_offset: Offset,
    /// Bytes of it that are synced.
    pub segment_position: u64,
    /// The offset after the last record below `segment_position`.
    pub written_offset: Offset,
    /// The log's own encoding of what else it must know at this offset; opaque here.
    pub state: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointError {
    /// Not a checkpoint table, cut short, or its checksum does not match.
    Damaged,
    /// Written by another version of this program.
    Version(u8),
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::Damaged => write!(
                f,
                "the checkpoint table is damaged: it is always replaced whole, so its disk gave back other bytes than \
                 were written. Move it away and start again: the partitions are then read from their segments in full"
            ),
            CheckpointError::Version(version) => write!(
                f,
                "the checkpoint table has format {version}, which this version does not read. Start the version that \
                 wrote it, or move the table away: the partitions are then read from their segments in full"
            ),
        }
    }
}

impl std::error::Error for CheckpointError {}

impl Checkpoint {
    /// The whole content of the shard's file.
    pub fn encode(&self) -> Bytes {
        let states: usize = self.partitions.iter().map(|partition| partition.state.len()).sum();
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + PARTITION_BYTES * self.partitions.len() + states);
        bytes.put_u32(MAGIC);
        bytes.put_u32(0);
        bytes.put_u8(VERSION);
        bytes.put_u32(0);
        bytes.put_u16(self.shard.0);
        bytes.put_u16(self.shards);
        bytes.put_u64(self.run.first_generation);
        bytes.put_u64(self.run.salt);
        bytes.put_u64(self.generation);
        bytes.put_u64(self.next_commit.0);
        assert!(bytes.len() == HEADER_BYTES - 4);
        bytes.put_u32(u32::try_from(self.partitions.len()).expect("a shard's partitions are bounded by config"));
        for partition in &self.partitions {
            partition.encode(&mut bytes);
        }
        let length = u32::try_from(bytes.len()).expect("a shard's partitions are bounded by config");
        bytes[9..13].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }

    /// The table at the start of `bytes`, which are left behind it.
    fn decode(bytes: &mut &[u8]) -> Result<Checkpoint, CheckpointError> {
        let mut head = bytes.get(..HEADER_BYTES).ok_or(CheckpointError::Damaged)?;
        let (magic, crc, version) = (head.get_u32(), head.get_u32(), head.get_u8());
        if magic != MAGIC {
            return Err(CheckpointError::Damaged);
        }
        if version != VERSION {
            return Err(CheckpointError::Version(version));
        }
        let length = head.get_u32() as usize;
        let table = bytes.split_off(..length).filter(|table| table.len() >= HEADER_BYTES);
        let table = table.ok_or(CheckpointError::Damaged)?;
        if crc32c::crc32c(&table[CHECKED_FROM..]) != crc {
            return Err(CheckpointError::Damaged);
        }
        let (shard, shards) = (ShardId(head.get_u16()), head.get_u16());
        let run = Run { first_generation: head.get_u64(), salt: head.get_u64() };
        let (generation, next_commit) = (head.get_u64(), CommitId(head.get_u64()));
        let count = head.get_u32() as usize;
        let mut rest = &table[HEADER_BYTES..];
        if count > rest.len() / PARTITION_BYTES {
            return Err(CheckpointError::Damaged);
        }
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(PartitionCheckpoint::decode(&mut rest).ok_or(CheckpointError::Damaged)?);
        }
        match rest {
            [] => Ok(Checkpoint { shard, shards, run, generation, next_commit, partitions }),
            _ => Err(CheckpointError::Damaged),
        }
    }
}

impl PartitionCheckpoint {
    pub fn encode(&self, bytes: &mut BytesMut) {
        bytes.put_slice(&self.partition.topic.0);
        bytes.put_i32(self.partition.index);
        bytes.put_i64(self.segment_base_offset);
        bytes.put_u64(self.segment_position);
        bytes.put_i64(self.written_offset);
        bytes.put_u32(u32::try_from(self.state.len()).expect("a log's state is small"));
        bytes.put_slice(&self.state);
    }

    /// The one at the start of `bytes`, which are left behind it.
    pub fn decode(bytes: &mut &[u8]) -> Option<PartitionCheckpoint> {
        let mut fixed = bytes.split_off(..PARTITION_BYTES)?;
        let mut topic = Uuid::ZERO;
        fixed.copy_to_slice(&mut topic.0);
        let partition = PartitionId { topic, index: fixed.get_i32() };
        let (segment_base_offset, segment_position) = (fixed.get_i64(), fixed.get_u64());
        let (written_offset, state_bytes) = (fixed.get_i64(), fixed.get_u32() as usize);
        let state = Bytes::copy_from_slice(bytes.split_off(..state_bytes)?);
        Some(PartitionCheckpoint { partition, segment_base_offset, segment_position, written_offset, state })
    }
}

/// The whole content of the file of `START_TABLES`.
pub fn encode_tables(tables: &[Checkpoint]) -> Bytes {
    tables.iter().flat_map(|table| table.encode()).collect()
}

/// The tables of one file, be it a shard's own or that of `START_TABLES`.
pub fn decode_tables(mut bytes: &[u8]) -> Result<Vec<Checkpoint>, CheckpointError> {
    let mut tables = vec![Checkpoint::decode(&mut bytes)?];
    while !bytes.is_empty() {
        tables.push(Checkpoint::decode(&mut bytes)?);
    }
    Ok(tables)
}

/// What is known of each partition, where several tables may name it: that of the run's start beside that
/// of its shard, and after a change of the number of shards, a table of
/// its former owner may still lie beside that of the present one.
pub fn merge(mut checkpoints: Vec<Checkpoint>) -> Map<PartitionId, PartitionCheckpoint> {
    checkpoints.sort_by_key(|table| table.generation);
    let partitions = checkpoints.into_iter().flat_map(|table| table.partitions);
    partitions.map(|partition| (partition.partition, partition)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(shard: u16, generation: u64, written_offset: Offset) -> Checkpoint {
        let partition = |index| PartitionCheckpoint {
            partition: PartitionId { topic: Uuid::from_random(0xabc), index },
            segment_base_offset: 100,
            segment_position: 4096,
            written_offset,
            state: Bytes::from(vec![7; index as usize * 3]),
        };
        Checkpoint {
            shard: ShardId(shard),
            shards: 2,
            run: Run { first_generation: 4, salt: 0x5a17 },
            generation,
            next_commit: CommitId(12),
            partitions: (0..3).map(partition).collect(),
        }
    }

    #[test]
    fn tables_read_back_as_they_were_written() {
        let tables = vec![checkpoint(0, 6, 120), checkpoint(1, 6, 300)];
        assert_eq!(decode_tables(&tables[0].encode()), Ok(tables[..1].to_vec()));
        assert_eq!(decode_tables(&encode_tables(&tables)), Ok(tables));
    }

    #[test]
    fn a_damaged_table_is_refused_whatever_the_damage() {
        let bytes = encode_tables(&[checkpoint(1, 6, 120)]);
        for length in 0..bytes.len() {
            assert_eq!(decode_tables(&bytes[..length]), Err(CheckpointError::Damaged), "cut at {length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_tables(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_table_with_a_good_checksum_and_false_counts_is_refused() {
        let mut bytes = checkpoint(1, 6, 120).encode().to_vec();
        for (position, value) in [
            (9, 0),
            (9, 60),
            (9, u32::MAX),
            (HEADER_BYTES - 4, u32::MAX),
            (HEADER_BYTES - 4, 2),
            (HEADER_BYTES + 44, u32::MAX),
        ] {
            let mut damaged = bytes.clone();
            damaged[position..position + 4].copy_from_slice(&value.to_be_bytes());
            let crc = crc32c::crc32c(&damaged[CHECKED_FROM..]);
            damaged[4..8].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(decode_tables(&damaged), Err(CheckpointError::Damaged));
        }
        bytes[8] = 200;
        assert_eq!(decode_tables(&bytes), Err(CheckpointError::Version(200)));
    }

    #[test]
    fn the_newest_table_that_names_a_partition_counts() {
        let merged = merge(vec![checkpoint(1, 9, 300), checkpoint(0, 6, 120)]);
        assert_eq!(merged.len(), 3);
        assert!(merged.values().all(|partition| partition.written_offset == 300));
    }
}
