//! The one client that creates, enlarges, cuts and deletes topics and changes their settings, one after the other. What
//! stays without an answer is asked again until it is known what became of it.

use std::collections::{BTreeMap, BTreeSet};

use gannet::error_code::ErrorCode;
use gannet::protocol::alter_client_quotas::*;
use gannet::protocol::create_partitions::*;
use gannet::protocol::create_topics::*;
use gannet::protocol::decode_response;
use gannet::protocol::delete_records::*;
use gannet::protocol::delete_topics::*;
use gannet::protocol::describe_configs::*;
use gannet::protocol::incremental_alter_configs::*;
use gannet::types::{Offset, PartitionId, TopicId};

use crate::client::{Action, Client, Ctx, Line, told};

#[derive(Clone, Debug, PartialEq)]
enum Ask {
    Metadata,
    Create {
        name: String,
        partitions: i32,
    },
    Delete {
        name: String,
        id: TopicId,
    },
    Enlarge {
        name: String,
        id: TopicId,
        count: i32,
    },
    Quota {
        key: &'static str,
        value: Option<f64>,
    },
    /// Deletes the records before an offset.
    Cut {
        name: String,
        id: PartitionId,
        to: Offset,
    },
    Configure {
        name: String,
        id: TopicId,
        key: &'static str,
        value: &'static str,
    },
    Describe {
        name: String,
        id: TopicId,
    },
}

/// Settings that change while everything goes on, and what they may be.
const SETTINGS: [(&str, &[&str]); 5] = [
    ("index.interval.bytes", &["0", "900", "4096"]),
    ("min.cleanable.dirty.ratio", &["0.0", "0.5"]),
    ("delete.retention.ms", &["0", "300", "86400000"]),
    ("file.delete.delay.ms", &["0", "40", "3000"]),
    ("segment.ms", &["150", "604800000"]),
];
const TOPIC: i8 = 2;

pub struct Admin {
    line: Line<Ask>,
    deletes: bool,
    quotas: bool,
    /// Quotas that may be set.
    limited: BTreeSet<&'static str>,
    cuts: bool,
    pause_us: u64,
    /// To be asked until it is answered.
    owed: Option<Ask>,
    names: Vec<String>,
    /// What was set, by topic and key.
    settings: BTreeMap<(TopicId, &'static str), &'static str>,
}

impl Admin {
    pub fn new(ctx: &mut Ctx, deletes: bool, quotas: bool, cuts: bool) -> Admin {
        let names = ["a", "orders", "log-2"].map(str::to_owned).to_vec();
        let pause_us = ctx.chance.pick(&[20_000, 100_000, 400_000]);
        Admin {
            line: Line::new(),
            deletes,
            quotas,
            limited: BTreeSet::new(),
            cuts,
            pause_us,
            owed: None,
            names,
            settings: BTreeMap::new(),
        }
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
                self.line.send(ctx, &AlterClientQuotasRequest { entries, validate_only: false }, 1, ask.clone());
            }
            Ask::Cut { name, id, to } => {
                let partition = ctx.model.partition(*id).expect("planned with it");
                partition.cut_to = partition.cut_to.max(*to);
                let partitions = vec![DeleteRecordsPartition { partition_index: id.index, offset: *to }];
                let topics = vec![DeleteRecordsTopic { name, partitions }];
                let version = ctx.chance.between(0, 2) as i16;
                let request = DeleteRecordsRequest { topics, timeout_ms: 20_000 };
                self.line.send(ctx, &request, version, ask.clone());
            }
            Ask::Configure { name, key, value, .. } => {
                let configs = vec![AlterableConfig { name: key, config_operation: 0, value: Some(value) }];
                let resources = vec![AlterConfigsResource { resource_type: TOPIC, resource_name: name, configs }];
                let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
                self.line.send(ctx, &request, 1, ask.clone());
            }
            Ask::Describe { name, .. } => {
                let resource =
                    DescribeConfigsResource { resource_type: TOPIC, resource_name: name, configuration_keys: None };
                let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
                self.line.send(ctx, &request, 4, ask.clone());
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
        match ctx.chance.below(10) {
            0..2 if self.deletes => Some(Ask::Delete { name, id }),
            2 if count < 6 => Some(Ask::Enlarge { name, id, count: count + 1 }),
            3 => Some(Ask::Metadata),
            // Kafka refuses to cut what is compacted.
            4 if self.cuts && !ctx.model.is_compacted(&name) && !Admin::is_relaxed(&name) => {
                let id = PartitionId { topic: id, index: ctx.chance.below(count as u64) as i32 };
                let to = ctx.model.floor(id);
                (to > 0).then(|| Ask::Cut { name, id, to: ctx.chance.between(1, to as u64) as i64 })
            }
            5 | 6 => {
                let (key, values) = ctx.chance.pick(&SETTINGS);
                Some(Ask::Configure { name, id, key, value: ctx.chance.pick(values) })
            }
            7 => Some(Ask::Describe { name, id }),
            _ => None,
        }
    }

    fn on_cut(&self, ctx: &mut Ctx, id: PartitionId, to: Offset, frame: &[u8], version: i16) {
        let (_, response) = decode_response::<DeleteRecordsResponse>(frame, version).expect("it reads");
        let answer = &response.topics[0].partitions[0];
        if answer.error_code == ErrorCode::KafkaStorageError.code() && ctx.model.offline {
            return;
        }
        assert!(answer.error_code == 0, "cutting {id:?} to {to}: {answer:?}");
        assert!(answer.low_watermark >= to, "{id:?} was cut to {to}, and starts at {}", answer.low_watermark);
        let wall_ms = ctx.wall_ms();
        ctx.model.on_log_start(id, answer.low_watermark, 0, wall_ms);
        ctx.model.cuts += 1;
    }

    fn check_settings(&self, id: TopicId, name: &str, frame: &[u8]) {
        let (_, response) = decode_response::<DescribeConfigsResponse>(frame, 4).expect("it reads");
        let rows = &response.results[0].configs;
        for ((_, key), value) in self.settings.iter().filter(|((of, _), _)| *of == id) {
            let told = rows.iter().find(|row| row.name == *key).and_then(|row| row.value);
            assert!(told == Some(value), "{name}: {key} was set to {value}, and is {told:?}");
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
            Ask::Cut { id, to, .. } => self.on_cut(ctx, *id, *to, frame, asked.version),
            Ask::Configure { name, id, key, value } => {
                let (_, response) = decode_response::<IncrementalAlterConfigsResponse>(frame, 1).expect("it reads");
                let answer = &response.responses[0];
                assert!(answer.error_code == 0, "setting {key} of {name} to {value}: {answer:?}");
                self.settings.insert((*id, key), value);
            }
            Ask::Describe { name, id } => self.check_settings(*id, name, frame),
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
