//! `ConsumerGroup`: the steps that every decision about a group of the consumer protocol is made of. A step states a fact,
//! and the fact is in force at once; `take_decided` hands out what has to be appended, `take_timers` what to wait for. What
//! is soft (who was heard of when) is lost in a crash without harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assignor::{Assignment, Assignor};
use super::facts::Facts;
use super::member::{CurrentAssignment, MemberMetadata, MemberState, STATIC_LEAVE_EPOCH, Target};
use super::record::{ConsumerFact, ConsumerRecord, GroupEpoch, ResolvedRegex, TargetEpoch};
use super::subscription::{compile, group_spec, is_subscribed, metadata_hash, resolve};
use crate::config::GroupConfig;
use crate::coordinator::Refusal;
use crate::coordinator::group::{GroupId, MemberId};
use crate::error_code::ErrorCode;
use crate::metadata::{ConfigResource, MetadataImage};
use crate::types::{Deadline, PartitionId, Time};

/// Regular expressions are matched with all topics anew only so often, however many topics come and go.
const REGEX_REFRESH_INTERVAL_MIN_MS: u64 = 10_000;
/// Between two assignments lies a millisecond per member, up to `group.consumer.assignment.interval.ms`: while a thousand
/// members join, working out assignments takes a small part of a core, and a small group is assigned at once.
const ASSIGNMENT_INTERVAL_PER_MEMBER_MS: i64 = 1;

/// What a decision may know besides the group.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub now: Time,
    pub image: &'a MetadataImage,
    pub config: &'a GroupConfig,
}

impl<'a> Moment<'a> {
    /// With the broker's settings as they are by now.
    pub fn new(now: Time, image: &'a MetadataImage) -> Moment<'a> {
        Moment { now, image, config: &image.config().group }
    }

    /// Without a heartbeat for this long a member of the group is gone.
    pub(super) fn session_timeout_ms(&self, group: &GroupId) -> i32 {
        self.set_for(group, "consumer.session.timeout.ms").unwrap_or(self.config.consumer_session_timeout_ms)
    }

    pub(super) fn heartbeat_interval_ms(&self, group: &GroupId) -> i32 {
        self.set_for(group, "consumer.heartbeat.interval.ms").unwrap_or(self.config.consumer_heartbeat_interval_ms)
    }

    fn assignment_interval_ms(&self, group: &GroupId) -> i32 {
        self.set_for(group, "consumer.assignment.interval.ms").unwrap_or(self.config.consumer_assignment_interval_ms)
    }

    /// A setting of this one group, if it was given one (KIP-848); checked when it was.
    fn set_for(&self, group: &GroupId, key: &str) -> Option<i32> {
        self.image.configs_of(&ConfigResource::Group(group.clone()))?.get(key)?.parse().ok()
    }
}

/// What is waited for of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Awaited {
    /// A sign of life.
    Heartbeat,
    /// That it gives up the partitions it was told to.
    Revocation,
    /// That a member of the classic protocol joins again, as it was told to.
    Join,
    /// That it fetches its assignment, after it joined.
    Sync,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConsumerTimer {
    pub member: MemberId,
    pub awaited: Awaited,
}

#[derive(Debug)]
pub struct ConsumerGroup {
    pub(super) id: GroupId,
    pub(super) facts: Facts,
    /// When what is awaited is late. Soft.
    awaited: BTreeMap<ConsumerTimer, Deadline>,
    /// Version of the image that the topics were last looked up in. Soft.
    topics_version: Option<u64>,
    regex_version: Option<u64>,
    regexes_due: Deadline,
    decided: Vec<ConsumerRecord>,
    timers: Vec<(Deadline, ConsumerTimer)>,
}

impl ConsumerGroup {
    pub fn new(id: GroupId) -> ConsumerGroup {
        ConsumerGroup {
            id,
            facts: Facts::default(),
            awaited: BTreeMap::new(),
            topics_version: None,
            regex_version: None,
            regexes_due: 0,
            decided: Vec::new(),
            timers: Vec::new(),
        }
    }

    /// Takes one fact in: the only way in which state that lasts changes.
    pub fn replay(&mut self, fact: &ConsumerFact) {
        self.facts.replay(fact);
    }

    pub(super) fn decide(&mut self, fact: ConsumerFact) {
        self.replay(&fact);
        self.decided.push(ConsumerRecord::new(&self.id, fact));
    }

    /// What was decided since the last time; in force already.
    pub fn take_decided(&mut self) -> Vec<ConsumerRecord> {
        std::mem::take(&mut self.decided)
    }

    /// What to come back for with `on_timer`.
    pub fn take_timers(&mut self) -> Vec<(Deadline, ConsumerTimer)> {
        std::mem::take(&mut self.timers)
    }

    /// A static member may always come back.
    pub(super) fn check_room(&self, moment: &Moment, member: &str, instance: Option<&str>) -> Result<(), Refusal> {
        let (members, most) = (self.facts.members.len(), moment.config.consumer_max_size as usize);
        let known = self.facts.members.contains_key(member)
            || instance.is_some_and(|instance| self.facts.static_member(instance).is_some());
        if known || members < most {
            return Ok(());
        }
        let message = format!("The group has {members} members; group.consumer.max.size allows {most}.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    /// A static member comes back under another member id and takes over what the former one had.
    pub(super) fn replace_member(&mut self, former: &MemberId, member: &MemberId) {
        let replaced = self.facts.members[former].clone();
        let target = self.facts.targets.get(former).cloned().unwrap_or_default();
        self.remove_member(former);
        self.decide(ConsumerFact::Member(member.clone(), Some(replaced.metadata)));
        self.decide(ConsumerFact::Target(member.clone(), Some(target)));
        let current = CurrentAssignment { epoch: 0, previous_epoch: 0, ..replaced.current };
        self.decide(ConsumerFact::Current(member.clone(), Some(current)));
    }

    fn remove_member(&mut self, member: &MemberId) {
        self.decide(ConsumerFact::Current(member.clone(), None));
        self.decide(ConsumerFact::Target(member.clone(), None));
        self.decide(ConsumerFact::Member(member.clone(), None));
        for awaited in [Awaited::Heartbeat, Awaited::Revocation, Awaited::Join, Awaited::Sync] {
            self.stop_awaiting(member, awaited);
        }
    }

    /// States what a member now says of itself. True if the group has to be assigned anew for it.
    pub(super) fn update_member(
        &mut self,
        moment: &Moment,
        member: &MemberId,
        metadata: MemberMetadata,
    ) -> MemberChange {
        let nothing = MemberMetadata::default();
        let before = self.facts.members.get(member).map_or(&nothing, |member| &member.metadata);
        if self.facts.members.contains_key(member) && *before == metadata {
            return MemberChange::default();
        }
        let names_changed = before.subscribed_topics != metadata.subscribed_topics;
        let regex_before = before.subscribed_regex.clone();
        let regex_changed = regex_before != metadata.subscribed_regex;
        let assignor_before = self.assignor(moment);
        if names_changed || regex_changed {
            self.topics_version = None;
        }
        self.decide(ConsumerFact::Member(member.clone(), Some(metadata)));
        if regex_changed && let Some(regex) = regex_before {
            self.forget_unused_regex(&regex);
        }
        let assignor_changed = assignor_before != self.assignor(moment);
        MemberChange { subscription: names_changed || regex_changed, assignor: assignor_changed }
    }

    fn forget_unused_regex(&mut self, regex: &Arc<str>) {
        if self.facts.regex_members(regex) == 0 && self.facts.regexes.contains_key(regex) {
            self.decide(ConsumerFact::Regex(regex.clone(), None));
        }
    }

    /// Looks which topics the regular expressions match: new ones at once, the others when topics may have come or gone.
    /// True if any matches others than before.
    pub(super) fn refresh_regexes(&mut self, moment: &Moment) -> bool {
        let version = moment.image.version();
        let all = self.regex_version != Some(version) && self.regexes_due <= moment.now.monotonic_us;
        let due = |regex: &&Arc<str>| all || !self.facts.regexes.contains_key(*regex);
        let due: Vec<Arc<str>> = self.facts.subscribed_regexes().filter(due).cloned().collect();
        if all {
            self.regex_version = Some(version);
            self.regexes_due = moment.now.after_ms(REGEX_REFRESH_INTERVAL_MIN_MS);
        }
        let mut changed = false;
        for regex in due {
            // It was checked before a member could subscribe to it; what a log holds that is none matches nothing.
            let topics = compile(&regex).map(|compiled| resolve(moment.image, &compiled)).unwrap_or_default();
            if self.facts.regexes.get(&regex).is_none_or(|before| before.topics != topics) {
                changed = true;
                self.topics_version = None;
                let resolved = ResolvedRegex { topics, version: version as i64, timestamp_ms: moment.now.wall_ms };
                self.decide(ConsumerFact::Regex(regex, Some(resolved)));
            }
        }
        changed
    }

    /// Counts the group's epoch up if that was asked for, or if the topics it reads are no longer as they were.
    pub(super) fn update_epoch(&mut self, moment: &Moment, asked_for: bool) {
        let version = moment.image.version();
        if !asked_for && self.topics_version == Some(version) {
            return;
        }
        let metadata_hash = match self.topics_version == Some(version) {
            true => self.facts.epoch.metadata_hash,
            false => metadata_hash(&self.facts, moment.image),
        };
        self.topics_version = Some(version);
        if asked_for || metadata_hash != self.facts.epoch.metadata_hash {
            let epoch = self.facts.epoch.epoch.saturating_add(1);
            self.decide(ConsumerFact::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        }
        if self.facts.partition_metadata {
            self.decide(ConsumerFact::PartitionMetadata(false));
        }
    }

    /// Works out who is to have what, if that is due.
    pub(super) fn update_target(&mut self, moment: &Moment) {
        let TargetEpoch { epoch, timestamp_ms } = self.facts.target_epoch;
        let members = i64::try_from(self.facts.members.len()).unwrap_or(i64::MAX);
        let interval_ms = members.saturating_mul(ASSIGNMENT_INTERVAL_PER_MEMBER_MS);
        let interval_ms = interval_ms.min(i64::from(moment.assignment_interval_ms(&self.id)));
        // A clock that was set back must not stop assignments.
        let elapsed_ms = moment.now.wall_ms.saturating_sub(timestamp_ms);
        let too_early = timestamp_ms != 0 && (0..interval_ms).contains(&elapsed_ms);
        if epoch >= self.facts.epoch.epoch || too_early {
            return;
        }
        let assignor = self.assignor(moment);
        let spec = group_spec(&self.facts, moment.image);
        let assigned = assignor.assign(&spec);
        let targets = self.facts.members.keys().cloned().zip(assigned);
        let changed: Vec<(MemberId, Assignment)> =
            targets.filter(|(member, target)| self.facts.targets.get(member) != Some(target)).collect();
        for (member, target) in changed {
            self.decide(ConsumerFact::Target(member, Some(target)));
        }
        let target_epoch = TargetEpoch { epoch: self.facts.epoch.epoch, timestamp_ms: moment.now.wall_ms };
        self.decide(ConsumerFact::TargetEpoch(Some(target_epoch)));
    }

    /// The assignor in force: what most members ask for, else the first that is configured.
    pub(super) fn assignor(&self, moment: &Moment) -> Assignor {
        let configured = moment.config.consumer_assignors.first().and_then(|name| Assignor::by_name(name));
        let preferred = self.facts.preferred_assignor().and_then(|name| Assignor::by_name(name));
        preferred.or(configured).unwrap_or(Assignor::ALL[0])
    }

    /// Takes a member one step towards its target.
    pub(super) fn reconcile(
        &mut self,
        moment: &Moment,
        member: &MemberId,
        owned: Option<&Assignment>,
        subscription_changed: bool,
    ) {
        static NOTHING: Assignment = Assignment::new();
        let known = &self.facts.members[member];
        let epoch = self.facts.target_epoch.epoch;
        if !subscription_changed && known.current.is_reconciled_to(epoch) {
            return;
        }
        let subscribed = |partition| is_subscribed(&self.facts, &known.metadata, moment.image, partition);
        let target = self.facts.targets.get(member).unwrap_or(&NOTHING).iter().copied();
        let partitions: Assignment = target.filter(|partition| subscribed(*partition)).collect();
        let target = Target { epoch, partitions: &partitions };
        let trim = subscription_changed.then_some(&subscribed as &dyn Fn(PartitionId) -> bool);
        let next = known.current.reconcile(target, owned, trim, |partition| !self.facts.is_held(partition));
        if next == known.current {
            return;
        }
        let (timeout_ms, is_classic) = (known.metadata.rebalance_timeout_ms, known.metadata.classic.is_some());
        // A member of the classic protocol is waited for by `Join` and `Sync`.
        if next.state == MemberState::UnrevokedPartitions && !is_classic {
            self.start_awaiting(moment.now, member, Awaited::Revocation, timeout_ms);
        } else {
            self.stop_awaiting(member, Awaited::Revocation);
        }
        self.decide(ConsumerFact::Current(member.clone(), Some(next)));
    }

    /// Members are gone. What they had is free, and the others are to be assigned anew.
    pub(super) fn remove_members(&mut self, moment: &Moment, members: &[MemberId]) {
        if members.is_empty() {
            return;
        }
        for member in members {
            let regex = self.facts.members.get(member).and_then(|member| member.metadata.subscribed_regex.clone());
            self.remove_member(member);
            if let Some(regex) = regex {
                self.forget_unused_regex(&regex);
            }
        }
        self.topics_version = None;
        self.update_epoch(moment, true);
        if self.facts.members.is_empty() {
            // The next member is not kept waiting by what this one was assigned just now.
            let target_epoch = TargetEpoch { epoch: self.facts.epoch.epoch, timestamp_ms: 0 };
            self.decide(ConsumerFact::TargetEpoch(Some(target_epoch)));
        }
    }

    /// A static member is away and will be back: it keeps all it has.
    pub(super) fn set_aside(&mut self, member: &MemberId) {
        let current = self.facts.members[member].current.clone();
        let assigned = current.assigned.into_keys().map(|partition| (partition, 0)).collect();
        let (epoch, revoking) = (STATIC_LEAVE_EPOCH, BTreeMap::new());
        let current = CurrentAssignment { epoch, assigned, revoking, ..current };
        self.decide(ConsumerFact::Current(member.clone(), Some(current)));
        self.stop_awaiting(member, Awaited::Revocation);
    }

    pub(super) fn start_awaiting(&mut self, now: Time, member: &MemberId, awaited: Awaited, timeout_ms: i32) {
        let deadline = now.after_ms(timeout_ms.max(0) as u64);
        let timer = ConsumerTimer { member: member.clone(), awaited };
        // A timer that is set already comes back in time, unless this is sooner.
        if self.awaited.insert(timer.clone(), deadline).is_none_or(|before| deadline < before) {
            self.timers.push((deadline, timer));
        }
    }

    pub(super) fn is_awaiting(&self, member: &MemberId, awaited: Awaited) -> bool {
        self.awaited.contains_key(&ConsumerTimer { member: member.clone(), awaited })
    }

    pub(super) fn stop_awaiting(&mut self, member: &MemberId, awaited: Awaited) {
        self.awaited.remove(&ConsumerTimer { member: member.clone(), awaited });
    }

    /// Whether it is really too late by now. A timer that was put off since it was set is set again.
    pub(super) fn is_late(&mut self, now: Time, timer: &ConsumerTimer) -> bool {
        match self.awaited.get(timer) {
            Some(deadline) if *deadline <= now.monotonic_us => true,
            Some(deadline) => {
                self.timers.push((*deadline, timer.clone()));
                false
            }
            None => false,
        }
    }

    /// The log was replayed: every member has a whole session from now on.
    pub fn on_loaded(&mut self, moment: &Moment) {
        let now = moment.now;
        let members: Vec<MemberId> = self.facts.members.keys().cloned().collect();
        for member in members {
            let known = &self.facts.members[&member];
            let classic = known.metadata.classic.as_ref().map(|classic| classic.session_timeout_ms);
            let session_timeout_ms = classic.unwrap_or_else(|| moment.session_timeout_ms(&self.id));
            let revokes = known.current.state == MemberState::UnrevokedPartitions && classic.is_none();
            let rebalance_timeout_ms = known.metadata.rebalance_timeout_ms;
            self.start_awaiting(now, &member, Awaited::Heartbeat, session_timeout_ms);
            if revokes {
                self.start_awaiting(now, &member, Awaited::Revocation, rebalance_timeout_ms);
            }
        }
    }
}

/// What of a member changed so that the group has to be assigned anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MemberChange {
    pub subscription: bool,
    pub assignor: bool,
}
