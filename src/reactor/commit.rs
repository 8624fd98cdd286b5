//! The durable write of the journal: one aligned copy, one write, one flush, however many partitions took part.
//! Owned by the core's reactor. A write that fails or falls short ends the process: after it nobody knows what the disk holds.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use io_uring::{opcode, types};
use rtrb::{Consumer, Producer, RingBuffer};

use super::doorbell::{Doorbell, Messenger};
use super::memory::{AlignedBuffer, PAGE_BYTES, whole_pages};
use super::ring::{Completion, Ring, Token};
use super::{exit_at_once, pin_to};
use crate::shard::CommitId;

/// How a journal write becomes durable: `gannet.commit.method`, or what the start-up probe found best.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitMethod {
    /// A thread on the reactor's core in a blocking write with RWF_DSYNC.
    Thread,
    /// RWF_DSYNC through the ring: best where the device makes single writes durable (FUA, power-loss protection).
    RingDsync,
    /// A write and a linked fdatasync through the ring.
    RingFsync,
}

impl CommitMethod {
    pub const ALL: [CommitMethod; 3] = [CommitMethod::Thread, CommitMethod::RingDsync, CommitMethod::RingFsync];
}

impl fmt::Display for CommitMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CommitMethod::Thread => "thread",
            CommitMethod::RingDsync => "ring-dsync",
            CommitMethod::RingFsync => "ring-fsync",
        })
    }
}

/// One journal file, open for direct I/O, of fixed size.
#[derive(Clone)]
pub struct JournalFile {
    pub file: Arc<File>,
    pub path: Arc<str>,
}

/// The real-time class, in the middle of its levels, as `ioprio_set` and the ring take it. An I/O scheduler with classes
/// (mq-deadline, bfq) lets it pass all else: beside a process that reads without end, a commit took 48 ms without it.
const REAL_TIME: u16 = 1 << 13 | 4;

/// Every block I/O of this thread is of the real-time class from now on. It takes CAP_SYS_NICE: without, nothing changes.
fn take_real_time() -> bool {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: a system call on three numbers; zero is the calling thread.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, libc::c_int::from(REAL_TIME)) == 0 }
}

/// The class of writes on the ring: it refuses one that may not be taken, so a thread of no other use tries first.
fn ring_priority() -> u16 {
    static MAY: OnceLock<bool> = OnceLock::new();
    let may = MAY.get_or_init(|| {
        let trial = std::thread::Builder::new().name("gannet-probe".into()).spawn(take_real_time);
        trial.is_ok_and(|trial| trial.join().unwrap_or(false))
    });
    if *may { REAL_TIME } else { 0 }
}

/// Buffers kept for reuse; a larger one is freed after its write.
const POOLED_BUFFERS_MAX: usize = 8;
const POOLED_BYTES_MAX: usize = 2 << 20;

/// One core's journal, as far as writing goes.
pub struct Commits {
    files: Vec<JournalFile>,
    backend: Backend,
    /// In the order they were issued.
    in_flight: VecDeque<Pending>,
    /// The number of `in_flight[0]`, counted from the start; with it a completion finds its place.
    first: u64,
    pool: Vec<AlignedBuffer>,
    flushes: u64,
}

enum Backend {
    Ring { fsync: bool, priority: u16 },
    Thread(CommitThread),
}

struct Pending {
    commit: CommitId,
    file: u16,
    position: u64,
    length: usize,
    /// Here while the kernel reads it; with the thread backend the thread holds it.
    buffer: Option<AlignedBuffer>,
    /// Completions still to come.
    waits_for: u8,
    started: Instant,
}

impl Commits {
    /// `in_flight_max` bounds how many commits the shard has under way.
    pub fn start(
        method: CommitMethod,
        files: Vec<JournalFile>,
        in_flight_max: usize,
        core: Option<usize>,
        ring: &Ring,
        doorbell: Doorbell,
    ) -> io::Result<Commits> {
        let backend = match method {
            CommitMethod::Thread => {
                Backend::Thread(CommitThread::start(in_flight_max, core, ring.descriptor(), doorbell)?)
            }
            CommitMethod::RingDsync => Backend::Ring { fsync: false, priority: ring_priority() },
            CommitMethod::RingFsync => Backend::Ring { fsync: true, priority: ring_priority() },
        };
        Ok(Commits { files, backend, in_flight: VecDeque::new(), first: 0, pool: Vec::new(), flushes: 0 })
    }

    /// Starts one commit. `encode` fills exactly `length` bytes, whole pages, for `position` in that journal file.
    pub fn begin(
        &mut self,
        ring: &mut Ring,
        commit: CommitId,
        file: u16,
        position: u64,
        length: usize,
        encode: impl FnOnce(&mut [u8]),
    ) {
        assert!(length > 0 && length == whole_pages(length) && position.is_multiple_of(PAGE_BYTES as u64));
        let kept = self.pool.iter().position(|buffer| buffer.len() >= length);
        let mut buffer = match kept {
            Some(index) => self.pool.swap_remove(index),
            None => AlignedBuffer::new(length.next_power_of_two().min(POOLED_BYTES_MAX).max(length)),
        };
        encode(&mut buffer[..length]);
        self.flushes += 1;
        let journal = &self.files[usize::from(file)];
        let index = (self.first + self.in_flight.len() as u64) as u32;
        let mut pending =
            Pending { commit, file, position, length, buffer: None, waits_for: 1, started: Instant::now() };
        match &mut self.backend {
            Backend::Thread(thread) => thread.write(Order { journal: journal.clone(), position, length, buffer }),
            Backend::Ring { fsync, priority } => {
                let fd = types::Fd(journal.file.as_raw_fd());
                let write = opcode::Write::new(fd, buffer.as_ptr(), length as u32).offset(position).ioprio(*priority);
                // SAFETY: the buffer stays in `in_flight` until its completions are taken; the files live as long as the reactor.
                unsafe {
                    if *fsync {
                        pending.waits_for = 2;
                        let flush = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
                        let write = (write.build(), Token::CommitWrite(index));
                        ring.push_linked(write, (flush, Token::CommitFlush(index)));
                    } else {
                        ring.push(write.rw_flags(libc::RWF_DSYNC).build(), Token::CommitWrite(index));
                    }
                }
                pending.buffer = Some(buffer);
            }
        }
        self.in_flight.push_back(pending);
    }

    /// A `CommitWrite` or `CommitFlush` completion.
    pub fn on_completion(&mut self, index: u32, completion: Completion) {
        let place = index.wrapping_sub(self.first as u32) as usize;
        let pending = &mut self.in_flight[place];
        let expected = if matches!(completion.token, Token::CommitWrite(_)) { pending.length as i32 } else { 0 };
        if completion.result != expected {
            // Of a broken pair the write tells more than the flush that was cancelled for it, and comes first.
            let error = completion.error().unwrap_or_else(|| short_write(completion.result as usize, pending.length));
            fail(&self.files[usize::from(pending.file)].path, pending.position, &error);
        }
        pending.waits_for -= 1;
    }

    /// Something completed since `take_committed` was last asked.
    pub fn has_committed(&self) -> bool {
        match &self.backend {
            Backend::Thread(thread) => thread.written.load(Ordering::Acquire) > self.first,
            Backend::Ring { .. } => self.in_flight.front().is_some_and(|pending| pending.waits_for == 0),
        }
    }

    /// The next commit that is durable with all before it, and how long it took in microseconds.
    pub fn take_committed(&mut self) -> Option<(CommitId, u64)> {
        if !self.has_committed() {
            return None;
        }
        let pending = self.in_flight.pop_front().expect("a commit ended that was under way");
        self.first += 1;
        let buffer = match &mut self.backend {
            Backend::Thread(thread) => thread.returned.pop().ok(),
            Backend::Ring { .. } => pending.buffer,
        };
        if let Some(buffer) = buffer
            && buffer.len() <= POOLED_BYTES_MAX
            && self.pool.len() < POOLED_BUFFERS_MAX
        {
            self.pool.push(buffer);
        }
        Some((pending.commit, pending.started.elapsed().as_micros() as u64))
    }

    /// Durable writes asked for since the start: each commit needs one, however much is in it.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

/// One write for the commit thread.
struct Order {
    journal: JournalFile,
    position: u64,
    length: usize,
    buffer: AlignedBuffer,
}

struct CommitThread {
    orders: Option<Producer<Order>>,
    returned: Consumer<AlignedBuffer>,
    /// Writes that are durable, counted from the start.
    written: Arc<AtomicU64>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

impl CommitThread {
    fn start(
        in_flight_max: usize,
        core: Option<usize>,
        sleeper: RawFd,
        doorbell: Doorbell,
    ) -> io::Result<CommitThread> {
        let (orders, mut inbox) = RingBuffer::<Order>::new(in_flight_max.max(1));
        let (mut returns, returned) = RingBuffer::new(in_flight_max.max(1));
        let written = Arc::new(AtomicU64::new(0));
        let count = written.clone();
        let handle = std::thread::Builder::new().name("gannet-commit".into()).spawn(move || {
            pin_to(core);
            take_real_time();
            let mut messenger = Messenger::new(doorbell, sleeper);
            loop {
                let Ok(order) = inbox.pop() else {
                    if inbox.is_abandoned() {
                        return;
                    }
                    // A wake-up between the look and this is kept, so none is missed.
                    std::thread::park();
                    continue;
                };
                if let Err(error) = write_durably(&order.journal.file, &order.buffer[..order.length], order.position) {
                    fail(&order.journal.path, order.position, &error);
                }
                // Before the count, so that whoever sees the count finds the buffer.
                let _ = returns.push(order.buffer);
                count.fetch_add(1, Ordering::Release);
                messenger.ring();
            }
        })?;
        Ok(CommitThread {
            orders: Some(orders),
            returned,
            written,
            thread: handle.thread().clone(),
            handle: Some(handle),
        })
    }

    fn write(&mut self, order: Order) {
        let orders = self.orders.as_mut().expect("present until dropped");
        assert!(orders.push(order).is_ok(), "the shard keeps to the limit of commits in flight");
        self.thread.unpark();
    }
}

impl Drop for CommitThread {
    fn drop(&mut self) {
        self.orders = None;
        self.thread.unpark();
        let _ = self.handle.take().map(JoinHandle::join);
    }
}

/// Returns when these bytes are on stable storage.
pub fn write_durably(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let position = libc::off_t::try_from(position).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    loop {
        // SAFETY: one part, which describes `bytes`; the call only reads them.
        let count = unsafe { libc::pwritev2(file.as_raw_fd(), &part, 1, position, libc::RWF_DSYNC) };
        if count == bytes.len() as isize {
            return Ok(());
        }
        if count >= 0 {
            return Err(short_write(count as usize, bytes.len()));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn short_write(written: usize, wanted: usize) -> io::Error {
    io::Error::other(format!("only {written} of {wanted} bytes were written"))
}

/// Invariant 7.
fn fail(path: &str, position: u64, error: &io::Error) -> ! {
    exit_at_once(&format!(
        "a durable write failed: {path} at position {position}: {error}. The process ends now: what the disk holds there is unknown. \
         No acknowledgement was sent for these records; clients will send them again. Check the device (dmesg, smartctl), then start again: \
         all that was acknowledged is recovered from the journal"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::reactor::doorbell::Bedside;

    fn commits(method: CommitMethod, ring: &Ring) -> (tempfile::TempDir, Commits) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("journal-0-0");
        let file = OpenOptions::new().create_new(true).write(true).open(&path).expect("a new file");
        file.set_len(1 << 20).expect("a sized file");
        let journal = JournalFile { file: Arc::new(file), path: path.to_string_lossy().into() };
        let doorbell = Doorbell::new().expect("an eventfd");
        let _ = Bedside::new(doorbell.clone());
        (directory, Commits::start(method, vec![journal], 2, None, ring, doorbell).expect("started"))
    }

    #[test]
    fn every_method_writes_what_was_encoded_and_reports_in_order() {
        for method in CommitMethod::ALL {
            let mut ring = Ring::new(16).expect("io_uring is allowed here");
            let (directory, mut commits) = commits(method, &ring);
            let (mut done, mut completions) = (Vec::new(), Vec::new());
            for round in 0..10u64 {
                for half in 0..2 {
                    let number = round * 2 + half;
                    commits
                        .begin(&mut ring, CommitId(number), 0, number * 8192, 8192, |page| page.fill(number as u8 + 1));
                }
                while commits.in_flight() > 0 {
                    ring.wait(Some(std::time::Duration::from_millis(1)));
                    ring.take(16, &mut completions);
                    for completion in completions.drain(..) {
                        let (Token::CommitWrite(index) | Token::CommitFlush(index)) = completion.token else {
                            panic!()
                        };
                        commits.on_completion(index, completion);
                    }
                    done.extend(std::iter::from_fn(|| commits.take_committed()).map(|(commit, _)| commit));
                }
            }
            assert_eq!(done, (0..20).map(CommitId).collect::<Vec<_>>(), "{method}");
            let bytes = std::fs::read(directory.path().join("journal-0-0")).expect("the file");
            for number in 0..20usize {
                assert!(
                    bytes[number * 8192..][..8192].iter().all(|byte| *byte == number as u8 + 1),
                    "{method} {number}"
                );
            }
        }
    }

    #[test]
    fn a_write_into_nothing_is_an_error_and_not_a_success() {
        let read_only = File::open("/dev/null").expect("it is everywhere");
        assert!(write_durably(&read_only, &[0; 4096], 0).is_err());
    }
}
