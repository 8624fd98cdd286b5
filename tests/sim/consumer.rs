//! Consumers: with and without fetch sessions, patient or not, from the beginning of some partitions to their ends; now
//! and then they ask for offsets by time or for the end of an epoch. One that reads everything ends each run.

use std::collections::BTreeMap;

use gannet::error_code::ErrorCode;
use gannet::protocol::decode_response;
use gannet::protocol::fetch::*;
use gannet::protocol::list_offsets::*;
use gannet::protocol::offset_for_leader_epoch::*;
use gannet::record;
use gannet::types::{Few, Offset, PartitionId, Timestamp};

use crate::client::{Action, Asked, Client, Ctx, Line, partitions, told};

/// As ListOffsets says it.
const EARLIEST: Timestamp = -2;

#[derive(Debug)]
enum Ask {
    Metadata,
    Fetch(Vec<Wanted>),
    Offsets(Wanted, Timestamp),
    Epoch(Wanted),
}

#[derive(Clone, Debug)]
struct Wanted {
    id: PartitionId,
    offset: Offset,
    floor: Offset,
    start: Offset,
}

struct Position {
    name: String,
    offset: Offset,
    leader_epoch: i32,
    last_fetched_epoch: i32,
    /// What the session was last told, if it knows the partition.
    in_session: Option<Offset>,
}

pub struct Consumer {
    line: Line<Ask>,
    version: i16,
    sessions: bool,
    session: (i32, i32),
    max_wait_ms: i32,
    min_bytes: i32,
    max_bytes: i32,
    partition_max_bytes: i32,
    says_epochs: bool,
    pause_us: u64,
    told_at: u64,
    positions: BTreeMap<PartitionId, Position>,
    /// Forgotten by us, not yet by the session.
    forgotten: Vec<(String, PartitionId)>,
    /// Out of range: it is asked where they start.
    lost: Vec<PartitionId>,
    /// Reads all there is from the beginning.
    everything: bool,
    /// It was sent away from a partition since it last asked where they are.
    is_sent_away: bool,
}

impl Consumer {
    pub fn new(ctx: &mut Ctx) -> Consumer {
        let version = ctx.chance.between(4, 18) as i16;
        Consumer {
            line: Line::new(),
            version,
            sessions: version >= 7 && !ctx.chance.one_in(3),
            session: (0, -1),
            max_wait_ms: ctx.chance.pick(&[0, 20, 500, 30_000]),
            min_bytes: ctx.chance.pick(&[0, 1, 1, 1, 1, 1000]),
            max_bytes: ctx.chance.pick(&[1, 3_000, 50_000, 10 << 20]),
            partition_max_bytes: ctx.chance.pick(&[1, 2_000, 1 << 20]),
            says_epochs: ctx.chance.one_in(2),
            pause_us: ctx.chance.pick(&[3_000, 15_000, 100_000]),
            told_at: 0,
            positions: BTreeMap::new(),
            forgotten: Vec::new(),
            lost: Vec::new(),
            everything: false,
            is_sent_away: false,
        }
    }

    pub fn of_everything(ctx: &mut Ctx) -> Consumer {
        Consumer {
            max_wait_ms: 20,
            min_bytes: 1,
            max_bytes: 10 << 20,
            partition_max_bytes: 1 << 20,
            pause_us: 500,
            everything: true,
            ..Consumer::new(ctx)
        }
    }

    fn start_over(&mut self, ctx: &mut Ctx) {
        self.positions.clear();
        self.forgotten.clear();
        self.lost.clear();
        self.is_sent_away = false;
        self.session = if self.sessions { (self.session.0, 0) } else { (0, -1) };
        self.line.ask_metadata(ctx, Ask::Metadata);
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        if !self.line.up || self.line.in_flight() > 0 {
            return;
        }
        if self.positions.is_empty() || self.lacks_some() {
            return self.start_over(ctx);
        }
        while let Some(id) = self.lost.pop() {
            if self.positions.contains_key(&id) {
                return self.ask_offset(ctx, id, EARLIEST);
            }
        }
        match ctx.chance.below(30) {
            0 if !self.everything => self.ask_offsets(ctx),
            1 if !self.everything => self.ask_epoch(ctx),
            2 if !self.everything && self.positions.len() > 1 => {
                let (id, position) = self.positions.pop_first().expect("not empty");
                if position.in_session.is_some() {
                    self.forgotten.push((position.name, id));
                }
                self.fetch(ctx);
            }
            _ => self.fetch(ctx),
        }
    }

    fn wanted(&self, ctx: &Ctx, id: PartitionId) -> Wanted {
        let (floor, start) = (ctx.model.floor(id), ctx.model.start(id));
        Wanted { id, offset: self.positions[&id].offset, floor, start }
    }

    fn fetch(&mut self, ctx: &mut Ctx) {
        let goes_on = self.session.1 > 0;
        let all: Vec<_> = self.positions.keys().map(|id| self.wanted(ctx, *id)).collect();
        let mut topics: Few<FetchTopic> = Few::new();
        for (id, position) in &self.positions {
            if goes_on && position.in_session == Some(position.offset) {
                continue;
            }
            if topics.last().is_none_or(|topic| topic.topic_id != id.topic) {
                topics.push(FetchTopic { topic: &position.name, topic_id: id.topic, partitions: Few::new() });
            }
            topics.last_mut().expect("just pushed").partitions.push(FetchPartition {
                partition: id.index,
                current_leader_epoch: if self.says_epochs { position.leader_epoch } else { -1 },
                fetch_offset: position.offset,
                last_fetched_epoch: position.last_fetched_epoch,
                partition_max_bytes: self.partition_max_bytes,
                ..Default::default()
            });
        }
        let forgotten = self.forgotten.iter().map(|(name, id)| ForgottenTopic {
            topic: name,
            topic_id: id.topic,
            partitions: vec![id.index],
        });
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: self.max_wait_ms,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            isolation_level: ctx.chance.below(2) as i8,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics,
            forgotten_topics_data: if goes_on { forgotten.collect() } else { Vec::new() },
            ..Default::default()
        };
        self.line.send(ctx, &request, self.version, Ask::Fetch(all));
        self.forgotten.clear();
        let sessions = self.sessions;
        self.positions.values_mut().for_each(|position| position.in_session = sessions.then_some(position.offset));
    }

    fn ask_offsets(&mut self, ctx: &mut Ctx) {
        let id = *self.positions.keys().nth(ctx.chance.below(self.positions.len() as u64) as usize).expect("counted");
        let timestamp = match ctx.chance.below(5) {
            0 => -1,
            1 => EARLIEST,
            2 => -3,
            _ => ctx.wall_ms() - ctx.chance.below(3_000) as i64,
        };
        self.ask_offset(ctx, id, timestamp);
    }

    fn ask_offset(&mut self, ctx: &mut Ctx, id: PartitionId, timestamp: Timestamp) {
        let partition = ListOffsetsPartition { partition_index: id.index, timestamp, ..Default::default() };
        let name = self.positions[&id].name.clone();
        let topics = vec![ListOffsetsTopic { name: &name, partitions: vec![partition] }];
        let version = ctx.chance.between(7, 11) as i16;
        let wanted = self.wanted(ctx, id);
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        self.line.send(ctx, &request, version, Ask::Offsets(wanted, timestamp));
    }

    fn ask_epoch(&mut self, ctx: &mut Ctx) {
        let (id, position) = self.positions.first_key_value().expect("not empty");
        let (id, leader_epoch, topic) = (*id, position.leader_epoch, position.name.clone());
        let partition = OffsetForLeaderPartition { partition: id.index, current_leader_epoch: -1, leader_epoch };
        let topics = vec![OffsetForLeaderTopic { topic: &topic, partitions: vec![partition] }];
        let wanted = self.wanted(ctx, id);
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
        self.line.send(ctx, &request, 4, Ask::Epoch(wanted));
    }

    fn on_fetched(&mut self, ctx: &mut Ctx, asked: &Asked<Ask>, wanted: &[Wanted], frame: &[u8]) {
        let (_, response) = decode_response::<FetchResponse>(frame, asked.version).expect("a Fetch response reads");
        self.check_patience(ctx, asked, wanted);
        match ErrorCode::from_code(response.error_code).expect("a code that is known") {
            ErrorCode::None => {}
            ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch => {
                panic!("session {:?} was lost: {:?}", self.session, response.error_code)
            }
            error => panic!("{error:?}"),
        }
        if self.sessions {
            let (id, epoch) = self.session;
            assert!(epoch == 0 || id == response.session_id, "session {id} became {}", response.session_id);
            self.session = if response.session_id == 0 { (0, 0) } else { (response.session_id, epoch + 1) };
        }
        for topic in &response.responses {
            for data in &topic.partitions {
                let same = |wanted: &&Wanted| {
                    wanted.id.index == data.partition_index
                        && match asked.version {
                            13.. => wanted.id.topic == topic.topic_id,
                            _ => self.positions.get(&wanted.id).is_some_and(|known| known.name == topic.topic),
                        }
                };
                let Some(wanted) = wanted.iter().find(same).cloned() else {
                    panic!("{} {} {} was not asked for", topic.topic, topic.topic_id, data.partition_index)
                };
                let by_name = asked.version < 13;
                if by_name && !ctx.model.is_stable(wanted.id.topic, self.told_at) {
                    // The name may have meant another topic meanwhile.
                    self.drop_position(wanted.id);
                    continue;
                }
                self.on_partition(ctx, &wanted, data);
            }
        }
        if ctx.chance.one_in(40) && !self.everything {
            self.start_over(ctx);
        }
    }

    fn on_partition(&mut self, ctx: &mut Ctx, wanted: &Wanted, data: &PartitionData) {
        let id = wanted.id;
        let Some(position) = self.positions.get_mut(&id) else { return };
        let relaxed = ctx.model.topics.get(&id.topic).is_none_or(|topic| topic.relaxed);
        match ErrorCode::from_code(data.error_code).expect("a code that is known") {
            ErrorCode::None => {}
            ErrorCode::CorruptMessage => {
                let partition = ctx.model.partition(id).expect("known");
                let damage = partition.rotten.iter().find(|(from, to)| (*from..*to).contains(&wanted.offset));
                let damage = damage.unwrap_or_else(|| panic!("{id:?} {} is not damaged", wanted.offset));
                (position.offset, position.last_fetched_epoch) = (damage.1, -1);
                return;
            }
            ErrorCode::OffsetOutOfRange => {
                let gone = ctx.model.loses_records(id);
                assert!(relaxed || gone || !ctx.model.lives(id.topic), "{id:?}: {} is out of range", wanted.offset);
                if !gone || relaxed {
                    return self.drop_position(id);
                }
                return self.lost.push(id);
            }
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
                assert!(!ctx.model.lives(id.topic), "{id:?} is unknown, but lives");
                return self.drop_position(id);
            }
            ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownLeaderEpoch | ErrorCode::NotLeaderOrFollower => {
                self.is_sent_away = true;
                return self.drop_position(id);
            }
            ErrorCode::KafkaStorageError if ctx.model.offline => return self.drop_position(id),
            error => panic!("{id:?}: {error:?}"),
        }
        let floor = if relaxed { 0 } else { wanted.floor };
        ctx.model.on_high_watermark(id, data.high_watermark, floor, ctx.now);
        let wall_ms = ctx.wall_ms();
        // Told from version 5 on.
        if data.log_start_offset >= 0 {
            ctx.model.on_log_start(id, data.log_start_offset, wanted.start, wall_ms);
        }
        if data.diverging_epoch.end_offset >= 0 {
            assert!(
                relaxed,
                "{id:?} at {} after epoch {} was cut to {:?}",
                position.offset, position.last_fetched_epoch, data.diverging_epoch
            );
            return self.drop_position(id);
        }
        let compacted = ctx.model.topics.get(&id.topic).is_some_and(|topic| ctx.model.is_compacted(&topic.name));
        let everything = self.everything;
        let bytes = data.records.0.concat();
        for batch in record::batches(&bytes) {
            let (at, header) = batch.expect("only whole batches are sent");
            let batch = &bytes[at..at + header.size()];
            assert!(record::check_crc(batch), "{id:?} {}: damaged bytes were sent", header.base_offset);
            assert!(header.last_offset() < data.high_watermark, "{id:?} {} is not durable", header.last_offset());
            position.last_fetched_epoch = header.partition_leader_epoch;
            for record in record::records(batch, 1 << 20).expect("it opens") {
                let record = record.expect("it reads");
                if record.offset < position.offset {
                    continue;
                }
                let identity = record.headers.first().and_then(|header| header.value.clone()).or(record.value);
                if compacted {
                    ctx.model.miss(id, position.offset..record.offset);
                    let partition = ctx.model.partition(id).expect("known");
                    partition.survivors.extend(everything.then_some(record.offset));
                    position.offset = record.offset;
                }
                assert!(record.offset == position.offset, "{id:?}: {} follows {}", record.offset, position.offset);
                position.offset += 1;
                let value = identity.expect("every value is set");
                let value = u64::from_be_bytes(value[..8].try_into().expect("8 bytes"));
                ctx.model.place(id, record.offset, value);
                ctx.model.read += 1;
            }
            ctx.model.miss(id, position.offset..header.next_offset());
            assert!(compacted || position.offset == header.next_offset(), "{id:?}: a batch lacks records");
            position.offset = position.offset.max(header.next_offset());
        }
    }

    fn drop_position(&mut self, id: PartitionId) {
        if let Some(position) = self.positions.remove(&id) {
            self.forgotten.push((position.name, id));
        }
    }

    /// A parked fetch is answered because data came, not because its time was up.
    fn check_patience(&self, ctx: &mut Ctx, asked: &Asked<Ask>, wanted: &[Wanted]) {
        let Some(patience_us) = ctx.patience_us.filter(|_| self.min_bytes <= 1) else { return };
        let now = ctx.now;
        for wanted in wanted.iter().filter(|wanted| ctx.model.lives(wanted.id.topic)).cloned().collect::<Vec<_>>() {
            let since = ctx.model.partition(wanted.id).and_then(|partition| partition.visible_since(wanted.offset));
            let Some(since) = since.map(|since| since.max(asked.sent_at)) else { continue };
            assert!(
                now <= since + patience_us,
                "{:?}: a fetch from {} was answered {} us after there was data",
                wanted.id,
                wanted.offset,
                now - since
            );
        }
    }

    fn on_offset(&mut self, ctx: &mut Ctx, asked: &Asked<Ask>, wanted: &Wanted, timestamp: Timestamp, frame: &[u8]) {
        let (_, response) = decode_response::<ListOffsetsResponse>(frame, asked.version).expect("it reads");
        let answer = &response.topics[0].partitions[0];
        let id = wanted.id;
        let relaxed = ctx.model.topics.get(&id.topic).is_none_or(|topic| topic.relaxed);
        if answer.error_code != 0 || relaxed || !ctx.model.is_stable(id.topic, self.told_at) {
            let rotten = ctx.model.partition(id).is_some_and(|partition| !partition.rotten.is_empty());
            assert!(rotten || answer.error_code != ErrorCode::CorruptMessage.code());
            assert!(ctx.model.offline || answer.error_code != ErrorCode::KafkaStorageError.code());
            return;
        }
        if timestamp == EARLIEST {
            let wall_ms = ctx.wall_ms();
            ctx.model.on_log_start(id, answer.offset, wanted.start, wall_ms);
            if let Some(position) = self.positions.get_mut(&id)
                && position.offset < answer.offset
            {
                (position.offset, position.last_fetched_epoch) = (answer.offset, -1);
            }
            return;
        }
        let floor = wanted.floor;
        let compacted = ctx.model.topics.get(&id.topic).is_some_and(|topic| ctx.model.is_compacted(&topic.name));
        let cleaned = ctx.model.loses_records(id) || compacted;
        let model = &*ctx.model;
        let partition = &model.topics[&id.topic].partitions[id.index as usize];
        let when = |offset: &Offset| partition.values.get(offset).map(|value| model.sent[value].timestamp);
        let known = |end: Offset| partition.values.range(..end).map(|(_, value)| model.sent[value].timestamp);
        if !partition.rotten.is_empty() {
            return;
        }
        match timestamp {
            -1 => assert!(answer.offset >= floor, "{id:?}: the end went back from {floor} to {}", answer.offset),
            // What is gone by now may or may not have been there when the answer was made.
            _ if cleaned => assert!(answer.offset < 0 || answer.offset >= wanted.start, "{id:?}: {answer:?}"),
            -3 => {
                let largest = known(floor).max();
                assert!(Some(answer.timestamp) >= largest, "{id:?}: {answer:?}, but {largest:?} is known");
                assert!(answer.offset < 0 || when(&answer.offset).is_none_or(|when| when == answer.timestamp));
            }
            timestamp if answer.offset >= 0 => {
                assert!(answer.timestamp >= timestamp);
                let earlier = known(answer.offset).max();
                assert!(earlier < Some(timestamp), "{id:?}: {answer:?} for {timestamp}, but {earlier:?} is before it");
                assert!(when(&answer.offset).is_none_or(|when| when == answer.timestamp), "{id:?}: {answer:?}");
            }
            timestamp => {
                let largest = known(floor).max();
                assert!(largest < Some(timestamp), "{id:?}: nothing for {timestamp}, but {largest:?} is known");
            }
        }
    }

    /// It reads everything, and a core sent it away that had not heard of its own epoch yet.
    fn lacks_some(&self) -> bool {
        self.everything && self.is_sent_away
    }

    fn at_the_ends(&self, ctx: &Ctx) -> bool {
        self.positions.iter().all(|(id, position)| position.offset >= ctx.model.floor(*id))
    }
}

impl Client for Consumer {
    fn name(&self) -> &'static str {
        "consumer"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        if !self.line.up {
            return ctx.actions.push(Action::Connect);
        }
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.line.up = true;
        self.start_over(ctx);
    }

    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]) {
        let asked = self.line.take(frame);
        match &asked.ask {
            Ask::Metadata => {
                let topics = told(ctx, &asked, frame);
                self.told_at = asked.sent_at;
                for (name, id, leader_epoch) in partitions(&topics) {
                    let end = ctx.model.floor(id);
                    let position = Position {
                        name,
                        offset: if self.everything || ctx.chance.one_in(2) {
                            0
                        } else {
                            ctx.chance.below(end as u64 + 1) as i64
                        },
                        leader_epoch,
                        last_fetched_epoch: -1,
                        in_session: None,
                    };
                    if self.everything || ctx.chance.one_in(2) {
                        self.positions.insert(id, position);
                    }
                }
            }
            Ask::Fetch(wanted) => self.on_fetched(ctx, &asked, wanted, frame),
            Ask::Offsets(wanted, timestamp) => self.on_offset(ctx, &asked, wanted, *timestamp, frame),
            Ask::Epoch(wanted) => {
                let (_, response) = decode_response::<OffsetForLeaderEpochResponse>(frame, 4).expect("it reads");
                let answer = &response.topics[0].partitions[0];
                let certain = answer.error_code == 0 && ctx.model.is_stable(wanted.id.topic, self.told_at);
                assert!(!certain || answer.end_offset <= i64::MAX / 2);
            }
        }
        ctx.wake_in(self.pause_us / 2, self.pause_us);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        self.line.cut();
        ctx.wake_in(1_000, 20_000);
    }

    fn is_settled(&self, ctx: &mut Ctx) -> bool {
        if let (Some(patience), Some(oldest)) = (ctx.patience_us, self.line.oldest())
            && let Ask::Fetch(wanted) = &oldest.ask
            && ctx.now > oldest.sent_at + patience
        {
            self.check_patience(ctx, oldest, wanted);
        }
        self.line.up
            && (!self.everything || (!self.positions.is_empty() && !self.lacks_some() && self.at_the_ends(ctx)))
    }
}
