//! SyncGroup, Heartbeat and LeaveGroup: what members of a generation do.

use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicState, Group, Turn};
use crate::coordinator::group::{
    GroupDecision, GroupReply, GroupTicket, Groups, HeartbeatRequest, LeaveReply, LeaveRequest, LeavingMember,
    MemberId, SyncReply, SyncRequest,
};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::{Map, Time};

impl Groups {
    pub(in crate::coordinator::group) fn on_sync(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: SyncRequest,
        decision: &mut GroupDecision,
    ) {
        match self.groups.get(&request.group) {
            Some(Group::Consumer(group)) if !group.is_empty() => {
                self.on_classic_sync(now, image, ticket, request, decision);
            }
            Some(Group::Classic(group)) if !group.is_empty() => {
                let id = request.group.clone();
                self.classic(now, &id, decision).expect("just seen").sync(ticket, request);
            }
            _ => decision.reply(ticket, GroupReply::Sync(SyncReply::error(ErrorCode::UnknownMemberId))),
        }
    }

    pub(in crate::coordinator::group) fn on_heartbeat(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: HeartbeatRequest,
        decision: &mut GroupDecision,
    ) {
        if let Some(Group::Consumer(_)) = self.groups.get(&request.group) {
            return self.on_classic_heartbeat(now, image, ticket, request, decision);
        }
        let error_code = match self.classic(now, &request.group, decision) {
            Some(mut turn) => turn.heartbeat(&request),
            None => ErrorCode::UnknownMemberId,
        };
        decision.reply(ticket, GroupReply::Heartbeat(error_code));
    }

    pub(in crate::coordinator::group) fn on_leave(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        request: LeaveRequest,
        decision: &mut GroupDecision,
    ) {
        if let Some(Group::Consumer(_)) = self.groups.get(&request.group) {
            return self.on_classic_leave(now, image, ticket, request, decision);
        }
        let members = match self.classic(now, &request.group, decision) {
            Some(mut turn) => turn.leave(request.members),
            None => request.members.into_iter().map(|member| (member, ErrorCode::UnknownMemberId)).collect(),
        };
        decision.reply(ticket, GroupReply::Leave(LeaveReply { error_code: ErrorCode::None, members }));
        self.forget_if_blank(&request.group);
    }
}

impl Turn<'_> {
    fn sync(&mut self, ticket: GroupTicket, request: SyncRequest) {
        if let Err(error_code) = self.check_sync(&request) {
            return self.decision.reply(ticket, GroupReply::Sync(SyncReply::error(error_code)));
        }
        let id = request.member.clone();
        if self.group.unsynced.remove(&id) && self.group.unsynced.is_empty() {
            self.group.sync_deadline = None;
        }
        match self.group.state {
            ClassicState::CompletingRebalance => {
                let member = self.group.members.get_mut(&id).expect("just checked");
                if let Some(before) = member.syncing.replace(ticket) {
                    // The client asked again, so nobody waits for the answer to what it asked before.
                    let reply = SyncReply::error(ErrorCode::RebalanceInProgress);
                    self.decision.reply(before, GroupReply::Sync(reply));
                }
                if self.group.is_leader(&id) {
                    self.assign(request.assignments);
                }
            }
            ClassicState::Stable => {
                let reply = self.assigned(&id);
                self.decision.reply(ticket, GroupReply::Sync(reply));
            }
            ClassicState::PreparingRebalance | ClassicState::Empty => {
                let reply = SyncReply::error(ErrorCode::RebalanceInProgress);
                self.decision.reply(ticket, GroupReply::Sync(reply));
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        self.group.check_member(&request.member, request.instance.as_deref())?;
        if request.generation != self.group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |told: &Option<Arc<str>>, is: &Option<Arc<str>>| told.is_some() && told != is;
        if differs(&request.protocol_type, &self.group.protocol_type)
            || differs(&request.protocol, &self.group.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// The leader has assigned: with this record the generation begins.
    fn assign(&mut self, assignments: Vec<(MemberId, Bytes)>) {
        let assignments: Map<MemberId, Bytes> = assignments.into_iter().collect();
        self.group.enter(ClassicState::Stable, self.now);
        let record = self.group.record(|id, _| assignments.get(id).cloned().unwrap_or_default());
        let members: Vec<MemberId> = self.group.members.keys().cloned().collect();
        if record.bytes() > self.broker.group_record_bytes_max() {
            self.group.state = ClassicState::CompletingRebalance;
            for id in members {
                self.answer_sync(&id, SyncReply::error(ErrorCode::UnknownServerError));
            }
            return self.prepare_rebalance();
        }
        self.decide(record);
        for id in members {
            let reply = self.assigned(&id);
            self.answer_sync(&id, reply);
        }
    }

    fn assigned(&self, id: &MemberId) -> SyncReply {
        SyncReply {
            error_code: ErrorCode::None,
            protocol_type: self.group.protocol_type.clone(),
            protocol: self.group.protocol.clone(),
            assignment: self.group.members[id].assignment.clone(),
        }
    }

    fn heartbeat(&mut self, request: &HeartbeatRequest) -> ErrorCode {
        if let Err(error_code) = self.group.check_member(&request.member, request.instance.as_deref()) {
            return error_code;
        }
        if request.generation != self.group.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.await_session(&request.member);
        match self.group.state {
            ClassicState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            ClassicState::CompletingRebalance | ClassicState::Stable => ErrorCode::None,
            ClassicState::Empty => ErrorCode::UnknownMemberId,
        }
    }

    /// A commit is a sign of life as well.
    pub(in crate::coordinator::group) fn on_commit(&mut self, member: &MemberId) {
        if matches!(self.group.state, ClassicState::Stable | ClassicState::PreparingRebalance) {
            self.await_session(member);
        }
    }

    fn leave(&mut self, members: Vec<LeavingMember>) -> Vec<(LeavingMember, ErrorCode)> {
        let mut results = Vec::with_capacity(members.len());
        let mut anybody = false;
        for leaving in members {
            let outcome = self.leaving(&leaving);
            if let Ok(id) = &outcome {
                anybody = true;
                self.remove(id);
            }
            results.push((leaving, outcome.err().unwrap_or(ErrorCode::None)));
        }
        if anybody {
            match self.group.state {
                ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare_rebalance(),
                ClassicState::PreparingRebalance => self.complete_join_if_all_are_here(),
                ClassicState::Empty => {}
            }
        }
        results
    }

    /// An administrator names the instance alone; pending members leave as well.
    fn leaving(&self, leaving: &LeavingMember) -> Result<MemberId, ErrorCode> {
        if leaving.member.is_empty() {
            let id = leaving.instance.as_ref().and_then(|instance| self.group.instances.get(instance));
            return id.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if !self.group.pending.contains_key(&leaving.member) {
            self.group.check_member(&leaving.member, leaving.instance.as_deref())?;
        }
        Ok(leaving.member.clone())
    }
}
