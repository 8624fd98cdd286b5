//! AlterPartitionReassignments (key 45): gives partitions other replicas, or takes that back while it is under way (KIP-455).

use super::message::message;

message! {
    AlterPartitionReassignmentsRequest<'a>, key 45, versions 0-1, flexible 0+ {
        timeout_ms: i32 = 0+ default 60_000,
        allow_replication_factor_change: bool = 1+ default true,
        topics: Vec<ReassignableTopic<'a>> = 0+,
    }
    ReassignableTopic<'a> {
        name: &'a str = 0+,
        partitions: Vec<ReassignablePartition> = 0+,
    }
    ReassignablePartition {
        partition_index: i32 = 0+,
        /// The preferred leader first; null takes back what is under way.
        replicas: Option<Vec<i32>> = 0+,
    }
}

message! {
    AlterPartitionReassignmentsResponse<'a>, key 45, versions 0-1, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        allow_replication_factor_change: bool = 1+ default true,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        responses: Vec<ReassignableTopicResponse<'a>> = 0+,
    }
    ReassignableTopicResponse<'a> {
        name: &'a str = 0+,
        partitions: Vec<ReassignablePartitionResponse<'a>> = 0+,
    }
    ReassignablePartitionResponse<'a> {
        partition_index: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
    }
}
