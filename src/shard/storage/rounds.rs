//! Segments that are done with, and checkpoint rounds: what lets the journal use its files again, and what a clean stop
//! leaves behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::cold::IndexReader;
use super::super::{Effect, FileChange, FileError, FileKind, FileName, Shard};
use super::{Operation, Stop, log_dir};
use crate::error_code::ErrorCode;
use crate::journal::{Checkpoint, CommitId, PartitionCheckpoint};
use crate::log::LogCheckpoint;
use crate::types::{Map, Offset, PartitionId, Set, Time};

/// A segment that gets its exact length and its index files.
pub(super) struct Closing {
    segment: Offset,
    /// What the file is cut to, and its index files describe.
    length: u64,
    /// Operations that have not ended; 0 while the index is being completed.
    operations: usize,
    failed: bool,
}

pub(super) struct Round {
    /// The journal files up to this commit are freed by it.
    upto: Option<CommitId>,
    /// Durable when the round began: all that the commits up to this one hold is in the segments at its end.
    covered: Option<CommitId>,
    stage: Stage,
}

enum Stage {
    /// Partitions that have to be in their segments up to an offset.
    WriteBack {
        waiting: Map<PartitionId, Offset>,
    },
    /// Before a stop: active segments get their length and index files.
    Close {
        waiting: Set<PartitionId>,
    },
    /// Each log directory for itself; the table waits besides until what it will not name is kept elsewhere.
    Sync {
        outstanding: usize,
        table: Checkpoint,
    },
    Replace,
}

/// A log's checkpoint, as the journal's table keeps it.
pub fn to_journal(partition: PartitionId, checkpoint: LogCheckpoint) -> PartitionCheckpoint {
    let LogCheckpoint { segment, position, written_offset, state } = checkpoint;
    PartitionCheckpoint { partition, segment_base_offset: segment, segment_position: position, written_offset, state }
}

impl Shard {
    /// Rolled segments whose bytes are all in the file get their exact length and their index files.
    pub(super) fn seal_segments(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.storage.unsealed.is_empty() {
            return;
        }
        let mut ids: Vec<_> = self.storage.unsealed.iter().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(partition) = self.partitions.get(&id) else { continue };
            if self.storage.full.contains_key(log_dir(&partition.directory)) || self.storage.closing.contains_key(&id) {
                continue;
            }
            match partition.log.segment_to_seal().map(|segment| segment.base_offset) {
                Some(segment) => self.close_segment(now, id, segment, effects),
                None => {
                    self.storage.unsealed.remove(&id);
                }
            }
        }
    }

    fn close_segment(&mut self, now: Time, id: PartitionId, base_offset: Offset, effects: &mut Vec<Effect>) {
        self.storage.closing.insert(id, Closing { segment: base_offset, length: 0, operations: 0, failed: false });
        let partition = self.partitions.get_mut(&id).expect("the caller found it");
        let segment = partition.log.segment_mut(base_offset).expect("the caller found it");
        if segment.is_indexed() {
            self.write_index(id, base_offset, effects);
        } else {
            self.complete_index(now, id, base_offset, IndexReader::Closing, effects);
        }
    }

    /// The batches of the segment have been read to its end; without that its index cannot be written.
    pub(in crate::shard) fn on_index_complete(
        &mut self,
        id: PartitionId,
        segment: Offset,
        error: Option<ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let whole = partition.log.segment_mut(segment).is_some_and(|segment| segment.is_indexed());
        if whole {
            self.write_index(id, segment, effects);
        } else if error.is_some() {
            // A corrupt batch is in the way, and was reported. The segment keeps its length; lookups read around it.
            self.write_length(id, segment, effects);
        } else {
            self.storage.closing.remove(&id);
        }
    }

    fn write_index(&mut self, id: PartitionId, base_offset: Offset, effects: &mut Vec<Effect>) {
        let partition = self.partitions.get_mut(&id).expect("the caller found it");
        let directory = partition.directory.clone();
        let segment = partition.log.segment_mut(base_offset).expect("the caller found it");
        let (offsets, times) = segment.index_files();
        for (kind, bytes) in [(FileKind::OffsetIndex, offsets), (FileKind::TimeIndex, times)] {
            let file = FileName { directory: directory.clone(), base_offset, kind };
            self.storage.touched.insert(file.clone());
            let operation = self.operate(Operation::Close { partition: id, directory: directory.clone() });
            effects.push(Effect::File { operation, change: FileChange::Put { file, bytes } });
        }
        self.storage.closing.get_mut(&id).expect("closing").operations += 2;
        self.write_length(id, base_offset, effects);
    }

    fn write_length(&mut self, id: PartitionId, base_offset: Offset, effects: &mut Vec<Effect>) {
        let partition = self.partitions.get_mut(&id).expect("the caller found it");
        let file = FileName { directory: partition.directory.clone(), base_offset, kind: FileKind::Log };
        let length = partition.log.segment_mut(base_offset).expect("the caller found it").size;
        self.storage.touched.insert(file.clone());
        let operation = self.operate(Operation::Close { partition: id, directory: file.directory.clone() });
        effects.push(Effect::File { operation, change: FileChange::Truncate { file, length } });
        let closing = self.storage.closing.get_mut(&id).expect("closing");
        closing.length = length;
        closing.operations += 1;
    }

    pub(super) fn on_close_step(&mut self, now: Time, id: PartitionId, outcome: Result<(), FileError>) {
        let Some(closing) = self.storage.closing.get_mut(&id) else { return };
        closing.operations -= 1;
        closing.failed |= outcome.is_err();
        if closing.operations > 0 {
            return;
        }
        let closing = self.storage.closing.remove(&id).expect("just seen");
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if closing.failed {
            let directory = partition.directory.clone();
            self.on_no_space(now, log_dir(&directory));
        } else if partition.log.segment_mut(closing.segment).is_none_or(|segment| segment.size != closing.length) {
            // It grew meanwhile, as an active one may while requests are still answered: it is closed again.
        } else if partition.log.segments().last().is_some_and(|active| active.base_offset == closing.segment) {
            self.storage.open_ended.remove(&id);
            partition.log.on_active_closed();
        } else {
            partition.log.on_sealed(closing.segment);
        }
    }

    pub(super) fn begin_round(&mut self, upto: Option<CommitId>) {
        let behind = |log: &crate::log::Log| log.resumable_offset() < log.log_end_offset();
        let waiting: Map<_, _> = self
            .partitions
            .values()
            .filter(|partition| behind(&partition.log))
            .map(|partition| (partition.id, partition.log.log_end_offset()))
            .collect();
        let mut ids: Vec<_> = waiting.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.storage.make_ready(id);
        }
        let covered = upto.or(self.journal.last_commit_durable());
        self.storage.round_wanted = false;
        self.storage.round = Some(Round { upto, covered, stage: Stage::WriteBack { waiting } });
    }

    pub(super) fn advance_round(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(mut round) = self.storage.round.take() else { return };
        if let Stage::WriteBack { waiting } = &mut round.stage {
            waiting.retain(|id, target| {
                self.partitions.get(id).is_some_and(|partition| partition.log.resumable_offset() < *target)
            });
            if waiting.is_empty() {
                let stopping = self.storage.stop == Stop::Wanted && round.upto.is_none();
                let waiting = if stopping { self.storage.open_ended.clone() } else { Set::default() };
                round.stage = Stage::Close { waiting };
            }
        }
        if let Stage::Close { waiting } = &mut round.stage {
            waiting.retain(|id| self.storage.open_ended.contains(id));
            let is_written =
                |id: &PartitionId| self.partitions.get(id).is_none_or(|partition| partition.log.dirty_bytes() == 0);
            let is_closable = |id: &PartitionId| !self.storage.closing.contains_key(id) && is_written(id);
            let mut ids: Vec<_> = waiting.iter().copied().filter(is_closable).collect();
            ids.sort_unstable();
            for id in ids {
                let active = self.partitions.get(&id).and_then(|partition| partition.log.active_segment());
                match active.map(|segment| segment.base_offset) {
                    Some(segment) => self.close_segment(now, id, segment, effects),
                    None => {
                        self.storage.open_ended.remove(&id);
                    }
                }
            }
            if waiting.is_empty() {
                let outstanding = self.sync_touched(effects);
                let table = self.checkpoint_table(round.covered.map_or(CommitId(0), CommitId::next));
                round.stage = Stage::Sync { outstanding, table };
            }
        }
        if let Stage::Sync { outstanding: 0, table } = &mut round.stage
            && !self.offline.is_keeping()
        {
            // What went offline meanwhile may not have been synced, and has its own file.
            table.partitions.retain(|checkpoint| self.partitions.contains_key(&checkpoint.partition));
            let bytes = table.encode();
            self.replace_table(bytes, effects);
            round.stage = Stage::Replace;
        }
        self.storage.round = Some(round);
    }

    /// Returns how many syncs that takes.
    fn sync_touched(&mut self, effects: &mut Vec<Effect>) -> usize {
        let mut by_dir: BTreeMap<Arc<str>, Vec<FileName>> = BTreeMap::new();
        for file in self.storage.touched.drain() {
            match by_dir.get_mut(log_dir(&file.directory)) {
                Some(files) => files.push(file),
                None => drop(by_dir.insert(log_dir(&file.directory).into(), vec![file])),
            }
        }
        let count = by_dir.len();
        for mut files in by_dir.into_values() {
            files.sort_unstable();
            self.sync(files, effects);
        }
        count
    }

    fn sync(&mut self, files: Vec<FileName>, effects: &mut Vec<Effect>) {
        self.metrics.segment_syncs += files.len() as u64;
        let operation = self.operate(Operation::Sync { files: files.clone() });
        effects.push(Effect::File { operation, change: FileChange::Sync { files } });
    }

    /// Where every partition's recovery would resume, were everything written so far synced.
    /// Commits before `next_commit` are not needed any more then.
    fn checkpoint_table(&mut self, next_commit: CommitId) -> Checkpoint {
        for partition in self.partitions.values_mut() {
            partition.log.begin_checkpoint();
        }
        let mut ids: Vec<_> = self.partitions.keys().copied().collect();
        ids.sort_unstable();
        let partitions = ids.into_iter().map(|id| to_journal(id, self.partitions[&id].log.checkpoint()));
        Checkpoint {
            shard: self.id,
            shards: self.shards,
            run: self.journal.run(),
            generation: self.journal.next_generation(),
            next_commit,
            partitions: partitions.collect(),
        }
    }

    pub(super) fn on_synced(
        &mut self,
        files: Vec<FileName>,
        outcome: Result<(), FileError>,
        effects: &mut Vec<Effect>,
    ) {
        if outcome == Err(FileError::NoSpace) {
            return self.sync(files, effects);
        }
        let Some(Round { stage: Stage::Sync { outstanding, .. }, .. }) = &mut self.storage.round else {
            panic!("a sync ended outside of a round")
        };
        // One that failed took its log directory offline.
        *outstanding -= 1;
    }

    fn replace_table(&mut self, table: Bytes, effects: &mut Vec<Effect>) {
        let operation = self.operate(Operation::Replace);
        let change = FileChange::Replace { path: self.storage.checkpoint_path.clone(), bytes: table };
        effects.push(Effect::File { operation, change });
    }

    pub(super) fn on_replaced(&mut self, now: Time, outcome: Result<(), FileError>, effects: &mut Vec<Effect>) {
        let round = self.storage.round.take().expect("a table is replaced by a round");
        if outcome == Err(FileError::NoSpace) {
            // The files are synced already; the next round writes a table again.
            self.on_own_dir_full(now);
            let stage = Stage::WriteBack { waiting: Map::default() };
            self.storage.round = Some(Round { stage, ..round });
            return;
        }
        self.metrics.checkpoints += 1;
        self.look_at_space(effects);
        for partition in self.partitions.values_mut() {
            partition.log.on_checkpoint();
        }
        self.cleaning.wake();
        match round.upto {
            Some(upto) => self.journal.on_checkpoint(upto),
            // What was still under way when the stop began may have been appended since: then there is another last round.
            None if self.storage.stop == Stop::Wanted
                && self.storage.open_ended.is_empty()
                && self.storage.dirty_bytes == 0 =>
            {
                self.storage.stop = Stop::Done;
            }
            None => {}
        }
    }
}
