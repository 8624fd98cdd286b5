//! The files' side of a start: what the last run left is read, the plan that `shard::recover` makes of it is carried out
//! and synced, and the journals are made ready for a new run.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::StartProblem;
use super::directories::{LogDirs, OWN_DIRECTORY, list, random_bits, take_stopped_in_order};
use crate::config::BrokerConfig;
use crate::journal::{Checkpoint, JournalFileName, Run, START_TABLES, decode_tables, encode_tables};
use crate::log::{CleaningPoint, START_CLEANING, decode_cleaning};
use crate::reactor::{AlignedBuffer, JournalFile, create_directory, direct_file, replace, sync_file_system};
use crate::shard::{FileKind, FileName, Found, Kept, RecoveredPartition, Recovery, recover};
use crate::types::{Map, Offset, PartitionId, ShardId};

/// Everything is as the plan says, on stable storage, and the journals are empty.
pub struct Started {
    pub recovery: Recovery,
    pub run: Run,
    /// By shard, then by index.
    pub journals: Vec<Vec<JournalFile>>,
    /// How many bytes came out of the journals.
    pub replayed_bytes: u64,
}

pub fn own_path(first_dir: &str, name: &str) -> String {
    format!("{first_dir}/{OWN_DIRECTORY}/{name}")
}

pub fn cleaning_path(first_dir: &str, shard: u16) -> String {
    own_path(first_dir, &format!("cleaning-{shard}"))
}

pub fn checkpoint_path(first_dir: &str, shard: u16) -> String {
    own_path(first_dir, &format!("checkpoint-{shard}"))
}

pub fn at(path: &str) -> impl Fn(io::Error) -> StartProblem + '_ {
    move |error| StartProblem(format!("{path}: {error}"))
}

/// Brings the log directories into the state from which `shards` shards begin a new run.
pub fn start(
    dirs: &mut LogDirs,
    config: &Arc<BrokerConfig>,
    cluster_id: &Arc<str>,
    shards: u16,
) -> Result<Started, StartProblem> {
    let first_dir = dirs.first().path.clone();
    let own = format!("{first_dir}/{OWN_DIRECTORY}");
    std::fs::create_dir_all(&own).map_err(at(&own))?;
    let stopped_in_order = take_stopped_in_order(&first_dir)?;
    let read = read_own(&own)?;
    let kept_files = read.kept.iter().map(|(path, kept)| (path.clone(), kept.iter().map(|kept| kept.id).collect()));
    let kept_files: Vec<(String, Vec<PartitionId>)> = kept_files.collect();
    let recovery = loop {
        // A directory that fails on the way is left out, and all begins anew: what was done to the others is as good as new.
        match plan(dirs, &read, config, cluster_id, stopped_in_order)? {
            Ok(recovery) => match carry_out(dirs, &recovery) {
                Ok(()) => break recovery,
                Err((log_dir, reason)) => dirs.fail(&log_dir, reason)?,
            },
            Err((log_dir, reason)) => dirs.fail(&log_dir, reason)?,
        }
    };
    let run = Run { first_generation: recovery.next_generation, salt: random_bits()? as u64 };
    if !recovery.keep.is_empty() {
        // A start that was cut short may have left one: it counts as well.
        let name = |count: usize| own_path(&first_dir, &format!("{KEPT}{}-start-{count}", run.first_generation));
        let path = (0..).map(name).find(|path| !Path::new(path).exists()).expect("there are numbers enough");
        replace(&path, &Kept::encode_all(&recovery.keep)).map_err(at(&path))?;
    }
    let path = own_path(&first_dir, START_CLEANING);
    replace(&path, &recovery.cleaning_table()).map_err(at(&path))?;
    // With these tables the journals of all runs before are free, and not before.
    let path = own_path(&first_dir, START_TABLES);
    replace(&path, &encode_tables(&recovery.checkpoints(shards, run))).map_err(at(&path))?;
    for (path, ids) in kept_files {
        if !recovery.offline.iter().any(|offline| ids.contains(&offline.id)) {
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    drop_surplus(&own, shards)?;
    let journals = make_journals(&own, config, shards)?;
    let replayed_bytes = recovery
        .partitions
        .iter()
        .flat_map(|partition| &partition.log.append)
        .map(|batch| batch.bytes().len() as u64)
        .sum();
    Ok(Started { recovery, run, journals, replayed_bytes })
}

/// A log directory, and why it cannot be used.
type Broken = (String, String);

/// What is to be done, by what is found now. The inner error names the directory without which it is to be tried again.
fn plan(
    dirs: &LogDirs,
    own: &Own,
    config: &Arc<BrokerConfig>,
    cluster_id: &Arc<str>,
    stopped_in_order: bool,
) -> Result<Result<Recovery, Broken>, StartProblem> {
    let mut partitions = Vec::new();
    for dir in &dirs.online {
        match list(dir) {
            Ok(found) => partitions.extend(found),
            Err(reason) => return Ok(Err((dir.path.clone(), reason))),
        }
    }
    let found = Found {
        cluster_id: cluster_id.clone(),
        config: config.clone(),
        journals: own.journals.clone(),
        checkpoints: own.checkpoints.clone(),
        cleaning: own.cleaning.clone(),
        kept: own.kept.iter().flat_map(|(_, kept)| kept).cloned().collect(),
        partitions,
        log_dirs: dirs.online.iter().map(|dir| dir.path.clone()).collect(),
        incomplete: dirs.is_incomplete(),
    };
    let mut unreadable = None;
    let recovery = recover(found, stopped_in_order, &mut |directory, base_offset| {
        let path = segment_path(directory, base_offset, FileKind::Log);
        std::fs::read(&path).map(Bytes::from).unwrap_or_else(|error| {
            unreadable.get_or_insert((log_dir(directory), format!("{path}: {error}")));
            Bytes::new()
        })
    });
    match unreadable {
        Some(broken) => Ok(Err(broken)),
        None => Ok(Ok(recovery.map_err(|error| StartProblem(error.to_string()))?)),
    }
}

/// Of a partition's directory.
fn log_dir(directory: &str) -> String {
    directory.rsplit_once('/').map_or(directory, |(log_dir, _)| log_dir).to_owned()
}

fn segment_path(directory: &str, base_offset: Offset, kind: FileKind) -> String {
    FileName { directory: directory.into(), base_offset, kind }.to_string()
}

struct Own {
    journals: Vec<(JournalFileName, Bytes)>,
    checkpoints: Vec<Checkpoint>,
    cleaning: Map<PartitionId, CleaningPoint>,
    /// By file.
    kept: Vec<(String, Vec<Kept>)>,
}

/// Files of what is kept of offline partitions begin so.
const KEPT: &str = "kept-";

/// The journals and checkpoint tables that are there, of however many shards.
fn read_own(own: &str) -> Result<Own, StartProblem> {
    let (mut names, mut checkpoints, mut cleaning) = (Vec::new(), Vec::new(), Map::default());
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(own).map_err(at(own))? {
        let name = entry.map_err(at(own))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let path = format!("{own}/{name}");
        if let Some(journal) = JournalFileName::parse(name) {
            names.push((journal, path));
        } else if name == START_TABLES || checkpoint_shard(name).is_some() {
            let bytes = std::fs::read(&path).map_err(at(&path))?;
            checkpoints.extend(decode_tables(&bytes).map_err(|error| StartProblem(format!("{path}: {error}")))?);
        } else if name == START_CLEANING || cleaning_shard(name).is_some() {
            let bytes = std::fs::read(&path).map_err(at(&path))?;
            decode_cleaning(&bytes, &mut cleaning).map_err(|error| StartProblem(format!("{path}: {error}")))?;
        } else if name.ends_with(".tmp") || name.ends_with(".new") {
            // Left by a run that died while it wrote it; nothing ever counted on it.
            std::fs::remove_file(&path).map_err(at(&path))?;
        } else if name.starts_with(KEPT) {
            let bytes = std::fs::read(&path).map_err(at(&path))?;
            let all = Kept::decode_all(&bytes.into()).map_err(|error| StartProblem(format!("{path}: {error}")))?;
            kept.push((path, all));
        }
    }
    names.sort();
    kept.sort_by(|(one, _), (other, _)| one.cmp(other));
    // One thread per file: the device can do more than one at a time, and a page cache copy costs a core.
    let journals = std::thread::scope(|scope| {
        let reading: Vec<_> =
            names.iter().map(|(_, path)| scope.spawn(move || std::fs::read(path).map_err(at(path)))).collect();
        let read = names.iter().zip(reading).map(|((name, _), thread)| {
            let bytes = thread.join().expect("reading a file does not panic")?;
            Ok((*name, Bytes::from(bytes)))
        });
        read.collect::<Result<Vec<_>, StartProblem>>()
    })?;
    Ok(Own { journals, checkpoints, cleaning, kept })
}

fn checkpoint_shard(name: &str) -> Option<u16> {
    name.strip_prefix("checkpoint-")?.parse().ok()
}

fn cleaning_shard(name: &str) -> Option<u16> {
    name.strip_prefix("cleaning-")?.parse().ok()
}

/// Changes what the plan changes, and syncs it if that is anything.
fn carry_out(dirs: &LogDirs, recovery: &Recovery) -> Result<(), Broken> {
    for stray in &recovery.strays {
        tracing::info!("deleting {stray}: its topic is no more");
        std::fs::remove_dir_all(&**stray).map_err(|error| (log_dir(stray), format!("{stray}: {error}")))?;
    }
    let mut changed = !recovery.strays.is_empty();
    for partition in &recovery.partitions {
        let directory = &partition.directory;
        let outcome = carry_out_one(partition);
        changed |= outcome.map_err(|error| (log_dir(directory), format!("{directory}: {error}")))?;
    }
    if changed { sync(dirs) } else { Ok(()) }
}

/// Returns whether anything had to be changed.
fn carry_out_one(partition: &RecoveredPartition) -> io::Result<bool> {
    let RecoveredPartition { id, directory, is_new, log } = partition;
    let mut changed = *is_new;
    if *is_new {
        create_directory(directory, id.topic)?;
    }
    for swap in &log.swaps {
        changed = true;
        for base_offset in &swap.covers {
            remove_segment(directory, *base_offset)?;
        }
        // The swap file keeps its name until nothing that it stands for can come back.
        File::open(&**directory)?.sync_all()?;
        let from = segment_path(directory, swap.base_offset, FileKind::SwapLog);
        std::fs::rename(from, segment_path(directory, swap.base_offset, FileKind::Log))?;
    }
    for base_offset in &log.delete {
        changed = true;
        remove_segment(directory, *base_offset)?;
    }
    let active = segment_path(directory, log.active.base_offset, FileKind::Log);
    let size = match std::fs::metadata(&active) {
        Ok(metadata) => Some(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if size.unwrap_or(0) == log.active.size && log.append.is_empty() {
        return Ok(changed);
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&active)?;
    file.set_len(log.keep)?;
    file.seek(SeekFrom::Start(log.keep))?;
    let mut file = io::BufWriter::with_capacity(1 << 20, file);
    for batch in &log.append {
        file.write_all(batch.bytes())?;
    }
    file.flush()?;
    let written = file.get_ref().metadata()?.len();
    assert!(written == log.active.size, "the plan counts what it keeps and appends");
    Ok(true)
}

/// A segment and its index files.
fn remove_segment(directory: &str, base_offset: Offset) -> io::Result<()> {
    for kind in [FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex] {
        match std::fs::remove_file(segment_path(directory, base_offset, kind)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Everything in the log directories, one flush for each file system.
fn sync(dirs: &LogDirs) -> Result<(), Broken> {
    let mut devices = BTreeSet::new();
    for dir in &dirs.online {
        let mut sync_one = || -> io::Result<()> {
            let root = File::open(&dir.path)?;
            if devices.insert(root.metadata()?.dev()) { sync_file_system(&root) } else { Ok(()) }
        };
        sync_one().map_err(|error| (dir.path.clone(), format!("{}: {error}", dir.path)))?;
    }
    Ok(())
}

/// Tables and journals of shards that this run does not have: everything of theirs is in the segments now.
fn drop_surplus(own: &str, shards: u16) -> Result<(), StartProblem> {
    for entry in std::fs::read_dir(own).map_err(at(own))? {
        let name = entry.map_err(at(own))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let shard = JournalFileName::parse(name).map(|journal| journal.shard.0);
        let shard = shard.or(checkpoint_shard(name)).or(cleaning_shard(name));
        if shard.is_some_and(|shard| shard >= shards) {
            let path = format!("{own}/{name}");
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn make_journals(own: &str, config: &BrokerConfig, shards: u16) -> Result<Vec<Vec<JournalFile>>, StartProblem> {
    let (files, bytes) = (config.gannet.journal_files, config.gannet.journal_file_bytes());
    let journals = std::thread::scope(|scope| {
        let one = |shard| {
            scope.spawn(move || (0..files).map(|index| make_journal(own, shard, (index, files), bytes)).collect())
        };
        let making: Vec<_> = (0..shards).map(one).collect();
        let made = making.into_iter().map(|thread| thread.join().expect("making a file does not panic"));
        made.collect::<Result<Vec<Vec<JournalFile>>, StartProblem>>()
    })?;
    File::open(own).and_then(|own| own.sync_all()).map_err(at(own))?;
    Ok(journals)
}

/// Opens a journal file. One that is missing or of another size is written full of zeros first and synced, so that no
/// commit ever changes a size, an extent or anything else of the file but its bytes.
fn make_journal(own: &str, shard: u16, (index, files): (u16, u16), bytes: u64) -> Result<JournalFile, StartProblem> {
    let path = format!("{own}/{}", JournalFileName { shard: ShardId(shard), index });
    let open = |path: &str, create| match direct_file(path, create) {
        // In memory, with --dev.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            OpenOptions::new().read(true).write(true).create(create).truncate(create).open(path)
        }
        outcome => outcome,
    };
    let whole = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes);
    if !whole {
        let beside = format!("{path}.new");
        let write = || -> io::Result<()> {
            let mut file = open(&beside, true)?;
            let zeros = AlignedBuffer::new(1 << 20);
            let mut left = bytes;
            while left > 0 {
                let part = left.min(zeros.len() as u64) as usize;
                file.write_all(&zeros[..part])?;
                left -= part as u64;
            }
            file.sync_all()?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|error| {
            StartProblem(format!(
                "{beside}: {error}. The journal of each core takes {} MiB (gannet.journal.bytes); df shows what is free",
                (bytes * u64::from(files)) >> 20
            ))
        })?;
    }
    let file = open(&path, false).map_err(at(&path))?;
    Ok(JournalFile { file: Arc::new(file), path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &str) -> Arc<BrokerConfig> {
        let mut config = BrokerConfig { log_dirs: vec![dir.to_owned()], ..BrokerConfig::default() };
        config.gannet.journal_bytes = 16 << 20;
        Arc::new(config)
    }

    fn begin(dirs: &mut LogDirs, shards: u16) -> Started {
        let config = config(&dirs.first().path);
        start(dirs, &config, &"cluster".into(), shards).expect("started")
    }

    fn take(directory: &tempfile::TempDir) -> LogDirs {
        LogDirs::take(&[directory.path().to_string_lossy().into_owned()], |_| Ok(())).expect("free")
    }

    #[test]
    fn an_empty_directory_becomes_a_node_and_another_core_count_starts_from_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut dirs = take(&directory);
        let first_dir = dirs.first().path.clone();
        let own = |name: &str| std::path::Path::new(&own_path(&first_dir, name)).exists();
        let started = begin(&mut dirs, 3);
        assert_eq!(started.recovery.partitions[0].id, PartitionId::METADATA);
        assert_eq!(started.journals.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4]);
        assert!(started.journals[2][3].file.metadata().expect("open").len() == 4 << 20);
        let first = started.run;
        let started = begin(&mut dirs, 1);
        assert!(started.run.first_generation > first.first_generation && started.run.salt != first.salt);
        assert!(own("journal-0-3") && own("checkpoint-start") && !own("journal-1-0"));
    }

    #[test]
    fn a_journal_of_another_size_is_made_anew_and_what_was_half_made_is_gone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut dirs = take(&directory);
        begin(&mut dirs, 1);
        let path = own_path(&dirs.first().path, "journal-0-1");
        std::fs::write(&path, [7; 4096]).expect("written");
        let half = own_path(&dirs.first().path, "journal-0-9.new");
        std::fs::write(&half, [7; 4096]).expect("written");
        begin(&mut dirs, 1);
        let bytes = std::fs::read(&path).expect("there");
        assert!(bytes.len() == 4 << 20 && bytes.iter().all(|byte| *byte == 0));
        assert!(!std::path::Path::new(&half).exists());
    }

    #[test]
    fn a_damaged_checkpoint_table_stops_the_start_with_its_path() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut dirs = take(&directory);
        begin(&mut dirs, 1);
        let first_dir = dirs.first().path.clone();
        let path = own_path(&first_dir, START_TABLES);
        let mut bytes = std::fs::read(&path).expect("there");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let problem = start(&mut dirs, &config(&first_dir), &"cluster".into(), 1).err().expect("damaged");
        assert!(problem.0.starts_with(&path), "{}", problem.0);
    }
}
