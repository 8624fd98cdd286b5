//! Log directories that failed, and their partitions, which are offline until a start finds the directory whole again
//! (KIP-112). Others go on. What the segments of an offline partition may lack is kept beside the journals, so that the
//! journal can use its files again.
//!
//! The first log directory is not among them: it holds the journals and the metadata log, and the process ends with it.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::{error, info};

use super::kept::Kept;
use super::storage::{Operation, log_dir, to_journal};
use super::{Effect, FileChange, FileError, Message, Shard, ShardId};
use crate::error_code::ErrorCode;
use crate::metadata;
use crate::partition::Partition;
use crate::types::{BrokerId, Map, PartitionId, Time};

/// What is offline when a run begins.
#[derive(Clone, Debug, Default)]
pub struct OfflineAtStart {
    /// By their index in `log.dirs`.
    pub log_dirs: Vec<u16>,
    pub partitions: Vec<OfflinePartition>,
}

/// A partition that cannot be served.
#[derive(Clone, Debug)]
pub struct OfflinePartition {
    pub id: PartitionId,
    /// Where its files are, if that is known and in a log directory that is online.
    pub directory: Option<Arc<str>>,
}

pub(super) struct Offline {
    /// By index in `log.dirs`.
    log_dirs: Vec<bool>,
    /// Of all cores.
    partitions: Map<PartitionId, Option<Arc<str>>>,
    /// Kept in memory until a file has it.
    unkept: VecDeque<Kept>,
    /// The first so many of `unkept` are being written.
    writing: usize,
    /// Files begun in this run.
    files: u32,
}

impl Offline {
    pub fn new(at_start: &OfflineAtStart, log_dirs: usize) -> Offline {
        let is_offline = |index: usize| at_start.log_dirs.iter().any(|offline| usize::from(*offline) == index);
        let partitions = at_start.partitions.iter();
        Offline {
            log_dirs: (0..log_dirs).map(is_offline).collect(),
            partitions: partitions.map(|offline| (offline.id, offline.directory.clone())).collect(),
            unkept: VecDeque::new(),
            writing: 0,
            files: 0,
        }
    }

    pub fn contains(&self, id: PartitionId) -> bool {
        self.partitions.contains_key(&id)
    }

    pub fn has_log_dir(&self, index: usize) -> bool {
        self.log_dirs[index]
    }

    /// The partition is no more.
    pub fn forget(&mut self, id: PartitionId) -> Option<Arc<str>> {
        self.partitions.remove(&id)?
    }

    /// The journal, or a table, is still all that has something of an offline partition.
    pub fn is_keeping(&self) -> bool {
        !self.unkept.is_empty()
    }

    /// Who leads a partition, as clients are told: of one that is offline, nobody.
    pub fn leader_of(&self, id: PartitionId, state: &metadata::Partition) -> Option<BrokerId> {
        state.leader.filter(|_| !self.contains(id))
    }

    /// Those of a partition that clients are told are offline. A leader here has no replica elsewhere yet.
    pub fn replicas_of(&self, id: PartitionId, state: &metadata::Partition) -> Vec<BrokerId> {
        if self.contains(id) { state.leader.into_iter().collect() } else { Vec::new() }
    }
}

impl Shard {
    /// Why a partition is not here: offline, or else as the caller says.
    pub(super) fn absence(&self, id: PartitionId, otherwise: ErrorCode) -> ErrorCode {
        if self.offline.contains(id) { ErrorCode::KafkaStorageError } else { otherwise }
    }

    pub(super) fn partition_or(&self, id: PartitionId, otherwise: ErrorCode) -> Result<&Partition, ErrorCode> {
        self.partitions.get(&id).ok_or_else(|| self.absence(id, otherwise))
    }

    /// A file in this directory said something that no healthy device says. `None` if only the end of the process helps.
    pub(super) fn log_dir_to_blame(&self, directory: &str) -> Option<usize> {
        let log_dir = log_dir(directory);
        self.config.log_dirs.iter().position(|dir| dir == log_dir).filter(|index| *index > 0)
    }

    /// From here on nothing is asked of this log directory any more.
    pub(super) fn fail_log_dir(&mut self, now: Time, index: usize, reason: &str, effects: &mut Vec<Effect>) {
        if self.offline.log_dirs[index] {
            return;
        }
        error!(
            log_dir = self.config.log_dirs[index],
            reason,
            "a log directory failed and is offline: its partitions are not served, all others are. What was acknowledged \
             is kept. Check the device (dmesg, smartctl), repair or mount it again, then restart the broker"
        );
        self.take_offline(now, index, effects);
    }

    fn take_offline(&mut self, now: Time, index: usize, effects: &mut Vec<Effect>) {
        self.offline.log_dirs[index] = true;
        self.metrics.offline_log_dirs += u64::from(self.id == ShardId(0));
        let failed = self.config.log_dirs[index].clone();
        let is_lost = |directory: &str| log_dir(directory) == failed;
        let lost = self.partitions.values().filter(|partition| is_lost(&partition.directory));
        let mut ids: Vec<_> = lost.map(|partition| partition.id).collect();
        ids.sort_unstable();
        self.offline.partitions.extend(ids.iter().map(|id| (*id, None)));
        self.metrics.offline_partitions += ids.len() as u64;
        for &id in &ids {
            let partition = self.let_go(now, id, ErrorCode::KafkaStorageError, effects).expect("just listed");
            let (checkpoint, batches) = partition.log.unsynced();
            let cleaning = partition.log.cleaning_point();
            self.offline.unkept.push_back(Kept { id, checkpoint: Some(to_journal(id, checkpoint)), cleaning, batches });
        }
        self.forget_log_dir(now, &failed, effects);
        for shard in (0..self.shards).map(ShardId).filter(|shard| *shard != self.id) {
            let message = Message::Offline { log_dir: index as u16, partitions: ids.clone() };
            effects.push(Effect::Send { to: shard, message });
        }
        self.keep_next(effects);
    }

    /// Another core took a log directory offline, with these partitions of its own.
    pub(super) fn on_offline(
        &mut self,
        now: Time,
        index: u16,
        partitions: Vec<PartitionId>,
        effects: &mut Vec<Effect>,
    ) {
        self.offline.partitions.extend(partitions.into_iter().map(|id| (id, None)));
        if !self.offline.log_dirs[usize::from(index)] {
            self.take_offline(now, usize::from(index), effects);
        }
    }

    /// Writes the next file, if none is being written.
    pub(super) fn keep_next(&mut self, effects: &mut Vec<Effect>) {
        if self.offline.writing > 0 || self.offline.unkept.is_empty() {
            return;
        }
        let count = Kept::count_for_one_file(self.offline.unkept.iter());
        self.offline.writing = count;
        let run = self.journal.run().first_generation;
        let own = log_dir(self.storage.checkpoint_path());
        let path = format!("{own}/kept-{run}-{}-{}", self.id.0, self.offline.files).into();
        self.offline.files += 1;
        let bytes = Kept::encode_all(&self.offline.unkept.make_contiguous()[..count]);
        let operation = self.operate(Operation::Keep);
        effects.push(Effect::File { operation, change: FileChange::Replace { path, bytes } });
    }

    pub(super) fn on_kept(&mut self, now: Time, outcome: Result<(), FileError>, effects: &mut Vec<Effect>) {
        let count = std::mem::take(&mut self.offline.writing);
        if outcome.is_err() {
            // The journal has it until there is space; `tend_storage` tries again.
            return self.on_own_dir_full(now);
        }
        self.offline.unkept.drain(..count);
        self.keep_next(effects);
        if self.offline.unkept.is_empty() {
            info!("what the journal had of offline partitions is kept in files of its own");
            self.cleaning.wake();
        }
    }
}
