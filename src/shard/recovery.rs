//! What the node is after a stop or a crash, out of what its log directories hold: the journals replayed, the image rebuilt
//! from the metadata log, and a plan for every partition. A value; the broker (or the simulator) reads the files before
//! and carries the plan out after, and only then opens the shards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tracing::error;

use super::kept::Kept;
use super::offline::OfflinePartition;
use super::storage::{log_dir, to_journal};

use crate::config::BrokerConfig;
use crate::journal::{self, Checkpoint, CommitId, JournalError, JournalFileName, PartitionCheckpoint, Run};
use crate::log::{
    self, CleaningPoint, FoundLog, LogCheckpoint, LogState, RecoveredLog, RecoveryError, SegmentFile, SwapFile,
};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::record;
use crate::types::{Map, Offset, PartitionId, ShardId, TopicId};

/// Directory name of the metadata log, as in Kafka.
pub const METADATA_DIRECTORY: &str = "__cluster_metadata-0";

/// One `<topic>-<partition>` directory.
#[derive(Clone, Debug)]
pub struct FoundPartition {
    /// The whole path.
    pub directory: Arc<str>,
    pub topic: String,
    pub index: i32,
    /// Out of `partition.metadata`; a directory without one was never finished.
    pub topic_id: Option<TopicId>,
    /// Its `.log` files.
    pub segments: Vec<SegmentFile>,
    /// Its `.log.swap` files.
    pub swaps: Vec<SwapFile>,
}

impl FoundPartition {
    /// Takes `<topic>-<partition>` apart; `None` if it is no such name.
    pub fn parse_name(name: &str) -> Option<(String, i32)> {
        let (topic, index) = name.rsplit_once('-')?;
        let parsed: i32 = index.parse().ok()?;
        (!topic.is_empty() && parsed >= 0 && parsed.to_string() == index).then(|| (topic.to_owned(), parsed))
    }
}

/// All that was found.
pub struct Found {
    pub cluster_id: Arc<str>,
    pub config: Arc<BrokerConfig>,
    pub journals: Vec<(JournalFileName, Bytes)>,
    pub checkpoints: Vec<Checkpoint>,
    pub cleaning: Map<PartitionId, CleaningPoint>,
    /// Of partitions whose log directory was offline.
    pub kept: Vec<Kept>,
    pub partitions: Vec<FoundPartition>,
    /// The log directories that are online, the one with the journals first.
    pub log_dirs: Vec<String>,
    /// Another log directory of this node is offline: a partition that was not found may lie there.
    pub incomplete: bool,
}

/// What to do, and what is true once it is done.
pub struct Recovery {
    pub image: MetadataImage,
    /// `Run::first_generation` of the run that starts.
    pub next_generation: u64,
    pub partitions: Vec<RecoveredPartition>,
    /// Partitions that cannot be served, and must not begin anew elsewhere.
    pub offline: Vec<OfflinePartition>,
    /// What has to be kept of them, beside what is kept already, before the journals are used again.
    pub keep: Vec<Kept>,
    /// Directories of topics that are no more: to be deleted before anything else.
    pub strays: Vec<Arc<str>>,
    /// The last run did not end in order.
    pub after_crash: bool,
}

pub struct RecoveredPartition {
    pub id: PartitionId,
    pub directory: Arc<str>,
    /// The directory has to be made first, with a `partition.metadata` of this topic id.
    pub is_new: bool,
    pub log: RecoveredLog,
}

/// Why the node does not start: what it would serve is not what was acknowledged.
#[derive(Debug)]
pub enum StartError {
    Journal(JournalError),
    Log { directory: Arc<str>, error: RecoveryError },
    Metadata { position: Offset, problem: String },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Journal(error) => error.fmt(f),
            StartError::Log { directory, error } => write!(f, "{directory}: {error}"),
            StartError::Metadata { position, problem } => {
                write!(f, "the metadata log cannot be replayed at offset {position}: {problem}")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Plans the start. `read` gives the content of one segment file. `stopped_in_order` is what the last run left behind
/// when it had nothing more to write.
pub fn recover(
    found: Found,
    stopped_in_order: bool,
    read: &mut dyn FnMut(&str, Offset) -> Bytes,
) -> Result<Recovery, StartError> {
    let Found { cluster_id, config, journals, checkpoints, mut cleaning, kept, partitions, log_dirs, incomplete } =
        found;
    let recovered = journal::recover(&journals, &checkpoints).map_err(StartError::Journal)?;
    let mut entries: Map<PartitionId, Vec<record::RecordBatch>> = Map::default();
    for entry in recovered.entries {
        entries.entry(entry.partition).or_default().push(entry.batch);
    }
    let mut checkpoints = journal::merge(checkpoints);
    let kept = merge_kept(kept, &mut checkpoints, &mut cleaning, &mut entries);
    let mut directories = Directories::default();
    for found in partitions {
        directories.by_name.entry((found.topic.clone(), found.index)).or_default().push(found);
    }
    let mut entries_of = |id: PartitionId| entries.remove(&id).unwrap_or_default();

    let (topic, index) = FoundPartition::parse_name(METADATA_DIRECTORY).expect("a partition's name");
    let directory = directories.take((topic, index), |_| true);
    let is_new = directory.is_none();
    let (directory, files) = match directory {
        Some(found) => (found.directory, (found.segments, found.swaps)),
        None => (format!("{}/{METADATA_DIRECTORY}", log_dirs[0]).into(), Default::default()),
    };
    let id = PartitionId::METADATA;
    let known = Known { checkpoint: checkpoints.get(&id), cleaning: CleaningPoint::default(), entries: entries_of(id) };
    let log = recover_log(known, &directory, files, read)?;
    let image = replay(MetadataImage::new(cluster_id, config.clone()), &directory, &log, read)?;
    let mut planned = vec![RecoveredPartition { id, directory, is_new, log }];

    let (mut offline, mut keep) = (Vec::new(), Vec::new());
    let mut for_new = log_dirs.iter().cycle();
    for topic in image.topics() {
        for index in 0..topic.partitions.len() as i32 {
            let id = PartitionId { topic: topic.id, index };
            let checkpoint = checkpoints.get(&id);
            // Of a directory without an owner's name nothing was ever synced, unless a table says so.
            let is_its = |found: &FoundPartition| found.topic_id.map_or(checkpoint.is_some(), |of| of == topic.id);
            let cleaning = cleaning.get(&id).copied().unwrap_or_default();
            let found = directories.take((topic.name.to_string(), index), is_its);
            let entries = entries_of(id);
            if found.is_none() && (incomplete || checkpoint.is_some_and(|known| had_segments(known, &cleaning))) {
                keep.extend(to_keep(id, checkpoint, cleaning, entries, kept.get(&id)));
                offline.push(OfflinePartition { id, directory: None });
                continue;
            }
            let (directory, is_new, files) = match found {
                Some(found) => (found.directory, found.topic_id.is_none(), (found.segments, found.swaps)),
                None => {
                    let log_dir = for_new.next().expect("there is at least one log directory");
                    (format!("{log_dir}/{}-{index}", topic.name).into(), true, Default::default())
                }
            };
            let fails_alone = log_dir(&directory) != log_dirs[0];
            let spare = if fails_alone { entries.clone() } else { Vec::new() };
            match recover_log(Known { checkpoint, cleaning, entries }, &directory, files, read) {
                Ok(log) => planned.push(RecoveredPartition { id, directory, is_new, log }),
                Err(StartError::Log { error: error @ RecoveryError::SegmentShort { .. }, .. }) if fails_alone => {
                    error!(%directory, %error, "a partition is not what was acknowledged, and is offline");
                    keep.extend(to_keep(id, checkpoint, cleaning, spare, kept.get(&id)));
                    offline.push(OfflinePartition { id, directory: Some(directory) });
                }
                Err(error) => return Err(error),
            }
        }
    }
    // What is left belonged to topics that are no more, some perhaps under the name of a present one.
    let strays = directories.by_name.into_values().flatten().map(|found| found.directory).collect();
    let after_crash = !stopped_in_order && image.version() > 0;
    let next_generation = recovered.next_generation;
    Ok(Recovery { image, next_generation, partitions: planned, offline, keep, strays, after_crash })
}

/// Adds what was kept to what the tables and the journals say. Of two checkpoints the one that is further on counts: what
/// lies before it was synced.
fn merge_kept(
    all: Vec<Kept>,
    checkpoints: &mut Map<PartitionId, PartitionCheckpoint>,
    cleaning: &mut Map<PartitionId, CleaningPoint>,
    entries: &mut Map<PartitionId, Vec<record::RecordBatch>>,
) -> Map<PartitionId, Kept> {
    let mut merged = Map::default();
    for kept in all {
        cleaning.entry(kept.id).or_default().merge(kept.cleaning);
        if let Some(checkpoint) = &kept.checkpoint {
            let known = checkpoints.entry(kept.id).or_insert_with(|| checkpoint.clone());
            if known.written_offset <= checkpoint.written_offset {
                *known = checkpoint.clone();
            }
        }
        let of_journal = entries.entry(kept.id).or_default();
        let base_offset = |batch: &record::RecordBatch| batch.header().base_offset;
        of_journal.extend(kept.batches.iter().cloned());
        of_journal.sort_by_key(base_offset);
        of_journal.dedup_by_key(|batch| base_offset(batch));
        merged.insert(kept.id, kept);
    }
    merged
}

/// What is not kept already of a partition that is offline.
fn to_keep(
    id: PartitionId,
    checkpoint: Option<&PartitionCheckpoint>,
    cleaning: CleaningPoint,
    mut batches: Vec<record::RecordBatch>,
    known: Option<&Kept>,
) -> Option<Kept> {
    let written_offset = checkpoint.map_or(0, |checkpoint| checkpoint.written_offset);
    batches.retain(|batch| batch.header().base_offset >= written_offset);
    let kept = Kept { id, checkpoint: checkpoint.cloned(), cleaning, batches };
    let is_empty = kept.checkpoint.is_none() && kept.batches.is_empty() && cleaning == CleaningPoint::default();
    (!is_empty && known != Some(&kept)).then_some(kept)
}

/// Whether something of this partition was in segments on stable storage.
fn had_segments(checkpoint: &PartitionCheckpoint, cleaning: &CleaningPoint) -> bool {
    let start = LogState::decode(&checkpoint.state).map_or(0, |state| state.log_start_offset);
    checkpoint.segment_position > 0 || checkpoint.segment_base_offset > start.max(cleaning.log_start_offset)
}

/// What was found, by the name of the directory: several log directories may each hold one of the same name, if a topic
/// was deleted and created again shortly before a crash.
#[derive(Default)]
struct Directories {
    by_name: BTreeMap<(String, i32), Vec<FoundPartition>>,
}

impl Directories {
    /// The one that names its owner goes before one that does not.
    fn take(&mut self, name: (String, i32), is_its: impl Fn(&FoundPartition) -> bool) -> Option<FoundPartition> {
        let found = self.by_name.get_mut(&name)?;
        let matching = |named: bool| found.iter().position(|one| one.topic_id.is_some() == named && is_its(one));
        let index = matching(true).or_else(|| matching(false))?;
        Some(found.swap_remove(index))
    }
}

/// What is known of one partition beside its files.
struct Known<'a> {
    checkpoint: Option<&'a PartitionCheckpoint>,
    cleaning: CleaningPoint,
    entries: Vec<record::RecordBatch>,
}

fn recover_log(
    known: Known,
    directory: &Arc<str>,
    (files, swaps): (Vec<SegmentFile>, Vec<SwapFile>),
    read: &mut dyn FnMut(&str, Offset) -> Bytes,
) -> Result<RecoveredLog, StartError> {
    let Known { checkpoint, cleaning, entries } = known;
    let checkpoint = checkpoint.map(|checkpoint| LogCheckpoint {
        segment: checkpoint.segment_base_offset,
        position: checkpoint.segment_position,
        written_offset: checkpoint.written_offset,
        state: checkpoint.state.clone(),
    });
    let found = FoundLog { checkpoint: checkpoint.as_ref(), cleaning, files, swaps, entries };
    log::recover(found, &mut |base_offset| read(directory, base_offset))
        .map_err(|error| StartError::Log { directory: directory.clone(), error })
}

/// Takes in every record of the metadata log, in the segments and in what the journal adds.
fn replay(
    mut image: MetadataImage,
    directory: &str,
    log: &RecoveredLog,
    read: &mut dyn FnMut(&str, Offset) -> Bytes,
) -> Result<MetadataImage, StartError> {
    let mut kept = Vec::new();
    for segment in &log.sealed {
        kept.push(read(directory, segment.base_offset).slice(..segment.size as usize));
    }
    if log.keep > 0 {
        kept.push(read(directory, log.active.base_offset).slice(..log.keep as usize));
    }
    kept.extend(log.append.iter().map(|batch| batch.bytes().clone()));
    for bytes in kept {
        for batch in record::batches(&bytes) {
            let position = image.version() as Offset;
            let problem = |problem: String| StartError::Metadata { position, problem };
            let (at, header) = batch.map_err(|error| problem(error.to_string()))?;
            let batch = &bytes[at..at + header.size()];
            if !record::check_crc(batch) {
                return Err(problem("its bytes do not have their checksum: restore the file from a copy".to_owned()));
            }
            for record in record::records(batch, i32::MAX as usize).map_err(|error| problem(error.to_string()))? {
                let record = record.map_err(|error| problem(error.to_string()))?;
                let value = record.value.unwrap_or_default();
                let record = MetadataRecord::decode(&value).map_err(|error| problem(error.to_string()))?;
                image.apply(&record).map_err(|error| problem(error.to_string()))?;
            }
        }
    }
    Ok(image)
}

impl Recovery {
    /// The tables to write once the plan is carried out and synced: with them the journal files of all runs before are free.
    pub fn checkpoints(&self, shards: u16, run: Run) -> Vec<Checkpoint> {
        let table = |shard| Checkpoint {
            shard: ShardId(shard),
            shards,
            run,
            generation: run.first_generation,
            next_commit: CommitId(0),
            partitions: self
                .partitions
                .iter()
                .filter(|partition| partition.id.owner(shards) == ShardId(shard))
                .map(|partition| to_journal(partition.id, partition.log.checkpoint()))
                .collect(),
        };
        (0..shards).map(table).collect()
    }

    /// The table of cleaning with which the run begins, whichever shards' tables it was merged from.
    pub fn cleaning_table(&self) -> Bytes {
        let point = |partition: &RecoveredPartition| {
            let RecoveredLog { state, cleaning, .. } = &partition.log;
            (partition.id, CleaningPoint { log_start_offset: state.log_start_offset, ..*cleaning })
        };
        let points = self.partitions.iter().map(point).filter(|(_, point)| *point != CleaningPoint::default());
        log::encode_cleaning(&points.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_partitions_name_is_taken_apart() {
        assert_eq!(FoundPartition::parse_name("a-b-12"), Some(("a-b".to_owned(), 12)));
        assert_eq!(FoundPartition::parse_name("orders--1"), Some(("orders-".to_owned(), 1)));
        for other in ["orders", "orders-", "orders-01", "-1", "orders-1.deleted", "orders-99999999999"] {
            assert_eq!(FoundPartition::parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn an_empty_node_begins_with_a_metadata_log() {
        let found = Found {
            cluster_id: "c".into(),
            config: Arc::new(BrokerConfig::default()),
            journals: Vec::new(),
            checkpoints: Vec::new(),
            cleaning: Map::default(),
            kept: Vec::new(),
            partitions: Vec::new(),
            log_dirs: vec!["/d0".to_owned()],
            incomplete: false,
        };
        let recovery = recover(found, false, &mut |_, _| panic!("there is nothing to read")).expect("an empty node");
        assert_eq!((recovery.partitions.len(), recovery.after_crash), (1, false));
        assert!(recovery.partitions[0].is_new);
        let tables = recovery.checkpoints(2, Run { first_generation: 1, salt: 0 });
        assert_eq!(tables.iter().map(|table| table.partitions.len()).collect::<Vec<_>>(), [1, 0]);
    }
}
