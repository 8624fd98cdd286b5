//! What others ask about a group of the consumer protocol: how it stands, who may commit, what is left of it.

use std::sync::Arc;

use super::group::{ConsumerGroup, Moment};
use super::member::Member;
use super::record::{ConsumerFact, ConsumerRecord, by_topic};
use super::request::{ConsumerDescribeReply, ConsumerDescribedMember};
use crate::coordinator::group::MemberId;
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::{PartitionId, TopicId};

/// The first version of OffsetCommit that a member of the consumer protocol may use: it knows the errors.
const COMMIT_OF_CONSUMERS: i16 = 9;

impl ConsumerGroup {
    pub fn is_empty(&self) -> bool {
        self.facts.members.is_empty()
    }

    /// As ListGroups and ConsumerGroupDescribe call it.
    pub fn state(&self) -> &'static str {
        let target = self.facts.target_epoch.epoch;
        if self.is_empty() {
            "Empty"
        } else if self.facts.epoch.epoch > target {
            "Assigning"
        } else if self.facts.members.values().all(|member| member.current.is_reconciled_to(target)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Some member reads this topic: its offsets do not expire and cannot be deleted.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.facts.is_subscribed_to(topic)
    }

    /// Members exist, so that nothing is said about offsets of topics that they do not read.
    pub fn has_members(&self) -> bool {
        !self.is_empty()
    }

    /// For OffsetCommit: which member may commit, and in which epochs. An older one than the member's present epoch has to
    /// pass `check_commit_of` too, for each partition.
    pub fn check_commit(&self, member: &str, member_epoch: i32, api_version: i16) -> Result<(), ErrorCode> {
        if member_epoch < 0 && self.is_empty() {
            return Ok(());
        }
        let member = self.facts.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        if member.metadata.classic.is_none() && api_version < COMMIT_OF_CONSUMERS {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if member_epoch > member.current.epoch { Err(wrong_epoch(member)) } else { Ok(()) }
    }

    /// A member may commit what it has in the epoch it knows, though a newer one is on its way to it, if the partition was
    /// its own by then (KIP-1251).
    pub fn check_commit_of(&self, member: &str, member_epoch: i32, partition: PartitionId) -> Result<(), ErrorCode> {
        if member_epoch < 0 && self.is_empty() {
            return Ok(());
        }
        let member = self.facts.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        let current = &member.current;
        let since = current.assigned.get(&partition).or_else(|| current.revoking.get(&partition));
        if member_epoch == current.epoch || since.is_some_and(|since| *since <= member_epoch) {
            return Ok(());
        }
        Err(wrong_epoch(member))
    }

    /// For OffsetFetch: a member must be who it says, in the epoch it says.
    pub fn check_fetch(&self, member: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        let Some(member) = member else {
            return if member_epoch < 0 { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        let member = self.facts.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        if member_epoch == member.current.epoch { Ok(()) } else { Err(wrong_epoch(member)) }
    }

    /// Records that make the group disappear, whoever is in it.
    pub fn tombstones(&self) -> Vec<ConsumerRecord> {
        let members = || self.facts.members.keys().cloned();
        let current = members().map(|member| ConsumerFact::Current(member, None));
        // A target may be left of a member that is gone, if a log was cut off between the two.
        let targets = self.facts.targets.keys().cloned().map(|member| ConsumerFact::Target(member, None));
        let regexes = self.facts.regexes.keys().map(|regex| ConsumerFact::Regex(regex.clone(), None));
        let facts = current
            .chain(targets)
            .chain([ConsumerFact::TargetEpoch(None)])
            .chain(members().map(|member| ConsumerFact::Member(member, None)))
            .chain(regexes)
            .chain([ConsumerFact::PartitionMetadata(false), ConsumerFact::Epoch(None)]);
        facts.map(|fact| ConsumerRecord::new(&self.id, fact)).collect()
    }

    pub fn describe(&self, moment: &Moment) -> ConsumerDescribeReply {
        let members = self.facts.members.iter();
        ConsumerDescribeReply {
            error_code: ErrorCode::None,
            error_message: None,
            group: self.id.clone(),
            state: self.state(),
            group_epoch: self.facts.epoch.epoch,
            assignment_epoch: self.facts.target_epoch.epoch,
            assignor: self.assignor(moment).name().into(),
            members: members.map(|(id, member)| self.describe_member(moment.image, id, member)).collect(),
        }
    }

    fn describe_member(&self, image: &MetadataImage, id: &MemberId, member: &Member) -> ConsumerDescribedMember {
        let metadata = &member.metadata;
        let target = self.facts.targets.get(id);
        ConsumerDescribedMember {
            member: id.clone(),
            instance: metadata.instance.clone(),
            rack: metadata.rack.clone(),
            member_epoch: member.current.epoch,
            client: metadata.client.clone(),
            subscribed_topics: metadata.subscribed_topics.iter().cloned().collect(),
            subscribed_regex: metadata.subscribed_regex.clone(),
            assignment: with_names(image, member.current.assigned.keys().copied()),
            target: with_names(image, target.into_iter().flatten().copied()),
            member_type: if metadata.classic.is_some() { 0 } else { 1 },
        }
    }
}

fn wrong_epoch(member: &Member) -> ErrorCode {
    match member.metadata.classic {
        Some(_) => ErrorCode::IllegalGeneration,
        None => ErrorCode::StaleMemberEpoch,
    }
}

/// Without topics that are gone.
fn with_names(
    image: &MetadataImage,
    partitions: impl Iterator<Item = PartitionId>,
) -> Vec<(TopicId, Arc<str>, Vec<i32>)> {
    let topics = by_topic(partitions).into_iter();
    topics.filter_map(|(topic, indexes)| Some((topic, image.topic_by_id(topic)?.name.clone(), indexes))).collect()
}
