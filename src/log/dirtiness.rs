//! Whether a log is worth compacting, up to where it may be, and what a compaction changes in it.

use super::Log;
use super::compaction::{Compaction, CompactionRules, Replacement, Source};
use super::segment::Life;
use crate::types::{Offset, Time};

/// How much of a compacted topic's log is uncompacted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Dirtiness {
    /// Too little, or nothing that may be compacted yet.
    Clean,
    /// Before more can be said, this segment's timestamps have to be read from disk.
    Unread(Offset),
    /// Enough, but recovery would still look for those segments: a checkpoint has to come first.
    Unsettled,
    /// Enough: this share of its bytes.
    Dirty(f64),
}

impl Log {
    /// By `min.cleanable.dirty.ratio`, `min.compaction.lag.ms` and `max.compaction.lag.ms`. Only closed segments wholly below
    /// `stable_offset` count.
    pub fn dirtiness(&mut self, now: Time, stable_offset: Offset) -> Dirtiness {
        if !self.config.cleanup_policy.compact {
            return Dirtiness::Clean;
        }
        let count = match self.compactable(now, stable_offset) {
            Ok(count) => count,
            Err(unread) => return Dirtiness::Unread(unread),
        };
        let settled = (0..count).take_while(|&index| self.is_settled(index)).count();
        let due = match self.is_due(now, count) {
            Ok(due) => due,
            Err(unread) => return Dirtiness::Unread(unread),
        };
        match due {
            None => Dirtiness::Clean,
            Some(_) if settled < count => Dirtiness::Unsettled,
            Some(ratio) => Dirtiness::Dirty(ratio),
        }
    }

    /// How many of the oldest segments may be compacted, or whose age is not known.
    fn compactable(&mut self, now: Time, stable_offset: Offset) -> Result<usize, Offset> {
        let lag_ms = self.config.min_compaction_lag_ms;
        for index in 0..self.segments.len() - 1 {
            if self.end_of(index) > stable_offset {
                return Ok(index);
            }
            let is_dirty = self.end_of(index) > self.cleaning.first_dirty_offset;
            let segment = &mut self.segments[index];
            if lag_ms > 0 && is_dirty {
                let newest = segment.age_from(now.wall_ms).ok_or(segment.base_offset)?;
                if newest > now.wall_ms.saturating_sub(lag_ms) {
                    return Ok(index);
                }
            }
        }
        Ok(self.segments.len() - 1)
    }

    fn is_settled(&self, index: usize) -> bool {
        self.segments[index].life == Life::Sealed && self.segments[index].base_offset < self.recovery_point()
    }

    /// The dirty share of the first `count` segments, if it is due.
    fn is_due(&self, now: Time, count: usize) -> Result<Option<f64>, Offset> {
        let (mut clean, mut dirty, mut is_late) = (0, 0, false);
        for index in 0..count {
            let segment = &self.segments[index];
            if self.end_of(index) <= self.cleaning.first_dirty_offset {
                clean += segment.size;
                continue;
            }
            dirty += segment.size;
            let lag_ms = self.config.max_compaction_lag_ms;
            if lag_ms < i64::MAX && !is_late {
                let first = segment.first_timestamp.filter(|_| !segment.is_unreadable());
                let unread = first.is_none() && !segment.is_largest_known() && !segment.is_unreadable();
                if unread {
                    return Err(segment.base_offset);
                }
                is_late = first.is_some_and(|first| first >= 0 && now.wall_ms.saturating_sub(first) > lag_ms);
            }
        }
        if dirty == 0 {
            return Ok(None);
        }
        let ratio = dirty as f64 / (clean + dirty) as f64;
        Ok((ratio > self.config.min_cleanable_dirty_ratio || is_late).then_some(ratio))
    }

    /// Begins to compact what `dirtiness` found. `key_bytes` bound the memory for keys, `seed` their hashes.
    pub fn begin_compaction(
        &mut self,
        now: Time,
        stable_offset: Offset,
        key_bytes: u64,
        seed: u64,
    ) -> Option<Compaction> {
        let count = self.compactable(now, stable_offset).ok()?;
        let count = (0..count).take_while(|&index| self.is_settled(index)).count();
        let sources: Vec<Source> = (0..count)
            .map(|index| {
                let segment = &self.segments[index];
                Source { base_offset: segment.base_offset, end_offset: self.end_of(index), size: segment.size }
            })
            .collect();
        let oldest = sources.first()?.base_offset;
        let first_dirty_offset = self.cleaning.first_dirty_offset.max(oldest);
        if sources.last()?.end_offset <= first_dirty_offset {
            return None;
        }
        let rules = CompactionRules {
            now_ms: now.wall_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            segment_bytes: self.config.segment_bytes as u64,
            index_interval_bytes: self.config.index_interval_bytes as u64,
            first_dirty_offset,
            dense_from: self.cleaning.holes_below,
            key_bytes,
            seed,
            last_of_producers: self.producers.last_offsets(),
        };
        Some(Compaction::new(rules, sources))
    }

    /// The new segment has the place and the name of the old ones.
    pub fn replace(&mut self, replacement: Replacement) {
        let first = self.segments.partition_point(|segment| segment.base_offset < replacement.sources[0]);
        let last = first + replacement.sources.len();
        assert!(
            self.segments[first..last]
                .iter()
                .map(|segment| segment.base_offset)
                .eq(replacement.sources.iter().copied())
        );
        assert!(replacement.end_offset <= self.cleaning.holes_below, "what may be missing is known before it goes");
        self.segments.splice(first..last, [replacement.into_segment()]);
    }
}
