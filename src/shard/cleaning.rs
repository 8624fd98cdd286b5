//! Logs that clean themselves: retention looks at every log now and then, log starts move once a table says so on stable
//! storage, and the segments below them go. Rules live in `log`; here is when they are asked, and what becomes of files.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cold::IndexReader;
use super::storage::Operation;
use super::{Effect, FileChange, FileError, FileKind, FileName, Shard, Timer};
use crate::config::BrokerConfig;
use crate::error_code::ErrorCode;
use crate::log::{CleaningPoint, encode_cleaning};
use crate::types::{Deadline, Map, Offset, PartitionId, Set, Time};

pub(super) struct Cleaning {
    /// Where this shard's table of cleaning is kept.
    path: Arc<str>,
    check_interval_ms: u64,
    /// When retention looks at all logs again.
    check_at: Deadline,
    /// Logs that this look has not come to.
    unchecked: VecDeque<PartitionId>,
    /// Where logs shall start, once that is on stable storage.
    wanted: Map<PartitionId, CleaningPoint>,
    waiters: Vec<Waiter>,
    /// The table that is being written.
    writing: Option<Map<PartitionId, CleaningPoint>>,
    /// No table is written before; the device was full.
    write_again_at: Deadline,
    /// Logs with segments below their start.
    removing: Set<PartitionId>,
    /// Files to delete and when, the next one first.
    deletions: VecDeque<(Deadline, FileName)>,
    /// The next time that something is due.
    wake_at: Deadline,
    timer_at: Option<Deadline>,
}

/// Someone who is told when a log's start has reached an offset.
struct Waiter {
    id: PartitionId,
    offset: Offset,
    token: u64,
}

/// Logs that one turn looks at.
const CHECKS_PER_TURN: usize = 100;
/// The next ones follow after this.
const CHECK_PAUSE_MS: u64 = 2;
/// Segments of one log that lose their names in one turn, and whose files go in one: thousands at once would hold up the
/// file system that commits wait for.
const SEGMENTS_PER_SLICE: usize = 16;
/// The next ones follow after this.
const SLICE_PAUSE_MS: u64 = 20;
/// A full device is tried again after this.
const FULL_RETRY_MS: u64 = 1000;

impl Cleaning {
    pub fn new(now: Time, path: Arc<str>, config: &BrokerConfig) -> Cleaning {
        let check_interval_ms = u64::try_from(config.log_retention_check_interval_ms).unwrap_or(u64::MAX);
        Cleaning {
            path,
            check_interval_ms,
            check_at: now.after_ms(check_interval_ms),
            unchecked: VecDeque::new(),
            wanted: Map::default(),
            waiters: Vec::new(),
            writing: None,
            write_again_at: 0,
            removing: Set::default(),
            deletions: VecDeque::new(),
            wake_at: 0,
            timer_at: None,
        }
    }

    /// Something has happened that cleaning may have waited for.
    pub fn wake(&mut self) {
        self.wake_at = 0;
    }

    pub fn on_timer(&mut self) {
        self.timer_at = None;
        self.wake_at = 0;
    }

    /// How far this log is compacted may be on its way to stable storage: until it is there, the log looks dirtier than it is.
    pub fn is_recording(&self, id: PartitionId) -> bool {
        self.wanted.contains_key(&id) || self.writing.as_ref().is_some_and(|points| points.contains_key(&id))
    }

    pub fn wake_by(&mut self, at: Deadline) {
        self.wake_at = self.wake_at.min(at);
    }
}

impl Shard {
    /// A clean stop finds nothing of cleaning half done.
    pub(super) fn cleaning_is_quiet(&self) -> bool {
        self.cleaning.writing.is_none() && self.compacting.is_quiet()
    }

    /// Readers of this log below `offset` shall be out of range, for ever. `on_log_start_advanced` tells `token` when they are.
    /// The caller has seen that the offset lies at or below the high watermark.
    pub(super) fn want_log_start(&mut self, id: PartitionId, offset: Offset, token: u64) {
        self.want_point(id, CleaningPoint { log_start_offset: offset, ..CleaningPoint::default() });
        self.cleaning.waiters.push(Waiter { id, offset, token });
    }

    pub(super) fn want_point(&mut self, id: PartitionId, point: CleaningPoint) {
        self.cleaning.wanted.entry(id).or_default().merge(point);
        self.cleaning.wake();
    }

    /// What is due of cleaning. Costs nothing in a turn in which nothing is.
    pub(super) fn tend_cleaning(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if now.monotonic_us < self.cleaning.wake_at {
            return;
        }
        self.cleaning.wake_at = Deadline::MAX;
        self.delete_files(now, effects);
        self.write_cleaning_table(now, effects);
        if !self.stopping {
            self.remove_segments(now, effects);
            self.check_retention(now, effects);
        }
        self.tend_compaction(now, effects);
        let wake_at = self.cleaning.wake_at;
        if wake_at < Deadline::MAX && self.cleaning.timer_at.is_none_or(|timer_at| timer_at > wake_at) {
            self.cleaning.timer_at = Some(wake_at);
            self.set_timer(wake_at.max(now.monotonic_us + 1), Timer::Cleaning);
        }
    }

    fn check_retention(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if now.monotonic_us >= self.cleaning.check_at {
            let mut ids: Vec<_> = self.partitions.keys().copied().filter(|id| *id != PartitionId::METADATA).collect();
            ids.sort_unstable();
            self.cleaning.unchecked = ids.into();
            self.cleaning.check_at = now.after_ms(self.cleaning.check_interval_ms);
        }
        for _ in 0..CHECKS_PER_TURN {
            let Some(id) = self.cleaning.unchecked.pop_front() else { break };
            self.check_log(now, id, effects);
        }
        let again =
            if self.cleaning.unchecked.is_empty() { self.cleaning.check_at } else { now.after_ms(CHECK_PAUSE_MS) };
        self.cleaning.wake_by(again);
    }

    fn check_log(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let high_watermark = partition.high_watermark();
        let log = &mut partition.log;
        let mut rolled = log.roll_if_idle(now);
        let retention = log.retention(now, high_watermark);
        if retention.start == log.log_end_offset() && retention.start > log.log_start_offset() {
            rolled |= log.roll();
        }
        let moves = retention.start > log.log_start_offset();
        if rolled {
            self.on_rolled(id);
        }
        if let Some(segment) = retention.unread {
            self.complete_index(now, id, segment, IndexReader::Cleaning, effects);
        }
        if moves {
            self.want_point(id, CleaningPoint { log_start_offset: retention.start, ..CleaningPoint::default() });
        }
    }

    /// A segment's index was read so that its age is known: its log is looked at once more.
    pub(super) fn on_segment_age(&mut self, id: PartitionId, segment: Offset, error: Option<ErrorCode>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if error.is_some()
            && let Some(segment) = partition.log.segment_mut(segment)
        {
            segment.give_up_age();
        }
        self.cleaning.unchecked.push_back(id);
        self.compacting.look_at = 0;
        self.cleaning.wake();
    }

    /// One table at a time; what is wanted meanwhile goes with the next.
    fn write_cleaning_table(&mut self, now: Time, effects: &mut Vec<Effect>) {
        // A table names no partition that is offline: until it is kept elsewhere, the one before stands.
        if self.cleaning.writing.is_some() || self.cleaning.wanted.is_empty() || self.offline.is_keeping() {
            return;
        }
        if now.monotonic_us < self.cleaning.write_again_at {
            let at = self.cleaning.write_again_at;
            return self.cleaning.wake_by(at);
        }
        let wanted = std::mem::take(&mut self.cleaning.wanted);
        let mut points = Vec::new();
        for partition in self.partitions.values() {
            let mut point = partition.log.cleaning_point();
            point.merge(wanted.get(&partition.id).copied().unwrap_or_default());
            if point != CleaningPoint::default() {
                points.push((partition.id, point));
            }
        }
        points.sort_unstable_by_key(|(id, _)| *id);
        self.cleaning.writing = Some(wanted);
        let operation = self.operate(Operation::CleaningTable);
        let change = FileChange::Replace { path: self.cleaning.path.clone(), bytes: encode_cleaning(&points) };
        effects.push(Effect::File { operation, change });
    }

    pub(super) fn on_cleaning_table(&mut self, now: Time, outcome: Result<(), FileError>, effects: &mut Vec<Effect>) {
        let written = self.cleaning.writing.take().expect("one table at a time");
        self.cleaning.wake();
        if outcome.is_err() {
            self.cleaning.write_again_at = now.after_ms(FULL_RETRY_MS);
            for (id, point) in written {
                self.want_point(id, point);
            }
            return;
        }
        let mut written: Vec<_> = written.into_iter().collect();
        written.sort_unstable_by_key(|(id, _)| *id);
        for (id, point) in written {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            partition.log.on_cleaning_point(point);
            if partition.log.has_segments_to_remove() {
                self.cleaning.removing.insert(id);
            }
        }
        for waiter in std::mem::take(&mut self.cleaning.waiters) {
            let start = self.partitions.get(&waiter.id).map(|partition| partition.log.log_start_offset());
            if start.is_none_or(|start| start >= waiter.offset) {
                let outcome = start.ok_or(ErrorCode::UnknownTopicOrPartition);
                self.on_log_start_advanced(waiter.token, outcome, effects);
            } else {
                self.cleaning.waiters.push(waiter);
            }
        }
    }

    /// Segments below their log's start lose their names now and their space after `file.delete.delay.ms`: whoever is reading
    /// one comes to its end.
    fn remove_segments(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut ids: Vec<_> = self.cleaning.removing.iter().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if self.compacting.is_at(id) {
                continue;
            }
            let Some(partition) = self.partitions.get_mut(&id) else {
                self.cleaning.removing.remove(&id);
                continue;
            };
            let (removed, directory) = (partition.log.remove_segments(SEGMENTS_PER_SLICE), partition.directory.clone());
            let left = partition.log.has_segments_to_remove();
            let delay_ms = u64::try_from(partition.log.config().file_delete_delay_ms).unwrap_or(0);
            let is_slice = removed.len() == SEGMENTS_PER_SLICE;
            for base_offset in removed {
                self.metrics.removed_segments += 1;
                let log = FileName { directory: directory.clone(), base_offset, kind: FileKind::Log };
                self.retire_files(now, &log, delay_ms, effects);
            }
            if is_slice {
                self.cleaning.wake_by(now.after_ms(SLICE_PAUSE_MS));
            } else if left {
                // Recovery would still look for them: the next table says where it resumes.
                self.want_round();
            } else {
                self.cleaning.removing.remove(&id);
            }
        }
    }

    /// The files of one segment get their last names.
    pub(super) fn retire_files(&mut self, now: Time, log: &FileName, delay_ms: u64, effects: &mut Vec<Effect>) {
        let at = now.after_ms(delay_ms);
        for (kind, to) in FileKind::DELETED {
            let file = log.of_kind(kind);
            let place = self.cleaning.deletions.partition_point(|&(other, _)| other <= at);
            self.cleaning.deletions.insert(place, (at, file.of_kind(to)));
            let operation = self.operate(Operation::Unwatched { directory: file.directory.clone() });
            effects.push(Effect::File { operation, change: FileChange::Rename { file, to } });
        }
        self.cleaning.wake_by(at);
    }

    fn delete_files(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for _ in 0..FileKind::DELETED.len() * SEGMENTS_PER_SLICE {
            let due = self.cleaning.deletions.pop_front_if(|(at, _)| *at <= now.monotonic_us);
            let Some((_, file)) = due else { break };
            let operation = self.operate(Operation::Unwatched { directory: file.directory.clone() });
            effects.push(Effect::File { operation, change: FileChange::Delete { file } });
        }
        if let Some(&(at, _)) = self.cleaning.deletions.front() {
            self.cleaning.wake_by(at.max(now.after_ms(SLICE_PAUSE_MS)));
        }
    }

    /// The partition goes away, and its directory with it.
    pub(super) fn forget_cleaning(
        &mut self,
        id: PartitionId,
        directory: &str,
        reason: ErrorCode,
        effects: &mut Vec<Effect>,
    ) {
        self.cleaning.wanted.remove(&id);
        self.cleaning.removing.remove(&id);
        self.compacting.forget(id);
        self.cleaning.deletions.retain(|(_, file)| &*file.directory != directory);
        let waiters = std::mem::take(&mut self.cleaning.waiters);
        let (gone, waiting): (Vec<Waiter>, Vec<Waiter>) = waiters.into_iter().partition(|waiter| waiter.id == id);
        self.cleaning.waiters = waiting;
        for waiter in gone {
            self.on_log_start_advanced(waiter.token, Err(reason), effects);
        }
    }
}
