//! What files say when their device is broken or gone, and which log directory is to blame.

use std::sync::Arc;

use super::{Operation, log_dir};
use crate::shard::{Effect, FileChange, FileError, Shard};
use crate::types::{Offset, PartitionId, Time};

impl Shard {
    /// What only a broken device, or one that is not there, says.
    pub(super) fn device_failure(&self, operation: &Operation, outcome: &Result<(), FileError>) -> Option<String> {
        match (outcome, operation) {
            (Err(FileError::Failed(reason)), _) => Some(reason.clone()),
            (Err(FileError::NotFound), Operation::Write { partition, .. } | Operation::Close { partition, .. })
                if self.partitions.contains_key(partition) && !self.awaits_directory(&self.directory_of(operation)) =>
            {
                Some(format!("{} is not there any more", self.directory_of(operation)))
            }
            _ => None,
        }
    }

    /// There was no space to create this directory yet.
    fn awaits_directory(&self, awaited: &str) -> bool {
        let creates = |change: &FileChange| matches!(change, FileChange::CreateDirectory { directory, .. } if **directory == *awaited);
        let under_way = |operation: &Operation| matches!(operation, Operation::Directory { change } if creates(change));
        self.storage.refused.iter().any(creates) || self.storage.operations.values().any(under_way)
    }

    pub(super) fn directory_of(&self, operation: &Operation) -> Arc<str> {
        match operation {
            Operation::Write { file, .. } => file.directory.clone(),
            Operation::Sync { files } => files[0].directory.clone(),
            Operation::Close { directory, .. }
            | Operation::Compaction { directory }
            | Operation::Unwatched { directory } => directory.clone(),
            Operation::Directory { change } => match change {
                FileChange::CreateDirectory { directory, .. } | FileChange::DeleteDirectory { directory } => {
                    directory.clone()
                }
                _ => unreachable!("no other change is one of a directory"),
            },
            Operation::Replace | Operation::Keep | Operation::CleaningTable => {
                log_dir(&self.storage.checkpoint_path).into()
            }
            Operation::Scan { .. } | Operation::CompactionRead => unreachable!("a read ends with Read"),
        }
    }

    /// In the first log directory, a file that cannot be read fails its reader alone: the process would end with the rest.
    /// `segment` is the one that must be there.
    pub(super) fn on_read_failure(
        &mut self,
        now: Time,
        id: PartitionId,
        segment: Option<Offset>,
        problem: &FileError,
        effects: &mut Vec<Effect>,
    ) {
        let Some(partition) = self.partitions.get(&id) else { return };
        // A segment that the log has let go may lose its file while somebody still reads it.
        let is_live = || partition.log.segments().iter().any(|found| Some(found.base_offset) == segment);
        let reason = match problem {
            FileError::Failed(reason) => reason.clone(),
            FileError::NotFound if is_live() => format!("a segment of {} is not there", partition.directory),
            _ => return,
        };
        if let Some(index) = self.log_dir_to_blame(&partition.directory) {
            self.fail_log_dir(now, index, &reason, effects);
        }
    }

    /// The first log directory, which has the journals and the tables, has no space for another table.
    pub(in crate::shard) fn on_own_dir_full(&mut self, now: Time) {
        let path = self.storage.checkpoint_path.clone();
        self.on_no_space(now, log_dir(log_dir(&path)));
    }

    /// Nothing is done to the files of this log directory any more.
    pub(in crate::shard) fn forget_log_dir(&mut self, now: Time, failed: &str, effects: &mut Vec<Effect>) {
        self.storage.full.remove(failed);
        let concerns = |change: &mut FileChange| match change {
            FileChange::CreateDirectory { directory, .. } | FileChange::DeleteDirectory { directory } => {
                log_dir(directory) == failed
            }
            _ => false,
        };
        let refused: Vec<_> = self.storage.refused.extract_if(.., concerns).collect();
        for change in refused {
            if let FileChange::DeleteDirectory { directory } = change {
                // The next start that finds it deletes it.
                self.on_directory_deleted(now, &directory, effects);
            }
        }
    }
}
