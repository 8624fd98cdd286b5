//! Groups of the consumer protocol (KIP-848): the broker assigns, members reconcile by heartbeats. What a group is lies in
//! `facts`, the steps of every decision in `group`, and a file for each that asks: members (`heartbeat`), members of the
//! classic protocol (`classic`), everybody else (`describe`). Here they are tied to the other groups of the partition.

mod assignor;
mod classic;
mod describe;
mod facts;
mod group;
mod heartbeat;
mod member;
mod migration;
mod range;
mod record;
mod request;
mod subscription;
mod uniform;

#[cfg(test)]
mod heartbeat_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod testing;

pub use assignor::{Assignment, Assignor, GroupSpec, MemberSpec, TopicSpec};
pub use group::{Awaited, ConsumerGroup, ConsumerTimer, Moment};
pub use member::{ClassicMember, CurrentAssignment, MemberMetadata, MemberState};
pub use migration::Downgrade;
pub use record::{ConsumerFact, ConsumerRecord, GroupEpoch, ResolvedRegex, TargetEpoch};
pub use request::{ConsumerDescribeReply, ConsumerDescribedMember, ConsumerHeartbeatReply, ConsumerHeartbeatRequest};

use super::{
    Group, GroupDecision, GroupId, GroupRecord, GroupReply, GroupTicket, Groups, HeartbeatRequest, JoinReply,
    JoinRequest, LeaveReply, LeaveRequest, MemberId, SyncReply, SyncRequest, Timer,
};
use crate::config::MigrationPolicy;
use crate::coordinator::Refusal;
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::{Time, Uuid};

impl Groups {
    pub(super) fn on_consumer_heartbeat(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        mut request: ConsumerHeartbeatRequest,
        decision: &mut GroupDecision,
    ) {
        let reply = request.check(&image.config().group).and_then(|()| {
            if request.member.is_empty() {
                request.member = Uuid::from_random(self.random.draw()).to_string().into();
            }
            match request.is_leave() {
                true => self.leave_consumer_group(now, image, &request, decision),
                false => self.heartbeat_consumer_group(now, image, &request, decision),
            }
        });
        let reply = reply.unwrap_or_else(|refusal| ConsumerHeartbeatReply::error(refusal.error_code, refusal.message));
        decision.reply(ticket, GroupReply::ConsumerHeartbeat(reply));
    }

    fn heartbeat_consumer_group(
        &mut self,
        now: Time,
        image: &MetadataImage,
        request: &ConsumerHeartbeatRequest,
        decision: &mut GroupDecision,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        let moment = Moment::new(now, image);
        let id = &request.group;
        let joins = request.member_epoch == 0;
        match self.groups.get_mut(id) {
            Some(Group::Consumer(group)) => {
                let reply = group.heartbeat(&moment, request)?;
                self.take_from_consumer_group(id, decision);
                Ok(reply)
            }
            None if joins => {
                let mut group = ConsumerGroup::new(id.clone());
                let reply = group.heartbeat(&moment, request)?;
                self.groups.insert(id.clone(), Group::Consumer(group));
                self.take_from_consumer_group(id, decision);
                Ok(reply)
            }
            None => Err(group_not_found(id)),
            Some(Group::Classic(classic)) if joins => {
                let mut group = match classic.is_empty() {
                    true => ConsumerGroup::new(id.clone()),
                    false => ConsumerGroup::from_classic(id, classic, &moment)?,
                };
                let reply = group.heartbeat(&moment, request)?;
                if let Some(mut turn) = self.classic(now, id, decision) {
                    turn.dismiss();
                }
                self.delete_group(id, decision);
                self.groups.insert(id.clone(), Group::Consumer(group));
                self.take_from_consumer_group(id, decision);
                Ok(reply)
            }
            Some(Group::Classic(_)) => Err(no_consumer_group(id)),
        }
    }

    fn leave_consumer_group(
        &mut self,
        now: Time,
        image: &MetadataImage,
        request: &ConsumerHeartbeatRequest,
        decision: &mut GroupDecision,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        let id = &request.group;
        let leaving = self.consumer_group(id)?.leave(request)?;
        match leaving {
            Some(member) => self.remove_consumer_members(now, image, id, &[member], decision),
            None => self.take_from_consumer_group(id, decision),
        }
        Ok(ConsumerHeartbeatReply {
            error_code: ErrorCode::None,
            error_message: None,
            member: Some(request.member.clone()),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    fn consumer_group(&mut self, id: &GroupId) -> Result<&mut ConsumerGroup, Refusal> {
        match self.groups.get_mut(id) {
            Some(Group::Consumer(group)) => Ok(group),
            Some(Group::Classic(_)) => Err(no_consumer_group(id)),
            None => Err(group_not_found(id)),
        }
    }

    /// Members left, or were not heard of in time.
    fn remove_consumer_members(
        &mut self,
        now: Time,
        image: &MetadataImage,
        id: &GroupId,
        members: &[MemberId],
        decision: &mut GroupDecision,
    ) {
        let moment = Moment::new(now, image);
        let Ok(group) = self.consumer_group(id) else { return };
        if group.will_downgrade(&moment, members) {
            return self.downgrade(&moment, id, members, true, decision);
        }
        group.remove_members(&moment, members);
        self.take_from_consumer_group(id, decision);
    }

    /// The group goes on in the classic protocol, without these members.
    fn downgrade(
        &mut self,
        moment: &Moment,
        id: &GroupId,
        without: &[MemberId],
        rebalances: bool,
        decision: &mut GroupDecision,
    ) {
        self.take_from_consumer_group(id, decision);
        let Ok(group) = self.consumer_group(id) else { return };
        let downgrade = group.to_classic(moment, without);
        self.delete_group(id, decision);
        let value = Some(downgrade.record.clone());
        self.decide(decision, GroupRecord::Classic { group: id.clone(), value });
        self.classic(moment.now, id, decision).expect("just made").take_over(downgrade, rebalances);
    }

    /// JoinGroup for a group that is of the consumer protocol and not empty.
    pub(super) fn on_classic_join(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: JoinRequest,
        decision: &mut GroupDecision,
    ) {
        let moment = Moment::new(now, image);
        let reply = self.join_consumer_group(&moment, &request, decision);
        let reply = reply.unwrap_or_else(|refusal| JoinReply::error(refusal.error_code, request.member));
        decision.reply(ticket, GroupReply::Join(reply));
    }

    fn join_consumer_group(
        &mut self,
        moment: &Moment,
        request: &JoinRequest,
        decision: &mut GroupDecision,
    ) -> Result<JoinReply, Refusal> {
        if moment.config.consumer_migration_policy == MigrationPolicy::Disabled {
            return Err(Refusal::from(ErrorCode::InconsistentGroupProtocol));
        }
        let drawn: MemberId = Uuid::from_random(self.random.draw()).to_string().into();
        let group = self.consumer_group(&request.group)?;
        let sender = group.check_classic_join(moment, request)?;
        let member = if request.member.is_empty() { &drawn } else { &request.member };
        if request.member.is_empty() && request.instance.is_none() && request.requires_known_member {
            return Ok(JoinReply::error(ErrorCode::MemberIdRequired, drawn));
        }
        let reply = group.classic_join(moment, member, sender, request)?;
        if group.will_downgrade(moment, &[]) {
            let rebalances = !group.is_assigned();
            self.downgrade(moment, &request.group, &[], rebalances, decision);
        } else {
            self.take_from_consumer_group(&request.group, decision);
        }
        Ok(reply)
    }

    /// SyncGroup of a member of such a group.
    pub(super) fn on_classic_sync(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: SyncRequest,
        decision: &mut GroupDecision,
    ) {
        let moment = Moment::new(now, image);
        let reply = self.consumer_group(&request.group).and_then(|group| group.classic_sync(&moment, &request));
        self.take_from_consumer_group(&request.group, decision);
        let reply = reply.unwrap_or_else(|refusal| SyncReply::error(refusal.error_code));
        decision.reply(ticket, GroupReply::Sync(reply));
    }

    /// Heartbeat of a member of such a group.
    pub(super) fn on_classic_heartbeat(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: HeartbeatRequest,
        decision: &mut GroupDecision,
    ) {
        let moment = Moment::new(now, image);
        let heard = self.consumer_group(&request.group).and_then(|group| group.classic_heartbeat(&moment, &request));
        self.take_from_consumer_group(&request.group, decision);
        let error_code = heard.map_or_else(|refusal| refusal.error_code, |()| ErrorCode::None);
        decision.reply(ticket, GroupReply::Heartbeat(error_code));
    }

    /// LeaveGroup of members of such a group, of either protocol.
    pub(super) fn on_classic_leave(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: LeaveRequest,
        decision: &mut GroupDecision,
    ) {
        let mut gone: Vec<MemberId> = Vec::new();
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let member = self.consumer_group(&request.group).and_then(|group| group.check_classic_leave(&leaving));
            let error_code = match member {
                Ok(member) if gone.contains(&member) => ErrorCode::None,
                Ok(member) => {
                    gone.push(member);
                    ErrorCode::None
                }
                Err(refusal) => refusal.error_code,
            };
            members.push((leaving, error_code));
        }
        if !gone.is_empty() {
            self.remove_consumer_members(now, image, &request.group, &gone, decision);
        }
        decision.reply(ticket, GroupReply::Leave(LeaveReply { error_code: ErrorCode::None, members }));
    }

    /// Hands on what the group decided, and what it waits for.
    fn take_from_consumer_group(&mut self, id: &GroupId, decision: &mut GroupDecision) {
        let Some(Group::Consumer(group)) = self.groups.get_mut(id) else { return };
        decision.records.extend(group.take_decided().into_iter().map(GroupRecord::Consumer));
        for (deadline, timer) in group.take_timers() {
            self.deadlines.set(deadline, id.clone(), Timer::Consumer(timer));
        }
    }

    pub(super) fn on_consumer_describe(
        &mut self,
        image: &MetadataImage,
        ticket: GroupTicket,
        group: GroupId,
        decision: &mut GroupDecision,
    ) {
        let moment = Moment::new(Time::default(), image);
        let reply = match self.consumer_group(&group) {
            Ok(found) => found.describe(&moment),
            Err(refusal) => ConsumerDescribeReply::error(group, refusal.error_code, Some(refusal.message)),
        };
        decision.reply(ticket, GroupReply::ConsumerDescribe(reply));
    }

    pub(super) fn on_consumer_timer(
        &mut self,
        now: Time,
        image: &MetadataImage,
        id: &GroupId,
        timer: ConsumerTimer,
        decision: &mut GroupDecision,
    ) {
        let Ok(group) = self.consumer_group(id) else { return };
        if group.is_late(now, &timer) {
            self.remove_consumer_members(now, image, id, &[timer.member], decision);
        } else {
            self.take_from_consumer_group(id, decision);
        }
    }

    /// The partition's log is replayed: members have a whole session from now on.
    pub(super) fn on_consumer_loaded(&mut self, now: Time, image: &MetadataImage, id: &GroupId) {
        if let Ok(group) = self.consumer_group(id) {
            group.on_loaded(&Moment::new(now, image));
            for (deadline, timer) in group.take_timers() {
                self.deadlines.set(deadline, id.clone(), Timer::Consumer(timer));
            }
        }
    }

    /// Facts about a group that is not there make it; what takes them back does not.
    pub(super) fn replay_consumer(&mut self, record: &ConsumerRecord) {
        let ConsumerRecord { group: id, fact } = record;
        if let ConsumerFact::Epoch(None) = fact {
            if let Some(Group::Consumer(_)) = self.groups.get(id) {
                self.groups.remove(id);
            }
            return;
        }
        match self.groups.get_mut(id) {
            Some(Group::Consumer(group)) => group.replay(fact),
            _ if fact.takes_back() => {}
            // A classic group may be there for its offsets alone.
            _ => {
                let mut group = ConsumerGroup::new(id.clone());
                group.replay(fact);
                self.groups.insert(id.clone(), Group::Consumer(group));
            }
        }
    }
}

fn group_not_found(id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Consumer group {id} not found."))
}

fn no_consumer_group(id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a consumer group."))
}
