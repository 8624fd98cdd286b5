//! `Groups`: all groups of one partition of `__consumer_offsets`. It decides on requests and due timers; every change
//! that has to outlive a crash is a record, and takes effect through `replay` alone, the moment it is decided. What is
//! soft (who waits in a join, who was heard of when) changes at once and is lost in a crash without harm. It lives on the
//! core that owns the partition; it knows no connection, sends nothing and never waits.

mod admin;
mod classic;
mod consumer;
mod deadlines;
#[cfg(test)]
mod fixture;
mod offsets;
mod record;
mod request;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

pub use classic::{ClassicGroup, ClassicState};
pub use consumer::*;
pub use record::{ClassicGroupRecord, ClassicMemberRecord, GroupRecord, RecordError};
pub use request::*;

use self::deadlines::{Deadlines, Timer};
use self::offsets::Offsets;
use super::random::Random;
use crate::config::BrokerConfig;
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::{Deadline, Time};

#[derive(Debug)]
pub struct Groups {
    config: Arc<BrokerConfig>,
    random: Random,
    groups: BTreeMap<GroupId, Group>,
    offsets: Offsets,
    deadlines: Deadlines,
    /// How far the search for expired offsets has come, while it is under way.
    expired_to: Option<GroupId>,
}

/// A group has one protocol at a time.
#[derive(Debug)]
pub enum Group {
    Classic(ClassicGroup),
    /// KIP-848
    Consumer(ConsumerGroup),
}

/// What `Groups` answers to one request or one timer.
#[derive(Debug, Default)]
pub struct GroupDecision {
    /// To be appended together, in this order. They are in force already.
    pub records: Vec<GroupRecord>,
    /// To be released when the records, and all that were decided before, are committed. Some are to requests that had
    /// to wait; a request that waits has none here.
    pub replies: Vec<(GroupTicket, GroupReply)>,
}

impl GroupDecision {
    fn reply(&mut self, ticket: GroupTicket, reply: GroupReply) {
        self.replies.push((ticket, reply));
    }
}

impl Groups {
    /// Member ids are drawn from `seed`: another one at each start.
    pub fn new(config: Arc<BrokerConfig>, seed: u64) -> Groups {
        Groups {
            config,
            random: Random::new(seed),
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            deadlines: Deadlines::default(),
            expired_to: None,
        }
    }

    pub fn handle(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: GroupRequest,
    ) -> GroupDecision {
        let mut decision = GroupDecision::default();
        if let Some(error_code) = refused_group_id(&request) {
            decision.reply(ticket, request.refuse(error_code));
            return decision;
        }
        match request {
            GroupRequest::Join(request) => self.on_join(now, image, ticket, request, &mut decision),
            GroupRequest::Sync(request) => self.on_sync(now, image, ticket, request, &mut decision),
            GroupRequest::Heartbeat(request) => self.on_heartbeat(now, image, ticket, request, &mut decision),
            GroupRequest::Leave(request) => self.on_leave(now, image, ticket, request, &mut decision),
            GroupRequest::OffsetCommit(request) => self.on_offset_commit(now, ticket, request, &mut decision),
            GroupRequest::OffsetFetch(request) => self.on_offset_fetch(ticket, request, &mut decision),
            GroupRequest::OffsetDelete(request) => self.on_offset_delete(ticket, request, &mut decision),
            GroupRequest::List(request) => self.on_list(ticket, &request, &mut decision),
            GroupRequest::Describe { group } => self.on_describe(ticket, group, &mut decision),
            GroupRequest::Delete { group } => self.on_delete(ticket, &group, &mut decision),
            GroupRequest::ConsumerHeartbeat(request) => {
                self.on_consumer_heartbeat(now, image, ticket, request, &mut decision);
            }
            GroupRequest::ConsumerDescribe { group } => {
                self.on_consumer_describe(image, ticket, group, &mut decision);
            }
        }
        decision
    }

    /// When `on_deadline` has something to do even if no request comes.
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.deadlines.first()
    }

    /// Does what is due, a bounded part of it: what is left is due at once.
    pub fn on_deadline(&mut self, now: Time, image: &MetadataImage) -> GroupDecision {
        let mut decision = GroupDecision::default();
        for _ in 0..TIMERS_PER_TURN {
            let Some((fired, group, timer)) = self.deadlines.take_due(now) else { break };
            match timer {
                Timer::Consumer(timer) => self.on_consumer_timer(now, image, &group, timer, &mut decision),
                Timer::Expiry => self.expire_some(now, &mut decision),
                Timer::Join | Timer::Sync | Timer::Session(_) => {
                    let Some(mut turn) = self.classic(now, &group, &mut decision) else { continue };
                    turn.on_deadline(fired, &timer);
                    self.forget_if_blank(&group);
                }
            }
        }
        decision
    }

    /// Looks through some groups for offsets that have expired; the others have their turn at once.
    fn expire_some(&mut self, now: Time, decision: &mut GroupDecision) {
        let from = match self.expired_to.take() {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let some: Vec<GroupId> =
            self.groups.range((from, Bound::Unbounded)).take(GROUPS_PER_EXPIRY).map(|(id, _)| id.clone()).collect();
        for id in &some {
            self.expire_offsets(now, id, decision);
        }
        let next = match some.last() {
            Some(last) if some.len() == GROUPS_PER_EXPIRY => {
                self.expired_to = Some(last.clone());
                now.monotonic_us
            }
            _ => now.after_ms(self.config.group.offsets_retention_check_interval_ms as u64),
        };
        self.deadlines.set(next, "".into(), Timer::Expiry);
    }

    /// Takes one record of the log in: the only way in which state that lasts changes.
    pub fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset { group, topic, partition, value } => {
                if value.is_some() && !self.groups.contains_key(group) {
                    self.groups.insert(group.clone(), Group::Classic(ClassicGroup::simple()));
                }
                self.offsets.replay(group, topic, *partition, value.as_ref());
            }
            GroupRecord::Classic { group, value: None } => {
                if let Some(Group::Classic(_)) = self.groups.get(group) {
                    self.groups.remove(group);
                }
            }
            GroupRecord::Classic { group, value: Some(value) } => {
                let present = self.groups.entry(group.clone());
                let present = present.or_insert_with(|| Group::Classic(ClassicGroup::simple()));
                if let Group::Consumer(_) = present {
                    *present = Group::Classic(ClassicGroup::simple());
                }
                if let Group::Classic(classic) = present {
                    classic.replay(value);
                }
            }
            GroupRecord::Consumer(record) => self.replay_consumer(record),
        }
    }

    /// The whole log is replayed: from now on members have to be heard of, and offsets may expire.
    pub fn on_loaded(&mut self, now: Time, image: &MetadataImage) -> GroupDecision {
        let mut decision = GroupDecision::default();
        self.forget_topics_deleted_before(image, &mut decision);
        let groups: Vec<GroupId> = self.groups.keys().cloned().collect();
        for group in groups {
            match self.groups.get(&group) {
                Some(Group::Consumer(_)) => self.on_consumer_loaded(now, image, &group),
                Some(Group::Classic(_)) => {
                    self.classic(now, &group, &mut decision).expect("just seen").on_loaded();
                }
                None => {}
            }
        }
        let interval_ms = self.config.group.offsets_retention_check_interval_ms as u64;
        self.deadlines.set(now.after_ms(interval_ms), "".into(), Timer::Expiry);
        decision
    }

    /// Puts a record into the decision, and into force: what is decided next sees it.
    fn decide(&mut self, decision: &mut GroupDecision, record: GroupRecord) {
        self.replay(&record);
        decision.records.push(record);
    }
}

/// So many timers fire before other events have their turn.
const TIMERS_PER_TURN: usize = 256;
/// So many groups are searched for expired offsets before other events have their turn.
const GROUPS_PER_EXPIRY: usize = 64;

/// Only offsets can be kept under an empty group id, for clients of old that have none.
fn refused_group_id(request: &GroupRequest) -> Option<ErrorCode> {
    let group = request.group()?;
    let may_be_empty = matches!(
        request,
        GroupRequest::OffsetCommit(_)
            | GroupRequest::OffsetFetch(_)
            | GroupRequest::OffsetDelete(_)
            | GroupRequest::Describe { .. }
            | GroupRequest::Delete { .. }
    );
    (group.is_empty() && !may_be_empty).then_some(ErrorCode::InvalidGroupId)
}

#[cfg(test)]
mod replay_tests;
