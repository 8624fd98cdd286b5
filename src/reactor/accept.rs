//! The listening sockets of one core: accepts are kept armed, and rest while the process has no room for connections.
//! Owned by `net`; it opens what is accepted.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::{opcode, types};

use super::ring::{Completion, Ring, Token};
use crate::types::{Deadline, Time};

/// How long accepting rests when the process has no descriptor or memory left.
const PAUSE_MS: u64 = 500;

pub struct Listeners {
    listeners: Vec<Listener>,
    accepting: bool,
    short_of_descriptors: bool,
}

struct Listener {
    socket: OwnedFd,
    /// An accept is in the kernel.
    armed: bool,
    multishot: bool,
    /// Accepting rests until then.
    paused_until: Deadline,
}

impl Listeners {
    pub fn new(sockets: Vec<OwnedFd>) -> Listeners {
        let listener = |socket| Listener { socket, armed: false, multishot: true, paused_until: 0 };
        let listeners = sockets.into_iter().map(listener).collect();
        Listeners { listeners, accepting: true, short_of_descriptors: false }
    }

    pub fn is_accepting(&self) -> bool {
        self.accepting
    }

    /// Takes no more connections.
    pub fn stop(&mut self) {
        self.accepting = false;
        for listener in &self.listeners {
            // SAFETY: the descriptor is ours and open; a pending accept ends with an error.
            unsafe { libc::shutdown(listener.socket.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }

    /// The ring holds nothing of any of them.
    pub fn is_disarmed(&self) -> bool {
        self.listeners.iter().all(|listener| !listener.armed)
    }

    /// When one that rests may go on.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let paused = |listener: &Listener| (self.accepting && !listener.armed).then_some(listener.paused_until);
        self.listeners.iter().filter_map(paused).min()
    }

    pub fn arm(&mut self, ring: &mut Ring, now: Time) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.armed || !self.accepting || now.monotonic_us < listener.paused_until {
                continue;
            }
            listener.armed = true;
            let (fd, flags, null) = (types::Fd(listener.socket.as_raw_fd()), libc::SOCK_CLOEXEC, std::ptr::null_mut());
            let entry = match listener.multishot {
                true => opcode::AcceptMulti::new(fd).flags(flags).build(),
                false => opcode::Accept::new(fd, null, null.cast()).flags(flags).build(),
            };
            // SAFETY: names no memory; the listening socket lives as long as the reactor.
            unsafe { ring.push(entry, Token::Accept(index as u32)) };
        }
    }

    /// The socket that came in; `live` says how many there are.
    pub fn on_accept(&mut self, index: u32, completion: Completion, now: Time, live: usize) -> Option<OwnedFd> {
        let listener = &mut self.listeners[index as usize];
        listener.armed = completion.more();
        if completion.result >= 0 {
            self.short_of_descriptors = false;
            // SAFETY: the kernel just made this descriptor for us.
            return Some(unsafe { OwnedFd::from_raw_fd(completion.result) });
        }
        match -completion.result {
            libc::EINVAL if self.accepting && listener.multishot => listener.multishot = false,
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
                listener.paused_until = now.after_ms(PAUSE_MS);
                if !std::mem::replace(&mut self.short_of_descriptors, true) {
                    let error = io::Error::from_raw_os_error(-completion.result);
                    tracing::error!(
                        connections = live,
                        "cannot accept connections: {error}; those that exist go on. Raise the limit of open files (ulimit -n, or LimitNOFILE= of the service)"
                    );
                }
            }
            // The peer gave up while it waited, or we are stopping.
            _ => listener.paused_until = now.after_ms(1),
        }
        None
    }
}
