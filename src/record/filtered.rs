//! What compaction does to a batch: its records are looked at one by one, and those that stay are put into the batch again
//! under its old header. Offsets, sequences, codec and identity of the producer never change.

use super::builder::put_nullable;
use super::header::{ATTRIBUTES_AT, COMPRESSION_MASK, CRC_AT, DELETE_HORIZON_BIT, HEADER_BYTES, LENGTH_PREFIX_BYTES};
use super::records::{RecordView, body, views};
use super::{BatchError, BatchHeader, TimestampType, varint, whole};
use crate::types::{Offset, Timestamp};

/// A record, as far as compaction looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyedRecord<'a> {
    pub offset: Offset,
    pub key: Option<&'a [u8]>,
    /// Without a value: it marks its key as deleted.
    pub is_tombstone: bool,
}

impl<'a> KeyedRecord<'a> {
    fn of(view: &RecordView<'a>) -> KeyedRecord<'a> {
        KeyedRecord { offset: view.offset, key: view.key, is_tombstone: view.value.is_none() }
    }
}

/// What is left of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Retained {
    /// All of it, byte for byte.
    Whole,
    /// This batch in its place.
    Part(Vec<u8>),
    Nothing,
}

/// Calls `each` with every record of one whole batch, decompressed to at most `limit_bytes`.
pub fn each_key(batch: &[u8], limit_bytes: usize, mut each: impl FnMut(KeyedRecord)) -> Result<(), BatchError> {
    let header = whole(batch)?;
    let body = body(batch, &header, limit_bytes)?;
    views(&header, &body).try_for_each(|view| view.map(|view| each(KeyedRecord::of(&view))))
}

/// Keeps the records that `keep` says, decompressed to at most `limit_bytes`. If there are tombstones among them and the batch
/// has no delete horizon yet, it gets `delete_horizon_ms` (KIP-534).
pub fn retain(
    batch: &[u8],
    limit_bytes: usize,
    delete_horizon_ms: Timestamp,
    mut keep: impl FnMut(KeyedRecord) -> bool,
) -> Result<Retained, BatchError> {
    let header = whole(batch)?;
    let body = body(batch, &header, limit_bytes)?;
    let (mut kept, mut dropped, mut tombstones) = (Vec::new(), false, false);
    for view in views(&header, &body) {
        let view = view?;
        if keep(KeyedRecord::of(&view)) {
            tombstones |= view.value.is_none();
            kept.push(view);
        } else {
            dropped = true;
        }
    }
    let gets_horizon = tombstones && header.delete_horizon().is_none();
    if kept.is_empty() {
        return Ok(Retained::Nothing);
    }
    if !dropped && !gets_horizon {
        return Ok(Retained::Whole);
    }
    let horizon = if gets_horizon { Some(delete_horizon_ms) } else { header.delete_horizon() };
    Ok(Retained::Part(rebuild(header, &kept, horizon)))
}

/// The header of a batch without any of its records: it keeps a producer's last sequence, and where the batch ended.
pub fn emptied(header: &BatchHeader) -> Vec<u8> {
    let mut header = *header;
    header.record_count = 0;
    // Nothing is compressed, and there is nothing that a horizon could be for.
    header.attributes &= !(COMPRESSION_MASK | DELETE_HORIZON_BIT);
    header.base_timestamp = -1;
    finish(header, &[])
}

fn rebuild(mut header: BatchHeader, kept: &[RecordView], horizon: Option<Timestamp>) -> Vec<u8> {
    header.base_timestamp = horizon.unwrap_or(kept[0].timestamp);
    header.attributes |= if horizon.is_some() { DELETE_HORIZON_BIT } else { 0 };
    header.record_count = kept.len() as i32;
    if header.timestamp_type() == TimestampType::CreateTime {
        header.max_timestamp = kept.iter().map(|record| record.timestamp).max().unwrap_or(header.max_timestamp);
    }
    let (mut body, mut bytes) = (Vec::new(), Vec::new());
    for record in kept {
        bytes.clear();
        bytes.push(0);
        varint::put(&mut bytes, record.timestamp.wrapping_sub(header.base_timestamp));
        varint::put(&mut bytes, record.offset - header.base_offset);
        put_nullable(&mut bytes, record.key);
        put_nullable(&mut bytes, record.value);
        varint::put(&mut bytes, record.headers.len() as i64);
        for (key, value) in &record.headers {
            put_nullable(&mut bytes, Some(key));
            put_nullable(&mut bytes, *value);
        }
        varint::put(&mut body, bytes.len() as i64);
        body.extend_from_slice(&bytes);
    }
    if let Some(compression) = header.compression() {
        body = compression.compress(&body, None);
    }
    finish(header, &body)
}

fn finish(mut header: BatchHeader, body: &[u8]) -> Vec<u8> {
    let length = HEADER_BYTES + body.len() - LENGTH_PREFIX_BYTES;
    header.batch_length = length.try_into().expect("fewer records than a batch of less than 2 GiB held");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&header.to_bytes());
    bytes.extend_from_slice(body);
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Compression, Record, records};
    use super::*;

    const CODECS: [Option<Compression>; 5] =
        [None, Some(Compression::Gzip), Some(Compression::Snappy), Some(Compression::Lz4), Some(Compression::Zstd)];

    /// Records 100 to 103: a value, a tombstone, a value with headers, a value.
    fn batch(compression: Option<Compression>) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new().base_offset(100).leader_epoch(3).producer(7, 1, 40).compression(compression);
        builder.push(1000, Some(b"a"), Some(b"1"));
        builder.push(1001, Some(b"b"), None);
        builder.push_with_headers(1005, Some(b"c"), Some(b"3"), &[(b"h", Some(b"x")), (b"h", None)]);
        builder.push(1003, Some(b"d"), Some(b"4"));
        builder.build().to_vec()
    }

    fn part(retained: Result<Retained, BatchError>) -> (BatchHeader, Vec<Record>) {
        let Ok(Retained::Part(bytes)) = retained else { panic!("not a part: {retained:?}") };
        assert!(super::super::check_crc(&bytes));
        let header = BatchHeader::parse(&bytes).expect("a header");
        (header, records(&bytes, 1 << 20).expect("it opens").map(|record| record.expect("it reads")).collect())
    }

    #[test]
    fn what_stays_keeps_its_offset_its_time_and_its_codec() {
        for compression in CODECS {
            let batch = batch(compression);
            let before: Vec<Record> = records(&batch, 1000).unwrap().map(Result::unwrap).collect();
            let (header, kept) = part(retain(&batch, 1000, 5000, |record| record.offset >= 102));
            assert_eq!(kept, before[2..]);
            assert_eq!((header.base_offset, header.last_offset(), header.last_sequence()), (100, 103, 43));
            assert_eq!((header.producer_id, header.producer_epoch, header.partition_leader_epoch), (7, 1, 3));
            assert_eq!((header.compression(), header.delete_horizon()), (compression, None));
            assert_eq!((header.base_timestamp, header.max_timestamp, header.record_count), (1005, 1005, 2));
        }
    }

    #[test]
    fn a_batch_with_a_tombstone_gets_its_horizon_once() {
        let batch = batch(Some(Compression::Lz4));
        let Ok(Retained::Part(marked)) = retain(&batch, 1000, 5000, |_| true) else { panic!("it needs a horizon") };
        assert_eq!(BatchHeader::parse(&marked).and_then(|header| header.delete_horizon()), Some(5000));
        assert_eq!(
            records(&marked, 1000).unwrap().map(Result::unwrap).collect::<Vec<_>>(),
            records(&batch, 1000).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        );
        assert_eq!(retain(&marked, 1000, 9000, |_| true), Ok(Retained::Whole));
        let (header, _) = part(retain(&marked, 1000, 9000, |record| record.offset != 103));
        assert_eq!(header.delete_horizon(), Some(5000));
    }

    #[test]
    fn a_batch_that_loses_nothing_is_not_touched_and_one_that_loses_all_is_nothing() {
        let mut builder = BatchBuilder::new();
        builder.push(1000, Some(b"a"), Some(b"1"));
        let batch = builder.build();
        assert_eq!(retain(&batch, 1000, 5000, |_| true), Ok(Retained::Whole));
        assert_eq!(retain(&batch, 1000, 5000, |_| false), Ok(Retained::Nothing));
    }

    #[test]
    fn an_emptied_batch_keeps_the_offsets_and_the_sequence() {
        let batch = batch(Some(Compression::Zstd));
        let bytes = emptied(&BatchHeader::parse(&batch).expect("a header"));
        let header = BatchHeader::parse(&bytes).expect("a header");
        assert!(super::super::check_crc(&bytes) && bytes.len() == HEADER_BYTES);
        assert_eq!((header.next_offset(), header.last_sequence(), header.record_count), (104, 43, 0));
        let mut seen = 0;
        each_key(&bytes, 0, |_| seen += 1).expect("an emptied batch reads");
        assert_eq!(seen, 0);
    }

    #[test]
    fn every_key_is_seen_with_its_offset() {
        for compression in CODECS {
            let mut seen = Vec::new();
            each_key(&batch(compression), 1000, |record| {
                seen.push((record.offset, record.key.map(<[u8]>::to_vec), record.is_tombstone));
            })
            .expect("it reads");
            let key = |name: &str| Some(name.as_bytes().to_vec());
            let expected =
                [(100, key("a"), false), (101, key("b"), true), (102, key("c"), false), (103, key("d"), false)];
            assert_eq!(seen, expected);
        }
    }
}
