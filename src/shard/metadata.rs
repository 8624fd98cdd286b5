//! What the node knows, told to clients: Metadata, DescribeCluster, DescribeTopicPartitions. Any core answers from its image.

use super::connection::Caller;
use super::groups::is_internal_topic;
use super::offline::Offline;
use super::{Effect, Shard};
use crate::coordinator::check_topic_name;
use crate::error_code::ErrorCode;
use crate::metadata::{MetadataImage, Node, Nodes, Topic};
use crate::protocol::describe_cluster::*;
use crate::protocol::describe_topic_partitions::*;
use crate::protocol::metadata::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::{BrokerId, PartitionId, Time, TopicId, Uuid};

/// The topics one Metadata request asks for, owned so that the question can wait for their creation.
#[derive(Clone, Debug)]
pub(super) enum WantedTopics {
    All,
    Named(Vec<WantedTopic>),
}

#[derive(Clone, Debug)]
pub(super) struct WantedTopic {
    pub name: Option<String>,
    pub id: TopicId,
}

/// The facts as clients of one listener are told them.
#[derive(Clone, Copy)]
struct View<'i, 's> {
    image: &'i MetadataImage,
    nodes: &'s Nodes<'i>,
    offline: &'s Offline,
}

/// A partition's replicas as nodes.
struct Replicas {
    leader: Option<BrokerId>,
    replicas: Vec<BrokerId>,
    isr: Vec<BrokerId>,
    offline: Vec<BrokerId>,
}

/// First version in which a topic may be asked for by its id.
const BY_ID_FROM_VERSION: i16 = 12;

impl Shard {
    pub(super) fn on_metadata(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = MetadataRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let wanted = match &request.topics {
            None => WantedTopics::All,
            Some(topics) if topics.is_empty() && caller.api_version == 0 => WantedTopics::All,
            Some(topics) => WantedTopics::Named(
                topics
                    .iter()
                    .map(|topic| {
                        // Java's consumers of a pattern ask by id and leave the name empty.
                        let name = topic.name.filter(|name| !name.is_empty() || topic.topic_id == Uuid::ZERO);
                        WantedTopic { name: name.map(str::to_owned), id: topic.topic_id }
                    })
                    .collect(),
            ),
        };
        let may_create = self.config.auto_create_topics_enable && request.allow_auto_topic_creation;
        let missing: Vec<String> = match &wanted {
            WantedTopics::Named(topics) if may_create => topics
                .iter()
                .filter_map(|topic| topic.name.clone())
                .filter(|name| self.image.topic(name).is_none())
                .collect(),
            _ => Vec::new(),
        };
        if missing.is_empty() {
            self.answer_metadata(caller, &wanted, effects);
        } else {
            self.create_automatically(now, caller, missing, wanted, effects);
        }
        Ok(())
    }

    pub(super) fn answer_metadata(&mut self, caller: Caller, wanted: &WantedTopics, effects: &mut Vec<Effect>) {
        let image = self.image.clone();
        let nodes = image.nodes(self.listener_of(caller));
        let view = View { image: &image, nodes: &nodes, offline: &self.offline };
        let version = caller.api_version;
        let topics = match wanted {
            WantedTopics::All => image.topics().map(|topic| view.topic(topic)).collect(),
            WantedTopics::Named(topics) => topics.iter().map(|wanted| view.wanted(wanted, version)).collect(),
        };
        let brokers = nodes.iter().map(|node| MetadataResponseBroker {
            node_id: node.id,
            host: &node.endpoint.host,
            port: i32::from(node.endpoint.port),
            rack: node.broker.rack.as_deref(),
        });
        let response = MetadataResponse {
            brokers: brokers.collect(),
            cluster_id: Some(image.cluster_id()),
            controller_id: self.config.node_id,
            topics,
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, version));
    }

    pub(super) fn on_describe_cluster(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeClusterRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let image = self.image.clone();
        let nodes = image.nodes(self.listener_of(caller));
        let mut response = DescribeClusterResponse {
            cluster_id: image.cluster_id(),
            controller_id: self.config.node_id,
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
        if request.endpoint_type == 1 {
            response.brokers = nodes.iter().map(described).collect();
        } else {
            response.error_code = ErrorCode::MismatchedEndpointType.code();
            response.error_message = Some("this is a broker's endpoint: ask for brokers, not for controllers");
        }
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(super) fn on_describe_topic_partitions(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeTopicPartitionsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let image = self.image.clone();
        let nodes = image.nodes(self.listener_of(caller));
        let view = View { image: &image, nodes: &nodes, offline: &self.offline };
        let limit = request.response_partition_limit.clamp(1, self.config.max_request_partition_size_limit) as usize;
        let mut names: Vec<&str> = request.topics.iter().map(|topic| topic.name).collect();
        if names.is_empty() {
            names = image.topics().map(|topic| &*topic.name).collect();
        }
        names.sort_unstable();
        names.dedup();
        let (cursor_topic, cursor_partition) =
            request.cursor.as_ref().map_or(("", 0), |cursor| (cursor.topic_name, cursor.partition_index));
        let mut response = DescribeTopicPartitionsResponse::default();
        let mut left = limit;
        for name in names.into_iter().filter(|&name| name >= cursor_topic) {
            let first = if name == cursor_topic { cursor_partition.max(0) as usize } else { 0 };
            let Some(topic) = image.topic(name) else {
                let error_code = ErrorCode::UnknownTopicOrPartition.code();
                let topic = DescribeTopicPartitionsResponseTopic { error_code, name: Some(name), ..Default::default() };
                response.topics.push(topic);
                continue;
            };
            if left == 0 {
                response.next_cursor = Some(Cursor { topic_name: &topic.name, partition_index: first as i32 });
                break;
            }
            let partitions: Vec<_> = topic.partitions.iter().enumerate().skip(first).take(left).collect();
            left -= partitions.len();
            let next = first + partitions.len();
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                name: Some(&topic.name),
                topic_id: topic.id,
                is_internal: is_internal_topic(&topic.name),
                partitions: partitions.into_iter().map(|(index, state)| view.described(topic, index, state)).collect(),
                ..Default::default()
            });
            if next < topic.partitions.len() {
                response.next_cursor = Some(Cursor { topic_name: &topic.name, partition_index: next as i32 });
                break;
            }
        }
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    /// The name of the listener that the client came through: it is told the addresses of the same.
    pub(super) fn listener_of(&self, caller: Caller) -> &str {
        let index = self.connections.get(&caller.connection).map_or(0, |connection| connection.listener);
        let listener = self.config.listeners.get(usize::from(index)).or(self.config.listeners.first());
        listener.map_or("", |listener| &listener.name)
    }
}

impl<'i> View<'i, '_> {
    fn wanted(self, wanted: &'i WantedTopic, version: i16) -> MetadataResponseTopic<'i> {
        let unknown = |error_code: ErrorCode| MetadataResponseTopic {
            error_code: error_code.code(),
            name: wanted.name.as_deref(),
            topic_id: wanted.id,
            ..Default::default()
        };
        match &wanted.name {
            Some(name) => match self.image.topic(name) {
                Some(topic) => self.topic(topic),
                None if check_topic_name(name).is_err() => unknown(ErrorCode::InvalidTopicException),
                None => MetadataResponseTopic { topic_id: Uuid::ZERO, ..unknown(ErrorCode::UnknownTopicOrPartition) },
            },
            None if version < BY_ID_FROM_VERSION => unknown(ErrorCode::InvalidRequest),
            None => match self.image.topic_by_id(wanted.id) {
                Some(topic) => self.topic(topic),
                None => unknown(ErrorCode::UnknownTopicId),
            },
        }
    }

    fn topic(self, topic: &'i Topic) -> MetadataResponseTopic<'i> {
        let partition = |(index, state): (usize, &crate::metadata::Partition)| {
            let id = PartitionId { topic: topic.id, index: index as i32 };
            let Replicas { leader, replicas, isr, offline } = self.replicas(id, state);
            MetadataResponsePartition {
                error_code: leader_error(leader).code(),
                partition_index: id.index,
                leader_id: leader.unwrap_or(-1),
                leader_epoch: state.leader_epoch,
                replica_nodes: replicas,
                isr_nodes: isr,
                offline_replicas: offline,
            }
        };
        MetadataResponseTopic {
            name: Some(&topic.name),
            topic_id: topic.id,
            is_internal: is_internal_topic(&topic.name),
            partitions: topic.partitions.iter().enumerate().map(partition).collect(),
            ..Default::default()
        }
    }

    fn described(
        self,
        topic: &Topic,
        index: usize,
        state: &crate::metadata::Partition,
    ) -> DescribeTopicPartitionsResponsePartition {
        let id = PartitionId { topic: topic.id, index: index as i32 };
        let Replicas { leader, replicas, isr, offline } = self.replicas(id, state);
        DescribeTopicPartitionsResponsePartition {
            error_code: leader_error(leader).code(),
            partition_index: id.index,
            leader_id: leader.unwrap_or(-1),
            leader_epoch: state.leader_epoch,
            replica_nodes: replicas,
            isr_nodes: isr,
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: offline,
        }
    }

    fn replicas(self, id: PartitionId, state: &crate::metadata::Partition) -> Replicas {
        let node = |broker: &BrokerId| self.nodes.of(*broker, id);
        let nodes = |brokers: &[BrokerId]| brokers.iter().map(node).collect();
        Replicas {
            leader: self.offline.leader_of(id, state).as_ref().map(node),
            replicas: nodes(&state.replicas),
            isr: nodes(&state.isr),
            offline: nodes(&self.offline.replicas_of(id, state)),
        }
    }
}

fn leader_error(leader: Option<BrokerId>) -> ErrorCode {
    if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable }
}

fn described<'a>(node: &Node<'a>) -> DescribeClusterBroker<'a> {
    DescribeClusterBroker {
        broker_id: node.id,
        host: &node.endpoint.host,
        port: i32::from(node.endpoint.port),
        rack: node.broker.rack.as_deref(),
        is_fenced: node.broker.fenced,
    }
}
