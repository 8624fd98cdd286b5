//! A live group moves between the protocols (`group.consumer.migration.policy`): up when the first member of the consumer
//! protocol joins, down when the last one is gone. Members and what they have stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::assignor::Assignment;
use super::group::{Awaited, ConsumerGroup, Moment};
use super::member::{ClassicMember, CurrentAssignment, MemberMetadata};
use super::record::{ConsumerFact, GroupEpoch, TargetEpoch, of_topics};
use super::subscription::metadata_hash;
use crate::config::MigrationPolicy;
use crate::coordinator::Refusal;
use crate::coordinator::group::{ClassicGroup, ClassicGroupRecord, ClassicMemberRecord, GroupId, MemberId};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::protocol::consumer_protocol::{CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment};

/// Names and metadata, the most wanted first.
type Protocols = Vec<(Arc<str>, Bytes)>;

/// A group that goes on in the classic protocol.
pub struct Downgrade {
    pub record: ClassicGroupRecord,
    /// All that the members support; the record has only what was chosen of it.
    pub protocols: Vec<(MemberId, Protocols)>,
}

impl ConsumerGroup {
    /// The same group in the consumer protocol: generations are epochs, assignments are targets that were reached.
    pub fn from_classic(id: &GroupId, classic: &ClassicGroup, moment: &Moment) -> Result<ConsumerGroup, Refusal> {
        let refuse = |why: &str| {
            let message = format!("Cannot upgrade classic group {id} to consumer group because {why}.");
            Err(Refusal::new(ErrorCode::GroupIdNotFound, message))
        };
        let policy = moment.config.consumer_migration_policy;
        if !matches!(policy, MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade) {
            return refuse("online upgrade is disabled");
        }
        if classic.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL_TYPE) {
            return refuse("the group does not use the consumer embedded protocol");
        }
        if classic.members.len() > moment.config.consumer_max_size as usize {
            return refuse("the group size exceeds the consumer group maximum size");
        }
        let mut members: Vec<(MemberId, MemberMetadata, Assignment)> = Vec::with_capacity(classic.members.len());
        for (member_id, member) in &classic.members {
            let Ok(assigned) = assigned_before(moment.image, &member.assignment) else {
                return refuse("the embedded consumer protocol is malformed");
            };
            let Some(assigned) = assigned else {
                return refuse("an unsupported custom assignor is in use, whose own data would be lost");
            };
            let (session_timeout_ms, protocols) = (member.session_timeout_ms, member.protocols.clone());
            let metadata = MemberMetadata {
                instance: member.instance.clone(),
                client: member.client.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                ..MemberMetadata::default()
            };
            let Ok(metadata) = (ClassicMember { session_timeout_ms, protocols }).apply_to(metadata) else {
                return refuse("the embedded consumer protocol is malformed");
            };
            members.push((member_id.clone(), metadata, assigned));
        }
        let mut group = ConsumerGroup::new(id.clone());
        group.take_over(moment, classic.generation, members);
        Ok(group)
    }

    fn take_over(&mut self, moment: &Moment, epoch: i32, members: Vec<(MemberId, MemberMetadata, Assignment)>) {
        for (member, metadata, _) in &members {
            self.decide(ConsumerFact::Member(member.clone(), Some(metadata.clone())));
            let session_timeout_ms = metadata.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
            self.start_awaiting(moment.now, member, Awaited::Heartbeat, session_timeout_ms);
        }
        let metadata_hash = metadata_hash(&self.facts, moment.image);
        self.decide(ConsumerFact::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        for (member, _, assigned) in &members {
            self.decide(ConsumerFact::Target(member.clone(), Some(assigned.clone())));
        }
        self.decide(ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch, timestamp_ms: 0 })));
        for (member, _, assigned) in members {
            let assigned = assigned.into_iter().map(|partition| (partition, epoch)).collect();
            let current = CurrentAssignment { epoch, previous_epoch: epoch, assigned, ..CurrentAssignment::default() };
            self.decide(ConsumerFact::Current(member, Some(current)));
        }
    }

    /// Whether the group goes on in the classic protocol once these members are gone.
    pub(super) fn will_downgrade(&self, moment: &Moment, without: &[MemberId]) -> bool {
        let policy = moment.config.consumer_migration_policy;
        let gone = without.iter().filter_map(|member| self.facts.members.get(member));
        let (gone, gone_classic) = gone.fold((0, 0), |(gone, classic), member| {
            (gone + 1, classic + usize::from(member.metadata.classic.is_some()))
        });
        let left = self.facts.members.len() - gone;
        matches!(policy, MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade)
            && left > 0
            && self.facts.classic_members() - gone_classic == left
            && left <= moment.config.max_size as usize
    }

    /// The group without these members, as the classic protocol knows it.
    pub(super) fn to_classic(&self, moment: &Moment, without: &[MemberId]) -> Downgrade {
        let stay = self.facts.members.iter().filter(|(member, _)| !without.contains(member));
        let members: Vec<_> =
            stay.filter_map(|(id, member)| Some((id, &member.metadata, member.metadata.classic.as_ref()?))).collect();
        let protocol = shared_protocol(members.iter().map(|(_, _, classic)| *classic));
        static NOTHING: Assignment = Assignment::new();
        let row = |&(id, metadata, classic): &(&MemberId, &MemberMetadata, &ClassicMember)| ClassicMemberRecord {
            member: id.clone(),
            instance: metadata.instance.clone(),
            client_id: metadata.client.id.clone(),
            client_host: metadata.client.host.clone(),
            rebalance_timeout_ms: metadata.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            subscription: said_to(classic, protocol.as_deref()),
            assignment: classic.assignment(moment.image, self.facts.targets.get(id).unwrap_or(&NOTHING).iter()),
        };
        let record = ClassicGroupRecord {
            protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
            generation: self.facts.epoch.epoch,
            protocol: protocol.clone(),
            leader: members.first().map(|(id, ..)| (*id).clone()),
            state_timestamp_ms: moment.now.wall_ms,
            members: members.iter().map(row).collect(),
        };
        let protocols = members.iter().map(|(id, _, classic)| ((*id).clone(), classic.protocols.clone())).collect();
        Downgrade { record, protocols }
    }

    /// The target is the one that the group's present epoch asks for.
    pub(super) fn is_assigned(&self) -> bool {
        self.facts.target_epoch.epoch >= self.facts.epoch.epoch
    }
}

/// `None` if an assignor of the clients' own left a note there, which we could not keep. One that has never synced has
/// nothing. A partition that two members claim stays with the first.
fn assigned_before(image: &MetadataImage, assignment: &[u8]) -> Result<Option<Assignment>, ()> {
    if assignment.is_empty() {
        return Ok(Some(Assignment::new()));
    }
    let assignment = ConsumerProtocolAssignment::of_bytes(assignment).map_err(|_| ())?;
    if assignment.user_data.is_some_and(|user_data| !user_data.is_empty()) {
        return Ok(None);
    }
    let topics = assignment.assigned_partitions.iter();
    Ok(Some(of_topics(topics.filter_map(|of| Some((image.topic(of.topic)?.id, &*of.partitions))))))
}

fn said_to(classic: &ClassicMember, protocol: Option<&str>) -> Bytes {
    let said = classic.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
    said.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
}

/// What all members support and most of them like best.
fn shared_protocol<'a>(members: impl Iterator<Item = &'a ClassicMember> + Clone) -> Option<Arc<str>> {
    let supports = |member: &ClassicMember, name: &str| member.protocols.iter().any(|(known, _)| **known == *name);
    let shared = |name: &&Arc<str>| members.clone().all(|member| supports(member, name));
    let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for member in members.clone() {
        if let Some(vote) = member.protocols.iter().map(|(name, _)| name).find(shared) {
            *votes.entry(vote).or_default() += 1;
        }
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.clone())
}
