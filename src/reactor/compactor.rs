//! The thread on which one core's compaction decompresses, looks keys up and compresses: beside the reactor, at a low
//! priority, so that a client's turn never waits for it. Started by the first compaction. It touches no file.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use rtrb::Consumer;

use super::doorbell::Doorbell;
use super::exit_at_once;
use super::mesh::Outbox;
use crate::shard::{Compaction, Event, OperationId};

/// As `nice` counts: the scheduler gives a thread of this kind what others leave, and always a little.
const NICENESS: libc::c_int = 15;
/// A shard compacts one log at a time.
const OUTCOMES_MAX: usize = 4;

type Order = (OperationId, Box<Compaction>, Bytes);
type Outcome = (OperationId, Box<Compaction>);

/// The reactor's end.
pub struct Compactor {
    doorbell: Doorbell,
    thread: Option<(Sender<Order>, Consumer<Outcome>)>,
    outstanding: usize,
}

impl Compactor {
    pub fn new(doorbell: Doorbell) -> Compactor {
        Compactor { doorbell, thread: None, outstanding: 0 }
    }

    pub fn begin(&mut self, operation: OperationId, compaction: Box<Compaction>, bytes: Bytes) {
        self.outstanding += 1;
        let (orders, _) = self.thread.get_or_insert_with(|| start(self.doorbell.clone()));
        orders.send((operation, compaction, bytes)).expect("the thread ends with this end, or the process with it");
    }

    pub fn take_outcome(&mut self) -> Option<Event> {
        let (operation, compaction) = self.thread.as_mut()?.1.pop().ok()?;
        self.outstanding -= 1;
        Some(Event::Compacted { operation, compaction })
    }

    pub fn has_outcomes(&self) -> bool {
        self.thread.as_ref().is_some_and(|(_, outcomes)| !outcomes.is_empty())
    }

    pub fn is_quiet(&self) -> bool {
        self.outstanding == 0
    }
}

fn start(doorbell: Doorbell) -> (Sender<Order>, Consumer<Outcome>) {
    let (orders, inbox) = channel();
    let (outbox, outcomes) = Outbox::new(OUTCOMES_MAX, doorbell);
    let thread = std::thread::Builder::new().name("gannet-compact".into());
    if let Err(error) = thread.spawn(move || work(&inbox, outbox)) {
        exit_at_once(&format!("compaction cannot start its thread: {error}. See ulimit -u and the service's TasksMax"));
    }
    (orders, outcomes)
}

fn work(inbox: &Receiver<Order>, mut outbox: Outbox<Outcome>) {
    // SAFETY: plain numbers; on Linux, 0 is the calling thread.
    let lowered = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    if lowered != 0 {
        let error = io::Error::last_os_error();
        tracing::warn!("compaction runs at the priority of clients' work: setpriority: {error}");
    }
    while let Ok((operation, mut compaction, bytes)) = inbox.recv() {
        compaction.take(&bytes);
        outbox.push((operation, compaction));
        outbox.flush();
    }
}
