//! DescribeQuorum: a quorum of one, which is this broker. Any core answers from its image, which holds every record of the
//! metadata log up to the high watermark that this core has heard of.

use super::connection::Caller;
use super::{Effect, Shard};
use crate::error_code::ErrorCode;
use crate::protocol::describe_quorum::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::{PartitionId, Time};

const TOPIC: &str = "__cluster_metadata";

impl Shard {
    pub(super) fn on_describe_quorum(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeQuorumRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let image = self.image.clone();
        let listener = self.listener_of(caller).to_owned();
        let high_watermark = image.version() as i64;
        let itself = ReplicaState {
            replica_id: self.config.node_id,
            log_end_offset: high_watermark,
            last_fetch_timestamp: now.wall_ms,
            last_caught_up_timestamp: now.wall_ms,
            ..Default::default()
        };
        let state = QuorumPartitionState {
            partition_index: PartitionId::METADATA.index,
            leader_id: self.config.node_id,
            leader_epoch: self.facts_of(PartitionId::METADATA).1,
            high_watermark,
            current_voters: vec![itself],
            ..Default::default()
        };
        let endpoint = image.broker(self.config.node_id).and_then(|broker| broker.endpoint(&listener));
        let listeners = endpoint.map(|at| QuorumListener { name: &listener, host: &at.host, port: at.port });
        let response = if asks_for_metadata(&request) {
            DescribeQuorumResponse {
                topics: vec![QuorumTopicState { topic_name: TOPIC, partitions: vec![state] }],
                nodes: vec![QuorumNode { node_id: self.config.node_id, listeners: listeners.into_iter().collect() }],
                ..Default::default()
            }
        } else {
            DescribeQuorumResponse { topics: request.topics.iter().map(unknown).collect(), ..Default::default() }
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }
}

/// Kafka takes no other question.
fn asks_for_metadata(request: &DescribeQuorumRequest<'_>) -> bool {
    let [topic] = &request.topics[..] else { return false };
    topic.topic_name == TOPIC && topic.partitions == [QuorumPartition { partition_index: PartitionId::METADATA.index }]
}

fn unknown<'a>(topic: &QuorumTopic<'a>) -> QuorumTopicState<'a> {
    let refused = |partition: &QuorumPartition| QuorumPartitionState {
        partition_index: partition.partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        ..Default::default()
    };
    QuorumTopicState { topic_name: topic.topic_name, partitions: topic.partitions.iter().map(refused).collect() }
}
