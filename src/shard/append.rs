//! Produce, on the core that owns the partitions: check, append, journal, and answer when the high watermark has passed.

use bytes::BytesMut;

use super::{Append, AppendError, AppendOutcome, AppendPart, AppendResult, Effect, Message, Shard, Ticket};
use crate::error_code::ErrorCode;
use crate::journal::JournalEntry;
use crate::log::Sequence;
use crate::record::{ProduceRules, ProducedBatch};
use crate::types::{Few, Map, Offset, PartitionId, ShardId, Time};

#[derive(Default)]
pub(super) struct Appends {
    pending: Map<u64, PendingAppend>,
}

struct PendingAppend {
    from: ShardId,
    ticket: Ticket,
    results: Few<AppendResult>,
    /// By the index of their results: which partitions these are of.
    partitions: Few<PartitionId>,
    /// Partitions whose high watermark has not come far enough.
    waiting: usize,
}

impl Shard {
    pub(super) fn on_append(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        append: Append,
        effects: &mut Vec<Effect>,
    ) {
        let token = self.token();
        let Append { acks, zstd_allowed, parts } = append;
        let (results, partitions) = (Few::with_capacity(parts.len()), Few::with_capacity(parts.len()));
        let mut pending = PendingAppend { from, ticket, results, partitions, waiting: 0 };
        for AppendPart { part, partition, records } in parts {
            let outcome = self.append_batch(now, partition, records, acks, zstd_allowed);
            if let Ok((_, Some(offset))) = outcome
                && acks != 0
            {
                let waiters = &mut self.partitions.get_mut(&partition).expect("just appended to").waiters;
                waiters.park_acknowledgement(offset, token);
                pending.waiting += 1;
            }
            pending.results.push(AppendResult { part, outcome: outcome.map(|(outcome, _)| outcome) });
            pending.partitions.push(partition);
        }
        if pending.waiting == 0 {
            self.answer_append(pending, effects);
        } else {
            self.appends.pending.insert(token, pending);
        }
        self.advance_relaxed(now, effects);
    }

    /// One batch of a client; with the offset that the high watermark has to reach before it counts as acknowledged.
    fn append_batch(
        &mut self,
        now: Time,
        id: PartitionId,
        records: BytesMut,
        acks: i16,
        zstd_allowed: bool,
    ) -> Result<(AppendOutcome, Option<Offset>), AppendError> {
        if self.refuses_appends(id) {
            return Err(AppendError {
                message: Some("no space left on the log directory's device: delete topics or free space".to_owned()),
                ..AppendError::new(ErrorCode::KafkaStorageError)
            });
        }
        let absence = self.absence(id, ErrorCode::NotLeaderOrFollower);
        let partition = self.partitions.get_mut(&id).ok_or(AppendError::new(absence))?;
        if acks == -1 && !partition.has_enough_replicas() {
            return Err(AppendError::new(ErrorCode::NotEnoughReplicas));
        }
        let config = partition.log.config();
        let mut rules = ProduceRules::of(config, zstd_allowed);
        rules.max_message_bytes = rules.max_message_bytes.min(self.storage.batch_bytes_max());
        let batch = ProducedBatch::check(records, &rules, now.wall_ms).map_err(|rejection| {
            self.metrics.rejected_batches += 1;
            AppendError {
                error_code: rejection.error_code,
                message: Some(rejection.message),
                record_index: rejection.record_index,
            }
        })?;
        let log_append_time_ms = if rules.log_append_time { now.wall_ms } else { -1 };
        let log_start_offset = partition.log.log_start_offset();
        let appended = match partition.log.check_sequence(batch.header()).map_err(AppendError::new)? {
            Sequence::Duplicate(batch) => {
                self.metrics.duplicate_batches += 1;
                let (base_offset, high_watermark) = (batch.base_offset, partition.high_watermark());
                let wait_for = Some(batch.last_offset + 1).filter(|&end| end > high_watermark);
                let log_append_time_ms = if rules.log_append_time { batch.timestamp } else { -1 };
                return Ok((AppendOutcome { base_offset, log_append_time_ms, log_start_offset }, wait_for));
            }
            Sequence::Next => self.append_stamped(now, id, batch),
        };
        let outcome = AppendOutcome { base_offset: appended.0, log_append_time_ms, log_start_offset };
        Ok((outcome, Some(appended.1 + 1)))
    }

    /// Appends to the log and the journal; returns base and last offset.
    pub(super) fn append_stamped(&mut self, now: Time, id: PartitionId, batch: ProducedBatch) -> (Offset, Offset) {
        let partition = self.partitions.get_mut(&id).expect("the caller found it");
        let appended = partition.log.append(now, batch, partition.leader.leader_epoch);
        self.metrics.produced_batches += 1;
        self.metrics.produced_records += (appended.last_offset - appended.base_offset + 1) as u64;
        self.metrics.produced_bytes += appended.batch.bytes().len() as u64;
        let end = appended.last_offset + 1;
        if partition.is_relaxed() {
            let flush_ms = u64::try_from(partition.log.config().flush_ms).expect("checked to be at least 0");
            self.commits.on_relaxed_append(now, id, end, flush_ms);
        } else {
            self.commits.on_append(id, end);
        }
        self.journal.append(JournalEntry { partition: id, batch: appended.batch.clone() });
        self.on_dirty(now, id, appended.batch.bytes().len());
        (appended.base_offset, appended.last_offset)
    }

    /// One of the partitions that this append waits for has come far enough.
    pub(super) fn on_acknowledged(&mut self, token: u64, effects: &mut Vec<Effect>) {
        let Some(pending) = self.appends.pending.get_mut(&token) else { return };
        pending.waiting -= 1;
        if pending.waiting == 0 {
            let pending = self.appends.pending.remove(&token).expect("just seen");
            self.answer_append(pending, effects);
        }
    }

    /// A partition went away: whoever waits for it learns that it cannot be known what became of the records.
    pub(super) fn on_append_abandoned(
        &mut self,
        id: PartitionId,
        token: u64,
        reason: ErrorCode,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(pending) = self.appends.pending.get_mut(&token) {
            for (result, _) in pending.results.iter_mut().zip(&pending.partitions).filter(|(_, of)| **of == id) {
                result.outcome = Err(AppendError::new(reason));
            }
            self.on_acknowledged(token, effects);
        }
    }

    fn answer_append(&mut self, pending: PendingAppend, effects: &mut Vec<Effect>) {
        let PendingAppend { from, ticket, results, .. } = pending;
        if from == self.id {
            self.on_appended(ticket, results, effects);
        } else {
            effects.push(Effect::Send { to: from, message: Message::Appended { ticket, results } });
        }
    }
}
