//! FindCoordinator: which node coordinates a group. The first one to ask brings `__consumer_offsets` into being.

use super::{OFFSETS_TOPIC, PartitionId, partition_of_group};
use crate::coordinator::{ControllerRequest, NewTopic};
use crate::error_code::ErrorCode;
use crate::protocol::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::protocol::{DecodeError, Reader};
use crate::shard::connection::Caller;
use crate::shard::topics::PendingCall;
use crate::shard::{Effect, Shard};
use crate::types::Time;

/// First version that asks for several at once (KIP-699).
const SEVERAL_FROM_VERSION: i16 = 4;

/// What a FindCoordinator request asks, owned so that the question can wait for the topic.
#[derive(Clone, Debug)]
pub(in crate::shard) struct WantedCoordinators {
    key_type: i8,
    keys: Vec<String>,
}

struct Found {
    node_id: i32,
    host: String,
    port: i32,
}

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

impl Shard {
    pub(in crate::shard) fn on_find_coordinator(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = FindCoordinatorRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let keys = match caller.api_version {
            SEVERAL_FROM_VERSION.. => request.coordinator_keys.iter().map(|key| (*key).to_owned()).collect(),
            _ => vec![request.key.to_owned()],
        };
        let wanted = WantedCoordinators { key_type: request.key_type, keys };
        if request.key_type == GROUP && self.image.topic(OFFSETS_TOPIC).is_none() {
            let request = self.offsets_topic();
            self.call_controller(now, PendingCall::Coordinators(caller, wanted), request, effects);
        } else {
            self.answer_find_coordinator(caller, &wanted, effects);
        }
        Ok(())
    }

    /// The topic in which groups are kept, as Kafka sets it up. A cluster that is smaller than the replicas asked for
    /// keeps as many as it can.
    fn offsets_topic(&self) -> ControllerRequest {
        let config = &self.config.group;
        let brokers = self.image.brokers().filter(|broker| !broker.fenced).count().max(1);
        let replicas = (config.offsets_topic_replication_factor as usize).min(brokers);
        let setting = |key: &str, value: String| (key.to_owned(), Some(value));
        let topic = NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: config.offsets_topic_partitions,
            replication_factor: replicas as i16,
            assignments: Vec::new(),
            configs: vec![
                setting("cleanup.policy", "compact".to_owned()),
                setting("compression.type", "producer".to_owned()),
                setting("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
            ],
        };
        ControllerRequest::CreateTopics { topics: vec![topic], validate_only: false }
    }

    pub(in crate::shard) fn answer_find_coordinator(
        &mut self,
        caller: Caller,
        wanted: &WantedCoordinators,
        effects: &mut Vec<Effect>,
    ) {
        let found: Vec<_> = wanted.keys.iter().map(|key| self.find(caller, wanted.key_type, key)).collect();
        let rows = wanted.keys.iter().zip(&found).map(|(key, found)| match found {
            Ok(Found { node_id, host, port }) => {
                Coordinator { key, node_id: *node_id, host, port: *port, error_code: 0, error_message: None }
            }
            Err((error_code, message)) => Coordinator {
                key,
                node_id: -1,
                host: "",
                port: -1,
                error_code: error_code.code(),
                error_message: Some(message),
            },
        });
        let coordinators: Vec<Coordinator> = rows.collect();
        let mut response = FindCoordinatorResponse { coordinators, ..Default::default() };
        if let Some(first) =
            response.coordinators.first().cloned().filter(|_| caller.api_version < SEVERAL_FROM_VERSION)
        {
            (response.error_code, response.error_message) = (first.error_code, first.error_message);
            (response.node_id, response.host, response.port) = (first.node_id, first.host, first.port);
        }
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    fn find(&self, caller: Caller, key_type: i8, key: &str) -> Result<Found, (ErrorCode, &'static str)> {
        match key_type {
            GROUP => {}
            TRANSACTION => {
                return Err((ErrorCode::CoordinatorNotAvailable, "this broker does not coordinate transactions yet"));
            }
            _ => return Err((ErrorCode::InvalidRequest, "this broker coordinates groups only")),
        }
        let unavailable = |message| (ErrorCode::CoordinatorNotAvailable, message);
        let topic = self
            .image
            .topic(OFFSETS_TOPIC)
            .ok_or(unavailable("__consumer_offsets could not be created: see the log"))?;
        let index = partition_of_group(key, topic.partitions.len() as i32);
        let id = PartitionId { topic: topic.id, index };
        let leader = self.image.partition(id).and_then(|state| self.offline.leader_of(id, state));
        let leader = leader.ok_or(unavailable("the group's partition of __consumer_offsets has no leader"))?;
        let nodes = self.image.nodes(self.listener_of(caller));
        let node = nodes.get(nodes.of(leader, id));
        let node = node.ok_or(unavailable("the coordinator has no listener of this name"))?;
        Ok(Found { node_id: node.id, host: node.endpoint.host.to_string(), port: i32::from(node.endpoint.port) })
    }
}
