//! What the node is after a stop or a crash, out of what its log directories hold: the journals replayed, the image rebuilt
//! from the metadata log, and a plan for every partition. A value; the broker (or the simulator) reads the files before
//! and carries the plan out after, and only then opens the shards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::storage::to_journal;

use crate::config::BrokerConfig;
use crate::journal::{self, Checkpoint, CommitId, JournalError, JournalFileName, PartitionCheckpoint, Run};
use crate::log::{self, CleaningPoint, FoundLog, LogCheckpoint, RecoveredLog, RecoveryError, SegmentFile, SwapFile};
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
    pub partitions: Vec<FoundPartition>,
}

/// What to do, and what is true once it is done.
pub struct Recovery {
    pub image: MetadataImage,
    /// `Run::first_generation` of the run that starts.
    pub next_generation: u64,
    pub partitions: Vec<RecoveredPartition>,
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
    let Found { cluster_id, config, journals, checkpoints, cleaning, partitions } = found;
    let recovered = journal::recover(&journals, &checkpoints).map_err(StartError::Journal)?;
    let mut entries: Map<PartitionId, Vec<record::RecordBatch>> = Map::default();
    for entry in recovered.entries {
        entries.entry(entry.partition).or_default().push(entry.batch);
    }
    let checkpoints = journal::merge(checkpoints);
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
        None => (format!("{}/{METADATA_DIRECTORY}", config.log_dirs[0]).into(), Default::default()),
    };
    let id = PartitionId::METADATA;
    let known = Known { checkpoint: checkpoints.get(&id), cleaning: CleaningPoint::default(), entries: entries_of(id) };
    let log = recover_log(known, &directory, files, read)?;
    let image = replay(MetadataImage::new(cluster_id, config.clone()), &directory, &log, read)?;
    let mut planned = vec![RecoveredPartition { id, directory, is_new, log }];

    let mut log_dirs = config.log_dirs.iter().cycle();
    for topic in image.topics() {
        for index in 0..topic.partitions.len() as i32 {
            let id = PartitionId { topic: topic.id, index };
            let checkpoint = checkpoints.get(&id);
            // Of a directory without an owner's name nothing was ever synced, unless a table says so.
            let is_its = |found: &FoundPartition| found.topic_id.map_or(checkpoint.is_some(), |of| of == topic.id);
            let (directory, is_new, files) = match directories.take((topic.name.to_string(), index), is_its) {
                Some(found) => (found.directory, found.topic_id.is_none(), (found.segments, found.swaps)),
                None => {
                    let log_dir = log_dirs.next().expect("there is at least one log directory");
                    (format!("{log_dir}/{}-{index}", topic.name).into(), true, Default::default())
                }
            };
            let cleaning = cleaning.get(&id).copied().unwrap_or_default();
            let log = recover_log(Known { checkpoint, cleaning, entries: entries_of(id) }, &directory, files, read)?;
            planned.push(RecoveredPartition { id, directory, is_new, log });
        }
    }
    // What is left belonged to topics that are no more, some perhaps under the name of a present one.
    let strays = directories.by_name.into_values().flatten().map(|found| found.directory).collect();
    let after_crash = !stopped_in_order && image.version() > 0;
    Ok(Recovery { image, next_generation: recovered.next_generation, partitions: planned, strays, after_crash })
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
            partitions: Vec::new(),
        };
        let recovery = recover(found, false, &mut |_, _| panic!("there is nothing to read")).expect("an empty node");
        assert_eq!((recovery.partitions.len(), recovery.after_crash), (1, false));
        assert!(recovery.partitions[0].is_new);
        let tables = recovery.checkpoints(2, Run { first_generation: 1, salt: 0 });
        assert_eq!(tables.iter().map(|table| table.partitions.len()).collect::<Vec<_>>(), [1, 0]);
    }
}
