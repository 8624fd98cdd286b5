//! Fetch, on the core that the client is connected to: the session is applied, the owners of the partitions are asked,
//! and the answer is put together when there is enough of it.

use std::sync::Arc;

use super::connection::{Caller, Connection};
use super::session::{Applied, SessionPartition, SessionUse, Topics};
use super::{ConnectionId, Effect, Fetch, FetchPart, FetchResult, Message, Shard, Ticket};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::protocol::fetch::*;
use crate::protocol::{DecodeError, LeaderIdAndEpoch, Reader, Records};
use crate::types::{BrokerId, Few, Map, PartitionId, ShardId, Time, TopicId};

#[derive(Default)]
pub(super) struct Fetches {
    pending: Map<Ticket, PendingFetch>,
    /// Of responses at this core's sockets.
    pub(super) unsent_bytes: usize,
}

/// What every fetch may get, however much its core's sockets do not take.
const FETCH_BYTES_MIN: usize = 256 << 10;

struct PendingFetch {
    caller: Caller,
    /// Where a quota needs to know.
    client_id: Option<Arc<str>>,
    session: SessionUse,
    /// Without a session: what was asked for, by place.
    partitions: Map<u32, SessionPartition>,
    /// For partitions that do not exist.
    refused: Few<FetchResult>,
    owners: Few<Owner>,
    min_bytes: usize,
    max_bytes: usize,
    /// read_committed: aborted transactions are a list, empty as long as there are none.
    read_committed: bool,
}

impl PendingFetch {
    /// Partitions and bytes of records that the answer will have, within its limit.
    fn found(&self) -> (usize, usize) {
        let results = || self.owners.iter().flat_map(|owner| &owner.results);
        let bytes: usize = results().map(FetchResult::bytes).sum();
        // The first batch is sent even if it is larger than the limit.
        let largest = results().map(FetchResult::bytes).max().unwrap_or(0);
        (results().count(), bytes.min(self.max_bytes.max(largest)))
    }
}

struct Owner {
    shard: ShardId,
    answered: bool,
    last: bool,
    results: Few<FetchResult>,
}

impl Owner {
    fn new(shard: ShardId) -> Owner {
        Owner { shard, answered: false, last: false, results: Few::new() }
    }
}

/// The facts as this core knows them now.
struct Facts<'a> {
    image: &'a MetadataImage,
    shards: u16,
    by_id: bool,
}

impl Topics for Facts<'_> {
    fn version(&self) -> u64 {
        self.image.version()
    }

    fn resolve(&self, name: &str, id: TopicId) -> (Arc<str>, TopicId) {
        if self.by_id {
            return (self.image.topic_by_id(id).map_or_else(|| Arc::from(""), |topic| topic.name.clone()), id);
        }
        match self.image.topic(name) {
            Some(topic) => (topic.name.clone(), topic.id),
            None => (Arc::from(name), TopicId::ZERO),
        }
    }

    fn owner(&self, topic_id: TopicId, index: i32) -> Option<ShardId> {
        self.image.topic_by_id(topic_id)?.partition(index)?;
        Some(PartitionId { topic: topic_id, index }.owner(self.shards))
    }
}

impl Shard {
    pub(super) fn on_fetch_request(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = FetchRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let image = self.image.clone();
        let facts = Facts { image: &image, shards: self.shards, by_id: caller.api_version >= 13 };
        let applied = match self.sessions.apply(now, &request, caller.api_version, &facts) {
            Ok(applied) => applied,
            Err(error_code) => {
                self.answer_without_partitions(caller, error_code, 0, effects);
                return Ok(());
            }
        };
        let Applied { session, ended, changed, forgotten, mut owners, unknown } = applied;
        self.end_sessions(now, ended, effects);
        let unknown_code =
            if caller.api_version >= 13 { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let refused: Few<_> = unknown.into_iter().map(|place| FetchResult::error(place, unknown_code)).collect();
        let wait_ms = if refused.is_empty() { request.max_wait_ms.max(0) as u64 } else { 0 };
        // A fetch of nothing waits like any other: the client would ask again at once. No core has to remember it.
        let asks_nothing = owners.is_empty();
        if asks_nothing && wait_ms > 0 {
            owners.push(self.id);
        }
        // Each request another core comes first, so that none is starved by the limit.
        let turn = request.session_epoch.max(0) as usize % owners.len().max(1);
        owners.rotate_left(turn);
        let client_id = self.metered_client_id(caller.connection);
        let (min_bytes, max_bytes) = self.fetch_bounds(&request, client_id.as_ref());
        let ticket = self.token();
        let everything = !matches!(session, SessionUse::Incremental(_));
        let fetch = || Fetch {
            connection: caller.connection,
            session: session.id().filter(|_| !asks_nothing),
            parts: Few::new(),
            forgotten: Vec::new(),
            everything,
            min_bytes,
            max_bytes,
            deadline: now.after_ms(wait_ms),
            read_committed: request.isolation_level == 1,
            answer_at_once: owners.len() > 1,
        };
        let mut asked: Few<_> = owners.iter().map(|&owner| (owner, fetch())).collect();
        let strangers = share_out(&mut asked, &changed, forgotten);
        for (owner, session) in strangers.into_iter().filter_map(|owner| Some((owner, session.id()?))) {
            self.end_session_at(now, owner, session, effects);
        }
        let pending = PendingFetch {
            caller,
            client_id,
            session,
            partitions: if session == SessionUse::Full { changed.into_iter().collect() } else { Map::default() },
            refused,
            owners: owners.into_iter().map(Owner::new).collect(),
            min_bytes: min_bytes as usize,
            max_bytes: max_bytes as usize,
            read_committed: request.isolation_level == 1,
        };
        self.fetches.pending.insert(ticket, pending);
        if let Some(connection) = self.connections.get_mut(&caller.connection) {
            connection.fetches.push(ticket);
        }
        if asked.is_empty() {
            self.answer_fetch_request(now, ticket, effects);
        }
        for (owner, fetch) in asked {
            if owner == self.id {
                self.on_fetch(now, owner, ticket, fetch, effects);
            } else {
                effects.push(Effect::Send { to: owner, message: Message::Fetch { ticket, fetch } });
            }
        }
        Ok(())
    }

    /// Bytes to wait for and bytes to send at most: clients that do not take their responses must not hold more and more
    /// memory. Whoever waits for more than it can get would wait in vain.
    fn fetch_bounds(&self, request: &FetchRequest<'_>, client_id: Option<&Arc<str>>) -> (u32, u32) {
        let max_bytes = (request.max_bytes.max(0) as u32).min(self.config.fetch_max_bytes);
        let min_bytes = request.min_bytes.max(0) as u32;
        let room = self.storage.unsent_bytes_max().saturating_sub(self.fetches.unsent_bytes).max(FETCH_BYTES_MIN);
        let allowed = self.fetch_bytes_max(client_id).min(u32::try_from(room).unwrap_or(u32::MAX));
        (if min_bytes < allowed { min_bytes } else { min_bytes.min(1) }, max_bytes.min(allowed))
    }

    /// Sessions and the cores that know of them.
    fn end_sessions(
        &mut self,
        now: Time,
        ended: impl IntoIterator<Item = (i32, Vec<ShardId>)>,
        effects: &mut Vec<Effect>,
    ) {
        for (session, owners) in ended {
            for owner in owners {
                self.end_session_at(now, owner, session, effects);
            }
        }
    }

    fn end_session_at(&mut self, now: Time, owner: ShardId, session: i32, effects: &mut Vec<Effect>) {
        if owner == self.id {
            self.on_end_session(now, session, effects);
        } else {
            effects.push(Effect::Send { to: owner, message: Message::EndSession { session } });
        }
    }

    /// A core says what it has.
    pub(super) fn on_fetched(
        &mut self,
        now: Time,
        ticket: Ticket,
        from: ShardId,
        results: Few<FetchResult>,
        last: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.fetches.pending.get_mut(&ticket) else { return };
        let owner = pending.owners.iter_mut().find(|owner| owner.shard == from).expect("only owners are asked");
        (owner.answered, owner.last, owner.results) = (true, last, results);
        let results = || pending.owners.iter().flat_map(|owner| &owner.results);
        let found: usize = results().map(FetchResult::bytes).sum();
        let told = |result: &FetchResult| result.error_code != ErrorCode::None || result.diverging_epoch.is_some();
        let enough = found >= pending.min_bytes || !pending.refused.is_empty() || results().any(told);
        let all_last = pending.owners.iter().all(|owner| owner.last);
        if pending.owners.iter().all(|owner| owner.answered) && (enough || all_last) {
            self.answer_fetch_request(now, ticket, effects);
        }
    }

    fn answer_fetch_request(&mut self, now: Time, ticket: Ticket, effects: &mut Vec<Effect>) {
        let mut pending = self.fetches.pending.remove(&ticket).expect("the caller found it");
        let mut caller = pending.caller;
        if let Some(connection) = self.connections.get_mut(&caller.connection) {
            connection.fetches.retain(|waiting| *waiting != ticket);
        }
        if let Some(client_id) = &pending.client_id {
            let verdict = self.meter_fetch(now, caller, client_id, pending.found(), effects);
            caller.throttle_time_ms = verdict.throttle_time_ms;
            if verdict.is_withheld {
                return self.withhold_fetch(now, caller, pending.session, effects);
            }
        }
        let mut results = std::mem::take(&mut pending.refused);
        for owner in std::mem::take(&mut pending.owners) {
            results.extend(owner.results);
        }
        let incremental = matches!(pending.session, SessionUse::Incremental(_));
        if !incremental {
            results.sort_unstable_by_key(|result| result.part);
        }
        let image = self.image.clone();
        let has_fenced = results.iter().any(tells_leader);
        let nodes = has_fenced.then(|| image.nodes(self.listener_of(caller)));
        let mut left = pending.max_bytes;
        // Names outlive the session's borrow: topics are few, partitions many.
        let mut responses: Few<(Arc<str>, TopicId, Few<PartitionData>)> = Few::new();
        for mut result in results {
            let partition = match pending.session.id() {
                Some(id) => self.sessions.partition_mut(id, result.part),
                None => pending.partitions.get_mut(&result.part),
            };
            // The session may have ended, or forgotten the partition, while a core was asked.
            let Some(partition) = partition else { continue };
            // Each core kept to the limit by itself; together they may have gone beyond it.
            let mut records = std::mem::take(&mut result.records);
            let bytes: usize = records.iter().map(|chunk| chunk.len()).sum();
            if bytes > left && left < pending.max_bytes {
                records.clear();
            } else {
                left = left.saturating_sub(bytes);
            }
            let state = (result.high_watermark, result.log_start_offset);
            if incremental && records.is_empty() && result.is_quiet() && partition.told == Some(state) {
                continue;
            }
            if result.error_code == ErrorCode::None {
                partition.told = Some(state);
            }
            let id = PartitionId { topic: partition.topic_id, index: partition.index };
            let leader_id = nodes.as_ref().map_or(-1, |nodes| nodes.of(self.config.node_id, id));
            let data = partition_data(partition.index, &result, records, pending.read_committed, leader_id);
            match responses.last_mut() {
                Some((topic, id, partitions)) if *topic == partition.topic && *id == partition.topic_id => {
                    partitions.push(data);
                }
                _ => responses.push((partition.topic.clone(), partition.topic_id, [data].into())),
            }
        }
        let responses = responses.iter_mut().map(|(topic, topic_id, partitions)| FetchableTopicResponse {
            topic,
            topic_id: *topic_id,
            partitions: std::mem::take(partitions),
        });
        let session_id = pending.session.id().unwrap_or(0);
        let response = FetchResponse { session_id, responses: responses.collect(), ..FetchResponse::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    /// Over a quota: an empty answer, which leaves an incremental session where it was. A session that has not told its
    /// partitions once is no use to its client, which will ask for everything again.
    fn withhold_fetch(&mut self, now: Time, caller: Caller, session: SessionUse, effects: &mut Vec<Effect>) {
        let mut session_id = session.id().unwrap_or(0);
        if let SessionUse::Begin(begun) = session {
            session_id = 0;
            let ended = self.sessions.remove(begun);
            self.end_sessions(now, ended, effects);
        }
        self.answer_without_partitions(caller, ErrorCode::None, session_id, effects);
    }

    fn answer_without_partitions(
        &mut self,
        caller: Caller,
        error_code: ErrorCode,
        session_id: i32,
        effects: &mut Vec<Effect>,
    ) {
        let response = FetchResponse { error_code: error_code.code(), session_id, ..FetchResponse::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    /// What a gone client still waits for is not worth an answer.
    pub(super) fn forget_fetches(&mut self, connection: ConnectionId, gone: Connection, effects: &mut Vec<Effect>) {
        for ticket in gone.fetches {
            let Some(pending) = self.fetches.pending.remove(&ticket) else { continue };
            for owner in pending.owners.iter().filter(|owner| !owner.last) {
                if owner.shard == self.id {
                    self.on_cancel_fetch(self.id, connection);
                } else {
                    effects.push(Effect::Send { to: owner.shard, message: Message::CancelFetch { connection } });
                }
            }
        }
    }
}

/// Tells each owner what concerns it. Returns the cores that are to forget partitions and have no others of this session.
fn share_out(
    asked: &mut [(ShardId, Fetch)],
    changed: &[(u32, SessionPartition)],
    forgotten: Vec<(ShardId, u32)>,
) -> Vec<ShardId> {
    for (place, partition) in changed {
        if let Some((_, fetch)) = asked.iter_mut().find(|(owner, _)| Some(*owner) == partition.owner) {
            fetch.parts.push(fetch_part(*place, partition));
        }
    }
    let mut strangers = Vec::new();
    for (owner, place) in forgotten {
        match asked.iter_mut().find(|(asked, _)| *asked == owner) {
            Some((_, fetch)) => fetch.forgotten.push(place),
            None if strangers.contains(&owner) => {}
            None => strangers.push(owner),
        }
    }
    strangers
}

fn fetch_part(place: u32, asked: &SessionPartition) -> FetchPart {
    FetchPart {
        part: place,
        partition: PartitionId { topic: asked.topic_id, index: asked.index },
        fetch_offset: asked.fetch_offset,
        max_bytes: asked.max_bytes.max(0) as u32,
        current_leader_epoch: asked.current_leader_epoch,
        last_fetched_epoch: asked.last_fetched_epoch,
    }
}

/// The client has an old idea of the leader.
fn tells_leader(result: &FetchResult) -> bool {
    matches!(result.error_code, ErrorCode::FencedLeaderEpoch | ErrorCode::NotLeaderOrFollower)
}

fn partition_data(
    partition_index: i32,
    result: &FetchResult,
    records: Few<bytes::Bytes>,
    read_committed: bool,
    leader_id: BrokerId,
) -> PartitionData {
    let (epoch, end_offset) = result.diverging_epoch.unwrap_or((-1, -1));
    PartitionData {
        partition_index,
        error_code: result.error_code.code(),
        high_watermark: result.high_watermark,
        last_stable_offset: result.last_stable_offset,
        log_start_offset: result.log_start_offset,
        diverging_epoch: EpochEndOffset { epoch, end_offset },
        current_leader: match tells_leader(result) {
            true => LeaderIdAndEpoch { leader_id, leader_epoch: result.leader_epoch },
            false => LeaderIdAndEpoch::default(),
        },
        aborted_transactions: read_committed.then(Vec::new),
        records: Records(records),
        ..PartitionData::default()
    }
}
