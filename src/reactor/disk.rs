//! Work on files that may wait for the device, for threads that may: the background executor's, and the start of the process.
//! Plain functions; who calls them in which order is decided elsewhere.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::files::file_error;
use crate::shard::{FileName, Space, SpaceFound};
use crate::types::TopicId;

pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| if parent.is_empty() { "/" } else { parent })
}

/// How much room the volume of this directory has.
pub fn space(path: &str) -> SpaceFound {
    match nix::sys::statvfs::statvfs(path) {
        Ok(stat) => Ok(Space {
            total_bytes: stat.blocks() * stat.fragment_size(),
            usable_bytes: stat.blocks_available() * stat.fragment_size(),
        }),
        Err(error) => Err(file_error(&error.into(), path)),
    }
}

fn sync_directory(path: &str) -> io::Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

pub fn sync_each(files: &[FileName], directories: &[Arc<str>]) -> io::Result<()> {
    let described = directories.iter().map(|directory| format!("{directory}/{PARTITION_METADATA}"));
    for path in files.iter().map(FileName::to_string).chain(described) {
        match File::open(path).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome?,
        }
    }
    directories.iter().try_for_each(|directory| sync_directory(directory))
}

pub fn sync_file_systems(files: &[FileName]) -> io::Result<()> {
    let mut devices = BTreeSet::new();
    let roots: BTreeSet<&str> = files.iter().map(|file| parent(&file.directory)).collect();
    for root in roots {
        let root = File::open(root)?;
        if devices.insert(root.metadata()?.dev()) {
            sync_file_system(&root)?;
        }
    }
    Ok(())
}

/// Everything of the file system that holds `file` is on stable storage when this returns.
pub fn sync_file_system(file: &File) -> io::Result<()> {
    nix::unistd::syncfs(file).map_err(io::Error::from)
}

/// The name of a directory that only waits to be deleted; found at a start, it is deleted then.
pub const DELETED_SUFFIX: &str = "-delete";

/// Kafka's name for the file that tells whose directory it is.
const PARTITION_METADATA: &str = "partition.metadata";

pub fn create_directory(directory: &str, topic: TopicId) -> io::Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::write(format!("{directory}/{PARTITION_METADATA}"), format!("version: 0\ntopic_id: {topic}\n"))
}

/// Its name is free, durably, before `remove` gets it under another one.
pub fn delete_directory(directory: &str, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    for attempt in 0u32.. {
        let aside = format!("{directory}.{:08x}{attempt:08x}{DELETED_SUFFIX}", std::process::id());
        if Path::new(&aside).exists() {
            continue;
        }
        return match std::fs::rename(directory, &aside) {
            Ok(()) => {
                sync_directory(parent(directory))?;
                remove(Path::new(&aside))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
    }
    Ok(())
}

/// The whole content of a small file: either the old or the new one is there, whenever the power goes.
pub fn replace(path: &str, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, File::sync_data)?;
    sync_directory(parent(path))
}

/// Written beside and renamed, `before_rename` in between.
pub fn put(path: &str, bytes: &[u8], before_rename: fn(&File) -> io::Result<()>) -> io::Result<()> {
    let beside = format!("{path}.tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        io::Write::write_all(&mut file, bytes)?;
        before_rename(&file)?;
        std::fs::rename(&beside, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_what_stands_before_the_last_name() {
        assert_eq!(["/a/b", "/a", "a/b", "a"].map(parent), ["/a", "/", "a", "."]);
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_content_and_nothing_beside_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("table");
        let name = path.to_string_lossy();
        replace(&name, b"old").expect("written");
        std::fs::create_dir(format!("{name}.tmp")).expect("in the way");
        assert!(replace(&name, b"new").is_err());
        assert_eq!(std::fs::read(&path).expect("there"), b"old");
    }

    #[test]
    fn a_deleted_directory_is_gone_under_every_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let name = directory.path().join("orders-0").to_string_lossy().into_owned();
        create_directory(&name, TopicId::METADATA_TOPIC).expect("made");
        create_directory(&name, TopicId::METADATA_TOPIC).expect("it being there is fine");
        delete_directory(&name, |aside| std::fs::remove_dir_all(aside)).expect("deleted");
        delete_directory(&name, |_| unreachable!()).expect("it not being there is fine");
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0);
    }
}
