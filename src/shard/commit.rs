//! Group commit: what the turns appended while one commit was under way becomes the next. When a commit lands, the high
//! watermarks of all partitions in it move; consumers are served first, producers are answered after, in one pass. What
//! nobody waits for gathers a little longer.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::{CommitId, Effect, Shard};
use crate::types::{Deadline, Few, Offset, PartitionId, Time};

/// So long what nobody waits for gathers, or `flush.ms` of its topic if that is less, and no more than this: the device is
/// then given a few large writes where each batch would have been one of its own.
const GATHERED_MS_MAX: u64 = 5;
const GATHERED_BYTES_MAX: u64 = 256 << 10;

#[derive(Default)]
pub(super) struct Commits {
    /// (partition, log end offset after the append) of every journal entry in no commit yet.
    pending: VecDeque<(PartitionId, Offset)>,
    in_flight: VecDeque<InFlight>,
    /// Emptied lists of commits that landed, for those to come.
    spare: Vec<Vec<(PartitionId, Offset)>>,
    /// Appended to topics that do not wait for stable storage: their high watermark moves in this turn.
    relaxed: Vec<PartitionId>,
    /// Something of what is pending does not gather any longer.
    is_due: bool,
    /// When the rest is due.
    due_at: Option<Deadline>,
}

struct InFlight {
    commit: CommitId,
    ends: Vec<(PartitionId, Offset)>,
}

impl Commits {
    /// Acknowledged when it is on stable storage.
    pub fn on_append(&mut self, partition: PartitionId, end: Offset) {
        self.pending.push_back((partition, end));
        self.is_due = true;
    }

    /// Acknowledged in this turn, and on stable storage within `flush_ms`.
    pub fn on_relaxed_append(&mut self, now: Time, partition: PartitionId, end: Offset, flush_ms: u64) {
        self.pending.push_back((partition, end));
        self.relaxed.push(partition);
        let due_at = now.after_ms(flush_ms.min(GATHERED_MS_MAX));
        self.due_at = Some(self.due_at.map_or(due_at, |before| before.min(due_at)));
    }

    /// When what gathers is due.
    pub fn deadline(&self) -> Option<Deadline> {
        self.due_at.filter(|_| !self.is_due)
    }

    fn is_due(&mut self, now: Time, pending_bytes: u64) -> bool {
        self.is_due |= pending_bytes >= GATHERED_BYTES_MAX || self.due_at.is_some_and(|at| at <= now.monotonic_us);
        self.is_due
    }

    fn on_take(&mut self, count: usize) -> Vec<(PartitionId, Offset)> {
        let mut taken = self.spare.pop().unwrap_or_default();
        taken.extend(self.pending.drain(..count));
        if self.pending.is_empty() {
            (self.is_due, self.due_at) = (false, None);
        }
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }
}

impl Shard {
    pub(super) fn take_commit(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.commits.is_due(now, self.journal.pending_bytes()) && !self.stopping {
            return;
        }
        let Some((commit, block)) = self.journal.take_commit() else { return };
        let mut ends = self.commits.on_take(block.entries().len());
        // Of a partition's entries the last one says it all.
        ends.sort_unstable_by_key(|&(partition, end)| (partition, Reverse(end)));
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
        while let Some(mut landed) = self.commits.in_flight.pop_front_if(|landed| landed.commit <= commit) {
            for &(id, end) in &landed.ends {
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.log.advance_durable(end);
                }
            }
            self.advance(now, landed.ends.iter().map(|&(id, _)| id), effects);
            landed.ends.clear();
            self.commits.spare.push(landed.ends);
        }
    }

    /// Moves the high watermarks of these partitions, and frees who waits for them: consumers first.
    pub(super) fn advance(
        &mut self,
        now: Time,
        ids: impl Iterator<Item = PartitionId> + Clone,
        effects: &mut Vec<Effect>,
    ) {
        let mut watchers = Few::new();
        for id in ids.clone() {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            if partition.advance_high_watermark() {
                watchers.extend(partition.waiters.watchers().iter().copied());
            }
        }
        // One look each, after all the commit's partitions have moved: one answer with everything.
        let mut parked: Few<u64> = watchers.into_iter().filter_map(|watcher| self.note_moved(watcher)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time { monotonic_us: ms * 1000, wall_ms: 0 }
    }

    #[test]
    fn what_nobody_waits_for_gathers_until_its_time_has_come_or_it_is_much_or_somebody_waits() {
        let mut commits = Commits::default();
        commits.on_relaxed_append(at(10), PartitionId::METADATA, 1, u64::MAX);
        commits.on_relaxed_append(at(12), PartitionId::METADATA, 2, u64::MAX);
        assert_eq!(commits.deadline(), Some(at(10).after_ms(GATHERED_MS_MAX)));
        assert!(!commits.is_due(at(9 + GATHERED_MS_MAX), 100));
        assert!(commits.is_due(at(10 + GATHERED_MS_MAX), 100));
        assert_eq!(commits.deadline(), None, "it is asked for in each turn until the journal takes it");

        assert_eq!(commits.on_take(1).len(), 1);
        assert!(commits.is_due(at(10), 100), "a block did not hold it all");
        commits.on_take(1);
        assert!(!commits.is_due(at(100), 0));

        commits.on_relaxed_append(at(20), PartitionId::METADATA, 3, 1);
        assert_eq!(commits.deadline(), Some(at(20).after_ms(1)), "flush.ms");
        assert!(commits.is_due(at(20), GATHERED_BYTES_MAX));
        commits.on_take(1);

        commits.on_relaxed_append(at(30), PartitionId::METADATA, 4, u64::MAX);
        assert!(!commits.is_due(at(30), 100));
        commits.on_append(PartitionId::METADATA, 5);
        assert!(commits.is_due(at(30), 100), "one that waits takes all before it along");
    }
}
