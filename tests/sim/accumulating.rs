//! A producer made of the client's own machines: records are gathered, sent a few requests at a time and sent again over
//! lost connections, crashes and refusals. What it says of each record is held against what readers find.

use std::collections::BTreeMap;
use std::sync::Arc;

use gannet::client::{Cluster, Delivery, Destination, Producer, ProducerConfig, Response};
use gannet::error_code::ErrorCode;
use gannet::protocol::{ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProduceResponse};
use gannet::record::Compression;
use gannet::types::{BrokerId, PartitionId};

use crate::chance::Chance;
use crate::client::{Action, Client, Ctx};
use crate::connection::{Connection, time};
use crate::model::{Sent, Value};

const BUFFERED_BYTES_MAX: usize = 64 << 10;

pub struct Accumulating {
    connection: Connection,
    config: ProducerConfig,
    is_idempotent: bool,
    pause_us: u64,
    record_bytes: u64,
    next_push_at: u64,
    /// Gives its values their upper half.
    id: u64,
    next_number: u64,
    /// The partitions to produce to, once they are known.
    targets: Vec<Target>,
    machine: Option<Producer>,
    broker: BrokerId,
    identity_asked: bool,
    /// Ends what is under way, to begin again with the partitions there are then.
    is_ending: bool,
}

struct Target {
    topic: Arc<str>,
    id: PartitionId,
    /// In the order in which the machine took them.
    values: Vec<Value>,
    /// Something was refused or given up: what follows may be out of order for the broker.
    is_excused: bool,
}

impl Accumulating {
    pub fn new(id: u64, ctx: &mut Ctx, large: bool) -> Accumulating {
        let is_idempotent = !ctx.chance.one_in(3);
        Accumulating {
            connection: Connection::new(),
            config: config(ctx.chance, is_idempotent),
            is_idempotent,
            pause_us: ctx.chance.pick(&[1_000, 8_000, 40_000]),
            record_bytes: if large { 1500 } else { ctx.chance.pick(&[1, 60, 400]) },
            next_push_at: 0,
            id,
            next_number: 1,
            targets: Vec::new(),
            machine: None,
            broker: 0,
            identity_asked: false,
            is_ending: false,
        }
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        self.connection.connect(ctx);
        if self.machine.is_none() {
            if self.targets.is_empty() {
                self.connection.ask_metadata(ctx);
            } else {
                self.ask_identity(ctx);
            }
        } else {
            self.push(ctx);
            self.pump(ctx);
        }
        self.sleep(ctx);
    }

    fn sleep(&mut self, ctx: &mut Ctx) {
        let machine = self.machine.as_ref();
        let wants_metadata = machine.is_none_or(Producer::wants_metadata);
        let push = (machine.is_some() && !self.is_ending && !ctx.settling).then_some(self.next_push_at);
        let due = machine.filter(|_| self.connection.is_ready()).and_then(Producer::next_deadline);
        let next = [push, due, self.connection.next_deadline(wants_metadata)].into_iter().flatten().min();
        let at = next.unwrap_or(u64::MAX).clamp(ctx.now + 50, ctx.now + 50_000);
        ctx.actions.push(Action::Wake(at));
    }

    fn push(&mut self, ctx: &mut Ctx) {
        let Some(machine) = self.machine.as_mut().filter(|_| !self.is_ending) else { return };
        if ctx.settling {
            return machine.flush();
        }
        // Whether what it sends may come to be there twice, and out of order.
        let repeats = !self.is_idempotent && self.config.retries > 0;
        if self.next_push_at > ctx.now || machine.buffered_bytes() > BUFFERED_BYTES_MAX {
            return;
        }
        self.next_push_at = ctx.now + ctx.chance.between(self.pause_us / 2, self.pause_us * 2);
        let destination = ctx.chance.below(self.targets.len() as u64) as usize;
        let target = &mut self.targets[destination];
        for _ in 0..ctx.chance.between(1, 6) {
            let value = self.id << 32 | self.next_number;
            self.next_number += 1;
            let timestamp = ctx.wall_ms() - ctx.chance.below(20) as i64;
            let mut bytes = vec![value as u8; 8 + ctx.chance.below(self.record_bytes) as usize];
            bytes[..8].copy_from_slice(&value.to_be_bytes());
            let key = ctx.model.is_compacted(&target.topic).then(|| ctx.chance.below(6) as u8);
            let (topic, index) = (target.topic.to_string(), target.id.index);
            ctx.model.sent.insert(value, Sent { topic, index, timestamp, key, is_tombstone: false, repeats });
            target.values.push(value);
            let key = key.map(|key| [key; 20]);
            machine.push(time(ctx), destination, timestamp, key.as_ref().map(|key| &key[..]), Some(&bytes));
        }
    }

    /// What an owner of the machine does whenever something has happened.
    fn pump(&mut self, ctx: &mut Ctx) {
        let now = time(ctx);
        let Some(machine) = &mut self.machine else { return };
        let mut deliveries = machine.expire(now);
        if machine.overdue(now).is_some() {
            ctx.actions.push(Action::Close);
        } else if self.connection.is_ready() {
            if machine.wants_metadata() {
                self.connection.ask_metadata(ctx);
            }
            if machine.wants_identity() && !std::mem::replace(&mut self.identity_asked, true) {
                self.connection.send(ctx, &InitProducerIdRequest::default(), true);
            }
            while let Some(request) = machine.next_request(now, self.broker) {
                self.connection.send(ctx, &request, self.config.acks != 0);
                if self.config.acks == 0 {
                    deliveries.extend(machine.on_sent_unanswered(self.broker));
                }
            }
        }
        self.on_deliveries(ctx, deliveries);
        if self.is_ending && self.machine.as_ref().is_some_and(Producer::is_idle) {
            self.start_over(ctx);
        }
    }

    /// On another connection, so that no answer to the former machine comes to the next. What is still under way in the node
    /// may land behind what is sent from now on.
    fn start_over(&mut self, ctx: &mut Ctx) {
        ctx.actions.push(Action::Close);
        self.id += 1 << 16;
        self.machine = None;
        self.targets.clear();
        self.is_ending = false;
    }

    fn ask_identity(&mut self, ctx: &mut Ctx) {
        if !self.is_idempotent {
            return self.begin(None);
        }
        if self.connection.is_ready() && !std::mem::replace(&mut self.identity_asked, true) {
            self.connection.send(ctx, &InitProducerIdRequest::default(), true);
        }
    }

    fn begin(&mut self, identity: Option<(i64, i16)>) {
        let destination = |target: &Target| Destination {
            topic: target.topic.clone(),
            topic_id: target.id.topic,
            partition: target.id.index,
            leader: None,
        };
        let mut machine = Producer::new(self.config.clone(), identity, self.targets.iter().map(destination).collect());
        // Who leads is not told to it: it asks.
        machine.on_metadata(&Cluster::default());
        self.machine = Some(machine);
    }

    fn on_metadata(&mut self, ctx: &mut Ctx, cluster: &Cluster) {
        let partitions: BTreeMap<PartitionId, Arc<str>> = cluster
            .topics
            .iter()
            .filter(|(_, topic)| !topic.is_internal)
            .flat_map(|(name, topic)| topic.partitions.iter().map(move |partition| (name, topic.id, partition.index)))
            .map(|(name, topic, index)| (PartitionId { topic, index }, name.as_str().into()))
            .collect();
        self.broker = *cluster.brokers.keys().next().expect("the node knows itself");
        if let Some(machine) = &mut self.machine {
            if self.targets.iter().any(|target| !partitions.contains_key(&target.id)) {
                return self.start_over(ctx);
            }
            machine.on_metadata(cluster);
            self.is_ending |= partitions.len() > self.targets.len() && !ctx.settling;
            if self.is_ending {
                machine.flush();
            }
            return;
        }
        let target = |(id, topic): (PartitionId, Arc<str>)| Target { topic, id, values: Vec::new(), is_excused: false };
        self.targets = partitions.into_iter().map(target).collect();
    }

    fn on_identity(&mut self, ctx: &mut Ctx, response: &Response) {
        let answer: InitProducerIdResponse = response.decode().expect("a response that reads");
        assert!(answer.error_code == 0, "{answer:?}");
        assert!(ctx.model.producer_ids.insert(answer.producer_id), "{answer:?} was given away before");
        self.identity_asked = false;
        let identity = (answer.producer_id, answer.producer_epoch);
        match &mut self.machine {
            None => self.begin(Some(identity)),
            Some(machine) => {
                let given_up = machine.on_identity(identity);
                ctx.model.count("producer identities replaced", 1);
                self.on_deliveries(ctx, given_up);
            }
        }
    }

    fn on_produced(&mut self, ctx: &mut Ctx, response: &Response) {
        let answer: ProduceResponse = response.decode().expect("a Produce response reads");
        let Some(machine) = &mut self.machine else { return };
        for topic in &answer.responses {
            for part in topic.partition_responses.iter().filter(|part| part.error_code != 0) {
                let id = PartitionId { topic: topic.topic_id, index: part.index };
                let error = ErrorCode::from_code(part.error_code).expect("a code that is known");
                let is_unknown = matches!(error, ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition);
                assert!(!is_unknown || !ctx.model.lives(id.topic), "{id:?}: {error:?}, but it lives");
                if error != ErrorCode::OutOfOrderSequenceNumber {
                    self.targets.iter_mut().filter(|target| target.id == id).for_each(|one| one.is_excused = true);
                }
            }
        }
        let deliveries = machine.on_response(time(ctx), self.broker, &answer);
        self.on_deliveries(ctx, deliveries);
    }

    fn on_deliveries(&mut self, ctx: &mut Ctx, deliveries: Vec<Delivery>) {
        for Delivery { destination, first_record, records, outcome } in deliveries {
            let target = &mut self.targets[destination];
            let from = first_record as usize;
            let values = &target.values[from..from + records as usize];
            match outcome {
                // An answer to nothing, or to what had its answer before.
                Ok(-1) => {}
                Ok(base) => {
                    ctx.model.count("accumulated records acknowledged", values.len());
                    ctx.model.on_acknowledged(target.id, base, values, ctx.now);
                }
                Err((ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch, words)) => {
                    let is_relaxed = ctx.model.topics.get(&target.id.topic).is_none_or(|topic| topic.relaxed);
                    let is_certain = !is_relaxed && ctx.model.lives(target.id.topic);
                    assert!(target.is_excused || !is_certain, "{:?}: out of order for no reason: {words:?}", target.id);
                    target.is_excused = true;
                }
                Err((error, words)) => {
                    ctx.model.count("accumulated records given up", values.len());
                    let is_known = error.is_retriable() && error != ErrorCode::CorruptMessage;
                    assert!(is_known, "{:?}: {error:?} {words:?}", target.id);
                    target.is_excused = true;
                }
            }
        }
    }
}

fn config(chance: &mut Chance, is_idempotent: bool) -> ProducerConfig {
    ProducerConfig {
        acks: if is_idempotent { -1 } else { chance.pick(&[0, 1, -1]) },
        compression: chance.pick(&[None, None, None, Some(Compression::Lz4)]),
        linger_ms: chance.pick(&[0, 5, 50]),
        batch_bytes_max: chance.pick(&[1, 2_000, 16_000]),
        request_bytes_max: chance.pick(&[1_000, 1 << 20]),
        requests_in_flight_max: chance.between(1, 5) as usize,
        request_timeout_ms: chance.pick(&[200, 20_000]),
        delivery_timeout_ms: chance.pick(&[100, 1_000, 500_000]),
        retries: if is_idempotent { u32::MAX } else { chance.pick(&[0, 3]) },
        retry_backoff_ms: chance.pick(&[1, 20]),
    }
}

impl Client for Accumulating {
    fn name(&self) -> &'static str {
        "accumulating producer"
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
                key if key == ApiKey::InitProducerId.code() => self.on_identity(ctx, &response),
                _ => self.on_produced(ctx, &response),
            }
        }
        self.go_on(ctx);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        self.connection.on_closed(ctx);
        self.identity_asked = false;
        if let Some(machine) = &mut self.machine {
            let given_up = machine.on_disconnect(time(ctx), self.broker);
            self.on_deliveries(ctx, given_up);
        }
        self.sleep(ctx);
    }

    fn is_settled(&self, _ctx: &mut Ctx) -> bool {
        self.connection.is_ready() && self.machine.as_ref().is_some_and(Producer::is_idle)
    }
}
