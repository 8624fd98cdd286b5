//! The records inside a batch: read one by one, each length bounded by the bytes that remain.

use std::borrow::Cow;

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_BYTES, TimestampType};
use super::{BatchError, varint, whole};
use crate::types::{Offset, Timestamp};

/// One record. Keys, values and header values may each be null, which is not the same as empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In the order of the producer; keys may repeat.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record. Kafka's clients write UTF-8 keys; nothing on the wire makes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// One record where it stands in the body of its batch.
#[derive(Debug)]
pub struct RecordView<'a> {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// Iterates over the records of one batch. An error, also a count that does not fit, ends it.
#[derive(Clone, Debug)]
pub struct Records {
    /// The records, decompressed.
    body: Bytes,
    walk: Walk,
}

/// The records of one whole batch, copied out of it. Decompresses at most `output_limit_bytes`. The CRC is not checked.
pub fn records(batch: &[u8], output_limit_bytes: usize) -> Result<Records, BatchError> {
    let size = whole(batch)?.size();
    Records::open(Bytes::copy_from_slice(&batch[..size]), output_limit_bytes)
}

/// The records of a whole batch as one run of bytes, decompressed if need be to at most `output_limit_bytes`.
pub(super) fn body<'a>(batch: &'a [u8], header: &BatchHeader, limit_bytes: usize) -> Result<Cow<'a, [u8]>, BatchError> {
    let body = &batch[HEADER_BYTES..header.size()];
    match header.compression() {
        Some(compression) => Ok(Cow::Owned(compression.decompress(body, limit_bytes)?)),
        None if header.codec() != 0 => Err(BatchError::UnknownCompression(header.codec())),
        None => Ok(Cow::Borrowed(body)),
    }
}

/// The records in the body of a batch with this header.
pub(super) fn views<'a>(
    header: &BatchHeader,
    body: &'a [u8],
) -> impl Iterator<Item = Result<RecordView<'a>, BatchError>> + use<'a> {
    let mut walk = Walk::new(header);
    std::iter::from_fn(move || walk.next(body))
}

impl Records {
    /// `batch` is one whole batch; the records are slices of it unless it is compressed.
    pub(super) fn open(batch: Bytes, output_limit_bytes: usize) -> Result<Records, BatchError> {
        let header = whole(&batch)?;
        let body = match body(&batch, &header, output_limit_bytes)? {
            Cow::Owned(decompressed) => decompressed.into(),
            Cow::Borrowed(slice) => batch.slice_ref(slice),
        };
        Ok(Records { body, walk: Walk::new(&header) })
    }

    /// Size of the records in bytes, decompressed.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = match self.walk.next(&self.body)? {
            Ok(view) => view,
            Err(error) => return Some(Err(error)),
        };
        let owned = |bytes: &[u8]| self.body.slice_ref(bytes);
        let header = |(key, value): (&[u8], Option<&[u8]>)| RecordHeader { key: owned(key), value: value.map(owned) };
        Some(Ok(Record {
            offset: view.offset,
            timestamp: view.timestamp,
            key: view.key.map(owned),
            value: view.value.map(owned),
            headers: view.headers.into_iter().map(header).collect(),
        }))
    }
}

impl std::iter::FusedIterator for Records {}

/// How far a body has been read.
#[derive(Clone, Debug)]
struct Walk {
    header: BatchHeader,
    position: usize,
    index: i32,
    ended: bool,
}

impl Walk {
    fn new(header: &BatchHeader) -> Walk {
        Walk { header: *header, position: 0, index: 0, ended: false }
    }

    fn next<'a>(&mut self, body: &'a [u8]) -> Option<Result<RecordView<'a>, BatchError>> {
        if self.ended {
            return None;
        }
        let index = self.index;
        let mut rest = &body[self.position..];
        let record = if index < self.header.record_count {
            self.index += 1;
            take_record(&mut rest, &self.header)
        } else {
            self.ended = true;
            if rest.is_empty() && self.header.record_count >= 0 {
                return None;
            }
            Err("the header counts fewer records than there are")
        };
        self.position = body.len() - rest.len();
        self.ended |= record.is_err();
        Some(record.map_err(|reason| BatchError::Record { index, reason }))
    }
}

fn take_record<'a>(body: &mut &'a [u8], header: &BatchHeader) -> Result<RecordView<'a>, &'static str> {
    let length = varint::take(body).ok_or("its length is no varint")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let (mut rest, after) = body.split_at_checked(length).ok_or("it is longer than the batch")?;
    *body = after;
    take_bytes(&mut rest, 1)?; // attributes: none are defined
    let timestamp_delta = varint::take_long(&mut rest).ok_or("its timestamp is no varint")?;
    let offset_delta = take_int(&mut rest)?;
    if !(0..=header.last_offset_delta).contains(&offset_delta) {
        return Err("its offset lies outside the batch");
    }
    let timestamp = match header.timestamp_type() {
        TimestampType::CreateTime => {
            header.base_timestamp.checked_add(timestamp_delta).ok_or("its timestamp is out of range")?
        }
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    let offset = header.base_offset.checked_add(i64::from(offset_delta)).ok_or("its offset is out of range")?;
    let key = take_nullable(&mut rest)?;
    let value = take_nullable(&mut rest)?;
    let header_count = usize::try_from(take_int(&mut rest)?).map_err(|_| "its header count is negative")?;
    // A header takes at least two bytes, which bounds the reservation.
    if header_count > rest.len() / 2 {
        return Err("it counts more headers than fit");
    }
    let mut headers = Vec::with_capacity(header_count);
    for _ in 0..header_count {
        headers.push((take_nullable(&mut rest)?.ok_or("a header's key is null")?, take_nullable(&mut rest)?));
    }
    if !rest.is_empty() {
        return Err("bytes follow its last header");
    }
    Ok(RecordView { offset, timestamp, key, value, headers })
}

fn take_int(rest: &mut &[u8]) -> Result<i32, &'static str> {
    varint::take(rest).ok_or("a number in it is no varint")
}

fn take_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], &'static str> {
    let (bytes, after) = rest.split_at_checked(length).ok_or("a field of it is longer than the record")?;
    *rest = after;
    Ok(bytes)
}

fn take_nullable<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
    match take_int(rest)? {
        -1 => Ok(None),
        length => take_bytes(rest, usize::try_from(length).map_err(|_| "a length in it is negative")?).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Compression, RecordBatch};
    use super::*;
    use proptest::prelude::*;

    fn one_record() -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.push_with_headers(5, None, Some(b""), &[(b"k", Some(b"1")), (b"k", None), (b"\xff", Some(b""))]);
        builder.build().to_vec()
    }

    #[test]
    fn null_and_empty_differ_and_header_keys_repeat() {
        let record = records(&one_record(), 0).unwrap().next().unwrap().unwrap();
        assert_eq!((record.key, record.value.as_deref()), (None, Some(&b""[..])));
        let headers: Vec<_> = record.headers.iter().map(|h| (&h.key[..], h.value.as_deref())).collect();
        assert_eq!(headers, [(&b"k"[..], Some(&b"1"[..])), (b"k", None), (b"\xff", Some(b""))]);
    }

    /// Batches as Kafka's Java library 4.3.1 builds them, with its own codecs.
    const OF_JAVA: [(Option<Compression>, &str); 5] = [
        (
            None,
            "00000000000000000000006bffffffff022dd26a990000000000010000018bcfe568000000018bcfe568 \
             05000000000000000b0002000000070000000264000000066b657944612076616c75652c20612076616c \
             75652c20612076616c75652c20612076616c756504026802310268010c000a02010000",
        ),
        (
            Some(Compression::Gzip),
            "000000000000000000000068ffffffff024329d41e0001000000010000018bcfe568000000018bcfe568 \
             05000000000000000b000200000007000000021f8b08000000000000ff4b61606060cb4ead744954284b \
             cc294dd551c0c96061ca603264ca60e461e0626264600000b0d989573a000000",
        ),
        (
            Some(Compression::Snappy),
            "00000000000000000000006cffffffff023b451af10002000000010000018bcfe568000000018bcfe568 \
             05000000000000000b0002000000070000000282534e41505059000000000100000001000000273a4464 \
             000000066b657944612076616c75652c206209003804026802310268010c000a02010000",
        ),
        (
            Some(Compression::Lz4),
            "000000000000000000000068ffffffff0254b543a50003000000010000018bcfe568000000018bcfe568 \
             05000000000000000b0002000000070000000204224d1860408228000000ff0364000000066b65794461 \
             2076616c75652c20090006f00004026802310268010c000a0201000000000000",
        ),
        (
            Some(Compression::Zstd),
            "000000000000000000000065ffffffff02b071f0780004000000010000018bcfe568000000018bcfe568 \
             05000000000000000b0002000000070000000228b52ffd0058440100140264000000066b657944612076 \
             616c75652c2004026802310268010c000a020100000100b89430010000",
        ),
    ];

    #[test]
    fn batches_of_the_java_client_read_in_every_codec() {
        for (compression, hex) in OF_JAVA {
            let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let bytes: Bytes = digits.chunks(2).map(byte).collect::<Vec<_>>().into();
            let batch = RecordBatch::parse(bytes).unwrap();
            let header = batch.header();
            assert_eq!(header.compression(), compression);
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (11, 2, 7));
            let records: Vec<Record> = batch.records(1000).unwrap().map(Result::unwrap).collect();
            let value = &b"a value, a value, a value, a value"[..];
            let [first, second] = &records[..] else { panic!("two records, not {}", records.len()) };
            assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"key"[..]), Some(value)));
            assert_eq!((first.timestamp, first.headers.len()), (1_700_000_000_000, 2));
            assert_eq!((second.key.as_deref(), second.value.as_deref()), (None, Some(&b""[..])));
            assert_eq!((second.offset, second.timestamp), (1, 1_700_000_000_005));
        }
    }

    #[test]
    fn a_count_that_does_not_fit_the_records_is_an_error() {
        for count in [0i32, 2, i32::MAX] {
            let mut batch = one_record();
            batch[57..61].copy_from_slice(&count.to_be_bytes());
            let last = records(&batch, 0).unwrap().last().unwrap();
            assert!(matches!(last, Err(BatchError::Record { .. })), "count {count}: {last:?}");
        }
        let mut batch = one_record();
        batch[57..61].copy_from_slice(&(-1i32).to_be_bytes());
        assert!(records(&batch, 0).unwrap().next().unwrap().is_err());
    }

    #[test]
    fn the_brokers_time_replaces_the_producers() {
        let mut batch = one_record();
        batch[22] |= 8;
        batch[35..43].copy_from_slice(&99i64.to_be_bytes());
        assert_eq!(records(&batch, 0).unwrap().next().unwrap().unwrap().timestamp, 99);
    }

    #[test]
    fn a_header_count_of_two_billion_reserves_nothing() {
        let mut batch = one_record();
        batch.truncate(HEADER_BYTES);
        let mut record = vec![0, 0, 0, 1, 1]; // attributes, timestamp, offset, null key, null value
        varint::put(&mut record, i64::from(i32::MAX));
        varint::put(&mut batch, record.len() as i64);
        batch.extend(record);
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let error = records(&batch, 0).unwrap().next().unwrap().unwrap_err();
        assert_eq!(error, BatchError::Record { index: 0, reason: "it counts more headers than fit" });
    }

    proptest! {
        #[test]
        fn hostile_records_never_panic(body: Vec<u8>, codec in 0u8..8, count: i32) {
            let mut batch = one_record();
            batch.truncate(HEADER_BYTES);
            batch.extend(&body);
            let length = (batch.len() - 12) as i32;
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            batch[22] = codec;
            batch[57..61].copy_from_slice(&count.to_be_bytes());
            if let Ok(records) = records(&batch, 1 << 16) {
                prop_assert!(records.count() <= (1 << 16) / 6 + 1);
            }
        }

        #[test]
        fn a_bent_batch_never_panics(at in 0usize..100, with: u8) {
            let mut batch = one_record();
            let at = at % batch.len();
            batch[at] = with;
            if let Ok(records) = records(&batch, 1 << 16) {
                records.for_each(drop);
            }
        }
    }
}
