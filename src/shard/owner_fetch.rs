//! Fetch, on the core that owns the partitions: read what is there, wait for what is not, answer once. What a session
//! fetches stays here between its requests, so that a request costs what has changed and not what the session holds. Bytes
//! come from the tail in memory, or from the segment files by way of `cold`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::cold::{ColdRead, READ_BYTES_MIN};
use super::{ConnectionId, Effect, Fetch, FetchPart, FetchResult, Message, Shard, Ticket, Timer};
use crate::error_code::ErrorCode;
use crate::log::{Log, LogRead};
use crate::types::{Deadline, Few, LeaderEpoch, Map, Offset, ShardId, Time};

/// One read gets at most the so-manieth part of the room that there is for reads.
const READING_SHARE: usize = 8;

#[derive(Default)]
pub(super) struct OwnerFetches {
    fetched: Map<u64, Fetched>,
    /// What each session fetches here.
    sessions: Map<i32, u64>,
    asked: Map<u64, Asked>,
    /// What the reads under way may bring.
    reading_bytes: usize,
    /// The parked question of each connection of each core.
    parked: Map<(ShardId, ConnectionId), u64>,
}

/// The partitions that one session fetches on this core, or one request without a session.
#[derive(Default)]
struct Fetched {
    parts: Map<u32, Part>,
    /// Parts that may have something to tell, the one told of longest ago first; each once.
    ready: VecDeque<u32>,
    /// Who waits for one of them.
    parked: Option<u64>,
}

struct Part {
    asked: FetchPart,
    is_ready: bool,
    /// The partition tells when its high watermark moves.
    is_watching: bool,
}

/// A request that has no answer yet.
struct Asked {
    from: ShardId,
    ticket: Ticket,
    fetch: Fetch,
    fetched: u64,
    timer: Option<(Deadline, u64)>,
    /// Reads under way; while there are any it is not parked.
    reads: usize,
    reading_bytes: usize,
    results: Few<FetchResult>,
}

impl Fetched {
    fn make_ready(&mut self, index: u32) {
        if let Some(part) = self.parts.get_mut(&index)
            && !std::mem::replace(&mut part.is_ready, true)
        {
            self.ready.push_back(index);
        }
    }
}

impl Shard {
    pub(super) fn on_fetch(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        mut fetch: Fetch,
        effects: &mut Vec<Effect>,
    ) {
        self.end_wait(now, (from, fetch.connection), effects);
        let known = fetch.session.and_then(|session| self.owner_fetches.sessions.get(&session).copied());
        let fetched = known.unwrap_or_else(|| self.token());
        if let (None, Some(session)) = (known, fetch.session) {
            self.owner_fetches.sessions.insert(session, fetched);
        }
        // Another connection may have taken the session over.
        if let Some(before) = self.owner_fetches.fetched.entry(fetched).or_default().parked {
            self.answer_with_what_there_is(now, before, effects);
        }
        self.forget_parts(fetched, &std::mem::take(&mut fetch.forgotten));
        for part in std::mem::take(&mut fetch.parts) {
            self.ask_part(fetched, part);
        }
        let token = self.token();
        let asked =
            Asked { from, ticket, fetch, fetched, timer: None, reads: 0, reading_bytes: 0, results: Few::new() };
        self.owner_fetches.asked.insert(token, asked);
        self.look(now, token, true, effects);
    }

    fn ask_part(&mut self, fetched: u64, asked: FetchPart) {
        let index = asked.part;
        let entry = self.owner_fetches.fetched.get_mut(&fetched).expect("the caller made it");
        let new = || Part { asked: asked.clone(), is_ready: false, is_watching: false };
        let part = entry.parts.entry(index).or_insert_with(new);
        let before = std::mem::replace(&mut part.asked, asked).partition;
        // A topic that was made again under its name.
        if before != part.asked.partition
            && std::mem::take(&mut part.is_watching)
            && let Some(partition) = self.partitions.get_mut(&before)
        {
            partition.waiters.unwatch((fetched, index));
        }
        entry.make_ready(index);
    }

    fn forget_parts(&mut self, fetched: u64, indexes: &[u32]) {
        let Some(entry) = self.owner_fetches.fetched.get_mut(&fetched).filter(|_| !indexes.is_empty()) else { return };
        for &index in indexes {
            if let Some(part) = entry.parts.remove(&index)
                && part.is_watching
                && let Some(partition) = self.partitions.get_mut(&part.asked.partition)
            {
                partition.waiters.unwatch((fetched, index));
            }
        }
        let Fetched { parts, ready, .. } = entry;
        ready.retain(|index| parts.contains_key(index));
    }

    /// Its client, or the room for it, is gone.
    pub(super) fn on_end_session(&mut self, now: Time, session: i32, effects: &mut Vec<Effect>) {
        let Some(&fetched) = self.owner_fetches.sessions.get(&session) else { return };
        if let Some(token) = self.owner_fetches.fetched[&fetched].parked {
            self.answer_with_what_there_is(now, token, effects);
        }
        self.owner_fetches.sessions.remove(&session);
        self.forget_fetched(fetched);
    }

    fn forget_fetched(&mut self, fetched: u64) {
        let Some(gone) = self.owner_fetches.fetched.remove(&fetched) else { return };
        for (index, part) in gone.parts.iter().filter(|(_, part)| part.is_watching) {
            if let Some(partition) = self.partitions.get_mut(&part.asked.partition) {
                partition.waiters.unwatch((fetched, *index));
            }
        }
    }

    /// The high watermark of this part's partition moved. Who waits for it must look, once all of the turn have moved.
    pub(super) fn note_moved(&mut self, (fetched, index): (u64, u32)) -> Option<u64> {
        let fetched = self.owner_fetches.fetched.get_mut(&fetched)?;
        fetched.make_ready(index);
        fetched.parked
    }

    /// The partition of this part is gone, and with it its watch.
    pub(super) fn note_gone(&mut self, now: Time, watcher: (u64, u32), effects: &mut Vec<Effect>) {
        let fetched = self.owner_fetches.fetched.get_mut(&watcher.0);
        if let Some(part) = fetched.and_then(|fetched| fetched.parts.get_mut(&watcher.1)) {
            part.is_watching = false;
        }
        if let Some(token) = self.note_moved(watcher) {
            self.retry_fetch(now, token, effects);
        }
    }

    pub(super) fn retry_fetch(&mut self, now: Time, token: u64, effects: &mut Vec<Effect>) {
        if self.owner_fetches.asked.get(&token).is_some_and(|asked| asked.reads == 0) {
            self.look(now, token, false, effects);
        }
    }

    fn answer_with_what_there_is(&mut self, now: Time, token: u64, effects: &mut Vec<Effect>) {
        if let Some(asked) = self.owner_fetches.asked.get_mut(&token) {
            asked.fetch.deadline = now.monotonic_us;
            self.retry_fetch(now, token, effects);
        }
    }

    /// A connection that asks again does not wait for what it asked before.
    fn end_wait(&mut self, now: Time, waiter: (ShardId, ConnectionId), effects: &mut Vec<Effect>) {
        if let Some(&token) = self.owner_fetches.parked.get(&waiter) {
            self.answer_with_what_there_is(now, token, effects);
        }
    }

    /// The client is gone.
    pub(super) fn on_cancel_fetch(&mut self, from: ShardId, connection: ConnectionId) {
        if let Some(&token) = self.owner_fetches.parked.get(&(from, connection))
            && let Some(asked) = self.owner_fetches.asked.remove(&token)
        {
            self.end_asked(token, &asked);
        }
    }

    /// Nobody wakes it any more.
    fn end_asked(&mut self, token: u64, asked: &Asked) {
        if let Some(key) = asked.timer {
            self.timers.remove(&key);
            // While its last reads were under way another may have parked in its place.
            let waiter = (asked.from, asked.fetch.connection);
            if self.owner_fetches.parked.get(&waiter) == Some(&token) {
                self.owner_fetches.parked.remove(&waiter);
            }
            let fetched = self.owner_fetches.fetched.get_mut(&asked.fetched);
            if let Some(fetched) = fetched.filter(|fetched| fetched.parked == Some(token)) {
                fetched.parked = None;
            }
        }
        if asked.fetch.session.is_none() {
            self.forget_fetched(asked.fetched);
        }
    }

    /// `fetch.max.wait.ms` is over: the answer is what there is.
    pub(super) fn on_fetch_deadline(&mut self, now: Time, token: u64, effects: &mut Vec<Effect>) {
        self.retry_fetch(now, token, effects);
    }

    /// Nothing will come any more: whoever waits is answered with what there is.
    pub(super) fn answer_parked_fetches(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut tokens: Vec<_> = self.owner_fetches.asked.keys().copied().collect();
        tokens.sort_unstable();
        for token in tokens {
            self.answer_with_what_there_is(now, token, effects);
        }
    }

    /// Reads what may have something to tell; answers, waits for the disk, or parks.
    fn look(&mut self, now: Time, token: u64, first: bool, effects: &mut Vec<Effect>) {
        let mut asked = self.owner_fetches.asked.remove(&token).expect("the caller found it");
        let fetched = self.owner_fetches.fetched.remove(&asked.fetched);
        let mut fetched = fetched.expect("who ends a session answers its question first");
        let cold = self.read_ready(token, &mut asked, &mut fetched);
        self.owner_fetches.fetched.insert(asked.fetched, fetched);
        let found: usize = asked.results.iter().map(FetchResult::bytes).sum();
        let told = |result: &FetchResult| result.error_code != ErrorCode::None || result.diverging_epoch.is_some();
        if !cold.is_empty() {
            asked.reads = cold.len();
            asked.reading_bytes = cold.iter().map(|read| read.max_bytes).sum();
            self.owner_fetches.reading_bytes += asked.reading_bytes;
            self.owner_fetches.asked.insert(token, asked);
            for read in cold {
                self.read_cold(now, read, effects);
            }
        } else if found >= asked.fetch.min_bytes as usize
            || asked.fetch.deadline <= now.monotonic_us
            || self.stopping
            || asked.results.iter().any(told)
        {
            self.answer_fetch(now, token, asked, effects);
        } else {
            self.park(now, token, asked, first, effects);
        }
    }

    /// A part that has something stays ready, behind the others, until its reader has gone past it; one that has nothing is
    /// watched.
    fn read_ready(&mut self, token: u64, asked: &mut Asked, fetched: &mut Fetched) -> Vec<ColdRead> {
        asked.results.clear();
        if asked.fetch.everything && fetched.ready.len() < fetched.parts.len() {
            let mut all: Vec<u32> = fetched.parts.keys().copied().collect();
            all.sort_unstable();
            all.into_iter().for_each(|index| fetched.make_ready(index));
        }
        let mut left = asked.fetch.max_bytes as usize;
        let (mut cold, mut room) = (Vec::new(), self.reading_room());
        for _ in 0..fetched.ready.len() {
            let first = asked.results.is_empty();
            if left == 0 && !first && !asked.fetch.everything {
                break;
            }
            let index = fetched.ready.pop_front().expect("counted");
            let part = fetched.parts.get_mut(&index).expect("only parts are ready");
            let (result, read) = match self.read_part(&part.asked, asked.fetch.read_committed, left, first) {
                Ok(read) => read,
                Err(error_code) => (FetchResult::error(index, error_code), None),
            };
            left = left.saturating_sub(result.bytes());
            let is_idle = result.is_quiet() && read.is_none() && left > 0;
            if let Some(mut read) = read {
                // The more is being read for others, the less: nobody knows yet who will take it.
                read.max_bytes = read.max_bytes.min((room / READING_SHARE).max(READ_BYTES_MIN));
                room = room.saturating_sub(read.max_bytes);
                left = left.saturating_sub(read.max_bytes);
                read.waiter = Some((token, asked.results.len()));
                cold.push(read);
            }
            asked.results.push(result);
            if is_idle && let Some(partition) = self.partitions.get_mut(&part.asked.partition) {
                part.is_ready = false;
                if !std::mem::replace(&mut part.is_watching, true) {
                    partition.waiters.watch((asked.fetched, index));
                }
            } else {
                fetched.ready.push_back(index);
            }
        }
        cold
    }

    /// What reads of segments may still bring into memory.
    fn reading_room(&self) -> usize {
        (self.storage.unsent_bytes_max() / 2).saturating_sub(self.owner_fetches.reading_bytes)
    }

    fn park(&mut self, now: Time, token: u64, mut asked: Asked, first: bool, effects: &mut Vec<Effect>) {
        self.owner_fetches.fetched.get_mut(&asked.fetched).expect("it was just looked at").parked = Some(token);
        self.metrics.parked_fetches += u64::from(first);
        self.owner_fetches.parked.insert((asked.from, asked.fetch.connection), token);
        if asked.timer.is_none() {
            asked.timer = Some(self.set_timer(asked.fetch.deadline, Timer::Fetch { token }));
        }
        if first && asked.fetch.answer_at_once {
            let results = std::mem::take(&mut asked.results);
            self.send_fetched(now, asked.from, asked.ticket, results, false, effects);
        }
        self.owner_fetches.asked.insert(token, asked);
    }

    /// One of the reads of this fetch ended.
    pub(super) fn on_cold_read(
        &mut self,
        now: Time,
        (token, index): (u64, usize),
        records: Result<Vec<Bytes>, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(asked) = self.owner_fetches.asked.get_mut(&token) else {
            return self.on_load_read(now, token, records, effects);
        };
        match records {
            Ok(records) => {
                self.metrics.fetched_disk_bytes += records.iter().map(|batch| batch.len() as u64).sum::<u64>();
                asked.results[index].records = records.into();
            }
            Err(error_code) => asked.results[index] = FetchResult::error(asked.results[index].part, error_code),
        }
        asked.reads -= 1;
        if asked.reads == 0 {
            self.owner_fetches.reading_bytes -= asked.reading_bytes;
            let asked = self.owner_fetches.asked.remove(&token).expect("just seen");
            self.answer_fetch(now, token, asked, effects);
        }
    }

    fn answer_fetch(&mut self, now: Time, token: u64, asked: Asked, effects: &mut Vec<Effect>) {
        self.end_asked(token, &asked);
        self.metrics.fetched_bytes += asked.results.iter().map(|result| result.bytes() as u64).sum::<u64>();
        self.send_fetched(now, asked.from, asked.ticket, asked.results, true, effects);
    }

    fn send_fetched(
        &mut self,
        now: Time,
        to: ShardId,
        ticket: Ticket,
        results: Few<FetchResult>,
        last: bool,
        effects: &mut Vec<Effect>,
    ) {
        if to == self.id {
            self.on_fetched(now, ticket, to, results, last, effects);
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
        let partition = self.partition_or(part.partition, ErrorCode::NotLeaderOrFollower)?;
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
