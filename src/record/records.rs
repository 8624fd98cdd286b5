//! The records inside a batch: read one by one, each length bounded by the bytes that remain.

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

/// Iterates over the records of one batch. An error, also a count that does not fit, ends it.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    /// The records, decompressed.
    body: Bytes,
    position: usize,
    index: i32,
    ended: bool,
}

/// The records of one whole batch, copied out of it. Decompresses at most `output_limit_bytes`. The CRC is not checked.
pub fn records(batch: &[u8], output_limit_bytes: usize) -> Result<Records, BatchError> {
    let size = whole(batch)?.size();
    Records::open(Bytes::copy_from_slice(&batch[..size]), output_limit_bytes)
}

impl Records {
    /// `batch` is one whole batch; the records are slices of it unless it is compressed.
    pub(super) fn open(batch: Bytes, output_limit_bytes: usize) -> Result<Records, BatchError> {
        let header = whole(&batch)?;
        let body = batch.slice(HEADER_BYTES..header.size());
        let body = match header.compression() {
            Some(compression) => compression.decompress(&body, output_limit_bytes)?.into(),
            None if header.codec() != 0 => return Err(BatchError::UnknownCompression(header.codec())),
            None => body,
        };
        if header.record_count < 0 {
            return Err(BatchError::Record { index: header.record_count, reason: "the record count is negative" });
        }
        Ok(Records { header, body, position: 0, index: 0, ended: false })
    }

    /// Size of the records in bytes, decompressed.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    fn read(&mut self) -> Result<Record, &'static str> {
        let mut rest = &self.body[self.position..];
        let length = varint::take(&mut rest).ok_or("its length is no varint")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        if length > rest.len() {
            return Err("it is longer than the batch");
        }
        let start = self.body.len() - rest.len();
        let record = Cursor { body: &self.body, position: start, end: start + length }.record(&self.header)?;
        self.position = start + length;
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let index = self.index;
        let record = if index < self.header.record_count {
            self.index += 1;
            self.read()
        } else {
            self.ended = true;
            if self.position == self.body.len() {
                return None;
            }
            Err("bytes follow the last record that the header counts")
        };
        self.ended |= record.is_err();
        Some(record.map_err(|reason| BatchError::Record { index, reason }))
    }
}

impl std::iter::FusedIterator for Records {}

/// Reads one record between `position` and `end` of the body.
struct Cursor<'a> {
    body: &'a Bytes,
    position: usize,
    end: usize,
}

impl Cursor<'_> {
    fn record(mut self, header: &BatchHeader) -> Result<Record, &'static str> {
        self.take(1)?; // attributes: none are defined
        let timestamp_delta = self.long()?;
        let offset_delta = self.int()?;
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
        let key = self.nullable()?;
        let value = self.nullable()?;
        let header_count = usize::try_from(self.int()?).map_err(|_| "its header count is negative")?;
        // A header takes at least two bytes, which bounds the reservation.
        if header_count > (self.end - self.position) / 2 {
            return Err("it counts more headers than fit");
        }
        let mut headers = Vec::with_capacity(header_count);
        for _ in 0..header_count {
            headers
                .push(RecordHeader { key: self.nullable()?.ok_or("a header's key is null")?, value: self.nullable()? });
        }
        if self.position != self.end {
            return Err("bytes follow its last header");
        }
        Ok(Record { offset, timestamp, key, value, headers })
    }

    fn number<T>(&mut self, take: fn(&mut &[u8]) -> Option<T>) -> Result<T, &'static str> {
        let mut rest = &self.body[self.position..self.end];
        let number = take(&mut rest).ok_or("a number in it is no varint")?;
        self.position = self.end - rest.len();
        Ok(number)
    }

    fn int(&mut self) -> Result<i32, &'static str> {
        self.number(varint::take)
    }

    fn long(&mut self) -> Result<i64, &'static str> {
        self.number(varint::take_long)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, &'static str> {
        if length > self.end - self.position {
            return Err("a field of it is longer than the record");
        }
        let bytes = self.body.slice(self.position..self.position + length);
        self.position += length;
        Ok(bytes)
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, &'static str> {
        match self.int()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| "a length in it is negative")?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BatchBuilder;
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
        assert!(records(&batch, 0).is_err());
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
