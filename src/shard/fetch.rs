//! Fetch, on the core that the client is connected to: the session is applied, the owners of the partitions are asked,
//! and the answer is put together when there is enough of it.

use std::sync::Arc;

use super::connection::{Caller, Connection};
use super::session::{SessionPartition, SessionUse};
use super::{ConnectionId, Effect, Fetch, FetchPart, FetchResult, Message, Shard, Ticket, by_owner};
use crate::error_code::ErrorCode;
use crate::protocol::fetch::*;
use crate::protocol::{DecodeError, LeaderIdAndEpoch, Reader, Records};
use crate::types::{Map, PartitionId, ShardId, Time, TopicId};

#[derive(Default)]
pub(super) struct Fetches {
    pending: Map<Ticket, PendingFetch>,
}

struct PendingFetch {
    caller: Caller,
    session: SessionUse,
    partitions: Vec<SessionPartition>,
    results: Vec<Option<FetchResult>>,
    owners: Vec<Owner>,
    min_bytes: usize,
    max_bytes: usize,
    /// read_committed: aborted transactions are a list, empty as long as there are none.
    read_committed: bool,
}

struct Owner {
    shard: ShardId,
    answered: bool,
    last: bool,
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
        let resolve = |name: &str, id: TopicId| match caller.api_version {
            13.. => (image.topic_by_id(id).map_or_else(|| Arc::from(""), |topic| topic.name.clone()), id),
            _ => match image.topic(name) {
                Some(topic) => (topic.name.clone(), topic.id),
                None => (Arc::from(name), TopicId::ZERO),
            },
        };
        let (session, partitions) = match self.sessions.apply(now, &request, caller.api_version, resolve) {
            Ok(applied) => applied,
            Err(error_code) => {
                let response = FetchResponse { error_code: error_code.code(), ..FetchResponse::default() };
                self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
                return Ok(());
            }
        };
        let max_bytes = (request.max_bytes.max(0) as u32).min(self.config.fetch_max_bytes);
        let mut pending = PendingFetch {
            caller,
            session,
            results: partitions.iter().map(|_| None).collect(),
            partitions,
            owners: Vec::new(),
            min_bytes: request.min_bytes.max(0) as usize,
            max_bytes: max_bytes as usize,
            read_committed: request.isolation_level == 1,
        };
        let mut parts = Vec::with_capacity(pending.partitions.len());
        for (index, partition) in pending.partitions.iter().enumerate() {
            let id = PartitionId { topic: partition.topic_id, index: partition.index };
            let error_code = match image.topic_by_id(partition.topic_id) {
                Some(topic) if topic.partition(partition.index).is_some() => {
                    parts.push((self.owner_of(id), fetch_part(index, id, partition)));
                    continue;
                }
                None if caller.api_version >= 13 => ErrorCode::UnknownTopicId,
                _ => ErrorCode::UnknownTopicOrPartition,
            };
            pending.results[index] = Some(FetchResult::error(index as u32, error_code));
        }
        let mut groups = by_owner(self.shards, parts);
        let refused = pending.results.iter().any(Option::is_some);
        let wait_ms = if refused { 0 } else { request.max_wait_ms.max(0) as u64 };
        if groups.is_empty() && wait_ms > 0 {
            // A fetch of nothing waits like any other: the client would ask again at once.
            groups.push((self.id, Vec::new()));
        }
        pending.owners = groups.iter().map(|&(shard, _)| Owner { shard, answered: false, last: false }).collect();
        let ticket = self.token();
        let several = groups.len() > 1;
        self.fetches.pending.insert(ticket, pending);
        if let Some(connection) = self.connections.get_mut(&caller.connection) {
            connection.fetches.push(ticket);
        }
        if groups.is_empty() {
            self.answer_fetch_request(now, ticket, effects);
        }
        for (owner, parts) in groups {
            let fetch = self.fetch_of(caller.connection, &request, parts, max_bytes, now.after_ms(wait_ms), several);
            if owner == self.id {
                self.on_fetch(now, owner, ticket, fetch, effects);
            } else {
                effects.push(Effect::Send { to: owner, message: Message::Fetch { ticket, fetch } });
            }
        }
        Ok(())
    }

    fn fetch_of(
        &self,
        connection: ConnectionId,
        request: &FetchRequest<'_>,
        parts: Vec<FetchPart>,
        max_bytes: u32,
        deadline: u64,
        answer_at_once: bool,
    ) -> Fetch {
        let (min_bytes, read_committed) = (request.min_bytes.max(0) as u32, request.isolation_level == 1);
        Fetch { connection, parts, min_bytes, max_bytes, deadline, read_committed, answer_at_once }
    }

    /// A core says what it has.
    pub(super) fn on_fetched(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        results: Vec<FetchResult>,
        last: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.fetches.pending.get_mut(&ticket) else { return };
        for result in results {
            let part = result.part as usize;
            pending.results[part] = Some(result);
        }
        let owner = pending.owners.iter_mut().find(|owner| owner.shard == from).expect("only owners are asked");
        (owner.answered, owner.last) = (true, last);
        let found: usize = pending.results.iter().flatten().map(FetchResult::bytes).sum();
        let told = |result: &FetchResult| result.error_code != ErrorCode::None || result.diverging_epoch.is_some();
        let enough = found >= pending.min_bytes || pending.results.iter().flatten().any(told);
        let all_last = pending.owners.iter().all(|owner| owner.last);
        if pending.owners.iter().all(|owner| owner.answered) && (enough || all_last) {
            self.answer_fetch_request(now, ticket, effects);
        }
    }

    fn answer_fetch_request(&mut self, _now: Time, ticket: Ticket, effects: &mut Vec<Effect>) {
        let pending = self.fetches.pending.remove(&ticket).expect("the caller found it");
        let caller = pending.caller;
        if let Some(connection) = self.connections.get_mut(&caller.connection) {
            connection.fetches.retain(|waiting| *waiting != ticket);
        }
        let node_id = self.config.node_id;
        let mut left = pending.max_bytes;
        let (mut told, mut had_data) = (Vec::new(), Vec::new());
        let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
        let incremental = matches!(pending.session, SessionUse::Incremental(_));
        for (index, result) in pending.results.iter().enumerate() {
            let partition = &pending.partitions[index];
            let missing = FetchResult::error(index as u32, ErrorCode::UnknownServerError);
            let result = result.as_ref().unwrap_or(&missing);
            let bytes = result.bytes();
            // Each core kept to the limit by itself; together they may have gone beyond it.
            let records = if bytes <= left || left == pending.max_bytes { result.records.clone() } else { Vec::new() };
            left = left.saturating_sub(records.iter().map(|chunk| chunk.len()).sum());
            if !records.is_empty() {
                had_data.push(index);
            }
            let state = (result.high_watermark, result.log_start_offset);
            let changed = !records.is_empty()
                || result.error_code != ErrorCode::None
                || result.diverging_epoch.is_some()
                || partition.told != Some(state);
            if incremental && !changed {
                continue;
            }
            if result.error_code == ErrorCode::None {
                told.push((index, state));
            }
            let data = partition_data(partition.index, result, records, pending.read_committed, node_id);
            match responses.last_mut() {
                Some(topic) if topic.topic == &*partition.topic && topic.topic_id == partition.topic_id => {
                    topic.partitions.push(data);
                }
                _ => responses.push(FetchableTopicResponse {
                    topic: &partition.topic,
                    topic_id: partition.topic_id,
                    partitions: vec![data],
                }),
            }
        }
        let session_id = match pending.session {
            SessionUse::Full => 0,
            SessionUse::Begin(id) | SessionUse::Incremental(id) => {
                self.sessions.on_answer(id, &told, &had_data);
                id
            }
        };
        let response = FetchResponse { session_id, responses, ..FetchResponse::default() };
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

fn fetch_part(index: usize, partition: PartitionId, asked: &SessionPartition) -> FetchPart {
    FetchPart {
        part: index as u32,
        partition,
        fetch_offset: asked.fetch_offset,
        max_bytes: asked.max_bytes.max(0) as u32,
        current_leader_epoch: asked.current_leader_epoch,
        last_fetched_epoch: asked.last_fetched_epoch,
    }
}

fn partition_data(
    partition_index: i32,
    result: &FetchResult,
    records: Vec<bytes::Bytes>,
    read_committed: bool,
    node_id: i32,
) -> PartitionData {
    let fenced = matches!(result.error_code, ErrorCode::FencedLeaderEpoch | ErrorCode::NotLeaderOrFollower);
    let (epoch, end_offset) = result.diverging_epoch.unwrap_or((-1, -1));
    PartitionData {
        partition_index,
        error_code: result.error_code.code(),
        high_watermark: result.high_watermark,
        last_stable_offset: result.last_stable_offset,
        log_start_offset: result.log_start_offset,
        diverging_epoch: EpochEndOffset { epoch, end_offset },
        current_leader: match fenced {
            true => LeaderIdAndEpoch { leader_id: node_id, leader_epoch: result.leader_epoch },
            false => LeaderIdAndEpoch::default(),
        },
        aborted_transactions: read_committed.then(Vec::new),
        records: Records(records),
        ..PartitionData::default()
    }
}
