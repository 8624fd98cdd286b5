//! How another thread wakes a sleeping reactor: an eventfd that the reactor reads through its ring, written only when it sleeps.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use io_uring::{IoUring, opcode, types};

use super::ring::{Ring, Token};

/// The outer half, for everyone who leaves something in a reactor's inbox: first leave it, then ring.
#[derive(Clone)]
pub struct Doorbell(Arc<Shared>);

struct Shared {
    eventfd: OwnedFd,
    sleeping: AtomicBool,
    rung: AtomicU64,
}

impl Doorbell {
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: no memory is passed; a valid descriptor or -1 returns.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fresh, and owned by nobody else.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Doorbell(Arc::new(Shared { eventfd, sleeping: AtomicBool::new(false), rung: AtomicU64::new(0) })))
    }

    /// Costs a load when the reactor is awake; it will look into its inboxes before it sleeps.
    pub fn ring(&self) {
        if self.must_wake() {
            self.end_read();
        }
    }

    /// The reactor sleeps and nobody else has undertaken to wake it.
    fn must_wake(&self) -> bool {
        // Pairs with the fence in `about_to_sleep`: either we see that it sleeps, or it sees what we left.
        fence(Ordering::SeqCst);
        let must = self.0.sleeping.load(Ordering::Relaxed) && self.0.sleeping.swap(false, Ordering::Relaxed);
        self.0.rung.fetch_add(u64::from(must), Ordering::Relaxed);
        must
    }

    /// Ends the read in the ring, asleep or not.
    fn end_read(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of our own. It can only fail when the counter is at its maximum, and then the reader wakes anyway.
        unsafe { libc::write(self.0.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// How often a sleeper had to be woken.
    pub fn rung(&self) -> u64 {
        self.0.rung.load(Ordering::Relaxed)
    }
}

/// Rings by a message from ring to ring, which lands among the sleeper's completions: that spares it the read of an
/// eventfd and its next arming. For a thread that does little else; made on that thread.
pub struct Messenger {
    doorbell: Doorbell,
    sleeper: RawFd,
    /// None where the kernel does not do it.
    ring: Option<IoUring>,
}

impl Messenger {
    /// `sleeper` is the reactor's ring, which must outlive this.
    pub fn new(doorbell: Doorbell, sleeper: RawFd) -> Messenger {
        Messenger { doorbell, sleeper, ring: IoUring::new(2).ok() }
    }

    pub fn ring(&mut self) {
        if self.doorbell.must_wake() && !self.send() {
            self.ring = None;
            self.doorbell.end_read();
        }
    }

    fn send(&mut self) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        let message = opcode::MsgRingData::new(types::Fd(self.sleeper), 0, Token::Woken.pack(), None).build();
        // SAFETY: the message names no memory, and the sleeper's ring is open as long as this.
        if unsafe { ring.submission().push(&message) }.is_err() || ring.submit_and_wait(1).is_err() {
            return false;
        }
        ring.completion().all(|entry| entry.result() >= 0)
    }
}

/// The inner half: owned by the reactor that sleeps.
pub struct Bedside {
    doorbell: Doorbell,
    /// Where the ring's read puts the counter. Boxed, so that its address stays.
    counter: Box<[u8; 8]>,
    armed: bool,
}

impl Bedside {
    pub fn new(doorbell: Doorbell) -> Bedside {
        Bedside { doorbell, counter: Box::new([0; 8]), armed: false }
    }

    /// Keeps a read of the eventfd in the ring.
    pub fn arm(&mut self, ring: &mut Ring) {
        if self.armed {
            return;
        }
        self.armed = true;
        let fd = types::Fd(self.doorbell.0.eventfd.as_raw_fd());
        // SAFETY: counter and descriptor live as long as the reactor, which outlives its ring's operations.
        unsafe { ring.push(opcode::Read::new(fd, self.counter.as_mut_ptr(), 8).build(), Token::Doorbell) };
    }

    pub fn on_rung(&mut self) {
        self.armed = false;
    }

    /// Nothing of this is in the ring any more; if something is, it ends soon.
    pub fn is_disarmed(&self) -> bool {
        if self.armed {
            self.doorbell.end_read();
        }
        !self.armed
    }

    /// From here on a peer that leaves something rings. Look into every inbox after this, and only then sleep.
    pub fn about_to_sleep(&self) {
        self.doorbell.0.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub fn awake(&self) {
        self.doorbell.0.sleeping.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps in the ring until something completes there.
    fn sleep(ring: &mut Ring, bedside: &mut Bedside, ready: impl FnOnce()) -> Vec<Token> {
        bedside.arm(ring);
        bedside.about_to_sleep();
        ready();
        let mut completions = Vec::new();
        while completions.is_empty() {
            ring.wait(None);
            ring.take(8, &mut completions);
        }
        bedside.awake();
        completions.iter().map(|completion| completion.token).collect()
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let (mut ring, doorbell) =
            (Ring::new(8).expect("io_uring is allowed here"), Doorbell::new().expect("an eventfd"));
        let mut bedside = Bedside::new(doorbell.clone());
        doorbell.ring();
        assert_eq!(doorbell.rung(), 0);
        let tokens = sleep(&mut ring, &mut bedside, || (0..3).for_each(|_| doorbell.ring()));
        assert_eq!((tokens, doorbell.rung()), (vec![Token::Doorbell], 1));
    }

    #[test]
    fn a_message_wakes_as_the_doorbell_does() {
        let (mut ring, doorbell) =
            (Ring::new(8).expect("io_uring is allowed here"), Doorbell::new().expect("an eventfd"));
        let mut bedside = Bedside::new(doorbell.clone());
        let sleeper = ring.descriptor();
        let (ready, start) = std::sync::mpsc::channel();
        let theirs = doorbell.clone();
        let waker = std::thread::spawn(move || {
            let mut messenger = Messenger::new(theirs, sleeper);
            start.recv().expect("the sleeper is there");
            messenger.ring();
            messenger.ring();
        });
        let tokens = sleep(&mut ring, &mut bedside, || ready.send(()).expect("the other waits"));
        waker.join().expect("no panic");
        assert!(tokens == [Token::Woken] || tokens == [Token::Doorbell], "{tokens:?}");
        assert_eq!(doorbell.rung(), 1);
    }
}
