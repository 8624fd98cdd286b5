//! DescribeProducers: the idempotent producers that logs remember (KIP-664).

use std::sync::Arc;

use super::connection::Caller;
use super::inquiries::Told;
use super::{Answer, Effect, Question, Shard, by_owner};
use crate::error_code::ErrorCode;
use crate::protocol::describe_producers::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::{PartitionId, ProducerEpoch, ProducerId, Time, Timestamp};

/// The producers of a partition, by its place in the request.
pub type ProducersOf = (u32, Result<Vec<ProducerFound>, ErrorCode>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerFound {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// -1 where it is not known.
    pub last_sequence: i32,
    pub last_append_ms: Timestamp,
}

pub(super) struct ProducersTold {
    partitions: Vec<(Arc<str>, i32)>,
    outcomes: Vec<Result<Vec<ProducerFound>, ErrorCode>>,
}

impl ProducersTold {
    pub fn on_told(&mut self, answers: Vec<ProducersOf>) {
        for (part, outcome) in answers {
            self.outcomes[part as usize] = outcome;
        }
    }
}

impl Shard {
    pub(super) fn on_describe_producers(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeProducersRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let image = self.image.clone();
        let mut told = ProducersTold { partitions: Vec::new(), outcomes: Vec::new() };
        let mut parts = Vec::new();
        for topic in &request.topics {
            for &index in &topic.partition_indexes {
                let part = told.partitions.len() as u32;
                let found = image.topic(topic.name);
                if let Some(found) = found.filter(|found| found.partition(index).is_some()) {
                    let id = PartitionId { topic: found.id, index };
                    parts.push((self.owner_of(id), (part, id)));
                }
                let name = found.map_or_else(|| Arc::from(topic.name), |found| found.name.clone());
                told.partitions.push((name, index));
                told.outcomes.push(Err(ErrorCode::UnknownTopicOrPartition));
            }
        }
        let groups = by_owner(parts);
        let questions = groups.into_iter().map(|(owner, parts)| (owner, Question::Producers(parts)));
        self.inquire(now, caller, Told::Producers(told), questions.collect(), 0, effects);
        Ok(())
    }

    /// On the core that owns the logs.
    pub(super) fn producers_of(&self, parts: Vec<(u32, PartitionId)>) -> Answer {
        let answers = parts.into_iter().map(|(part, id)| {
            let partition = match self.partition_or(id, ErrorCode::NotLeaderOrFollower) {
                Ok(partition) => partition,
                Err(error_code) => return (part, Err(error_code)),
            };
            let producers = partition.log.producers().iter().map(|(id, state)| ProducerFound {
                id,
                epoch: state.epoch,
                last_sequence: state.batches.last().map_or(-1, |batch| batch.last_sequence),
                last_append_ms: state.last_append_ms,
            });
            let mut producers: Vec<_> = producers.collect();
            producers.sort_unstable_by_key(|producer| producer.id);
            (part, Ok(producers))
        });
        Answer::Producers(answers.collect())
    }
}

pub(super) fn response(told: &ProducersTold) -> DescribeProducersResponse<'_> {
    let mut topics: Vec<TopicResponse<'_>> = Vec::new();
    for ((name, partition_index), outcome) in told.partitions.iter().zip(&told.outcomes) {
        if topics.last().is_none_or(|topic| topic.name != &**name) {
            topics.push(TopicResponse { name, partitions: Vec::new() });
        }
        let producers = outcome.as_deref().unwrap_or_default().iter().map(|producer| ProducerState {
            producer_id: producer.id,
            producer_epoch: i32::from(producer.epoch),
            last_sequence: producer.last_sequence,
            last_timestamp: producer.last_append_ms,
            coordinator_epoch: -1,
            ..Default::default()
        });
        let error_code = outcome.as_ref().err().copied().unwrap_or(ErrorCode::None);
        topics.last_mut().expect("just pushed").partitions.push(PartitionResponse {
            partition_index: *partition_index,
            error_code: error_code.code(),
            error_message: (error_code != ErrorCode::None).then(|| error_code.message()),
            active_producers: producers.collect(),
        });
    }
    DescribeProducersResponse { topics, ..Default::default() }
}
