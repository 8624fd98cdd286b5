//! `Journal`: gathers what a turn appended, hands it out as commits, and knows which files may be written again.

use std::collections::VecDeque;

use super::block::{Header, block_bytes};
use super::{BLOCK_ALIGNMENT_BYTES, CommitId, JournalBlock, JournalEntry, JournalLayout, Run, batch_bytes_max};

/// One shard's journal in one run.
///
/// ```text
/// a file:  free ──▶ active ──▶ sealed ──▶ free      first freed, first used again
///          take_commit   full     on_checkpoint
/// ```
#[derive(Debug)]
pub struct Journal {
    layout: JournalLayout,
    run: Run,
    next_generation: u64,
    /// Appended and in no block yet.
    pending: VecDeque<JournalEntry>,
    pending_bytes: u64,
    /// The next commit to hand out.
    next_commit: CommitId,
    /// Commits below are on stable storage. Invariant: at most `commits_in_flight_max` below `next_commit`.
    committed_upto: CommitId,
    active: Option<ActiveFile>,
    sealed: VecDeque<SealedFile>,
    free: VecDeque<u16>,
    /// The checkpoint round that the shard works on.
    checkpoint: Option<CommitId>,
}

#[derive(Debug)]
struct ActiveFile {
    index: u16,
    generation: u64,
    first_commit: CommitId,
    position: u64,
}

#[derive(Debug)]
struct SealedFile {
    index: u16,
    last_commit: CommitId,
}

impl Journal {
    /// All files are free: before any shard of the process takes its first commit, every shard has brought what recovery
    /// returned into its segments and synced them, and the tables of all shards stand in the file of `START_TABLES`.
    pub fn new(layout: JournalLayout, run: Run) -> Journal {
        assert!(layout.files >= 2);
        assert!(layout.file_bytes >= BLOCK_ALIGNMENT_BYTES);
        assert!(layout.file_bytes.is_multiple_of(BLOCK_ALIGNMENT_BYTES));
        assert!((1..=255).contains(&layout.commits_in_flight_max));
        Journal {
            layout,
            run,
            next_generation: run.first_generation + 1,
            pending: VecDeque::new(),
            pending_bytes: 0,
            next_commit: CommitId(0),
            committed_upto: CommitId(0),
            active: None,
            sealed: VecDeque::new(),
            free: (0..layout.files).collect(),
            checkpoint: None,
        }
    }

    /// The batch is at most `batch_bytes_max` long: a greater one is refused before it has an offset.
    pub fn append(&mut self, entry: JournalEntry) {
        assert!(entry.batch.size() as u64 <= batch_bytes_max(&self.layout));
        self.pending_bytes += entry.batch.size() as u64;
        self.pending.push_back(entry);
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes of batches that no commit holds yet.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// The next commit: as much of what is pending as fits. `None` if nothing is pending, if enough commits are under
    /// way, or if no file is free (`is_full`). Appended order is kept.
    pub fn take_commit(&mut self) -> Option<(CommitId, JournalBlock)> {
        let in_flight = self.next_commit.0 - self.committed_upto.0;
        if in_flight >= u64::from(self.layout.commits_in_flight_max) || !self.turn_to_file_with_room() {
            return None;
        }
        let active = self.active.as_mut()?;
        let limit = self.layout.block_bytes_max.min(self.layout.file_bytes - active.position);
        let (mut count, mut payload_bytes) = (1, self.pending.front()?.batch.size() as u64);
        for entry in self.pending.iter().skip(1) {
            let with_this = payload_bytes + entry.batch.size() as u64;
            if block_bytes(count + 1, with_this) > limit {
                break;
            }
            (count, payload_bytes) = (count + 1, with_this);
        }
        self.pending_bytes -= payload_bytes;
        let commit = self.next_commit;
        self.next_commit = commit.next();
        let block = JournalBlock {
            file: active.index,
            position: active.position,
            header: Header {
                run: self.run,
                shard: self.layout.shard,
                commits_in_flight_max: u8::try_from(self.layout.commits_in_flight_max).expect("at most 255"),
                generation: active.generation,
                file_commit: active.first_commit,
                commit,
                entries: u32::try_from(count).expect("a block's table is shorter than its file"),
                payload_bytes,
            },
            entries: self.pending.drain(..count as usize).collect(),
        };
        active.position += block.length() as u64;
        assert!(active.position <= self.layout.file_bytes);
        Some((commit, block))
    }

    /// Whether the active file has room for the first pending batch, after turning to the next free file if need be.
    fn turn_to_file_with_room(&mut self) -> bool {
        if self.pending.is_empty() || self.is_full() {
            return false;
        }
        if !self.active_has_room() {
            let index = self.free.pop_front().expect("not full");
            if let Some(full) = self.active.take() {
                let last_commit = CommitId(self.next_commit.0 - 1);
                self.sealed.push_back(SealedFile { index: full.index, last_commit });
            }
            let generation = self.next_generation;
            self.next_generation += 1;
            self.active = Some(ActiveFile { index, generation, first_commit: self.next_commit, position: 0 });
        }
        true
    }

    fn active_has_room(&self) -> bool {
        let (Some(active), Some(first)) = (&self.active, self.pending.front()) else { return false };
        active.position + block_bytes(1, first.batch.size() as u64) <= self.layout.file_bytes
    }

    /// This commit and all before it are on stable storage.
    pub fn on_committed(&mut self, commit: CommitId) {
        assert!(commit >= self.committed_upto);
        assert!(commit < self.next_commit);
        self.committed_upto = commit.next();
    }

    /// The commit handed out last; what was appended before is in it or in an earlier one, unless still pending.
    pub fn last_commit_taken(&self) -> Option<CommitId> {
        self.next_commit.0.checked_sub(1).map(CommitId)
    }

    /// The last commit on stable storage.
    pub fn last_commit_durable(&self) -> Option<CommitId> {
        self.committed_upto.0.checked_sub(1).map(CommitId)
    }

    /// A new checkpoint round, if files are sealed and no round is under way. The shard then writes back and syncs all
    /// that the commits up to and including this one hold, writes its table with `next_commit` after it, and calls
    /// `on_checkpoint`.
    pub fn take_checkpoint(&mut self) -> Option<CommitId> {
        if self.checkpoint.is_some() {
            return None;
        }
        let durable = |file: &&SealedFile| file.last_commit < self.committed_upto;
        self.checkpoint = self.sealed.iter().take_while(durable).last().map(|file| file.last_commit);
        self.checkpoint
    }

    /// The table of the round that `take_checkpoint` began is on stable storage: its files are free again.
    pub fn on_checkpoint(&mut self, upto: CommitId) {
        assert!(self.checkpoint.take() == Some(upto));
        while let Some(file) = self.sealed.pop_front_if(|file| file.last_commit <= upto) {
            self.free.push_back(file.index);
        }
    }

    /// Sealed files wait for a checkpoint and at most one file is still free: write back now, whatever its size.
    pub fn under_pressure(&self) -> bool {
        !self.sealed.is_empty() && self.free.len() <= 1
    }

    /// No commit can be taken before a checkpoint frees a file.
    pub fn is_full(&self) -> bool {
        !self.pending.is_empty() && self.free.is_empty() && !self.active_has_room()
    }

    pub fn run(&self) -> Run {
        self.run
    }

    /// The generation that the next file will get; goes into the `Checkpoint`.
    pub fn next_generation(&self) -> u64 {
        self.next_generation
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::tests::entry;
    use super::*;
    use crate::types::ShardId;

    const RUN: Run = Run { first_generation: 5, salt: 99 };

    fn journal(files: u16) -> Journal {
        let layout = JournalLayout {
            shard: ShardId(0),
            files,
            file_bytes: 16384,
            block_bytes_max: 8192,
            commits_in_flight_max: 2,
        };
        Journal::new(layout, RUN)
    }

    /// Appends a batch that fills a 4 KiB block, and commits it.
    fn commit_one_page(journal: &mut Journal) -> Option<(CommitId, JournalBlock)> {
        journal.append(entry(0, 0, 3000));
        let (commit, block) = journal.take_commit()?;
        journal.on_committed(commit);
        Some((commit, block))
    }

    #[test]
    fn all_that_was_appended_leaves_in_one_commit_in_order() {
        let mut journal = journal(2);
        assert!(journal.take_commit().is_none());
        for offset in 0..5 {
            journal.append(entry(0, offset, 10));
        }
        let (commit, block) = journal.take_commit().expect("pending");
        assert_eq!((commit, block.file, block.position), (CommitId(0), 0, 0));
        assert_eq!(block.entries(), (0..5).map(|offset| entry(0, offset, 10)).collect::<Vec<_>>());
        assert!(!journal.has_pending());
        assert_eq!(journal.pending_bytes(), 0);
    }

    #[test]
    fn no_more_commits_than_allowed_are_in_flight() {
        let mut journal = journal(2);
        for offset in 0..3 {
            journal.append(entry(0, offset, 10));
            assert_eq!(journal.take_commit().is_some(), offset < 2);
        }
        assert_eq!(journal.last_commit_durable(), None);
        journal.on_committed(CommitId(0));
        let (commit, block) = journal.take_commit().expect("one returned");
        assert_eq!((commit, block.position), (CommitId(2), 8192));
        assert_eq!((journal.last_commit_durable(), journal.last_commit_taken()), (Some(CommitId(0)), Some(commit)));
    }

    #[test]
    fn a_block_stops_at_its_limit_unless_one_batch_is_larger() {
        let mut journal = journal(2);
        for bytes in [3000, 3000, 3000, 12000] {
            journal.append(entry(0, 0, bytes));
        }
        let (_, block) = journal.take_commit().expect("pending");
        assert_eq!(block.entries().len(), 2);
        let (_, block) = journal.take_commit().expect("the rest");
        assert_eq!(block.entries().len(), 1, "the large batch does not fit beside");
        journal.on_committed(CommitId(1));
        let (_, block) = journal.take_commit().expect("the large one, alone in the next file");
        assert_eq!((block.file, block.position, block.length()), (1, 0, 12288));
    }

    #[test]
    fn a_full_journal_takes_no_commit_until_a_checkpoint_frees_a_file() {
        let mut journal = journal(2);
        for page in 0..8 {
            let (_, block) = commit_one_page(&mut journal).expect("room");
            assert_eq!((block.file, block.position), (page / 4, u64::from(page) % 4 * 4096));
            assert_eq!(block.header.generation, 6 + u64::from(page / 4));
        }
        assert!(commit_one_page(&mut journal).is_none());
        assert!(journal.is_full() && journal.under_pressure());
        assert_eq!(journal.take_checkpoint(), Some(CommitId(3)));
        assert_eq!(journal.take_checkpoint(), None, "one round at a time");
        journal.on_checkpoint(CommitId(3));
        assert!(!journal.is_full());
        let (commit, block) = journal.take_commit().expect("file 0 is free");
        assert_eq!((commit, block.file, block.header.generation), (CommitId(8), 0, 8));
    }

    #[test]
    fn a_file_with_a_commit_in_flight_is_not_recycled() {
        let mut journal = journal(3);
        for _ in 0..3 {
            commit_one_page(&mut journal);
        }
        for _ in 0..2 {
            journal.append(entry(0, 0, 3000));
            journal.take_commit().expect("room");
        }
        assert_eq!(journal.take_checkpoint(), None, "commit 3 is still being written to file 0");
        journal.on_committed(CommitId(3));
        assert_eq!(journal.take_checkpoint(), Some(CommitId(3)));
    }

    #[test]
    fn a_shards_own_table_is_newer_than_those_that_begin_the_run_even_before_its_first_commit() {
        assert!(journal(2).next_generation() > RUN.first_generation);
    }

    #[test]
    fn the_largest_batch_fits_into_a_file() {
        let mut journal = journal(2);
        let bytes = batch_bytes_max(&journal.layout);
        journal.append(entry(0, 0, bytes as usize - 61));
        let (_, block) = journal.take_commit().expect("fits");
        assert_eq!(block.length() as u64, journal.layout.file_bytes);
    }
}
