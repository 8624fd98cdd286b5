//! The positions of a member's partitions: asked of the coordinator, and committed to it under the member's identity.

use super::{Assigned, Member, MemberConfig};
use crate::error_code::ErrorCode;
use crate::protocol::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::protocol::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use crate::protocol::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};
use crate::types::{LeaderEpoch, Offset, TopicId};

/// How far a partition has been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    pub assigned: Assigned,
    /// Of the next record.
    pub offset: Offset,
    /// Of the last record; -1 where it is not known.
    pub leader_epoch: LeaderEpoch,
}

/// What the group has committed for a partition.
pub type CommittedOffset = (Assigned, Option<Offset>);

impl Member {
    /// Commits these positions. Topics by name and by id: the version decides which one is sent.
    pub fn commit(&self, positions: &[Position]) -> OffsetCommitRequest<'_> {
        let config = self.config();
        let partition = |position: &Position| OffsetCommitRequestPartition {
            partition_index: position.assigned.partition,
            committed_offset: position.offset,
            committed_leader_epoch: position.leader_epoch,
            committed_metadata: Some(""),
        };
        let topic = |(place, topic): (usize, &'_ super::SubscribedTopic)| {
            let of_topic = positions.iter().filter(|position| position.assigned.topic == place);
            (topic.id, of_topic.map(partition).collect::<Vec<_>>())
        };
        let topics = config.topics.iter().enumerate().map(|entry| (&entry.1.name, topic(entry)));
        let topics = topics
            .filter(|(_, (_, partitions))| !partitions.is_empty())
            .map(|(name, (topic_id, partitions))| OffsetCommitRequestTopic { name, topic_id, partitions });
        OffsetCommitRequest {
            group_id: &config.group_id,
            generation_id_or_member_epoch: self.generation(),
            member_id: self.member_id(),
            group_instance_id: config.instance_id.as_deref(),
            topics: topics.collect(),
            ..Default::default()
        }
    }

    /// Asks where the group stands in these partitions. The request's form, of one group or of many, is its version's.
    pub fn ask_offsets(&self, partitions: &[Assigned]) -> OffsetFetchRequest<'_> {
        let config = self.config();
        let of_topic = |place: usize| -> Vec<i32> {
            partitions.iter().filter(|one| one.topic == place).map(|one| one.partition).collect()
        };
        let asked = config.topics.iter().enumerate().map(|(place, topic)| (topic, of_topic(place)));
        let asked: Vec<_> = asked.filter(|(_, indexes)| !indexes.is_empty()).collect();
        let by_name = asked
            .iter()
            .map(|(topic, indexes)| OffsetFetchRequestTopic { name: &topic.name, partition_indexes: indexes.clone() });
        let by_id = asked.iter().map(|(topic, indexes)| OffsetFetchRequestTopics {
            name: &topic.name,
            topic_id: topic.id,
            partition_indexes: indexes.clone(),
        });
        // Only the consumer protocol says who asks (KIP-848).
        let (member_id, member_epoch) = match self {
            Member::Classic(_) => (None, -1),
            Member::Consumer(member) => (Some(member.member_id()), member.generation()),
        };
        let topics = Some(by_id.collect());
        OffsetFetchRequest {
            group_id: &config.group_id,
            topics: Some(by_name.collect()),
            groups: vec![OffsetFetchRequestGroup { group_id: &config.group_id, member_id, member_epoch, topics }],
            require_stable: true,
        }
    }

    /// Reads the answer: of each partition what was committed, if anything. An error of one partition is one of all.
    pub fn committed(&self, response: &OffsetFetchResponse) -> Result<Vec<CommittedOffset>, ErrorCode> {
        let config = self.config();
        let mut committed = Vec::new();
        ok(response.error_code)?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                ok(partition.error_code)?;
                committed.push((topic.name, TopicId::ZERO, partition.partition_index, partition.committed_offset));
            }
        }
        for group in &response.groups {
            ok(group.error_code)?;
            for topic in &group.topics {
                for partition in &topic.partitions {
                    ok(partition.error_code)?;
                    committed.push((topic.name, topic.topic_id, partition.partition_index, partition.committed_offset));
                }
            }
        }
        let found = committed.into_iter().filter_map(|(name, id, partition, offset)| {
            let topic = place_of(config, name, id)?;
            Some((Assigned { topic, partition }, Some(offset).filter(|offset| *offset >= 0)))
        });
        Ok(found.collect())
    }
}

/// The first error of a commit's answer.
pub fn refusal(response: &OffsetCommitResponse) -> Option<ErrorCode> {
    response.topics.iter().flat_map(|topic| &topic.partitions).find_map(|partition| ok(partition.error_code).err())
}

fn ok(code: i16) -> Result<(), ErrorCode> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        other => Err(other.unwrap_or(ErrorCode::UnknownServerError)),
    }
}

fn place_of(config: &MemberConfig, name: &str, id: TopicId) -> Option<usize> {
    config.topics.iter().position(|topic| if name.is_empty() { topic.id == id } else { &*topic.name == name })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, orders};
    use super::super::{ClassicMember, Member};
    use super::*;
    use crate::protocol::offset_fetch::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };

    fn member() -> Member {
        Member::Classic(ClassicMember::new(config(None)))
    }

    #[test]
    fn a_commit_names_only_topics_with_a_position() {
        let member = member();
        let position = Position { assigned: Assigned { topic: 1, partition: 0 }, offset: 7, leader_epoch: 2 };
        let request = member.commit(&[position]);
        let told: Vec<_> = request.topics.iter().map(|topic| (topic.name, topic.partitions.len())).collect();
        assert_eq!(told, [("refunds", 1)]);
        assert_eq!((request.group_id, request.generation_id_or_member_epoch), ("readers", -1));
    }

    #[test]
    fn positions_are_read_from_every_form_of_the_answer() {
        let member = member();
        let old = OffsetFetchResponseTopic {
            name: "orders",
            partitions: vec![OffsetFetchResponsePartition {
                partition_index: 2,
                committed_offset: 5,
                ..Default::default()
            }],
        };
        let old = OffsetFetchResponse { topics: vec![old], ..Default::default() };
        assert_eq!(member.committed(&old), Ok(vec![(orders(&[2])[0], Some(5))]));
        let none = OffsetFetchResponsePartitions { partition_index: 1, committed_offset: -1, ..Default::default() };
        let topic_id = member.config().topics[0].id;
        let topic = OffsetFetchResponseTopics { name: "", topic_id, partitions: vec![none] };
        let group = OffsetFetchResponseGroup { group_id: "readers", topics: vec![topic], error_code: 0 };
        let new = OffsetFetchResponse { groups: vec![group], ..Default::default() };
        assert_eq!(member.committed(&new), Ok(vec![(orders(&[1])[0], None)]));
        let refused =
            OffsetFetchResponseGroup { error_code: ErrorCode::CoordinatorLoadInProgress.code(), ..Default::default() };
        let refused = OffsetFetchResponse { groups: vec![refused], ..Default::default() };
        assert_eq!(member.committed(&refused), Err(ErrorCode::CoordinatorLoadInProgress));
    }
}
