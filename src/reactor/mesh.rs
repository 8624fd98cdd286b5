//! Core to core: a single-producer ring for each ordered pair of cores. What does not fit waits at the sender, in order;
//! nothing is dropped. One mailbox is owned by one reactor; it wakes a sleeping peer once per batch.

use std::collections::VecDeque;

use rtrb::{Consumer, Producer, RingBuffer};

use super::doorbell::Doorbell;
use crate::types::ShardId;

/// The sending end of a bounded ring, with room for what does not fit yet.
pub struct Outbox<T> {
    ring: Producer<T>,
    overflow: VecDeque<T>,
    doorbell: Doorbell,
    /// Something was pushed and the doorbell was not rung since.
    touched: bool,
}

impl<T> Outbox<T> {
    pub fn new(capacity: usize, doorbell: Doorbell) -> (Outbox<T>, Consumer<T>) {
        let (ring, inbox) = RingBuffer::new(capacity);
        (Outbox { ring, overflow: VecDeque::new(), doorbell, touched: false }, inbox)
    }

    pub fn push(&mut self, item: T) {
        if !self.overflow.is_empty() {
            self.overflow.push_back(item);
            return;
        }
        match self.ring.push(item) {
            Ok(()) => self.touched = true,
            Err(rtrb::PushError::Full(item)) => self.overflow.push_back(item),
        }
    }

    /// Moves what waits into the ring and rings the doorbell once if anything is new there.
    pub fn flush(&mut self) {
        while let Some(item) = self.overflow.pop_front() {
            match self.ring.push(item) {
                Ok(()) => self.touched = true,
                Err(rtrb::PushError::Full(item)) => {
                    self.overflow.push_front(item);
                    break;
                }
            }
        }
        if self.touched {
            self.touched = false;
            self.doorbell.ring();
        }
    }

    /// Nothing waits for room.
    pub fn is_clear(&self) -> bool {
        self.overflow.is_empty()
    }
}

/// One core's end of the mesh. Its own place in both rows is empty: a shard does not write to itself.
pub struct Mailbox<M> {
    outboxes: Vec<Option<Outbox<M>>>,
    inboxes: Vec<Option<Consumer<M>>>,
    /// Where the next look begins, so that no peer is always last.
    first: usize,
}

/// One mailbox for each doorbell, in the order of the shards.
pub fn mesh<M>(doorbells: &[Doorbell], capacity: usize) -> Vec<Mailbox<M>> {
    let mut mailboxes: Vec<Mailbox<M>> =
        doorbells.iter().map(|_| Mailbox { outboxes: Vec::new(), inboxes: Vec::new(), first: 0 }).collect();
    for from in 0..doorbells.len() {
        for to in 0..doorbells.len() {
            let (outbox, inbox) = match from == to {
                true => (None, None),
                false => {
                    let (outbox, inbox) = Outbox::new(capacity, doorbells[to].clone());
                    (Some(outbox), Some(inbox))
                }
            };
            mailboxes[from].outboxes.push(outbox);
            mailboxes[to].inboxes.push(inbox);
        }
    }
    mailboxes
}

impl<M> Mailbox<M> {
    pub fn send(&mut self, to: ShardId, message: M) {
        let outbox = self.outboxes.get_mut(usize::from(to.0)).and_then(Option::as_mut);
        outbox.expect("a shard sends to other shards that exist").push(message);
    }

    /// Takes at most `limit` messages, each peer's in its order.
    pub fn take(&mut self, limit: usize, messages: &mut Vec<(ShardId, M)>) {
        let peers = self.inboxes.len();
        let fair_share = limit.div_ceil(peers.max(1));
        for step in 0..peers {
            let peer = (self.first + step) % peers;
            let Some(inbox) = &mut self.inboxes[peer] else { continue };
            for _ in 0..fair_share {
                let Ok(message) = inbox.pop() else { break };
                messages.push((ShardId(peer as u16), message));
            }
        }
        self.first = (self.first + 1) % peers.max(1);
    }

    pub fn has_messages(&self) -> bool {
        self.inboxes.iter().flatten().any(|inbox| !inbox.is_empty())
    }

    pub fn flush(&mut self) {
        self.outboxes.iter_mut().flatten().for_each(Outbox::flush);
    }

    /// No message waits for room in a peer's ring. While one does, no new work is taken from sockets.
    pub fn is_clear(&self) -> bool {
        self.outboxes.iter().flatten().all(Outbox::is_clear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doorbells(count: usize) -> Vec<Doorbell> {
        (0..count).map(|_| Doorbell::new().expect("an eventfd")).collect()
    }

    #[test]
    fn what_does_not_fit_waits_in_order() {
        let mut mailboxes = mesh::<u32>(&doorbells(2), 4);
        for message in 0..10 {
            mailboxes[0].send(ShardId(1), message);
        }
        assert!(!mailboxes[0].is_clear());
        let mut taken = Vec::new();
        for _ in 0..4 {
            mailboxes[0].flush();
            mailboxes[1].take(100, &mut taken);
        }
        assert!(mailboxes[0].is_clear() && !mailboxes[1].has_messages());
        assert_eq!(taken, (0..10).map(|message| (ShardId(0), message)).collect::<Vec<_>>());
    }

    #[test]
    fn a_loud_peer_does_not_starve_a_quiet_one() {
        let mut mailboxes = mesh::<u32>(&doorbells(3), 64);
        (0..64).for_each(|message| mailboxes[0].send(ShardId(2), message));
        mailboxes[1].send(ShardId(2), 1000);
        let mut taken = Vec::new();
        mailboxes[2].take(6, &mut taken);
        assert!(taken.contains(&(ShardId(1), 1000)), "{taken:?}");
    }

    #[test]
    fn two_threads_flooding_each_other_lose_and_reorder_nothing() {
        const MESSAGES: u32 = 7 * 7_000;
        let threads: Vec<_> = mesh::<u32>(&doorbells(2), 16)
            .into_iter()
            .enumerate()
            .map(|(me, mut mailbox)| {
                std::thread::spawn(move || {
                    let peer = ShardId(1 - me as u16);
                    let (mut sent, mut received, mut taken) = (0, 0, Vec::new());
                    while sent < MESSAGES || received < MESSAGES || !mailbox.is_clear() {
                        if sent < MESSAGES && mailbox.is_clear() {
                            (0..7).for_each(|i| mailbox.send(peer, sent + i));
                            sent += 7;
                        }
                        mailbox.flush();
                        mailbox.take(32, &mut taken);
                        for (from, message) in taken.drain(..) {
                            assert_eq!((from, message), (peer, received));
                            received += 1;
                        }
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread saw a gap"));
    }
}
