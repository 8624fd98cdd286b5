//! The one client that creates, enlarges and deletes topics, one after the other. What stays without an answer is asked
//! again until it is known what became of it.

use std::collections::BTreeSet;

use gannet::error_code::ErrorCode;
use gannet::protocol::alter_client_quotas::*;
use gannet::protocol::create_partitions::*;
use gannet::protocol::create_topics::*;
use gannet::protocol::decode_response;
use gannet::protocol::delete_topics::*;
use gannet::types::TopicId;

use crate::client::{Action, Client, Ctx, Line, told};

#[derive(Clone, Debug, PartialEq)]
enum Ask {
    Metadata,
    Create { name: String, partitions: i32 },
    Delete { name: String, id: TopicId },
    Enlarge { name: String, id: TopicId, count: i32 },
    Quota { key: &'static str, value: Option<f64> },
}

pub struct Admin {
    line: Line<Ask>,
    deletes: bool,
    quotas: bool,
    /// Quotas that may be set.
    limited: BTreeSet<&'static str>,
    pause_us: u64,
    /// To be asked until it is answered.
    owed: Option<Ask>,
    names: Vec<String>,
}

impl Admin {
    pub fn new(ctx: &mut Ctx, deletes: bool, quotas: bool) -> Admin {
        let names = ["a", "orders", "log-2"].map(str::to_owned).to_vec();
        let pause_us = ctx.chance.pick(&[20_000, 100_000, 400_000]);
        Admin { line: Line::new(), deletes, quotas, limited: BTreeSet::new(), pause_us, owed: None, names }
    }

    fn is_relaxed(name: &str) -> bool {
        name == "log-2"
    }

    fn id_of(ctx: &Ctx, name: &str) -> Option<(TopicId, i32)> {
        let lives = |topic: &&(&TopicId, &crate::model::Topic)| topic.1.name == name && ctx.model.lives(*topic.0);
        let (id, topic) = ctx.model.topics.iter().find(|topic| lives(&topic))?;
        Some((*id, topic.partitions.len() as i32))
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        if !self.line.up || self.line.in_flight() > 0 {
            return;
        }
        if self.owed.is_none() {
            self.owed = self.plan(ctx);
        }
        let Some(ask) = self.owed.clone() else {
            return ctx.wake_in(self.pause_us / 2, self.pause_us * 2);
        };
        match &ask {
            Ask::Metadata => self.line.ask_metadata(ctx, ask),
            Ask::Create { name, partitions } => {
                let relaxing = CreatableTopicConfig { name: "flush.messages", value: Some("1000") };
                let compacting = CreatableTopicConfig { name: "cleanup.policy", value: Some("compact") };
                let is_compacted = ctx.model.is_compacted(name);
                let topic = CreatableTopic {
                    name,
                    num_partitions: *partitions,
                    replication_factor: -1,
                    assignments: Vec::new(),
                    configs: [(Admin::is_relaxed(name), relaxing), (is_compacted, compacting)]
                        .into_iter()
                        .filter_map(|(applies, config)| applies.then_some(config))
                        .collect(),
                };
                let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
                self.line.send(ctx, &request, 7, ask.clone());
            }
            Ask::Delete { id, .. } => {
                ctx.model.on_delete_asked(*id, ctx.now);
                let topics = vec![DeleteTopicState { name: None, topic_id: *id }];
                let request = DeleteTopicsRequest { topics, ..Default::default() };
                self.line.send(ctx, &request, 6, ask);
            }
            Ask::Enlarge { name, count, .. } => {
                let topics = vec![CreatePartitionsTopic { name, count: *count, assignments: None }];
                let request = CreatePartitionsRequest { topics, ..Default::default() };
                let version = ctx.chance.between(0, 3) as i16;
                self.line.send(ctx, &request, version, ask.clone());
            }
            Ask::Quota { key, value } => {
                self.limited.insert(key);
                let ops = vec![OpData { key, value: value.unwrap_or(0.0), remove: value.is_none() }];
                let entity = vec![EntityData { entity_type: "user", entity_name: None }];
                let entries = vec![AlterEntryData { entity, ops }];
                self.line.send(ctx, &AlterClientQuotasRequest { entries, validate_only: false }, 1, ask);
            }
        }
    }

    fn plan(&self, ctx: &mut Ctx) -> Option<Ask> {
        let missing = self.names.iter().find(|name| Admin::id_of(ctx, name).is_none());
        if let Some(name) = missing {
            return Some(Ask::Create { name: name.clone(), partitions: ctx.chance.between(1, 4) as i32 });
        }
        if ctx.settling {
            return self.limited.first().map(|key| Ask::Quota { key, value: None });
        }
        if self.quotas && ctx.chance.one_in(3) {
            let key = ctx.chance.pick(&["producer_byte_rate", "consumer_byte_rate", "request_percentage"]);
            let value = ctx.chance.pick(&[None, Some(5.0), Some(20_000.0), Some(200_000.0)]);
            return Some(Ask::Quota { key, value: value.filter(|value| *value > 5.0 || key.starts_with("request")) });
        }
        let name = self.names[ctx.chance.below(self.names.len() as u64) as usize].clone();
        let (id, count) = Admin::id_of(ctx, &name).expect("none is missing");
        match ctx.chance.below(6) {
            0 | 1 if self.deletes => Some(Ask::Delete { name, id }),
            2 if count < 6 => Some(Ask::Enlarge { name, id, count: count + 1 }),
            3 => Some(Ask::Metadata),
            _ => None,
        }
    }
}

impl Client for Admin {
    fn name(&self) -> &'static str {
        "admin"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        if !self.line.up {
            return ctx.actions.push(Action::Connect);
        }
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.line.up = true;
        self.go_on(ctx);
    }

    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]) {
        let asked = self.line.take(frame);
        self.owed = None;
        match &asked.ask {
            Ask::Metadata => {
                for topic in told(ctx, &asked, frame) {
                    // Created, but the answer to that was lost.
                    ctx.model.on_topic(
                        topic.id,
                        &topic.name,
                        topic.epochs.len() as i32,
                        Admin::is_relaxed(&topic.name),
                        ctx.now,
                    );
                }
            }
            Ask::Create { name, partitions } => {
                let (_, response) = decode_response::<CreateTopicsResponse>(frame, 7).expect("it reads");
                let result = &response.topics[0];
                match ErrorCode::from_code(result.error_code).expect("a code that is known") {
                    ErrorCode::None => {
                        assert!(result.num_partitions == *partitions);
                        ctx.model.on_topic(result.topic_id, name, *partitions, Admin::is_relaxed(name), ctx.now);
                    }
                    ErrorCode::TopicAlreadyExists => self.owed = Some(Ask::Metadata),
                    error => panic!("creating {name}: {error:?} {:?}", result.error_message),
                }
            }
            Ask::Delete { name, id } => {
                let (_, response) = decode_response::<DeleteTopicsResponse>(frame, 6).expect("it reads");
                match ErrorCode::from_code(response.responses[0].error_code).expect("a code that is known") {
                    ErrorCode::None | ErrorCode::UnknownTopicId => ctx.model.on_deleted(*id, ctx.now),
                    error => panic!("deleting {name}: {error:?}"),
                }
                if ctx.chance.one_in(2) {
                    return self.go_on(ctx);
                }
            }
            Ask::Quota { key, value } => {
                if value.is_none() {
                    self.limited.remove(key);
                }
                let (_, response) = decode_response::<AlterClientQuotasResponse>(frame, 1).expect("it reads");
                assert!(response.entries[0].error_code == 0, "{:?}", response.entries[0].error_message);
            }
            Ask::Enlarge { name, id, count } => {
                let (_, response) =
                    decode_response::<CreatePartitionsResponse>(frame, asked.version).expect("it reads");
                match ErrorCode::from_code(response.results[0].error_code).expect("a code that is known") {
                    ErrorCode::None | ErrorCode::InvalidPartitions => {
                        ctx.model.on_topic(*id, name, *count, Admin::is_relaxed(name), ctx.now);
                    }
                    error => panic!("enlarging {name}: {error:?} {:?}", response.results[0].error_message),
                }
            }
        }
        ctx.wake_in(self.pause_us / 2, self.pause_us * 2);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        self.line.cut();
        ctx.wake_in(100_000, 150_000);
    }

    fn is_settled(&self, ctx: &mut Ctx) -> bool {
        self.owed.is_none()
            && self.limited.is_empty()
            && self.line.in_flight() == 0
            && self.names.iter().all(|name| Admin::id_of(ctx, name).is_some())
    }
}
