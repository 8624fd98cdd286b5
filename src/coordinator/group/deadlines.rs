//! What the groups of one partition wait for. A timer is not taken back when what it waits for comes: it fires, and whoever
//! set it looks whether its time has really come. So a heartbeat costs no change here.

use std::collections::BTreeSet;

use super::consumer::ConsumerTimer;
use super::{GroupId, MemberId};
use crate::types::{Deadline, Time};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// Offsets of the partition's groups may have expired; of no group in particular.
    Expiry,
    /// A classic group's rebalance has waited long enough for members to join …
    Join,
    /// … or to ask for their assignment.
    Sync,
    /// A classic member, or one that is to be, was not heard of.
    Session(MemberId),
    Consumer(ConsumerTimer),
}

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    queue: BTreeSet<(Deadline, GroupId, Timer)>,
}

impl Deadlines {
    pub fn set(&mut self, deadline: Deadline, group: GroupId, timer: Timer) {
        self.queue.insert((deadline, group, timer));
    }

    pub fn first(&self) -> Option<Deadline> {
        self.queue.first().map(|(deadline, ..)| *deadline)
    }

    /// With the time it was set for.
    pub fn take_due(&mut self, now: Time) -> Option<(Deadline, GroupId, Timer)> {
        if self.first()? > now.monotonic_us {
            return None;
        }
        self.queue.pop_first()
    }
}
