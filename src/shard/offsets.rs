//! ListOffsets and OffsetForLeaderEpoch, on the core that the client is connected to: one question per partition to its
//! owner, one answer when all have come back.

use std::sync::Arc;

use super::connection::Caller;
use super::{Effect, Message, OffsetAnswer, OffsetQuery, OffsetQuestion, Shard, Ticket, by_owner};
use crate::error_code::ErrorCode;
use crate::protocol::list_offsets::*;
use crate::protocol::offset_for_leader_epoch::*;
use crate::protocol::{ApiKey, DecodeError, Reader};
use crate::types::{Map, PartitionId, Time};

#[derive(Default)]
pub(super) struct OffsetCalls {
    pending: Map<Ticket, PendingOffsets>,
}

struct PendingOffsets {
    caller: Caller,
    partitions: Vec<(Arc<str>, i32)>,
    answers: Vec<OffsetAnswer>,
    outstanding: usize,
}

/// One question as it was read, before it is known who owns the partition.
struct Asked<'a> {
    topic: &'a str,
    index: i32,
    current_leader_epoch: i32,
    question: Result<OffsetQuestion, ErrorCode>,
}

impl Shard {
    pub(super) fn on_list_offsets(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ListOffsetsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let read_committed = request.isolation_level == 1;
        let asked = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(move |partition| Asked {
                topic: topic.name,
                index: partition.partition_index,
                current_leader_epoch: partition.current_leader_epoch,
                question: question(partition.timestamp, read_committed),
            })
        });
        self.ask_offsets(now, caller, asked.collect(), effects);
        Ok(())
    }

    pub(super) fn on_offset_for_leader_epoch(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = OffsetForLeaderEpochRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let asked = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(move |partition| Asked {
                topic: topic.topic,
                index: partition.partition,
                current_leader_epoch: partition.current_leader_epoch,
                question: Ok(OffsetQuestion::EndOfEpoch(partition.leader_epoch)),
            })
        });
        self.ask_offsets(now, caller, asked.collect(), effects);
        Ok(())
    }

    fn ask_offsets(&mut self, now: Time, caller: Caller, asked: Vec<Asked<'_>>, effects: &mut Vec<Effect>) {
        let image = self.image.clone();
        let mut pending = PendingOffsets { caller, partitions: Vec::new(), answers: Vec::new(), outstanding: 0 };
        let mut queries = Vec::new();
        for (part, asked) in asked.into_iter().enumerate() {
            let part = part as u32;
            let topic = image.topic(asked.topic);
            let known = topic.filter(|topic| topic.partition(asked.index).is_some());
            let error_code = match (known, asked.question) {
                (Some(topic), Ok(question)) => {
                    let partition = PartitionId { topic: topic.id, index: asked.index };
                    let current_leader_epoch = asked.current_leader_epoch;
                    let query = OffsetQuery { part, partition, current_leader_epoch, question };
                    queries.push((self.owner_of(partition), query));
                    ErrorCode::None
                }
                (None, _) => ErrorCode::UnknownTopicOrPartition,
                (_, Err(error_code)) => error_code,
            };
            let name = topic.map_or_else(|| Arc::from(asked.topic), |topic| topic.name.clone());
            pending.partitions.push((name, asked.index));
            pending.answers.push(OffsetAnswer::error(part, error_code));
        }
        let groups = by_owner(queries);
        if groups.is_empty() {
            return self.answer_offset_calls(pending, effects);
        }
        pending.outstanding = groups.len();
        let ticket = self.token();
        self.offsets.pending.insert(ticket, pending);
        for (owner, queries) in groups {
            if owner == self.id {
                self.on_offsets(now, owner, ticket, queries, effects);
            } else {
                effects.push(Effect::Send { to: owner, message: Message::Offsets { ticket, queries } });
            }
        }
    }

    pub(super) fn on_offsets_found(&mut self, ticket: Ticket, answers: Vec<OffsetAnswer>, effects: &mut Vec<Effect>) {
        let Some(pending) = self.offsets.pending.get_mut(&ticket) else { return };
        for answer in answers {
            let part = answer.part as usize;
            pending.answers[part] = answer;
        }
        pending.outstanding -= 1;
        if pending.outstanding == 0 {
            let pending = self.offsets.pending.remove(&ticket).expect("just seen");
            self.answer_offset_calls(pending, effects);
        }
    }

    fn answer_offset_calls(&mut self, pending: PendingOffsets, effects: &mut Vec<Effect>) {
        let caller = pending.caller;
        let partitions = pending.partitions.iter().zip(&pending.answers);
        if caller.api_key == ApiKey::ListOffsets as i16 {
            let mut topics: Vec<ListOffsetsTopicResponse<'_>> = Vec::new();
            for ((name, partition_index), answer) in partitions {
                if topics.last().is_none_or(|topic| topic.name != &**name) {
                    topics.push(ListOffsetsTopicResponse { name, partitions: Vec::new() });
                }
                topics.last_mut().expect("just pushed").partitions.push(ListOffsetsPartitionResponse {
                    partition_index: *partition_index,
                    error_code: answer.error_code.code(),
                    timestamp: answer.timestamp,
                    offset: answer.offset,
                    leader_epoch: answer.leader_epoch,
                });
            }
            let response = ListOffsetsResponse { topics, ..Default::default() };
            self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        } else {
            let mut topics: Vec<OffsetForLeaderTopicResult<'_>> = Vec::new();
            for ((topic, partition), answer) in partitions {
                if topics.last().is_none_or(|last| last.topic != &**topic) {
                    topics.push(OffsetForLeaderTopicResult { topic, partitions: Vec::new() });
                }
                topics.last_mut().expect("just pushed").partitions.push(EpochEndOffset {
                    error_code: answer.error_code.code(),
                    partition: *partition,
                    leader_epoch: answer.leader_epoch,
                    end_offset: answer.offset,
                });
            }
            let response = OffsetForLeaderEpochResponse { topics, ..Default::default() };
            self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        }
    }
}

/// The special timestamps of ListOffsets. Without tiered storage the earliest local offset is the earliest, and nothing
/// is or will be tiered (offset -1).
fn question(timestamp: i64, read_committed: bool) -> Result<OffsetQuestion, ErrorCode> {
    match timestamp {
        -1 => Ok(OffsetQuestion::Latest { read_committed }),
        -2 | -4 => Ok(OffsetQuestion::Earliest),
        -3 => Ok(OffsetQuestion::MaxTimestamp),
        -5 | -6 => Err(ErrorCode::None),
        timestamp if timestamp < 0 => Err(ErrorCode::InvalidRequest),
        timestamp => Ok(OffsetQuestion::Timestamp(timestamp)),
    }
}
