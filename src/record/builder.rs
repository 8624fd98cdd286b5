//! Builds batches: for the metadata log, for `gannet produce`, for recompression, and for tests and benches.

use bytes::Bytes;

use super::header::{
    ATTRIBUTES_AT, BatchHeader, CONTROL_BIT, CRC_AT, HEADER_BYTES, LENGTH_PREFIX_BYTES, TRANSACTIONAL_BIT,
};
use super::{Compression, varint};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Collects records and encodes them as one batch. Offsets follow one another from `base_offset`, which is 0 as in a
/// producer's batch unless set.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Option<Compression>,
    compression_level: Option<i32>,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    pub fn new() -> BatchBuilder {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        BatchBuilder { header, compression: None, compression_level: None, bytes: vec![0; HEADER_BYTES] }
    }

    /// The same with room for a batch of so many bytes, so that it need not grow.
    pub fn with_capacity(bytes: usize) -> BatchBuilder {
        let mut builder = BatchBuilder::new();
        builder.bytes.reserve_exact(bytes.saturating_sub(HEADER_BYTES));
        builder
    }

    pub fn base_offset(mut self, base_offset: Offset) -> BatchBuilder {
        self.header.base_offset = base_offset;
        self
    }

    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> BatchBuilder {
        self.header.partition_leader_epoch = leader_epoch;
        self
    }

    /// An idempotent producer's identity and the sequence of the first record (KIP-98).
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> BatchBuilder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    pub fn transactional(mut self) -> BatchBuilder {
        self.header.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Marks the batch as the broker's own; its records have Kafka's control schema.
    pub fn control(mut self) -> BatchBuilder {
        self.header.attributes |= CONTROL_BIT;
        self
    }

    pub fn compression(mut self, compression: Option<Compression>) -> BatchBuilder {
        self.compression = compression;
        self
    }

    /// The codec's own level, its default if `None`.
    pub fn compression_level(mut self, level: Option<i32>) -> BatchBuilder {
        self.compression_level = level;
        self
    }

    pub fn push(&mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp, key, value, &[]);
    }

    pub fn push_with_headers(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        if self.header.record_count == 0 {
            self.header.base_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        let offset_delta = i64::from(self.header.record_count);
        let of_headers: usize =
            headers.iter().map(|(key, value)| nullable_size(Some(key)) + nullable_size(*value)).sum();
        let length = 1
            + varint::size(timestamp_delta)
            + varint::size(offset_delta)
            + nullable_size(key)
            + nullable_size(value)
            + varint::size(headers.len() as i64)
            + of_headers;
        let bytes = &mut self.bytes;
        bytes.reserve(length + varint::size(length as i64));
        varint::put(bytes, length as i64);
        let start = bytes.len();
        bytes.push(0);
        varint::put(bytes, timestamp_delta);
        varint::put(bytes, offset_delta);
        put_nullable(bytes, key);
        put_nullable(bytes, value);
        varint::put(bytes, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(bytes, Some(key));
            put_nullable(bytes, *value);
        }
        assert!(bytes.len() == start + length, "a record is as long as it says");
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        self.header.last_offset_delta = self.header.record_count;
        self.header.record_count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Size of the batch so far in bytes, before compression.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The batch. At least one record must have been pushed, and the whole stay below 2 GiB.
    pub fn build(mut self) -> Bytes {
        assert!(!self.is_empty(), "a batch holds at least one record");
        if let Some(compression) = self.compression {
            self.header.attributes |= compression as i16;
            let body = compression.compress(&self.bytes[HEADER_BYTES..], self.compression_level);
            self.bytes.truncate(HEADER_BYTES);
            self.bytes.extend_from_slice(&body);
        }
        let mut bytes = self.bytes;
        let length = bytes.len() - LENGTH_PREFIX_BYTES;
        self.header.batch_length = length.try_into().expect("a batch is smaller than 2 GiB");
        bytes[..HEADER_BYTES].copy_from_slice(&self.header.to_bytes());
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        bytes.shrink_to_fit();
        bytes.into()
    }
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varint::size(-1), |bytes| varint::size(bytes.len() as i64) + bytes.len())
}

pub(super) fn put_nullable(target: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(target, bytes.len() as i64);
            target.extend_from_slice(bytes);
        }
        None => varint::put(target, -1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Record, RecordBatch, RecordHeader};
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    fn build(records: &[Record], compression: Option<Compression>) -> RecordBatch {
        let mut builder = BatchBuilder::new().base_offset(40).producer(9, 3, 70).compression(compression);
        for record in records {
            let headers: Vec<_> = record.headers.iter().map(|h| (&h.key[..], h.value.as_deref())).collect();
            builder.push_with_headers(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        RecordBatch::parse(builder.build()).unwrap()
    }

    fn arbitrary_records() -> impl Strategy<Value = Vec<Record>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let nullable = move || proptest::option::of(bytes());
        let header = ("[a-z]{0,3}", nullable()).prop_map(|(key, value)| RecordHeader { key: key.into(), value });
        let headers = proptest::collection::vec(header, 0..4);
        let record = (0..1i64 << 41, nullable(), nullable(), headers)
            .prop_map(|(timestamp, key, value, headers)| Record { offset: 0, timestamp, key, value, headers });
        proptest::collection::vec(record, 1..30).prop_map(|mut records| {
            for (i, record) in records.iter_mut().enumerate() {
                record.offset = 40 + i as i64;
            }
            records
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn records_read_back_equal_through_every_codec(records in arbitrary_records()) {
            for compression in [None].into_iter().chain(Compression::ALL.map(Some)) {
                let batch = build(&records, compression);
                let header = batch.header();
                prop_assert_eq!(header.compression(), compression);
                prop_assert_eq!(header.record_count as usize, records.len());
                prop_assert_eq!(header.next_offset(), 40 + records.len() as i64);
                prop_assert_eq!(header.max_timestamp, records.iter().map(|r| r.timestamp).max().unwrap());
                let read: Vec<Record> = batch.records(1 << 20).unwrap().collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(&read, &records);
            }
        }

        #[test]
        fn another_decoder_reads_the_same_records(records in arbitrary_records()) {
            let batch = build(&records, None);
            let read = RecordBatchDecoder::decode(&mut batch.bytes().clone()).unwrap().records;
            prop_assert_eq!(read.len(), records.len());
            for (theirs, ours) in read.iter().zip(&records) {
                prop_assert_eq!(theirs.offset, ours.offset);
                prop_assert_eq!(theirs.timestamp, ours.timestamp);
                prop_assert_eq!(&theirs.key, &ours.key);
                prop_assert_eq!(&theirs.value, &ours.value);
                prop_assert_eq!((theirs.producer_id, theirs.producer_epoch), (9, 3));
            }
        }
    }
}
