//! Produce, on the core that the client is connected to: the frame is decoded once, its batches are cut out of it and
//! go to the cores that own their partitions, and the answer leaves when the last of these has answered.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;

use super::connection::Caller;
use super::groups::refuse_clients;
use super::{Append, AppendError, AppendPart, AppendResult, Effect, Message, Shard, Ticket, Timer, Waiting, by_owner};
use crate::error_code::ErrorCode;
use crate::protocol::produce::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::{Few, Map, PartitionId, Time, TopicId};

#[derive(Default)]
pub(super) struct Produces {
    pending: Map<Ticket, PendingProduce>,
    /// Roughly by deadline: clients rarely mix time-outs.
    deadlines: Waiting,
    timer_set: bool,
}

struct PendingProduce {
    caller: Caller,
    acks: i16,
    topics: Few<ProduceTopic>,
    parts: Few<ProducePart>,
    /// Cores that have not answered.
    outstanding: usize,
}

struct ProduceTopic {
    name: Arc<str>,
    id: TopicId,
    parts: Range<usize>,
}

struct ProducePart {
    index: i32,
    outcome: Option<AppendResult>,
}

/// What was cut out of the frame for one partition.
struct Cut {
    part: u32,
    partition: PartitionId,
    range: Range<usize>,
}

/// First version that knows zstd (KIP-110).
const ZSTD_FROM_VERSION: i16 = 7;

impl Shard {
    pub(super) fn on_produce(
        &mut self,
        now: Time,
        mut caller: Caller,
        frame: BytesMut,
        body_at: usize,
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ProduceRequest::decode(&mut Reader::new(&frame[body_at..]), caller.api_version)?;
        let (acks, timeout_ms) = (request.acks, request.timeout_ms);
        caller.throttle_time_ms = self.meter_produce(now, caller, acks, frame.len(), effects);
        let refused = match (acks, request.transactional_id) {
            (_, Some(_)) => Some(ErrorCode::InvalidTxnState),
            (-1..=1, None) => None,
            _ => Some(ErrorCode::InvalidRequiredAcks),
        };
        let mut topics = Few::with_capacity(request.topic_data.len());
        let mut parts = Few::new();
        let mut cuts = Few::new();
        for topic in &request.topic_data {
            let known = match caller.api_version {
                13.. => self.image.topic_by_id(topic.topic_id),
                _ => self.image.topic(topic.name),
            };
            let refused = refused.or(known.and_then(|topic| refuse_clients(&topic.name)));
            let start = parts.len();
            parts.reserve(topic.partition_data.len());
            cuts.reserve(topic.partition_data.len());
            for partition in &topic.partition_data {
                let part = parts.len() as u32;
                let id = known.filter(|topic| topic.partition(partition.index).is_some()).map(|topic| topic.id);
                let refused = refused.or(match id {
                    Some(_) => None,
                    None if caller.api_version >= 13 && known.is_none() => Some(ErrorCode::UnknownTopicId),
                    None => Some(ErrorCode::UnknownTopicOrPartition),
                });
                let outcome = match (refused, partition.records) {
                    (Some(error_code), _) => Some(Err(AppendError::new(error_code))),
                    (None, None) => Some(Err(no_batch())),
                    (None, Some(records)) => {
                        let partition = PartitionId { topic: id.expect("not refused"), index: partition.index };
                        cuts.push(Cut { part, partition, range: range_in(&frame, records) });
                        None
                    }
                };
                let outcome = outcome.map(|outcome| AppendResult { part, outcome });
                parts.push(ProducePart { index: partition.index, outcome });
            }
            let name = known.map_or_else(|| Arc::from(topic.name), |topic| topic.name.clone());
            topics.push(ProduceTopic {
                name,
                id: known.map_or(topic.topic_id, |topic| topic.id),
                parts: start..parts.len(),
            });
        }
        let mut produce = PendingProduce { caller, acks, topics, parts, outstanding: 0 };
        let shards = self.shards;
        let groups = by_owner(cut_batches(frame, cuts).map(|part| (part.partition.owner(shards), part)));
        if groups.is_empty() {
            self.answer_produce(produce, effects);
            return Ok(());
        }
        produce.outstanding = groups.len();
        let ticket = self.token();
        self.produces.pending.insert(ticket, produce);
        if acks != 0 {
            self.produces.deadlines.push_back((now.after_ms(timeout_ms.max(0) as u64), ticket));
            self.set_produce_timer();
        }
        let zstd_allowed = caller.api_version >= ZSTD_FROM_VERSION;
        for (owner, parts) in groups {
            let append = Append { acks, zstd_allowed, parts };
            if owner == self.id {
                self.on_append(now, owner, ticket, append, effects);
            } else {
                effects.push(Effect::Send { to: owner, message: Message::Append { ticket, append } });
            }
        }
        Ok(())
    }

    /// A core has appended its part as firmly as asked for, or said why not.
    pub(super) fn on_appended(&mut self, ticket: Ticket, results: Few<AppendResult>, effects: &mut Vec<Effect>) {
        let Some(produce) = self.produces.pending.get_mut(&ticket) else { return };
        for result in results {
            let part = result.part as usize;
            produce.parts[part].outcome = Some(result);
        }
        produce.outstanding -= 1;
        if produce.outstanding == 0 {
            let produce = self.produces.pending.remove(&ticket).expect("just seen");
            self.answer_produce(produce, effects);
            // Not kept until their deadline: a client may allow half a minute, and send a million requests in it.
            let Produces { pending, deadlines, .. } = &mut self.produces;
            while deadlines.pop_front_if(|(_, ticket)| !pending.contains_key(ticket)).is_some() {}
        }
    }

    /// Requests that the journal kept waiting longer than the client allows. What was appended may still become durable.
    pub(super) fn on_produce_deadline(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.produces.timer_set = false;
        while let Some(&(deadline, ticket)) = self.produces.deadlines.front() {
            if !self.produces.pending.contains_key(&ticket) {
                self.produces.deadlines.pop_front();
                continue;
            }
            if deadline > now.monotonic_us {
                break;
            }
            self.produces.deadlines.pop_front();
            let produce = self.produces.pending.remove(&ticket).expect("just seen");
            self.answer_produce(produce, effects);
        }
        self.set_produce_timer();
    }

    /// The timer of the oldest request: one for all, set anew when it fires.
    fn set_produce_timer(&mut self) {
        if let (false, Some(&(deadline, _))) = (self.produces.timer_set, self.produces.deadlines.front()) {
            self.produces.timer_set = true;
            self.set_timer(deadline, Timer::Produce);
        }
    }

    fn answer_produce(&mut self, produce: PendingProduce, effects: &mut Vec<Effect>) {
        let caller = produce.caller;
        let failed = |part: &ProducePart| !matches!(part.outcome, Some(AppendResult { outcome: Ok(_), .. }));
        if produce.acks == 0 {
            // There is no answer to put an error in: a closed connection makes the client look again.
            if produce.parts.iter().any(failed) {
                self.close(caller.connection, effects);
            } else {
                self.finish(caller, Vec::new(), effects);
            }
            return;
        }
        self.respond(caller, effects, |writer| {
            let responses = produce.topics.iter().map(|topic| TopicProduceResponse {
                name: &topic.name,
                topic_id: topic.id,
                partition_responses: produce.parts[topic.parts.clone()].iter().map(answer_part).collect(),
            });
            let response = ProduceResponse { responses: responses.collect(), ..Default::default() };
            response.encode(writer, caller.api_version);
        });
    }
}

fn answer_part(part: &ProducePart) -> PartitionProduceResponse<'_> {
    let response = PartitionProduceResponse { index: part.index, base_offset: -1, ..Default::default() };
    match &part.outcome {
        None => PartitionProduceResponse { error_code: ErrorCode::RequestTimedOut.code(), ..response },
        Some(AppendResult { outcome: Ok(outcome), .. }) => PartitionProduceResponse {
            base_offset: outcome.base_offset,
            log_append_time_ms: outcome.log_append_time_ms,
            log_start_offset: outcome.log_start_offset,
            ..response
        },
        Some(AppendResult { outcome: Err(error), .. }) => {
            let record_error = error.record_index.map(|batch_index| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: error.message.as_deref(),
            });
            PartitionProduceResponse {
                error_code: error.error_code.code(),
                error_message: error.message.as_deref(),
                record_errors: record_error.into_iter().collect(),
                ..response
            }
        }
    }
}

fn no_batch() -> AppendError {
    AppendError {
        message: Some("a produce request holds exactly one record batch per partition".to_owned()),
        ..AppendError::new(ErrorCode::InvalidRecord)
    }
}

/// Where a slice of the frame stands in it.
fn range_in(frame: &[u8], slice: &[u8]) -> Range<usize> {
    let start = slice.as_ptr() as usize - frame.as_ptr() as usize;
    start..start + slice.len()
}

/// Cuts the batches out of the frame, each into a buffer of its own. They keep sharing the frame's memory, unless most of
/// it is something else: a kept batch must not hold much more memory than it accounts for.
fn cut_batches(mut frame: BytesMut, cuts: Few<Cut>) -> impl Iterator<Item = AppendPart> {
    let kept: usize = cuts.iter().map(|cut| cut.range.len()).sum();
    let copy = kept + 1024 < frame.len() / 2;
    let mut consumed = 0;
    cuts.into_iter().map(move |cut| {
        let records = if copy {
            BytesMut::from(&frame[cut.range.clone()])
        } else {
            let mut head = frame.split_to(cut.range.end - consumed);
            let records = head.split_off(cut.range.start - consumed);
            consumed = cut.range.end;
            records
        };
        AppendPart { part: cut.part, partition: cut.partition, records }
    })
}
