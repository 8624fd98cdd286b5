//! Where each leader's reign began in one log (KIP-101): answers OffsetForLeaderEpoch and finds divergence.

use crate::types::{LeaderEpoch, Offset};

/// Leader epochs with the offset of the first record each of them wrote, both strictly rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// A batch of `epoch` is about to take `offset`.
    pub fn on_append(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.latest().is_none_or(|latest| latest < epoch) {
            self.starts.push((epoch, offset));
        }
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|&(epoch, _)| epoch)
    }

    /// The epoch that wrote the record at `offset`.
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.starts.partition_point(|&(_, start)| start <= offset);
        after.checked_sub(1).map(|i| self.starts[i].0)
    }

    /// The largest epoch not above `epoch` that wrote something, and the offset where it ended.
    ///
    /// `[(1, 0), (3, 40)]`, log end 100:  1 → (1, 40)   2 → (1, 40)   3 → (3, 100)   0 → none
    pub fn end_of(&self, epoch: LeaderEpoch, log_end_offset: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.starts.partition_point(|&(e, _)| e <= epoch);
        let (found, _) = *self.starts.get(after.checked_sub(1)?)?;
        let end = self.starts.get(after).map_or(log_end_offset, |&(_, start)| start);
        Some((found, end))
    }

    /// Forgets what lies at or beyond `end`.
    pub fn truncate(&mut self, end: Offset) {
        self.starts.retain(|&(_, start)| start < end);
    }

    /// The log starts at `offset` now: the epoch that wrote the record there begins there.
    pub fn forget_below(&mut self, offset: Offset) {
        let after = self.starts.partition_point(|&(_, start)| start <= offset);
        let Some(current) = after.checked_sub(1) else { return };
        self.starts.drain(..current);
        self.starts[0].1 = offset;
    }

    pub fn starts(&self) -> &[(LeaderEpoch, Offset)] {
        &self.starts
    }

    pub fn push(&mut self, epoch: LeaderEpoch, start: Offset) {
        assert!(self.starts.last().is_none_or(|&(e, s)| e < epoch && s <= start), "epochs and their starts rise");
        self.starts.push((epoch, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let mut epochs = LeaderEpochs::default();
        epochs.on_append(1, 0);
        epochs.on_append(1, 10);
        epochs.on_append(3, 40);
        assert_eq!(epochs.end_of(0, 100), None);
        assert_eq!(epochs.end_of(1, 100), Some((1, 40)));
        assert_eq!(epochs.end_of(2, 100), Some((1, 40)));
        assert_eq!(epochs.end_of(3, 100), Some((3, 100)));
        assert_eq!(epochs.end_of(9, 100), Some((3, 100)));
        assert_eq!((epochs.at(0), epochs.at(39), epochs.at(40)), (Some(1), Some(1), Some(3)));
        let mut later = epochs.clone();
        later.forget_below(20);
        assert_eq!((later.starts(), later.at(19), later.at(20)), (&[(1, 20), (3, 40)][..], None, Some(1)));
        later.forget_below(40);
        assert_eq!(later.starts(), &[(3, 40)]);
        epochs.truncate(40);
        assert_eq!(epochs.latest(), Some(1));
    }
}
