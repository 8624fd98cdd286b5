//! DeleteRecords: the front of logs goes. A partition is answered when its new start is on stable storage.

use std::sync::Arc;

use super::connection::Caller;
use super::groups::is_internal_topic;
use super::inquiries::Told;
use super::{Answer, Effect, Question, Shard, ShardId, Ticket, by_owner};
use crate::error_code::ErrorCode;
use crate::protocol::delete_records::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::{Map, Offset, PartitionId, Time};

/// The new start of a log, by its place in the request.
pub type LowWatermark = (u32, Result<Offset, ErrorCode>);

pub(super) struct RecordsDeleted {
    partitions: Vec<(Arc<str>, i32)>,
    outcomes: Vec<Result<Offset, ErrorCode>>,
}

impl RecordsDeleted {
    pub fn on_told(&mut self, answers: Vec<LowWatermark>) {
        for (part, outcome) in answers {
            self.outcomes[part as usize] = outcome;
        }
    }
}

/// Of the owner: requests whose logs do not start anew yet.
#[derive(Default)]
pub(super) struct Deletions {
    pending: Map<u64, PendingDeletion>,
    /// By the token that the log's start was asked with: which request and which part of it.
    waiters: Map<u64, (u64, u32)>,
}

struct PendingDeletion {
    from: ShardId,
    ticket: Ticket,
    answers: Vec<LowWatermark>,
    waiting: usize,
}

impl Shard {
    pub(super) fn on_delete_records(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DeleteRecordsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let image = self.image.clone();
        let mut told = RecordsDeleted { partitions: Vec::new(), outcomes: Vec::new() };
        let mut parts = Vec::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                let part = told.partitions.len() as u32;
                let found = image.topic(topic.name);
                let known = found.filter(|found| found.partition(partition.partition_index).is_some());
                let outcome = match known {
                    None => Err(ErrorCode::UnknownTopicOrPartition),
                    Some(found) if is_internal_topic(&found.name) => Err(ErrorCode::InvalidTopicException),
                    Some(found) => {
                        let id = PartitionId { topic: found.id, index: partition.partition_index };
                        parts.push((self.owner_of(id), (part, id, partition.offset)));
                        Err(ErrorCode::RequestTimedOut)
                    }
                };
                let name = found.map_or_else(|| Arc::from(topic.name), |found| found.name.clone());
                told.partitions.push((name, partition.partition_index));
                told.outcomes.push(outcome);
            }
        }
        let groups = by_owner(parts);
        let questions = groups.into_iter().map(|(owner, parts)| (owner, Question::DeleteRecords(parts)));
        let ticket = self.inquire(now, caller, Told::RecordsDeleted(told), questions.collect(), 0, effects);
        self.limit_inquiry(now, ticket, request.timeout_ms);
        Ok(())
    }

    /// On the core that owns the logs.
    pub(super) fn delete_records_of(
        &mut self,
        _now: Time,
        from: ShardId,
        ticket: Ticket,
        parts: Vec<(u32, PartitionId, Offset)>,
        effects: &mut Vec<Effect>,
    ) {
        let request = self.token();
        let mut pending = PendingDeletion { from, ticket, answers: Vec::with_capacity(parts.len()), waiting: 0 };
        let mut wanted = Vec::new();
        for (part, id, offset) in parts {
            match self.new_start(id, offset) {
                Ok(Some(start)) => wanted.push((part, id, start)),
                Ok(None) => pending.answers.push((part, Ok(self.partitions[&id].log.log_start_offset()))),
                Err(error_code) => pending.answers.push((part, Err(error_code))),
            }
        }
        if wanted.is_empty() {
            return self.tell(from, ticket, Answer::LowWatermarks(pending.answers), effects);
        }
        pending.waiting = wanted.len();
        self.inquiries.deletions.pending.insert(request, pending);
        for (part, id, start) in wanted {
            let token = self.token();
            self.inquiries.deletions.waiters.insert(token, (request, part));
            self.want_log_start(id, start, token);
        }
    }

    /// Where the log shall start; `None` if it starts there or later already.
    fn new_start(&self, id: PartitionId, offset: Offset) -> Result<Option<Offset>, ErrorCode> {
        let partition = self.partition_or(id, ErrorCode::NotLeaderOrFollower)?;
        let cleanup = partition.log.config().cleanup_policy;
        if cleanup.compact && !cleanup.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = partition.high_watermark();
        let start = if offset == -1 { high_watermark } else { offset };
        match start {
            _ if !(0..=high_watermark).contains(&start) => Err(ErrorCode::OffsetOutOfRange),
            _ if start <= partition.log.log_start_offset() => Ok(None),
            _ => Ok(Some(start)),
        }
    }

    /// The log of this waiter starts where it was asked to, or further on; or the partition is gone.
    pub(super) fn on_log_start_advanced(
        &mut self,
        token: u64,
        outcome: Result<Offset, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let deletions = &mut self.inquiries.deletions;
        let Some((request, part)) = deletions.waiters.remove(&token) else { return };
        let pending = deletions.pending.get_mut(&request).expect("a waiter has its request");
        pending.answers.push((part, outcome));
        pending.waiting -= 1;
        if pending.waiting == 0 {
            let PendingDeletion { from, ticket, answers, .. } = deletions.pending.remove(&request).expect("just seen");
            self.tell(from, ticket, Answer::LowWatermarks(answers), effects);
        }
    }
}

pub(super) fn response(told: &RecordsDeleted) -> DeleteRecordsResponse<'_> {
    let mut topics: Vec<DeleteRecordsTopicResult<'_>> = Vec::new();
    for ((name, partition_index), outcome) in told.partitions.iter().zip(&told.outcomes) {
        if topics.last().is_none_or(|topic| topic.name != &**name) {
            topics.push(DeleteRecordsTopicResult { name, partitions: Vec::new() });
        }
        topics.last_mut().expect("just pushed").partitions.push(DeleteRecordsPartitionResult {
            partition_index: *partition_index,
            low_watermark: outcome.unwrap_or(-1),
            error_code: outcome.err().unwrap_or(ErrorCode::None).code(),
        });
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}
