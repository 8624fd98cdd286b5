//! Reading segment files: for fetches behind the tail, for offsets by time, and to complete an index that a restart left
//! short. One machine walks batches chunk by chunk until it has what it wants. Catch-up readers find the next chunk read
//! ahead. A corrupt batch is reported with file and position and never served.

use std::collections::VecDeque;

use bytes::Bytes;
use tracing::error;

use super::owner_offsets::first_record;
use super::storage::Operation;
use super::{Effect, FileError, FileKind, FileName, Shard};
use crate::error_code::ErrorCode;
use crate::log::Location;
use crate::record::{self, BatchError};
use crate::types::{Deadline, Offset, PartitionId, Time, Timestamp};

/// What a fetch wants from disk.
#[derive(Clone, Debug)]
pub(super) struct ColdRead {
    pub partition: PartitionId,
    pub offset: Offset,
    /// Batches at or above stay unread.
    pub upto: Offset,
    pub max_bytes: usize,
    /// Fetch and its part; `None` reads ahead.
    pub waiter: Option<(u64, usize)>,
}

/// A walk through one partition's segment files.
#[derive(Debug)]
pub(super) struct Scan {
    pub partition: PartitionId,
    pub goal: Goal,
    pub segment: Offset,
    position: u64,
    length: u32,
    /// Base offset of the batch at `position`, where it is known.
    expected: Option<Offset>,
    /// The content of `.index`, while `.timeindex` is being read.
    offset_index: Option<Bytes>,
}

#[derive(Debug)]
pub(super) enum Goal {
    /// Batches for a reader.
    Records(ColdRead),
    /// The first batch with a record that is not older, for this question of ListOffsets.
    Time { timestamp: Timestamp, token: u64, index: usize },
    /// Every batch of the segment passes, so that its index is whole: to be written, or for a question of ListOffsets.
    Index { reader: IndexReader },
}

/// Who needs the whole index of a segment, or its largest timestamp.
#[derive(Clone, Copy, Debug)]
pub(super) enum IndexReader {
    /// The segment is being closed.
    Closing,
    /// A question of ListOffsets, and its part.
    Question(u64, usize),
    Cleaning,
}

pub(super) struct Cold {
    /// Oldest first.
    ahead: Vec<Ahead>,
    ahead_bytes: usize,
    ahead_bytes_max: usize,
    loaded_indexes: VecDeque<(PartitionId, Offset)>,
    /// Files of this log are about to change their names: whoever wants to read them waits.
    held: Option<PartitionId>,
    held_scans: Vec<Scan>,
}

/// A chunk read before anybody asked for it.
struct Ahead {
    read: ColdRead,
    /// So many chunks may be read on from it before its reader comes.
    further: usize,
    state: AheadState,
}

enum AheadState {
    Reading { waiters: Vec<(u64, usize)> },
    Ready { records: Vec<Bytes>, abandoned_after: Deadline },
}

impl Ahead {
    /// What it may bring into memory.
    fn bytes(&self) -> usize {
        self.read.max_bytes.clamp(READ_BYTES_MIN, READ_BYTES_MAX)
    }

    fn is_for(&self, partition: PartitionId, offset: Offset) -> bool {
        self.read.partition == partition && self.read.offset == offset
    }

    fn is_abandoned(&self, now: Time) -> bool {
        matches!(self.state, AheadState::Ready { abandoned_after, .. } if abandoned_after <= now.monotonic_us)
    }
}

impl Cold {
    /// `ahead_bytes_max`: what chunks read ahead may hold.
    pub fn new(ahead_bytes_max: usize) -> Cold {
        Cold {
            ahead: Vec::new(),
            ahead_bytes: 0,
            ahead_bytes_max,
            loaded_indexes: VecDeque::new(),
            held: None,
            held_scans: Vec::new(),
        }
    }

    fn remove_ahead(&mut self, index: usize) -> Ahead {
        let ahead = self.ahead.remove(index);
        self.ahead_bytes -= ahead.bytes();
        ahead
    }

    /// Whether so much more may be read ahead. A chunk that its reader may yet come for stays: of many partitions read in
    /// turn, the oldest is the next.
    fn has_room_ahead(&mut self, now: Time, bytes: usize) -> bool {
        while self.ahead_bytes + bytes > self.ahead_bytes_max {
            let Some(index) = self.ahead.iter().position(|ahead| ahead.is_abandoned(now)) else { return false };
            self.remove_ahead(index);
        }
        true
    }
}

/// The shortest read: the index is sparse, and a larger one costs little more.
pub(super) const READ_BYTES_MIN: usize = 64 * 1024;
/// The longest read of one piece.
const READ_BYTES_MAX: usize = 8 << 20;
/// Reads that complete an index are of this size.
const SCAN_BYTES: usize = 1 << 20;
/// Chunks read ahead of one reader: one on its way to him, one on its way from the device.
const AHEAD_CHUNKS: usize = 2;
/// A chunk whose reader has not come for it by then makes room for others.
const ABANDONED_AFTER_MS: u64 = 2000;
/// Index files of sealed segments kept in memory per core.
const LOADED_INDEXES_MAX: usize = 64;
/// No index file is longer: a 2 GiB segment has fewer entries.
const INDEX_BYTES_MAX: u32 = 16 << 20;

impl Shard {
    pub(super) fn read_cold(&mut self, now: Time, read: ColdRead, effects: &mut Vec<Effect>) {
        let (partition, offset) = (read.partition, read.offset);
        if let Some(index) = self.cold.ahead.iter().position(|ahead| ahead.is_for(partition, offset)) {
            if let AheadState::Reading { waiters } = &mut self.cold.ahead[index].state {
                return waiters.extend(read.waiter);
            }
            if let AheadState::Ready { records, .. } = self.cold.remove_ahead(index).state {
                self.read_ahead(now, &read, &records, AHEAD_CHUNKS, effects);
                if let Some(waiter) = read.waiter {
                    self.on_cold_read(now, waiter, Ok(records), effects);
                }
            }
            return;
        }
        self.start_scan(now, partition, Goal::Records(read), |log| log.locate(offset), effects);
    }

    /// Begins to read what follows `records`, up to `count` chunks, if it is on disk as well.
    fn read_ahead(&mut self, now: Time, read: &ColdRead, records: &[Bytes], count: usize, effects: &mut Vec<Effect>) {
        let Some(last) = records.last().and_then(|batch| record::BatchHeader::parse(batch)) else { return };
        let mut offset = last.last_offset() + 1;
        for further in (0..count).rev() {
            let Some(known) = self.cold.ahead.iter_mut().find(|ahead| ahead.is_for(read.partition, offset)) else {
                return self.start_ahead(now, ColdRead { offset, waiter: None, ..read.clone() }, further, effects);
            };
            known.further = further;
            let AheadState::Ready { records, .. } = &known.state else { return };
            let Some(last) = records.last().and_then(|batch| record::BatchHeader::parse(batch)) else { return };
            offset = last.last_offset() + 1;
        }
    }

    fn start_ahead(&mut self, now: Time, mut read: ColdRead, further: usize, effects: &mut Vec<Effect>) {
        let Some(partition) = self.partitions.get(&read.partition) else { return };
        read.upto = partition.high_watermark().min(partition.log.tail_start());
        if read.offset >= read.upto {
            return;
        }
        let ahead = Ahead { read: read.clone(), further, state: AheadState::Reading { waiters: Vec::new() } };
        if !self.cold.has_room_ahead(now, ahead.bytes()) {
            return;
        }
        self.cold.ahead_bytes += ahead.bytes();
        self.cold.ahead.push(ahead);
        let (partition, offset) = (read.partition, read.offset);
        self.start_scan(now, partition, Goal::Records(read), |log| log.locate(offset), effects);
    }

    /// Looks for the first record that is not older than `timestamp`, from `segment` on.
    pub(super) fn scan_for_time(
        &mut self,
        now: Time,
        partition: PartitionId,
        segment: Offset,
        (timestamp, token, index): (Timestamp, u64, usize),
        effects: &mut Vec<Effect>,
    ) {
        let goal = Goal::Time { timestamp, token, index };
        self.start_scan(now, partition, goal, |log| log.locate_time(segment, timestamp), effects);
    }

    /// Reads the rest of a segment whose index a restart left short.
    pub(super) fn complete_index(
        &mut self,
        now: Time,
        partition: PartitionId,
        segment: Offset,
        reader: IndexReader,
        effects: &mut Vec<Effect>,
    ) {
        self.start_scan(now, partition, Goal::Index { reader }, |log| log.locate_unindexed(segment), effects);
    }

    fn start_scan(
        &mut self,
        now: Time,
        partition: PartitionId,
        goal: Goal,
        locate: impl FnOnce(&crate::log::Log) -> Location,
        effects: &mut Vec<Effect>,
    ) {
        let mut scan = Scan { partition, goal, segment: 0, position: 0, length: 0, expected: None, offset_index: None };
        let Some(owned) = self.partitions.get(&partition) else {
            return self.end_absent(now, scan, effects);
        };
        match locate(&owned.log) {
            Location::At { segment, position } => {
                (scan.segment, scan.position) = (segment, position);
                self.read_on(now, scan, 0, effects);
            }
            Location::Unindexed { segment } => {
                scan.segment = segment;
                self.read_file(scan, FileKind::OffsetIndex, 0, INDEX_BYTES_MAX, effects);
            }
        }
    }

    /// Reads the next chunk, at least `needed` bytes; goes to the next segment at the end of one.
    fn read_on(&mut self, now: Time, mut scan: Scan, needed: usize, effects: &mut Vec<Effect>) {
        let Some(partition) = self.partitions.get_mut(&scan.partition) else {
            return self.end_absent(now, scan, effects);
        };
        let available = partition.log.written_position_of(scan.segment);
        if scan.position >= available {
            if matches!(scan.goal, Goal::Index { .. }) {
                partition.log.index_from_tail(scan.segment);
            }
            let next = partition.log.segment_after(scan.segment);
            return match (next, &scan.goal) {
                (Some(next), Goal::Records(_)) => {
                    (scan.segment, scan.position, scan.expected) = (next, 0, Some(next));
                    self.read_on(now, scan, 0, effects);
                }
                (Some(next), &Goal::Time { timestamp, .. }) => {
                    let id = scan.partition;
                    self.start_scan(now, id, scan.goal, |log| log.locate_time(next, timestamp), effects);
                }
                _ => self.end_scan(now, scan, Ok(Vec::new()), effects),
            };
        }
        let wanted = match &scan.goal {
            Goal::Records(read) => read.max_bytes.clamp(READ_BYTES_MIN, READ_BYTES_MAX),
            Goal::Time { .. } => READ_BYTES_MIN,
            Goal::Index { .. } => SCAN_BYTES,
        };
        let length = wanted.max(needed).min((available - scan.position) as usize);
        let (position, length) = (scan.position, length as u32);
        self.read_file(scan, FileKind::Log, position, length, effects);
    }

    fn read_file(&mut self, mut scan: Scan, kind: FileKind, position: u64, length: u32, effects: &mut Vec<Effect>) {
        if self.is_held(scan.partition) {
            return self.cold.held_scans.push(scan);
        }
        let directory = self.partitions[&scan.partition].directory.clone();
        let file = FileName { directory, base_offset: scan.segment, kind };
        scan.length = length;
        self.metrics.segment_reads += 1;
        self.metrics.segment_read_bytes += u64::from(length);
        let operation = self.operate(Operation::Scan { scan, kind });
        effects.push(Effect::Read { operation, file, position, length });
    }

    pub(super) fn on_scan_read(
        &mut self,
        now: Time,
        mut scan: Scan,
        kind: FileKind,
        bytes: Result<Bytes, FileError>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(partition) = self.partitions.get_mut(&scan.partition) else {
            return self.end_absent(now, scan, effects);
        };
        match (kind, bytes) {
            (FileKind::OffsetIndex, bytes) => {
                scan.offset_index = Some(bytes.unwrap_or_default());
                self.read_file(scan, FileKind::TimeIndex, 0, INDEX_BYTES_MAX, effects);
            }
            (FileKind::TimeIndex, bytes) => {
                let offsets = scan.offset_index.take().unwrap_or_default();
                let segment = partition.log.segment_mut(scan.segment).filter(|segment| !segment.index.loaded);
                if let Some(segment) = segment {
                    segment.load_index(&offsets, &bytes.unwrap_or_default());
                    self.keep_index(scan.partition, scan.segment);
                }
                self.restart_scan(now, scan, effects);
            }
            // The segment went away while it was read.
            _ if partition.log.segment_mut(scan.segment).is_none() => self.restart_scan(now, scan, effects),
            (_, Ok(bytes)) => self.on_chunk(now, scan, bytes, effects),
            (_, Err(failure)) => {
                let file = FileName { directory: partition.directory.clone(), base_offset: scan.segment, kind };
                error!(%file, position = scan.position, ?failure, "a segment cannot be read");
                self.end_scan(now, scan, Err(ErrorCode::KafkaStorageError), effects);
            }
        }
    }

    /// From now on no file of this log is begun to be read.
    pub(super) fn hold_scans(&mut self, id: PartitionId) {
        self.cold.held = Some(id);
    }

    pub(super) fn is_held(&self, id: PartitionId) -> bool {
        self.cold.held == Some(id)
    }

    /// The files have their names: whoever waited looks anew where to read.
    pub(super) fn release_scans(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.cold.held = None;
        for scan in std::mem::take(&mut self.cold.held_scans) {
            self.restart_scan(now, scan, effects);
        }
    }

    /// Looks anew where to read: an index was loaded, or the segment is not what it was.
    fn restart_scan(&mut self, now: Time, scan: Scan, effects: &mut Vec<Effect>) {
        let id = scan.partition;
        let log = self.partitions.get(&id).map(|partition| &partition.log);
        let log_start = log.map_or(0, |log| log.log_start_offset());
        let segment = log.map_or(0, |log| log.segment_of(scan.segment));
        match scan.goal {
            Goal::Records(ref read) if read.offset < log_start => {
                self.end_scan(now, scan, Err(ErrorCode::OffsetOutOfRange), effects);
            }
            Goal::Records(ref read) => {
                let offset = read.offset;
                self.start_scan(now, id, scan.goal, |log| log.locate(offset), effects);
            }
            Goal::Time { timestamp, .. } => {
                self.start_scan(now, id, scan.goal, |log| log.locate_time(segment, timestamp), effects);
            }
            Goal::Index { .. } => self.start_scan(now, id, scan.goal, |log| log.locate_unindexed(segment), effects),
        }
    }

    /// Walks the batches of one chunk.
    fn on_chunk(&mut self, now: Time, mut scan: Scan, bytes: Bytes, effects: &mut Vec<Effect>) {
        let partition = self.partitions.get_mut(&scan.partition).expect("the caller found it");
        let (mut found, mut total, mut full) = (Vec::new(), 0, false);
        let log_start = partition.log.log_start_offset();
        let mut walk = record::batches(&bytes);
        let (mut passed, mut damage) = (0, None);
        for batch in &mut walk {
            let (at, header) = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    damage = Some(error);
                    break;
                }
            };
            if !partition.log.is_in_place(scan.segment, scan.position + at as u64, scan.expected, &header) {
                damage = Some(BatchError::Misplaced { base_offset: header.base_offset });
                break;
            }
            let slice = bytes.slice(at..at + header.size());
            let wanted = match &scan.goal {
                Goal::Records(read) if header.last_offset() < read.offset => false,
                Goal::Records(read) => {
                    full = header.last_offset() >= read.upto || (total > 0 && total + slice.len() > read.max_bytes);
                    !full
                }
                Goal::Time { timestamp, .. } => header.max_timestamp >= *timestamp && header.next_offset() > log_start,
                Goal::Index { .. } => false,
            };
            if full {
                break;
            }
            if wanted || matches!(scan.goal, Goal::Index { .. }) {
                if !record::check_crc(&slice) {
                    damage = record::RecordBatch::parse(slice).err();
                    break;
                }
                total += slice.len();
            }
            partition.log.note_batch(scan.segment, scan.position + at as u64, &header);
            passed = at + header.size();
            scan.expected = Some(header.next_offset());
            match scan.goal {
                // Its time may be that of a record that is gone.
                Goal::Time { timestamp, .. } if wanted => {
                    full = first_record(&slice, timestamp, log_start).is_some();
                    found.extend(full.then_some(slice));
                }
                _ => found.extend(wanted.then_some(slice)),
            }
        }
        if !found.is_empty() {
            return self.end_scan(now, scan, Ok(found), effects);
        }
        let cut_short = bytes.len() < scan.length as usize;
        let left = partition.log.written_position_of(scan.segment).saturating_sub(scan.position) as usize;
        let file = FileName { directory: partition.directory.clone(), base_offset: scan.segment, kind: FileKind::Log };
        match damage {
            Some(BatchError::Truncated { needed, .. }) if !cut_short && passed + needed <= left => {
                scan.position += passed as u64;
                self.read_on(now, scan, needed, effects);
            }
            Some(damage) => {
                let position = scan.position + passed as u64;
                error!(%file, position, %damage, "a batch is corrupt and is not served; restore the file from a replica or a backup");
                self.metrics.corrupt_batches += 1;
                self.end_scan(now, scan, Err(ErrorCode::CorruptMessage), effects);
            }
            None if full => self.end_scan(now, scan, Ok(Vec::new()), effects),
            None if cut_short => {
                let (found, needed) = (scan.position + bytes.len() as u64, scan.position + u64::from(scan.length));
                error!(%file, found, needed, "a segment is shorter than what was written to it; restore it from a replica or a backup");
                self.metrics.corrupt_batches += 1;
                self.end_scan(now, scan, Err(ErrorCode::CorruptMessage), effects);
            }
            None => {
                scan.position += passed as u64;
                self.read_on(now, scan, 0, effects);
            }
        }
    }

    /// Its partition is not here any more.
    fn end_absent(&mut self, now: Time, scan: Scan, effects: &mut Vec<Effect>) {
        let reason = self.absence(scan.partition, ErrorCode::UnknownTopicOrPartition);
        self.end_scan(now, scan, Err(reason), effects);
    }

    fn end_scan(&mut self, now: Time, scan: Scan, outcome: Result<Vec<Bytes>, ErrorCode>, effects: &mut Vec<Effect>) {
        match scan.goal {
            Goal::Index { reader } => match reader {
                IndexReader::Closing => self.on_index_complete(scan.partition, scan.segment, outcome.err(), effects),
                IndexReader::Question(token, index) => {
                    self.on_age_known(now, (token, index), outcome.err(), effects);
                }
                IndexReader::Cleaning => self.on_segment_age(scan.partition, scan.segment, outcome.err()),
            },
            Goal::Time { timestamp, token, index } => {
                self.on_time_found((token, index), timestamp, outcome, effects);
            }
            Goal::Records(read) => {
                let Some(waiter) = read.waiter else { return self.on_ahead(now, &read, outcome, effects) };
                if let Ok(records) = &outcome {
                    self.read_ahead(now, &read, records, AHEAD_CHUNKS, effects);
                }
                self.on_cold_read(now, waiter, outcome, effects);
            }
        }
    }

    /// A chunk read ahead has come: for who waits for it already, or to be kept. Reading does not run away from a slow
    /// reader: he would lose what was read first.
    fn on_ahead(
        &mut self,
        now: Time,
        read: &ColdRead,
        outcome: Result<Vec<Bytes>, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let index = self.cold.ahead.iter().position(|ahead| ahead.is_for(read.partition, read.offset));
        let Some(index) = index else { return };
        let Ahead { further, state, .. } = &mut self.cold.ahead[index];
        let further = *further;
        let AheadState::Reading { waiters } = state else { return };
        let waiters = std::mem::take(waiters);
        match &outcome {
            Ok(records) if waiters.is_empty() && !records.is_empty() => {
                let abandoned_after = now.after_ms(ABANDONED_AFTER_MS);
                *state = AheadState::Ready { records: records.clone(), abandoned_after };
                self.read_ahead(now, read, records, further, effects);
            }
            outcome => {
                self.cold.remove_ahead(index);
                if let Ok(records) = outcome {
                    self.read_ahead(now, read, records, AHEAD_CHUNKS, effects);
                }
            }
        }
        for waiter in waiters {
            self.on_cold_read(now, waiter, outcome.clone(), effects);
        }
    }

    /// An index was read for a sealed segment: the one read longest ago makes room.
    fn keep_index(&mut self, partition: PartitionId, segment: Offset) {
        self.cold.loaded_indexes.push_back((partition, segment));
        if self.cold.loaded_indexes.len() > LOADED_INDEXES_MAX
            && let Some((id, segment)) = self.cold.loaded_indexes.pop_front()
            && let Some(partition) = self.partitions.get_mut(&id)
            && let Some(segment) = partition.log.segment_mut(segment)
            && segment.life == crate::log::Life::Sealed
        {
            segment.unload_index();
        }
    }
}
