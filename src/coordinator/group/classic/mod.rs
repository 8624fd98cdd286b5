//! Groups of the classic protocol: members choose a protocol they share, one of them assigns, the coordinator keeps them
//! in step. A generation lasts from its leader's assignment on, and that is what the log holds; who waits in a rebalance
//! is known here alone, and clients begin again when it is lost.
//!
//! ```text
//!           join                    all have joined, or time is up
//!   Empty ────────► PreparingRebalance ────────► CompletingRebalance
//!     ▲                ▲     │    ▲                 │      │
//!     └────────────────┼─────┘    └─────────────────┘      │ the leader has assigned
//!       nobody is left │            a member joins, leaves  ▼
//!                      └──────────────────────────────── Stable
//! ```

mod join;
mod migration;
mod rebalance;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::deadlines::{Deadlines, Timer};
use super::{
    ClassicGroupRecord, ClassicMemberRecord, Client, Group, GroupDecision, GroupId, GroupRecord, GroupTicket, Groups,
    MemberId,
};
use crate::config::{BrokerConfig, GroupConfig};
use crate::error_code::ErrorCode;
use crate::protocol::consumer_protocol::CONSUMER_PROTOCOL_TYPE;
use crate::protocol::{Reader, Wire};
use crate::types::{Deadline, Map, Time, Timestamp};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClassicState {
    /// No members; offsets may remain.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    Stable,
}

impl ClassicState {
    /// As Kafka's tools print it.
    pub fn name(self) -> &'static str {
        match self {
            ClassicState::Empty => "Empty",
            ClassicState::PreparingRebalance => "PreparingRebalance",
            ClassicState::CompletingRebalance => "CompletingRebalance",
            ClassicState::Stable => "Stable",
        }
    }
}

/// Invariants:
/// - `Empty` has no members, and only `PreparingRebalance` members that wait to join
/// - `leader` is a member, wherever there are members
/// - `instances` holds the static ones among the members, `supported` counts their protocols, `joining` those who wait
#[derive(Debug)]
pub struct ClassicGroup {
    pub(super) state: ClassicState,
    /// When it entered the state; unknown in records of old brokers.
    pub(super) state_timestamp_ms: Option<Timestamp>,
    /// `None` for a group that only keeps offsets.
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) generation: i32,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    instances: BTreeMap<Arc<str>, MemberId>,
    supported: Map<Arc<str>, usize>,
    joining: usize,
    /// Members that were told their id and have not come back with it, and when they are given up.
    pending: BTreeMap<MemberId, Deadline>,
    /// Members of this generation that have not asked for their assignment.
    unsynced: BTreeSet<MemberId>,
    /// What the members read, where that is understood.
    subscribed: Option<BTreeSet<Arc<str>>>,
    /// While the first rebalance waits for more members.
    initial: Option<InitialRebalance>,
    join_deadline: Option<Deadline>,
    sync_deadline: Option<Deadline>,
}

/// `group.initial.rebalance.delay.ms` is granted again after each delay in which members came, until the rebalance
/// timeout is used up.
#[derive(Debug)]
struct InitialRebalance {
    delay_ms: u64,
    remaining_ms: u64,
    member_added: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub instance: Option<Arc<str>>,
    pub client: Client,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The favourite first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    pub assignment: Bytes,
    /// In its first rebalance: it cannot send heartbeats, so it is given up if the rebalance takes too long.
    is_new: bool,
    joining: Option<GroupTicket>,
    syncing: Option<GroupTicket>,
    /// Without a sign of life until then the member is gone; `None` while it waits for us.
    session_deadline: Option<Deadline>,
    /// The timer that is set for it.
    queued: Option<Deadline>,
}

impl Member {
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| **name == *protocol).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }
}

impl ClassicGroup {
    pub(super) fn new(now: Time) -> ClassicGroup {
        ClassicGroup { state_timestamp_ms: Some(now.wall_ms), ..ClassicGroup::simple() }
    }

    /// A group that only keeps offsets.
    pub(super) fn simple() -> ClassicGroup {
        ClassicGroup {
            state: ClassicState::Empty,
            state_timestamp_ms: None,
            protocol_type: None,
            generation: 0,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            supported: Map::default(),
            joining: 0,
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            subscribed: None,
            initial: None,
            join_deadline: None,
            sync_deadline: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.state == ClassicState::Empty
    }

    /// Nothing would be lost with it: not even somebody who was told to come again.
    pub(super) fn is_blank(&self) -> bool {
        self.is_empty() && self.generation == 0 && self.protocol_type.is_none() && self.pending.is_empty()
    }

    /// Somebody was told to come again.
    pub(super) fn awaits_members(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a member reads this topic; where that is not known, consumers may read any.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    pub(super) fn knows_subscriptions(&self) -> bool {
        self.subscribed.is_some()
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    fn enter(&mut self, state: ClassicState, now: Time) {
        self.state = state;
        self.state_timestamp_ms = Some(now.wall_ms);
    }

    fn has_all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending.is_empty()
    }

    /// The longest that a member allows.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms.max(0) as u64).max().unwrap_or(0)
    }

    fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let members = self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.supported.get(name).copied().unwrap_or(0) == members)
    }

    /// What all members support and most of them like best.
    fn select_protocol(&self) -> Arc<str> {
        let shared = |name: &Arc<str>| self.supported.get(name).copied() == Some(self.members.len());
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().map(|(name, _)| name).find(|name| shared(name));
            *votes.entry(vote.expect("no member is taken in that shares no protocol with the others")).or_default() +=
                1;
        }
        let chosen = votes.into_iter().max_by_key(|&(_, count)| count);
        chosen.expect("a group without members needs no protocol").0.clone()
    }

    fn count_protocols(&mut self, protocols: &[(Arc<str>, Bytes)]) {
        for name in names(protocols) {
            *self.supported.entry(name.clone()).or_default() += 1;
        }
    }

    fn discount_protocols(&mut self, protocols: &[(Arc<str>, Bytes)]) {
        for name in names(protocols) {
            let count = self.supported.get_mut(name).expect("every protocol of a member is counted");
            *count -= 1;
            if *count == 0 {
                self.supported.remove(name);
            }
        }
    }

    pub(super) fn add_member(&mut self, id: MemberId, protocol_type: &Arc<str>, member: Member) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        self.count_protocols(&member.protocols);
        self.joining += usize::from(member.joining.is_some());
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.pending.remove(&id);
        self.members.insert(id, member);
    }

    /// Also of one that is pending. The caller answers what it waits for.
    fn remove_member(&mut self, id: &MemberId) -> Option<Member> {
        self.pending.remove(id);
        self.unsynced.remove(id);
        let member = self.members.remove(id)?;
        self.discount_protocols(&member.protocols);
        self.joining -= usize::from(member.joining.is_some());
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Takes what the member says of itself in a join.
    fn update_member(
        &mut self,
        id: &MemberId,
        protocols: &[(Arc<str>, Bytes)],
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let member = self.members.get_mut(id).expect("the caller found it");
        let before = std::mem::replace(&mut member.protocols, protocols.to_vec());
        (member.rebalance_timeout_ms, member.session_timeout_ms) = (rebalance_timeout_ms, session_timeout_ms);
        self.discount_protocols(&before);
        self.count_protocols(protocols);
    }

    /// Whether this is the member it says it is (KIP-345).
    fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(present) if **present != *member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// For OffsetCommit.
    pub(super) fn check_commit(&self, member: &str, instance: Option<&str>, generation: i32) -> Result<(), ErrorCode> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(member, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            ClassicState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// The topics of all members' subscriptions, by the part of it that every version has.
    fn read_subscriptions(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.is_of_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        if self.members.is_empty() {
            return Some(topics);
        }
        let protocol = self.protocol.as_deref()?;
        for member in self.members.values() {
            let metadata = member.metadata(protocol);
            let mut reader = Reader::new(&metadata);
            i16::read(&mut reader, 0).ok()?;
            topics.extend(Vec::<&str>::read(&mut reader, 0).ok()?.into_iter().map(Arc::from));
        }
        Some(topics)
    }

    /// What the log holds of the group if these are the assignments; members without one get an empty one.
    fn record(&self, assignment: impl Fn(&MemberId, &Member) -> Bytes) -> ClassicGroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(id, member): (&MemberId, &Member)| ClassicMemberRecord {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client.id.clone(),
            client_host: member.client.host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: assignment(id, member),
        };
        ClassicGroupRecord {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms.unwrap_or(-1),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// Of a member that is here already. It keeps all its protocols, which no record holds, unless it has another
    /// subscription by now: then the log tells of a time after the one that it was taken from.
    fn replay_member(&mut self, row: &ClassicMemberRecord, protocol: Option<&Arc<str>>) {
        let member = self.members.get_mut(&row.member).expect("the caller found it");
        member.assignment = row.assignment.clone();
        member.client = Client { id: row.client_id.clone(), host: row.client_host.clone() };
        (member.rebalance_timeout_ms, member.session_timeout_ms) = (row.rebalance_timeout_ms, row.session_timeout_ms);
        let protocol = protocol.cloned().unwrap_or_default();
        let is_known = member.protocols.iter().any(|(name, bytes)| (name, bytes) == (&protocol, &row.subscription));
        if !is_known {
            let protocols = [(protocol, row.subscription.clone())];
            self.update_member(&row.member, &protocols, row.rebalance_timeout_ms, row.session_timeout_ms);
        }
    }

    /// What the record says becomes true. Members that are here already keep what only they themselves know: all their
    /// protocols, and what they wait for.
    pub(super) fn replay(&mut self, record: &ClassicGroupRecord) {
        let known: BTreeSet<&MemberId> = record.members.iter().map(|member| &member.member).collect();
        let gone: Vec<MemberId> = self.members.keys().filter(|id| !known.contains(id)).cloned().collect();
        for id in gone {
            self.remove_member(&id);
        }
        self.protocol_type = Some(record.protocol_type.clone()).filter(|protocol_type| !protocol_type.is_empty());
        (self.generation, self.protocol) = (record.generation, record.protocol.clone());
        for row in &record.members {
            if self.members.contains_key(&row.member) {
                self.replay_member(row, record.protocol.as_ref());
                continue;
            }
            let member = Member {
                instance: row.instance.clone(),
                client: Client { id: row.client_id.clone(), host: row.client_host.clone() },
                rebalance_timeout_ms: row.rebalance_timeout_ms,
                session_timeout_ms: row.session_timeout_ms,
                protocols: vec![(record.protocol.clone().unwrap_or_default(), row.subscription.clone())],
                assignment: row.assignment.clone(),
                is_new: false,
                joining: None,
                syncing: None,
                session_deadline: None,
                queued: None,
            };
            self.add_member(row.member.clone(), &record.protocol_type, member);
        }
        let leader = record.leader.clone().filter(|leader| self.members.contains_key(leader));
        self.leader = leader.or_else(|| self.members.keys().next().cloned());
        self.state = if self.members.is_empty() { ClassicState::Empty } else { ClassicState::Stable };
        self.state_timestamp_ms = Some(record.state_timestamp_ms).filter(|&timestamp| timestamp != -1);
        self.subscribed = self.read_subscriptions();
    }
}

/// One group at work: with it what its decisions need.
pub(super) struct Turn<'a> {
    pub id: GroupId,
    pub group: &'a mut ClassicGroup,
    pub broker: &'a BrokerConfig,
    pub now: Time,
    pub deadlines: &'a mut Deadlines,
    pub decision: &'a mut GroupDecision,
}

impl Groups {
    /// `None` if there is no classic group of this id.
    pub(super) fn classic<'a>(
        &'a mut self,
        now: Time,
        id: &GroupId,
        decision: &'a mut GroupDecision,
    ) -> Option<Turn<'a>> {
        let Groups { groups, config, deadlines, .. } = self;
        match groups.get_mut(id)? {
            Group::Classic(group) => Some(Turn { id: id.clone(), group, broker: config, now, deadlines, decision }),
            Group::Consumer(_) => None,
        }
    }
}

impl Turn<'_> {
    fn config(&self) -> &GroupConfig {
        &self.broker.group
    }

    /// Puts the group's record into the decision, and into force.
    fn decide(&mut self, record: ClassicGroupRecord) {
        self.group.replay(&record);
        self.decision.records.push(GroupRecord::Classic { group: self.id.clone(), value: Some(record) });
    }

    /// The member was heard of, or is to be heard of from now on.
    pub(super) fn await_member(&mut self, id: &MemberId, timeout_ms: u64) {
        let deadline = self.now.after_ms(timeout_ms);
        let Some(member) = self.group.members.get_mut(id) else { return };
        member.session_deadline = Some(deadline);
        if member.queued.is_none_or(|queued| queued > deadline) {
            member.queued = Some(deadline);
            self.deadlines.set(deadline, self.id.clone(), Timer::Session(id.clone()));
        }
    }

    fn await_session(&mut self, id: &MemberId) {
        if let Some(member) = self.group.members.get(id) {
            self.await_member(id, member.session_timeout_ms.max(0) as u64);
        }
    }

    fn set_join_deadline(&mut self, after_ms: u64) {
        let deadline = self.now.after_ms(after_ms);
        self.group.join_deadline = Some(deadline);
        self.deadlines.set(deadline, self.id.clone(), Timer::Join);
    }

    /// A timer that was set for this time fires.
    pub(super) fn on_deadline(&mut self, fired: Deadline, timer: &Timer) {
        match timer {
            Timer::Join => self.on_join_deadline(fired),
            Timer::Sync => self.on_sync_deadline(fired),
            Timer::Session(member) => self.on_session_deadline(member, fired),
            Timer::Expiry | Timer::Consumer(_) => {}
        }
    }

    /// The group's log is replayed: its members have a whole session to be heard of.
    pub(super) fn on_loaded(&mut self) {
        let members: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for member in &members {
            self.await_session(member);
        }
        if members.len() > self.config().max_size as usize {
            self.prepare_rebalance();
        }
    }
}

/// Each once, however often a member names it.
fn names(protocols: &[(Arc<str>, Bytes)]) -> BTreeSet<&Arc<str>> {
    protocols.iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests;
