//! ListOffsets (key 2): the offset at a time, or at a special one: -1 latest, -2 earliest, -3 of the largest timestamp,
//! -4 earliest local, -5 latest tiered, -6 earliest still to be tiered.

use super::message::message;

message! {
    ListOffsetsRequest<'a>, key 2, versions 1-11, flexible 6+ {
        /// -1 for a consumer.
        replica_id: i32 = 0+,
        /// 0 read_uncommitted, 1 read_committed: latest is then the last stable offset.
        isolation_level: i8 = 2+,
        topics: Vec<ListOffsetsTopic<'a>> = 0+,
        /// How long tiered storage may take (KIP-1075).
        timeout_ms: i32 = 10+,
    }
    ListOffsetsTopic<'a> {
        name: &'a str = 0+,
        partitions: Vec<ListOffsetsPartition> = 0+,
    }
    ListOffsetsPartition {
        partition_index: i32 = 0+,
        current_leader_epoch: i32 = 4+ default -1,
        timestamp: i64 = 0+,
    }
}

message! {
    ListOffsetsResponse<'a>, key 2, versions 1-11, flexible 6+ {
        throttle_time_ms: i32 = 2+,
        topics: Vec<ListOffsetsTopicResponse<'a>> = 0+,
    }
    ListOffsetsTopicResponse<'a> {
        name: &'a str = 0+,
        partitions: Vec<ListOffsetsPartitionResponse> = 0+,
    }
    ListOffsetsPartitionResponse {
        partition_index: i32 = 0+,
        error_code: i16 = 0+,
        timestamp: i64 = 1+ default -1,
        offset: i64 = 1+ default -1,
        leader_epoch: i32 = 4+ default -1,
    }
}
