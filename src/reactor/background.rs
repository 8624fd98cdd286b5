//! Slow work on files, on a glommio executor of its own thread on the reactor's core: write-back, creation, deletion, syncs.
//! The reactor never waits for it; outcomes come back through a ring and the doorbell. Nothing in it may panic.
//! This is the only file that knows glommio.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use glommio::io::{DmaFile, OpenOptions};
use glommio::sync::Semaphore;
use glommio::{GlommioError, LocalExecutorBuilder, Placement, PoolPlacement};
use rtrb::{Consumer, Producer, RingBuffer};

use super::doorbell::Doorbell;
use super::files::file_error;
use super::lru::Lru;
use super::memory::PAGE_BYTES;
use super::mesh::Outbox;
use crate::shard::{FileChange, FileError, FileName, OperationId};
use crate::types::{Map, TopicId};

/// Operations between the reactor and the executor at one time; more wait at the reactor.
const OPERATIONS_MAX: usize = 4096;
/// Directories that are worked on at the same time.
const DIRECTORIES_AT_ONCE: u64 = 32;
/// One direct write.
const WRITE_BYTES: usize = 256 << 10;
/// From so many files on, one flush of their file system is cheaper than one each.
const SYNC_FILES_MAX: usize = 64;
/// Buffers registered with the kernel, per executor.
const REGISTERED_BYTES: usize = 2 << 20;
const PREEMPT_TIMER: Duration = Duration::from_millis(2);
const BLOCKING_THREADS: usize = 4;

type Outcome = (OperationId, Result<(), FileError>);

enum Work {
    Write { file: FileName, position: u64, bytes: Vec<Bytes> },
    Change(FileChange),
}

/// The reactor's end.
pub struct Background {
    orders: Producer<(OperationId, Work)>,
    waiting: VecDeque<(OperationId, Work)>,
    outcomes: Consumer<Outcome>,
    bell: Arc<Bell>,
    /// Given to the executor and not reported back.
    outstanding: usize,
    touched: bool,
}

/// Wakes the executor when it has nothing to do.
struct Bell {
    asleep: AtomicBool,
    waker: std::sync::OnceLock<Waker>,
}

impl Background {
    /// Starts the executor's thread. glommio refuses with a panic where io_uring is refused: probe before.
    pub fn start(core: Option<usize>, open_files_max: usize, doorbell: Doorbell) -> io::Result<Background> {
        let (orders, inbox) = RingBuffer::new(OPERATIONS_MAX);
        let (results, outcomes) = Outbox::new(OPERATIONS_MAX, doorbell);
        let bell = Arc::new(Bell { asleep: AtomicBool::new(false), waker: std::sync::OnceLock::new() });
        let theirs = bell.clone();
        let (started, start) = mpsc::channel();
        let placement = core.map_or(Placement::Unbound, Placement::Fixed);
        std::thread::Builder::new().name("gannet-files".into()).spawn(move || {
            let executor = LocalExecutorBuilder::new(placement)
                .io_memory(REGISTERED_BYTES)
                .preempt_timer(PREEMPT_TIMER)
                .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
                .make();
            let executor = match executor {
                Ok(executor) => executor,
                Err(error) => return drop(started.send(Err(io::Error::other(error.to_string())))),
            };
            let _ = started.send(Ok(()));
            executor.run(async move {
                // A spawned task keeps one waker for life; the root future does not.
                glommio::spawn_local(serve(inbox, theirs, Files::new(results, open_files_max))).await;
            });
        })?;
        start.recv().map_err(|_| io::Error::other("the background executor did not start"))??;
        Ok(Background { orders, waiting: VecDeque::new(), outcomes, bell, outstanding: 0, touched: false })
    }

    pub fn write(&mut self, operation: OperationId, file: FileName, position: u64, bytes: Vec<Bytes>) {
        self.waiting.push_back((operation, Work::Write { file, position, bytes }));
    }

    pub fn change(&mut self, operation: OperationId, change: FileChange) {
        self.waiting.push_back((operation, Work::Change(change)));
    }

    /// Hands over what may be handed over and wakes the executor once.
    pub fn flush(&mut self) {
        while self.outstanding < OPERATIONS_MAX
            && let Some(order) = self.waiting.pop_front()
        {
            self.outstanding += 1;
            self.touched = true;
            assert!(self.orders.push(order).is_ok(), "the ring holds all that may be outstanding");
        }
        if !std::mem::take(&mut self.touched) {
            return;
        }
        fence(Ordering::SeqCst);
        if self.bell.asleep.swap(false, Ordering::Relaxed)
            && let Some(waker) = self.bell.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    pub fn take_outcome(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.pop().ok()?;
        self.outstanding -= 1;
        Some(outcome)
    }

    pub fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    pub fn is_quiet(&self) -> bool {
        self.outstanding == 0 && self.waiting.is_empty()
    }
}

async fn serve(mut inbox: Consumer<(OperationId, Work)>, bell: Arc<Bell>, files: Rc<Files>) {
    while let Some((operation, work)) = next(&mut inbox, &bell).await {
        files.accept(operation, work);
    }
}

/// The next order; none once the reactor is gone.
async fn next<T>(inbox: &mut Consumer<T>, bell: &Bell) -> Option<T> {
    poll_fn(|context| {
        if let Ok(item) = inbox.pop() {
            return Poll::Ready(Some(item));
        }
        if inbox.is_abandoned() {
            return Poll::Ready(None);
        }
        bell.waker.get_or_init(|| context.waker().clone());
        bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        match inbox.pop() {
            Ok(item) => {
                bell.asleep.store(false, Ordering::Relaxed);
                Poll::Ready(Some(item))
            }
            Err(_) => Poll::Pending,
        }
    })
    .await
}

impl Drop for Background {
    fn drop(&mut self) {
        // The executor notices at its next look that nobody is left, and its thread ends.
        let (orders, _) = RingBuffer::new(1);
        drop(std::mem::replace(&mut self.orders, orders));
        if let Some(waker) = self.bell.waker.get() {
            waker.wake_by_ref();
        }
    }
}

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
struct Files {
    queues: RefCell<Map<Arc<str>, VecDeque<Step>>>,
    open: RefCell<Lru<FileName, Rc<RefCell<OpenFile>>>>,
    /// Directories with entries that may not be on stable storage.
    unsynced_directories: RefCell<BTreeSet<Arc<str>>>,
    /// Log directories whose device glommio has judged.
    judged: RefCell<BTreeSet<String>>,
    judging: Semaphore,
    results: RefCell<Outbox<Outcome>>,
    permits: Semaphore,
}

impl Files {
    fn new(results: Outbox<Outcome>, open_files_max: usize) -> Rc<Files> {
        Rc::new(Files {
            queues: RefCell::default(),
            open: RefCell::new(Lru::new(open_files_max)),
            unsynced_directories: RefCell::default(),
            judged: RefCell::default(),
            judging: Semaphore::new(1),
            results: RefCell::new(results),
            permits: Semaphore::new(DIRECTORIES_AT_ONCE),
        })
    }

    fn report(&self, operation: OperationId, outcome: Result<(), FileError>) {
        let mut results = self.results.borrow_mut();
        results.push((operation, outcome));
        results.flush();
    }

    fn accept(self: &Rc<Files>, operation: OperationId, work: Work) {
        let directory: Arc<str> = match &work {
            Work::Write { file, .. } => file.directory.clone(),
            Work::Change(FileChange::CreateDirectory { directory, .. } | FileChange::DeleteDirectory { directory }) => {
                directory.clone()
            }
            Work::Change(FileChange::Truncate { file, .. } | FileChange::Delete { file }) => file.directory.clone(),
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
        let mut pending = match remembered {
            Some(tail) if tail.len() >= before => tail[..before].to_vec(),
            _ if before == 0 => Vec::new(),
            _ => {
                let page = file.read_at_aligned(start, PAGE_BYTES).await.map_err(|error| failure(error, &path))?;
                let found = page.get(..before).ok_or_else(|| {
                    FileError::Failed(format!("{path} ends before position {position}, where a write was to go on"))
                })?;
                found.to_vec()
            }
        };
        let mut rest = bytes.iter().filter(|bytes| !bytes.is_empty()).cloned().collect::<VecDeque<_>>();
        loop {
            while pending.len() < WRITE_BYTES
                && let Some(mut front) = rest.pop_front()
            {
                let taken = front.split_to(front.len().min(WRITE_BYTES - pending.len()));
                pending.extend_from_slice(&taken);
                if !front.is_empty() {
                    rest.push_front(front);
                }
            }
            if pending.is_empty() {
                return Ok(());
            }
            write_pages(&file, start, &pending).await.map_err(|error| failure(error, &path))?;
            let whole = pending.len() - pending.len() % PAGE_BYTES;
            start += whole as u64;
            pending.drain(..whole);
            if rest.is_empty() {
                open.borrow_mut().tail = (!pending.is_empty()).then_some((start, pending));
                return Ok(());
            }
        }
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
                blocking(directory.clone(), move || delete_directory(&directory)).await
            }
            FileChange::Replace { path, bytes } => blocking(path.clone(), move || replace(&path, &bytes)).await,
            FileChange::Truncate { file, length } => {
                let open = self.open(&file).await?;
                open.borrow_mut().tail = None;
                let dma = open.borrow().file.clone();
                dma.truncate(length).await.map_err(|error| failure(error, &file.to_string()))
            }
            FileChange::Delete { file } => {
                let open = self.open.borrow_mut().remove(&file);
                if let Some(open) = open {
                    close(open).await;
                }
                let path: Arc<str> = file.to_string().into();
                blocking(path.clone(), move || match std::fs::remove_file(&*path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    outcome => outcome,
                })
                .await
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

/// Writes `bytes` at `position`, the last page filled with zeros.
async fn write_pages(file: &DmaFile, mut position: u64, mut bytes: &[u8]) -> Result<(), GlommioError<()>> {
    while !bytes.is_empty() {
        let mut buffer = file.alloc_dma_buffer(bytes.len().next_multiple_of(PAGE_BYTES));
        let (filled, padding) = buffer.as_bytes_mut().split_at_mut(bytes.len());
        filled.copy_from_slice(bytes);
        padding.fill(0);
        let written = file.write_at(buffer, position).await?;
        if written == 0 || !written.is_multiple_of(PAGE_BYTES) && written < bytes.len() {
            return Err(io::Error::other(format!("only {written} of {} bytes were written", bytes.len())).into());
        }
        position += written as u64;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
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

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| if parent.is_empty() { "/" } else { parent })
}

fn sync_directory(path: &str) -> io::Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn sync_each(files: &[FileName], directories: &[Arc<str>]) -> io::Result<()> {
    let described = directories.iter().map(|directory| format!("{directory}/{PARTITION_METADATA}"));
    for path in files.iter().map(FileName::to_string).chain(described) {
        match File::open(path).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome?,
        }
    }
    directories.iter().try_for_each(|directory| sync_directory(directory))
}

fn sync_file_systems(files: &[FileName]) -> io::Result<()> {
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

fn create_directory(directory: &str, topic: TopicId) -> io::Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::write(format!("{directory}/{PARTITION_METADATA}"), format!("version: 0\ntopic_id: {topic}\n"))
}

fn delete_directory(directory: &str) -> io::Result<()> {
    for attempt in 0u32.. {
        let aside = format!("{directory}.{:08x}{attempt:08x}{DELETED_SUFFIX}", std::process::id());
        if Path::new(&aside).exists() {
            continue;
        }
        return match std::fs::rename(directory, &aside) {
            Ok(()) => {
                sync_directory(parent(directory))?;
                std::fs::remove_dir_all(&aside)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
    }
    Ok(())
}

/// The whole content of a small file: either the old or the new one is there, whenever the power goes.
pub fn replace(path: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!("{path}.tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)?;
        sync_directory(parent(path))
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::FileKind;
    use crate::types::Uuid;

    struct Bench {
        directory: tempfile::TempDir,
        background: Background,
        next: u64,
    }

    impl Bench {
        fn new(open_files_max: usize) -> Bench {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let background = Background::start(None, open_files_max, Doorbell::new().expect("an eventfd"));
            Bench { directory, background: background.expect("io_uring is allowed here"), next: 0 }
        }

        fn partition(&self, name: &str) -> Arc<str> {
            format!("{}/{name}", self.directory.path().display()).into()
        }

        fn segment(&self, name: &str) -> FileName {
            FileName { directory: self.partition(name), base_offset: 0, kind: FileKind::Log }
        }

        fn id(&mut self) -> OperationId {
            self.next += 1;
            OperationId(self.next)
        }

        fn change(&mut self, change: FileChange) -> OperationId {
            let id = self.id();
            self.background.change(id, change);
            id
        }

        fn create(&mut self, name: &str) -> OperationId {
            let directory = self.partition(name);
            self.change(FileChange::CreateDirectory { directory, topic: Uuid::from_random(7) })
        }

        fn write(&mut self, name: &str, position: u64, bytes: Vec<Bytes>) -> OperationId {
            let (id, file) = (self.id(), self.segment(name));
            self.background.write(id, file, position, bytes);
            id
        }

        fn finish(&mut self) -> Vec<Outcome> {
            let mut outcomes = Vec::new();
            while !self.background.is_quiet() {
                self.background.flush();
                assert!(!self.background.outcomes.is_abandoned(), "the executor died");
                outcomes.extend(std::iter::from_fn(|| self.background.take_outcome()));
                std::thread::yield_now();
            }
            outcomes
        }
    }

    fn pattern(length: usize, seed: usize) -> Bytes {
        (0..length).map(|i| ((i + seed) % 251) as u8).collect::<Vec<_>>().into()
    }

    #[test]
    fn writes_of_any_length_make_one_file_without_a_gap() {
        for open_files_max in [1, 8] {
            let mut bench = Bench::new(open_files_max);
            let mut expected = Vec::new();
            bench.create("a-0");
            bench.create("b-0");
            for (seed, length) in [1, 4095, 4096, 5000, 100, 700_000, 3].into_iter().enumerate() {
                let bytes = pattern(length, seed);
                let parts = vec![bytes.slice(..length / 3), bytes.slice(length / 3..)];
                bench.write("a-0", expected.len() as u64, parts);
                // With one open file the page of the last end has to be read again.
                bench.write("b-0", 0, vec![Bytes::from_static(b"elsewhere")]);
                expected.extend_from_slice(&bytes);
                let outcomes = bench.finish();
                assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
            }
            let file = bench.segment("a-0");
            bench.change(FileChange::Truncate { file: file.clone(), length: expected.len() as u64 });
            bench.change(FileChange::Sync { files: vec![file.clone()] });
            assert!(bench.finish().iter().all(|(_, outcome)| outcome.is_ok()));
            assert!(std::fs::read(file.to_string()).expect("the file") == expected);
            let metadata = std::fs::read_to_string(format!("{}/partition.metadata", file.directory)).expect("written");
            assert_eq!(metadata, format!("version: 0\ntopic_id: {}\n", Uuid::from_random(7)));
        }
    }

    #[test]
    fn changes_of_one_directory_keep_their_order_and_a_sync_comes_after_all_before_it() {
        let mut bench = Bench::new(4);
        let mut order = Vec::new();
        for name in ["a-0", "b-0"] {
            order.push(bench.create(name));
            order.push(bench.write(name, 0, vec![pattern(10_000, 1)]));
        }
        let files = vec![bench.segment("a-0"), bench.segment("b-0")];
        let sync = bench.change(FileChange::Sync { files });
        let directory = bench.partition("a-0");
        let delete = bench.change(FileChange::DeleteDirectory { directory: directory.clone() });
        let again = bench.create("a-0");
        let outcomes = bench.finish();
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
        let place = |id| outcomes.iter().position(|(other, _)| *other == id).expect("reported once");
        assert!(order.iter().all(|id| place(*id) < place(sync)));
        assert!(place(order[1]) < place(delete) && place(delete) < place(again));
        let left: Vec<_> = std::fs::read_dir(&*directory).expect("created again").collect();
        assert_eq!(left.len(), 1, "only partition.metadata");
        assert_eq!(
            std::fs::read_dir(bench.directory.path()).expect("the parent").count(),
            2,
            "nothing set aside is left"
        );
    }

    #[test]
    fn deleting_what_is_not_there_is_fine_and_writing_where_no_directory_is_tells_so() {
        let mut bench = Bench::new(4);
        let file = bench.segment("a-0");
        bench.change(FileChange::Delete { file: file.clone() });
        let directory = file.directory.clone();
        bench.change(FileChange::DeleteDirectory { directory });
        bench.change(FileChange::Sync { files: vec![file] });
        assert!(bench.finish().iter().all(|(_, outcome)| outcome.is_ok()));
        bench.write("a-0", 0, vec![pattern(10, 0)]);
        assert_eq!(bench.finish()[0].1, Err(FileError::NotFound));
        bench.create("a-0");
        bench.write("a-0", 8192, vec![pattern(10, 0)]);
        bench.write("a-0", 100, vec![pattern(10, 0)]);
        let outcomes = bench.finish();
        assert!(matches!(&outcomes[2].1, Ok(()) | Err(FileError::Failed(_))), "{outcomes:?}");
    }

    #[test]
    fn many_files_are_synced_at_once_and_more_operations_than_the_ring_holds_all_end() {
        let mut bench = Bench::new(16);
        let names: Vec<String> = (0..100).map(|i| format!("t-{i}")).collect();
        for name in &names {
            bench.create(name);
            for i in 0..60 {
                bench.write(name, i * 8, vec![pattern(8, i as usize)]);
            }
        }
        let files = names.iter().map(|name| bench.segment(name)).collect();
        bench.change(FileChange::Sync { files });
        let outcomes = bench.finish();
        assert_eq!(outcomes.len(), 100 * 61 + 1);
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    }

    #[test]
    fn a_small_file_is_replaced_whole() {
        let mut bench = Bench::new(1);
        let path = bench.partition("checkpoint-0");
        for content in ["first", "the second"] {
            bench.change(FileChange::Replace { path: path.clone(), bytes: Bytes::from_static(content.as_bytes()) });
            assert!(bench.finish()[0].1.is_ok());
            assert_eq!(std::fs::read_to_string(&*path).expect("there"), content);
        }
        assert_eq!(std::fs::read_dir(bench.directory.path()).expect("the parent").count(), 1);
    }
}
