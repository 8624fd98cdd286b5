//! DescribeQuorum (key 55): who leads the metadata log, who follows it and how far (KIP-595, KIP-836).

use super::message::message;
use crate::types::Uuid;

message! {
    DescribeQuorumRequest<'a>, key 55, versions 0-2, flexible 0+ {
        /// Kafka has one: partition 0 of `__cluster_metadata`.
        topics: Vec<QuorumTopic<'a>> = 0+,
    }
    QuorumTopic<'a> {
        topic_name: &'a str = 0+,
        partitions: Vec<QuorumPartition> = 0+,
    }
    QuorumPartition {
        partition_index: i32 = 0+,
    }
}

message! {
    DescribeQuorumResponse<'a>, key 55, versions 0-2, flexible 0+ {
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 2+,
        topics: Vec<QuorumTopicState<'a>> = 0+,
        nodes: Vec<QuorumNode<'a>> = 2+,
    }
    QuorumTopicState<'a> {
        topic_name: &'a str = 0+,
        partitions: Vec<QuorumPartitionState<'a>> = 0+,
    }
    QuorumPartitionState<'a> {
        partition_index: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 2+,
        leader_id: i32 = 0+,
        leader_epoch: i32 = 0+,
        high_watermark: i64 = 0+,
        current_voters: Vec<ReplicaState> = 0+,
        observers: Vec<ReplicaState> = 0+,
    }
    ReplicaState {
        replica_id: i32 = 0+,
        replica_directory_id: Uuid = 2+,
        /// The offset that this replica's next record will have; -1 where it is not known.
        log_end_offset: i64 = 0+,
        /// In milliseconds since 1970; -1 where it is not known.
        last_fetch_timestamp: i64 = 1+ default -1,
        last_caught_up_timestamp: i64 = 1+ default -1,
    }
    QuorumNode<'a> {
        node_id: i32 = 2+,
        listeners: Vec<QuorumListener<'a>> = 2+,
    }
    QuorumListener<'a> {
        name: &'a str = 2+,
        host: &'a str = 2+,
        port: u16 = 2+,
    }
}
