//! The end of a log as it stands in memory: batches not yet in the segment file, and behind them those kept for readers.

use std::collections::VecDeque;

use bytes::Bytes;

use super::segment::Position;
use crate::record::RecordBatch;
use crate::types::{Few, Offset};

#[derive(Debug)]
pub struct TailBatch {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub segment: Offset,
    pub position: Position,
    pub batch: RecordBatch,
}

impl TailBatch {
    fn size(&self) -> usize {
        self.batch.bytes().len()
    }
}

/// Invariants: batches adjoin, oldest first; the newest ends at the log's end offset.
#[derive(Debug, Default)]
pub struct Tail {
    batches: VecDeque<TailBatch>,
    bytes: usize,
}

impl Tail {
    pub fn push(&mut self, batch: TailBatch) {
        assert!(self.batches.back().is_none_or(|last| last.last_offset < batch.base_offset));
        self.bytes += batch.size();
        self.batches.push_back(batch);
    }

    pub fn first_offset(&self) -> Option<Offset> {
        self.batches.front().map(|batch| batch.base_offset)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn front(&self) -> Option<&TailBatch> {
        self.batches.front()
    }

    /// Lets go of the oldest batch; returns its bytes.
    pub fn pop_front(&mut self) -> Option<usize> {
        let size = self.batches.pop_front()?.size();
        self.bytes -= size;
        if self.batches.is_empty() {
            self.batches.shrink_to(4);
        }
        Some(size)
    }

    /// Whole batches from the one that holds `offset`, below `upto`, at most `max_bytes` but at least one.
    pub fn read(&self, offset: Offset, upto: Offset, max_bytes: usize) -> Few<Bytes> {
        let mut chunks = Few::new();
        let mut total = 0;
        for batch in self.from(offset) {
            if batch.last_offset >= upto || (total > 0 && total + batch.size() > max_bytes) {
                break;
            }
            total += batch.size();
            chunks.push(batch.batch.bytes().clone());
        }
        chunks
    }

    /// The batches from the one that holds `offset` on.
    pub fn from(&self, offset: Offset) -> impl Iterator<Item = &TailBatch> {
        let start = self.batches.partition_point(|batch| batch.last_offset < offset);
        self.batches.range(start..)
    }
}
