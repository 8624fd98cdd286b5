//! The machine lives here. One `Reactor` per core, on a thread of its own: it turns sockets, disks and mailboxes into
//! events for its shard and performs the shard's effects. It decides nothing about Kafka. The only room with `unsafe`.

mod accept;
mod admission;
mod background;
mod clock;
mod commit;
mod compactor;
mod connection;
mod decide;
mod disk;
mod doorbell;
#[cfg(test)]
mod echo;
mod files;
mod limits;
mod listen;
mod lru;
mod memory;
mod mesh;
mod net;
mod probe;
mod published;
mod ring;
mod stop;
mod turn;

use std::io::Write;

pub use admission::Admission;
pub use clock::Clock;
pub use commit::{CommitMethod, JournalFile, write_durably};
pub use decide::Decide;
pub use disk::{DELETED_SUFFIX, create_directory, replace, sync_file_system};
pub use doorbell::Doorbell;
pub use limits::NetLimits;
pub use listen::{SocketOptions, listen};
pub use memory::{AlignedBuffer, PAGE_BYTES};
pub use mesh::{Mailbox, mesh};
pub use probe::{
    CommitProbe, Lack, best_method, check_io_uring, check_limits, check_log_dir, check_place, direct_file, mount_of,
    probe_commit,
};
pub use published::Published;
pub use stop::Stop;
pub use turn::{Reactor, ReactorConfig};

/// Ends the process with code 1, at once and without unwinding: nothing may be written or acknowledged after this.
pub fn exit_at_once(message: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "gannet: {message}");
    // SAFETY: ends the process; nothing is touched after it.
    unsafe { libc::_exit(1) }
}

/// Keeps the calling thread on one core. Without it the broker is slower, not wrong.
pub fn pin_to(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut set = nix::sched::CpuSet::new();
    let pinned = set.set(core).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::warn!("cannot keep a thread on core {core}: {error}");
    }
}
