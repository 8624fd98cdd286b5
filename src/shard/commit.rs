//! Group commit: what the turns appended while one commit was under way becomes the next. When a commit lands, the high
//! watermarks of all partitions in it move; consumers are served first, producers are answered after, in one pass.

use std::collections::VecDeque;

use super::{CommitId, Effect, Shard};
use crate::types::{Offset, PartitionId, Time};

#[derive(Default)]
pub(super) struct Commits {
    /// (partition, log end offset after the append) of every journal entry in no commit yet.
    pending: VecDeque<(PartitionId, Offset)>,
    in_flight: VecDeque<InFlight>,
    /// Appended to topics that do not wait for stable storage: their high watermark moves in this turn.
    relaxed: Vec<PartitionId>,
}

struct InFlight {
    commit: CommitId,
    ends: Vec<(PartitionId, Offset)>,
}

impl Commits {
    pub fn on_append(&mut self, partition: PartitionId, end: Offset) {
        self.pending.push_back((partition, end));
    }

    pub fn note_relaxed(&mut self, partition: PartitionId) {
        self.relaxed.push(partition);
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }
}

impl Shard {
    pub(super) fn take_commit(&mut self, effects: &mut Vec<Effect>) {
        let Some((commit, block)) = self.journal.take_commit() else { return };
        let mut ends: Vec<_> = self.commits.pending.drain(..block.entries().len()).collect();
        // Of a partition's entries the last one says it all.
        ends.reverse();
        ends.sort_by_key(|&(partition, _)| partition);
        ends.dedup_by_key(|&mut (partition, _)| partition);
        self.metrics.commits += 1;
        self.metrics.commit_bytes += block.payload_bytes();
        self.metrics.commit_overhead_bytes += block.length() as u64 - block.payload_bytes();
        self.metrics.overlapped_commits += u64::from(!self.commits.in_flight.is_empty());
        self.commits.in_flight.push_back(InFlight { commit, ends });
        effects.push(Effect::Commit { commit, block });
    }

    /// This commit and all before it are on stable storage.
    pub(super) fn on_committed(&mut self, now: Time, commit: CommitId, effects: &mut Vec<Effect>) {
        self.journal.on_committed(commit);
        while let Some(landed) = self.commits.in_flight.pop_front_if(|landed| landed.commit <= commit) {
            for &(id, end) in &landed.ends {
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.log.advance_durable(end);
                }
            }
            self.advance(now, landed.ends.iter().map(|&(id, _)| id), effects);
        }
    }

    /// Moves the high watermarks of these partitions, and frees who waits for them: consumers first.
    pub(super) fn advance(
        &mut self,
        now: Time,
        ids: impl Iterator<Item = PartitionId> + Clone,
        effects: &mut Vec<Effect>,
    ) {
        let mut watchers = Vec::new();
        for id in ids.clone() {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            if partition.advance_high_watermark() {
                watchers.extend_from_slice(partition.waiters.watchers());
            }
        }
        // One look each, after all the commit's partitions have moved: one answer with everything.
        let mut parked: Vec<u64> = watchers.into_iter().filter_map(|watcher| self.note_moved(watcher)).collect();
        parked.sort_unstable();
        parked.dedup();
        for token in parked {
            self.retry_fetch(now, token, effects);
        }
        for id in ids {
            while let Some(partition) = self.partitions.get_mut(&id)
                && let Some(token) = partition.waiters.next_acknowledged(partition.high_watermark())
            {
                self.on_acknowledged(token, effects);
            }
            self.release_group_replies(now, id, effects);
            if id == PartitionId::METADATA {
                self.on_metadata_advanced(now, effects);
            }
        }
    }

    /// Topics whose `flush.messages` asks for less than stable storage are acknowledged from memory.
    pub(super) fn advance_relaxed(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.commits.relaxed.is_empty() {
            let ids = std::mem::take(&mut self.commits.relaxed);
            self.advance(now, ids.iter().copied(), effects);
        }
    }
}
