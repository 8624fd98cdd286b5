//! JoinGroup: who is let into the group, and what its coming means for the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ClassicGroup, ClassicState, Group, Member, Timer, Turn};
use crate::coordinator::group::{
    GroupDecision, GroupReply, GroupTicket, Groups, JoinReply, JoinRequest, JoinedMember, MemberId, SyncReply,
};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::Time;

/// A new member has no id and sends no heartbeats until its first rebalance ends. If that takes longer, it is given up,
/// lest clients that lost their connection fill the group with ghosts.
const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 300_000;

impl Groups {
    pub(in crate::coordinator::group) fn on_join(
        &mut self,
        now: Time,
        image: &MetadataImage,
        ticket: GroupTicket,
        mut request: JoinRequest,
        decision: &mut GroupDecision,
    ) {
        // Of a protocol that is named twice the first word counts.
        let mut named = BTreeSet::new();
        request.protocols.retain(|(name, _)| named.insert(name.clone()));
        let group = &self.config.group;
        if !(group.min_session_timeout_ms..=group.max_session_timeout_ms).contains(&request.session_timeout_ms) {
            let reply = JoinReply::error(ErrorCode::InvalidSessionTimeout, request.member);
            return decision.reply(ticket, GroupReply::Join(reply));
        }
        let id = request.group.clone();
        match self.groups.get(&id) {
            Some(Group::Consumer(group)) if !group.is_empty() => {
                return self.on_classic_join(now, image, ticket, request, decision);
            }
            Some(Group::Consumer(_)) => self.delete_group(&id, decision),
            _ => {}
        }
        if !self.groups.contains_key(&id) {
            if !request.member.is_empty() {
                let reply = JoinReply::error(ErrorCode::UnknownMemberId, request.member);
                return decision.reply(ticket, GroupReply::Join(reply));
            }
            self.groups.insert(id.clone(), Group::Classic(ClassicGroup::new(now)));
        }
        let named_after = request.instance.as_ref().unwrap_or(&request.client.id);
        let new_member: MemberId = format!("{named_after}-{}", self.random.draw_uuid_text()).into();
        self.classic(now, &id, decision).expect("made sure of above").join(ticket, request, new_member);
        self.forget_if_blank(&id);
    }
}

impl Turn<'_> {
    fn refuse_join(&mut self, ticket: GroupTicket, error_code: ErrorCode, member: MemberId) {
        self.decision.reply(ticket, GroupReply::Join(JoinReply::error(error_code, member)));
    }

    fn join(&mut self, ticket: GroupTicket, request: JoinRequest, new_member: MemberId) {
        if !self.accepts(&request.member) {
            self.remove(&request.member);
            self.complete_join_if_all_are_here();
            return self.refuse_join(ticket, ErrorCode::GroupMaxSizeReached, "".into());
        }
        if !self.group.supports(&request.protocol_type, &request.protocols) {
            return self.refuse_join(ticket, ErrorCode::InconsistentGroupProtocol, request.member);
        }
        if !request.member.is_empty() {
            return self.join_again(ticket, request);
        }
        let present = request.instance.as_ref().and_then(|instance| self.group.instances.get(instance)).cloned();
        match present {
            Some(present) => self.replace_static(ticket, &request, present, new_member),
            None if request.instance.is_none() && request.requires_known_member => {
                let timeout_ms = request.session_timeout_ms as u64;
                let deadline = self.now.after_ms(timeout_ms);
                self.group.pending.insert(new_member.clone(), deadline);
                self.deadlines.set(deadline, self.id.clone(), Timer::Session(new_member.clone()));
                self.refuse_join(ticket, ErrorCode::MemberIdRequired, new_member);
            }
            None => self.add_joining(ticket, request, new_member),
        }
    }

    /// `group.max.size`: members that are in stay in, and in a rebalance those who come first.
    fn accepts(&self, member: &str) -> bool {
        let max_size = self.config().max_size as usize;
        let present = self.group.members.get(member);
        match self.group.state {
            ClassicState::Empty => true,
            ClassicState::PreparingRebalance => {
                present.is_some_and(|member| member.joining.is_some()) || self.group.joining < max_size
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                present.is_some() || self.group.members.len() < max_size
            }
        }
    }

    fn add_joining(&mut self, ticket: GroupTicket, request: JoinRequest, id: MemberId) {
        let member = Member {
            instance: request.instance,
            client: request.client,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Default::default(),
            is_new: true,
            joining: Some(ticket),
            syncing: None,
            session_deadline: None,
            queued: None,
        };
        if let Some(initial) = &mut self.group.initial {
            initial.member_added = true;
        }
        self.group.add_member(id.clone(), &request.protocol_type, member);
        self.await_member(&id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.rebalance_or_complete_join();
    }

    fn join_again(&mut self, ticket: GroupTicket, request: JoinRequest) {
        let id = request.member.clone();
        if self.group.pending.contains_key(&id) {
            return match request.instance {
                Some(_) => self.refuse_join(ticket, ErrorCode::UnknownMemberId, id),
                None => self.add_joining(ticket, request, id),
            };
        }
        if let Err(error_code) = self.group.check_member(&id, request.instance.as_deref()) {
            return self.refuse_join(ticket, error_code, id);
        }
        let changed = self.group.members[&id].protocols != request.protocols;
        let rebalances = match self.group.state {
            ClassicState::PreparingRebalance => true,
            // The answer to its first join may have been lost.
            ClassicState::CompletingRebalance => changed,
            // A leader joins again because something only it knows calls for another assignment.
            ClassicState::Stable => changed || self.group.is_leader(&id),
            ClassicState::Empty => return self.refuse_join(ticket, ErrorCode::UnknownMemberId, id),
        };
        if rebalances {
            self.update_joining(ticket, &request, &id);
            self.rebalance_or_complete_join();
        } else {
            let tells_members =
                self.group.state == ClassicState::CompletingRebalance && self.group.is_leader(&request.member);
            let reply = self.joined(&id, tells_members, false);
            self.decision.reply(ticket, GroupReply::Join(reply));
        }
    }

    fn update_joining(&mut self, ticket: GroupTicket, request: &JoinRequest, id: &MemberId) {
        let (rebalance_timeout_ms, session_timeout_ms) = (request.rebalance_timeout_ms, request.session_timeout_ms);
        self.group.update_member(id, &request.protocols, rebalance_timeout_ms, session_timeout_ms);
        let member = self.group.members.get_mut(id).expect("the caller found it");
        // The client asked again, so nobody waits for the answer to what it asked before.
        match member.joining.replace(ticket) {
            Some(before) => self.refuse_join(before, ErrorCode::RebalanceInProgress, id.clone()),
            None => self.group.joining += 1,
        }
    }

    /// A static member is back without the id it had: it gets another, and whoever still has the old one is fenced. If
    /// nothing else changed, the group need not rebalance (KIP-345).
    fn replace_static(&mut self, ticket: GroupTicket, request: &JoinRequest, before: MemberId, id: MemberId) {
        let led = self.group.is_leader(&before);
        let leader_before = self.group.leader.clone().unwrap_or_default();
        let mut member = self.group.remove_member(&before).expect("instances are members");
        self.fence(&before, &mut member);
        (member.session_deadline, member.queued) = (None, None);
        let protocol_type = self.group.protocol_type.clone().unwrap_or_default();
        self.group.add_member(id.clone(), &protocol_type, member);
        if led {
            self.group.leader = Some(id.clone());
        }
        self.await_session(&id);
        self.update_joining(ticket, request, &id);
        let record = self.group.record(|_, member| member.assignment.clone());
        let fits = record.bytes() <= self.broker.group_record_bytes_max();
        match self.group.state {
            ClassicState::Stable if fits && self.group.protocol.as_ref() == Some(&self.group.select_protocol()) => {
                self.decide(record);
                let leads = self.group.is_leader(&id);
                let mut reply = self.joined(&id, leads && request.can_skip_assignment, false);
                if request.can_skip_assignment {
                    reply.skip_assignment = leads;
                } else {
                    // Told that another one leads, it does not assign anew.
                    reply.leader = leader_before;
                }
                self.answer_join(&id, reply);
            }
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare_rebalance(),
            ClassicState::PreparingRebalance => self.complete_join_if_all_are_here(),
            ClassicState::Empty => unreachable!("an empty group has no members to be replaced"),
        }
    }

    fn fence(&mut self, id: &MemberId, member: &mut Member) {
        if let Some(ticket) = member.joining.take() {
            self.refuse_join(ticket, ErrorCode::FencedInstanceId, id.clone());
        }
        if let Some(ticket) = member.syncing.take() {
            self.decision.reply(ticket, GroupReply::Sync(SyncReply::error(ErrorCode::FencedInstanceId)));
        }
    }

    /// What a member of the present generation is told.
    pub(super) fn joined(&self, id: &MemberId, tells_members: bool, skip_assignment: bool) -> JoinReply {
        let protocol = self.group.protocol.clone();
        let metadata_of: Arc<str> = protocol.clone().unwrap_or_default();
        let told = if tells_members { self.group.members.len() } else { 0 };
        let members = self.group.members.iter().take(told).map(|(id, member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(&metadata_of),
        });
        JoinReply {
            error_code: ErrorCode::None,
            generation: self.group.generation,
            protocol_type: self.group.protocol_type.clone(),
            protocol,
            leader: self.group.leader.clone().unwrap_or_default(),
            skip_assignment,
            member: id.clone(),
            members: members.collect(),
        }
    }

    pub(super) fn answer_join(&mut self, id: &MemberId, reply: JoinReply) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        if let Some(ticket) = member.joining.take() {
            self.group.joining -= 1;
            self.decision.reply(ticket, GroupReply::Join(reply));
        }
    }
}
