//! ListPartitionReassignments (key 46): which partitions are getting other replicas (KIP-455).

use super::message::message;

message! {
    ListPartitionReassignmentsRequest<'a>, key 46, versions 0, flexible 0+ {
        timeout_ms: i32 = 0+ default 60_000,
        /// Null asks for all.
        topics: Option<Vec<ListPartitionReassignmentsTopic<'a>>> = 0+,
    }
    ListPartitionReassignmentsTopic<'a> {
        name: &'a str = 0+,
        partition_indexes: Vec<i32> = 0+,
    }
}

message! {
    ListPartitionReassignmentsResponse<'a>, key 46, versions 0, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        topics: Vec<OngoingTopicReassignment<'a>> = 0+,
    }
    OngoingTopicReassignment<'a> {
        name: &'a str = 0+,
        partitions: Vec<OngoingPartitionReassignment> = 0+,
    }
    OngoingPartitionReassignment {
        partition_index: i32 = 0+,
        replicas: Vec<i32> = 0+,
        adding_replicas: Vec<i32> = 0+,
        removing_replicas: Vec<i32> = 0+,
    }
}
