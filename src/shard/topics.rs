//! CreateTopics, DeleteTopics, CreatePartitions and InitProducerId, on the core that the client is connected to: the
//! request becomes the controller's, goes to shard 0, and the answer comes back when it is in force on every core.

use super::connection::Caller;
use super::groups::WantedCoordinators;
use super::metadata::WantedTopics;
use super::{Effect, Message, Shard, ShardId, Ticket};
use crate::config;
use crate::coordinator::{
    ControllerReply, ControllerRequest, CreateTopicResult, CreatedTopic, NewPartitions, NewTopic, ProducerIdBlock,
    Refusal, TopicReference,
};
use crate::error_code::ErrorCode;
use crate::protocol::create_partitions::*;
use crate::protocol::create_topics::*;
use crate::protocol::delete_topics::*;
use crate::protocol::{DecodeError, InitProducerIdRequest, InitProducerIdResponse, Reader};
use crate::types::{BrokerId, Map, ProducerEpoch, ProducerId, Time};

#[derive(Default)]
pub(super) struct TopicCalls {
    pending: Map<Ticket, PendingCall>,
    /// Producer ids that this core may give out.
    ids: Option<ProducerIdBlock>,
    /// Producers that wait for the next block of ids.
    waiting_for_ids: Vec<Caller>,
}

pub(super) enum PendingCall {
    Client(Caller),
    /// Metadata that names topics which are being created because of it.
    Metadata(Caller, WantedTopics),
    /// FindCoordinator, while the topic that groups are kept in is being created.
    Coordinators(Caller, WantedCoordinators),
    ProducerIds,
}

impl Shard {
    pub(super) fn on_create_topics(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = CreateTopicsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let topics = request.topics.iter().map(|topic| NewTopic {
            name: topic.name.to_owned(),
            partitions: topic.num_partitions,
            replication_factor: topic.replication_factor,
            assignments: topic
                .assignments
                .iter()
                .map(|a| (a.partition_index, self.brokers_of(&a.broker_ids)))
                .collect(),
            configs: topic.configs.iter().map(|c| (c.name.to_owned(), c.value.map(str::to_owned))).collect(),
        });
        let request =
            ControllerRequest::CreateTopics { topics: topics.collect(), validate_only: request.validate_only };
        self.ask_controller(now, caller, request, effects);
        Ok(())
    }

    pub(super) fn on_delete_topics(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DeleteTopicsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let named = request.topic_names.iter().map(|name| TopicReference::by_name(*name));
        let stated = request
            .topics
            .iter()
            .map(|topic| TopicReference { name: topic.name.map(str::to_owned), id: topic.topic_id });
        let topics = named.chain(stated).collect();
        self.ask_controller(now, caller, ControllerRequest::DeleteTopics { topics }, effects);
        Ok(())
    }

    pub(super) fn on_create_partitions(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = CreatePartitionsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let topics = request.topics.iter().map(|topic| NewPartitions {
            name: topic.name.to_owned(),
            count: topic.count,
            assignments: topic
                .assignments
                .as_ref()
                .map(|assignments| assignments.iter().map(|a| self.brokers_of(&a.broker_ids)).collect()),
        });
        let (topics, validate_only) = (topics.collect(), request.validate_only);
        let request = ControllerRequest::CreatePartitions { topics, validate_only };
        self.ask_controller(now, caller, request, effects);
        Ok(())
    }

    /// A place for a replica is a broker; which of its cores owns the partition is not for clients to choose.
    fn brokers_of(&self, nodes: &[BrokerId]) -> Vec<BrokerId> {
        nodes.iter().map(|id| self.image.broker_of_node(*id).map_or(*id, |broker| broker.id)).collect()
    }

    /// A client named topics that do not exist, and `auto.create.topics.enable` lets that create them.
    pub(super) fn create_automatically(
        &mut self,
        now: Time,
        caller: Caller,
        names: Vec<String>,
        wanted: WantedTopics,
        effects: &mut Vec<Effect>,
    ) {
        let topics = names.into_iter().map(|name| NewTopic {
            name,
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        });
        let request = ControllerRequest::CreateTopics { topics: topics.collect(), validate_only: false };
        self.call_controller(now, PendingCall::Metadata(caller, wanted), request, effects);
    }

    pub(super) fn on_init_producer_id(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = InitProducerIdRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let (known, epoch) = (request.producer_id >= 0, request.producer_epoch);
        if request.transactional_id.is_some() {
            // Transactions need a coordinator, which FindCoordinator would have named: it is not offered.
            self.answer_init_producer_id(caller, Err(ErrorCode::InvalidRequest), effects);
        } else if known != (epoch >= 0) {
            self.answer_init_producer_id(caller, Err(ErrorCode::InvalidRequest), effects);
        } else {
            // Without a transactional id a new identity is as good as the next epoch of the old one (KIP-360).
            self.topics.waiting_for_ids.push(caller);
            self.give_out_ids(now, effects);
        }
        Ok(())
    }

    fn give_out_ids(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(&caller) = self.topics.waiting_for_ids.first() {
            match &mut self.topics.ids {
                Some(block) if block.count > 0 => {
                    let id = block.first;
                    (block.first, block.count) = (id + 1, block.count - 1);
                    self.topics.waiting_for_ids.remove(0);
                    self.answer_init_producer_id(caller, Ok((id, 0)), effects);
                }
                _ => {
                    let asked = |call: &PendingCall| matches!(call, PendingCall::ProducerIds);
                    if !self.topics.pending.values().any(asked) {
                        let request = ControllerRequest::AllocateProducerIds { broker: self.config.node_id };
                        self.call_controller(now, PendingCall::ProducerIds, request, effects);
                    }
                    return;
                }
            }
        }
    }

    fn answer_init_producer_id(
        &mut self,
        caller: Caller,
        outcome: Result<(ProducerId, ProducerEpoch), ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        let (producer_id, producer_epoch) = outcome.unwrap_or((-1, -1));
        let error_code = outcome.err().unwrap_or(ErrorCode::None).code();
        let response = InitProducerIdResponse { error_code, producer_id, producer_epoch, ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    /// The controller's reply becomes the response.
    pub(super) fn ask_controller(
        &mut self,
        now: Time,
        caller: Caller,
        request: ControllerRequest,
        effects: &mut Vec<Effect>,
    ) {
        self.call_controller(now, PendingCall::Client(caller), request, effects);
    }

    pub(super) fn call_controller(
        &mut self,
        now: Time,
        call: PendingCall,
        request: ControllerRequest,
        effects: &mut Vec<Effect>,
    ) {
        let ticket = self.token();
        self.topics.pending.insert(ticket, call);
        let controller = ShardId(0);
        if self.id == controller {
            self.on_control(now, controller, ticket, request, effects);
        } else {
            effects.push(Effect::Send { to: controller, message: Message::Control { ticket, request } });
        }
    }

    /// What was decided is in force on every core.
    pub(super) fn on_controlled(
        &mut self,
        now: Time,
        ticket: Ticket,
        reply: ControllerReply,
        effects: &mut Vec<Effect>,
    ) {
        let Some(call) = self.topics.pending.remove(&ticket) else { return };
        match (call, reply) {
            (PendingCall::Metadata(caller, wanted), _) => self.answer_metadata(caller, &wanted, effects),
            (PendingCall::Coordinators(caller, wanted), _) => self.answer_find_coordinator(caller, &wanted, effects),
            (PendingCall::ProducerIds, ControllerReply::AllocateProducerIds(Ok(block))) => {
                self.topics.ids = Some(block);
                self.give_out_ids(now, effects);
            }
            (PendingCall::ProducerIds, ControllerReply::AllocateProducerIds(Err(refusal))) => {
                for caller in std::mem::take(&mut self.topics.waiting_for_ids) {
                    self.answer_init_producer_id(caller, Err(refusal.error_code), effects);
                }
            }
            (PendingCall::Client(caller), reply) => self.answer_controlled(caller, &reply, effects),
            (PendingCall::ProducerIds, reply) => panic!("producer ids were asked for, not {reply:?}"),
        }
    }

    fn answer_controlled(&mut self, caller: Caller, reply: &ControllerReply, effects: &mut Vec<Effect>) {
        let version = caller.api_version;
        match reply {
            ControllerReply::CreateTopics(results) => {
                let settings: Vec<_> = results.iter().map(|result| self.settings_of_created(result)).collect();
                let topics = results.iter().zip(&settings).map(|(result, settings)| created(result, settings));
                let response = CreateTopicsResponse { topics: topics.collect(), ..Default::default() };
                self.respond(caller, effects, |writer| response.encode(writer, version));
            }
            ControllerReply::DeleteTopics(results) => {
                // Versions before 3 do not know the code for a broker that deletes nothing.
                let known = |error_code| match error_code {
                    disabled if version < 3 && disabled == ErrorCode::TopicDeletionDisabled.code() => {
                        ErrorCode::InvalidRequest.code()
                    }
                    error_code => error_code,
                };
                let responses = results.iter().map(|result| DeletableTopicResult {
                    name: result.name.as_deref(),
                    topic_id: result.id,
                    error_code: known(code(&result.outcome)),
                    error_message: message(&result.outcome),
                });
                let response = DeleteTopicsResponse { responses: responses.collect(), ..Default::default() };
                self.respond(caller, effects, |writer| response.encode(writer, version));
            }
            ControllerReply::CreatePartitions(results) => {
                let results = results.iter().map(|result| CreatePartitionsTopicResult {
                    name: &result.name,
                    error_code: code(&result.outcome),
                    error_message: message(&result.outcome),
                });
                let response = CreatePartitionsResponse { results: results.collect(), ..Default::default() };
                self.respond(caller, effects, |writer| response.encode(writer, version));
            }
            ControllerReply::AlterConfigs(results) => self.answer_alter_configs(caller, results, effects),
            ControllerReply::AlterQuotas(results) => self.answer_alter_client_quotas(caller, results, effects),
            ControllerReply::UpdateFeatures(outcome) => self.answer_update_features(caller, outcome, effects),
            ControllerReply::AllocateProducerIds(_) | ControllerReply::RegisterBroker { .. } => {
                panic!("no client asks for this by itself")
            }
        }
    }

    fn settings_of_created(&self, result: &CreateTopicResult) -> Vec<config::ConfigEntry> {
        match &result.outcome {
            Ok(topic) => config::describe_topic(&topic.configs, &self.config),
            Err(_) => Vec::new(),
        }
    }
}

fn created<'a>(result: &'a CreateTopicResult, settings: &'a [config::ConfigEntry]) -> CreatableTopicResult<'a> {
    let setting = |entry: &'a config::ConfigEntry| CreatableTopicConfigs {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.is_sensitive,
    };
    match &result.outcome {
        Ok(CreatedTopic { id, partitions, replication_factor, .. }) => CreatableTopicResult {
            name: &result.name,
            topic_id: *id,
            num_partitions: *partitions,
            replication_factor: *replication_factor,
            configs: Some(settings.iter().map(setting).collect()),
            ..Default::default()
        },
        Err(refusal) => CreatableTopicResult {
            name: &result.name,
            error_code: refusal.error_code.code(),
            error_message: Some(&refusal.message),
            configs: Some(Vec::new()),
            ..Default::default()
        },
    }
}

fn code<T>(outcome: &Result<T, Refusal>) -> i16 {
    outcome.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.error_code).code()
}

fn message<T>(outcome: &Result<T, Refusal>) -> Option<&str> {
    outcome.as_ref().err().map(|refusal| refusal.message.as_str())
}
