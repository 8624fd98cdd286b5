//! Reads of segment files on the reactor's own ring, past the page cache, in pieces that take turns. Owned by the core's
//! reactor; writing is `background`'s.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use bytes::Bytes;
use io_uring::{opcode, types};

use super::lru::Lru;
use super::memory::{BufferPool, PAGE_BYTES, PooledBuffer, whole_pages};
use super::ring::{Completion, Ring, Token};
use crate::shard::{Event, FileError, FileName, OperationId};
use crate::types::Time;

/// What the device is asked for at once: it takes this long to read what a small write must wait for.
const PIECE_BYTES: usize = 512 << 10;
/// Pieces at the device at once while nobody waits for a commit.
const PIECES_MAX: usize = 8;
/// The same beside commits. With two, the device always has a read at hand, which I/O schedulers prefer to a write
/// (mq-deadline held each durable write up for 45 ms); one alone has read as fast as many.
const PIECES_BESIDE_COMMITS: usize = 1;
/// Commits are at work until so long after the last began.
const COMMITS_LINGER_US: u64 = 100_000;

/// What the operating system answered, in the shard's words.
pub fn file_error(error: &io::Error, file: &str) -> FileError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => FileError::NoSpace,
        Some(libc::ENOENT) => FileError::NotFound,
        _ => FileError::Failed(format!("{file}: {error}")),
    }
}

pub struct Reads {
    open: Lru<FileName, Rc<OwnedFd>>,
    under_way: Vec<Option<Reading>>,
    free: Vec<u32>,
    pool: BufferPool,
    /// Readings whose next piece waits for its turn.
    waiting: VecDeque<u32>,
    pieces: usize,
    commits_until_us: u64,
}

struct Reading {
    operation: OperationId,
    file: FileName,
    path: CString,
    /// In the file; the buffer begins at the page below it.
    position: u64,
    length: usize,
    /// Some file systems in memory have no direct I/O.
    direct: bool,
    descriptor: Option<Rc<OwnedFd>>,
    buffer: PooledBuffer,
    /// Of the buffer, so much is read, in whole pages.
    wanted: usize,
    filled: usize,
}

impl Reading {
    fn start(&self) -> u64 {
        self.position - self.position % PAGE_BYTES as u64
    }

    fn finish(self) -> Event {
        let before = (self.position - self.start()) as usize;
        let end = self.filled.min(before + self.length);
        let bytes = match end > before {
            true => Bytes::from_owner(self.buffer).slice(before..end),
            false => Bytes::new(),
        };
        Event::Read { operation: self.operation, bytes: Ok(bytes) }
    }
}

impl Reads {
    pub fn new(open_files_max: usize) -> Reads {
        Reads {
            open: Lru::new(open_files_max),
            under_way: Vec::new(),
            free: Vec::new(),
            pool: BufferPool::default(),
            waiting: VecDeque::new(),
            pieces: 0,
            commits_until_us: 0,
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.free.len() == self.under_way.len()
    }

    /// A commit begins: reads leave it room on the device.
    pub fn on_commit(&mut self, now: Time) {
        self.commits_until_us = now.monotonic_us + COMMITS_LINGER_US;
    }

    pub fn begin(
        &mut self,
        ring: &mut Ring,
        now: Time,
        operation: OperationId,
        file: FileName,
        position: u64,
        length: u32,
    ) {
        let path = CString::new(file.to_string()).expect("names of partitions hold no zero byte");
        let before = (position % PAGE_BYTES as u64) as usize;
        let wanted = whole_pages(before + length as usize);
        let buffer = self.pool.take(wanted);
        let descriptor = self.open.get(&file).cloned();
        let length = length as usize;
        let reading =
            Reading { operation, file, path, position, length, direct: true, descriptor, buffer, wanted, filled: 0 };
        let index = self.free.pop().unwrap_or_else(|| {
            self.under_way.push(None);
            (self.under_way.len() - 1) as u32
        });
        self.under_way[index as usize] = Some(reading);
        self.go_on(ring, now, index);
    }

    fn go_on(&mut self, ring: &mut Ring, now: Time, index: u32) {
        let reading = self.under_way[index as usize].as_mut().expect("under way");
        if reading.descriptor.is_none() {
            let direct = if reading.direct { libc::O_DIRECT } else { 0 };
            let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), reading.path.as_ptr())
                .flags(libc::O_RDONLY | libc::O_CLOEXEC | direct)
                .build();
            // SAFETY: the path's heap memory stays in `under_way` until the completion.
            unsafe { ring.push(entry, Token::Open(index)) };
            return;
        }
        self.waiting.push_back(index);
        self.start_pieces(ring, now);
    }

    fn start_pieces(&mut self, ring: &mut Ring, now: Time) {
        let beside_commits = now.monotonic_us < self.commits_until_us;
        let pieces_max = if beside_commits { PIECES_BESIDE_COMMITS } else { PIECES_MAX };
        while self.pieces < pieces_max
            && let Some(index) = self.waiting.pop_front()
        {
            self.pieces += 1;
            self.start_piece(ring, index);
        }
    }

    fn start_piece(&mut self, ring: &mut Ring, index: u32) {
        let reading = self.under_way[index as usize].as_mut().expect("under way");
        let descriptor = reading.descriptor.as_ref().expect("opened before it waited");
        let rest = &mut reading.buffer[reading.filled..reading.wanted];
        let length = rest.len().min(PIECE_BYTES) as u32;
        let entry = opcode::Read::new(types::Fd(descriptor.as_raw_fd()), rest.as_mut_ptr(), length)
            .offset(reading.position - reading.position % PAGE_BYTES as u64 + reading.filled as u64)
            .build();
        // SAFETY: buffer and descriptor stay in `under_way` until the completion.
        unsafe { ring.push(entry, Token::Read(index)) };
    }

    /// An `Open` or `Read` completion; the event if the read has ended.
    pub fn on_completion(&mut self, ring: &mut Ring, now: Time, index: u32, completion: Completion) -> Option<Event> {
        self.pieces -= usize::from(matches!(completion.token, Token::Read(_)));
        let event = self.advance(ring, now, index, completion);
        self.start_pieces(ring, now);
        event
    }

    fn advance(&mut self, ring: &mut Ring, now: Time, index: u32, completion: Completion) -> Option<Event> {
        let reading = self.under_way[index as usize].as_mut().expect("completed once");
        let again = matches!(-completion.result, libc::EINTR | libc::EAGAIN);
        match completion.error() {
            Some(_) if again => {}
            Some(error) if error.raw_os_error() == Some(libc::EINVAL) && reading.direct => {
                reading.direct = false;
                reading.descriptor = None;
                self.open.remove(&reading.file);
            }
            Some(error) => {
                let bytes = Err(file_error(&error, &reading.file.to_string()));
                let operation = reading.operation;
                self.end(index);
                return Some(Event::Read { operation, bytes });
            }
            None if matches!(completion.token, Token::Open(_)) => {
                // SAFETY: the kernel just made this descriptor for us.
                let descriptor = Rc::new(unsafe { OwnedFd::from_raw_fd(completion.result) });
                self.open.insert(reading.file.clone(), descriptor.clone());
                reading.descriptor = Some(descriptor);
            }
            None => {
                let count = completion.result as usize;
                reading.filled += count;
                // The file ends where a read returns nothing or no whole pages.
                if reading.filled == reading.wanted || count == 0 || !count.is_multiple_of(PAGE_BYTES) {
                    return self.end(index).map(Reading::finish);
                }
            }
        }
        self.go_on(ring, now, index);
        None
    }

    fn end(&mut self, index: u32) -> Option<Reading> {
        self.free.push(index);
        self.under_way[index as usize].take()
    }

    /// A file is about to be deleted or replaced: its space is free, and the new one seen, only when nobody holds it open.
    pub fn forget_file(&mut self, file: &FileName) {
        self.open.remove(file);
    }

    /// The same for all of a directory, whose name may soon mean another one.
    pub fn forget_directory(&mut self, directory: &str) {
        self.open.remove_if(|file| &*file.directory == directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::FileKind;

    fn read(
        reads: &mut Reads,
        ring: &mut Ring,
        file: &FileName,
        position: u64,
        length: u32,
    ) -> Result<Bytes, FileError> {
        reads.begin(ring, Time::default(), OperationId(7), file.clone(), position, length);
        let mut completions = Vec::new();
        loop {
            ring.wait(None);
            ring.take(8, &mut completions);
            for completion in completions.drain(..) {
                let (Token::Open(index) | Token::Read(index)) = completion.token else { panic!() };
                if let Some(event) = reads.on_completion(ring, Time::default(), index, completion) {
                    let Event::Read { operation: OperationId(7), bytes } = event else { panic!("{event:?}") };
                    return bytes;
                }
            }
        }
    }

    #[test]
    fn a_read_returns_exactly_the_range_or_what_the_file_has_of_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let content: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        let name: std::sync::Arc<str> = directory.path().to_string_lossy().into();
        let file = FileName { directory: name, base_offset: 0, kind: FileKind::Log };
        std::fs::write(file.to_string(), &content).expect("written");
        let (mut ring, mut reads) = (Ring::new(8).expect("io_uring is allowed here"), Reads::new(1));
        for (position, length) in [(0, 1), (0, 4096), (4095, 2), (1, 19_999), (19_000, 5000), (20_000, 10), (90_000, 1)]
        {
            let start = (position as usize).min(content.len());
            let end = (start + length as usize).min(content.len());
            let bytes = read(&mut reads, &mut ring, &file, position, length).expect("readable");
            assert_eq!(bytes, content[start..end], "{length} bytes at {position}");
        }
        assert!(reads.is_quiet());
        reads.forget_directory(&file.directory);
        std::fs::remove_file(file.to_string()).expect("removed");
        assert_eq!(read(&mut reads, &mut ring, &file, 0, 1), Err(FileError::NotFound));
    }

    /// Which reads ended, with their lengths, in order.
    fn finish(reads: &mut Reads, ring: &mut Ring, now: Time, pieces_max: usize) -> Vec<(OperationId, usize)> {
        let (mut completions, mut ended) = (Vec::new(), Vec::new());
        while !reads.is_quiet() {
            assert!((1..=pieces_max).contains(&reads.pieces));
            ring.wait(None);
            ring.take(8, &mut completions);
            for completion in completions.drain(..) {
                let Token::Read(index) = completion.token else { panic!("it is open") };
                if let Some(Event::Read { operation, bytes }) = reads.on_completion(ring, now, index, completion) {
                    ended.push((operation, bytes.expect("readable").len()));
                }
            }
        }
        ended
    }

    #[test]
    fn beside_commits_one_piece_is_at_the_device_and_readers_take_turns() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let name: std::sync::Arc<str> = directory.path().to_string_lossy().into();
        let file = FileName { directory: name, base_offset: 0, kind: FileKind::Log };
        std::fs::write(file.to_string(), vec![7; 4 * PIECE_BYTES]).expect("written");
        let (mut ring, mut reads) = (Ring::new(8).expect("io_uring is allowed here"), Reads::new(1));
        let now = Time::default();
        read(&mut reads, &mut ring, &file, 0, 1).expect("opened");
        reads.on_commit(now);
        reads.begin(&mut ring, now, OperationId(1), file.clone(), 0, 3 * PIECE_BYTES as u32);
        reads.begin(&mut ring, now, OperationId(2), file.clone(), 0, PIECE_BYTES as u32);
        assert_eq!((reads.pieces, reads.waiting.len()), (1, 1));
        let ended = finish(&mut reads, &mut ring, now, 1);
        assert_eq!(ended, [(OperationId(2), PIECE_BYTES), (OperationId(1), 3 * PIECE_BYTES)]);
        // Nobody commits any more: the device gets what there is.
        let later = Time { monotonic_us: COMMITS_LINGER_US, ..now };
        for operation in 0..4 {
            reads.begin(&mut ring, later, OperationId(operation), file.clone(), 0, 4096);
        }
        assert_eq!((reads.pieces, reads.waiting.len()), (4, 0));
        assert_eq!(finish(&mut reads, &mut ring, later, 4).len(), 4);
    }
}
