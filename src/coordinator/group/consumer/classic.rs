//! Members of the classic protocol in a group of the consumer protocol: a live group on its way from one to the other.

use crate::coordinator::group::{
    GroupDecision, GroupReply, GroupRequest, GroupTicket, Groups, HeartbeatRequest, JoinRequest, LeaveRequest,
    SyncRequest,
};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::Time;

impl Groups {
    /// JoinGroup for a group that is of the consumer protocol and not empty.
    pub(in crate::coordinator::group) fn on_classic_join(
        &mut self,
        _now: Time,
        _image: &MetadataImage,
        ticket: GroupTicket,
        request: JoinRequest,
        decision: &mut GroupDecision,
    ) {
        let reply = GroupRequest::Join(request).refuse(ErrorCode::InconsistentGroupProtocol);
        decision.reply(ticket, reply);
    }

    /// SyncGroup of a member of such a group.
    pub(in crate::coordinator::group) fn on_classic_sync(
        &mut self,
        _now: Time,
        _image: &MetadataImage,
        ticket: GroupTicket,
        request: SyncRequest,
        decision: &mut GroupDecision,
    ) {
        decision.reply(ticket, GroupRequest::Sync(request).refuse(ErrorCode::UnknownMemberId));
    }

    /// Heartbeat of a member of such a group.
    pub(in crate::coordinator::group) fn on_classic_heartbeat(
        &mut self,
        _now: Time,
        _image: &MetadataImage,
        ticket: GroupTicket,
        _request: HeartbeatRequest,
        decision: &mut GroupDecision,
    ) {
        decision.reply(ticket, GroupReply::Heartbeat(ErrorCode::UnknownMemberId));
    }

    /// LeaveGroup of members of such a group, of either protocol.
    pub(in crate::coordinator::group) fn on_classic_leave(
        &mut self,
        _now: Time,
        _image: &MetadataImage,
        ticket: GroupTicket,
        request: LeaveRequest,
        decision: &mut GroupDecision,
    ) {
        decision.reply(ticket, GroupRequest::Leave(request).refuse(ErrorCode::UnknownMemberId));
    }
}
