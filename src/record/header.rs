//! The 61 bytes that open every batch. All fields are big-endian; the CRC covers everything after itself.
//!
//! ```text
//!  0 base_offset 8 batch_length 12 partition_leader_epoch 16 magic 17 crc 21 attributes 23 last_offset_delta
//! 27 base_timestamp 35 max_timestamp 43 producer_id 51 producer_epoch 53 base_sequence 57 record_count 61 records…
//! ```

use super::{BatchError, Compression};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Size of a batch header.
pub const HEADER_BYTES: usize = 61;
/// `batch_length` counts from here: base offset and the length itself stand before it.
pub const LENGTH_PREFIX_BYTES: usize = 12;

pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const CRC_AT: usize = 17;
/// The CRC covers the batch from here to its end.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;

pub(super) const COMPRESSION_MASK: i16 = 0x07;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(super) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;
pub(super) const DELETE_HORIZON_BIT: i16 = 0x40;

/// Whose clock a record's timestamp is: the producer's, or the broker's at append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The header of a record batch, as found: fields are read, not judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes that follow the first 12.
    pub batch_length: i32,
    pub partition_leader_epoch: LeaderEpoch,
    pub magic: i8,
    /// CRC-32C of everything from `attributes` on.
    pub crc: u32,
    pub attributes: i16,
    /// Last offset minus base offset; kept by compaction, so it may exceed `record_count - 1`.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, or the delete horizon if there is one (KIP-534).
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// `None` if fewer than 61 bytes are there.
    pub fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            batch_length: i32::from_be_bytes(field(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT)),
            magic: i8::from_be_bytes(field(bytes, 16)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        })
    }

    /// The 61 bytes of this header.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[LEADER_EPOCH_AT..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        bytes[16..CRC_AT].copy_from_slice(&self.magic.to_be_bytes());
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&self.crc.to_be_bytes());
        bytes[ATTRIBUTES_AT..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..MAX_TIMESTAMP_AT].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[MAX_TIMESTAMP_AT..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// Size of the whole batch in bytes; less than a header if the length field is nonsense.
    pub fn size(&self) -> usize {
        LENGTH_PREFIX_BYTES + usize::try_from(self.batch_length).unwrap_or(0)
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after this batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// Sequence of the last record; after 2^31-1 comes 0. -1 where there is none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        (i64::from(self.base_sequence) + i64::from(self.last_offset_delta)).rem_euclid(1 << 31) as i32
    }

    /// The number in the codec bits, known or not; 0 is uncompressed.
    pub fn codec(&self) -> u8 {
        (self.attributes & COMPRESSION_MASK) as u8
    }

    /// `None` if the records are not compressed, or with a codec Kafka does not define.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_codec(self.codec())
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Holds a transaction marker or other record of the broker's own, not a client's.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// When compaction may drop the tombstones inside (KIP-534). `base_timestamp` has given up its place for it.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("every field lies inside the header")
}

/// Whether the batch's bytes match its CRC. `batch` is one whole batch and nothing else.
pub fn check_crc(batch: &[u8]) -> bool {
    BatchHeader::parse(batch).is_some_and(|header| verify_crc(batch, &header).is_ok())
}

pub(super) fn verify_crc(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let computed = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    if computed == header.crc { Ok(()) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: [u8; HEADER_BYTES]) -> BatchHeader {
        BatchHeader::parse(&bytes).unwrap()
    }

    #[test]
    fn a_header_reads_back_from_its_bytes() {
        let bytes: [u8; HEADER_BYTES] = std::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(11));
        assert_eq!(header(bytes).to_bytes(), bytes);
        assert_eq!(BatchHeader::parse(&bytes[..60]), None);
    }

    #[test]
    fn sequences_wrap_to_zero_after_the_largest() {
        let mut header = header([0; HEADER_BYTES]);
        header.base_sequence = i32::MAX - 1;
        header.last_offset_delta = 3;
        assert_eq!(header.last_sequence(), 1);
        header.last_offset_delta = 1;
        assert_eq!(header.last_sequence(), i32::MAX);
        header.base_sequence = -1;
        assert_eq!(header.last_sequence(), -1);
    }

    #[test]
    fn nonsense_fields_do_not_overflow() {
        let header = header([0xff; HEADER_BYTES]);
        assert_eq!((header.size(), header.last_offset(), header.last_sequence()), (12, -2, -1));
        let mut header = self::header([0x7f; HEADER_BYTES]);
        header.base_offset = i64::MAX;
        assert_eq!((header.size(), header.next_offset()), (12 + 0x7f7f_7f7f, i64::MAX));
    }

    #[test]
    fn the_delete_horizon_stands_in_the_base_timestamp() {
        let mut header = header([0; HEADER_BYTES]);
        header.base_timestamp = 77;
        assert_eq!(header.delete_horizon(), None);
        header.attributes = 0x40;
        assert_eq!(header.delete_horizon(), Some(77));
    }
}
