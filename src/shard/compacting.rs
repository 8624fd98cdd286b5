//! Compaction of this core's logs, one at a time: which one is next, the slices of its machine, and the steps that put a new
//! segment in the place of the old ones so that a crash at any of them loses nothing.
//!
//! ```text
//! holes announced ─▶ read, chew, write ─▶ .cleaned synced ─▶ .swap synced: from here on a recovery finishes it
//!        ▲                                                        │ readers of this log's files wait
//!        └── the next group ◀─ .log synced, segments replaced ◀─ old files .deleted, synced
//! ```

use std::sync::Arc;

use bytes::Bytes;
use tracing::{error, info};

use super::cold::IndexReader;
use super::storage::{Operation, log_dir};
use super::{Effect, FileChange, FileError, FileKind, FileName, OperationId, Shard};
use crate::config::BrokerConfig;
use crate::log::{CleaningPoint, Compaction, CompactionError, CompactionStep, Dirtiness, Replacement};
use crate::types::{Deadline, Offset, PartitionId, Set, Time};

pub(super) struct Compacting {
    seed: u64,
    shards: u16,
    /// When the logs are looked at again.
    pub look_at: Deadline,
    current: Option<Current>,
    /// Logs that cannot be compacted until the next start: they were reported.
    given_up: Set<PartitionId>,
}

struct Current {
    id: PartitionId,
    directory: Arc<str>,
    began_us: u64,
    /// None while it is at work elsewhere.
    compaction: Option<Box<Compaction>>,
    stage: Stage,
    /// Operations that have not ended.
    outstanding: usize,
    /// One of them found no space.
    refused: bool,
    /// The partition went away.
    abandoned: bool,
    next_slice_at: Deadline,
    /// A `.log.cleaned` or `.log.swap` of this base offset is there.
    unfinished: Option<Offset>,
}

#[derive(Debug)]
enum Stage {
    /// The table that says that offsets may be missing is not on stable storage yet.
    Announcing,
    /// The machine says what comes next.
    Stepping,
    /// The new segment gets its exact length and is synced.
    Syncing(Replacement),
    /// It gets the name under which a recovery finishes what follows.
    Naming(Replacement),
    /// Reads of this log's files come to their end; no others begin.
    Draining(Replacement),
    /// The old files lose their names.
    Retiring(Replacement),
    /// The new ones get theirs.
    Replacing(Replacement),
}

impl Compacting {
    pub fn new(now: Time, config: &BrokerConfig, shards: u16, seed: u64) -> Compacting {
        Compacting {
            seed,
            shards,
            look_at: now.after_ms(config.log_cleaner_backoff_ms),
            current: None,
            given_up: Set::default(),
        }
    }

    /// The one that is being compacted.
    pub fn log(&self) -> Option<PartitionId> {
        self.current.as_ref().filter(|current| !current.abandoned).map(|current| current.id)
    }

    /// Memory for the keys of one compaction: Kafka's limit is for all cleaners together, ours stays within the core's budget
    /// besides.
    fn key_bytes(&self, config: &BrokerConfig) -> u64 {
        let memory = config.gannet.memory_per_core_bytes(self.shards);
        (config.log_cleaner_dedupe_buffer_size / u64::from(self.shards)).min(memory / 8)
    }

    /// Read and written by this core, at most.
    fn bytes_per_second(&self, config: &BrokerConfig) -> u64 {
        ((config.log_cleaner_io_max_bytes_per_second / f64::from(self.shards)) as u64).max(1)
    }

    pub fn is_at(&self, id: PartitionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.id == id)
    }

    pub fn is_quiet(&self) -> bool {
        self.current.is_none()
    }

    /// The partition goes away: nothing more is done to its directory.
    pub fn forget(&mut self, id: PartitionId) {
        self.given_up.remove(&id);
        if let Some(current) = self.current.as_mut().filter(|current| current.id == id) {
            current.abandoned = true;
        }
    }
}

impl Current {
    fn file(&self, replacement: &Replacement, kind: FileKind) -> FileName {
        FileName { directory: self.directory.clone(), base_offset: replacement.sources[0], kind }
    }

    /// A recovery would finish what was begun.
    fn is_past_return(&self) -> bool {
        matches!(self.stage, Stage::Draining(_) | Stage::Retiring(_) | Stage::Replacing(_))
    }
}

impl Shard {
    pub(super) fn tend_compaction(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.compacting.current.is_none() && !self.stopping {
            if now.monotonic_us >= self.compacting.look_at {
                self.compacting.look_at = now.after_ms(self.config.log_cleaner_backoff_ms);
                self.choose_log(now, effects);
            }
            let look_at = self.compacting.look_at;
            self.cleaning.wake_by(look_at);
        }
        while let Some(mut current) = self.compacting.current.take() {
            if current.outstanding > 0 {
                self.compacting.current = Some(current);
                return;
            }
            let ends = current.abandoned || (self.stopping || current.refused) && !current.is_past_return();
            if ends {
                self.end_compaction(now, current, effects);
            } else if self.advance_compaction(now, &mut current, effects) {
                self.compacting.current = Some(current);
            } else if current.outstanding > 0 || matches!(current.stage, Stage::Announcing | Stage::Draining(_)) {
                self.compacting.current = Some(current);
                return;
            } else if current.compaction.is_some() && current.next_slice_at > now.monotonic_us {
                self.cleaning.wake_by(current.next_slice_at);
                self.compacting.current = Some(current);
                return;
            } else {
                self.end_compaction(now, current, effects);
            }
        }
    }

    /// The dirtiest of those that are dirty enough.
    fn choose_log(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let (mut dirtiest, mut unread, mut unsettled) = (None, Vec::new(), false);
        let mut ids: Vec<_> = self.partitions.keys().copied().filter(|id| *id != PartitionId::METADATA).collect();
        ids.sort_unstable();
        for id in ids {
            let partition = self.partitions.get_mut(&id).expect("just listed");
            let is_full = self.storage.is_full(log_dir(&partition.directory));
            if self.compacting.given_up.contains(&id) || is_full || self.cleaning.is_recording(id) {
                continue;
            }
            let stable_offset = partition.last_stable_offset();
            match partition.log.dirtiness(now, stable_offset) {
                Dirtiness::Clean => {}
                Dirtiness::Unread(segment) => unread.push((id, segment)),
                Dirtiness::Unsettled => unsettled = true,
                Dirtiness::Dirty(ratio) if dirtiest.is_none_or(|(most, _)| ratio > most) => {
                    dirtiest = Some((ratio, id));
                }
                Dirtiness::Dirty(_) => {}
            }
        }
        for (id, segment) in unread {
            self.complete_index(now, id, segment, IndexReader::Cleaning, effects);
        }
        if unsettled {
            self.want_round();
        }
        let Some((_, id)) = dirtiest else { return };
        let (key_bytes, seed) = (self.compacting.key_bytes(&self.config), self.compacting.seed);
        let partition = self.partitions.get_mut(&id).expect("just seen");
        let stable_offset = partition.last_stable_offset();
        let Some(compaction) = partition.log.begin_compaction(now, stable_offset, key_bytes, seed) else { return };
        let directory = partition.directory.clone();
        self.want_point(id, CleaningPoint { holes_below: compaction.end_offset(), ..CleaningPoint::default() });
        self.compacting.current = Some(Current {
            id,
            directory,
            began_us: now.monotonic_us,
            compaction: Some(Box::new(compaction)),
            stage: Stage::Announcing,
            outstanding: 0,
            refused: false,
            abandoned: false,
            next_slice_at: 0,
            unfinished: None,
        });
    }

    /// The next step; false if none can be taken now, or none is left.
    fn advance_compaction(&mut self, now: Time, current: &mut Current, effects: &mut Vec<Effect>) -> bool {
        match std::mem::replace(&mut current.stage, Stage::Stepping) {
            Stage::Announcing => {
                let end_offset = current.compaction.as_ref().expect("it is here").end_offset();
                let announced = self.partitions[&current.id].log.cleaning_point().holes_below >= end_offset;
                if !announced {
                    current.stage = Stage::Announcing;
                }
                announced
            }
            Stage::Stepping => self.step_compaction(now, current, effects),
            Stage::Syncing(replacement) => {
                let file = current.file(&replacement, FileKind::CleanedLog);
                let files = vec![current.file(&replacement, FileKind::SwapLog)];
                let changes = [FileChange::Rename { file, to: FileKind::SwapLog }, FileChange::Sync { files }];
                self.change_compacted(current, changes.into(), effects);
                current.stage = Stage::Naming(replacement);
                true
            }
            Stage::Naming(replacement) => {
                self.hold_scans(current.id);
                current.stage = Stage::Draining(replacement);
                true
            }
            Stage::Draining(replacement) => {
                if self.has_scans(current.id) {
                    current.stage = Stage::Draining(replacement);
                    return false;
                }
                let delay_ms = self.partitions[&current.id].log.config().file_delete_delay_ms;
                for &base_offset in &replacement.sources {
                    let log = FileName { directory: current.directory.clone(), base_offset, kind: FileKind::Log };
                    self.retire_files(now, &log, u64::try_from(delay_ms).unwrap_or(0), effects);
                }
                let files = vec![current.file(&replacement, FileKind::SwapLog)];
                self.change_compacted(current, vec![FileChange::Sync { files }], effects);
                current.stage = Stage::Retiring(replacement);
                true
            }
            Stage::Retiring(mut replacement) => {
                let kinds = [FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex];
                let files = kinds.map(|kind| current.file(&replacement, kind));
                let (offsets, times) = replacement.cleaned.index_files();
                for (file, bytes) in files[1..].iter().zip([offsets, times]) {
                    // Without space for it the index is found again by reading.
                    let operation = self.operate(Operation::Unwatched { directory: current.directory.clone() });
                    effects.push(Effect::File { operation, change: FileChange::Put { file: file.clone(), bytes } });
                }
                let file = current.file(&replacement, FileKind::SwapLog);
                let named = FileChange::Rename { file, to: FileKind::Log };
                self.change_compacted(current, vec![named, FileChange::Sync { files: files.into() }], effects);
                current.stage = Stage::Replacing(replacement);
                true
            }
            Stage::Replacing(_) if current.refused => {
                self.fail_storage(format!("{}: a compacted segment could not get its name", current.directory));
                false
            }
            Stage::Replacing(replacement) => {
                self.metrics.compacted_bytes += replacement.cleaned.size;
                let partition = self.partitions.get_mut(&current.id).expect("not abandoned");
                let end_offset = replacement.end_offset;
                partition.log.replace(replacement);
                self.evict_replaced(current.id, end_offset);
                current.unfinished = None;
                self.release_scans(now, effects);
                true
            }
        }
    }

    fn step_compaction(&mut self, now: Time, current: &mut Current, effects: &mut Vec<Effect>) -> bool {
        if current.next_slice_at > now.monotonic_us {
            return false;
        }
        let compaction = current.compaction.as_mut().expect("nothing is outstanding");
        match compaction.next_step() {
            CompactionStep::Read { segment, position, length } => {
                let file = FileName { directory: current.directory.clone(), base_offset: segment, kind: FileKind::Log };
                let operation = self.operate(Operation::CompactionRead);
                effects.push(Effect::Read { operation, file, position, length });
                current.outstanding = 1;
                self.pace(now, current, u64::from(length));
                true
            }
            CompactionStep::Write { segment, position, bytes } => {
                let file =
                    FileName { directory: current.directory.clone(), base_offset: segment, kind: FileKind::CleanedLog };
                if position == 0 {
                    // What a compaction that was given up has left.
                    let operation = self.operate(Operation::Unwatched { directory: current.directory.clone() });
                    effects.push(Effect::File { operation, change: FileChange::Delete { file: file.clone() } });
                }
                self.pace(now, current, bytes.iter().map(|bytes| bytes.len() as u64).sum());
                let operation = self.operate(Operation::Compaction { directory: current.directory.clone() });
                effects.push(Effect::Write { operation, file, position, bytes });
                current.outstanding = 1;
                current.unfinished = Some(segment);
                true
            }
            CompactionStep::Replace(replacement) => {
                let file = current.file(&replacement, FileKind::CleanedLog);
                let length = replacement.cleaned.size;
                let changes =
                    [FileChange::Truncate { file: file.clone(), length }, FileChange::Sync { files: vec![file] }];
                self.change_compacted(current, changes.into(), effects);
                current.stage = Stage::Syncing(replacement);
                true
            }
            CompactionStep::Done { first_dirty_offset } => {
                info!(
                    partition = &*current.directory,
                    first_dirty_offset,
                    took_ms = (now.monotonic_us - current.began_us) / 1000,
                    "compacted"
                );
                self.metrics.compactions += 1;
                self.want_point(current.id, CleaningPoint { first_dirty_offset, ..CleaningPoint::default() });
                // There may be another one.
                self.compacting.look_at = now.monotonic_us;
                false
            }
            CompactionStep::Failed(problem) => {
                report(&current.directory, &problem);
                self.compacting.given_up.insert(current.id);
                false
            }
        }
    }

    fn pace(&mut self, now: Time, current: &mut Current, bytes: u64) {
        let pause_us = bytes.saturating_mul(1_000_000) / self.compacting.bytes_per_second(&self.config);
        current.next_slice_at = current.next_slice_at.max(now.monotonic_us) + pause_us;
    }

    fn change_compacted(&mut self, current: &mut Current, changes: Vec<FileChange>, effects: &mut Vec<Effect>) {
        current.outstanding = changes.len();
        for change in changes {
            let operation = self.operate(Operation::Compaction { directory: current.directory.clone() });
            effects.push(Effect::File { operation, change });
        }
    }

    /// Nothing is under way any more; what was not finished goes.
    fn end_compaction(&mut self, now: Time, current: Current, effects: &mut Vec<Effect>) {
        if !current.abandoned
            && let Some(base_offset) = current.unfinished
        {
            for kind in [FileKind::CleanedLog, FileKind::SwapLog] {
                let file = FileName { directory: current.directory.clone(), base_offset, kind };
                let operation = self.operate(Operation::Unwatched { directory: current.directory.clone() });
                effects.push(Effect::File { operation, change: FileChange::Delete { file } });
            }
        }
        self.release_scans(now, effects);
        self.cleaning.wake();
    }

    pub(super) fn on_compaction_read(&mut self, bytes: Result<Bytes, FileError>, effects: &mut Vec<Effect>) {
        self.cleaning.wake();
        let directory = self.compacting.current.as_ref().expect("it waits for this read").directory.clone();
        let operation = self.operate(Operation::Compaction { directory });
        let current = self.compacting.current.as_mut().expect("just seen");
        match bytes {
            Ok(bytes) if !current.abandoned => {
                let compaction = current.compaction.take().expect("it waits for this read");
                effects.push(Effect::Compact { operation, compaction, bytes });
            }
            outcome => {
                current.outstanding = 0;
                current.refused = true;
                if let (Err(problem), false) = (&outcome, current.abandoned) {
                    error!(partition = &*current.directory, ?problem, "a segment cannot be read: it is not compacted");
                    self.compacting.given_up.insert(current.id);
                }
                self.storage.forget(operation);
            }
        }
    }

    /// The machine has worked through what was read.
    pub(super) fn on_compacted(&mut self, operation: OperationId, compaction: Box<Compaction>) {
        self.storage.forget(operation);
        self.cleaning.wake();
        let current = self.compacting.current.as_mut().expect("it waits for its machine");
        current.compaction = Some(compaction);
        current.outstanding = 0;
    }

    pub(super) fn on_compaction_step(&mut self, outcome: Result<(), FileError>) {
        self.cleaning.wake();
        let current = self.compacting.current.as_mut().expect("it waits for this operation");
        current.outstanding -= 1;
        current.refused |= outcome.is_err();
    }
}

fn report(partition: &str, problem: &CompactionError) {
    match problem {
        CompactionError::Batch { segment, position, error } => {
            error!(
                partition, segment, position, %error,
                "a batch is corrupt: this log is not compacted until the segment is restored and the broker started again"
            );
        }
        CompactionError::Short { segment, position } => {
            error!(
                partition,
                segment,
                position,
                "a segment ends too early: this log is not compacted until it is restored and the broker started again"
            );
        }
        CompactionError::TooManyKeys { segment, position, keys } => {
            error!(
                partition,
                segment,
                position,
                keys,
                "one batch has more keys than the memory for compaction takes: this log is not compacted. Raise \
                 log.cleaner.dedupe.buffer.size or gannet.memory.bytes and start the broker again"
            );
        }
    }
}
