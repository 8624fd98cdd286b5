//! What one log remembers of its idempotent producers (KIP-98): enough to refuse gaps and to recognise a repeated batch.

use crate::error_code::ErrorCode;
use crate::record::BatchHeader;
use crate::types::{Map, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Batches remembered per producer; a client keeps at most as many in flight.
pub const BATCHES_REMEMBERED: usize = 5;

/// One batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencedBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub timestamp: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub epoch: ProducerEpoch,
    /// Oldest first, never empty, at most `BATCHES_REMEMBERED`.
    pub batches: Vec<SequencedBatch>,
    /// Wall clock of the last append, for expiry (`producer.id.expiration.ms`).
    pub last_append_ms: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    states: Map<ProducerId, ProducerState>,
}

/// What a batch of an idempotent producer is.
#[derive(Debug, PartialEq, Eq)]
pub enum Sequence {
    Next,
    /// Stored before, there.
    Duplicate(SequencedBatch),
}

impl Producers {
    /// Whether a client's batch may be appended.
    ///
    /// A producer nobody remembers may begin with any sequence (KIP-360): its state may have expired or been deleted.
    /// A new epoch of a remembered one begins at 0.
    pub fn check(&self, header: &BatchHeader) -> Result<Sequence, ErrorCode> {
        assert!(header.producer_id >= 0);
        let Some(state) = self.states.get(&header.producer_id) else {
            return Ok(Sequence::Next);
        };
        if header.producer_epoch < state.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if header.producer_epoch > state.epoch {
            return if header.base_sequence == 0 {
                Ok(Sequence::Next)
            } else {
                Err(ErrorCode::OutOfOrderSequenceNumber)
            };
        }
        let repeated = |batch: &&SequencedBatch| {
            batch.first_sequence == header.base_sequence && batch.last_sequence == header.last_sequence()
        };
        if let Some(batch) = state.batches.iter().find(repeated) {
            return Ok(Sequence::Duplicate(*batch));
        }
        let last = state.batches.last().expect("a remembered producer has a batch").last_sequence;
        let next = if last == i32::MAX { 0 } else { last + 1 };
        if header.base_sequence == next { Ok(Sequence::Next) } else { Err(ErrorCode::OutOfOrderSequenceNumber) }
    }

    /// A batch was appended; `header` is stamped. Batches without a producer are ignored.
    pub fn on_append(&mut self, header: &BatchHeader, now_ms: Timestamp) {
        if header.producer_id < 0 || header.is_control() {
            return;
        }
        let batch = SequencedBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        };
        let state = self.states.entry(header.producer_id).or_insert_with(|| ProducerState {
            epoch: header.producer_epoch,
            batches: Vec::with_capacity(BATCHES_REMEMBERED),
            last_append_ms: now_ms,
        });
        if state.epoch != header.producer_epoch {
            state.epoch = header.producer_epoch;
            state.batches.clear();
        }
        if state.batches.len() == BATCHES_REMEMBERED {
            state.batches.remove(0);
        }
        state.batches.push(batch);
        state.last_append_ms = now_ms;
    }

    /// Forgets producers that were silent since `oldest_ms`.
    pub fn expire(&mut self, oldest_ms: Timestamp) {
        self.states.retain(|_, state| state.last_append_ms >= oldest_ms);
    }

    /// Forgets batches at or beyond `end`, which were never on stable storage.
    pub fn truncate(&mut self, end: Offset) {
        self.states.retain(|_, state| {
            state.batches.retain(|batch| batch.last_offset < end);
            !state.batches.is_empty()
        });
    }

    /// The last offset of each producer that is remembered.
    pub fn last_offsets(&self) -> Map<ProducerId, Offset> {
        let last = |state: &ProducerState| state.batches.last().expect("a remembered producer has a batch").last_offset;
        self.states.iter().map(|(id, state)| (*id, last(state))).collect()
    }

    pub fn insert(&mut self, id: ProducerId, state: ProducerState) {
        assert!(!state.batches.is_empty() && state.batches.len() <= BATCHES_REMEMBERED);
        self.states.insert(id, state);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ProducerId, &ProducerState)> {
        self.states.iter().map(|(id, state)| (*id, state))
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchBuilder;

    fn header(epoch: i16, first: i32, count: i32, offset: Offset) -> BatchHeader {
        let mut builder = BatchBuilder::new().producer(7, epoch, first);
        for _ in 0..count {
            builder.push(0, None, Some(b"v"));
        }
        let mut header = BatchHeader::parse(&builder.build()).expect("built whole");
        header.base_offset = offset;
        header
    }

    fn after(batches: &[(i16, i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        let mut offset = 0;
        for &(epoch, first, count) in batches {
            let header = header(epoch, first, count, offset);
            assert_eq!(producers.check(&header), Ok(Sequence::Next));
            producers.on_append(&header, 0);
            offset += i64::from(count);
        }
        producers
    }

    #[test]
    fn a_repeated_batch_is_answered_with_its_old_offset() {
        let producers = after(&[(0, 0, 3), (0, 3, 2)]);
        let Ok(Sequence::Duplicate(batch)) = producers.check(&header(0, 0, 3, -1)) else { panic!("not a duplicate") };
        assert_eq!((batch.base_offset, batch.last_offset), (0, 2));
    }

    #[test]
    fn a_gap_is_refused_and_a_forgotten_repetition_too() {
        let producers = after(&[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)]);
        assert_eq!(producers.check(&header(0, 7, 1, -1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(producers.check(&header(0, 0, 1, -1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert!(matches!(producers.check(&header(0, 1, 1, -1)), Ok(Sequence::Duplicate(_))));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = after(&[(0, 0, 3)]);
        assert_eq!(producers.check(&header(1, 3, 1, -1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        let first = header(1, 0, 1, 3);
        assert_eq!(producers.check(&first), Ok(Sequence::Next));
        producers.on_append(&first, 0);
        assert_eq!(producers.check(&header(0, 3, 1, -1)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn a_producer_nobody_remembers_begins_anywhere() {
        let mut producers = after(&[(0, 0, 3)]);
        producers.expire(1);
        assert_eq!(producers.check(&header(0, 42, 1, -1)), Ok(Sequence::Next));
    }

    #[test]
    fn sequences_wrap_to_zero_after_the_largest() {
        let producers = after(&[(0, i32::MAX, 1)]);
        assert_eq!(producers.check(&header(0, 0, 1, -1)), Ok(Sequence::Next));
        let straddling = after(&[(0, i32::MAX - 1, 4)]);
        assert_eq!(straddling.check(&header(0, 2, 1, -1)), Ok(Sequence::Next));
    }
}
