//! Fetch, on the core that owns the partitions: read what is there, wait for what is not, answer once. Bytes come from
//! the tail in memory, or from the segment files by way of `cold`.

use bytes::Bytes;

use super::cold::ColdRead;
use super::{ConnectionId, Effect, Fetch, FetchPart, FetchResult, Message, Shard, Ticket, Timer};
use crate::error_code::ErrorCode;
use crate::log::{Log, LogRead};
use crate::types::{Deadline, LeaderEpoch, Map, Offset, ShardId, Time};

#[derive(Default)]
pub(super) struct OwnerFetches {
    pending: Map<u64, OwnerFetch>,
    /// The parked fetch of each connection of each core.
    parked: Map<(ShardId, ConnectionId), u64>,
}

struct OwnerFetch {
    from: ShardId,
    ticket: Ticket,
    fetch: Fetch,
    timer: Option<(Deadline, u64)>,
    /// Reads under way; while there are any the fetch is not parked.
    reads: usize,
    results: Vec<FetchResult>,
}

impl Shard {
    pub(super) fn on_fetch(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        fetch: Fetch,
        effects: &mut Vec<Effect>,
    ) {
        self.end_wait(now, (from, fetch.connection), effects);
        let token = self.token();
        let pending = OwnerFetch { from, ticket, fetch, timer: None, reads: 0, results: Vec::new() };
        self.owner_fetches.pending.insert(token, pending);
        self.look(now, token, true, effects);
    }

    /// The high watermark of one of its partitions moved.
    pub(super) fn retry_fetch(&mut self, now: Time, token: u64, effects: &mut Vec<Effect>) {
        if self.owner_fetches.pending.get(&token).is_some_and(|pending| pending.reads == 0) {
            self.look(now, token, false, effects);
        }
    }

    /// A connection that asks again does not wait for what it asked before.
    fn end_wait(&mut self, now: Time, waiter: (ShardId, ConnectionId), effects: &mut Vec<Effect>) {
        let Some(&token) = self.owner_fetches.parked.get(&waiter) else { return };
        if let Some(pending) = self.owner_fetches.pending.get_mut(&token) {
            pending.fetch.deadline = now.monotonic_us;
            self.retry_fetch(now, token, effects);
        }
    }

    /// The client is gone.
    pub(super) fn on_cancel_fetch(&mut self, from: ShardId, connection: ConnectionId) {
        if let Some(&token) = self.owner_fetches.parked.get(&(from, connection))
            && let Some(pending) = self.owner_fetches.pending.remove(&token)
        {
            self.unpark(token, &pending);
        }
    }

    /// Nobody wakes it any more.
    fn unpark(&mut self, token: u64, fetch: &OwnerFetch) {
        let Some(key) = fetch.timer else { return };
        self.timers.remove(&key);
        self.owner_fetches.parked.remove(&(fetch.from, fetch.fetch.connection));
        for part in &fetch.fetch.parts {
            if let Some(partition) = self.partitions.get_mut(&part.partition) {
                partition.waiters.remove_fetch(token);
            }
        }
    }

    /// `fetch.max.wait.ms` is over: the answer is what there is.
    pub(super) fn on_fetch_deadline(&mut self, now: Time, token: u64, effects: &mut Vec<Effect>) {
        self.retry_fetch(now, token, effects);
    }

    /// Nothing will come any more: whoever waits is answered with what there is.
    pub(super) fn answer_parked_fetches(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut tokens: Vec<_> = self.owner_fetches.pending.keys().copied().collect();
        tokens.sort_unstable();
        for token in tokens {
            if let Some(pending) = self.owner_fetches.pending.get_mut(&token) {
                pending.fetch.deadline = now.monotonic_us;
                self.retry_fetch(now, token, effects);
            }
        }
    }

    /// Reads all parts; answers, waits for the disk, or parks.
    fn look(&mut self, now: Time, token: u64, first: bool, effects: &mut Vec<Effect>) {
        let mut pending = self.owner_fetches.pending.remove(&token).expect("the caller found it");
        pending.results.clear();
        let mut left = pending.fetch.max_bytes as usize;
        let mut cold = Vec::new();
        for (index, part) in pending.fetch.parts.iter().enumerate() {
            let (result, read) = match self.read_part(part, pending.fetch.read_committed, left, index == 0) {
                Ok(read) => read,
                Err(error_code) => (FetchResult::error(part.part, error_code), None),
            };
            left = left.saturating_sub(result.bytes());
            if let Some(mut read) = read {
                left = left.saturating_sub(read.max_bytes);
                read.waiter = Some((token, index));
                cold.push(read);
            }
            pending.results.push(result);
        }
        let found: usize = pending.results.iter().map(FetchResult::bytes).sum();
        let told = |result: &FetchResult| result.error_code != ErrorCode::None || result.diverging_epoch.is_some();
        if !cold.is_empty() {
            pending.reads = cold.len();
            self.owner_fetches.pending.insert(token, pending);
            for read in cold {
                self.read_cold(now, read, effects);
            }
        } else if found >= pending.fetch.min_bytes as usize
            || pending.fetch.deadline <= now.monotonic_us
            || self.stopping
            || pending.results.iter().any(told)
        {
            self.answer_fetch(now, token, pending, effects);
        } else {
            self.park(now, token, pending, first, effects);
        }
    }

    fn park(&mut self, now: Time, token: u64, mut pending: OwnerFetch, first: bool, effects: &mut Vec<Effect>) {
        for part in &pending.fetch.parts {
            if let Some(partition) = self.partitions.get_mut(&part.partition) {
                if !first {
                    partition.waiters.remove_fetch(token);
                }
                partition.waiters.park_fetch(token);
            }
        }
        self.metrics.parked_fetches += u64::from(first);
        self.owner_fetches.parked.insert((pending.from, pending.fetch.connection), token);
        if pending.timer.is_none() {
            pending.timer = Some(self.set_timer(pending.fetch.deadline, Timer::Fetch { token }));
        }
        if first && pending.fetch.answer_at_once {
            let results = std::mem::take(&mut pending.results);
            self.send_fetched(now, pending.from, pending.ticket, results, false, effects);
        }
        self.owner_fetches.pending.insert(token, pending);
    }

    /// One of the reads of this fetch ended.
    pub(super) fn on_cold_read(
        &mut self,
        now: Time,
        (token, index): (u64, usize),
        records: Result<Vec<Bytes>, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.owner_fetches.pending.get_mut(&token) else { return };
        match records {
            Ok(records) => {
                self.metrics.fetched_disk_bytes += records.iter().map(|batch| batch.len() as u64).sum::<u64>();
                pending.results[index].records = records;
            }
            Err(error_code) => pending.results[index] = FetchResult::error(pending.results[index].part, error_code),
        }
        pending.reads -= 1;
        if pending.reads == 0 {
            let pending = self.owner_fetches.pending.remove(&token).expect("just seen");
            self.answer_fetch(now, token, pending, effects);
        }
    }

    fn answer_fetch(&mut self, now: Time, token: u64, pending: OwnerFetch, effects: &mut Vec<Effect>) {
        self.unpark(token, &pending);
        self.metrics.fetched_bytes += pending.results.iter().map(|result| result.bytes() as u64).sum::<u64>();
        self.send_fetched(now, pending.from, pending.ticket, pending.results, true, effects);
    }

    fn send_fetched(
        &mut self,
        now: Time,
        to: ShardId,
        ticket: Ticket,
        results: Vec<FetchResult>,
        last: bool,
        effects: &mut Vec<Effect>,
    ) {
        if to == self.id {
            self.on_fetched(now, to, ticket, results, last, effects);
        } else {
            effects.push(Effect::Send { to, message: Message::Fetched { ticket, results, last } });
        }
    }

    /// What one partition has for the reader: bytes out of memory, nothing yet, or a read that will bring them.
    fn read_part(
        &self,
        part: &FetchPart,
        read_committed: bool,
        left: usize,
        first: bool,
    ) -> Result<(FetchResult, Option<ColdRead>), ErrorCode> {
        let partition = self.partitions.get(&part.partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        partition.check_leader_epoch(part.current_leader_epoch)?;
        let log = &partition.log;
        let mut result = FetchResult {
            high_watermark: partition.high_watermark(),
            last_stable_offset: partition.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
            leader_epoch: partition.leader.leader_epoch,
            ..FetchResult::error(part.part, ErrorCode::None)
        };
        result.diverging_epoch = diverging(log, part);
        // Without a limit left, another request will come to this partition; the first one always gets its batch.
        if result.diverging_epoch.is_some() || (left == 0 && !first) {
            return Ok((result, None));
        }
        let upto = if read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
        let max_bytes = left.min(part.max_bytes as usize);
        match log.read(part.fetch_offset, upto, max_bytes) {
            Err(_) => Err(ErrorCode::OffsetOutOfRange),
            Ok(LogRead::Empty) => Ok((result, None)),
            Ok(LogRead::Tail(records)) => {
                result.records = records;
                Ok((result, None))
            }
            Ok(LogRead::Disk) => {
                let read =
                    ColdRead { partition: part.partition, offset: part.fetch_offset, upto, max_bytes, waiter: None };
                Ok((result, Some(read)))
            }
        }
    }
}

/// Where the reader's history parts from this log's (KIP-595): the last epoch both know, and where it ends here.
fn diverging(log: &Log, part: &FetchPart) -> Option<(LeaderEpoch, Offset)> {
    if part.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end) = log.epochs().end_of(part.last_fetched_epoch, log.log_end_offset())?;
    (epoch < part.last_fetched_epoch || end < part.fetch_offset).then_some((epoch, end))
}
