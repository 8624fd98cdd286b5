//! How another thread wakes a sleeping reactor: an eventfd that the reactor reads through its ring, written only when it sleeps.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use io_uring::{opcode, types};

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
        // Pairs with the fence in `about_to_sleep`: either we see that it sleeps, or it sees what we left.
        fence(Ordering::SeqCst);
        if self.0.sleeping.load(Ordering::Relaxed) && self.0.sleeping.swap(false, Ordering::Relaxed) {
            self.0.rung.fetch_add(1, Ordering::Relaxed);
            self.end_read();
        }
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
