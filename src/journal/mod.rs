//! One core's write-ahead log. Owned by the core's shard; it decides what a commit holds, which file may be recycled and
//! what recovery replays. It never touches a file: the reactor writes the blocks, the broker reads the files at start.
//!
//! A shard has a few files of one fixed size, zero-written once and then recycled in place. A *commit* is one block,
//! written in one piece at a 4 KiB boundary. A *run* is one life of the process: recovery replays the newest run only,
//! because nothing is committed in a run before the runs before it are in the segments.

mod block;
mod checkpoint;
mod recovery;
mod writer;

use std::fmt;

pub use block::JournalBlock;
pub use checkpoint::{
    Checkpoint, CheckpointError, PartitionCheckpoint, START_TABLES, decode_tables, encode_tables, merge,
};
pub use recovery::{JournalError, Recovered, recover};
pub use writer::Journal;

use crate::config::GannetConfig;
use crate::record::RecordBatch;
use crate::types::{PartitionId, ShardId};

/// Blocks start at multiples of this, so that a durable write never reads, and never rewrites what an earlier one wrote.
pub const BLOCK_ALIGNMENT_BYTES: u64 = 4096;

/// Counts the journal commits of one shard in one run, from 0; they are issued and completed in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommitId(pub u64);

impl CommitId {
    pub fn next(self) -> CommitId {
        CommitId(self.0 + 1)
    }
}

/// One life of the process, the same for all its shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Greater than every generation of the runs before: `Recovered::next_generation`. The tables that begin the run have
    /// this one, its files those after.
    pub first_generation: u64,
    /// Drawn at random at start and never told: a record's bytes cannot imitate a block that recovery would believe.
    pub salt: u64,
}

/// A batch and the partition it was appended to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalEntry {
    pub partition: PartitionId,
    pub batch: RecordBatch,
}

/// The shape of one shard's journal; fixed for a run.
#[derive(Clone, Copy, Debug)]
pub struct JournalLayout {
    pub shard: ShardId,
    /// How many files; at least 2.
    pub files: u16,
    /// Size of each; a multiple of 4 KiB.
    pub file_bytes: u64,
    /// A block takes no further batch beyond this; one batch that is larger gets a block to itself.
    pub block_bytes_max: u64,
    /// Commits that may be under way at once; 1 to 255. Written into every block, since recovery needs it.
    pub commits_in_flight_max: u16,
}

impl JournalLayout {
    pub fn of(shard: ShardId, config: &GannetConfig) -> JournalLayout {
        JournalLayout {
            shard,
            files: config.journal_files,
            file_bytes: config.journal_file_bytes(),
            block_bytes_max: config.commit_bytes,
            commits_in_flight_max: config.commits_in_flight,
        }
    }
}

/// The largest batch that `Journal::append` takes: a block holding it alone still fits into one file.
pub fn batch_bytes_max(layout: &JournalLayout) -> u64 {
    layout.file_bytes - block::block_bytes(1, 0)
}

/// `journal-<shard>-<index>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JournalFileName {
    pub shard: ShardId,
    /// Counted from 0.
    pub index: u16,
}

impl JournalFileName {
    /// `None` if the name is not that of a journal file.
    pub fn parse(name: &str) -> Option<JournalFileName> {
        let (shard, index) = name.strip_prefix("journal-")?.split_once('-')?;
        let parsed = JournalFileName { shard: ShardId(shard.parse().ok()?), index: index.parse().ok()? };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for JournalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal-{}-{}", self.shard.0, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;

    #[test]
    fn every_batch_that_the_configuration_allows_fits_into_a_journal_file() {
        let config = BrokerConfig::default();
        let layout = JournalLayout::of(ShardId(0), &config.gannet);
        assert!(config.batch_bytes_max() <= batch_bytes_max(&layout));
    }

    #[test]
    fn only_a_journals_own_names_are_read_as_such() {
        let name = JournalFileName { shard: ShardId(3), index: 12 };
        assert_eq!(JournalFileName::parse(&name.to_string()), Some(name));
        for other in
            ["journal-3", "journal-3-12.tmp", "journal-03-1", "journal-+3-1", "checkpoint-3", "journal-3-65536"]
        {
            assert_eq!(JournalFileName::parse(other), None, "{other}");
        }
    }
}
