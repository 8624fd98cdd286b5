//! A consumer made of the client's own machines: fetch sessions, positions, lost connections, errors that heal. Each record
//! comes once per position, in the order of the offsets.

use std::collections::BTreeMap;

use gannet::client::{Cluster, FetchedBatches, Fetcher, FetcherConfig, Response, Subscription};
use gannet::error_code::ErrorCode;
use gannet::protocol::list_offsets::*;
use gannet::protocol::{ApiKey, FetchResponse};
use gannet::types::{BrokerId, Offset, PartitionId};

use crate::client::{Action, Client, Ctx};
use crate::connection::{Connection, time};

/// As ListOffsets says it.
const EARLIEST: i64 = -2;

pub struct Fetching {
    connection: Connection,
    config: FetcherConfig,
    pause_us: u64,
    next_fetch_at: u64,
    /// By subscription: the partition, and the offset of the next record.
    places: Vec<(PartitionId, Offset)>,
    machine: Option<Fetcher>,
    broker: BrokerId,
    /// Out of range: it is asked where the partition starts.
    lost: Vec<usize>,
    /// The question under way, and where the partition started for all that was known then.
    asked: Option<(usize, Offset)>,
}

impl Fetching {
    pub fn new(ctx: &mut Ctx) -> Fetching {
        // One batch at a time is slow enough without waiting for more of them.
        let (min_bytes, max_bytes) = ctx.chance.pick(&[(1, 1), (0, 3_000), (1, 10 << 20), (1000, 10 << 20)]);
        let config = FetcherConfig {
            max_wait_ms: ctx.chance.pick(&[0, 20, 100]),
            min_bytes,
            max_bytes,
            partition_max_bytes: ctx.chance.pick(&[1, 2_000, 1 << 20]),
            retry_backoff_ms: ctx.chance.pick(&[1, 20]),
            decompressed_bytes_max: 1 << 20,
        };
        Fetching {
            connection: Connection::new(),
            config,
            pause_us: ctx.chance.pick(&[1_000, 15_000, 100_000]),
            next_fetch_at: 0,
            places: Vec::new(),
            machine: None,
            broker: 0,
            lost: Vec::new(),
            asked: None,
        }
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        self.connection.connect(ctx);
        if self.wants_metadata() {
            self.connection.ask_metadata(ctx);
        }
        if self.connection.is_ready() && self.machine.is_some() {
            self.ask_start(ctx);
            self.fetch(ctx);
        }
        let machine = self.machine.as_ref().filter(|_| self.connection.is_ready());
        let fetcher = machine.and_then(Fetcher::next_deadline).map(|due| due.max(self.next_fetch_at));
        let next = [fetcher, self.connection.next_deadline(self.wants_metadata())].into_iter().flatten().min();
        ctx.actions.push(Action::Wake(next.unwrap_or(u64::MAX).clamp(ctx.now + 50, ctx.now + 50_000)));
    }

    fn wants_metadata(&self) -> bool {
        self.machine.as_ref().is_none_or(Fetcher::wants_metadata)
    }

    fn fetch(&mut self, ctx: &mut Ctx) {
        let Some(machine) = &mut self.machine else { return };
        if self.next_fetch_at <= ctx.now
            && let Some(request) = machine.next_request(time(ctx), self.broker)
        {
            let pause_us = if ctx.settling { 500 } else { self.pause_us };
            self.next_fetch_at = ctx.now + ctx.chance.between(pause_us / 2, pause_us);
            let goes_on = request.session_epoch > 0;
            self.connection.send(ctx, &request, true);
            ctx.model.count("fetches within a session", usize::from(goes_on));
            // Now and then it looks at who leads, as clients do at their leisure.
            if ctx.chance.one_in(20) {
                self.connection.ask_metadata(ctx);
            }
        }
    }

    fn ask_start(&mut self, ctx: &mut Ctx) {
        if self.asked.is_some() {
            return;
        }
        let (Some(subscription), Some(machine)) = (self.lost.pop(), &self.machine) else { return };
        let Subscription { topic, partition, .. } = machine.subscription(subscription);
        let partition = ListOffsetsPartition { partition_index: *partition, timestamp: EARLIEST, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: topic, partitions: vec![partition] }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        self.asked = Some((subscription, ctx.model.start(self.places[subscription].0)));
        self.connection.send(ctx, &request, true);
    }

    fn on_start(&mut self, ctx: &mut Ctx, response: &Response) {
        let answer: ListOffsetsResponse = response.decode().expect("a ListOffsets response reads");
        let partition = &answer.topics[0].partitions[0];
        let Some((subscription, floor)) = self.asked.take() else { return };
        if partition.error_code != 0 {
            return self.lost.push(subscription);
        }
        let (id, next) = &mut self.places[subscription];
        let wall_ms = ctx.wall_ms();
        if ctx.model.lives(id.topic) {
            ctx.model.on_log_start(*id, partition.offset, floor, wall_ms);
        }
        *next = partition.offset;
        self.machine.as_mut().expect("it asked").seek(subscription, partition.offset);
    }

    /// Reads on where it stood, and what is new from the beginning or from the middle.
    fn on_metadata(&mut self, ctx: &mut Ctx, cluster: &Cluster) {
        self.broker = *cluster.brokers.keys().next().expect("the node knows itself");
        let known: BTreeMap<PartitionId, Offset> = self.places.iter().copied().collect();
        let is_gone = |id: &PartitionId| !cluster.topics.values().any(|topic| topic.id == id.topic);
        let begins_anew = self.machine.is_none() || known.keys().any(is_gone);
        if begins_anew {
            // No answer to the former machine may come to the next.
            ctx.actions.extend(self.machine.is_some().then_some(Action::Close));
            self.places.clear();
            self.lost.clear();
            self.asked = None;
        }
        let machine = self.machine.take().filter(|_| !begins_anew);
        let mut machine = machine.unwrap_or_else(|| Fetcher::new(self.config.clone(), Vec::new()));
        for (name, topic) in cluster.topics.iter().filter(|(_, topic)| !topic.is_internal) {
            for partition in &topic.partitions {
                let id = PartitionId { topic: topic.id, index: partition.index };
                if self.places.iter().any(|(place, _)| *place == id) {
                    continue;
                }
                let end = ctx.model.floor(id) as u64;
                let first = if ctx.chance.one_in(2) { 0 } else { ctx.chance.below(end + 1) as Offset };
                let offset = known.get(&id).copied().unwrap_or(first);
                machine.subscribe(Subscription {
                    topic: name.as_str().into(),
                    topic_id: topic.id,
                    partition: partition.index,
                    leader: partition.leader,
                    leader_epoch: partition.leader_epoch,
                    offset,
                });
                self.places.push((id, offset));
            }
        }
        machine.on_metadata(cluster);
        self.machine = (!self.places.is_empty()).then_some(machine);
    }

    fn on_fetched(&mut self, ctx: &mut Ctx, response: &Response) {
        let answer: FetchResponse = response.decode().expect("a Fetch response reads");
        match ErrorCode::from_code(answer.error_code).expect("a code that is known") {
            ErrorCode::None => {}
            error => panic!("{error:?}: one connection, one life, and its session is lost"),
        }
        let Some(machine) = &mut self.machine else { return };
        let fetched = machine.on_response(time(ctx), self.broker, answer);
        for one in fetched {
            match one.outcome {
                Ok(batches) => self.on_batches(ctx, one.subscription, &batches),
                Err(error) => self.on_refused(ctx, one.subscription, error),
            }
        }
    }

    fn on_batches(&mut self, ctx: &mut Ctx, subscription: usize, batches: &FetchedBatches) {
        let (id, next) = &mut self.places[subscription];
        let id = *id;
        let compacted = ctx.model.topics.get(&id.topic).is_some_and(|topic| ctx.model.is_compacted(&topic.name));
        for record in batches.records() {
            let (_, record) = record.unwrap_or_else(|error| panic!("{id:?}: behind {next}: {error}"));
            assert!(record.offset >= *next, "{id:?}: {} came again, {next} is next", record.offset);
            assert!(compacted || record.offset == *next, "{id:?}: {} came, {next} is next", record.offset);
            ctx.model.miss(id, *next..record.offset);
            *next = record.offset + 1;
            let identity = record.headers.first().and_then(|header| header.value.clone()).or(record.value);
            let value = identity.expect("every value is set");
            ctx.model.place(id, record.offset, u64::from_be_bytes(value[..8].try_into().expect("8 bytes")));
            ctx.model.read += 1;
        }
        let position = self.machine.as_ref().expect("it has fetched").subscription(subscription).offset;
        assert!(position >= *next && (compacted || position == *next), "{id:?}: at {position}, {next} is next");
        ctx.model.miss(id, *next..position);
        *next = position;
    }

    fn on_refused(&mut self, ctx: &mut Ctx, subscription: usize, error: ErrorCode) {
        let (id, next) = &mut self.places[subscription];
        let relaxed = ctx.model.topics.get(&id.topic).is_none_or(|topic| topic.relaxed);
        match error {
            ErrorCode::CorruptMessage => {
                let partition = ctx.model.partition(*id).expect("known");
                let damage = partition.rotten.iter().find(|(from, to)| (*from..*to).contains(next));
                *next = damage.unwrap_or_else(|| panic!("{id:?} {next} is not damaged")).1;
                self.machine.as_mut().expect("it has fetched").seek(subscription, *next);
            }
            ErrorCode::OffsetOutOfRange => {
                let may_go = relaxed || ctx.model.loses_records(*id) || !ctx.model.lives(id.topic);
                assert!(may_go, "{id:?}: {next} is out of range");
                self.lost.push(subscription);
            }
            // Metadata will tell that it is gone.
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
                assert!(!ctx.model.lives(id.topic), "{id:?} is unknown, but lives");
            }
            ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownLeaderEpoch | ErrorCode::NotLeaderOrFollower => {}
            ErrorCode::KafkaStorageError if ctx.model.offline => {}
            error => panic!("{id:?}: {error:?}"),
        }
    }
}

impl Client for Fetching {
    fn name(&self) -> &'static str {
        "fetching consumer"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.connection.on_connected(ctx);
    }

    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]) {
        if let Some(response) = self.connection.on_frame(frame) {
            match response.api_key {
                key if key == ApiKey::Metadata.code() => {
                    let cluster = self.connection.on_metadata(&response);
                    self.on_metadata(ctx, &cluster);
                }
                key if key == ApiKey::ListOffsets.code() => self.on_start(ctx, &response),
                _ => self.on_fetched(ctx, &response),
            }
        }
        self.go_on(ctx);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        self.connection.on_closed(ctx);
        if let Some((subscription, _)) = self.asked.take().filter(|(place, _)| *place < self.places.len()) {
            self.lost.push(subscription);
        }
        if let Some(machine) = &mut self.machine {
            machine.on_disconnect(time(ctx), self.broker);
        }
        ctx.wake_in(1_000, 30_000);
    }

    /// It stands at the end of everything that it reads.
    fn is_settled(&self, ctx: &mut Ctx) -> bool {
        let is_at_end =
            |(id, next): &(PartitionId, Offset)| !ctx.model.lives(id.topic) || *next >= ctx.model.floor(*id);
        self.connection.is_ready() && self.places.iter().all(is_at_end)
    }
}
