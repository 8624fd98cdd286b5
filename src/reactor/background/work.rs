//! The executor's end of `background`: each directory's work in order, different directories side by side, and syncs when
//! all before them is done. On a thread of its own; nothing here may panic.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use glommio::GlommioError;
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use glommio::sync::Semaphore;

use super::removal::Removal;
use super::{Outcome, Work};
use crate::reactor::disk::{create_directory, delete_directory, parent, put, replace, sync_each, sync_file_systems};
use crate::reactor::files::file_error;
use crate::reactor::lru::Lru;
use crate::reactor::memory::PAGE_BYTES;
use crate::reactor::mesh::Outbox;
use crate::shard::{FileChange, FileError, FileName, OperationId};
use crate::types::Map;

/// Directories that are worked on at the same time.
const DIRECTORIES_AT_ONCE: u64 = 32;
/// One direct write.
const WRITE_BYTES: usize = 256 << 10;
/// From so many files on, one flush of their file system is cheaper than one each.
const SYNC_FILES_MAX: usize = 64;

/// A step in one directory's queue.
enum Step {
    Work(OperationId, Work),
    /// All before it in this directory is done.
    Barrier(Rc<SyncBarrier>),
}

/// A sync waits until each directory it names has done what came before.
struct SyncBarrier {
    operation: OperationId,
    files: Vec<FileName>,
}

struct OpenFile {
    file: Rc<DmaFile>,
    /// The last, incomplete page written: where it begins and what is in it.
    tail: Option<(u64, Vec<u8>)>,
}

/// The executor's end.
pub struct Files {
    queues: RefCell<Map<Arc<str>, VecDeque<Step>>>,
    open: RefCell<Lru<FileName, Rc<RefCell<OpenFile>>>>,
    /// Directories with entries that may not be on stable storage.
    unsynced_directories: RefCell<BTreeSet<Arc<str>>>,
    /// Log directories whose device glommio has judged.
    judged: RefCell<BTreeSet<String>>,
    judging: Semaphore,
    removal: RefCell<Option<Removal>>,
    results: RefCell<Outbox<Outcome>>,
    permits: Semaphore,
}

impl Files {
    pub fn new(results: Outbox<Outcome>, open_files_max: usize) -> Rc<Files> {
        Rc::new(Files {
            queues: RefCell::default(),
            open: RefCell::new(Lru::new(open_files_max)),
            unsynced_directories: RefCell::default(),
            judged: RefCell::default(),
            judging: Semaphore::new(1),
            removal: RefCell::default(),
            results: RefCell::new(results),
            permits: Semaphore::new(DIRECTORIES_AT_ONCE),
        })
    }

    fn report(&self, operation: OperationId, outcome: Result<(), FileError>) {
        let mut results = self.results.borrow_mut();
        results.push((operation, outcome));
        results.flush();
    }

    pub fn accept(self: &Rc<Files>, operation: OperationId, work: Work) {
        let directory: Arc<str> = match &work {
            Work::Write { file, .. } => file.directory.clone(),
            Work::Change(FileChange::CreateDirectory { directory, .. } | FileChange::DeleteDirectory { directory }) => {
                directory.clone()
            }
            Work::Change(
                FileChange::Put { file, .. }
                | FileChange::Preallocate { file, .. }
                | FileChange::Truncate { file, .. }
                | FileChange::Delete { file }
                | FileChange::Rename { file, .. },
            ) => file.directory.clone(),
            Work::Change(FileChange::Replace { path, .. }) => parent(path).into(),
            Work::Change(FileChange::Sync { files }) => return self.accept_sync(operation, files.clone()),
        };
        self.enqueue(directory, Step::Work(operation, work));
    }

    fn accept_sync(self: &Rc<Files>, operation: OperationId, files: Vec<FileName>) {
        let busy: BTreeSet<Arc<str>> = {
            let queues = self.queues.borrow();
            files.iter().map(|file| &file.directory).filter(|name| queues.contains_key(*name)).cloned().collect()
        };
        let barrier = Rc::new(SyncBarrier { operation, files });
        for directory in busy {
            self.enqueue(directory, Step::Barrier(barrier.clone()));
        }
        self.pass(barrier);
    }

    /// The last to pass the barrier starts the sync.
    fn pass(self: &Rc<Files>, barrier: Rc<SyncBarrier>) {
        let Ok(SyncBarrier { operation, files }) = Rc::try_unwrap(barrier) else { return };
        let this = self.clone();
        glommio::spawn_local(async move {
            let outcome = this.sync(files).await;
            this.report(operation, outcome);
        })
        .detach();
    }

    fn enqueue(self: &Rc<Files>, directory: Arc<str>, step: Step) {
        match self.queues.borrow_mut().entry(directory.clone()) {
            Entry::Occupied(queue) => return queue.into_mut().push_back(step),
            Entry::Vacant(place) => drop(place.insert(VecDeque::from([step]))),
        }
        // glommio runs a new task at once, up to its first wait: the queues must not be borrowed here.
        let this = self.clone();
        glommio::spawn_local(async move { this.work_through(directory).await }).detach();
    }

    /// One directory's steps, one after the other, until none is left.
    async fn work_through(self: Rc<Files>, directory: Arc<str>) {
        let _permit = self.permits.acquire_permit(1).await;
        loop {
            let step = {
                let mut queues = self.queues.borrow_mut();
                let Some(step) = queues.get_mut(&directory).and_then(VecDeque::pop_front) else {
                    queues.remove(&directory);
                    return;
                };
                step
            };
            match step {
                Step::Barrier(barrier) => self.pass(barrier),
                Step::Work(operation, work) => {
                    let outcome = match work {
                        Work::Write { file, position, bytes } => self.write(&file, position, &bytes).await,
                        Work::Change(change) => self.change(change).await,
                    };
                    self.report(operation, outcome);
                }
            }
        }
    }

    async fn open(&self, name: &FileName) -> Result<Rc<RefCell<OpenFile>>, FileError> {
        if let Some(open) = self.open.borrow_mut().get(name) {
            return Ok(open.clone());
        }
        self.judge(parent(&name.directory)).await?;
        let path = name.to_string();
        let mut options = OpenOptions::new();
        let opened = match options.read(true).write(true).dma_open(&path).await {
            Err(error) if os_error(&error) == Some(libc::ENOENT) => {
                self.unsynced_directories.borrow_mut().insert(name.directory.clone());
                options.create(true).mode(0o644).dma_open(&path).await
            }
            outcome => outcome,
        };
        let file = Rc::new(opened.map_err(|error| failure(error, &path))?);
        let open = Rc::new(RefCell::new(OpenFile { file, tail: None }));
        let evicted = self.open.borrow_mut().insert(name.clone(), open.clone());
        if let Some(evicted) = evicted {
            close(evicted).await;
        }
        Ok(open)
    }

    /// glommio asks the first file it opens on a device whether the device can be polled, by a read. An empty file says yes
    /// on any device, and every later read fails with EOPNOTSUPP. So the first file it opens is one with content.
    async fn judge(&self, root: &str) -> Result<(), FileError> {
        if self.judged.borrow().contains(root) {
            return Ok(());
        }
        let permit = self.judging.acquire_permit(1).await;
        if self.judged.borrow().contains(root) {
            return Ok(());
        }
        let path: Arc<str> = format!("{root}/.probe-{}-{}", std::process::id(), glommio::executor().id()).into();
        let scratch = path.clone();
        blocking(path.clone(), move || {
            let mut file = File::create(&*scratch)?;
            io::Write::write_all(&mut file, &[1; 2 * PAGE_BYTES])?;
            file.sync_data()
        })
        .await?;
        let opened = DmaFile::open(&*path).await;
        let scratch = path.clone();
        blocking(path.clone(), move || std::fs::remove_file(&*scratch)).await?;
        opened.map_err(|error| failure(error, &path))?.close().await.map_err(|error| failure(error, &path))?;
        self.judged.borrow_mut().insert(root.to_owned());
        drop(permit);
        Ok(())
    }

    /// Lengthens a file from `position` on: whole pages only, the page of the last end read again if it is not remembered.
    async fn write(&self, name: &FileName, position: u64, bytes: &[Bytes]) -> Result<(), FileError> {
        let open = self.open(name).await?;
        let file = open.borrow().file.clone();
        let path = name.to_string();
        let mut start = position - position % PAGE_BYTES as u64;
        let before = (position - start) as usize;
        let remembered = open.borrow_mut().tail.take().filter(|(page, _)| *page == start).map(|(_, bytes)| bytes);
        let mut head = match remembered {
            Some(mut tail) if tail.len() >= before => {
                tail.truncate(before);
                tail
            }
            _ if before == 0 => Vec::new(),
            _ => {
                let page = file.read_at_aligned(start, PAGE_BYTES).await.map_err(|error| failure(error, &path))?;
                let found = page.get(..before).ok_or_else(|| {
                    FileError::Failed(format!("{path} ends before position {position}, where a write was to go on"))
                })?;
                found.to_vec()
            }
        };
        let mut source = Gather::new(bytes);
        while source.left > 0 {
            let length = WRITE_BYTES.min(head.len() + source.left);
            let mut buffer = file.alloc_dma_buffer(length.next_multiple_of(PAGE_BYTES));
            let page = buffer.as_bytes_mut();
            page[..head.len()].copy_from_slice(&head);
            source.fill(&mut page[head.len()..length]);
            page[length..].fill(0);
            let whole = length - length % PAGE_BYTES;
            head = page[whole..length].to_vec();
            write_whole(&file, buffer, start).await.map_err(|error| failure(error, &path))?;
            start += whole as u64;
        }
        open.borrow_mut().tail = (!head.is_empty()).then_some((start, head));
        Ok(())
    }

    /// The name may soon mean another file.
    async fn close(&self, file: &FileName) {
        let open = self.open.borrow_mut().remove(file);
        if let Some(open) = open {
            close(open).await;
        }
    }

    fn removal(&self) -> Result<Removal, FileError> {
        let mut removal = self.removal.borrow_mut();
        if removal.is_none() {
            *removal = Some(Removal::start().map_err(|error| file_error(&error, "a thread for deletions"))?);
        }
        Ok(removal.clone().expect("just started"))
    }

    async fn change(&self, change: FileChange) -> Result<(), FileError> {
        match change {
            FileChange::CreateDirectory { directory, topic } => {
                self.unsynced_directories.borrow_mut().extend([directory.clone(), parent(&directory).into()]);
                blocking(directory.clone(), move || create_directory(&directory, topic)).await
            }
            FileChange::DeleteDirectory { directory } => {
                let open = self.open.borrow_mut().remove_if(|file| file.directory == directory);
                for file in open {
                    close(file).await;
                }
                self.unsynced_directories.borrow_mut().remove(&directory);
                let removal = self.removal()?;
                blocking(directory.clone(), move || {
                    delete_directory(&directory, |aside| removal.remove_directory(aside))
                })
                .await
            }
            FileChange::Put { file, bytes } => {
                self.unsynced_directories.borrow_mut().insert(file.directory.clone());
                let path: Arc<str> = file.to_string().into();
                blocking(path.clone(), move || put(&path, &bytes, |_| Ok(()))).await
            }
            FileChange::Replace { path, bytes } => blocking(path.clone(), move || replace(&path, &bytes)).await,
            FileChange::Preallocate { file, length } => {
                let open = self.open(&file).await?;
                let dma = open.borrow().file.clone();
                let Err(error) = dma.pre_allocate(length, false).await else { return Ok(()) };
                // A part of it may have been taken, the last space of the device perhaps.
                dma.truncate(0).await.map_err(|error| failure(error, &file.to_string()))?;
                match error {
                    // A file system that cannot do it: the segment grows as others do.
                    GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. }
                        if source.kind() == io::ErrorKind::Unsupported =>
                    {
                        Ok(())
                    }
                    error => Err(failure(error, &file.to_string())),
                }
            }
            FileChange::Truncate { file, length } => {
                let open = self.open(&file).await?;
                open.borrow_mut().tail = None;
                let dma = open.borrow().file.clone();
                dma.truncate(length).await.map_err(|error| failure(error, &file.to_string()))
            }
            FileChange::Rename { file, to } => {
                let renamed = file.of_kind(to);
                self.close(&file).await;
                self.close(&renamed).await;
                self.unsynced_directories.borrow_mut().insert(file.directory.clone());
                let (path, renamed): (Arc<str>, String) = (file.to_string().into(), renamed.to_string());
                blocking(path.clone(), move || match std::fs::rename(&*path, renamed) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    outcome => outcome,
                })
                .await
            }
            FileChange::Delete { file } => {
                self.close(&file).await;
                let path: Arc<str> = file.to_string().into();
                let removal = self.removal()?;
                blocking(path.clone(), move || removal.remove(Path::new(&*path))).await
            }
            FileChange::Sync { .. } => unreachable!("a sync passes a barrier of its own"),
        }
    }

    /// Files that are gone by now need no sync: they were deleted later than they were written.
    async fn sync(&self, files: Vec<FileName>) -> Result<(), FileError> {
        let names: BTreeSet<Arc<str>> =
            files.iter().flat_map(|file| [file.directory.clone(), parent(&file.directory).into()]).collect();
        let directories: Vec<Arc<str>> = {
            let unsynced = self.unsynced_directories.borrow();
            names.into_iter().filter(|name| unsynced.contains(name)).collect()
        };
        // Entries made while the sync runs are not covered by it: they put their directory back.
        for directory in &directories {
            self.unsynced_directories.borrow_mut().remove(directory);
        }
        let what: Arc<str> = format!("syncing {} files", files.len()).into();
        let again = directories.clone();
        let outcome = blocking(what, move || match files.len() > SYNC_FILES_MAX {
            true => sync_file_systems(&files),
            false => sync_each(&files, &directories),
        })
        .await;
        if outcome.is_err() {
            self.unsynced_directories.borrow_mut().extend(again);
        }
        outcome
    }
}

/// Many small pieces, read one after the other without taking part in their counting.
struct Gather<'a> {
    pieces: std::slice::Iter<'a, Bytes>,
    piece: &'a [u8],
    left: usize,
}

impl<'a> Gather<'a> {
    fn new(pieces: &'a [Bytes]) -> Gather<'a> {
        Gather { left: pieces.iter().map(Bytes::len).sum(), pieces: pieces.iter(), piece: &[] }
    }

    /// `target` is no longer than what is left.
    fn fill(&mut self, mut target: &mut [u8]) {
        self.left -= target.len();
        while !target.is_empty() {
            if self.piece.is_empty() {
                self.piece = self.pieces.next().expect("as much is left as was counted");
            }
            let (now, later) = self.piece.split_at(self.piece.len().min(target.len()));
            let (filled, rest) = target.split_at_mut(now.len());
            filled.copy_from_slice(now);
            (self.piece, target) = (later, rest);
        }
    }
}

/// Writes a buffer of whole pages. The kernel may write less at once, always in whole pages.
async fn write_whole(file: &DmaFile, buffer: DmaBuffer, mut position: u64) -> Result<(), GlommioError<()>> {
    let mut buffer = Rc::new(buffer);
    loop {
        let written = file.write_rc_at(buffer.clone(), position).await?;
        if written == buffer.len() {
            return Ok(());
        }
        if written == 0 || !written.is_multiple_of(PAGE_BYTES) {
            return Err(io::Error::other(format!("only {written} of {} bytes were written", buffer.len())).into());
        }
        let mut rest = file.alloc_dma_buffer(buffer.len() - written);
        rest.as_bytes_mut().copy_from_slice(&buffer.as_bytes()[written..]);
        buffer = Rc::new(rest);
        position += written as u64;
    }
}

async fn close(open: Rc<RefCell<OpenFile>>) {
    // Someone still at work with it closes it by letting go.
    if let Ok(open) = Rc::try_unwrap(open)
        && let Ok(file) = Rc::try_unwrap(open.into_inner().file)
    {
        let _ = file.close().await;
    }
}

/// Runs on a thread that may wait.
async fn blocking(what: Arc<str>, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), FileError> {
    let outcome = glommio::executor().spawn_blocking(work).await;
    outcome.map_err(|error| file_error(&error, &what))
}

fn os_error<T>(error: &GlommioError<T>) -> Option<i32> {
    match error {
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => error.raw_os_error(),
        _ => None,
    }
}

fn failure<T>(error: GlommioError<T>, path: &str) -> FileError {
    match error {
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => file_error(&error, path),
        other => FileError::Failed(format!("{path}: {other}")),
    }
}
