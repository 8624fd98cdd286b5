//! Which of a log's oldest segments its topic's retention lets go, and how they go: the log's start moves first and is made
//! durable by whoever holds the log, then the segments below it leave. Compacted topics keep theirs but for the log's start.

use super::segment::{Life, Segment};
use super::{CleaningPoint, Log};
use crate::types::{Offset, Time, Timestamp};

/// What retention says of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// The first offset to keep; the log's own start where nothing goes.
    pub start: Offset,
    /// Before more can be said, this segment's largest timestamp has to be read from disk.
    pub unread: Option<Offset>,
}

impl Log {
    /// Applies `retention.bytes` and `retention.ms` (by the largest record timestamp of a segment, as Kafka) to the segments
    /// that lie wholly below the high watermark. The active one may be among them; it has to be rolled first then.
    pub fn retention(&mut self, now: Time, high_watermark: Offset) -> Retention {
        let config = self.config.clone();
        let mut retention = Retention { start: self.log_start_offset, unread: None };
        if !config.cleanup_policy.delete {
            return retention;
        }
        let live: Vec<usize> = (0..self.segments.len())
            .filter(|&index| self.segments[index].size > 0 && self.end_of(index) > self.log_start_offset)
            .take_while(|&index| self.end_of(index) <= high_watermark)
            .collect();
        let total: u64 = self.segments.iter().map(|segment| segment.size).sum();
        let gone: u64 = (0..self.segments.len())
            .filter(|&index| self.end_of(index) <= self.log_start_offset)
            .map(|index| self.segments[index].size)
            .sum();
        let limit = u64::try_from(config.retention_bytes).unwrap_or(u64::MAX);
        let mut excess = (total - gone).saturating_sub(limit);
        for index in live {
            let end = self.end_of(index);
            let segment = &mut self.segments[index];
            if excess >= segment.size {
                excess -= segment.size;
            } else {
                excess = 0;
                let Ok(retention_ms) = u64::try_from(config.retention_ms) else { break };
                let Some(age_from) = segment.age_from(now.wall_ms) else {
                    retention.unread = Some(segment.base_offset);
                    break;
                };
                let age_ms = u64::try_from(now.wall_ms.saturating_sub(age_from)).unwrap_or(0);
                if age_ms <= retention_ms {
                    break;
                }
            }
            retention.start = end;
        }
        retention
    }

    /// The offset after the last one that this segment may hold.
    pub(super) fn end_of(&self, index: usize) -> Offset {
        self.segments.get(index + 1).map_or(self.log_end_offset, |next| next.base_offset)
    }

    /// Closes the active segment and begins the next one. False if there is nothing in it.
    pub fn roll(&mut self) -> bool {
        let active = self.segments.last_mut().expect("never empty");
        if active.size == 0 {
            return false;
        }
        active.life = Life::Sealing;
        self.segments.push(Segment::begin(self.log_end_offset));
        self.indexed_size = 0;
        true
    }

    /// Closes an active segment that is older than `segment.ms` though nothing is appended any more: retention and
    /// compaction only reach closed ones. By the wall clock of its first append, whatever the records' own times are.
    pub fn roll_if_idle(&mut self, now: Time) -> bool {
        let limit = self.roll_after_ms();
        let active = self.segments.last_mut().expect("never empty");
        active.size > 0 && now.wall_ms.saturating_sub(active.begun_ms(now.wall_ms)) > limit && self.roll()
    }

    /// The age at which the active segment is closed: `segment.ms`, for a compacted topic `max.compaction.lag.ms` if that is
    /// less, minus the segment's share of `segment.jitter.ms`.
    pub(super) fn roll_after_ms(&self) -> Timestamp {
        let limit = match self.config.cleanup_policy.compact {
            true => self.config.segment_ms.min(self.config.max_compaction_lag_ms),
            false => self.config.segment_ms,
        };
        match self.config.segment_jitter_ms.min(limit) {
            0 => limit,
            jitter_ms => limit - self.segments.last().expect("never empty").chance(jitter_ms),
        }
    }

    /// Readers below `offset` are out of range from now on, also after a restart: the caller has made that durable. It may
    /// lie inside a segment. Never goes back.
    pub fn advance_log_start(&mut self, offset: Offset) {
        assert!(offset <= self.log_end_offset, "a log starts at or before its end");
        if offset > self.log_start_offset {
            self.log_start_offset = offset;
            self.epochs.forget_below(offset);
            self.cleaning.first_dirty_offset = self.cleaning.first_dirty_offset.max(offset);
        }
    }

    /// A table with this point is on stable storage.
    pub fn on_cleaning_point(&mut self, point: CleaningPoint) {
        self.cleaning.merge(point);
        self.advance_log_start(point.log_start_offset.min(self.log_end_offset));
    }

    pub fn cleaning_point(&self) -> CleaningPoint {
        CleaningPoint { log_start_offset: self.log_start_offset, ..self.cleaning }
    }

    /// The oldest segment lies wholly below the log's start.
    pub fn has_segments_to_remove(&self) -> bool {
        self.segments.len() > 1 && self.segments[1].base_offset <= self.log_start_offset
    }

    /// Takes out the oldest `most` of the segments wholly below the log's start, except where recovery would still look for
    /// them. Returns their base offsets.
    pub fn remove_segments(&mut self, most: usize) -> Vec<Offset> {
        let removable = |index: usize| {
            self.segments[index].life == Life::Sealed
                && self.segments[index].base_offset < self.recovery_point()
                && self.segments.get(index + 1).is_some_and(|next| next.base_offset <= self.log_start_offset)
        };
        let count = (0..self.segments.len().min(most)).take_while(|&index| removable(index)).count();
        self.segments.drain(..count).map(|segment| segment.base_offset).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, log, seal_all};
    use super::*;
    use crate::config::TopicConfig;

    const NOW_MS: Timestamp = 1_700_000_000_000;

    fn now(after_ms: Timestamp) -> Time {
        Time { monotonic_us: 0, wall_ms: NOW_MS + after_ms }
    }

    /// Segments 0, 10, 20 (active), each of ten batches of one record, the n-th record at NOW + n ms.
    fn three_segments(set: impl FnOnce(&mut TopicConfig)) -> Log {
        let mut config = TopicConfig::default();
        set(&mut config);
        let mut log = log(config);
        for offset in 0..25 {
            if offset > 0 && offset % 10 == 0 {
                assert!(log.roll());
            }
            append(&mut log, now(0), NOW_MS + offset, Some(b"key"), Some(b"value"));
        }
        seal_all(&mut log);
        log
    }

    #[test]
    fn a_segment_goes_when_its_newest_record_is_too_old() {
        let mut log = three_segments(|config| config.retention_ms = 1000);
        let start = |log: &mut Log, after_ms| log.retention(now(after_ms), 25).start;
        assert_eq!(start(&mut log, 1009), 0);
        assert_eq!(start(&mut log, 1010), 10);
        assert_eq!(start(&mut log, 1019), 10);
        assert_eq!(start(&mut log, 1020), 20);
        assert_eq!(start(&mut log, 1025), 25, "the active one goes too");
        assert_eq!(log.retention(now(9999), 19).start, 10, "nothing beyond the high watermark goes");
    }

    #[test]
    fn the_oldest_segments_beyond_the_size_go() {
        let segment_bytes = three_segments(|_| ()).segments[0].size as i64;
        for (limit, start) in [(0, 25), (1, 20), (segment_bytes / 2, 20), (segment_bytes * 3 / 2, 10), (-1, 0)] {
            let mut log = three_segments(|config| config.retention_bytes = limit);
            assert_eq!(log.retention(now(0), 25).start, start, "limit {limit}");
        }
    }

    #[test]
    fn a_topic_that_is_only_compacted_keeps_everything() {
        let mut log = three_segments(|config| {
            config.retention_ms = 1;
            config.retention_bytes = 1;
            config.cleanup_policy.delete = false;
        });
        assert_eq!(log.retention(now(99_999), 25), Retention { start: 0, unread: None });
    }

    #[test]
    fn the_age_of_a_segment_that_was_not_read_yet_is_asked_for() {
        let mut log = three_segments(|config| config.retention_ms = 1000);
        log.segments[0] = Segment::sealed(0, log.segments[0].size);
        assert_eq!(log.retention(now(9999), 25), Retention { start: 0, unread: Some(0) });
        log.segments[0].give_up_age();
        assert_eq!(log.retention(now(9999), 25).start, 0, "it ages from when it was first looked at");
        assert_eq!(log.retention(now(9999 + 1001), 25).start, 25);
    }

    #[test]
    fn segments_leave_once_they_are_below_the_start_and_no_recovery_needs_them() {
        let mut log = three_segments(|_| ());
        log.advance_log_start(14);
        assert!(log.has_segments_to_remove());
        assert!(log.remove_segments(9).is_empty());
        log.begin_checkpoint();
        log.on_checkpoint();
        assert_eq!((log.recovery_point(), log.remove_segments(9)), (20, vec![0]));
        assert!(!log.has_segments_to_remove());
        assert_eq!(log.log_start_offset(), 14);
        assert!(log.read(13, 25, 100).is_err() && log.read(14, 25, 100).is_ok());
    }

    #[test]
    fn an_idle_segment_is_closed_in_time() {
        let mut log = three_segments(|config| config.segment_ms = 500);
        assert!(!log.roll_if_idle(now(500)));
        assert!(log.roll_if_idle(now(501)));
        assert!(!log.roll_if_idle(now(9999)), "an empty one is left alone");
        assert_eq!(log.log_end_offset(), 25);
        let appended = append(&mut log, now(9999), NOW_MS, None, Some(b"value"));
        assert_eq!((appended.base_offset, log.segments.last().map(|active| active.base_offset)), (25, Some(25)));
    }

    #[test]
    fn jitter_closes_segments_of_one_age_at_times_of_their_own() {
        let closes_at = |first: Timestamp| {
            let config = TopicConfig { segment_ms: 10_000, segment_jitter_ms: 4000, ..TopicConfig::default() };
            let mut log = log(config);
            append(&mut log, now(first), NOW_MS + first, None, Some(b"value"));
            (0..=10_001).find(|&age| log.roll_if_idle(now(first + age))).expect("it is closed in time")
        };
        let ages: Vec<Timestamp> = (0..20).map(closes_at).collect();
        assert!(ages.iter().all(|age| (6001..=10_001).contains(age)), "{ages:?}");
        let mut distinct = ages.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 10, "{ages:?}");
    }

    #[test]
    fn a_full_index_closes_its_segment() {
        // Room for four entries of the offset index and three of the time index, the last of which is kept back.
        let mut log = log(TopicConfig { segment_index_bytes: 36, index_interval_bytes: 0, ..TopicConfig::default() });
        for offset in 0..9 {
            append(&mut log, now(0), NOW_MS + offset, None, Some(b"value"));
        }
        // The first batch of a segment has no entry.
        let bases: Vec<Offset> = log.segments.iter().map(|segment| segment.base_offset).collect();
        assert_eq!(bases, [0, 3, 6]);
    }

    #[test]
    fn memory_lets_go_of_what_lies_below_an_offset_once_it_is_written() {
        let mut log = three_segments(|_| ());
        while log.evict_one_below(13).is_some() {}
        assert_eq!(log.tail_start(), 13);
        append(&mut log, now(0), NOW_MS, None, Some(b"value"));
        while log.evict_one_below(Offset::MAX).is_some() {}
        assert_eq!(log.tail_start(), 25, "what no file has stays");
    }
}
