//! A batch on its way in: everything a broker checks of what a client sent, and the two stamps that make it part of a log.

use std::borrow::Cow;
use std::fmt;

use bytes::BytesMut;

use super::header::{ATTRIBUTES_AT, CRC_AT, LEADER_EPOCH_AT, LOG_APPEND_TIME_BIT, MAX_TIMESTAMP_AT};
use super::header::{TimestampType, verify_crc};
use super::{BatchBuilder, BatchError, BatchHeader, Compression, RecordBatch, records, whole};
use crate::config::{CompressionType, MessageTimestampType, TopicConfig};
use crate::error_code::ErrorCode;
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// What a produced batch may grow to where its records must be opened: for a required key or another codec.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// What a topic demands of the batches produced to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceRules {
    /// `max.message.bytes`: of the whole batch, as it is stored.
    pub max_message_bytes: usize,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.type` is LogAppendTime: the batch gets the broker's time.
    pub log_append_time: bool,
    /// The request is of a version that knows zstd: Produce 7 and later.
    pub zstd_allowed: bool,
    /// The topic is compacted: a record without a key has no meaning in it.
    pub key_required: bool,
    /// `compression.type`
    pub stored_as: StoredAs,
}

/// The rules of a topic with no settings of its own, under the defaults.
impl Default for ProduceRules {
    fn default() -> ProduceRules {
        ProduceRules::of(&TopicConfig::default(), true)
    }
}

impl ProduceRules {
    /// The rules of a topic with these settings, for a request that knows zstd or does not.
    pub fn of(topic: &TopicConfig, zstd_allowed: bool) -> ProduceRules {
        let compressed = |compression, level| StoredAs::Compressed { compression, level };
        ProduceRules {
            max_message_bytes: usize::try_from(topic.max_message_bytes).expect("the range of the key begins at 0"),
            timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
            timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
            log_append_time: topic.message_timestamp_type == MessageTimestampType::LogAppendTime,
            zstd_allowed,
            key_required: topic.cleanup_policy.compact,
            stored_as: match topic.compression_type {
                CompressionType::Producer => StoredAs::Produced,
                CompressionType::Uncompressed => StoredAs::Uncompressed,
                CompressionType::Gzip => compressed(Compression::Gzip, Some(topic.compression_gzip_level)),
                CompressionType::Snappy => compressed(Compression::Snappy, None),
                CompressionType::Lz4 => compressed(Compression::Lz4, None),
                CompressionType::Zstd => compressed(Compression::Zstd, Some(topic.compression_zstd_level)),
            },
        }
    }
}

/// How batches are kept, whatever the producer chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredAs {
    Produced,
    Uncompressed,
    Compressed { compression: Compression, level: Option<i32> },
}

/// Why a batch was refused, in the words of a produce response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub error_code: ErrorCode,
    pub message: String,
    /// Index of the offending record in the batch, where it is one record's fault (KIP-467).
    pub record_index: Option<i32>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn reject<T>(error_code: ErrorCode, message: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection { error_code, message: message.into(), record_index: None })
}

fn reject_broken<T>(error: BatchError) -> Result<T, Rejection> {
    let (error_code, record_index) = match &error {
        BatchError::Magic(_) | BatchError::Trailing { .. } => (ErrorCode::InvalidRecord, None),
        BatchError::Record { index, .. } => (ErrorCode::InvalidRecord, Some(*index)),
        BatchError::UnknownCompression(_) => (ErrorCode::UnsupportedCompressionType, None),
        BatchError::TooLarge { .. } => (ErrorCode::MessageTooLarge, None),
        _ => (ErrorCode::CorruptMessage, None),
    };
    Err(Rejection { error_code, message: error.to_string(), record_index })
}

/// A batch as a producer sent it, checked, alone in its buffer, not yet part of a log.
#[derive(Debug)]
pub struct ProducedBatch {
    bytes: BytesMut,
    header: BatchHeader,
}

impl ProducedBatch {
    /// Everything Kafka's broker checks of a client's batch, in its order; on success the batch is as it will be
    /// stored but for `stamp`. `bytes` are the records of one partition of a request. Reads every byte once, for the
    /// CRC; opens the records only for `key_required` or another codec, so timestamps are judged by the header.
    pub fn check(bytes: BytesMut, rules: &ProduceRules, now_ms: Timestamp) -> Result<ProducedBatch, Rejection> {
        let header = match whole(&bytes) {
            Ok(header) => header,
            Err(error) => return reject_broken(error),
        };
        check_frame(&header, bytes.len(), rules)?;
        if let Err(error) = verify_crc(&bytes, &header) {
            return reject_broken(error);
        }
        check_fields(&header)?;
        check_timestamps(&header, rules, now_ms)?;
        let mut batch = ProducedBatch { bytes, header };
        if rules.key_required {
            batch.check_keys()?;
        }
        let (compression, level) = match rules.stored_as {
            StoredAs::Produced => (header.compression(), None),
            StoredAs::Uncompressed => (None, None),
            StoredAs::Compressed { compression, level } => (Some(compression), level),
        };
        if compression != header.compression() {
            batch = batch.recompressed(compression, level)?;
            check_size(batch.bytes.len(), rules)?;
        }
        if rules.log_append_time {
            batch.stamp_log_append_time(now_ms);
        }
        Ok(batch)
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Size in bytes, as it will be stored.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Gives the batch its place in the log. In place: both fields lie outside the CRC.
    pub fn stamp(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> RecordBatch {
        assert!(base_offset >= 0);
        self.bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        self.bytes[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&leader_epoch.to_be_bytes());
        RecordBatch(self.bytes.freeze())
    }

    fn body(&self) -> Result<Cow<'_, [u8]>, Rejection> {
        records::body(&self.bytes, &self.header, DECOMPRESSED_BYTES_MAX).or_else(reject_broken)
    }

    fn check_keys(&self) -> Result<(), Rejection> {
        let body = self.body()?;
        for (index, record) in records::views(&self.header, &body).enumerate() {
            if record.or_else(reject_broken)?.key.is_none() {
                return Err(Rejection {
                    error_code: ErrorCode::InvalidRecord,
                    message: "Compacted topic cannot accept message without key".into(),
                    record_index: Some(index as i32),
                });
            }
        }
        Ok(())
    }

    fn recompressed(self, compression: Option<Compression>, level: Option<i32>) -> Result<ProducedBatch, Rejection> {
        let header = self.header;
        let mut builder = BatchBuilder::new()
            .producer(header.producer_id, header.producer_epoch, header.base_sequence)
            .compression(compression)
            .compression_level(level);
        if header.is_transactional() {
            builder = builder.transactional();
        }
        let body = self.body()?;
        for record in records::views(&header, &body) {
            let record = record.or_else(reject_broken)?;
            builder.push_with_headers(record.timestamp, record.key, record.value, &record.headers);
        }
        let bytes = BytesMut::from(builder.build());
        let header = BatchHeader::parse(&bytes).expect("a built batch holds a header");
        Ok(ProducedBatch { bytes, header })
    }

    /// The broker's time for the producer's. The CRC is computed anew: combining it with the records' own by
    /// `crc32c_combine` costs about 100 µs, which at 20 GB/s is the time of 2 MiB and more than most batches hold.
    fn stamp_log_append_time(&mut self, now_ms: Timestamp) {
        self.header.attributes |= LOG_APPEND_TIME_BIT;
        self.header.max_timestamp = now_ms;
        self.bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&self.header.attributes.to_be_bytes());
        self.bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
        self.header.crc = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&self.header.crc.to_be_bytes());
    }
}

/// What is judged before the CRC is computed: one batch, of a known codec, within the size limit.
fn check_frame(header: &BatchHeader, buffer_bytes: usize, rules: &ProduceRules) -> Result<(), Rejection> {
    if header.size() != buffer_bytes {
        return reject_broken(BatchError::Trailing { size: header.size(), found: buffer_bytes });
    }
    match header.compression() {
        None if header.codec() != 0 => return reject_broken(BatchError::UnknownCompression(header.codec())),
        Some(Compression::Zstd) if !rules.zstd_allowed => {
            return reject(ErrorCode::UnsupportedCompressionType, "zstd needs Produce version 7 or later");
        }
        _ => {}
    }
    if header.base_offset != 0 {
        return reject(
            ErrorCode::InvalidRecord,
            format!("the base offset of a produced batch must be 0, it is {}", header.base_offset),
        );
    }
    check_size(header.size(), rules)
}

fn check_size(size: usize, rules: &ProduceRules) -> Result<(), Rejection> {
    if size > rules.max_message_bytes {
        return reject(
            ErrorCode::MessageTooLarge,
            format!("the batch is {size} bytes, max.message.bytes of the topic is {}", rules.max_message_bytes),
        );
    }
    Ok(())
}

fn check_fields(header: &BatchHeader) -> Result<(), Rejection> {
    let invalid = |message: String| reject(ErrorCode::InvalidRecord, message);
    if header.record_count <= 0 {
        return invalid(format!("a produced batch holds records, this one counts {}", header.record_count));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return invalid(format!(
            "the batch spans offsets 0 to {} but counts {} records",
            header.last_offset_delta, header.record_count
        ));
    }
    if header.is_control() {
        return invalid("clients are not allowed to write control records".into());
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return invalid(format!("sequence {} of producer id {} is negative", header.base_sequence, header.producer_id));
    }
    if header.is_transactional() && !header.has_producer_id() {
        return invalid("a transactional batch needs a producer id".into());
    }
    if header.delete_horizon().is_some() {
        return invalid("a delete horizon is the broker's to set".into());
    }
    Ok(())
}

/// Kafka reads every record's timestamp; first and largest of a batch stand in its header.
fn check_timestamps(header: &BatchHeader, rules: &ProduceRules, now_ms: Timestamp) -> Result<(), Rejection> {
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return reject(ErrorCode::InvalidTimestamp, "producers must not set the timestamp type to LogAppendTime");
    }
    if rules.log_append_time {
        return Ok(());
    }
    let oldest = now_ms.saturating_sub(rules.timestamp_before_max_ms);
    let newest = now_ms.saturating_add(rules.timestamp_after_max_ms);
    for timestamp in [header.base_timestamp, header.max_timestamp] {
        if timestamp != -1 && !(oldest..=newest).contains(&timestamp) {
            return reject(
                ErrorCode::InvalidTimestamp,
                format!("timestamp {timestamp} is out of range, it should be within [{oldest}, {newest}]"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::HEADER_BYTES;
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn rules() -> ProduceRules {
        ProduceRules::default()
    }

    fn filled(mut builder: BatchBuilder) -> BytesMut {
        builder.push(NOW, Some(b"key"), Some(b"value"));
        builder.push_with_headers(NOW + 1, Some(b"key 2"), None, &[(b"h", None), (b"h", Some(b"2"))]);
        builder.build().into()
    }

    /// Changes bytes of a good batch and makes its CRC good again.
    fn bent(at: usize, with: &[u8]) -> BytesMut {
        let mut bytes = filled(BatchBuilder::new().producer(1, 0, 0));
        bytes[at..at + with.len()].copy_from_slice(with);
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn refused(bytes: BytesMut, rules: &ProduceRules) -> ErrorCode {
        ProducedBatch::check(bytes, rules, NOW).expect_err("the batch breaks a rule").error_code
    }

    #[test]
    fn a_stamp_leaves_the_crc_good() {
        let batch = ProducedBatch::check(filled(BatchBuilder::new()), &rules(), NOW).unwrap().stamp(1 << 40, 7);
        assert_eq!(RecordBatch::parse(batch.bytes().clone()), Ok(batch.clone()));
        let header = batch.header();
        assert_eq!((header.base_offset, header.partition_leader_epoch), (1 << 40, 7));
        assert_eq!(header.last_offset(), (1 << 40) + 1);
    }

    #[test]
    fn each_broken_rule_has_kafkas_error() {
        use ErrorCode::*;
        let rules = rules();
        let cases = [
            ("magic 1", bent(16, &[1]), InvalidRecord),
            ("base offset 1", bent(7, &[1]), InvalidRecord),
            ("length of less than a header", bent(8, &48i32.to_be_bytes()), CorruptMessage),
            ("negative length", bent(8, &(-1i32).to_be_bytes()), CorruptMessage),
            ("codec 5", bent(22, &[5]), UnsupportedCompressionType),
            ("log append time", bent(22, &[8]), InvalidTimestamp),
            ("control", bent(22, &[0x20]), InvalidRecord),
            ("delete horizon", bent(22, &[0x40]), InvalidRecord),
            ("one offset more than records", bent(23, &2i32.to_be_bytes()), InvalidRecord),
            ("no records", bent(57, &0i32.to_be_bytes()), InvalidRecord),
            ("largest count", bent(57, &i32::MAX.to_be_bytes()), InvalidRecord),
            ("negative count", bent(57, &(-1i32).to_be_bytes()), InvalidRecord),
            ("far future", bent(35, &(NOW + 3_600_001).to_be_bytes()), InvalidTimestamp),
            ("no sequence", bent(53, &(-1i32).to_be_bytes()), InvalidRecord),
            ("transactional without producer", filled(BatchBuilder::new().transactional()), InvalidRecord),
            ("nothing at all", BytesMut::new(), CorruptMessage),
        ];
        for (name, bytes, error_code) in cases {
            assert_eq!(refused(bytes, &rules), error_code, "{name}");
        }
        let good = filled(BatchBuilder::new());
        let twice = BytesMut::from(&[&good[..], &good[..]].concat()[..]);
        assert_eq!(refused(twice, &rules), InvalidRecord);
    }

    #[test]
    fn the_limits_are_the_topics() {
        let good = filled(BatchBuilder::new());
        let size = good.len();
        assert!(ProducedBatch::check(good.clone(), &ProduceRules { max_message_bytes: size, ..rules() }, NOW).is_ok());
        let rules_of_one_less = ProduceRules { max_message_bytes: size - 1, ..rules() };
        assert_eq!(refused(good.clone(), &rules_of_one_less), ErrorCode::MessageTooLarge);
        let strict = ProduceRules { timestamp_before_max_ms: 10, ..rules() };
        let rejection = ProducedBatch::check(good.clone(), &strict, NOW + 11).unwrap_err();
        assert_eq!(rejection.error_code, ErrorCode::InvalidTimestamp);
        assert!(ProducedBatch::check(good, &strict, NOW + 10).is_ok());
        let zstd = filled(BatchBuilder::new().compression(Some(Compression::Zstd)));
        assert!(ProducedBatch::check(zstd.clone(), &rules(), NOW).is_ok());
        let old_request = ProduceRules { zstd_allowed: false, ..rules() };
        assert_eq!(refused(zstd, &old_request), ErrorCode::UnsupportedCompressionType);
    }

    #[test]
    fn a_compacted_topic_names_the_record_without_a_key() {
        let compacted = ProduceRules { key_required: true, ..rules() };
        for compression in [None, Some(Compression::Lz4)] {
            let mut builder = BatchBuilder::new().compression(compression);
            builder.push(NOW, Some(b"a"), None);
            assert!(ProducedBatch::check(builder.clone().build().into(), &compacted, NOW).is_ok());
            builder.push(NOW, None, Some(b"b"));
            let rejection = ProducedBatch::check(builder.build().into(), &compacted, NOW).unwrap_err();
            assert_eq!((rejection.error_code, rejection.record_index), (ErrorCode::InvalidRecord, Some(1)));
        }
    }

    #[test]
    fn log_append_time_keeps_the_crc_good() {
        let rules = ProduceRules { log_append_time: true, ..rules() };
        for compression in [None, Some(Compression::Zstd)] {
            let mut builder = BatchBuilder::new().compression(compression);
            builder.push(5, None, Some(&[7; 1000]));
            let batch = ProducedBatch::check(builder.build().into(), &rules, NOW).unwrap().stamp(0, 0);
            let batch = RecordBatch::parse(batch.bytes().clone()).expect("the CRC was mended");
            assert_eq!(batch.header().timestamp_type(), TimestampType::LogAppendTime);
            assert_eq!(batch.records(1 << 20).unwrap().next().unwrap().unwrap().timestamp, NOW);
        }
    }

    #[test]
    fn another_codec_keeps_records_and_producer() {
        for compression in [None].into_iter().chain(Compression::ALL.map(Some)) {
            for target in [None].into_iter().chain(Compression::ALL.map(Some)) {
                let stored_as = match target {
                    Some(compression) => StoredAs::Compressed { compression, level: None },
                    None => StoredAs::Uncompressed,
                };
                let bytes = filled(BatchBuilder::new().producer(4, 2, 8).transactional().compression(compression));
                let before: Vec<_> = super::super::records(&bytes, 1 << 20).unwrap().map(Result::unwrap).collect();
                let batch = ProducedBatch::check(bytes, &ProduceRules { stored_as, ..rules() }, NOW).unwrap();
                let batch = RecordBatch::parse(batch.stamp(0, 0).bytes().clone()).unwrap();
                let after: Vec<_> = batch.records(1 << 20).unwrap().map(Result::unwrap).collect();
                assert_eq!(after, before);
                let header = batch.header();
                assert_eq!(header.compression(), target);
                assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4, 2, 8));
                assert!(header.is_transactional());
            }
        }
    }

    #[test]
    fn every_bent_byte_is_noticed() {
        for compression in [None].into_iter().chain(Compression::ALL.map(Some)) {
            let good = filled(BatchBuilder::new().producer(1, 0, 0).compression(compression));
            // Only the leader epoch is the broker's to write and nobody's to check.
            for at in (0..good.len()).filter(|at| !(LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4).contains(at)) {
                for bit in 0..8 {
                    let mut bytes = good.clone();
                    bytes[at] ^= 1 << bit;
                    assert!(ProducedBatch::check(bytes, &rules(), NOW).is_err(), "bit {bit} of byte {at}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_batches_never_panic(mut body: Vec<u8>, at in 0usize..61, codec in 0u8..8, key_required: bool) {
            let mut bytes = filled(BatchBuilder::new());
            bytes.truncate(HEADER_BYTES);
            bytes[at] = body.pop().unwrap_or(0xff);
            bytes[22] = codec;
            bytes.extend_from_slice(&body);
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
            bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
            let rules = ProduceRules { key_required, stored_as: StoredAs::Uncompressed, ..rules() };
            let _ = ProducedBatch::check(bytes, &rules, NOW);
        }
    }
}
