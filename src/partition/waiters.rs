//! Who waits for a partition's high watermark: acknowledgements in offset order, and readers at the end. Kafka's purgatory.

use std::collections::VecDeque;

use crate::types::Offset;

/// Tokens are the shard's; what they mean is not known here.
#[derive(Debug, Default)]
pub struct Waiters {
    /// (log end offset after the append, token), rising.
    acknowledgements: VecDeque<(Offset, u64)>,
    /// Readers with nothing left to read, and which of their partitions this is.
    watchers: Vec<(u64, u32)>,
}

impl Waiters {
    /// `token` is owed an answer once the high watermark reaches `offset`. Appends come in offset order; a repeated batch
    /// waits for where its first copy stands, which is further ahead.
    pub fn park_acknowledgement(&mut self, offset: Offset, token: u64) {
        let behind = self.acknowledgements.iter().rev().take_while(|&&(parked, _)| parked > offset).count();
        self.acknowledgements.insert(self.acknowledgements.len() - behind, (offset, token));
    }

    /// Wants to be told whenever the high watermark moves.
    pub fn watch(&mut self, watcher: (u64, u32)) {
        self.watchers.push(watcher);
    }

    pub fn unwatch(&mut self, watcher: (u64, u32)) {
        self.watchers.retain(|watching| *watching != watcher);
    }

    pub fn watchers(&self) -> &[(u64, u32)] {
        &self.watchers
    }

    /// The next acknowledgement that `high_watermark` frees.
    pub fn next_acknowledged(&mut self, high_watermark: Offset) -> Option<u64> {
        let &(offset, token) = self.acknowledgements.front()?;
        (offset <= high_watermark).then(|| {
            self.acknowledgements.pop_front();
            token
        })
    }

    /// Everybody who waits, when the partition goes away: tokens of acknowledgements, and watchers.
    pub fn take_all(&mut self) -> (Vec<u64>, Vec<(u64, u32)>) {
        (self.acknowledgements.drain(..).map(|(_, token)| token).collect(), std::mem::take(&mut self.watchers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_freed_in_order_up_to_the_high_watermark() {
        let mut waiters = Waiters::default();
        waiters.park_acknowledgement(3, 10);
        waiters.park_acknowledgement(3, 11);
        waiters.park_acknowledgement(5, 12);
        assert_eq!(waiters.next_acknowledged(2), None);
        assert_eq!(waiters.next_acknowledged(4), Some(10));
        assert_eq!(waiters.next_acknowledged(4), Some(11));
        assert_eq!(waiters.next_acknowledged(4), None);
        assert_eq!(waiters.next_acknowledged(5), Some(12));
    }

    #[test]
    fn a_batch_sent_again_before_it_is_durable_waits_for_its_first_copy() {
        let mut waiters = Waiters::default();
        waiters.park_acknowledgement(3, 10);
        waiters.park_acknowledgement(5, 11);
        waiters.park_acknowledgement(3, 12);
        assert_eq!(waiters.next_acknowledged(4), Some(10));
        assert_eq!(waiters.next_acknowledged(4), Some(12));
        assert_eq!(waiters.next_acknowledged(4), None);
    }
}
