//! What all simulated clients share: real frames out, real frames in, in request order; and the little world they see.

use std::collections::VecDeque;
use std::fmt::Debug;

use bytes::Bytes;
use gannet::protocol::metadata::MetadataRequest;
use gannet::protocol::{Message, MetadataResponse, decode_response, encode_request};
use gannet::types::{PartitionId, TopicId};

use crate::chance::Chance;
use crate::model::Model;

pub enum Action {
    Connect,
    Send(Bytes),
    Close,
    /// The former alarm, if any, is off.
    Wake(u64),
}

pub struct Ctx<'a> {
    pub now: u64,
    pub chance: &'a mut Chance,
    pub model: &'a mut Model,
    pub actions: Vec<Action>,
    /// Faults have ended: nothing new is begun, what was begun is brought to its end.
    pub settling: bool,
    /// How long after data became visible a parked fetch may take; `None` where the disk is slow.
    pub patience_us: Option<u64>,
    /// Counts the lives of the node; when the present one began, and when the one before it ended.
    pub life: u64,
    pub born_at: u64,
    pub died_at: u64,
}

pub const WALL_MS: i64 = 1_700_000_000_000;

impl Ctx<'_> {
    pub fn wall_ms(&self) -> i64 {
        WALL_MS + self.now as i64 / 1000
    }

    pub fn wake_in(&mut self, low_us: u64, high_us: u64) {
        let at = self.now + self.chance.between(low_us, high_us);
        self.actions.push(Action::Wake(at));
    }
}

pub trait Client {
    fn name(&self) -> &'static str;
    fn on_wake(&mut self, ctx: &mut Ctx);
    fn on_connected(&mut self, ctx: &mut Ctx);
    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]);
    fn on_closed(&mut self, ctx: &mut Ctx);
    /// Nothing is left to be brought to an end.
    fn is_settled(&self, ctx: &mut Ctx) -> bool;
}

/// One connection's requests that wait for their answers.
pub struct Line<Ask> {
    pub up: bool,
    correlation: i32,
    asked: VecDeque<Asked<Ask>>,
}

pub struct Asked<Ask> {
    correlation: i32,
    pub version: i16,
    pub sent_at: u64,
    pub ask: Ask,
}

impl<Ask: Debug> Line<Ask> {
    pub fn new() -> Line<Ask> {
        Line { up: false, correlation: 0, asked: VecDeque::new() }
    }

    pub fn send<'m, M: Message<'m>>(&mut self, ctx: &mut Ctx, request: &M, version: i16, ask: Ask) {
        let correlation = self.correlation;
        self.asked.push_back(Asked { correlation, version, sent_at: ctx.now, ask });
        self.send_unanswered(ctx, request, version);
    }

    /// acks=0: there will be no answer.
    pub fn send_unanswered<'m, M: Message<'m>>(&mut self, ctx: &mut Ctx, request: &M, version: i16) {
        let frame = encode_request(request, version, self.correlation, Some("sim")).concat();
        self.correlation += 1;
        ctx.actions.push(Action::Send(frame.into()));
    }

    /// The request that this frame answers: the oldest, or the order of the connection is broken.
    pub fn take(&mut self, frame: &[u8]) -> Asked<Ask> {
        let correlation = i32::from_be_bytes(frame[..4].try_into().expect("4 bytes"));
        let asked = self.asked.pop_front().expect("an answer nobody asked for");
        assert!(asked.correlation == correlation, "{:?} is due, an answer to {correlation} came", asked.correlation);
        asked
    }

    pub fn oldest(&self) -> Option<&Asked<Ask>> {
        self.asked.front()
    }

    pub fn in_flight(&self) -> usize {
        self.asked.len()
    }

    /// Everything that was asked stays without an answer.
    pub fn cut(&mut self) -> VecDeque<Asked<Ask>> {
        self.up = false;
        std::mem::take(&mut self.asked)
    }

    pub fn ask_metadata(&mut self, ctx: &mut Ctx, ask: Ask) {
        let version = ctx.chance.between(10, 13) as i16;
        self.send(ctx, &MetadataRequest { topics: None, ..Default::default() }, version, ask);
    }
}

/// A topic as Metadata tells it.
#[derive(Clone, Debug)]
pub struct Told {
    pub name: String,
    pub id: TopicId,
    pub epochs: Vec<i32>,
}

/// Reads a Metadata response and holds it against what was acknowledged before it was asked for.
pub fn told<Ask>(ctx: &mut Ctx, asked: &Asked<Ask>, frame: &[u8]) -> Vec<Told> {
    let (_, response) = decode_response::<MetadataResponse>(frame, asked.version).expect("a Metadata response reads");
    for topic in &response.topics {
        for partition in topic.partitions.iter().filter(|partition| partition.leader_id >= 0) {
            let id = PartitionId { topic: topic.topic_id, index: partition.partition_index };
            let owner = id.owner(response.brokers.len() as u16);
            let node = &response.brokers[usize::from(owner.0)];
            assert!(partition.leader_id == node.node_id, "{id:?} is led by {}: {response:?}", partition.leader_id);
            assert!(node.port == crate::start::PORT + i32::from(owner.0), "{response:?}");
            assert!(partition.replica_nodes == [node.node_id] && partition.isr_nodes == [node.node_id], "{response:?}");
        }
    }
    let topics: Vec<_> = response
        .topics
        .iter()
        .filter(|topic| !topic.is_internal)
        .map(|topic| Told {
            name: topic.name.expect("listed with its name").to_owned(),
            id: topic.topic_id,
            epochs: topic.partitions.iter().map(|partition| partition.leader_epoch).collect(),
        })
        .collect();
    for (id, topic) in &ctx.model.topics {
        let listed = topics.iter().find(|told| told.id == *id);
        if ctx.model.is_stable(*id, asked.sent_at) {
            let listed = listed.unwrap_or_else(|| panic!("{} {id} is not in the metadata", topic.name));
            assert!(listed.epochs.len() >= topic.partitions.len(), "{} lacks partitions", topic.name);
        }
        let gone = topic.deleted_at.is_some_and(|deleted| deleted <= asked.sent_at);
        assert!(listed.is_none() || !gone, "{} {id} was deleted", topic.name);
    }
    topics
}

/// Partitions of all topics that were told.
pub fn partitions(topics: &[Told]) -> Vec<(String, PartitionId, i32)> {
    let of = |topic: &Told| {
        let each = topic.epochs.clone().into_iter().enumerate();
        let (name, id) = (topic.name.clone(), topic.id);
        each.map(move |(index, epoch)| (name.clone(), PartitionId { topic: id, index: index as i32 }, epoch))
            .collect::<Vec<_>>()
    };
    topics.iter().flat_map(of).collect()
}
