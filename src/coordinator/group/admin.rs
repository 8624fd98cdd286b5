//! ListGroups, DescribeGroups and DeleteGroups, and how groups end that nobody uses.

use super::classic::{ClassicGroup, ClassicState};
use super::{
    DescribedGroup, DescribedMember, Group, GroupDecision, GroupId, GroupRecord, GroupReply, GroupTicket, Groups,
    ListRequest, ListedGroup,
};
use crate::error_code::ErrorCode;
use crate::protocol::consumer_protocol::CONSUMER_PROTOCOL_TYPE;

impl Group {
    /// Nobody is a member.
    pub fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
        }
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed_to(topic),
            Group::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    fn listed(&self, id: &GroupId) -> ListedGroup {
        let (protocol_type, state, group_type) = match self {
            Group::Classic(group) => (group.protocol_type.clone().unwrap_or_default(), group.state.name(), "classic"),
            Group::Consumer(group) => (CONSUMER_PROTOCOL_TYPE.into(), group.state(), "consumer"),
        };
        ListedGroup { group: id.clone(), protocol_type, state, group_type }
    }
}

impl Groups {
    pub(super) fn on_list(&mut self, ticket: GroupTicket, request: &ListRequest, decision: &mut GroupDecision) {
        let passes = |filter: &[String], word: &str| {
            filter.is_empty() || filter.iter().any(|allowed| allowed.eq_ignore_ascii_case(word))
        };
        let groups = self.groups.iter().map(|(id, group)| group.listed(id));
        let groups =
            groups.filter(|group| passes(&request.states, group.state) && passes(&request.types, group.group_type));
        decision.reply(ticket, GroupReply::List(Ok(groups.collect())));
    }

    pub(super) fn on_describe(&mut self, ticket: GroupTicket, id: GroupId, decision: &mut GroupDecision) {
        let described = match self.groups.get(&id) {
            Some(Group::Classic(group)) => describe(id, group),
            Some(Group::Consumer(_)) => {
                let message = format!("Group {id} is not a classic group.");
                DescribedGroup::error(id, ErrorCode::GroupIdNotFound, Some(message))
            }
            None => {
                let message = format!("Group {id} not found.");
                DescribedGroup::error(id, ErrorCode::GroupIdNotFound, Some(message))
            }
        };
        decision.reply(ticket, GroupReply::Describe(described));
    }

    pub(super) fn on_delete(&mut self, ticket: GroupTicket, id: &GroupId, decision: &mut GroupDecision) {
        let error_code = match self.groups.get(id) {
            None => ErrorCode::GroupIdNotFound,
            Some(group) if !group.is_empty() => ErrorCode::NonEmptyGroup,
            Some(_) => {
                self.delete_offsets(id, decision);
                self.delete_group(id, decision);
                ErrorCode::None
            }
        };
        decision.reply(ticket, GroupReply::Delete(error_code));
    }

    /// Of a group without members.
    pub(super) fn delete_group(&mut self, id: &GroupId, decision: &mut GroupDecision) {
        let records = match self.groups.get(id) {
            None => return,
            Some(Group::Classic(_)) => vec![GroupRecord::Classic { group: id.clone(), value: None }],
            Some(Group::Consumer(group)) => group.tombstones().into_iter().map(GroupRecord::Consumer).collect(),
        };
        for record in records {
            self.decide(decision, record);
        }
    }

    /// A group without members and without offsets is of no use to anybody.
    pub(super) fn delete_group_without_use(&mut self, id: &GroupId, decision: &mut GroupDecision) {
        let awaited = matches!(self.groups.get(id), Some(Group::Classic(group)) if group.awaits_members());
        if self.offsets.of(id).is_none() && !awaited && self.groups.get(id).is_some_and(Group::is_empty) {
            self.delete_group(id, decision);
        }
    }

    /// A group of which the log knows nothing, and which nobody is coming to.
    pub(super) fn forget_if_blank(&mut self, id: &GroupId) {
        if let Some(Group::Classic(group)) = self.groups.get(id)
            && group.is_blank()
            && self.offsets.of(id).is_none()
        {
            self.groups.remove(id);
        }
    }
}

/// Subscriptions and assignments mean something only while they are in force.
fn describe(id: GroupId, group: &ClassicGroup) -> DescribedGroup {
    let protocol = group.protocol.as_ref().filter(|_| group.state == ClassicState::Stable);
    let members = group.members.iter().map(|(member, row)| DescribedMember {
        member: member.clone(),
        instance: row.instance.clone(),
        client: row.client.clone(),
        metadata: protocol.map(|protocol| row.metadata(protocol)).unwrap_or_default(),
        assignment: row.assignment.clone(),
    });
    DescribedGroup {
        error_code: ErrorCode::None,
        error_message: None,
        group: id,
        state: group.state.name(),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        protocol: protocol.cloned().unwrap_or_default(),
        members: members.collect(),
    }
}
