//! OffsetCommit, OffsetFetch, OffsetDelete: topics are found in this core's image, by name or by id; the rest is for the
//! group's own core to decide.

use std::sync::Arc;

use super::Shape;
use crate::coordinator::group::{
    CommitPartition, CommitTopic, FetchedTopic, GroupId, GroupReply, GroupRequest, OffsetCommitReply,
    OffsetCommitRequest, OffsetDeleteReply, OffsetDeleteRequest, OffsetFetchReply, OffsetFetchRequest,
};
use crate::error_code::ErrorCode;
use crate::protocol::offset_commit::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use crate::protocol::offset_delete::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use crate::protocol::offset_fetch::*;
use crate::protocol::{self, DecodeError, OffsetCommitResponse, OffsetDeleteResponse, Reader};
use crate::shard::connection::Caller;
use crate::shard::{Effect, Shard};
use crate::types::{Time, TopicId, Uuid};

/// First version of OffsetCommit and OffsetFetch that names topics by their ids.
const BY_ID_FROM_VERSION: i16 = 10;
/// First version of OffsetFetch that asks for several groups (KIP-709).
const SEVERAL_FROM_VERSION: i16 = 8;
/// First version of OffsetFetch whose answer has an error of its own, not just of partitions.
const OWN_ERROR_FROM_VERSION: i16 = 2;

/// One topic of a commit, for its answer.
pub(super) struct CommitShape {
    name: Arc<str>,
    id: TopicId,
    /// With the error, where the partition was refused here and the group never asked.
    partitions: Vec<(i32, Option<ErrorCode>)>,
}

/// One group of a fetch, for its answer.
pub(super) struct FetchShape {
    group: GroupId,
    /// Topics whose id nobody knows.
    unknown: Vec<(TopicId, Vec<i32>)>,
    /// For versions without an error of their own.
    named: Vec<(Arc<str>, Vec<i32>)>,
}

/// One topic of a removal, for its answer.
pub(super) struct DeleteShape {
    name: Arc<str>,
    partitions: Vec<i32>,
    exists: bool,
}

impl Shard {
    pub(in crate::shard) fn on_offset_commit(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let version = caller.api_version;
        let request = protocol::OffsetCommitRequest::decode(&mut Reader::new(body), version)?;
        let mut shapes = Vec::with_capacity(request.topics.len());
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let known = match version {
                BY_ID_FROM_VERSION.. => self.image.topic_by_id(topic.topic_id),
                _ => self.image.topic(topic.name),
            };
            let unknown = match version {
                BY_ID_FROM_VERSION.. if known.is_none() => ErrorCode::UnknownTopicId,
                _ => ErrorCode::UnknownTopicOrPartition,
            };
            let name = known.map_or_else(|| Arc::from(topic.name), |known| known.name.clone());
            let id = known.map_or(topic.topic_id, |known| known.id);
            let exists = |index: i32| known.is_some_and(|known| known.partition(index).is_some());
            let refusal = |index: i32| (!exists(index)).then_some(unknown);
            let found = topic.partitions.iter().filter(|row| exists(row.partition_index));
            let partitions = found.map(|row| CommitPartition {
                index: row.partition_index,
                offset: row.committed_offset,
                leader_epoch: row.committed_leader_epoch,
                metadata: row.committed_metadata.unwrap_or_default().into(),
            });
            topics.push(CommitTopic { name: name.clone(), id, partitions: partitions.collect() });
            let partitions = topic.partitions.iter().map(|row| (row.partition_index, refusal(row.partition_index)));
            shapes.push(CommitShape { name, id, partitions: partitions.collect() });
        }
        topics.retain(|topic| !topic.partitions.is_empty());
        if topics.is_empty() {
            self.answer_offset_commit(caller, &shapes, None, effects);
            return Ok(());
        }
        let request = OffsetCommitRequest {
            group: request.group_id.into(),
            generation: request.generation_id_or_member_epoch,
            member: request.member_id.into(),
            instance: request.group_instance_id.map(Arc::from),
            retention_time_ms: request.retention_time_ms,
            topics,
            api_version: version,
        };
        self.call_groups(now, caller, Shape::Commit(shapes), vec![GroupRequest::OffsetCommit(request)], effects);
        Ok(())
    }

    /// Without a reply nothing was asked of the group.
    pub(super) fn answer_offset_commit(
        &mut self,
        caller: Caller,
        shapes: &[CommitShape],
        reply: Option<&GroupReply>,
        effects: &mut Vec<Effect>,
    ) {
        let (whole, codes) = match reply {
            Some(GroupReply::OffsetCommit(OffsetCommitReply { error_code, topics })) => {
                (*error_code, topics.as_slice())
            }
            _ => (ErrorCode::UnknownServerError, &[][..]),
        };
        let whole = if whole == ErrorCode::None { ErrorCode::UnknownServerError } else { whole };
        let mut codes = codes.iter().flatten();
        let topics = shapes.iter().map(|shape| OffsetCommitResponseTopic {
            name: &shape.name,
            topic_id: shape.id,
            partitions: shape
                .partitions
                .iter()
                .map(|&(partition_index, refused)| {
                    let error_code = refused.unwrap_or_else(|| codes.next().copied().unwrap_or(whole)).code();
                    OffsetCommitResponsePartition { partition_index, error_code }
                })
                .collect(),
        });
        let response = OffsetCommitResponse { topics: topics.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    pub(in crate::shard) fn on_offset_fetch(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let version = caller.api_version;
        let request = protocol::OffsetFetchRequest::decode(&mut Reader::new(body), version)?;
        let require_stable = request.require_stable;
        let mut shapes = Vec::new();
        let mut requests = Vec::new();
        if version < SEVERAL_FROM_VERSION {
            let rows = request.topics.as_ref();
            let named = |row: &OffsetFetchRequestTopic| (Arc::<str>::from(row.name), row.partition_indexes.clone());
            let named: Option<Vec<_>> = rows.map(|rows| rows.iter().map(named).collect());
            let topics = named.as_ref().map(|named| {
                named.iter().map(|(name, partitions)| (name.clone(), self.id_of(name), partitions.clone())).collect()
            });
            let group: GroupId = request.group_id.into();
            shapes.push(FetchShape { group: group.clone(), unknown: Vec::new(), named: named.unwrap_or_default() });
            let request = OffsetFetchRequest { group, member: None, member_epoch: -1, topics, require_stable };
            requests.push(GroupRequest::OffsetFetch(request));
        }
        for row in &request.groups {
            let group: GroupId = row.group_id.into();
            let mut unknown = Vec::new();
            let topics = row.topics.as_ref().map(|rows| {
                let mut topics = Vec::with_capacity(rows.len());
                for row in rows {
                    let partitions = row.partition_indexes.clone();
                    match self.image.topic_by_id(row.topic_id).filter(|_| version >= BY_ID_FROM_VERSION) {
                        Some(topic) => topics.push((topic.name.clone(), topic.id, partitions)),
                        None if version >= BY_ID_FROM_VERSION => unknown.push((row.topic_id, partitions)),
                        None => topics.push((row.name.into(), self.id_of(row.name), partitions)),
                    }
                }
                topics
            });
            shapes.push(FetchShape { group: group.clone(), unknown, named: Vec::new() });
            let (member, member_epoch) = (row.member_id.map(Arc::from), row.member_epoch);
            let request = OffsetFetchRequest { group, member, member_epoch, topics, require_stable };
            requests.push(GroupRequest::OffsetFetch(request));
        }
        self.call_groups(now, caller, Shape::Fetch(shapes), requests, effects);
        Ok(())
    }

    fn id_of(&self, topic: &str) -> TopicId {
        self.image.topic(topic).map_or(Uuid::ZERO, |topic| topic.id)
    }

    pub(super) fn answer_offset_fetch(
        &mut self,
        caller: Caller,
        shapes: &[FetchShape],
        replies: &[GroupReply],
        effects: &mut Vec<Effect>,
    ) {
        let image = self.image.clone();
        let mut response = OffsetFetchResponse::default();
        for (shape, reply) in shapes.iter().zip(replies) {
            let GroupReply::OffsetFetch(OffsetFetchReply { error_code, topics }) = reply else { continue };
            if caller.api_version < SEVERAL_FROM_VERSION {
                response.error_code = error_code.code();
                response.topics = topics.iter().map(fetched_by_name).collect();
                if *error_code != ErrorCode::None && caller.api_version < OWN_ERROR_FROM_VERSION {
                    response.topics = shape.named.iter().map(|row| failed_by_name(row, *error_code)).collect();
                }
                continue;
            }
            let by_id = caller.api_version >= BY_ID_FROM_VERSION;
            let mut rows = Vec::with_capacity(topics.len() + shape.unknown.len());
            for topic in topics {
                let id = match topic.id {
                    Uuid::ZERO => image.topic(&topic.name).map_or(Uuid::ZERO, |topic| topic.id),
                    id => id,
                };
                // What has no id cannot be named in a version that knows ids alone.
                if !by_id || id != Uuid::ZERO {
                    rows.push(fetched(topic, id));
                }
            }
            rows.extend(shape.unknown.iter().map(|(id, partitions)| unknown_id(*id, partitions)));
            let error_code = error_code.code();
            let group = OffsetFetchResponseGroup { group_id: &shape.group, topics: rows, error_code };
            response.groups.push(group);
        }
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    pub(in crate::shard) fn on_offset_delete(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = protocol::OffsetDeleteRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let shape = |topic: &protocol::offset_delete::OffsetDeleteRequestTopic| DeleteShape {
            name: topic.name.into(),
            partitions: topic.partitions.iter().map(|row| row.partition_index).collect(),
            exists: self.image.topic(topic.name).is_some(),
        };
        let shapes: Vec<DeleteShape> = request.topics.iter().map(shape).collect();
        let existing = shapes.iter().filter(|shape| shape.exists);
        let topics = existing.map(|shape| (shape.name.clone(), shape.partitions.clone())).collect();
        let request = OffsetDeleteRequest { group: request.group_id.into(), topics };
        let requests = vec![GroupRequest::OffsetDelete(request)];
        self.call_groups(now, caller, Shape::DeleteOffsets(shapes), requests, effects);
        Ok(())
    }

    pub(super) fn answer_offset_delete(
        &mut self,
        caller: Caller,
        shapes: &[DeleteShape],
        reply: &GroupReply,
        effects: &mut Vec<Effect>,
    ) {
        let GroupReply::OffsetDelete(OffsetDeleteReply { error_code, topics: codes }) = reply else { return };
        let mut response = OffsetDeleteResponse { error_code: error_code.code(), ..Default::default() };
        let mut codes = codes.iter();
        for shape in shapes.iter().filter(|_| *error_code == ErrorCode::None) {
            let codes = if shape.exists { codes.next().map_or(&[][..], Vec::as_slice) } else { &[] };
            let mut codes = codes.iter().copied();
            let row = |&partition_index: &i32| {
                let error_code = codes.next().unwrap_or(ErrorCode::UnknownTopicOrPartition).code();
                OffsetDeleteResponsePartition { partition_index, error_code }
            };
            let partitions = shape.partitions.iter().map(row).collect();
            response.topics.push(OffsetDeleteResponseTopic { name: &shape.name, partitions });
        }
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }
}

fn fetched_by_name(topic: &FetchedTopic) -> OffsetFetchResponseTopic<'_> {
    let partitions = topic.partitions.iter().map(|row| OffsetFetchResponsePartition {
        partition_index: row.index,
        committed_offset: row.offset,
        committed_leader_epoch: row.leader_epoch,
        metadata: Some(&row.metadata),
        error_code: row.error_code.code(),
    });
    OffsetFetchResponseTopic { name: &topic.name, partitions: partitions.collect() }
}

fn failed_by_name((name, partitions): &(Arc<str>, Vec<i32>), error_code: ErrorCode) -> OffsetFetchResponseTopic<'_> {
    let row = |&partition_index: &i32| OffsetFetchResponsePartition {
        partition_index,
        committed_offset: -1,
        metadata: Some(""),
        error_code: error_code.code(),
        ..Default::default()
    };
    OffsetFetchResponseTopic { name, partitions: partitions.iter().map(row).collect() }
}

fn fetched(topic: &FetchedTopic, topic_id: TopicId) -> OffsetFetchResponseTopics<'_> {
    let partitions = topic.partitions.iter().map(|row| OffsetFetchResponsePartitions {
        partition_index: row.index,
        committed_offset: row.offset,
        committed_leader_epoch: row.leader_epoch,
        metadata: Some(&row.metadata),
        error_code: row.error_code.code(),
    });
    OffsetFetchResponseTopics { name: &topic.name, topic_id, partitions: partitions.collect() }
}

fn unknown_id(topic_id: TopicId, partitions: &[i32]) -> OffsetFetchResponseTopics<'static> {
    let row = |&partition_index: &i32| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        metadata: Some(""),
        error_code: ErrorCode::UnknownTopicId.code(),
        ..Default::default()
    };
    OffsetFetchResponseTopics { name: "", topic_id, partitions: partitions.iter().map(row).collect() }
}
