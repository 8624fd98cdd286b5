//! Kafka's record batch, message format 2: bytes ⇄ values. Magic 0 and 1 are refused, as Kafka 4 does.
//! A batch moves through the broker as the producer's bytes: its 61-byte header is read often, base offset and leader
//! epoch are stamped in place, and the records inside are opened only where a topic's settings demand it.
//! Owned by nobody, lives on every core; never does I/O, never panics on what a client or a disk holds.

mod builder;
mod compression;
mod filtered;
mod header;
mod produced;
mod records;
mod varint;

use std::fmt;

use bytes::Bytes;

use crate::types::Offset;

pub use builder::BatchBuilder;
pub use compression::Compression;
pub use filtered::{KeyedRecord, Retained, each_key, emptied, retain};
pub use header::{BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, TimestampType, check_crc};
pub use produced::{DECOMPRESSED_BYTES_MAX, ProduceRules, ProducedBatch, Rejection, StoredAs};
pub use records::{Record, RecordHeader, RecordView, Records, records};

/// A whole, checked batch: magic 2, length equal to the buffer, CRC good. Cheap to clone; never altered.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBatch(Bytes);

impl RecordBatch {
    /// Checks what came from a disk, another broker or the builder. Reads every byte once, for the CRC.
    pub fn parse(bytes: Bytes) -> Result<RecordBatch, BatchError> {
        let header = whole(&bytes)?;
        if header.size() != bytes.len() {
            return Err(BatchError::Trailing { size: header.size(), found: bytes.len() });
        }
        header::verify_crc(&bytes, &header)?;
        Ok(RecordBatch(bytes))
    }

    pub fn header(&self) -> BatchHeader {
        BatchHeader::parse(&self.0).expect("a checked batch holds a header")
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Size in bytes, header included.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The records inside, as slices of this batch or of its decompressed body of at most `output_limit_bytes`.
    pub fn records(&self, output_limit_bytes: usize) -> Result<Records, BatchError> {
        Records::open(self.0.clone(), output_limit_bytes)
    }

    /// Gives each record to `each` where it stands, for readers that keep nothing of it. An error, also a count that does not
    /// fit, ends it.
    pub fn for_each(&self, output_limit_bytes: usize, mut each: impl FnMut(RecordView<'_>)) -> Result<(), BatchError> {
        let header = self.header();
        let body = records::body(&self.0, &header, output_limit_bytes)?;
        records::views(&header, &body).try_for_each(|record| record.map(&mut each))
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordBatch({:?})", self.header())
    }
}

/// What is wrong with bytes that should be a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The buffer ends inside the batch.
    Truncated {
        needed: usize,
        found: usize,
    },
    /// Bytes follow the batch where there should be none.
    Trailing {
        size: usize,
        found: usize,
    },
    /// `batch_length` is smaller than a header.
    Length(i32),
    /// Not message format 2.
    Magic(i8),
    Crc {
        stored: u32,
        computed: u32,
    },
    /// Its offset or its leader epoch, which the CRC does not cover, are not those of the place where it stands.
    Misplaced {
        base_offset: Offset,
    },
    /// A codec number that Kafka does not define.
    UnknownCompression(u8),
    /// The records do not decompress; the reason in the codec's words.
    Decompression(String),
    /// The records are larger than the reader allows.
    TooLarge {
        limit_bytes: usize,
    },
    /// The record at this index is malformed.
    Record {
        index: i32,
        reason: &'static str,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Truncated { needed, found } => write!(f, "the batch needs {needed} bytes, {found} are there"),
            BatchError::Trailing { size, found } => {
                write!(f, "the batch is {size} bytes long but stands in {found} bytes")
            }
            BatchError::Length(length) => {
                write!(
                    f,
                    "batch length {length} is less than the {} of an empty batch",
                    HEADER_BYTES - LENGTH_PREFIX_BYTES
                )
            }
            BatchError::Magic(magic) => write!(f, "magic {magic}, only message format 2 is supported"),
            BatchError::Crc { stored, computed } => {
                write!(f, "CRC mismatch: the batch says {stored:#010x}, its bytes give {computed:#010x}")
            }
            BatchError::Misplaced { base_offset } => {
                write!(f, "it claims offset {base_offset}, which with its epoch does not fit where it stands")
            }
            BatchError::UnknownCompression(codec) => write!(f, "unknown compression codec {codec}"),
            BatchError::Decompression(reason) => write!(f, "the records do not decompress: {reason}"),
            BatchError::TooLarge { limit_bytes } => write!(f, "the decompressed records exceed {limit_bytes} bytes"),
            BatchError::Record { index, reason } => write!(f, "record {index} of the batch is malformed: {reason}"),
        }
    }
}

impl std::error::Error for BatchError {}

/// The header of the whole batch that starts `bytes`: magic and length are checked, the CRC is not.
fn whole(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let truncated = |needed| BatchError::Truncated { needed, found: bytes.len() };
    let header = BatchHeader::parse(bytes).ok_or(truncated(HEADER_BYTES))?;
    if header.magic != 2 {
        return Err(BatchError::Magic(header.magic));
    }
    if header.size() < HEADER_BYTES {
        return Err(BatchError::Length(header.batch_length));
    }
    if header.size() > bytes.len() {
        return Err(truncated(header.size()));
    }
    Ok(header)
}

/// Walks the batches of a segment or a fetch response by their headers; CRCs are not checked (see `check_crc`).
/// The first bad or partial batch ends the walk with its error.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, position: 0, ended: false }
}

#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    ended: bool,
}

impl Batches<'_> {
    /// Where the next batch starts: the length of the whole batches before it. After an error, where the bad one starts.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<(usize, BatchHeader), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.position == self.bytes.len() {
            return None;
        }
        let position = self.position;
        let batch = whole(&self.bytes[position..]).map(|header| (position, header));
        match &batch {
            Ok((_, header)) => self.position += header.size(),
            Err(_) => self.ended = true,
        }
        Some(batch)
    }
}

impl std::iter::FusedIterator for Batches<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: i64) -> Bytes {
        let mut builder = BatchBuilder::new().base_offset(base_offset);
        builder.push(1_000, Some(b"key"), Some(b"value"));
        builder.build()
    }

    #[test]
    fn a_walk_names_each_batch_and_stops_at_a_partial_one() {
        let (first, second) = (batch(0), batch(7));
        let mut file = [&first[..], &second[..], &first[..]].concat();
        file.truncate(file.len() - 1);
        let mut walk = batches(&file);
        assert_eq!(walk.next().unwrap().unwrap().0, 0);
        let (position, header) = walk.next().unwrap().unwrap();
        assert_eq!((position, header.base_offset), (first.len(), 7));
        assert_eq!(walk.next(), Some(Err(BatchError::Truncated { needed: first.len(), found: first.len() - 1 })));
        assert_eq!(walk.next(), None);
        assert_eq!(walk.position(), first.len() + second.len());
    }

    #[test]
    fn zeroes_at_the_end_of_a_preallocated_file_end_the_walk() {
        let first = batch(0);
        let file = [&first[..], &[0; 4096]].concat();
        let mut walk = batches(&file);
        assert!(walk.next().unwrap().is_ok());
        assert_eq!(walk.next(), Some(Err(BatchError::Magic(0))));
        assert_eq!(walk.position(), first.len());
    }

    #[test]
    fn a_batch_is_whole_or_none() {
        let bytes = batch(3);
        assert_eq!(RecordBatch::parse(bytes.clone()).unwrap().header().last_offset(), 3);
        assert!(matches!(RecordBatch::parse(bytes.slice(..bytes.len() - 1)), Err(BatchError::Truncated { .. })));
        let longer = Bytes::from([&bytes[..], b"x"].concat());
        assert!(matches!(RecordBatch::parse(longer), Err(BatchError::Trailing { .. })));
        let mut bent = bytes.to_vec();
        *bent.last_mut().unwrap() ^= 1;
        assert!(matches!(RecordBatch::parse(bent.into()), Err(BatchError::Crc { .. })));
    }

    #[test]
    fn an_empty_batch_parses() {
        // Compaction leaves such a batch behind to keep a producer's last sequence.
        let mut bytes = batch(5).to_vec();
        bytes.truncate(HEADER_BYTES);
        bytes[8..12].copy_from_slice(&(HEADER_BYTES as i32 - 12).to_be_bytes());
        bytes[57..61].copy_from_slice(&0i32.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = RecordBatch::parse(bytes.into()).unwrap();
        assert_eq!(batch.header().record_count, 0);
        assert_eq!(batch.records(0).unwrap().count(), 0);
    }
}
