//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete, and how offsets end: by age, or with their topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classic::ClassicState;
use super::{
    CommitPartition, CommittedOffset, FetchedOffset, FetchedTopic, Group, GroupDecision, GroupId, GroupRecord,
    GroupReply, GroupTicket, Groups, OffsetCommitReply, OffsetCommitRequest, OffsetDeleteReply, OffsetDeleteRequest,
    OffsetFetchReply, OffsetFetchRequest,
};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::{PartitionId, Time, Timestamp, TopicId, Uuid};

/// By topic and partition.
type GroupOffsets = BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>;

/// Of all groups of one partition of the log. A group or topic without offsets has no entry.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    groups: BTreeMap<GroupId, GroupOffsets>,
}

impl Offsets {
    pub fn of(&self, group: &str) -> Option<&GroupOffsets> {
        self.groups.get(group)
    }

    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    pub fn replay(&mut self, group: &GroupId, topic: &Arc<str>, partition: i32, value: Option<&CommittedOffset>) {
        if let Some(value) = value {
            let topics = self.groups.entry(group.clone()).or_default();
            topics.entry(topic.clone()).or_default().insert(partition, value.clone());
            return;
        }
        let Some(topics) = self.groups.get_mut(group) else { return };
        if let Some(partitions) = topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Every offset for which `ends` is true, as what takes it back.
    fn tombstones(&self, group: &GroupId, mut ends: impl FnMut(&str, &CommittedOffset) -> bool) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (topic, partitions) in self.groups.get(group).into_iter().flatten() {
            for (&partition, _) in partitions.iter().filter(|(_, offset)| ends(topic, offset)) {
                let (group, topic) = (group.clone(), topic.clone());
                records.push(GroupRecord::Offset { group, topic, partition, value: None });
            }
        }
        records
    }
}

impl Groups {
    pub(super) fn on_offset_commit(
        &mut self,
        now: Time,
        ticket: GroupTicket,
        request: OffsetCommitRequest,
        decision: &mut GroupDecision,
    ) {
        if let Err(error_code) = self.check_commit(now, &request, decision) {
            let reply = OffsetCommitReply { error_code, topics: Vec::new() };
            return decision.reply(ticket, GroupReply::OffsetCommit(reply));
        }
        let expire_timestamp_ms =
            Some(request.retention_time_ms).filter(|&time| time >= 0).map(|time| now.wall_ms.saturating_add(time));
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut codes = Vec::with_capacity(topic.partitions.len());
            for CommitPartition { index, offset, leader_epoch, metadata } in topic.partitions {
                if self.is_too_long(&metadata) {
                    codes.push(ErrorCode::OffsetMetadataTooLarge);
                    continue;
                }
                let partition = PartitionId { topic: topic.id, index };
                if let Some(Group::Consumer(present)) = self.groups.get(&request.group)
                    && let Err(error_code) = present.check_commit_of(&request.member, request.generation, partition)
                {
                    codes.push(error_code);
                    continue;
                }
                codes.push(ErrorCode::None);
                let commit_timestamp_ms = now.wall_ms;
                // The only version of the record with a time of expiry has neither of the two.
                let (leader_epoch, topic_id) = match expire_timestamp_ms {
                    Some(_) => (-1, Uuid::ZERO),
                    None => (leader_epoch, topic.id),
                };
                let value = CommittedOffset {
                    offset,
                    leader_epoch,
                    metadata,
                    commit_timestamp_ms,
                    expire_timestamp_ms,
                    topic_id,
                };
                let (group, topic) = (request.group.clone(), topic.name.clone());
                self.decide(decision, GroupRecord::Offset { group, topic, partition: index, value: Some(value) });
            }
            topics.push(codes);
        }
        let reply = OffsetCommitReply { error_code: ErrorCode::None, topics };
        decision.reply(ticket, GroupReply::OffsetCommit(reply));
    }

    /// Who may commit: members of the present generation, and anybody while nobody is a member.
    fn check_commit(
        &mut self,
        now: Time,
        request: &OffsetCommitRequest,
        decision: &mut GroupDecision,
    ) -> Result<(), ErrorCode> {
        let OffsetCommitRequest { group, generation, member, instance, api_version, .. } = request;
        match self.groups.get(group) {
            None if *generation < 0 => Ok(()),
            None if *api_version >= 9 => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
            Some(Group::Consumer(group)) => group.check_commit(member, *generation, *api_version),
            Some(Group::Classic(classic)) => {
                classic.check_commit(member, instance.as_deref(), *generation)?;
                if let Some(mut turn) = self.classic(now, group, decision) {
                    turn.on_commit(member);
                }
                Ok(())
            }
        }
    }

    /// `offset.metadata.max.bytes`, which Kafka counts in UTF-16 units.
    fn is_too_long(&self, metadata: &str) -> bool {
        let max = self.config.group.offset_metadata_max_bytes as usize;
        metadata.len() > max && metadata.encode_utf16().count() > max
    }

    pub(super) fn on_offset_fetch(
        &mut self,
        ticket: GroupTicket,
        request: OffsetFetchRequest,
        decision: &mut GroupDecision,
    ) {
        let checked = match self.groups.get(&request.group) {
            Some(Group::Consumer(group)) => group.check_fetch(request.member.as_deref(), request.member_epoch),
            Some(Group::Classic(_)) | None => Ok(()),
        };
        let reply = match checked {
            Ok(()) => OffsetFetchReply { error_code: ErrorCode::None, topics: self.fetch_offsets(&request) },
            Err(error_code) => OffsetFetchReply { error_code, topics: Vec::new() },
        };
        decision.reply(ticket, GroupReply::OffsetFetch(reply));
    }

    fn fetch_offsets(&self, request: &OffsetFetchRequest) -> Vec<FetchedTopic> {
        let fetched = |(&index, offset): (&i32, &CommittedOffset)| fetched_offset(index, Some(offset));
        match &request.topics {
            None => {
                let all = self.offsets.of(&request.group).into_iter().flatten();
                let topic = |(name, partitions): (&Arc<str>, &BTreeMap<i32, CommittedOffset>)| FetchedTopic {
                    name: name.clone(),
                    id: Uuid::ZERO,
                    partitions: partitions.iter().map(fetched).collect(),
                };
                all.map(topic).collect()
            }
            Some(topics) => {
                let topic = |(name, id, partitions): &(Arc<str>, TopicId, Vec<i32>)| {
                    let offset = |&index: &i32| {
                        let offset = self.offsets.get(&request.group, name, index);
                        // Of a former topic of this name nothing is known any more.
                        let is_of = |offset: &&CommittedOffset| {
                            *id == Uuid::ZERO || offset.topic_id == Uuid::ZERO || offset.topic_id == *id
                        };
                        fetched_offset(index, offset.filter(is_of))
                    };
                    FetchedTopic { name: name.clone(), id: *id, partitions: partitions.iter().map(offset).collect() }
                };
                topics.iter().map(topic).collect()
            }
        }
    }

    pub(super) fn on_offset_delete(
        &mut self,
        ticket: GroupTicket,
        request: OffsetDeleteRequest,
        decision: &mut GroupDecision,
    ) {
        let refused = match self.groups.get(&request.group) {
            None => Some(ErrorCode::GroupIdNotFound),
            Some(Group::Classic(group)) if !group.is_empty() && !group.is_of_consumers() => {
                Some(ErrorCode::NonEmptyGroup)
            }
            Some(_) => None,
        };
        if let Some(error_code) = refused {
            let reply = OffsetDeleteReply { error_code, topics: Vec::new() };
            return decision.reply(ticket, GroupReply::OffsetDelete(reply));
        }
        let mut topics = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in request.topics {
            let group = self.groups.get(&request.group);
            if group.is_some_and(|group| group.is_subscribed_to(&topic)) {
                topics.push(vec![ErrorCode::GroupSubscribedToTopic; partitions.len()]);
                continue;
            }
            topics.push(vec![ErrorCode::None; partitions.len()]);
            for partition in partitions {
                if self.offsets.get(&request.group, &topic, partition).is_some() {
                    let (group, topic) = (request.group.clone(), topic.clone());
                    self.decide(decision, GroupRecord::Offset { group, topic, partition, value: None });
                }
            }
        }
        let reply = OffsetDeleteReply { error_code: ErrorCode::None, topics };
        decision.reply(ticket, GroupReply::OffsetDelete(reply));
    }

    pub(super) fn delete_offsets(&mut self, group: &GroupId, decision: &mut GroupDecision) {
        for record in self.offsets.tombstones(group, |_, _| true) {
            self.decide(decision, record);
        }
    }

    /// Offsets of one group that have outlived their use (KIP-211), and the group with the last of them.
    pub(super) fn expire_offsets(&mut self, now: Time, id: &GroupId, decision: &mut GroupDecision) {
        let Some(group) = self.groups.get(id) else { return };
        let retention_ms = i64::from(self.config.group.offsets_retention_minutes) * 60_000;
        let expired = |topic: &str, offset: &CommittedOffset| match group.unused_since_ms(topic, offset) {
            _ if group.is_subscribed_to(topic) => false,
            None => false,
            Some(since_ms) => match offset.expire_timestamp_ms {
                Some(expire_timestamp_ms) => now.wall_ms >= expire_timestamp_ms,
                None => now.wall_ms.saturating_sub(since_ms) >= retention_ms,
            },
        };
        for record in self.offsets.tombstones(id, expired) {
            self.decide(decision, record);
        }
        self.delete_group_without_use(id, decision);
    }

    /// Offsets go with their topic, and a group that nobody is in goes with its last offset.
    pub(super) fn forget_topics(&mut self, is_gone: impl Fn(&str, TopicId) -> bool, decision: &mut GroupDecision) {
        let groups: Vec<GroupId> = self.offsets.groups.keys().cloned().collect();
        for id in groups {
            let records = self.offsets.tombstones(&id, |topic, offset| is_gone(topic, offset.topic_id));
            if !records.is_empty() {
                for record in records {
                    self.decide(decision, record);
                }
                self.delete_group_without_use(&id, decision);
            }
        }
    }

    /// Topics were deleted: their names, and the ids they had.
    pub fn on_topics_deleted(&mut self, deleted: &[(Arc<str>, TopicId)]) -> GroupDecision {
        let mut decision = GroupDecision::default();
        let is_gone = |topic: &str, of: TopicId| {
            deleted.iter().any(|(name, id)| **name == *topic && (of == *id || of == Uuid::ZERO))
        };
        self.forget_topics(is_gone, &mut decision);
        decision
    }

    /// What was committed to topics that were deleted while nobody replayed the log.
    pub(super) fn forget_topics_deleted_before(&mut self, image: &MetadataImage, decision: &mut GroupDecision) {
        let is_gone = |_: &str, id: TopicId| id != Uuid::ZERO && image.topic_by_id(id).is_none();
        self.forget_topics(is_gone, decision);
    }
}

impl Group {
    /// Since when an offset could expire: since the group lost its last member, or since the commit where nobody is
    /// known to read the topic. `None` while the group may need it.
    fn unused_since_ms(&self, _topic: &str, offset: &CommittedOffset) -> Option<Timestamp> {
        match self {
            Group::Consumer(_) => Some(offset.commit_timestamp_ms),
            Group::Classic(group) if group.protocol_type.is_none() => Some(offset.commit_timestamp_ms),
            Group::Classic(group) if group.is_empty() => {
                Some(group.state_timestamp_ms.unwrap_or(offset.commit_timestamp_ms))
            }
            Group::Classic(group) => {
                let knows =
                    group.state == ClassicState::Stable && group.is_of_consumers() && group.knows_subscriptions();
                knows.then_some(offset.commit_timestamp_ms)
            }
        }
    }
}

fn fetched_offset(index: i32, offset: Option<&CommittedOffset>) -> FetchedOffset {
    let error_code = ErrorCode::None;
    match offset {
        Some(CommittedOffset { offset, leader_epoch, metadata, .. }) => {
            let (offset, leader_epoch, metadata) = (*offset, *leader_epoch, metadata.clone());
            FetchedOffset { index, error_code, offset, leader_epoch, metadata }
        }
        None => FetchedOffset { index, error_code, offset: -1, leader_epoch: -1, metadata: "".into() },
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
