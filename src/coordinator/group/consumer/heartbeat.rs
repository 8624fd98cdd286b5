//! ConsumerGroupHeartbeat: a member joins, says what it has and what it reads, learns what it is to have, and leaves.

use std::sync::Arc;

use super::assignor::Assignment;
use super::group::{Awaited, ConsumerGroup, Moment};
use super::member::{CurrentAssignment, LEAVE_EPOCH, Member, MemberMetadata, MemberState, STATIC_LEAVE_EPOCH};
use super::record::{by_topic, of_topics};
use super::request::{ConsumerHeartbeatReply, ConsumerHeartbeatRequest};
use super::subscription::compile;
use crate::config::GroupConfig;
use crate::coordinator::Refusal;
use crate::coordinator::group::MemberId;
use crate::error_code::ErrorCode;

/// The first version in which the client draws the member id (KIP-1082).
const CLIENT_DRAWS_MEMBER_ID: i16 = 1;

/// Between heartbeats of a member that waits for partitions of others.
const WAITING_HEARTBEAT_MIN_MS: i32 = 300;
/// And this much more for each member that the group has.
const WAITING_HEARTBEAT_PER_MEMBER_MS: i32 = 2;

impl ConsumerHeartbeatRequest {
    pub fn is_leave(&self) -> bool {
        matches!(self.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH)
    }

    /// All that can be wrong with it whatever the group.
    pub(super) fn check(&self, config: &GroupConfig) -> Result<(), Refusal> {
        let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let is_blank = |text: &str| text.trim().is_empty();
        let needs_member =
            self.api_version >= CLIENT_DRAWS_MEMBER_ID || self.member_epoch > 0 || self.member_epoch == LEAVE_EPOCH;
        if needs_member && is_blank(&self.member) {
            return invalid("MemberId can't be empty.");
        }
        if is_blank(&self.group) {
            return invalid("GroupId can't be empty.");
        }
        if self.instance.as_deref().is_some_and(is_blank) {
            return invalid("InstanceId can't be empty.");
        }
        if self.rack.as_deref().is_some_and(is_blank) {
            return invalid("RackId can't be empty.");
        }
        match self.member_epoch {
            0 if self.rebalance_timeout_ms == -1 => {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            0 if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            0 if self.subscribed_topics.is_none() && self.subscribed_regex.is_none() => {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
            STATIC_LEAVE_EPOCH if self.instance.is_none() => return invalid("InstanceId can't be null."),
            ..STATIC_LEAVE_EPOCH => return invalid("MemberEpoch is invalid."),
            _ => {}
        }
        if let Some(assignor) = &self.server_assignor
            && !config.consumer_assignors.iter().any(|name| **name == **assignor)
        {
            let supported = config.consumer_assignors.join(", ");
            let message = format!("ServerAssignor {assignor} is not supported. Supported assignors: {supported}.");
            return Err(Refusal::new(ErrorCode::UnsupportedAssignor, message));
        }
        Ok(())
    }

    /// It says all that a member can say, and is told all in turn.
    fn is_full(&self) -> bool {
        let subscribed = self.subscribed_topics.is_some() || self.subscribed_regex.is_some();
        self.rebalance_timeout_ms != -1 && subscribed && self.owned.is_some()
    }

    /// What the member says of itself by now.
    fn apply_to(&self, mut metadata: MemberMetadata) -> MemberMetadata {
        let or = |said: &Option<Arc<str>>, before: Option<Arc<str>>| said.clone().or(before);
        metadata.instance = or(&self.instance, metadata.instance);
        metadata.rack = or(&self.rack, metadata.rack);
        metadata.server_assignor = or(&self.server_assignor, metadata.server_assignor);
        if self.rebalance_timeout_ms != -1 {
            metadata.rebalance_timeout_ms = self.rebalance_timeout_ms;
        }
        if let Some(topics) = &self.subscribed_topics {
            metadata.subscribed_topics = topics.iter().cloned().collect();
        }
        if let Some(regex) = &self.subscribed_regex {
            metadata.subscribed_regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
        }
        metadata.client = self.client.clone();
        metadata.classic = None;
        metadata
    }
}

/// Who a request is from.
pub(super) enum Sender {
    Member,
    New,
    /// A static member that is back under another id, or after it said that it would be.
    Replacing(MemberId),
}

impl ConsumerGroup {
    /// The request is checked, and the member has an id. Nothing is decided if it is refused.
    pub fn heartbeat(
        &mut self,
        moment: &Moment,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        let member = &request.member;
        let owned = request.owned.as_ref();
        let owned = owned.map(|topics| of_topics(topics.iter().map(|(topic, indexes)| (*topic, &**indexes))));
        self.check_room(moment, member, request.instance.as_deref())?;
        let sender = self.sender(request, owned.as_ref())?;
        if let Some(regex) = request.subscribed_regex.as_deref().filter(|regex| !regex.is_empty())
            && self.facts.regex_members(regex) == 0
        {
            compile(regex)?;
        }

        if let Sender::Replacing(former) = &sender {
            self.replace_member(former, member);
        }
        let before = self.facts.members.get(member).cloned().unwrap_or_default();
        let metadata = request.apply_to(before.metadata);
        let change = self.update_member(moment, member, metadata);
        let resolved = self.refresh_regexes(moment);
        self.update_epoch(moment, change.subscription || change.assignor || resolved);
        self.update_target(moment);
        self.reconcile(moment, member, owned.as_ref(), change.subscription);
        self.start_awaiting(moment.now, member, Awaited::Heartbeat, moment.session_timeout_ms(&self.id));

        let current = &self.facts.members[member].current;
        let assigned_changed = !current.assigned.keys().eq(before.current.assigned.keys());
        let told_all = request.member_epoch == 0 || request.is_full() || assigned_changed;
        Ok(ConsumerHeartbeatReply {
            error_code: ErrorCode::None,
            error_message: None,
            member: Some(member.clone()),
            member_epoch: current.epoch,
            heartbeat_interval_ms: self.heartbeat_interval_ms(moment, current),
            assignment: told_all.then(|| by_topic(current.assigned.keys().copied())),
        })
    }

    /// Partitions that were given up are read by nobody until the next heartbeat of the member that waits for them. So it
    /// comes back soon; in a large group less so, lest heartbeats be all that the group's core does.
    fn heartbeat_interval_ms(&self, moment: &Moment, current: &CurrentAssignment) -> i32 {
        let interval_ms = moment.heartbeat_interval_ms(&self.id);
        if self.is_assigned() && current.state != MemberState::UnreleasedPartitions {
            return interval_ms;
        }
        let members = i32::try_from(self.facts.members.len()).unwrap_or(i32::MAX);
        interval_ms
            .min(members.saturating_mul(WAITING_HEARTBEAT_PER_MEMBER_MS).saturating_add(WAITING_HEARTBEAT_MIN_MS))
    }

    fn sender(&self, request: &ConsumerHeartbeatRequest, owned: Option<&Assignment>) -> Result<Sender, Refusal> {
        let joins = request.member_epoch == 0;
        let Some(instance) = &request.instance else {
            return match self.facts.members.get(&request.member) {
                Some(member) => check_epoch(member, request.member_epoch, owned).map(|()| Sender::Member),
                None if joins => Ok(Sender::New),
                None => Err(self.unknown_member(&request.member)),
            };
        };
        match self.facts.static_member(instance) {
            None if joins => Ok(Sender::New),
            None => Err(unknown_instance(instance)),
            Some(former) if joins => {
                let known = &self.facts.members[former];
                let is_released = known.current.epoch == STATIC_LEAVE_EPOCH || *former == request.member;
                if known.metadata.classic.is_none() && !is_released {
                    let message = format!(
                        "Static member {} with instance id {instance} cannot join the group because the instance id is \
                         owned by {former} member.",
                        request.member
                    );
                    return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
                }
                Ok(Sender::Replacing(former.clone()))
            }
            Some(former) => {
                check_instance(former, &request.member, instance)?;
                check_epoch(&self.facts.members[former], request.member_epoch, owned).map(|()| Sender::Member)
            }
        }
    }

    /// A member goes, for good or as a static member that will be back. The first is for the caller to remove.
    pub fn leave(&mut self, request: &ConsumerHeartbeatRequest) -> Result<Option<MemberId>, Refusal> {
        let member = match &request.instance {
            Some(instance) => {
                let member = self.facts.static_member(instance).ok_or_else(|| unknown_instance(instance))?;
                check_instance(member, &request.member, instance)?;
                member.clone()
            }
            None if self.facts.members.contains_key(&request.member) => request.member.clone(),
            None => return Err(self.unknown_member(&request.member)),
        };
        if request.member_epoch == STATIC_LEAVE_EPOCH {
            self.set_aside(&member);
            return Ok(None);
        }
        Ok(Some(member))
    }

    pub(super) fn unknown_member(&self, member: &str) -> Refusal {
        let message = format!("Member {member} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }
}

pub(super) fn unknown_instance(instance: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))
}

pub(super) fn check_instance(known: &str, member: &str, instance: &str) -> Result<(), Refusal> {
    if known == member {
        return Ok(());
    }
    let message = format!("Static member {member} with instance id {instance} was fenced by member {known}.");
    Err(Refusal::new(ErrorCode::FencedInstanceId, message))
}

/// 0 joins again; the epoch before the present one may be of a member that missed our answer, if it has no more than it
/// is to have.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Assignment>) -> Result<(), Refusal> {
    let current = &member.current;
    let has_no_more = || owned.is_some_and(|owned| owned.iter().all(|owned| current.assigned.contains_key(owned)));
    if epoch == 0
        || epoch == current.epoch
        || (epoch == current.previous_epoch && epoch < current.epoch && has_no_more())
    {
        return Ok(());
    }
    let relation = if epoch > current.epoch { "greater" } else { "smaller" };
    let message = format!(
        "The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group coordinator \
         ({}). The member must abandon all its partitions and rejoin.",
        current.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}
