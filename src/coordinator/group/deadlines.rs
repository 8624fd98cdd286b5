//! What the groups of one partition wait for. A timer is not taken back when what it waits for comes: it fires, and whoever
//! set it looks whether its time has really come. So a heartbeat costs no change here.

use std::collections::BTreeSet;

use super::GroupId;
use super::consumer::ConsumerTimer;
use crate::types::{Deadline, Time};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
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

    pub fn take_due(&mut self, now: Time) -> Option<(GroupId, Timer)> {
        if self.first()? > now.monotonic_us {
            return None;
        }
        self.queue.pop_first().map(|(_, group, timer)| (group, timer))
    }
}
