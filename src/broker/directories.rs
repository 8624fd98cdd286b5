//! The log directories: taken for this process alone, named in Kafka's `meta.properties`, listed for recovery.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use super::StartProblem;
use crate::config::Properties;
use crate::log::{SegmentFile, SwapFile};
use crate::reactor::{DELETED_SUFFIX, replace};
use crate::shard::FoundPartition;
use crate::types::Uuid;

/// Our own files, in the first log directory.
pub const OWN_DIRECTORY: &str = ".gannet";
/// There while the last run is known to have ended in order.
const STOPPED_IN_ORDER: &str = "stopped-in-order";

/// One log directory, ours until the process ends: the system frees the lock then, whatever the end was like.
pub struct LogDir {
    pub path: String,
    _lock: Flock<File>,
}

/// 128 bits of chance from the system.
pub fn random_bits() -> Result<u128, StartProblem> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| StartProblem(format!("cannot read /dev/urandom: {error}")))?;
    Ok(u128::from_ne_bytes(bytes))
}

impl LogDir {
    /// Makes the directory if need be and locks it.
    pub fn take(path: &str) -> Result<LogDir, StartProblem> {
        let problem = |error: io::Error| StartProblem(format!("log directory {path}: {error}"));
        std::fs::create_dir_all(path).map_err(problem)?;
        let path = std::fs::canonicalize(path).map_err(problem)?;
        let Some(path) = path.to_str().map(str::to_owned) else {
            return Err(StartProblem(format!("log directory {}: its name is not UTF-8", path.display())));
        };
        let lock_path = format!("{path}/.lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
        let mut file = file.map_err(|error| StartProblem(format!("{lock_path}: {error}")))?;
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
            StartProblem(match error {
                nix::errno::Errno::EWOULDBLOCK => format!(
                    "log directory {path} is in use by {holder}. Stop that one first, or give this one its own log.dirs"
                ),
                error => format!("{lock_path} cannot be locked: {error}"),
            })
        })?;
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "process {} since {}", std::process::id(), utc_now()));
        written.map_err(problem)?;
        Ok(LogDir { path, _lock: lock })
    }

    /// What `meta.properties` says of this directory.
    fn meta(&self) -> Result<Option<Meta>, StartProblem> {
        let path = self.meta_path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StartProblem(format!("{path}: {error}"))),
        };
        let properties = Properties::parse(&path, &text).map_err(|error| StartProblem(error.to_string()))?;
        let get = |key: &str| properties.get(key).map(|property| property.value.clone());
        let missing =
            |key: &str| StartProblem(format!("{path} has no {key}: restore the file, or use another log directory"));
        Ok(Some(Meta {
            cluster_id: get("cluster.id").ok_or_else(|| missing("cluster.id"))?,
            node_id: get("node.id").or(get("broker.id")).ok_or_else(|| missing("node.id"))?,
        }))
    }

    fn meta_path(&self) -> String {
        format!("{}/meta.properties", self.path)
    }
}

struct Meta {
    cluster_id: String,
    node_id: String,
}

/// Agrees with every `meta.properties` on who this is, and writes the missing ones. Returns the cluster's id.
pub fn identify(dirs: &[LogDir], node_id: i32, cluster_id: Option<&str>) -> Result<Arc<str>, StartProblem> {
    let mut known: Option<(String, String)> = cluster_id.map(|id| (id.to_owned(), "gannet.cluster.id".to_owned()));
    for dir in dirs {
        let Some(meta) = dir.meta()? else { continue };
        let path = dir.meta_path();
        if meta.node_id != node_id.to_string() {
            return Err(StartProblem(format!(
                "{path} says node.id={}, the configuration says {node_id}: this directory belongs to another broker. \
                 Set node.id={}, or give this broker its own log.dirs",
                meta.node_id, meta.node_id
            )));
        }
        match &known {
            Some((id, place)) if *id != meta.cluster_id => {
                return Err(StartProblem(format!(
                    "{path} says cluster.id={}, {place} says {id}: a broker belongs to one cluster. Remove the log \
                     directory that is not its own from log.dirs",
                    meta.cluster_id
                )));
            }
            Some(_) => {}
            None => known = Some((meta.cluster_id, path)),
        }
    }
    let id = match known {
        Some((id, _)) => id,
        None => Uuid::from_random(random_bits()?).to_string(),
    };
    for dir in dirs {
        if dir.meta()?.is_some() {
            continue;
        }
        let directory_id = Uuid::from_random(random_bits()?);
        let text = format!("version=1\ncluster.id={id}\nnode.id={node_id}\ndirectory.id={directory_id}\n");
        let path = dir.meta_path();
        replace(&path, text.as_bytes()).map_err(|error| StartProblem(format!("{path}: {error}")))?;
    }
    Ok(id.into())
}

/// All partition directories of one log directory. Those that only wait to be deleted are deleted.
pub fn list(dir: &LogDir) -> Result<Vec<FoundPartition>, StartProblem> {
    let in_dir = |error: io::Error| StartProblem(format!("log directory {}: {error}", dir.path));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir.path).map_err(in_dir)? {
        let entry = entry.map_err(in_dir)?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if !entry.file_type().map_err(in_dir)?.is_dir() {
            continue;
        }
        let path = format!("{}/{name}", dir.path);
        if name.ends_with(DELETED_SUFFIX) {
            std::fs::remove_dir_all(&path).map_err(|error| StartProblem(format!("{path}: {error}")))?;
            continue;
        }
        let Some((topic, index)) = FoundPartition::parse_name(&name) else { continue };
        let read = partition(&path, topic, index);
        found.push(read.map_err(|error| StartProblem(format!("{path}: {error}")))?);
    }
    found.sort_by(|one, other| one.directory.cmp(&other.directory));
    Ok(found)
}

fn partition(path: &str, topic: String, index: i32) -> io::Result<FoundPartition> {
    let (mut segments, mut swaps) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_left_over) {
            std::fs::remove_file(entry.path())?;
            continue;
        }
        let name = entry.file_name();
        if let Some(base_offset) = name.to_str().and_then(|name| segment_offset(name.strip_suffix(".swap")?)) {
            swaps.push(swap_file(&entry.path(), base_offset)?);
            continue;
        }
        let Some(base_offset) = name.to_str().and_then(segment_offset) else { continue };
        segments.push(SegmentFile { base_offset, size: entry.metadata()?.len() });
    }
    let metadata = match std::fs::read_to_string(format!("{path}/partition.metadata")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        text => text.unwrap_or_default(),
    };
    let topic_id = metadata.lines().find_map(|line| line.strip_prefix("topic_id:")?.trim().parse().ok());
    Ok(FoundPartition { directory: path.into(), topic, index, topic_id, segments, swaps })
}

/// Where a compacted segment ends, by the headers of its batches. It was synced before it got this name.
fn swap_file(path: &Path, base_offset: i64) -> io::Result<SwapFile> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let (mut position, mut end_offset) = (0, base_offset);
    while position < size {
        let mut header = [0; SwapFile::HEADER_BYTES];
        file.seek(io::SeekFrom::Start(position))?;
        file.read_exact(&mut header)?;
        let extent = SwapFile::extent(&header);
        let (length, next_offset) =
            extent.ok_or_else(|| io::Error::other(format!("{} is damaged at {position}", path.display())))?;
        (position, end_offset) = (position + length, next_offset);
    }
    Ok(SwapFile { base_offset, end_offset, size })
}

/// Files that only wait to be deleted, or that were never finished.
fn is_left_over(name: &str) -> bool {
    [".deleted", ".cleaned", ".tmp"].iter().any(|suffix| name.ends_with(suffix))
}

/// `<20 digits>.log`
fn segment_offset(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Notes that everything was written back. The next start finds it.
pub fn note_stopped_in_order(first_dir: &str) -> io::Result<()> {
    replace(&format!("{first_dir}/{OWN_DIRECTORY}/{STOPPED_IN_ORDER}"), b"")
}

/// Whether the last run ended in order; asked once, since from here on this run counts.
pub fn take_stopped_in_order(first_dir: &str) -> Result<bool, StartProblem> {
    let own = format!("{first_dir}/{OWN_DIRECTORY}");
    let path = format!("{own}/{STOPPED_IN_ORDER}");
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StartProblem(format!("{path}: {error}"))),
    }
    File::open(Path::new(&own))
        .and_then(|own| own.sync_all())
        .map_err(|error| StartProblem(format!("{own}: {error}")))?;
    Ok(true)
}

/// The present in RFC 3339, to the second, in UTC.
pub fn utc_now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, seconds) = (since / 86_400, since % 86_400);
    // Civil date from days since 1970, counted in eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_dir() -> (tempfile::TempDir, LogDir) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let dir = LogDir::take(&directory.path().join("data").to_string_lossy()).expect("free");
        (directory, dir)
    }

    #[test]
    fn the_second_to_take_a_directory_is_told_who_has_it() {
        let (_keep, dir) = log_dir();
        let problem = LogDir::take(&dir.path).err().expect("taken").0;
        assert!(problem.contains(&format!("process {} since 2", std::process::id())), "{problem}");
        let path = dir.path.clone();
        drop(dir);
        assert!(LogDir::take(&path).is_ok(), "free again");
    }

    #[test]
    fn a_directory_keeps_its_cluster_and_its_broker() {
        let (_keep, dir) = log_dir();
        let dirs = [dir];
        let id = identify(&dirs, 7, None).expect("a new one");
        assert_eq!(identify(&dirs, 7, None).expect("known").as_ref(), &*id);
        assert_eq!(identify(&dirs, 7, Some(&id)).expect("the same").as_ref(), &*id);
        assert!(identify(&dirs, 8, None).expect_err("another's").0.contains("node.id=7"));
        assert!(identify(&dirs, 7, Some("other")).expect_err("another's").0.contains("cluster.id="));
        let text = std::fs::read_to_string(dirs[0].meta_path()).expect("written");
        assert!(text.starts_with(&format!("version=1\ncluster.id={id}\nnode.id=7\ndirectory.id=")));
    }

    #[test]
    fn partitions_are_found_and_what_waits_to_be_deleted_is_deleted() {
        let (_keep, dir) = log_dir();
        let make = |path: &str| std::fs::create_dir_all(format!("{}/{path}", dir.path)).expect("made");
        let write = |path: &str, text: &str| std::fs::write(format!("{}/{path}", dir.path), text).expect("written");
        ["orders-3", "orders-4", "old-1.0000-delete", ".gannet", "no partition"].into_iter().for_each(make);
        write("orders-3/00000000000000000042.log", "12345");
        write("orders-3/00000000000000000042.index", "");
        write("orders-3/42.log", "");
        write("orders-3/00000000000000000007.log.cleaned", "x");
        write("orders-3/00000000000000000007.index.deleted", "x");
        write("orders-3/partition.metadata", &format!("version: 0\ntopic_id: {}\n", Uuid::from_random(9)));
        write("old-1.0000-delete/00000000000000000000.log", "");
        let found = list(&dir).expect("readable");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].topic.as_str(), found[0].index), ("orders", 3));
        assert_eq!(found[0].topic_id, Some(Uuid::from_random(9)));
        assert_eq!(found[0].segments, [SegmentFile { base_offset: 42, size: 5 }]);
        let left = std::fs::read_dir(&*found[0].directory).expect("readable").count();
        assert_eq!(left, 4, "what was never finished and what waits to be deleted is deleted");
        assert_eq!((found[1].topic_id, found[1].segments.len()), (None, 0));
        assert!(!Path::new(&format!("{}/old-1.0000-delete", dir.path)).exists());
    }

    #[test]
    fn a_swap_file_tells_how_far_it_reaches() {
        let (_keep, dir) = log_dir();
        let batch = |base_offset: i64, last_offset_delta: i32| {
            let mut header = [0u8; SwapFile::HEADER_BYTES];
            header[..8].copy_from_slice(&base_offset.to_be_bytes());
            header[8..12].copy_from_slice(&(SwapFile::HEADER_BYTES as i32 - 12).to_be_bytes());
            header[16] = 2;
            header[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
            header.to_vec()
        };
        std::fs::create_dir(format!("{}/orders-0", dir.path)).expect("made");
        let path = format!("{}/orders-0/{:020}.log.swap", dir.path, 40);
        std::fs::write(&path, [batch(42, 3), batch(60, 9)].concat()).expect("written");
        let found = list(&dir).expect("readable");
        assert_eq!(found[0].swaps, [SwapFile { base_offset: 40, end_offset: 70, size: 122 }]);
        assert!(found[0].segments.is_empty());
        std::fs::write(&path, [batch(42, 3), vec![0; 61]].concat()).expect("written");
        assert!(list(&dir).expect_err("damaged").0.contains("log.swap is damaged at 61"));
    }

    #[test]
    fn an_orderly_stop_is_noted_for_one_start() {
        let (_keep, dir) = log_dir();
        std::fs::create_dir(format!("{}/{OWN_DIRECTORY}", dir.path)).expect("made");
        assert!(!take_stopped_in_order(&dir.path).expect("readable"));
        note_stopped_in_order(&dir.path).expect("written");
        assert!(take_stopped_in_order(&dir.path).expect("readable"));
        assert!(!take_stopped_in_order(&dir.path).expect("readable"));
    }
}
