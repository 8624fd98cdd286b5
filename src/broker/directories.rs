//! The log directories: taken for this process alone, named in Kafka's `meta.properties`, listed for recovery. One that
//! cannot be used is offline and leaves the others alone, except the first, which holds the journals and the metadata log.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use super::StartProblem;
use super::start::at;
use crate::config::Properties;
use crate::log::{SegmentFile, SwapFile};
use crate::reactor::{DELETED_SUFFIX, replace};
use crate::shard::FoundPartition;
use crate::types::Uuid;

/// Our own files, in the first log directory.
pub const OWN_DIRECTORY: &str = ".gannet";
const META: &str = "meta.properties";
/// There while the last run is known to have ended in order.
const STOPPED_IN_ORDER: &str = "stopped-in-order";

/// The log directories that this node has had, each with its id and its path. An empty one that is named here is not a
/// new one: its device is not mounted.
const KNOWN: &str = "log-dirs";

/// The directories of `log.dirs`, in their order.
pub struct LogDirs {
    pub online: Vec<LogDir>,
    pub offline: Vec<OfflineDir>,
    /// A directory that this node has had is in `log.dirs` no more.
    pub lacks_one: bool,
}

/// A log directory that this run does not touch.
pub struct OfflineDir {
    /// In `log.dirs`.
    pub index: usize,
    pub path: String,
    pub reason: String,
}

/// One log directory, ours until the process ends: the system frees the lock then, whatever the end was like.
pub struct LogDir {
    /// In `log.dirs`.
    pub index: usize,
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
    pub fn take(index: usize, path: &str) -> Result<LogDir, TakeProblem> {
        let problem = |error: io::Error| TakeProblem::Broken(format!("log directory {path}: {error}"));
        std::fs::create_dir_all(path).map_err(problem)?;
        let path = std::fs::canonicalize(path).map_err(problem)?;
        let Some(path) = path.to_str().map(str::to_owned) else {
            return Err(TakeProblem::Wrong(format!("log directory {}: its name is not UTF-8", path.display())));
        };
        let lock_path = format!("{path}/.lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
        let mut file = file.map_err(|error| TakeProblem::Broken(format!("{lock_path}: {error}")))?;
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
            match error {
                nix::errno::Errno::EWOULDBLOCK => TakeProblem::Wrong(format!(
                    "log directory {path} is in use by {holder}. Stop that one first, or give this one its own log.dirs"
                )),
                error => TakeProblem::Broken(format!("{lock_path} cannot be locked: {error}")),
            }
        })?;
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "process {} since {}", std::process::id(), utc_now()));
        written.map_err(problem)?;
        Ok(LogDir { index, path, _lock: lock })
    }

    /// What `meta.properties` says of this directory.
    fn meta(&self) -> Result<Option<Meta>, String> {
        let path = self.meta_path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{path}: {error}")),
        };
        let properties = Properties::parse(&path, &text).map_err(|error| error.to_string())?;
        let get = |key: &str| properties.get(key).map(|property| property.value.clone());
        let missing = |key: &str| format!("{path} has no {key}: restore the file, or use another log directory");
        Ok(Some(Meta {
            cluster_id: get("cluster.id").ok_or_else(|| missing("cluster.id"))?,
            node_id: get("node.id").or(get("broker.id")).ok_or_else(|| missing("node.id"))?,
            directory_id: get("directory.id"),
        }))
    }

    fn meta_path(&self) -> String {
        format!("{}/{META}", self.path)
    }
}

struct Meta {
    cluster_id: String,
    node_id: String,
    directory_id: Option<String>,
}

/// Why a directory cannot be taken.
#[derive(Debug)]
pub enum TakeProblem {
    /// By the device or the file system: it may be offline while others serve.
    Broken(String),
    /// By the configuration: nothing is started.
    Wrong(String),
}

impl LogDirs {
    pub fn first(&self) -> &LogDir {
        &self.online[0]
    }

    /// Takes all that can be taken. `check` says what a directory lacks.
    pub fn take(paths: &[String], check: impl Fn(&str) -> Result<(), String>) -> Result<LogDirs, StartProblem> {
        let mut dirs = LogDirs { online: Vec::new(), offline: Vec::new(), lacks_one: false };
        for (index, path) in paths.iter().enumerate() {
            let taken = LogDir::take(index, path).and_then(|dir| match check(&dir.path) {
                Ok(()) => Ok(dir),
                Err(reason) => Err(TakeProblem::Broken(reason)),
            });
            match taken {
                Ok(dir) => dirs.online.push(dir),
                Err(TakeProblem::Wrong(reason)) => return Err(StartProblem(reason)),
                Err(TakeProblem::Broken(reason)) => dirs.set_aside(OfflineDir { index, path: path.clone(), reason })?,
            }
        }
        Ok(dirs)
    }

    /// This one is offline in this run.
    pub fn fail(&mut self, path: &str, reason: String) -> Result<(), StartProblem> {
        let Some(at) = self.online.iter().position(|dir| dir.path == path) else { return Ok(()) };
        let LogDir { index, path, .. } = self.online.remove(at);
        self.set_aside(OfflineDir { index, path, reason })
    }

    fn set_aside(&mut self, dir: OfflineDir) -> Result<(), StartProblem> {
        if dir.index == 0 {
            return Err(StartProblem(format!(
                "{}. The first of log.dirs holds the journals and the metadata log: without it nothing can be served",
                dir.reason
            )));
        }
        tracing::error!(
            log_dir = dir.path,
            reason = dir.reason,
            "a log directory is offline: its partitions are not served, all others are. Repair or mount it, then restart \
             the broker"
        );
        self.offline.push(dir);
        Ok(())
    }

    /// Whether a partition that is found nowhere may lie in a directory that is not there.
    pub fn is_incomplete(&self) -> bool {
        self.lacks_one || !self.offline.is_empty()
    }

    /// Agrees with every `meta.properties` on who this is, and writes the missing ones. Returns the cluster's id.
    pub fn identify(&mut self, node_id: i32, cluster_id: Option<&str>) -> Result<Arc<str>, StartProblem> {
        self.check_order()?;
        let mut known: Option<(String, String)> = cluster_id.map(|id| (id.to_owned(), "gannet.cluster.id".to_owned()));
        let (mut ids, mut unreadable, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
        for dir in &self.online {
            match dir.meta() {
                Ok(Some(meta)) => {
                    check_identity(&dir.meta_path(), &meta, node_id, known.as_ref())?;
                    known.get_or_insert((meta.cluster_id, dir.meta_path()));
                    ids.extend(meta.directory_id.map(|id| (id, dir.path.clone())));
                }
                Ok(None) => fresh.push(dir.path.clone()),
                Err(reason) => unreadable.push((dir.path.clone(), reason)),
            }
        }
        for (path, reason) in unreadable {
            self.fail(&path, reason)?;
        }
        let id = match known {
            Some((id, _)) => id,
            None => Uuid::from_random(random_bits()?).to_string(),
        };
        self.welcome(&id, node_id, ids, fresh)?;
        Ok(id.into())
    }

    /// The journals of a run lie in the first directory: under another one that run would not be found.
    fn check_order(&self) -> Result<(), StartProblem> {
        let first = &self.first().path;
        let misplaced = self.online.iter().skip(1).find(|dir| Path::new(&dir.path).join(OWN_DIRECTORY).exists());
        match misplaced {
            Some(dir) if !Path::new(first).join(OWN_DIRECTORY).exists() => Err(StartProblem(format!(
                "{}/{OWN_DIRECTORY} has the journals, but {first} is the first of log.dirs: name {} first, as before",
                dir.path, dir.path
            ))),
            _ => Ok(()),
        }
    }

    /// Gives new directories their `meta.properties`, and remembers all.
    fn welcome(
        &mut self,
        cluster_id: &str,
        node_id: i32,
        mut ids: Vec<(String, String)>,
        fresh: Vec<String>,
    ) -> Result<(), StartProblem> {
        let own = format!("{}/{OWN_DIRECTORY}", self.first().path);
        let list = format!("{own}/{KNOWN}");
        std::fs::create_dir_all(&own).map_err(at(&own))?;
        let before = match std::fs::read_to_string(&list) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(at(&list))?,
        };
        let before: Vec<(String, String)> = before
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, path)| (id.to_owned(), path.to_owned()))
            .collect();
        for path in fresh {
            if let Some((known, _)) =
                before.iter().find(|(_, known)| *known == path).filter(|_| path != self.first().path)
            {
                let reason = format!(
                    "{path} is empty, but was the log directory {known} of this node: mount its device. If the device \
                     is gone for good, remove the line of {path} from {list}; what lay there is then lost"
                );
                self.fail(&path, reason)?;
                continue;
            }
            let id = Uuid::from_random(random_bits()?);
            let text = format!("version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={id}\n");
            match replace(&format!("{path}/{META}"), text.as_bytes()) {
                Ok(()) => ids.push((id.to_string(), path)),
                Err(error) => self.fail(&path, format!("{path}/{META}: {error}"))?,
            }
        }
        let is_here = |(id, _): &&(String, String)| ids.iter().any(|(here, _)| here == id);
        let elsewhere: Vec<_> = before.iter().filter(|known| !is_here(known)).cloned().collect();
        let is_offline = |path: &String| self.offline.iter().any(|dir| dir.path == *path);
        self.lacks_one = elsewhere.iter().any(|(_, path)| !is_offline(path));
        if self.lacks_one {
            tracing::error!(
                "a log directory of this node is not in log.dirs any more: partitions that are found nowhere are not served. \
                 Name it again, or, if it is gone for good, remove its line from {list}: {elsewhere:?}"
            );
        }
        ids.extend(elsewhere);
        if ids != before {
            let text: String = ids.iter().map(|(id, path)| format!("{id} {path}\n")).collect();
            replace(&list, text.as_bytes()).map_err(at(&list))?;
        }
        Ok(())
    }
}

fn check_identity(path: &str, meta: &Meta, node_id: i32, known: Option<&(String, String)>) -> Result<(), StartProblem> {
    if meta.node_id != node_id.to_string() {
        return Err(StartProblem(format!(
            "{path} says node.id={}, the configuration says {node_id}: this directory belongs to another broker. \
             Set node.id={}, or give this broker its own log.dirs",
            meta.node_id, meta.node_id
        )));
    }
    match known {
        Some((id, place)) if *id != meta.cluster_id => Err(StartProblem(format!(
            "{path} says cluster.id={}, {place} says {id}: a broker belongs to one cluster. Remove the log directory that \
             is not its own from log.dirs",
            meta.cluster_id
        ))),
        _ => Ok(()),
    }
}

/// All partition directories of one log directory. Those that only wait to be deleted are deleted.
pub fn list(dir: &LogDir) -> Result<Vec<FoundPartition>, String> {
    let in_dir = |error: io::Error| format!("log directory {}: {error}", dir.path);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir.path).map_err(in_dir)? {
        let entry = entry.map_err(in_dir)?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if !entry.file_type().map_err(in_dir)?.is_dir() {
            continue;
        }
        let path = format!("{}/{name}", dir.path);
        if name.ends_with(DELETED_SUFFIX) {
            std::fs::remove_dir_all(&path).map_err(|error| format!("{path}: {error}"))?;
            continue;
        }
        let Some((topic, index)) = FoundPartition::parse_name(&name) else { continue };
        let read = partition(&path, topic, index);
        found.push(read.map_err(|error| format!("{path}: {error}"))?);
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
        let dir = LogDir::take(0, &directory.path().join("data").to_string_lossy()).expect("free");
        (directory, dir)
    }

    #[test]
    fn the_second_to_take_a_directory_is_told_who_has_it() {
        let (_keep, dir) = log_dir();
        let Err(TakeProblem::Wrong(problem)) = LogDir::take(0, &dir.path) else { panic!("it is taken") };
        assert!(problem.contains(&format!("process {} since 2", std::process::id())), "{problem}");
        let path = dir.path.clone();
        drop(dir);
        assert!(LogDir::take(0, &path).is_ok(), "free again");
    }

    #[test]
    fn a_directory_keeps_its_cluster_and_its_broker() {
        let (_keep, dir) = log_dir();
        let mut dirs = LogDirs { online: vec![dir], offline: Vec::new(), lacks_one: false };
        let id = dirs.identify(7, None).expect("a new one");
        assert_eq!(dirs.identify(7, None).expect("known").as_ref(), &*id);
        assert_eq!(dirs.identify(7, Some(&id)).expect("the same").as_ref(), &*id);
        assert!(dirs.identify(8, None).expect_err("another's").0.contains("node.id=7"));
        assert!(dirs.identify(7, Some("other")).expect_err("another's").0.contains("cluster.id="));
        let text = std::fs::read_to_string(dirs.first().meta_path()).expect("written");
        assert!(text.starts_with(&format!("version=1\ncluster.id={id}\nnode.id=7\ndirectory.id=")));
        assert!(!dirs.is_incomplete());
    }

    /// Directories a, b and c below one that goes with the test.
    fn three() -> (tempfile::TempDir, Vec<String>) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = std::fs::canonicalize(directory.path()).expect("there");
        let paths = ["a", "b", "c"].map(|name| root.join(name).to_string_lossy().into_owned());
        (directory, paths.into())
    }

    fn identified(paths: &[String]) -> Result<LogDirs, StartProblem> {
        let mut dirs = LogDirs::take(paths, |_| Ok(()))?;
        dirs.identify(7, None)?;
        Ok(dirs)
    }

    fn reasons(dirs: &LogDirs) -> Vec<(usize, &str)> {
        dirs.offline.iter().map(|dir| (dir.index, dir.reason.as_str())).collect()
    }

    #[test]
    fn a_directory_that_cannot_be_used_leaves_the_others_alone() {
        let (_keep, paths) = three();
        identified(&paths).expect("all are new");
        std::fs::remove_dir_all(&paths[1]).expect("removed");
        std::fs::write(&paths[1], "in the way").expect("written");
        std::fs::write(format!("{}/{META}", paths[2]), "node.id=7").expect("written");
        let dirs = identified(&paths).expect("the first is whole");
        assert!(matches!(reasons(&dirs)[..], [(1, _), (2, unreadable)] if unreadable.contains("has no cluster.id")));
        assert!(dirs.is_incomplete());
        std::fs::write(format!("{}/{META}", paths[0]), "node.id=7").expect("written");
        drop(dirs);
        let problem = identified(&paths).err().expect("the first is not").0;
        assert!(problem.contains("holds the journals and the metadata log"), "{problem}");
    }

    #[test]
    fn an_empty_directory_that_was_known_is_not_taken_for_a_new_one() {
        let (_keep, paths) = three();
        assert!(!identified(&paths[..2]).expect("both are new").is_incomplete());
        std::fs::remove_dir_all(&paths[1]).expect("as if its device were not mounted");
        let dirs = identified(&paths).expect("the first is whole");
        assert!(matches!(reasons(&dirs)[..], [(1, reason)] if reason.contains("mount its device")));
        assert_eq!(dirs.online.iter().map(|dir| dir.index).collect::<Vec<_>>(), [0, 2]);
        drop(dirs);
        let dirs = identified(&[paths[0].clone(), paths[2].clone()]).expect("the first is whole");
        assert!(dirs.is_incomplete() && dirs.offline.is_empty(), "one is not named any more");
        drop(dirs);
        std::fs::remove_file(format!("{}/{OWN_DIRECTORY}/{KNOWN}", paths[0])).expect("there");
        assert!(!identified(&paths).expect("given up").is_incomplete());
    }

    #[test]
    fn the_directory_with_the_journals_stays_the_first() {
        let (_keep, mut paths) = three();
        identified(&paths).expect("all are new");
        paths.swap(0, 1);
        let problem = identified(&paths).err().expect("another order").0;
        assert!(problem.contains(&format!("name {} first", paths[1])), "{problem}");
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
        assert!(list(&dir).expect_err("damaged").contains("log.swap is damaged at 61"));
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
