//! ListOffsets and OffsetForLeaderEpoch, on the core that owns the partitions. Most answers are known; an offset by time
//! may have to be looked for in the segment files.

use bytes::Bytes;

use super::cold::IndexReader;
use super::{Effect, Message, OffsetAnswer, OffsetQuery, OffsetQuestion, Shard, Ticket};
use crate::error_code::ErrorCode;
use crate::log::{Location, Log};
use crate::record::{self, BatchHeader};
use crate::types::{Map, Offset, PartitionId, ShardId, Time, Timestamp};

/// Questions that wait for a scan.
#[derive(Default)]
pub(super) struct Scans {
    pending: Map<u64, PendingAnswers>,
}

struct PendingAnswers {
    from: ShardId,
    ticket: Ticket,
    queries: Vec<OffsetQuery>,
    answers: Vec<OffsetAnswer>,
    waiting: usize,
}

/// What has to be read before a question can be answered.
enum Needs {
    /// The record is in this segment or later.
    Time { segment: Offset, timestamp: Timestamp },
    /// The largest timestamp of this segment.
    Age { segment: Offset },
}

/// Records of one batch are opened up to this size to find one by its time.
const OPENED_BYTES_MAX: usize = 64 << 20;

impl Shard {
    pub(super) fn on_offsets(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        queries: Vec<OffsetQuery>,
        effects: &mut Vec<Effect>,
    ) {
        let token = self.token();
        let mut needs = Vec::new();
        let mut answers = Vec::with_capacity(queries.len());
        for (index, query) in queries.iter().enumerate() {
            answers.push(OffsetAnswer::error(query.part, ErrorCode::None));
            match self.answer_offset(query) {
                Ok(answer) => answers[index] = answer,
                Err(need) => needs.push((index, query.partition, need)),
            }
        }
        let pending = PendingAnswers { from, ticket, queries, answers, waiting: needs.len() };
        if needs.is_empty() {
            return self.answer_offsets(pending, effects);
        }
        self.owner_offsets.pending.insert(token, pending);
        for (index, id, need) in needs {
            self.look_on_disk(now, id, (token, index), need, effects);
        }
    }

    fn look_on_disk(
        &mut self,
        now: Time,
        id: PartitionId,
        waiter: (u64, usize),
        need: Needs,
        effects: &mut Vec<Effect>,
    ) {
        match need {
            Needs::Time { segment, timestamp } => {
                self.scan_for_time(now, id, segment, (timestamp, waiter.0, waiter.1), effects);
            }
            Needs::Age { segment } => {
                self.complete_index(now, id, segment, IndexReader::Question(waiter.0, waiter.1), effects);
            }
        }
    }

    /// One more segment's largest timestamp is known: the question is asked again.
    pub(super) fn on_age_known(
        &mut self,
        now: Time,
        (token, index): (u64, usize),
        error: Option<ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.owner_offsets.pending.get(&token) else { return };
        let query = &pending.queries[index];
        let (part, id) = (query.part, query.partition);
        match error.map_or_else(|| self.answer_offset(query), |error_code| Ok(OffsetAnswer::error(part, error_code))) {
            Ok(answer) => self.on_offset_answered(token, index, answer, effects),
            Err(need) => self.look_on_disk(now, id, (token, index), need, effects),
        }
    }

    fn answer_offset(&self, query: &OffsetQuery) -> Result<OffsetAnswer, Needs> {
        let error = |error_code| Ok(OffsetAnswer::error(query.part, error_code));
        let partition = match self.partition_or(query.partition, ErrorCode::NotLeaderOrFollower) {
            Ok(partition) => partition,
            Err(error_code) => return error(error_code),
        };
        if let Err(error_code) = partition.check_leader_epoch(query.current_leader_epoch) {
            return error(error_code);
        }
        let log = &partition.log;
        let answer = |offset, timestamp| {
            let leader_epoch = log.epochs().at(offset).or(log.epochs().latest()).unwrap_or(-1);
            Ok(OffsetAnswer { part: query.part, error_code: ErrorCode::None, timestamp, offset, leader_epoch })
        };
        match query.question {
            OffsetQuestion::Earliest => answer(log.log_start_offset(), -1),
            OffsetQuestion::Latest { read_committed: false } => answer(partition.high_watermark(), -1),
            OffsetQuestion::Latest { read_committed: true } => answer(partition.last_stable_offset(), -1),
            OffsetQuestion::EndOfEpoch(epoch) => {
                let found = log.epochs().end_of(epoch, log.log_end_offset());
                let (leader_epoch, offset) = match found {
                    Some(found) => found,
                    // The current epoch may not have written anything yet: it ends where the log does.
                    None if epoch == partition.leader.leader_epoch => (epoch, log.log_end_offset()),
                    None => (-1, -1),
                };
                Ok(OffsetAnswer { part: query.part, error_code: ErrorCode::None, timestamp: -1, offset, leader_epoch })
            }
            OffsetQuestion::MaxTimestamp => match (log.segment_of_unknown_age(), log.max_timestamp()) {
                (Some(segment), _) => Err(Needs::Age { segment }),
                (None, None) => error(ErrorCode::None),
                (None, Some((timestamp, last_offset))) => match newest_record(log, timestamp, last_offset) {
                    Some(offset) => answer(offset, timestamp),
                    None => Err(Needs::Time { segment: log.segment_of(last_offset), timestamp }),
                },
            },
            OffsetQuestion::Timestamp(timestamp) => match log.locate_time(Offset::MIN, timestamp) {
                Location::At { segment, position } if log.is_in_tail(segment, position) => {
                    match first_in_memory(log, timestamp) {
                        Some((offset, timestamp)) if offset < partition.high_watermark() => answer(offset, timestamp),
                        _ => error(ErrorCode::None),
                    }
                }
                Location::At { segment, .. } | Location::Unindexed { segment } => {
                    Err(Needs::Time { segment, timestamp })
                }
            },
        }
    }

    /// The scan for one question ended: with the batch that holds the record, with nothing, or with an error.
    pub(super) fn on_time_found(
        &mut self,
        (token, index): (u64, usize),
        timestamp: Timestamp,
        outcome: Result<Vec<Bytes>, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.owner_offsets.pending.get(&token) else { return };
        let query = &pending.queries[index];
        let partition = self.partitions.get(&query.partition);
        let found = match (&outcome, partition) {
            (Err(error_code), _) => Err(*error_code),
            (Ok(batches), Some(partition)) => {
                let on_disk =
                    batches.first().and_then(|batch| first_record(batch, timestamp, partition.log.log_start_offset()));
                Ok(on_disk
                    .or_else(|| first_in_memory(&partition.log, timestamp))
                    .filter(|&(offset, _)| offset < partition.high_watermark()))
            }
            (Ok(_), None) => Err(self.absence(query.partition, ErrorCode::UnknownTopicOrPartition)),
        };
        let answer = match found {
            Err(error_code) => OffsetAnswer::error(query.part, error_code),
            Ok(None) => OffsetAnswer::error(query.part, ErrorCode::None),
            Ok(Some((offset, timestamp))) => OffsetAnswer {
                part: query.part,
                error_code: ErrorCode::None,
                timestamp,
                offset,
                leader_epoch: partition.and_then(|partition| partition.log.epochs().at(offset)).unwrap_or(-1),
            },
        };
        self.on_offset_answered(token, index, answer, effects);
    }

    fn on_offset_answered(&mut self, token: u64, index: usize, answer: OffsetAnswer, effects: &mut Vec<Effect>) {
        let Some(pending) = self.owner_offsets.pending.get_mut(&token) else { return };
        pending.answers[index] = answer;
        pending.waiting -= 1;
        if pending.waiting == 0 {
            let pending = self.owner_offsets.pending.remove(&token).expect("just seen");
            self.answer_offsets(pending, effects);
        }
    }

    fn answer_offsets(&mut self, pending: PendingAnswers, effects: &mut Vec<Effect>) {
        let PendingAnswers { from, ticket, answers, .. } = pending;
        if from == self.id {
            self.on_offsets_found(ticket, answers, effects);
        } else {
            effects.push(Effect::Send { to: from, message: Message::OffsetsFound { ticket, answers } });
        }
    }
}

/// The first record in memory that is not older.
fn first_in_memory(log: &Log, timestamp: Timestamp) -> Option<(Offset, Timestamp)> {
    log.tail_from(log.tail_start())
        .filter(|batch| batch.header().max_timestamp >= timestamp)
        .find_map(|batch| first_record(batch.bytes(), timestamp, log.log_start_offset()))
}

/// The first record of a batch, from an offset on, that is not older. A batch that does not open is answered with its first
/// offset.
pub(super) fn first_record(batch: &[u8], timestamp: Timestamp, from: Offset) -> Option<(Offset, Timestamp)> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp < timestamp || header.last_offset() < from {
        return None;
    }
    let Ok(records) = record::records(batch, OPENED_BYTES_MAX) else {
        return Some((header.base_offset.max(from), header.base_timestamp));
    };
    records
        .map_while(Result::ok)
        .find(|record| record.timestamp >= timestamp && record.offset >= from)
        .map(|record| (record.offset, record.timestamp))
}

/// The offset of the record with the largest timestamp, if its batch is in memory.
fn newest_record(log: &Log, timestamp: Timestamp, last_offset: Offset) -> Option<Offset> {
    let batch = log.tail_from(last_offset).next().filter(|_| last_offset >= log.tail_start())?;
    Some(first_record(batch.bytes(), timestamp, log.log_start_offset())?.0)
}
