//! The simulated disk: what a running process sees, and what of it a power loss leaves. Blocks of 4 KiB written since the
//! last sync survive one by one or not at all; a name survives if its directory was synced; a deletion that was not
//! synced may be undone.

use std::collections::BTreeMap;

use bytes::Bytes;
use gannet::log::SwapFile;
use gannet::record;
use gannet::shard::{FileChange, FileError, FileKind, FileName, FoundPartition};
use gannet::types::TopicId;

use crate::chance::Chance;

pub const BLOCK: usize = 4096;
/// Journal writes tear at these.
pub const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub struct File {
    pub data: Vec<u8>,
    /// What the blocks touched since the last sync held then.
    before: BTreeMap<usize, Vec<u8>>,
    synced_length: usize,
    /// The name itself would survive.
    name_synced: bool,
}

impl File {
    fn remember(&mut self, from: usize, to: usize) {
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            let start = (block * BLOCK).min(self.data.len());
            let end = (start + BLOCK).min(self.data.len());
            self.before.entry(block).or_insert_with(|| self.data[start..end].to_vec());
        }
    }

    /// As direct I/O does: whole blocks, the last one filled with zeros.
    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = (position + bytes.len()).next_multiple_of(BLOCK);
        self.remember(position, end);
        let behind = self.data.split_off(end.min(self.data.len()));
        self.data.truncate(position);
        self.data.resize(position, 0);
        self.data.extend_from_slice(bytes);
        self.data.resize(end, 0);
        self.data.extend(behind);
    }

    /// Room that reads as zeros, whatever a crash does to its length.
    fn preallocate(&mut self, length: usize) {
        self.remember(0, length);
        self.data.clear();
        self.data.resize(length, 0);
    }

    fn truncate(&mut self, length: usize) {
        if length < self.data.len() {
            self.remember(length, self.data.len());
        }
        self.data.resize(length, 0);
    }

    fn sync(&mut self) {
        self.before.clear();
        self.synced_length = self.data.len();
        self.name_synced = true;
    }

    fn lose_power(&mut self, chance: &mut Chance) {
        let mut old = self.data.clone();
        for (block, bytes) in &self.before {
            let start = block * BLOCK;
            old.resize(old.len().max(start + bytes.len()), 0);
            old[start..start + bytes.len()].copy_from_slice(bytes);
        }
        old.resize(self.synced_length, 0);
        let length = if chance.one_in(2) { old.len() } else { self.data.len() };
        let mut left = vec![0; length];
        for start in (0..length).step_by(BLOCK) {
            let end = (start + BLOCK).min(length);
            let touched = self.before.contains_key(&(start / BLOCK));
            let source = if touched && chance.one_in(2) { &old } else { &self.data };
            let whole = end.min(source.len());
            if start < whole {
                left[start..whole].copy_from_slice(&source[start..whole]);
            }
        }
        *self = File { data: left, ..File::default() };
        self.sync();
    }
}

#[derive(Clone)]
struct Directory {
    topic: Option<TopicId>,
    synced: bool,
}

struct Rename {
    from: String,
    to: String,
    /// What stood there.
    replaced: Option<File>,
}

#[derive(Default)]
pub struct Disk {
    /// Of partitions: segments and index files.
    files: BTreeMap<String, File>,
    directories: BTreeMap<String, Directory>,
    /// Deleted, but a power loss may bring them back.
    ghosts: BTreeMap<String, File>,
    /// Not synced, oldest first: a power loss undoes the last ones of each directory.
    renames: Vec<Rename>,
    /// Small files that are only ever replaced whole: tables, the mark of an orderly stop.
    pub small: BTreeMap<String, Bytes>,
    pub journals: BTreeMap<(u16, u16), Vec<u8>>,
    /// Bytes that segments may take.
    pub capacity: Option<usize>,
    /// Something was, since a stop began.
    pub refused: bool,
    /// The next write to a segment fails as a broken device does.
    pub fails_once: bool,
    /// Nothing in this log directory can be read or changed.
    pub broken: Option<&'static str>,
    used: usize,
}

pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Disk {
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    pub fn file_mut(&mut self, path: &str) -> Option<&mut File> {
        self.files.get_mut(path)
    }

    pub fn paths(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    pub fn directories(&self) -> impl Iterator<Item = (&str, Option<TopicId>)> {
        self.directories.iter().map(|(path, directory)| (path.as_str(), directory.topic))
    }

    /// Of a file, or of a partition's directory.
    fn is_broken(&self, path: &str) -> bool {
        self.broken.is_some_and(|log_dir| path.starts_with(log_dir))
    }

    fn check(&self, path: &str) -> Result<(), FileError> {
        match self.is_broken(path) {
            true => Err(FileError::Failed("an input/output error".to_owned())),
            false => Ok(()),
        }
    }

    fn has_space(&mut self, growth: usize) -> bool {
        let has_space = self.capacity.is_none_or(|capacity| self.used + growth <= capacity);
        self.refused |= !has_space;
        has_space
    }

    fn count(&mut self) {
        self.used = self.files.values().map(|file| file.data.len()).sum();
    }

    pub fn write(&mut self, name: &FileName, position: u64, bytes: &[Bytes]) -> Result<(), FileError> {
        self.check(&name.directory)?;
        if !self.directories.contains_key(&*name.directory) {
            return Err(FileError::NotFound);
        }
        if std::mem::take(&mut self.fails_once) {
            return Err(FileError::Failed("an input/output error".to_owned()));
        }
        let length: usize = bytes.iter().map(Bytes::len).sum();
        if !self.has_space(length + BLOCK) {
            return Err(FileError::NoSpace);
        }
        let file = self.files.entry(name.to_string()).or_default();
        let position = position as usize;
        if file.data.len() < position {
            return Err(FileError::Failed(format!("{name} ends at {} before position {position}", file.data.len())));
        }
        file.write(position, &bytes.concat());
        self.count();
        Ok(())
    }

    pub fn read(&self, name: &FileName, position: u64, length: u32) -> Result<Bytes, FileError> {
        self.check(&name.directory)?;
        let file = self.files.get(&name.to_string()).ok_or(FileError::NotFound)?;
        let start = (position as usize).min(file.data.len());
        let end = (start + length as usize).min(file.data.len());
        Ok(Bytes::copy_from_slice(&file.data[start..end]))
    }

    pub fn change(&mut self, change: &FileChange) -> Result<(), FileError> {
        match change {
            FileChange::CreateDirectory { directory, .. } | FileChange::DeleteDirectory { directory } => {
                self.check(directory)?;
            }
            FileChange::Put { file, .. }
            | FileChange::Preallocate { file, .. }
            | FileChange::Truncate { file, .. }
            | FileChange::Delete { file }
            | FileChange::Rename { file, .. } => self.check(&file.directory)?,
            FileChange::Replace { path, .. } => self.check(path)?,
            FileChange::Sync { files } => files.iter().try_for_each(|file| self.check(&file.directory))?,
        }
        match change {
            FileChange::CreateDirectory { directory, topic } => {
                if !self.has_space(BLOCK) {
                    return Err(FileError::NoSpace);
                }
                let fresh = Directory { topic: None, synced: false };
                self.directories.entry(directory.to_string()).or_insert(fresh).topic = Some(*topic);
            }
            FileChange::DeleteDirectory { directory } => self.delete_directory(directory),
            FileChange::Put { file, bytes } => return self.put(file, bytes),
            FileChange::Replace { path, bytes } => return self.replace(path, bytes),
            FileChange::Preallocate { file, length } => {
                if !self.directories.contains_key(&*file.directory) {
                    return Err(FileError::NotFound);
                }
                let length = *length as usize;
                if self.capacity.is_some_and(|capacity| self.used + length > capacity) {
                    return Err(FileError::NoSpace);
                }
                self.files.entry(file.to_string()).or_default().preallocate(length);
            }
            FileChange::Truncate { file, length } => {
                if !self.directories.contains_key(&*file.directory) {
                    return Err(FileError::NotFound);
                }
                self.files.entry(file.to_string()).or_default().truncate(*length as usize);
            }
            FileChange::Delete { file } => {
                if let Some(gone) = self.files.remove(&file.to_string()) {
                    self.ghosts.insert(file.to_string(), gone);
                }
            }
            FileChange::Rename { file, to } => self.rename(file, *to),
            FileChange::Sync { files } => self.sync(files),
        }
        self.count();
        Ok(())
    }

    /// Renamed aside, its parent synced, deleted: nothing of it comes back.
    fn delete_directory(&mut self, directory: &str) {
        self.directories.remove(directory);
        let inside = |path: &String| parent(path) == directory;
        self.files.retain(|path, _| !inside(path));
        self.ghosts.retain(|path, _| !inside(path));
        self.renames.retain(|rename| !inside(&rename.from));
    }

    fn rename(&mut self, file: &FileName, to: FileKind) {
        let (from, to) = (file.to_string(), file.of_kind(to).to_string());
        if let Some(renamed) = self.files.remove(&from) {
            let replaced = self.files.insert(to.clone(), renamed);
            self.renames.push(Rename { from, to, replaced });
        }
    }

    /// Files that only wait to be deleted, or were never finished: a start deletes them.
    pub fn delete_leftovers(&mut self) {
        let broken = self.broken;
        let is_broken = |path: &str| broken.is_some_and(|log_dir| path.starts_with(log_dir));
        let is_left_over = |path: &str| path.ends_with(".deleted") || path.ends_with(".cleaned");
        self.files.retain(|path, _| is_broken(path) || !is_left_over(path));
        self.count();
    }

    fn undo_renames(&mut self, chance: &mut Chance) {
        let mut lasting: BTreeMap<String, bool> = BTreeMap::new();
        for Rename { from, to, replaced } in std::mem::take(&mut self.renames).into_iter().rev() {
            // One that lasted was written before all that came after it in its directory.
            let lasts = lasting.entry(parent(&from).to_owned()).or_default();
            *lasts = *lasts || chance.one_in(2);
            if *lasts {
                continue;
            }
            let Some(file) = self.files.remove(&to).or_else(|| self.ghosts.remove(&to)) else { continue };
            self.files.insert(from, file);
            self.files.extend(replaced.map(|replaced| (to, replaced)));
        }
    }

    fn replace(&mut self, path: &str, bytes: &Bytes) -> Result<(), FileError> {
        if !self.has_space(bytes.len()) {
            return Err(FileError::NoSpace);
        }
        self.small.insert(path.to_owned(), bytes.clone());
        Ok(())
    }

    /// What a power loss leaves of it is anything: nobody may believe an index that no sync covered.
    fn put(&mut self, name: &FileName, bytes: &Bytes) -> Result<(), FileError> {
        if !self.has_space(bytes.len()) {
            return Err(FileError::NoSpace);
        }
        if !self.directories.contains_key(&*name.directory) {
            return Err(FileError::NotFound);
        }
        let file = self.files.entry(name.to_string()).or_default();
        file.truncate(0);
        file.write(0, bytes);
        file.truncate(bytes.len());
        Ok(())
    }

    fn sync(&mut self, files: &[FileName]) {
        for name in files {
            if let Some(file) = self.files.get_mut(&name.to_string()) {
                file.sync();
            }
            if let Some(directory) = self.directories.get_mut(&*name.directory) {
                directory.synced = true;
            }
            self.ghosts.retain(|path, _| parent(path) != &*name.directory);
            self.renames.retain(|rename| parent(&rename.from) != &*name.directory);
        }
    }

    pub fn sync_all(&mut self) {
        let broken = self.broken;
        let is_whole = |path: &str| broken.is_none_or(|log_dir| !path.starts_with(log_dir));
        self.files.iter_mut().filter(|(path, _)| is_whole(path)).for_each(|(_, file)| file.sync());
        let directories = self.directories.iter_mut().filter(|(path, _)| is_whole(path));
        directories.for_each(|(_, directory)| directory.synced = true);
        self.ghosts.retain(|path, _| !is_whole(path));
        self.renames.retain(|rename| !is_whole(&rename.from));
    }

    pub fn lose_power(&mut self, chance: &mut Chance) {
        self.undo_renames(chance);
        for (path, file) in std::mem::take(&mut self.ghosts) {
            if chance.one_in(2) && !self.files.contains_key(&path) && self.directories.contains_key(parent(&path)) {
                self.files.insert(path, file);
            }
        }
        let (mut lost, mut nameless) = (Vec::new(), Vec::new());
        for (path, directory) in self.directories.iter().filter(|(_, directory)| !directory.synced) {
            match chance.below(3) {
                0 => lost.push(path.clone()),
                1 if directory.topic.is_some() => nameless.push(path.clone()),
                _ => {}
            }
        }
        for path in lost {
            self.delete_directory(&path);
        }
        for path in nameless {
            self.directories.get_mut(&path).expect("just seen").topic = None;
        }
        let lost: Vec<_> =
            self.files.iter().filter(|(_, file)| !file.name_synced).map(|(path, _)| path.clone()).collect();
        for path in lost {
            if chance.one_in(2) {
                self.files.remove(&path);
            }
        }
        self.files.values_mut().for_each(|file| file.lose_power(chance));
        self.directories.values_mut().for_each(|directory| directory.synced = true);
        self.count();
    }

    fn swaps(&self, directory: &str) -> Vec<SwapFile> {
        let swaps = self.files.iter().filter(|(file, _)| parent(file) == directory && file.ends_with(".log.swap"));
        let swap = |(file, content): (&String, &File)| {
            let last = record::batches(&content.data).last().expect("a swap file is whole and holds something");
            let (_, last) = last.expect("a swap file is whole");
            SwapFile { base_offset: base_offset(file), end_offset: last.next_offset(), size: content.data.len() as u64 }
        };
        swaps.map(swap).collect()
    }

    /// Names given and taken in this directory are so for ever.
    pub fn sync_directory(&mut self, directory: &str) {
        self.ghosts.retain(|path, _| parent(path) != directory);
        self.renames.retain(|rename| parent(&rename.from) != directory);
    }

    /// What recovery is told of the partitions' directories.
    pub fn partitions(&self) -> Vec<FoundPartition> {
        let whole = self.directories.iter().filter(|(path, _)| !self.is_broken(path));
        let found = whole.map(|(path, directory)| {
            let (topic, index) = FoundPartition::parse_name(path.rsplit_once('/').expect("a path").1).expect("a name");
            let segments = self.files.iter().filter(|(file, _)| parent(file) == path && file.ends_with(".log"));
            FoundPartition {
                directory: path.as_str().into(),
                topic,
                index,
                topic_id: directory.topic,
                swaps: self.swaps(path),
                segments: segments
                    .map(|(file, content)| gannet::log::SegmentFile {
                        base_offset: base_offset(file),
                        size: content.data.len() as u64,
                    })
                    .collect(),
            }
        });
        found.collect()
    }
}

/// Of `<directory>/<20 digits>.<extension>`.
pub fn base_offset(path: &str) -> i64 {
    let name = path.rsplit_once('/').expect("a path").1;
    name.split_once('.').expect("an extension").0.parse().expect("20 digits")
}
