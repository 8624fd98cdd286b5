//! What a checkpoint remembers of a log beside its segments' positions, and how it is written down.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::epochs::LeaderEpochs;
use super::producers::{BATCHES_REMEMBERED, ProducerState, Producers, SequencedBatch};
use crate::types::{Offset, Timestamp};

const FORMAT: u8 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    pub log_start_offset: Offset,
    /// Everything below is on stable storage: recovery must find it.
    pub durable_offset: Offset,
    /// `epochs` and `producers` include every batch below, durable or not.
    pub log_end_offset: Offset,
    /// Of the segment that the checkpoint resumes.
    pub first_timestamp: Option<Timestamp>,
    /// Size of the active segment that its index files on disk describe; 0 while it has none.
    pub indexed_size: u64,
    pub epochs: LeaderEpochs,
    pub producers: Producers,
}

impl LogState {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(40 + 12 * self.epochs.starts().len() + 150 * self.producers.len());
        out.put_u8(FORMAT);
        out.put_i64(self.log_start_offset);
        out.put_i64(self.durable_offset);
        out.put_i64(self.log_end_offset);
        out.put_i64(self.first_timestamp.unwrap_or(i64::MIN));
        out.put_u64(self.indexed_size);
        out.put_u32(self.epochs.starts().len() as u32);
        for &(epoch, start) in self.epochs.starts() {
            out.put_i32(epoch);
            out.put_i64(start);
        }
        out.put_u32(self.producers.len() as u32);
        for (id, state) in self.producers.iter() {
            out.put_i64(id);
            out.put_i16(state.epoch);
            out.put_i64(state.last_append_ms);
            out.put_u8(state.batches.len() as u8);
            for batch in &state.batches {
                out.put_i32(batch.first_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.base_offset);
                out.put_i64(batch.last_offset);
                out.put_i64(batch.timestamp);
            }
        }
        out.freeze()
    }

    /// None where the bytes are not a whole state of this format.
    pub fn decode(mut bytes: &[u8]) -> Option<LogState> {
        let input = &mut bytes;
        if input.try_get_u8().ok()? != FORMAT {
            return None;
        }
        let log_start_offset = input.try_get_i64().ok()?;
        let durable_offset = input.try_get_i64().ok()?;
        let log_end_offset = input.try_get_i64().ok()?;
        let first_timestamp = Some(input.try_get_i64().ok()?).filter(|&timestamp| timestamp != i64::MIN);
        let indexed_size = input.try_get_u64().ok()?;
        let mut epochs = LeaderEpochs::default();
        for _ in 0..input.try_get_u32().ok()? {
            let (epoch, start) = (input.try_get_i32().ok()?, input.try_get_i64().ok()?);
            if epochs.starts().last().is_some_and(|&(e, s)| e >= epoch || s > start) {
                return None;
            }
            epochs.push(epoch, start);
        }
        let mut producers = Producers::default();
        for _ in 0..input.try_get_u32().ok()? {
            let id = input.try_get_i64().ok()?;
            let epoch = input.try_get_i16().ok()?;
            let last_append_ms = input.try_get_i64().ok()?;
            let count = usize::from(input.try_get_u8().ok()?);
            if count == 0 || count > BATCHES_REMEMBERED {
                return None;
            }
            let mut batches = Vec::with_capacity(BATCHES_REMEMBERED);
            for _ in 0..count {
                batches.push(SequencedBatch {
                    first_sequence: input.try_get_i32().ok()?,
                    last_sequence: input.try_get_i32().ok()?,
                    base_offset: input.try_get_i64().ok()?,
                    last_offset: input.try_get_i64().ok()?,
                    timestamp: input.try_get_i64().ok()?,
                });
            }
            producers.insert(id, ProducerState { epoch, batches, last_append_ms });
        }
        input.is_empty().then_some(LogState {
            log_start_offset,
            durable_offset,
            log_end_offset,
            first_timestamp,
            indexed_size,
            epochs,
            producers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_and_a_cut_one_is_refused() {
        let mut epochs = LeaderEpochs::default();
        epochs.push(0, 0);
        epochs.push(4, 17);
        let mut producers = Producers::default();
        for id in 0..3 {
            let batch = SequencedBatch {
                first_sequence: 5,
                last_sequence: 9,
                base_offset: 100,
                last_offset: 104,
                timestamp: 1_700_000_000_000,
            };
            producers.insert(id, ProducerState { epoch: 2, batches: vec![batch; 5], last_append_ms: 77 });
        }
        let state = LogState {
            log_start_offset: 3,
            durable_offset: 104,
            log_end_offset: 105,
            first_timestamp: Some(-1),
            indexed_size: 4711,
            epochs,
            producers,
        };
        let bytes = state.encode();
        assert_eq!(LogState::decode(&bytes), Some(state));
        for cut in 0..bytes.len() {
            assert_eq!(LogState::decode(&bytes[..cut]), None);
        }
    }
}
