//! One partition's log: segments, indexes, leader epochs, producers, and the tail in memory. It belongs to one shard,
//! does not know roles, and names what should be read or written as values; others do it.

mod cleaning_table;
mod compaction;
mod dirtiness;
mod epochs;
mod key_offsets;
mod producers;
mod recovery;
mod resume;
mod retention;
mod segment;
mod state;
mod tail;

use std::sync::Arc;

use bytes::Bytes;

pub use cleaning_table::{CleaningPoint, CleaningTableError, START_CLEANING, decode_cleaning, encode_cleaning};
pub use compaction::{Compaction, CompactionError, CompactionStep, Replacement};
pub use dirtiness::Dirtiness;
pub use epochs::LeaderEpochs;
pub use producers::{Producers, Sequence, SequencedBatch};
pub use recovery::{FoundLog, LogCheckpoint, RecoveredLog, RecoveryError, SegmentFile, Swap, SwapFile, recover};
use resume::ResumePoint;
pub use retention::Retention;
pub use segment::{Life, SEGMENT_BYTES_LIMIT, Segment};
pub use state::LogState;
use tail::{Tail, TailBatch};

use crate::config::TopicConfig;
use crate::error_code::ErrorCode;
use crate::record::{BatchHeader, ProducedBatch, RecordBatch};
use crate::types::{Few, LeaderEpoch, Offset, Time, Timestamp};

#[derive(Debug)]
pub struct Log {
    config: Arc<TopicConfig>,
    /// Oldest first; never empty; the last one is active.
    segments: Vec<Segment>,
    tail: Tail,
    epochs: LeaderEpochs,
    producers: Producers,
    /// First offset a reader may ask for.
    log_start_offset: Offset,
    /// The offset the next record will get.
    log_end_offset: Offset,
    /// Everything below is on stable storage, in the journal or in a segment.
    durable_offset: Offset,
    /// Everything below was handed to the segment files.
    writing_offset: Offset,
    /// Everything below is in the segment files, synced or not. Invariants:
    /// - written_offset ≤ writing_offset ≤ log_end_offset
    /// - the tail reaches back at least to it
    written_offset: Offset,
    dirty_bytes: usize,
    /// See `LogState::indexed_size`.
    indexed_size: u64,
    /// Its log start is not kept up: `log_start_offset` is.
    cleaning: CleaningPoint,
    /// Where recovery would resume by the table on stable storage, and by the one that is being written.
    recovery_point: ResumePoint,
    next_recovery_point: ResumePoint,
}

/// Where an appended batch went.
#[derive(Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub batch: RecordBatch,
    /// The append began a new segment.
    pub rolled: bool,
}

/// Bytes to add to a segment file, at the position where the last write of that file ended.
#[derive(Debug)]
pub struct WriteBack {
    pub segment: Offset,
    pub position: u64,
    pub bytes: Vec<Bytes>,
    /// Hand this to `on_written`.
    pub upto: Offset,
}

/// What a reader gets.
#[derive(Debug)]
pub enum LogRead {
    /// Nothing below the limit yet.
    Empty,
    /// Whole batches out of memory.
    Tail(Few<Bytes>),
    /// They are on disk: `locate` says where.
    Disk,
}

/// Where on disk to look for an offset or a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// Batches start at `position`; some before the wanted one may come first.
    At { segment: Offset, position: u64 },
    /// The index files of this segment have to be read first.
    Unindexed { segment: Offset },
}

#[derive(Debug, PartialEq, Eq)]
pub struct OffsetOutOfRange;

impl Log {
    pub fn open(config: Arc<TopicConfig>, recovered: RecoveredLog) -> Log {
        let RecoveredLog { state, sealed, active, cleaning, .. } = recovered;
        let mut segments: Vec<_> = sealed.iter().map(|file| Segment::sealed(file.base_offset, file.size)).collect();
        segments.push(Segment::resumed(active.base_offset, active.size, state.indexed_size, state.first_timestamp));
        let recovery_point =
            ResumePoint { segment: active.base_offset, position: active.size, written_offset: state.log_end_offset };
        Log {
            config,
            segments,
            tail: Tail::default(),
            epochs: state.epochs,
            producers: state.producers,
            log_start_offset: state.log_start_offset,
            log_end_offset: state.log_end_offset,
            durable_offset: state.log_end_offset,
            writing_offset: state.log_end_offset,
            written_offset: state.log_end_offset,
            dirty_bytes: 0,
            indexed_size: state.indexed_size,
            cleaning,
            recovery_point,
            next_recovery_point: recovery_point,
        }
    }

    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    pub fn durable_offset(&self) -> Offset {
        self.durable_offset
    }

    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    pub fn config(&self) -> &Arc<TopicConfig> {
        &self.config
    }

    pub fn set_config(&mut self, config: Arc<TopicConfig>) {
        self.config = config;
    }

    /// Whether a client's batch continues its producer's sequence. Batches without a producer always do.
    pub fn check_sequence(&self, header: &BatchHeader) -> Result<Sequence, ErrorCode> {
        if header.producer_id < 0 { Ok(Sequence::Next) } else { self.producers.check(header) }
    }

    /// Appends a checked batch: stamps offset and epoch, rolls the segment if it is full or old.
    pub fn append(&mut self, now: Time, batch: ProducedBatch, epoch: LeaderEpoch) -> Appended {
        let rolled = self.should_roll(now, batch.header());
        if rolled {
            self.roll();
        }
        self.epochs.on_append(epoch, self.log_end_offset);
        let batch = batch.stamp(self.log_end_offset, epoch);
        let header = batch.header();
        let segment = self.segments.last_mut().expect("never empty");
        segment.begun_ms(now.wall_ms);
        let position = segment.append(&header, self.config.index_interval_bytes as u64);
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        self.tail.push(TailBatch {
            base_offset,
            last_offset,
            segment: segment.base_offset,
            position,
            batch: batch.clone(),
        });
        self.dirty_bytes += batch.bytes().len();
        self.indexed_size = 0;
        self.producers.on_append(&header, now.wall_ms);
        self.log_end_offset = last_offset + 1;
        Appended { base_offset, last_offset, batch, rolled }
    }

    fn should_roll(&self, now: Time, next: &BatchHeader) -> bool {
        let active = self.segments.last().expect("never empty");
        if active.size == 0 {
            return false;
        }
        let limit = (self.config.segment_bytes as u64).min(SEGMENT_BYTES_LIMIT);
        let clock = if next.max_timestamp >= 0 { next.max_timestamp } else { now.wall_ms };
        let age = active.first_timestamp.map_or(0, |first| clock.saturating_sub(first));
        let last_relative = self.log_end_offset + Offset::from(next.last_offset_delta) - active.base_offset;
        active.size + next.size() as u64 > limit
            || age > self.roll_after_ms()
            || last_relative > Offset::from(i32::MAX)
            || active.has_full_index(self.config.segment_index_bytes as u64)
    }

    /// The journal holds everything below `offset`.
    pub fn advance_durable(&mut self, offset: Offset) {
        assert!(offset <= self.log_end_offset);
        self.durable_offset = self.durable_offset.max(offset);
    }

    /// Bytes that only memory and the journal hold.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Bytes of batches kept in memory, dirty ones included.
    pub fn tail_bytes(&self) -> usize {
        self.tail.bytes()
    }

    pub fn written_offset(&self) -> Offset {
        self.written_offset
    }

    /// The next piece for the segment files, out of one segment; None while one is on its way or nothing is dirty.
    pub fn take_write_back(&mut self, max_bytes: usize) -> Option<WriteBack> {
        if self.writing_offset > self.written_offset || self.written_offset == self.log_end_offset {
            return None;
        }
        let mut dirty = self.tail.from(self.written_offset).peekable();
        let first = dirty.peek().expect("the tail reaches back to the written offset");
        assert!(first.base_offset == self.written_offset);
        let (segment, position) = (first.segment, u64::from(first.position));
        let (mut bytes, mut total, mut upto) = (Vec::new(), 0, self.written_offset);
        for batch in dirty.take_while(|batch| batch.segment == segment) {
            if total > 0 && total + batch.batch.bytes().len() > max_bytes {
                break;
            }
            total += batch.batch.bytes().len();
            bytes.push(batch.batch.bytes().clone());
            upto = batch.last_offset + 1;
        }
        self.writing_offset = upto;
        Some(WriteBack { segment, position, bytes, upto })
    }

    /// The write-back up to `upto` is in the file; returns its bytes.
    pub fn on_written(&mut self, upto: Offset) -> usize {
        assert!(upto == self.writing_offset);
        let written: usize = self
            .tail
            .from(self.written_offset)
            .take_while(|b| b.last_offset < upto)
            .map(|b| b.batch.bytes().len())
            .sum();
        self.dirty_bytes -= written;
        self.written_offset = upto;
        written
    }

    /// The write-back failed and will be asked for again.
    pub fn on_write_failed(&mut self) {
        self.writing_offset = self.written_offset;
    }

    /// The oldest segment that was rolled, is whole on disk, and still lacks its exact length and its index files.
    pub fn segment_to_seal(&self) -> Option<&Segment> {
        let oldest = self.segments.iter().position(|segment| segment.life == Life::Sealing)?;
        let end = self.segments[oldest + 1].base_offset;
        (self.written_offset >= end).then(|| &self.segments[oldest])
    }

    /// The active segment, if it holds anything.
    pub fn active_segment(&self) -> Option<&Segment> {
        self.segments.last().filter(|active| active.size > 0)
    }

    /// The active segment has its exact length and its index files on disk, until the next append.
    pub fn on_active_closed(&mut self) {
        self.indexed_size = self.segments.last().expect("never empty").size;
    }

    /// The active segment lacks its exact length or its index files on disk.
    pub fn is_open_ended(&self) -> bool {
        self.indexed_size != self.segments.last().expect("never empty").size
    }

    pub fn on_sealed(&mut self, base_offset: Offset) {
        if let Some(segment) = self.segment_mut(base_offset) {
            assert!(segment.life == Life::Sealing);
            segment.life = Life::Sealed;
            segment.unload_index();
        }
    }

    pub fn segment_mut(&mut self, base_offset: Offset) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.base_offset == base_offset)
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whole batches from the one holding `offset`, all of them below `upto`, about `max_bytes`, at least one if there is one.
    pub fn read(&self, offset: Offset, upto: Offset, max_bytes: usize) -> Result<LogRead, OffsetOutOfRange> {
        if offset < self.log_start_offset || offset > self.log_end_offset {
            return Err(OffsetOutOfRange);
        }
        if offset >= upto {
            return Ok(LogRead::Empty);
        }
        if self.tail.first_offset().is_some_and(|first| first <= offset) {
            return Ok(LogRead::Tail(self.tail.read(offset, upto, max_bytes)));
        }
        Ok(LogRead::Disk)
    }

    /// Where on disk to start reading for `offset`.
    pub fn locate(&self, offset: Offset) -> Location {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        let segment = &self.segments[after.saturating_sub(1)];
        locate_in(segment, segment.lookup(offset))
    }

    /// From this segment on, where to start looking for the first record that is not older than `timestamp`. The end of
    /// the log if no indexed segment has one.
    pub fn locate_time(&self, base_offset: Offset, timestamp: Timestamp) -> Location {
        for segment in self.segments.iter().filter(|segment| segment.base_offset >= base_offset) {
            let all_older =
                segment.is_largest_known() && segment.largest.is_none_or(|(largest, _)| largest < timestamp);
            if !all_older {
                return locate_in(segment, segment.lookup_time(timestamp));
            }
        }
        let active = self.segments.last().expect("never empty");
        Location::At { segment: active.base_offset, position: active.size }
    }

    /// Where in this segment the index ends.
    pub fn locate_unindexed(&self, base_offset: Offset) -> Location {
        let segment = self.segments.iter().find(|segment| segment.base_offset == base_offset);
        let segment = segment.unwrap_or(self.segments.last().expect("never empty"));
        locate_in(segment, segment.index.loaded.then(|| segment.indexed_to() as segment::Position))
    }

    /// The bytes of this segment that are in its file.
    fn written_position(&self, index: usize) -> u64 {
        let segment = &self.segments[index];
        match self.tail.from(self.written_offset).next() {
            Some(dirty) if dirty.segment == segment.base_offset => u64::from(dirty.position),
            Some(dirty) if dirty.segment < segment.base_offset => 0,
            _ => segment.size,
        }
    }

    pub fn written_position_of(&self, base_offset: Offset) -> u64 {
        let found = self.segments.iter().position(|segment| segment.base_offset == base_offset);
        found.map_or(0, |index| self.written_position(index))
    }

    /// The base offset of the segment after this one.
    pub fn segment_after(&self, base_offset: Offset) -> Option<Offset> {
        self.segments.iter().map(|segment| segment.base_offset).find(|&base| base > base_offset)
    }

    /// A batch met while reading a segment from disk; completes an index that a restart left short.
    pub fn note_batch(&mut self, segment: Offset, position: u64, header: &BatchHeader) {
        let interval = self.config.index_interval_bytes as u64;
        if let Some(segment) = self.segment_mut(segment)
            && header.base_offset >= segment.base_offset
            && position == segment.indexed_to()
        {
            segment.index_batch(header, position, interval);
        }
    }

    /// Whether a batch met at this place of a segment can be what was written there. Its checksum does not cover its offset
    /// and its epoch, so that a broker can stamp them: these are held against what is known of the place.
    pub fn is_in_place(
        &self,
        base_offset: Offset,
        position: u64,
        expected: Option<Offset>,
        header: &BatchHeader,
    ) -> bool {
        let Some(index) = self.segments.iter().position(|segment| segment.base_offset == base_offset) else {
            return true;
        };
        let end = self.segments.get(index + 1).map_or(self.log_end_offset, |next| next.base_offset);
        let expected = if position == 0 { Some(base_offset) } else { expected };
        let epoch = self.epochs.at(header.base_offset);
        header.base_offset >= base_offset
            && header.next_offset() <= end
            && header.last_offset() >= header.base_offset
            && expected.is_none_or(|expected| match base_offset < self.cleaning.holes_below {
                true => expected <= header.base_offset,
                false => expected == header.base_offset,
            })
            && self.segments[index].last_offset_at(position).is_none_or(|last| last == header.last_offset())
            && epoch.is_none_or(|epoch| epoch == header.partition_leader_epoch)
    }

    /// The same from memory, for what no file has yet: behind a restart, appends are not indexed before what was there.
    pub fn index_from_tail(&mut self, base_offset: Offset) {
        let interval = self.config.index_interval_bytes as u64;
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.base_offset == base_offset) else { return };
        let from = self.tail.from(base_offset).skip_while(|batch| batch.segment < base_offset);
        for batch in from.take_while(|batch| batch.segment == base_offset) {
            segment.index_batch(&batch.batch.header(), u64::from(batch.position), interval);
        }
    }

    /// Batches in memory from `offset` on.
    pub fn tail_from(&self, offset: Offset) -> impl Iterator<Item = &RecordBatch> {
        self.tail.from(offset).map(|batch| &batch.batch)
    }

    pub fn tail_start(&self) -> Offset {
        self.tail.first_offset().unwrap_or(self.log_end_offset)
    }

    /// The first segment whose largest timestamp is not known yet.
    pub fn segment_of_unknown_age(&self) -> Option<Offset> {
        self.segments.iter().find(|segment| segment.size > 0 && !segment.is_largest_known()).map(|s| s.base_offset)
    }

    /// Largest record timestamp and the last offset of its batch; the earlier one where several have it.
    pub fn max_timestamp(&self) -> Option<(Timestamp, Offset)> {
        let largest = self.segments.iter().filter_map(|segment| segment.largest);
        largest.max_by_key(|&(timestamp, offset)| (timestamp, -offset))
    }

    /// Whether everything from this place on is in memory.
    pub fn is_in_tail(&self, segment: Offset, position: u64) -> bool {
        match self.tail.front() {
            Some(first) => (segment, position) >= (first.segment, u64::from(first.position)),
            None => self.segments.last().is_some_and(|active| (segment, position) >= (active.base_offset, active.size)),
        }
    }

    /// The segment that holds `offset`.
    pub fn segment_of(&self, offset: Offset) -> Offset {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        self.segments[after.saturating_sub(1)].base_offset
    }

    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    pub fn expire_producers(&mut self, oldest_ms: Timestamp) {
        self.producers.expire(oldest_ms);
    }
}

fn locate_in(segment: &Segment, position: Option<segment::Position>) -> Location {
    match position {
        None => Location::Unindexed { segment: segment.base_offset },
        Some(position) => Location::At { segment: segment.base_offset, position: u64::from(position) },
    }
}

/// The one way in which tests of this room make logs.
#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::record::{BatchBuilder, ProduceRules};

    pub fn log(config: TopicConfig) -> Log {
        Log::open(Arc::new(config), RecoveredLog::new())
    }

    pub fn append_built(log: &mut Log, now: Time, builder: BatchBuilder) -> Appended {
        let rules = ProduceRules { timestamp_after_max_ms: i64::MAX, ..ProduceRules::default() };
        let batch = ProducedBatch::check(BytesMut::from(builder.build()), &rules, now.wall_ms).expect("good");
        log.append(now, batch, 1)
    }

    /// One record.
    pub fn append(log: &mut Log, now: Time, at: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) -> Appended {
        let mut builder = BatchBuilder::new();
        builder.push(at, key, value);
        append_built(log, now, builder)
    }

    /// Writes everything back and seals what is rolled.
    pub fn seal_all(log: &mut Log) {
        while let Some(write) = log.take_write_back(usize::MAX) {
            log.on_written(write.upto);
        }
        while let Some(base_offset) = log.segment_to_seal().map(|segment| segment.base_offset) {
            log.on_sealed(base_offset);
        }
        log.advance_durable(log.log_end_offset());
    }
}
