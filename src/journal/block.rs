//! The bytes of one commit. Written by the reactor through `JournalBlock::encode_into`, read again by recovery alone.
//!
//! ```text
//! header 64 B | table: 40 B per batch | the batches, back to back | zeros to the next 4 KiB
//! ```
//! The block's checksum covers header and table. Each batch carries its own, and the table pins it together with the few
//! header fields outside of it, so nothing is summed a second time on the way to the disk.

use bytes::{Buf, BufMut, Bytes};

use super::{BLOCK_ALIGNMENT_BYTES, CommitId, JournalEntry, Run};
use crate::record::RecordBatch;
use crate::types::{LeaderEpoch, Offset, PartitionId, ShardId, Uuid};

const MAGIC: u32 = u32::from_be_bytes(*b"GnJl");
const VERSION: u8 = 1;
const BLOCK_HEADER_BYTES: usize = 64;
const TABLE_ENTRY_BYTES: usize = 40;
/// Magic and checksum themselves lie outside the checksum.
const CHECKED_FROM: usize = 8;

/// Bytes of a block before padding.
pub(super) fn block_bytes(entries: u64, payload_bytes: u64) -> u64 {
    BLOCK_HEADER_BYTES as u64 + entries * TABLE_ENTRY_BYTES as u64 + payload_bytes
}

/// All that one turn appended, to be written in one piece, durably, at `position` of the shard's file number `file`.
#[derive(Clone, Debug)]
pub struct JournalBlock {
    pub file: u16,
    /// A multiple of 4 KiB.
    pub position: u64,
    pub(super) header: Header,
    pub(super) entries: Vec<JournalEntry>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub run: Run,
    pub shard: ShardId,
    pub commits_in_flight_max: u8,
    pub generation: u64,
    /// The first commit of this file in this generation.
    pub file_commit: CommitId,
    pub commit: CommitId,
    pub entries: u32,
    pub payload_bytes: u64,
}

impl JournalBlock {
    /// Bytes to write, padding included: a multiple of 4 KiB.
    pub fn length(&self) -> usize {
        self.header.padded_bytes() as usize
    }

    /// Bytes of the batches alone; the rest of `length` is header, table and padding.
    pub fn payload_bytes(&self) -> u64 {
        self.header.payload_bytes
    }

    pub fn entries(&self) -> &[JournalEntry] {
        &self.entries
    }

    /// Fills the whole of `buffer`, whose length is `length()`: the one copy between socket and disk.
    pub fn encode_into(&self, buffer: &mut [u8]) {
        assert!(buffer.len() == self.length());
        let (head, mut rest) = buffer.split_at_mut(self.header.head_bytes() as usize);
        self.header.encode(head);
        let mut table = &mut head[BLOCK_HEADER_BYTES..];
        for entry in &self.entries {
            TableEntry::of(entry).encode(&mut table);
            rest.put_slice(entry.batch.bytes());
        }
        assert!(table.is_empty());
        rest.fill(0);
        let crc = crc32c::crc32c(&head[CHECKED_FROM..]);
        head[4..8].copy_from_slice(&crc.to_be_bytes());
    }
}

impl Header {
    fn head_bytes(&self) -> u64 {
        block_bytes(u64::from(self.entries), 0)
    }

    pub fn padded_bytes(&self) -> u64 {
        (self.head_bytes() + self.payload_bytes).next_multiple_of(BLOCK_ALIGNMENT_BYTES)
    }

    fn encode(&self, mut target: &mut [u8]) {
        target.put_u32(MAGIC);
        target.put_u32(0);
        target.put_u8(VERSION);
        target.put_u8(self.commits_in_flight_max);
        target.put_u16(self.shard.0);
        target.put_u32(self.entries);
        target.put_u64(self.run.salt);
        target.put_u64(self.run.first_generation);
        target.put_u64(self.generation);
        target.put_u64(self.file_commit.0);
        target.put_u64(self.commit.0);
        target.put_u64(self.payload_bytes);
    }

    /// The header at the start of `bytes`, if header and table are whole. The batches are not looked at.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let (header, crc) = Header::parse_unchecked(bytes)?;
        let checked = bytes.get(CHECKED_FROM..usize::try_from(header.head_bytes()).ok()?)?;
        (crc32c::crc32c(checked) == crc).then_some(header)
    }

    /// The same where records may lie as well: nothing is summed unless it bears the run's salt, so that bytes of clients
    /// can neither pass for a block nor cost a pass over the file each.
    pub fn parse_in_run(bytes: &[u8], run: Run) -> Option<Header> {
        Header::parse_unchecked(bytes).filter(|(header, _)| header.run == run).and_then(|_| Header::parse(bytes))
    }

    fn parse_unchecked(bytes: &[u8]) -> Option<(Header, u32)> {
        let mut head = bytes.get(..BLOCK_HEADER_BYTES)?;
        let (magic, crc) = (head.get_u32(), head.get_u32());
        if magic != MAGIC || head.get_u8() != VERSION {
            return None;
        }
        let commits_in_flight_max = head.get_u8();
        let shard = ShardId(head.get_u16());
        let entries = head.get_u32();
        let salt = head.get_u64();
        let run = Run { first_generation: head.get_u64(), salt };
        let generation = head.get_u64();
        let (file_commit, commit) = (CommitId(head.get_u64()), CommitId(head.get_u64()));
        let payload_bytes = head.get_u64();
        let header =
            Header { run, shard, commits_in_flight_max, generation, file_commit, commit, entries, payload_bytes };
        Some((header, crc))
    }

    /// The version of a block that another version of this program wrote.
    pub fn foreign_version(bytes: &[u8]) -> Option<u8> {
        let mut head = bytes.get(..BLOCK_HEADER_BYTES)?;
        let magic = head.get_u32();
        head.advance(4);
        let version = head.get_u8();
        (magic == MAGIC && version != VERSION).then_some(version)
    }
}

/// The entries of the block at the start of `bytes`, as slices of it, if every batch is what the table says.
pub(super) fn parse_entries(bytes: &Bytes, header: &Header) -> Option<Vec<JournalEntry>> {
    let payload_from = header.head_bytes() as usize;
    let payload_upto = payload_from.checked_add(usize::try_from(header.payload_bytes).ok()?)?;
    let mut table = bytes.get(BLOCK_HEADER_BYTES..payload_from)?;
    let mut payload = (payload_upto <= bytes.len()).then(|| bytes.slice(payload_from..payload_upto))?;
    let mut entries = Vec::with_capacity(header.entries as usize);
    while !table.is_empty() {
        let pinned = TableEntry::decode(&mut table);
        if pinned.length as usize > payload.len() {
            return None;
        }
        let batch = RecordBatch::parse(payload.split_to(pinned.length as usize)).ok()?;
        let entry = JournalEntry { partition: pinned.partition, batch };
        // The batch's own checksum begins behind the fields that the broker stamps: the table answers for those.
        if TableEntry::of(&entry) != pinned {
            return None;
        }
        entries.push(entry);
    }
    payload.is_empty().then_some(entries)
}

#[derive(PartialEq, Eq)]
struct TableEntry {
    partition: PartitionId,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    /// Of the whole batch.
    length: u32,
    crc: u32,
}

impl TableEntry {
    fn of(entry: &JournalEntry) -> TableEntry {
        let header = entry.batch.header();
        TableEntry {
            partition: entry.partition,
            base_offset: header.base_offset,
            leader_epoch: header.partition_leader_epoch,
            length: u32::try_from(entry.batch.size()).expect("append bounds a batch by the file"),
            crc: header.crc,
        }
    }

    fn encode(&self, target: &mut &mut [u8]) {
        target.put_slice(&self.partition.topic.0);
        target.put_i32(self.partition.index);
        target.put_i64(self.base_offset);
        target.put_i32(self.leader_epoch);
        target.put_u32(self.length);
        target.put_u32(self.crc);
    }

    fn decode(table: &mut &[u8]) -> TableEntry {
        let mut topic = Uuid::ZERO;
        table.copy_to_slice(&mut topic.0);
        TableEntry {
            partition: PartitionId { topic, index: table.get_i32() },
            base_offset: table.get_i64(),
            leader_epoch: table.get_i32(),
            length: table.get_u32(),
            crc: table.get_u32(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::{HEADER_BYTES, LENGTH_PREFIX_BYTES};
    use bytes::BytesMut;

    /// A batch of `payload_bytes` of filler behind its header, which differ from batch to batch.
    pub fn batch(base_offset: Offset, payload_bytes: usize) -> RecordBatch {
        let mut bytes = BytesMut::zeroed(HEADER_BYTES + payload_bytes);
        let length = (bytes.len() - LENGTH_PREFIX_BYTES) as i32;
        for (i, byte) in bytes[21..].iter_mut().enumerate() {
            *byte = (i as u64 * 31 + base_offset as u64 * 7) as u8;
        }
        let crc = crc32c::crc32c(&bytes[21..]);
        let mut head = &mut bytes[..];
        head.put_i64(base_offset);
        head.put_i32(length);
        head.put_i32(5);
        head.put_u8(2);
        head.put_u32(crc);
        RecordBatch::parse(bytes.freeze()).expect("whole")
    }

    pub fn entry(partition: i32, base_offset: Offset, payload_bytes: usize) -> JournalEntry {
        let topic = Uuid::from_random(0xfeed);
        JournalEntry { partition: PartitionId { topic, index: partition }, batch: batch(base_offset, payload_bytes) }
    }

    fn block(entries: Vec<JournalEntry>) -> JournalBlock {
        let header = Header {
            run: Run { first_generation: 7, salt: 0x5a17 },
            shard: ShardId(3),
            commits_in_flight_max: 2,
            generation: 9,
            file_commit: CommitId(40),
            commit: CommitId(41),
            entries: entries.len() as u32,
            payload_bytes: entries.iter().map(|entry| entry.batch.size() as u64).sum(),
        };
        JournalBlock { file: 1, position: 8192, header, entries }
    }

    fn encoded(block: &JournalBlock) -> BytesMut {
        let mut buffer = BytesMut::from_iter(std::iter::repeat_n(0xee, block.length()));
        block.encode_into(&mut buffer);
        buffer
    }

    #[test]
    fn a_block_reads_back_as_it_was_written_and_ends_in_zeros() {
        let block = block(vec![entry(0, 17, 100), entry(1, 0, 0), entry(0, 18, 5000)]);
        let bytes = encoded(&block).freeze();
        assert_eq!(bytes.len(), 8192);
        let header = Header::parse(&bytes).expect("whole");
        assert_eq!(header, block.header);
        assert_eq!(parse_entries(&bytes, &header).expect("whole"), block.entries);
        let used = block_bytes(3, block.payload_bytes()) as usize;
        assert!(bytes[used..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_flipped_bit_of_a_block_is_noticed() {
        let block = block(vec![entry(0, 17, 30), entry(1, 0, 9)]);
        let bytes = encoded(&block);
        for bit in 0..block_bytes(2, block.payload_bytes()) as usize * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let damaged = damaged.freeze();
            let read = Header::parse(&damaged).and_then(|header| parse_entries(&damaged, &header));
            assert_eq!(read, None, "bit {bit}");
        }
    }

    #[test]
    fn a_header_that_promises_more_than_there_is_is_refused() {
        let mut promising = block(vec![entry(0, 17, 30)]);
        let bytes = encoded(&promising).freeze();
        assert_eq!(Header::parse(&bytes[..100]), None, "the table is cut");
        let header = Header::parse(&bytes).expect("whole");
        assert_eq!(parse_entries(&bytes.slice(..150), &header), None, "the batch is cut");
        promising.header.payload_bytes = u64::MAX;
        assert_eq!(parse_entries(&bytes, &promising.header), None);
    }

    #[test]
    fn a_block_of_another_version_is_told_apart_from_damage() {
        let mut bytes = encoded(&block(vec![entry(0, 17, 30)]));
        assert_eq!(Header::foreign_version(&bytes), None);
        bytes[8] = 9;
        assert_eq!(Header::foreign_version(&bytes), Some(9));
        assert_eq!(Header::parse(&bytes), None);
    }
}
