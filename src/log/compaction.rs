//! Compaction of one log as a value that advances in slices: first the last offset of every key in the uncompacted part is
//! noted, then all segments up to there are written anew without the records that a later one replaces (KIP-58, KIP-534).
//! It says what it has to read and what it has made; others read, write, and put the new segments in the place of the old.

use std::ops::Range;

use bytes::Bytes;

use super::key_offsets::KeyOffsets;
use super::segment::{Life, Segment};
use crate::record::{self, BatchError, BatchHeader, DECOMPRESSED_BYTES_MAX, KeyedRecord, Retained};
use crate::types::{Map, Offset, ProducerId, Timestamp};

/// A closed segment to be compacted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    pub base_offset: Offset,
    /// The base offset of the segment after it.
    pub end_offset: Offset,
    pub size: u64,
}

/// What one compaction goes by.
#[derive(Clone, Debug)]
pub struct CompactionRules {
    pub now_ms: Timestamp,
    pub delete_retention_ms: i64,
    pub segment_bytes: u64,
    pub index_interval_bytes: u64,
    /// Keys below this offset are known to be each other's only ones.
    pub first_dirty_offset: Offset,
    /// In segments from here on no offset is missing.
    pub dense_from: Offset,
    /// Memory for keys.
    pub key_bytes: u64,
    pub seed: u64,
    /// The last offset of every producer whose sequences are remembered: its batch stays, if only as a header.
    pub last_of_producers: Map<ProducerId, Offset>,
}

/// What comes next.
#[derive(Debug)]
pub enum CompactionStep {
    /// Read this and give it to `take`.
    Read { segment: Offset, position: u64, length: u32 },
    /// Add this to the new segment that has this base offset.
    Write { segment: Offset, position: u64, bytes: Vec<Bytes> },
    /// This new segment is written: it replaces others.
    Replace(Replacement),
    /// All is done: everything below this offset is compacted.
    Done { first_dirty_offset: Offset },
    /// Nothing more can be done, and nothing that was not replaced is changed.
    Failed(CompactionError),
}

/// A new segment for some adjoining old ones.
#[derive(Debug)]
pub struct Replacement {
    /// Base offsets, rising; the first is that of the new segment too.
    pub sources: Vec<Offset>,
    /// The offset after the last one that it stands for.
    pub end_offset: Offset,
    /// Complete, with its index in memory.
    pub cleaned: Segment,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CompactionError {
    /// A batch cannot be read.
    Batch { segment: Offset, position: u64, error: BatchError },
    /// A segment ends inside a batch, or before the offset where the next one begins.
    Short { segment: Offset, position: u64 },
    /// One batch has more keys than there is room for.
    TooManyKeys { segment: Offset, position: u64, keys: i32 },
}

#[derive(Debug)]
pub struct Compaction {
    rules: CompactionRules,
    sources: Vec<Source>,
    keys: KeyOffsets,
    /// Index of the source being read, and where its next batch begins.
    source: usize,
    position: u64,
    /// What was read of that batch, and how long it has to be to say more.
    begun: Vec<u8>,
    needed: usize,
    /// No batch from there on has a smaller offset.
    expected: Offset,
    /// Length of the last read.
    asked: usize,
    stage: Stage,
    error: Option<CompactionError>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it for each compaction under way")]
enum Stage {
    /// Noting keys.
    Mapping { mapped_offset: Offset },
    Writing {
        /// Keys are known below.
        mapped_offset: Offset,
        /// The sources that become one segment.
        group: Range<usize>,
        cleaned: Segment,
        /// Made, not yet written: what follows in the new segment at `written`.
        made: Vec<Bytes>,
        made_bytes: usize,
        written: u64,
    },
}

/// One read. A commit waits behind it at the device: with 512 KiB the p99 of small writes beside it was five times as high.
const READ_BYTES: usize = 64 << 10;
/// What is made is written once it is so much.
const WRITE_BYTES: usize = 64 << 10;

impl Compaction {
    /// `sources` adjoin, the oldest first; those from `first_dirty_offset` on are to be looked at for keys.
    pub fn new(rules: CompactionRules, sources: Vec<Source>) -> Compaction {
        let end = sources.last().expect("there is something to compact").end_offset;
        let span = u64::try_from(end - rules.first_dirty_offset).expect("the dirty part is not empty");
        let keys = KeyOffsets::new(span, rules.key_bytes, rules.seed);
        let source = sources.partition_point(|source| source.end_offset <= rules.first_dirty_offset);
        let stage = Stage::Mapping { mapped_offset: rules.first_dirty_offset };
        let expected = sources[source].base_offset;
        let (begun, error) = (Vec::new(), None);
        Compaction { rules, sources, keys, source, position: 0, begun, needed: 0, expected, asked: 0, stage, error }
    }

    /// The offset after the last one that may be touched.
    pub fn end_offset(&self) -> Offset {
        self.sources.last().expect("there is something to compact").end_offset
    }

    /// Cheap; after each step has been taken.
    pub fn next_step(&mut self) -> CompactionStep {
        if let Some(error) = self.error.take() {
            return CompactionStep::Failed(error);
        }
        if let Stage::Mapping { mapped_offset } = self.stage
            && self.source == self.sources.len()
        {
            self.begin_group(0, mapped_offset);
        }
        let Stage::Writing { mapped_offset, group, cleaned, made, made_bytes, written } = &mut self.stage else {
            return self.read();
        };
        if group.start == group.end {
            return CompactionStep::Done { first_dirty_offset: *mapped_offset };
        }
        let ends = self.source == group.end;
        if *made_bytes >= WRITE_BYTES || ends && *made_bytes > 0 {
            let position = *written;
            *written += std::mem::take(made_bytes) as u64;
            return CompactionStep::Write { segment: cleaned.base_offset, position, bytes: std::mem::take(made) };
        }
        if !ends {
            return self.read();
        }
        let (group, mapped_offset) = (group.clone(), *mapped_offset);
        let cleaned = std::mem::replace(cleaned, Segment::begin(0));
        let end_offset = self.sources[group.end - 1].end_offset;
        let sources = self.sources[group.clone()].iter().map(|source| source.base_offset).collect();
        self.begin_group(group.end, mapped_offset);
        CompactionStep::Replace(Replacement { sources, end_offset, cleaned })
    }

    /// Segments from `first` on that fit into one, as long as they hold something of what was mapped.
    fn begin_group(&mut self, first: usize, mapped_offset: Offset) {
        let mut group = first..first;
        let (mut bytes, base_offset) = (0, self.sources.get(first).map_or(0, |source| source.base_offset));
        for source in self.sources[first..].iter().take_while(|source| source.base_offset < mapped_offset) {
            bytes += source.size;
            let fits = bytes <= self.rules.segment_bytes && source.end_offset - base_offset <= Offset::from(i32::MAX);
            if group.start < group.end && !fits {
                break;
            }
            group.end += 1;
        }
        (self.source, self.position, self.expected) = (first, 0, base_offset);
        let cleaned = Segment::begin(base_offset);
        self.stage = Stage::Writing { mapped_offset, group, cleaned, made: Vec::new(), made_bytes: 0, written: 0 };
    }

    fn read(&mut self) -> CompactionStep {
        let source = self.sources[self.source];
        let position = self.position + self.begun.len() as u64;
        self.asked = READ_BYTES.min(usize::try_from(source.size - position).unwrap_or(usize::MAX));
        CompactionStep::Read { segment: source.base_offset, position, length: self.asked as u32 }
    }

    /// What was read for the last step. The work is here: decompressing, looking keys up, compressing.
    pub fn take(&mut self, bytes: &Bytes) {
        let (source, mut rest) = (self.source, bytes.clone());
        while !self.begun.is_empty() && !rest.is_empty() {
            let more = rest.split_to((self.needed - self.begun.len()).min(rest.len()));
            self.begun.extend_from_slice(&more);
            if self.begun.len() == self.needed {
                let batch = std::mem::take(&mut self.begun);
                self.take_batches(batch.into());
            }
        }
        let goes_on = |compaction: &Compaction| compaction.source == source && compaction.error.is_none();
        if goes_on(self) {
            self.take_batches(rest);
        }
        if goes_on(self) {
            let Source { base_offset: segment, size, .. } = self.sources[source];
            let reaches_beyond = self.position + self.needed as u64 > size;
            if bytes.len() < self.asked || reaches_beyond {
                self.error = Some(CompactionError::Short { segment, position: self.position });
            }
        }
    }

    /// These follow at `position`; of the last one perhaps only a part.
    fn take_batches(&mut self, bytes: Bytes) {
        let source = self.sources[self.source];
        let (mut passed, mut outcome) = (0, Ok(Go::On));
        for batch in record::batches(&bytes) {
            let (at, header) = match batch {
                Ok(batch) => batch,
                Err(BatchError::Truncated { needed, .. }) => {
                    self.needed = needed;
                    self.begun = bytes[passed..].to_vec();
                    break;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            self.needed = 0;
            outcome = self.take_batch(bytes.slice(at..at + header.size()), &header);
            if !matches!(outcome, Ok(Go::On)) {
                break;
            }
            passed = at + header.size();
        }
        let (segment, position) = (source.base_offset, self.position + passed as u64);
        self.position = position;
        match outcome {
            Err(error) => self.error = Some(CompactionError::Batch { segment, position, error }),
            Ok(Go::Stop { keys }) => self.stop_mapping(position, keys),
            Ok(Go::On) if position == source.size => self.end_source(source),
            Ok(Go::On) => {}
        }
    }

    fn end_source(&mut self, source: Source) {
        if let Stage::Writing { group, cleaned, .. } = &self.stage
            && self.source + 1 == group.end
            && cleaned.last_offset() != Some(source.end_offset - 1)
        {
            let (segment, position) = (source.base_offset, source.size);
            self.error = Some(CompactionError::Short { segment, position });
        }
        (self.source, self.position, self.expected) = (self.source + 1, 0, source.end_offset);
    }

    /// There is no room for the keys of the batch at this position: what was mapped so far is compacted, the rest next time.
    fn stop_mapping(&mut self, position: u64, keys: i32) {
        let Stage::Mapping { mapped_offset } = self.stage else { return };
        if mapped_offset == self.rules.first_dirty_offset {
            let segment = self.sources[self.source].base_offset;
            self.error = Some(CompactionError::TooManyKeys { segment, position, keys });
        }
        self.source = self.sources.len();
    }

    fn take_batch(&mut self, batch: Bytes, header: &BatchHeader) -> Result<Go, BatchError> {
        if !record::check_crc(&batch) {
            return Err(record::RecordBatch::parse(batch).err().unwrap_or(BatchError::Length(header.batch_length)));
        }
        // The checksum does not cover the offset.
        let source = self.sources[self.source];
        let is_dense = source.base_offset >= self.rules.dense_from;
        let follows = if is_dense { header.base_offset == self.expected } else { header.base_offset >= self.expected };
        if !follows || header.last_offset() < header.base_offset || header.next_offset() > source.end_offset {
            return Err(BatchError::Misplaced { base_offset: header.base_offset });
        }
        self.expected = header.next_offset();
        let rules = &self.rules;
        match &mut self.stage {
            Stage::Mapping { mapped_offset } => {
                if header.last_offset() >= rules.first_dirty_offset && !header.is_control() {
                    if !self.keys.has_room_for(usize::try_from(header.record_count).unwrap_or(0)) {
                        return Ok(Go::Stop { keys: header.record_count });
                    }
                    let keys = &mut self.keys;
                    record::each_key(&batch, DECOMPRESSED_BYTES_MAX, |record| {
                        if let Some(key) = record.key {
                            keys.put(key, record.offset);
                        }
                    })?;
                }
                *mapped_offset = header.next_offset().max(*mapped_offset);
            }
            Stage::Writing { mapped_offset, group, cleaned, made, made_bytes, .. } => {
                let ends_group = header.next_offset() == self.sources[group.end - 1].end_offset;
                let kept = filter(rules, &self.keys, *mapped_offset, ends_group, &batch, header)?;
                let Some(kept) = kept else { return Ok(Go::On) };
                let header = BatchHeader::parse(&kept).expect("a batch that was just read or made");
                cleaned.append(&header, rules.index_interval_bytes);
                *made_bytes += kept.len();
                made.push(kept);
            }
        }
        Ok(Go::On)
    }
}

enum Go {
    On,
    /// A batch with so many keys does not fit.
    Stop {
        keys: i32,
    },
}

/// What stays of a batch: the last record of every key, tombstones until their horizon, everything that was not mapped, and
/// at least the header where it holds a producer's last sequence or the end of the new segment.
fn filter(
    rules: &CompactionRules,
    keys: &KeyOffsets,
    mapped_offset: Offset,
    ends_group: bool,
    batch: &Bytes,
    header: &BatchHeader,
) -> Result<Option<Bytes>, BatchError> {
    // Markers of transactions stay until there are transactions.
    if header.base_offset >= mapped_offset || header.is_control() {
        return Ok(Some(batch.clone()));
    }
    let keeps_tombstones = header.delete_horizon().is_none_or(|horizon| rules.now_ms < horizon);
    let stays = |record: KeyedRecord| {
        record.offset >= mapped_offset
            || record.key.is_some_and(|key| {
                let is_last = keys.get(key).is_none_or(|last| record.offset >= last);
                is_last && (keeps_tombstones || !record.is_tombstone)
            })
    };
    let horizon = rules.now_ms.saturating_add(rules.delete_retention_ms);
    Ok(match record::retain(batch, DECOMPRESSED_BYTES_MAX, horizon, stays)? {
        Retained::Whole => Some(batch.clone()),
        Retained::Part(part) => Some(part.into()),
        Retained::Nothing => {
            let last_of_producer = rules.last_of_producers.get(&header.producer_id);
            let needed = ends_group || last_of_producer == Some(&header.last_offset());
            needed.then(|| record::emptied(header).into())
        }
    })
}

impl Replacement {
    /// The new segment as it stands in its log.
    pub(super) fn into_segment(self) -> Segment {
        let mut segment = self.cleaned;
        segment.life = Life::Sealed;
        segment.unload_index();
        segment
    }
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
