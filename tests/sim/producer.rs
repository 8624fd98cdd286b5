//! Producers: idempotent ones with up to five requests in flight, which send again in order whatever stayed without an
//! answer; and plain ones with acks 0, 1 or all, which never send anything twice.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gannet::error_code::ErrorCode;
use gannet::protocol::produce::*;
use gannet::protocol::{InitProducerIdRequest, InitProducerIdResponse, decode_response};
use gannet::record::{BatchBuilder, Compression};
use gannet::types::{Few, PartitionId};

use crate::client::{Action, Asked, Client, Ctx, Line, partitions, told};
use crate::model::{Sent, Value};

#[derive(Debug)]
enum Ask {
    Metadata,
    Identity,
    Produce(Vec<Part>),
}

#[derive(Debug)]
struct Part {
    place: Place,
    /// Number of the batch in its stream.
    batch: u64,
}

type Place = (String, i32);

struct Batch {
    number: u64,
    values: Vec<Value>,
    bytes: Bytes,
}

struct Stream {
    id: PartitionId,
    next_batch: u64,
    next_sequence: i32,
    unresolved: VecDeque<Batch>,
    /// Something was refused or taken from it: a gap in its sequences is no surprise.
    excused: bool,
}

pub struct Producer {
    line: Line<Ask>,
    idempotent: bool,
    acks: i16,
    version: i16,
    in_flight_max: usize,
    pause_us: u64,
    record_bytes: u64,
    /// Gives its values their upper half.
    id: u64,
    next_number: u64,
    identity: Option<(i64, i16)>,
    told_at: u64,
    streams: BTreeMap<Place, Stream>,
    /// What is unresolved goes out again, in order, once nothing is in flight.
    resending: bool,
    forgetting: bool,
    refreshing: bool,
}

impl Producer {
    pub fn new(id: u64, ctx: &mut Ctx, large: bool) -> Producer {
        let idempotent = !ctx.chance.one_in(3);
        Producer {
            line: Line::new(),
            idempotent,
            acks: if idempotent { -1 } else { ctx.chance.pick(&[0, 1, -1]) },
            version: ctx.chance.between(3, 13) as i16,
            in_flight_max: ctx.chance.between(1, 5) as usize,
            pause_us: ctx.chance.pick(&[1_000, 8_000, 40_000]),
            record_bytes: if large { 1500 } else { ctx.chance.pick(&[1, 60, 400]) },
            id,
            next_number: 1,
            identity: None,
            told_at: 0,
            streams: BTreeMap::new(),
            resending: false,
            forgetting: false,
            refreshing: true,
        }
    }

    fn is_ready(&self) -> bool {
        self.line.up && !self.refreshing && (!self.idempotent || self.identity.is_some()) && !self.streams.is_empty()
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        if !self.line.up || (self.line.in_flight() > 0 && (self.resending || self.refreshing || self.forgetting)) {
            return;
        }
        if self.forgetting {
            // What became of it is not known, and it is never sent again.
            self.forgetting = false;
            self.resending = false;
            self.identity = None;
            self.streams.clear();
            self.refreshing = true;
            self.become_another();
        }
        if self.refreshing {
            return self.line.ask_metadata(ctx, Ask::Metadata);
        }
        if self.idempotent && self.identity.is_none() {
            if self.line.in_flight() == 0 {
                let request = InitProducerIdRequest::default();
                let version = ctx.chance.between(0, 5) as i16;
                self.line.send(ctx, &request, version, Ask::Identity);
            }
            return;
        }
        if self.resending {
            self.resend(ctx);
        } else if self.line.in_flight() < self.in_flight_max && !ctx.settling && !self.streams.is_empty() {
            self.produce(ctx);
        }
        ctx.wake_in(self.pause_us / 2, self.pause_us * 2);
    }

    /// What is still under way in the node may land behind what is sent from now on.
    fn become_another(&mut self) {
        self.id += 1 << 16;
    }

    fn resend(&mut self, ctx: &mut Ctx) {
        self.resending = false;
        let depth = self.streams.values().map(|stream| stream.unresolved.len()).max().unwrap_or(0);
        for layer in 0..depth {
            let nth = |(place, stream): (&Place, &Stream)| {
                let batch = stream.unresolved.get(layer)?;
                Some((place.clone(), stream.id, batch.number, batch.bytes.clone()))
            };
            let parts = self.streams.iter().filter_map(nth).collect();
            self.send(ctx, parts);
        }
    }

    fn produce(&mut self, ctx: &mut Ctx) {
        let places: Vec<_> = self.streams.keys().cloned().collect();
        let mut chosen: Vec<_> = (0..ctx.chance.between(1, 3)).map(|_| ctx.chance.below(places.len() as u64)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let mut parts = Vec::new();
        for place in chosen.into_iter().map(|index| &places[index as usize]) {
            let batch = self.batch(ctx, place);
            let stream = self.streams.get_mut(place).expect("chosen from them");
            let number = stream.next_batch;
            stream.next_batch += 1;
            parts.push((place.clone(), stream.id, number, batch.bytes.clone()));
            if self.acks != 0 {
                stream.unresolved.push_back(Batch { number, ..batch });
            }
        }
        self.send(ctx, parts);
    }

    fn batch(&mut self, ctx: &mut Ctx, place: &Place) -> Batch {
        let mut builder = BatchBuilder::new();
        let stream = self.streams.get_mut(place).expect("the caller has seen it");
        let count = ctx.chance.between(1, 4);
        if let Some((id, epoch)) = self.identity {
            builder = builder.producer(id, epoch, stream.next_sequence);
            stream.next_sequence += count as i32;
        }
        if ctx.chance.one_in(8) {
            builder = builder.compression(Some(ctx.chance.pick(&[Compression::Lz4, Compression::Gzip])));
        }
        let mut values = Vec::new();
        for _ in 0..count {
            let value = self.id << 32 | self.next_number;
            self.next_number += 1;
            let timestamp = ctx.wall_ms() - ctx.chance.below(20) as i64;
            let mut bytes = vec![value as u8; 8 + ctx.chance.below(self.record_bytes) as usize];
            bytes[..8].copy_from_slice(&value.to_be_bytes());
            let key = ctx.model.is_compacted(&place.0).then(|| ctx.chance.below(6) as u8);
            let is_tombstone = key.is_some() && ctx.chance.one_in(6);
            if let Some(key) = key {
                let identity: [(&[u8], Option<&[u8]>); 1] = [(b"value", Some(&bytes[..8]))];
                let value = (!is_tombstone).then_some(&bytes[8..]);
                builder.push_with_headers(timestamp, Some(&[key; 20]), value, &identity);
            } else {
                builder.push(timestamp, None, Some(&bytes));
            }
            let (topic, index) = (place.0.clone(), place.1);
            ctx.model.sent.insert(value, Sent { topic, index, timestamp, key, is_tombstone, repeats: false });
            values.push(value);
        }
        Batch { number: 0, values, bytes: builder.build() }
    }

    fn send(&mut self, ctx: &mut Ctx, parts: Vec<(Place, PartitionId, u64, Bytes)>) {
        let mut topics: Few<TopicProduceData> = Few::new();
        for ((name, index), id, _, bytes) in &parts {
            if topics.last().is_none_or(|topic| topic.name != name) {
                topics.push(TopicProduceData { name, topic_id: id.topic, partition_data: Few::new() });
            }
            let data = PartitionProduceData { index: *index, records: Some(bytes) };
            topics.last_mut().expect("just pushed").partition_data.push(data);
        }
        let request =
            ProduceRequest { transactional_id: None, acks: self.acks, timeout_ms: 20_000, topic_data: topics };
        if self.acks == 0 {
            return self.line.send_unanswered(ctx, &request, self.version);
        }
        let asked = parts.iter().map(|(place, _, batch, _)| Part { place: place.clone(), batch: *batch }).collect();
        self.line.send(ctx, &request, self.version, Ask::Produce(asked));
    }

    fn on_produced(&mut self, ctx: &mut Ctx, asked: &Asked<Ask>, parts: &[Part], frame: &[u8]) {
        let (_, response) = decode_response::<ProduceResponse>(frame, asked.version).expect("a Produce response reads");
        let outcomes = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let outcomes: Vec<_> = outcomes.collect();
        assert!(outcomes.len() == parts.len(), "every partition is answered once");
        for (part, outcome) in parts.iter().zip(outcomes) {
            assert!(part.place.1 == outcome.index, "partitions are answered in the order of the request");
            let Some(stream) = self.streams.get_mut(&part.place) else { continue };
            let Some(at) = stream.unresolved.iter().position(|batch| batch.number == part.batch) else { continue };
            let by_id = asked.version >= 13;
            let certain =
                ctx.model.lives(stream.id.topic) && (by_id || ctx.model.is_stable(stream.id.topic, self.told_at));
            let error = ErrorCode::from_code(outcome.error_code).expect("a code that is known");
            if error == ErrorCode::None {
                let batch = stream.unresolved.remove(at).expect("just seen");
                if by_id || ctx.model.is_stable(stream.id.topic, self.told_at) {
                    ctx.model.on_acknowledged(stream.id, outcome.base_offset, &batch.values, ctx.now);
                }
                continue;
            }
            match error {
                ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch if at == 0 => {
                    let relaxed = ctx.model.topics.get(&stream.id.topic).is_none_or(|topic| topic.relaxed);
                    assert!(
                        stream.excused || relaxed || !certain,
                        "{:?}: {error:?} for batch {} of producer {}, which is the next",
                        stream.id,
                        part.batch,
                        self.id
                    );
                    self.forgetting = true;
                }
                ErrorCode::OutOfOrderSequenceNumber => self.resending = true,
                ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
                    assert!(!certain, "{:?}: {error:?}, but it lives", stream.id);
                    self.forgetting = true;
                }
                ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError | ErrorCode::RequestTimedOut => {
                    stream.excused = true;
                    self.resending = true;
                }
                error => panic!("{:?}: {error:?} {:?}", stream.id, outcome.error_message),
            }
            if !self.idempotent {
                stream.unresolved.remove(at);
                self.resending = false;
            }
        }
    }
}

impl Client for Producer {
    fn name(&self) -> &'static str {
        "producer"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        if !self.line.up {
            return ctx.actions.push(Action::Connect);
        }
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.line.up = true;
        self.refreshing = true;
        self.go_on(ctx);
    }

    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]) {
        let asked = self.line.take(frame);
        match &asked.ask {
            Ask::Metadata => {
                let topics = told(ctx, &asked, frame);
                self.told_at = asked.sent_at;
                let all = partitions(&topics);
                self.refreshing = all.is_empty();
                let known = |place: &Place, id: PartitionId| {
                    all.iter().any(|(name, told, _)| (name, told.index, *told) == (&place.0, place.1, id))
                };
                if self.streams.iter().any(|(place, stream)| !known(place, stream.id)) {
                    self.forgetting = true;
                }
                for (name, id, _) in all {
                    let stream =
                        Stream { id, next_batch: 0, next_sequence: 0, unresolved: VecDeque::new(), excused: false };
                    self.streams.entry((name, id.index)).or_insert(stream);
                }
                if self.refreshing {
                    return ctx.wake_in(5_000, 20_000);
                }
            }
            Ask::Identity => {
                let (_, response) =
                    decode_response::<InitProducerIdResponse>(frame, asked.version).expect("a response that reads");
                assert!(response.error_code == 0, "{response:?}");
                assert!(ctx.model.producer_ids.insert(response.producer_id), "{response:?} was given away before");
                self.identity = Some((response.producer_id, response.producer_epoch));
            }
            Ask::Produce(parts) => {
                self.on_produced(ctx, &asked, parts, frame);
                if !self.resending && !self.forgetting {
                    return ctx.wake_in(self.pause_us / 2, self.pause_us * 2);
                }
            }
        }
        self.go_on(ctx);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        self.line.cut();
        if self.idempotent {
            self.resending = true;
        } else {
            self.streams.values_mut().for_each(|stream| stream.unresolved.clear());
            self.become_another();
        }
        ctx.wake_in(1_000, 30_000);
    }

    fn is_settled(&self, _ctx: &mut Ctx) -> bool {
        self.is_ready()
            && self.line.in_flight() == 0
            && !self.resending
            && !self.forgetting
            && self.streams.values().all(|stream| stream.unresolved.is_empty())
    }
}
