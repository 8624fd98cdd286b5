//! What the journal files of all shards still promise after a crash. Runs once at start, before any shard exists.
//!
//! A file is read from its start, block by block. The first block that is not whole, not of this run, or not the next
//! commit is the end: it was torn, or is stale, and nobody was ever told of it. Unless a later block shows that it had
//! been acknowledged: commit `n` is handed out only when all up to `n - commits_in_flight_max` are on stable storage, so
//! a hole that far behind is damage, and damage is never passed over as a shorter log.

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

/// `files` are the journal files of all shards of the directory, whole; `checkpoints` all tables beside them.
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

    // The first block of a run, and the last of its first tables, are written when the data of all runs before is in the
    // segments: whichever of the two is seen tells which run counts.
    let runs = firsts().map(|first| first.run).chain(complete_runs(checkpoints));
    let Some(run) = runs.max_by_key(|run| run.first_generation) else { return Ok(recovered) };
    for (shard, files) in &shards {
        let table = checkpoints.iter().find(|table| table.shard == *shard && table.run == run);
        recovered.entries.extend(recover_shard(run, files, table)?);
    }
    Ok(recovered)
}

/// The runs in which every shard has written a table.
fn complete_runs(checkpoints: &[Checkpoint]) -> impl Iterator<Item = Run> {
    let tables_of = |run: Run| checkpoints.iter().filter(|table| table.run == run).count();
    checkpoints.iter().filter(move |table| tables_of(table.run) == usize::from(table.shards)).map(|table| table.run)
}

fn recover_shard(run: Run, files: &[File], table: Option<&Checkpoint>) -> Result<Vec<JournalEntry>, JournalError> {
    let starts: BTreeMap<CommitId, &File> =
        files.iter().filter_map(|file| Some((file.first.filter(|first| first.run == run)?.commit, file))).collect();
    // Without a table of this run (the process died while it brought the recovered data into the segments) every file
    // counts; files are recycled in order, so the oldest that is left begins an unbroken row.
    let in_segments_upto = table.map_or(CommitId(0), |table| table.next_commit);
    let oldest = starts.keys().next().copied();
    let mut expected = match table {
        Some(_) => starts.range(..=in_segments_upto).next_back().map_or(in_segments_upto, |(commit, _)| *commit),
        None => oldest.unwrap_or(CommitId(0)),
    };
    let mut entries = Vec::new();
    let mut end = None;
    while let Some(file) = starts.get(&expected) {
        let mut position = 0;
        while let Some((header, block)) = block_at(run, file, position, expected) {
            if expected >= in_segments_upto {
                entries.extend(block);
            }
            expected = expected.next();
            position += header.padded_bytes();
        }
        end = Some((file.name, position));
        if position == 0 {
            break;
        }
    }
    match newest_block(run, files) {
        Some(newest)
            if newest.commit.0 >= expected.0.saturating_add(u64::from(newest.commits_in_flight_max))
                && newest.commit >= in_segments_upto =>
        {
            // Either the file that this commit begins, where a later block of it still tells, or where reading stopped.
            let begins = |file: &&File| headers_of(run, file).any(|header| header.file_commit == expected);
            let begun = files.iter().find(begins).map(|file| (file.name, 0));
            let (file, position) = begun.or(end).unwrap_or((files[0].name, 0));
            Err(JournalError::Damaged { file, position, commit: expected, newest: newest.commit })
        }
        _ => Ok(entries),
    }
}

/// The block that holds commit `expected`, if it stands whole at `position`.
fn block_at(run: Run, file: &File, position: u64, expected: CommitId) -> Option<(Header, Vec<JournalEntry>)> {
    let position = usize::try_from(position).ok().filter(|position| *position < file.bytes.len())?;
    let bytes = file.bytes.slice(position..);
    let header = Header::parse_in_run(&bytes, run)?;
    let first = file.first.as_ref()?;
    let follows = header.shard == file.name.shard
        && header.generation == first.generation
        && header.file_commit == first.commit
        && header.commit == expected;
    if follows { Some((header, parse_entries(&bytes, &header)?)) } else { None }
}

/// The block of the greatest commit of this run of which a header is left anywhere. Stale blocks of this run hold lesser
/// commits than those that were written over them, so they never pass for a newer one.
fn newest_block(run: Run, files: &[File]) -> Option<Header> {
    files.iter().flat_map(|file| headers_of(run, file)).max_by_key(|header| header.commit)
}

fn headers_of(run: Run, file: &File) -> impl Iterator<Item = Header> {
    let (bytes, shard) = (file.bytes, file.name.shard);
    let positions = (0..bytes.len()).step_by(BLOCK_ALIGNMENT_BYTES as usize);
    positions
        .filter_map(move |position| Header::parse_in_run(&bytes[position..], run))
        .filter(move |header| header.shard == shard)
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
