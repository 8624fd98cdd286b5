//! One io_uring: what is submitted carries a `Token`, what completes brings it back. Owned by the reactor of its core and
//! used by that thread alone. It knows nothing of sockets or files.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{Builder, IoUring, cqueue, squeue};

use super::memory::AlignedBuffer;

/// Which operation a completion belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    /// The doorbell's eventfd was read.
    Doorbell,
    /// Another thread's message: look into the inboxes.
    Woken,
    /// A connection came in at this listener.
    Accept(u32),
    /// Bytes for this connection slot.
    Receive(u32),
    /// Bytes left this connection slot.
    Send(u32),
    /// A journal write of this place in the commit queue.
    CommitWrite(u32),
    /// The flush linked to that write.
    CommitFlush(u32),
    /// The file of this read is open.
    Open(u32),
    /// The bytes of this read are there.
    Read(u32),
}

impl Token {
    pub fn pack(self) -> u64 {
        let (kind, index) = match self {
            Token::Doorbell => (0u64, 0),
            Token::Accept(index) => (1, index),
            Token::Receive(index) => (2, index),
            Token::Send(index) => (3, index),
            Token::CommitWrite(index) => (4, index),
            Token::CommitFlush(index) => (5, index),
            Token::Open(index) => (6, index),
            Token::Read(index) => (7, index),
            Token::Woken => (8, 0),
        };
        kind << 32 | u64::from(index)
    }

    fn unpack(user_data: u64) -> Token {
        let index = user_data as u32;
        match user_data >> 32 {
            0 => Token::Doorbell,
            1 => Token::Accept(index),
            2 => Token::Receive(index),
            3 => Token::Send(index),
            4 => Token::CommitWrite(index),
            5 => Token::CommitFlush(index),
            6 => Token::Open(index),
            7 => Token::Read(index),
            8 => Token::Woken,
            kind => unreachable!("the kernel returns the user data it was given, not {kind}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Completion {
    pub token: Token,
    /// As a system call returns it: a count, or an error number negated.
    pub result: i32,
    flags: u32,
}

impl Completion {
    pub fn error(&self) -> Option<io::Error> {
        (self.result < 0).then(|| io::Error::from_raw_os_error(-self.result))
    }

    /// A multishot operation goes on.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer of the group that the kernel chose.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// More bytes wait in the socket already.
    pub fn socket_has_more(&self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }
}

pub struct Ring {
    ring: IoUring,
    enters: u64,
}

impl Ring {
    /// Must be called on the thread that will use the ring. Flags an older kernel does not know are left out one by one.
    pub fn new(entries: u32) -> io::Result<Ring> {
        let ladder: [fn(&mut Builder); 4] = [
            |b| {
                b.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
            },
            |b| {
                b.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
            },
            |b| {
                b.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
            },
            |_| {},
        ];
        let mut refusal = None;
        for flags in ladder {
            let mut builder = IoUring::builder();
            builder.dontfork().setup_clamp().setup_cqsize(entries.saturating_mul(8));
            flags(&mut builder);
            match builder.build(entries) {
                Ok(ring) => return Ok(Ring { ring, enters: 0 }),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refusal.expect("the ladder has a step"))
    }

    /// For messages from other rings.
    pub fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// How often the kernel was entered.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// Queues an operation; it starts with the next `wait`, or at once when the queue is full.
    ///
    /// # Safety
    /// All memory and descriptors the entry names must stay valid and unmoved until its completion is taken.
    pub unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.pack());
        loop {
            // SAFETY: the caller keeps what the entry names valid.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit();
        }
    }

    /// Two operations, the second starting only if the first succeeded whole. They must not be torn apart by a full queue.
    ///
    /// # Safety
    /// As for `push`, for both.
    pub unsafe fn push_linked(&mut self, first: (squeue::Entry, Token), second: (squeue::Entry, Token)) {
        let pair =
            [first.0.flags(squeue::Flags::IO_LINK).user_data(first.1.pack()), second.0.user_data(second.1.pack())];
        loop {
            // SAFETY: the caller keeps what the entries name valid.
            if unsafe { self.ring.submission().push_multiple(&pair) }.is_ok() {
                return;
            }
            self.submit();
        }
    }

    fn submit(&mut self) {
        self.enters += 1;
        if let Err(error) = self.ring.submit() {
            check(error, "submit");
        }
    }

    /// Starts all that was queued and waits for a completion, at most as long as `timeout` says; zero only looks.
    pub fn wait(&mut self, timeout: Option<Duration>) {
        self.enters += 1;
        let outcome = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(Duration::ZERO) => self.ring.submit(),
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        if let Err(error) = outcome {
            check(error, "wait");
        }
    }

    /// Takes what has completed, at most `limit`, into `completions`.
    pub fn take(&mut self, limit: usize, completions: &mut Vec<Completion>) {
        completions.extend(self.ring.completion().take(limit).map(|entry| Completion {
            token: Token::unpack(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Something is completed and not yet taken.
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }
}

/// Time-outs, signals and a full completion queue are part of waiting; anything else means the ring was used wrongly.
fn check(error: io::Error, doing: &str) {
    match error.raw_os_error() {
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
        _ => panic!("io_uring refused to {doing}: {error}"),
    }
}

/// A pool of equal buffers from which the kernel takes one only when bytes have arrived, so that an idle connection holds none.
pub struct BufferGroup {
    id: u16,
    entries: AlignedBuffer,
    buffers: AlignedBuffer,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl BufferGroup {
    /// `count` is a power of two. The group must outlive every receive that names it.
    pub fn register(ring: &Ring, id: u16, count: u16, buffer_bytes: usize) -> io::Result<BufferGroup> {
        assert!(count.is_power_of_two());
        let mut group = BufferGroup {
            id,
            entries: AlignedBuffer::new(usize::from(count) * size_of::<BufRingEntry>()),
            buffers: AlignedBuffer::new(usize::from(count) * buffer_bytes),
            count,
            buffer_bytes,
            tail: 0,
        };
        // SAFETY: `entries` is page-aligned, of `count` entries, and lives as long as the group does.
        unsafe {
            ring.ring.submitter().register_buf_ring_with_flags(group.entries.as_ptr() as u64, count, id, 0)?;
        }
        for buffer in 0..count {
            group.give_back(buffer);
        }
        Ok(group)
    }

    pub fn id(&self) -> u16 {
        self.id
    }

    /// The first `length` bytes of a buffer that a completion named.
    pub fn bytes(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(buffer < self.count && length <= self.buffer_bytes);
        let start = usize::from(buffer) * self.buffer_bytes;
        &self.buffers[start..start + length]
    }

    /// The kernel may fill this buffer again.
    pub fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let address = self.buffers.as_ptr() as u64 + u64::from(buffer) * self.buffer_bytes as u64;
        let base = self.entries.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: the index is below `count`, and an entry at or behind the tail belongs to us until the tail moves past it.
        unsafe {
            let entry = &mut *base.add(usize::from(self.tail & (self.count - 1)));
            entry.set_addr(address);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies inside the first entry, aligned for u16; the kernel reads it with acquire order.
        unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) }.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        for token in [
            Token::Doorbell,
            Token::Woken,
            Token::Accept(3),
            Token::Receive(u32::MAX),
            Token::Send(0),
            Token::CommitWrite(7),
            Token::CommitFlush(8),
            Token::Open(9),
            Token::Read(10),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }

    #[test]
    fn more_operations_than_the_queue_holds_all_complete() {
        let mut ring = Ring::new(4).expect("io_uring is allowed here");
        for index in 0..20 {
            // SAFETY: a no-op names no memory.
            unsafe { ring.push(io_uring::opcode::Nop::new().build(), Token::Send(index)) };
        }
        let mut done = Vec::new();
        while done.len() < 20 {
            ring.wait(None);
            ring.take(7, &mut done);
        }
        let tokens: Vec<Token> = done.iter().map(|completion| completion.token).collect();
        assert_eq!(tokens, (0..20).map(Token::Send).collect::<Vec<_>>());
    }
}
