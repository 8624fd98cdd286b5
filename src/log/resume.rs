//! Where a recovery of this log would resume, now and by the table that is on stable storage, and what it would lack if the
//! segment files held no more than was synced.

use super::segment::{Life, Segment};
use super::{Log, LogCheckpoint, LogState};
use crate::record::RecordBatch;
use crate::types::Offset;

/// A place in the segment files; everything before it is in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResumePoint {
    pub segment: Offset,
    /// In the segment's file.
    pub position: u64,
    /// The offset after the last record before it.
    pub written_offset: Offset,
}

impl Log {
    /// The oldest segment that is not complete on disk, and the offset up to which it and all before it are written.
    fn resumption(&self) -> (&Segment, Offset) {
        let open = self.segments.iter().position(|segment| segment.life != Life::Sealed);
        let open = open.expect("the last one is active");
        let end = self.segments.get(open + 1).map_or(self.log_end_offset, |next| next.base_offset);
        (&self.segments[open], self.written_offset.min(end))
    }

    /// Everything below is in sealed segments or written to the active one.
    pub fn resumable_offset(&self) -> Offset {
        match self.resumption() {
            (active, written_offset) if active.life == Life::Active => written_offset,
            (sealing, _) => sealing.base_offset,
        }
    }

    fn resume_point(&self) -> ResumePoint {
        let (segment, written_offset) = self.resumption();
        let position = match self.tail.from(written_offset).next() {
            Some(batch) if batch.segment == segment.base_offset => u64::from(batch.position),
            _ => segment.size,
        };
        ResumePoint { segment: segment.base_offset, position, written_offset }
    }

    /// Where recovery would resume, were all that is written synced.
    pub fn checkpoint(&self) -> LogCheckpoint {
        self.checkpoint_at(self.resume_point(), self.indexed_size)
    }

    fn checkpoint_at(&self, point: ResumePoint, indexed_size: u64) -> LogCheckpoint {
        let ResumePoint { segment, position, written_offset } = point;
        let resumed = self.segments.iter().find(|other| other.base_offset == segment);
        let state = LogState {
            log_start_offset: self.log_start_offset,
            durable_offset: self.durable_offset,
            log_end_offset: self.log_end_offset,
            first_timestamp: resumed.and_then(|segment| segment.first_timestamp),
            indexed_size,
            epochs: self.epochs.clone(),
            producers: self.producers.clone(),
        };
        LogCheckpoint { segment, position, written_offset, state: state.encode() }
    }

    /// A checkpoint table with this log's present `checkpoint` is on its way.
    pub fn begin_checkpoint(&mut self) {
        self.next_recovery_point = self.resume_point();
    }

    /// That table is on stable storage.
    pub fn on_checkpoint(&mut self) {
        self.recovery_point = self.next_recovery_point;
    }

    /// Base offset of the segment at which a recovery would resume; those before it are not looked at.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point.segment
    }

    /// What is left of this log if its segment files hold nothing but what was synced: where a recovery resumes, and the
    /// batches from there on. Only for a log of which `evict_synced` alone let batches go.
    pub fn unsynced(&self) -> (LogCheckpoint, Vec<RecordBatch>) {
        let from = self.recovery_point.written_offset;
        assert!(self.tail_start() <= from);
        let batches = self.tail_from(from).cloned().collect();
        (self.checkpoint_at(self.recovery_point, 0), batches)
    }

    /// Lets go of the oldest batch in memory if it is in the file already; returns its bytes.
    pub fn evict_one(&mut self) -> Option<usize> {
        self.evict_below(self.written_offset)
    }

    /// The same, but only if a recovery finds it in the file for certain.
    pub fn evict_synced(&mut self) -> Option<usize> {
        self.evict_below(self.recovery_point.written_offset)
    }

    /// The same as `evict_one`, but only of batches below this offset.
    pub fn evict_one_below(&mut self, offset: Offset) -> Option<usize> {
        self.evict_below(self.written_offset.min(offset))
    }

    fn evict_below(&mut self, offset: Offset) -> Option<usize> {
        self.tail.front().filter(|oldest| oldest.last_offset < offset)?;
        self.tail.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, log, seal_all};
    use super::*;
    use crate::config::TopicConfig;
    use crate::log::{FoundLog, SegmentFile, recover};
    use crate::types::Time;

    #[test]
    fn what_was_not_synced_stays_in_memory_and_rebuilds_the_log() {
        let mut log = log(TopicConfig::default());
        let append_one = |log: &mut Log| append(log, Time::default(), 5, None, Some(b"value")).batch.size() as u64;
        let size = append_one(&mut log);
        seal_all(&mut log);
        assert!(log.evict_synced().is_none(), "no table names it");
        log.begin_checkpoint();
        append_one(&mut log);
        log.on_checkpoint();
        append_one(&mut log);
        seal_all(&mut log);
        assert!(log.evict_synced().is_some());
        assert!(log.evict_synced().is_none(), "written, but only once a table names it");
        let (checkpoint, batches) = log.unsynced();
        assert_eq!((checkpoint.segment, checkpoint.position, checkpoint.written_offset), (0, size, 1));
        assert_eq!(batches.len(), 2);
        let files = vec![SegmentFile { base_offset: 0, size }];
        let found = FoundLog { checkpoint: Some(&checkpoint), files, entries: batches, ..FoundLog::default() };
        let recovered = recover(found, &mut |_| panic!("nothing has to be read")).expect("whole");
        assert_eq!((recovered.state.log_end_offset, recovered.keep, recovered.append.len()), (3, size, 2));
    }
}
