//! Dirty bytes on their way from memory to the segment files, and checkpoint rounds, which let the journal reuse its files.
//!
//! ```text
//! a batch:   appended ──▶ dirty ──(large, old, or a round wants it)──▶ written ──▶ may leave memory
//! a round:   write back what was dirty ─▶ close segments ─▶ sync the files ─▶ replace the table ─▶ journal files free
//! ```

mod failures;
mod rounds;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

pub(super) use rounds::to_journal;
use rounds::{Closing, Round};

use super::cold::Scan;
use super::{Effect, FileChange, FileError, FileKind, FileName, OperationId, Shard, Timer};
use crate::config::BrokerConfig;
use crate::journal::Journal;
use crate::types::{Deadline, Map, Offset, PartitionId, Set, Time};

pub(super) struct Storage {
    operations: Map<OperationId, Operation>,
    limits: Limits,
    checkpoint_path: Arc<str>,
    /// Bytes of batches in memory, and those of them that no segment file has.
    tail_bytes: usize,
    dirty_bytes: usize,
    /// The partition of every batch in memory, oldest first.
    order: VecDeque<PartitionId>,
    /// Partitions with dirty bytes and since when, oldest first; each once.
    aging: VecDeque<(u64, PartitionId)>,
    listed: Set<PartitionId>,
    /// Partitions whose dirty bytes should be written now; each once.
    ready: VecDeque<PartitionId>,
    queued: Set<PartitionId>,
    writes_in_flight: usize,
    /// Written since the last sync.
    touched: Set<FileName>,
    /// Partitions with a segment to seal, and those where that is under way.
    unsealed: Set<PartitionId>,
    closing: Map<PartitionId, Closing>,
    /// Partitions whose active segment lacks its exact length or its index files on disk.
    open_ended: Set<PartitionId>,
    /// Log directories without space, and when to try again.
    full: Map<Arc<str>, Deadline>,
    /// Directories that could not be made or deleted for lack of space.
    refused: Vec<FileChange>,
    round: Option<Round>,
    /// Cleaning waits for a table that says where recovery resumes now.
    round_wanted: bool,
    timer_set: bool,
    stop: Stop,
    failure: Option<String>,
}

struct Limits {
    unsent_bytes: usize,
    tail_bytes: usize,
    dirty_bytes: usize,
    pending_bytes: u64,
    write_back_bytes: usize,
    write_back_interval_us: u64,
    batch_bytes: usize,
}

#[derive(PartialEq)]
enum Stop {
    No,
    Wanted,
    Done,
}

#[derive(Debug)]
pub(super) enum Operation {
    Write {
        partition: PartitionId,
        upto: Offset,
        file: FileName,
    },
    Scan {
        scan: Scan,
        kind: FileKind,
    },
    Close {
        partition: PartitionId,
        directory: Arc<str>,
    },
    /// Of one log directory.
    Sync {
        files: Vec<FileName>,
    },
    Replace,
    /// What is kept of offline partitions.
    Keep,
    Directory {
        change: FileChange,
    },
    CleaningTable,
    CompactionRead,
    /// Another step of the compaction.
    Compaction {
        directory: Arc<str>,
    },
    /// Nobody waits for its end, and nothing is lost if it failed for lack of space.
    Unwatched {
        directory: Arc<str>,
    },
}

/// Write-backs under way at once per core.
const WRITES_IN_FLIGHT_MAX: usize = 8;
/// A device without space is tried again after this.
const FULL_RETRY_MS: u64 = 1000;

impl Storage {
    pub fn new(config: &BrokerConfig, shards: u16, checkpoint_path: Arc<str>) -> Storage {
        let memory = config.gannet.memory_per_core_bytes(shards) as usize;
        let journal = config.gannet.journal_bytes as usize;
        Storage {
            operations: Map::default(),
            limits: Limits {
                unsent_bytes: config.gannet.unsent_bytes_max(shards) as usize,
                tail_bytes: memory / 2,
                dirty_bytes: (memory / 4).min(journal),
                pending_bytes: (journal as u64 / 4).min(memory as u64 / 8),
                write_back_bytes: config.gannet.writeback_bytes as usize,
                write_back_interval_us: config.gannet.writeback_interval_ms * 1000,
                batch_bytes: config.batch_bytes_max() as usize,
            },
            checkpoint_path,
            tail_bytes: 0,
            dirty_bytes: 0,
            order: VecDeque::new(),
            aging: VecDeque::new(),
            listed: Set::default(),
            ready: VecDeque::new(),
            queued: Set::default(),
            writes_in_flight: 0,
            touched: Set::default(),
            unsealed: Set::default(),
            closing: Map::default(),
            open_ended: Set::default(),
            full: Map::default(),
            refused: Vec::new(),
            round: None,
            round_wanted: false,
            timer_set: false,
            stop: Stop::No,
            failure: None,
        }
    }

    /// Remembers what an operation is for.
    pub fn begin(&mut self, operation: Operation, token: u64) -> OperationId {
        let id = OperationId(token);
        self.operations.insert(id, operation);
        id
    }

    /// A single batch larger than this would not fit the journal or the memory budget.
    pub fn batch_bytes_max(&self) -> usize {
        self.limits.batch_bytes
    }

    pub fn accepts_requests(&self, journal: &Journal) -> bool {
        // Refusing is cheap: on a full device requests are read, so that deletes come through.
        !self.full.is_empty()
            || self.dirty_bytes < self.limits.dirty_bytes
                && self.tail_bytes < self.limits.tail_bytes + self.limits.dirty_bytes
                && journal.pending_bytes() < self.limits.pending_bytes
    }

    pub fn unsent_bytes_max(&self) -> usize {
        self.limits.unsent_bytes
    }

    pub fn begin_stop(&mut self) {
        self.stop = Stop::Wanted;
        // A device without space gets one more chance; without it the journal keeps what the segments could not take.
        self.full.clear();
    }

    pub fn is_drained(&self) -> bool {
        self.stop == Stop::Done || !self.full.is_empty()
    }

    pub fn checkpoint_path(&self) -> &str {
        &self.checkpoint_path
    }

    pub fn on_timer(&mut self) {
        self.timer_set = false;
    }

    /// An operation that nobody performs, or that ended in a way of its own.
    pub fn forget(&mut self, operation: OperationId) {
        self.operations.remove(&operation);
    }

    /// The log directory has no space.
    pub fn is_full(&self, log_dir: &str) -> bool {
        self.full.contains_key(log_dir)
    }

    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn make_ready(&mut self, id: PartitionId) {
        if self.queued.insert(id) {
            self.ready.push_back(id);
        }
    }

    fn presses(&self) -> bool {
        self.round.is_some() || self.stop == Stop::Wanted || self.dirty_bytes > self.limits.dirty_bytes / 2
    }
}

pub(super) fn log_dir(directory: &str) -> &str {
    directory.rsplit_once('/').map_or(directory, |(log_dir, _)| log_dir)
}

impl Shard {
    /// What stopped this shard's writes: the process must end with it (invariant 7).
    pub fn failure(&self) -> Option<&str> {
        self.storage.failure()
    }

    /// A file is not as it must be, and only a recovery can mend it.
    pub(super) fn fail_storage(&mut self, reason: String) {
        self.storage.failure.get_or_insert(reason);
    }

    /// Whether files of this log are being read.
    pub(super) fn has_scans(&self, id: PartitionId) -> bool {
        let reads = |operation: &Operation| matches!(operation, Operation::Scan { scan, .. } if scan.partition == id);
        self.storage.operations.values().any(reads)
    }

    /// Whether the partition's log directory has no space.
    pub(super) fn refuses_appends(&self, id: PartitionId) -> bool {
        if self.storage.full.is_empty() || id == PartitionId::METADATA {
            return false;
        }
        let directory = self.partitions.get(&id).map(|partition| log_dir(&partition.directory));
        directory.is_some_and(|log_dir| self.storage.full.contains_key(log_dir))
    }

    pub(super) fn operate(&mut self, operation: Operation) -> OperationId {
        let token = self.token();
        self.storage.begin(operation, token)
    }

    /// A partition as recovery left it.
    pub(super) fn on_opened(&mut self, id: PartitionId) {
        if self.partitions[&id].log.is_open_ended() {
            self.storage.open_ended.insert(id);
        }
    }

    /// A log's active segment was closed though nothing was appended.
    pub(super) fn on_rolled(&mut self, id: PartitionId) {
        self.storage.open_ended.remove(&id);
        if self.partitions[&id].log.segment_to_seal().is_some() {
            self.storage.unsealed.insert(id);
        } else {
            self.storage.make_ready(id);
        }
    }

    /// A checkpoint round is wanted even if no journal file is full.
    pub(super) fn want_round(&mut self) {
        self.storage.round_wanted = true;
    }

    /// A partition got bytes that only memory and the journal hold.
    pub(super) fn on_dirty(&mut self, now: Time, id: PartitionId, bytes: usize) {
        let storage = &mut self.storage;
        storage.tail_bytes += bytes;
        storage.dirty_bytes += bytes;
        storage.order.push_back(id);
        storage.open_ended.insert(id);
        if storage.stop == Stop::Done {
            storage.stop = Stop::Wanted;
        }
        let log = &self.partitions[&id].log;
        if log.dirty_bytes() >= storage.limits.write_back_bytes {
            storage.make_ready(id);
        } else if storage.listed.insert(id) {
            storage.aging.push_back((now.monotonic_us, id));
        }
    }

    /// The partition goes away with all that is dirty in it.
    pub(super) fn forget_storage(&mut self, id: PartitionId) {
        if let Some(partition) = self.partitions.get(&id) {
            self.storage.tail_bytes -= partition.log.tail_bytes();
            self.storage.dirty_bytes -= partition.log.dirty_bytes();
        }
        self.storage.open_ended.remove(&id);
        self.storage.unsealed.remove(&id);
        self.storage.closing.remove(&id);
        let directory = self.partitions.get(&id).map(|partition| partition.directory.clone());
        self.storage.touched.retain(|file| Some(&file.directory) != directory.as_ref());
        let concerns = |change: &FileChange| match change {
            FileChange::CreateDirectory { directory: made, .. } => Some(made) == directory.as_ref(),
            _ => false,
        };
        self.storage.refused.retain(|change| !concerns(change));
    }

    /// The directory of a new or a deleted partition.
    pub(super) fn change_directory(&mut self, change: FileChange, effects: &mut Vec<Effect>) {
        let operation = self.operate(Operation::Directory { change: change.clone() });
        effects.push(Effect::File { operation, change });
    }

    /// Directories that there was no space for.
    pub(super) fn try_refused_again(&mut self, effects: &mut Vec<Effect>) {
        for change in std::mem::take(&mut self.storage.refused) {
            self.change_directory(change, effects);
        }
    }

    /// Write-back, sealing and rounds, as far as this turn can drive them.
    pub(super) fn tend_storage(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.evict();
        if self.storage.round.is_none() {
            let upto = self.journal.take_checkpoint();
            let is_wanted = match self.storage.stop {
                Stop::Wanted => !self.journal.has_pending() && self.commits.is_empty(),
                Stop::No => self.storage.round_wanted && self.storage.full.is_empty(),
                Stop::Done => false,
            };
            if upto.is_some() || is_wanted {
                self.begin_round(upto);
            }
        }
        let due = now.monotonic_us.saturating_sub(self.storage.limits.write_back_interval_us);
        while let Some(&(since, id)) = self.storage.aging.front() {
            if since > due && !self.storage.presses() {
                break;
            }
            self.storage.aging.pop_front();
            self.storage.listed.remove(&id);
            self.storage.make_ready(id);
        }
        self.storage.full.retain(|_, retry| *retry > now.monotonic_us || !self.storage.ready.is_empty());
        if !self.storage.full.contains_key(self.config.log_dirs[0].as_str()) {
            self.keep_next(effects);
        }
        for _ in 0..self.storage.ready.len() {
            if self.storage.writes_in_flight >= WRITES_IN_FLIGHT_MAX {
                break;
            }
            self.write_back_next(now, effects);
        }
        self.seal_segments(now, effects);
        self.advance_round(now, effects);
        self.set_storage_timer(now);
    }

    fn write_back_next(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(id) = self.storage.ready.pop_front() else { return };
        let waits = |retry: Option<&Deadline>| retry.is_some_and(|&retry| retry > now.monotonic_us);
        let partition = self.partitions.get_mut(&id);
        if let Some(partition) = &partition
            && waits(self.storage.full.get(log_dir(&partition.directory)))
        {
            self.storage.ready.push_back(id);
            return;
        }
        self.storage.queued.remove(&id);
        let Some(partition) = partition else { return };
        let Some(write) = partition.log.take_write_back(self.storage.limits.write_back_bytes) else { return };
        let directory = partition.directory.clone();
        let file = FileName { directory, base_offset: write.segment, kind: FileKind::Log };
        let config = partition.log.config();
        if write.position == 0 && config.preallocate {
            // Cut to what it took when it is closed; where there is no room at once, it grows like any other.
            let (file, length) = (file.clone(), config.segment_bytes as u64);
            let operation = self.operate(Operation::Unwatched { directory: file.directory.clone() });
            effects.push(Effect::File { operation, change: FileChange::Preallocate { file, length } });
        }
        self.storage.writes_in_flight += 1;
        self.metrics.segment_bytes += write.bytes.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        let operation = self.operate(Operation::Write { partition: id, upto: write.upto, file: file.clone() });
        effects.push(Effect::Write { operation, file, position: write.position, bytes: write.bytes });
    }

    pub(super) fn on_read(
        &mut self,
        now: Time,
        operation: OperationId,
        bytes: Result<Bytes, FileError>,
        effects: &mut Vec<Effect>,
    ) {
        match self.storage.operations.remove(&operation) {
            Some(Operation::Scan { scan, kind }) => {
                if self.is_held(scan.partition) {
                    self.cleaning.wake();
                }
                if let Err(problem) = &bytes {
                    let segment = (kind == FileKind::Log).then_some(scan.segment);
                    self.on_read_failure(now, scan.partition, segment, problem, effects);
                }
                self.on_scan_read(now, scan, kind, bytes, effects);
            }
            Some(Operation::CompactionRead) => {
                if let (Some(id), Err(problem)) = (self.compacting.log(), &bytes) {
                    self.on_read_failure(now, id, None, problem, effects);
                }
                self.on_compaction_read(bytes, effects);
            }
            other => panic!("a read ended that was not begun as one: {other:?}"),
        }
    }

    pub(super) fn on_done(
        &mut self,
        now: Time,
        operation: OperationId,
        outcome: Result<(), FileError>,
        effects: &mut Vec<Effect>,
    ) {
        let operation = self.storage.operations.remove(&operation).expect("every operation ends once");
        if let Some(reason) = self.device_failure(&operation, &outcome) {
            match self.log_dir_to_blame(&self.directory_of(&operation)) {
                Some(index) => self.fail_log_dir(now, index, &reason, effects),
                None => return self.fail_storage(format!("{operation:?}: {reason}")),
            }
        }
        match operation {
            Operation::Write { partition, upto, file } => {
                self.storage.writes_in_flight -= 1;
                self.on_written(now, partition, upto, file, outcome);
            }
            Operation::Close { partition, .. } => self.on_close_step(now, partition, outcome),
            Operation::Sync { files } => self.on_synced(files, outcome, effects),
            Operation::Replace => self.on_replaced(now, outcome, effects),
            Operation::Keep => self.on_kept(now, outcome, effects),
            Operation::Directory { change } if outcome == Err(FileError::NoSpace) => self.storage.refused.push(change),
            Operation::Directory { change: FileChange::DeleteDirectory { directory } } => {
                self.on_directory_deleted(now, &directory, effects);
            }
            Operation::Directory { .. } | Operation::Unwatched { .. } => {}
            Operation::Compaction { .. } => self.on_compaction_step(outcome),
            Operation::CleaningTable => self.on_cleaning_table(now, outcome, effects),
            Operation::Scan { .. } | Operation::CompactionRead => panic!("a scan ends with Read"),
        }
    }

    fn on_written(&mut self, now: Time, id: PartitionId, upto: Offset, file: FileName, outcome: Result<(), FileError>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if outcome.is_err() {
            partition.log.on_write_failed();
            self.storage.make_ready(id);
            self.on_no_space(now, log_dir(&file.directory));
            return;
        }
        self.storage.full.remove(log_dir(&file.directory));
        self.storage.dirty_bytes -= partition.log.on_written(upto);
        self.storage.touched.insert(file);
        let dirty = partition.log.dirty_bytes();
        if partition.log.segment_to_seal().is_some() {
            self.storage.unsealed.insert(id);
        }
        if dirty > 0 && (dirty >= self.storage.limits.write_back_bytes || self.storage.presses()) {
            self.storage.make_ready(id);
        } else if dirty > 0 && self.storage.listed.insert(id) {
            self.storage.aging.push_back((now.monotonic_us, id));
        }
    }

    fn on_no_space(&mut self, now: Time, log_dir: &str) {
        if !self.storage.full.contains_key(log_dir) {
            tracing::error!(
                log_dir,
                "no space left: produce to its partitions is refused until space returns; reads, deletes and admin go on. \
                 Delete topics (gannet topics delete) or free space on the device"
            );
        }
        self.storage.full.insert(Arc::from(log_dir), now.after_ms(FULL_RETRY_MS));
    }

    /// Batches that the segment files have leave memory, oldest first, until the rest fits the budget.
    fn evict(&mut self) {
        let several = self.config.log_dirs.len() > 1;
        while self.storage.tail_bytes > self.storage.limits.tail_bytes {
            let Some(&id) = self.storage.order.front() else { return };
            if let Some(partition) = self.partitions.get_mut(&id) {
                // A log directory that can fail alone may lose what was not synced: until then memory has it.
                let fails_alone = several && log_dir(&partition.directory) != self.config.log_dirs[0];
                let evicted = if fails_alone { partition.log.evict_synced() } else { partition.log.evict_one() };
                match evicted {
                    Some(bytes) => self.storage.tail_bytes -= bytes,
                    None => {
                        self.storage.make_ready(id);
                        self.storage.round_wanted |= fails_alone && self.storage.round.is_none();
                        return;
                    }
                }
            }
            self.storage.order.pop_front();
        }
    }

    /// Memory lets go of what compaction has replaced, so that readers meet what it has left.
    pub(super) fn evict_replaced(&mut self, id: PartitionId, offset: Offset) {
        let log = &mut self.partitions.get_mut(&id).expect("its segments were just replaced").log;
        let mut evicted = 0;
        while let Some(bytes) = log.evict_one_below(offset) {
            self.storage.tail_bytes -= bytes;
            evicted += 1;
        }
        self.storage.order.retain(|listed| {
            let is_evicted = *listed == id && evicted > 0;
            evicted -= usize::from(is_evicted);
            !is_evicted
        });
    }

    /// Wakes the shard when the oldest dirty bytes become due, or a full device is tried again.
    fn set_storage_timer(&mut self, now: Time) {
        if self.storage.timer_set {
            return;
        }
        let interval = self.storage.limits.write_back_interval_us;
        let aging = self.storage.aging.front().map(|&(since, _)| since + interval);
        let again = (!self.storage.refused.is_empty()).then(|| now.after_ms(FULL_RETRY_MS));
        let retry = self.storage.full.values().copied().min().or(again);
        if let Some(deadline) = [aging, retry].into_iter().flatten().min() {
            self.storage.timer_set = true;
            self.set_timer(deadline.max(now.monotonic_us + 1000), Timer::Storage);
        }
    }
}
