//! What the journal files of all shards still promise after a crash. Runs once at start, before any shard exists.
//!
//! Commits are replayed in the order of their numbers, from the shard's table on. The first that is not there whole is
//! the end: it was torn, or never written, and nobody was ever told of it. Unless a later block shows that it had been
//! acknowledged: commit `n` is handed out only when all up to `n - commits_in_flight_max` are on stable storage, so a hole
//! that far behind is damage, and damage is never passed over as a shorter log.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::block::{Header, parse_entries};
use super::{BLOCK_ALIGNMENT_BYTES, Checkpoint, CommitId, JournalEntry, JournalFileName, Run};
use crate::types::ShardId;

#[derive(Debug)]
pub struct Recovered {
    /// Every acknowledged batch that may not be in a segment yet, and perhaps the last few unacknowledged ones. Those of
    /// one partition are in the order of their append. They share the files' memory.
    pub entries: Vec<JournalEntry>,
    /// The `Run::first_generation` of the run that starts now.
    pub next_generation: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JournalError {
    /// Acknowledged data cannot be read any more.
    Damaged { file: JournalFileName, position: u64, commit: CommitId, newest: CommitId },
    /// Written by another version of this program.
    Version { file: JournalFileName, version: u8 },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Damaged { file, position, commit, newest } => write!(
                f,
                "{file} is damaged at position {position}: commit {} was acknowledged, since commit {} follows it, but \
                 it does not read back with its checksum. The batches from there on cannot be trusted to be complete. \
                 Restore the file from a copy of the log directory, or, if a replica or a backup holds the data, move \
                 the journal files of shard {} away and start again: the partitions then end where their segments end",
                commit.0, newest.0, file.shard.0
            ),
            JournalError::Version { file, version } => write!(
                f,
                "{file} was written in journal format {version}, which this version does not read. Start the version \
                 that wrote it, stop it in order (SIGTERM), and then start this one"
            ),
        }
    }
}

impl std::error::Error for JournalError {}

struct File<'a> {
    name: JournalFileName,
    bytes: &'a Bytes,
    /// The first block's header, if it is whole.
    first: Option<Header>,
}

/// `files` are the journal files of all shards of the directory, whole; `checkpoints` all tables beside them,
/// in any order.
pub fn recover(files: &[(JournalFileName, Bytes)], checkpoints: &[Checkpoint]) -> Result<Recovered, JournalError> {
    let mut shards: BTreeMap<ShardId, Vec<File>> = BTreeMap::new();
    for (name, bytes) in files {
        if let Some(version) = Header::foreign_version(bytes) {
            return Err(JournalError::Version { file: *name, version });
        }
        let first = Header::parse(bytes).filter(|header| header.shard == name.shard);
        shards.entry(name.shard).or_default().push(File { name: *name, bytes, first });
    }
    let firsts = || shards.values().flatten().filter_map(|file| file.first.as_ref());
    let generations = firsts().map(|first| first.generation).chain(checkpoints.iter().map(|table| table.generation));
    let mut recovered = Recovered { entries: Vec::new(), next_generation: generations.max().unwrap_or(0) + 1 };

    // The first tables of a run are written when the data of all runs before is in the segments, its first block after
    // that: whichever of the two is seen tells that nothing before counts any more.
    let runs = firsts().map(|first| first.run).chain(checkpoints.iter().map(|table| table.run));
    let Some(run) = runs.max_by_key(|run| run.first_generation) else { return Ok(recovered) };
    for (shard, files) in &shards {
        let tables = checkpoints.iter().filter(|table| table.shard == *shard && table.run == run);
        let in_segments_upto = tables.map(|table| table.next_commit).max();
        recovered.entries.extend(recover_shard(run, files, in_segments_upto.unwrap_or(CommitId(0)))?);
    }
    Ok(recovered)
}

/// `expected` is the first commit that is not in the segments.
fn recover_shard(run: Run, files: &[File], mut expected: CommitId) -> Result<Vec<JournalEntry>, JournalError> {
    let blocks = blocks_of(run, files);
    let Some((newest, in_flight_max)) = blocks.last_key_value().map(|(commit, block)| (*commit, block.in_flight_max()))
    else {
        return Ok(Vec::new());
    };
    let mut entries = Vec::new();
    while let Some(batches) = blocks.get(&expected).and_then(Block::entries) {
        entries.extend(batches);
        expected = expected.next();
    }
    if newest.0 < expected.0.saturating_add(in_flight_max) {
        return Ok(entries);
    }
    let (file, position) = place_of(expected, &blocks).unwrap_or((files[0].name, 0));
    Err(JournalError::Damaged { file, position, commit: expected, newest })
}

/// Where the block of this commit is or was.
fn place_of(commit: CommitId, blocks: &Blocks) -> Option<(JournalFileName, u64)> {
    let found = blocks.get(&commit).map(|block| (block.file.name, block.position));
    let began_file = || blocks.values().find(|block| block.header.file_commit == commit);
    let before = || blocks.get(&CommitId(commit.0.checked_sub(1)?));
    found
        .or_else(|| began_file().map(|block| (block.file.name, 0)))
        .or_else(|| before().map(|block| (block.file.name, block.position + block.header.padded_bytes())))
}

/// A block of the run in question whose header and table are whole.
struct Block<'a> {
    file: &'a File<'a>,
    position: u64,
    header: Header,
}

type Blocks<'a> = BTreeMap<CommitId, Block<'a>>;

impl Block<'_> {
    fn in_flight_max(&self) -> u64 {
        u64::from(self.header.commits_in_flight_max)
    }

    /// If its batches are whole too.
    fn entries(&self) -> Option<Vec<JournalEntry>> {
        parse_entries(&self.file.bytes.slice(self.position as usize..), &self.header)
    }
}

/// Every block of this run that is left, stale ones with them: a commit is written in one place only and its number is
/// never used again, so the number alone tells a block that counts from one that does not.
fn blocks_of<'a>(run: Run, files: &'a [File<'a>]) -> Blocks<'a> {
    let at = |file: &'a File<'a>, position: usize| {
        let header = Header::parse_in_run(&file.bytes[position..], run)?;
        let block = Block { file, position: position as u64, header };
        (header.shard == file.name.shard).then_some((header.commit, block))
    };
    let positions = |file: &File| (0..file.bytes.len()).step_by(BLOCK_ALIGNMENT_BYTES as usize);
    files.iter().flat_map(|file| positions(file).filter_map(move |position| at(file, position))).collect()
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
