//! OffsetFetch (key 9): how far groups have read. One group up to version 7, many from 8 on; topics by id from 10 on.

use super::message::message;
use crate::types::Uuid;

message! {
    OffsetFetchRequest<'a>, key 9, versions 1-10, flexible 6+ {
        group_id: &'a str = 0-7,
        /// Null asks for all.
        topics: Option<Vec<OffsetFetchRequestTopic<'a>>> = 0-7 nullable 2+,
        groups: Vec<OffsetFetchRequestGroup<'a>> = 8+,
        /// UNSTABLE_OFFSET_COMMIT while a transaction has offsets pending (KIP-447).
        require_stable: bool = 7+,
    }
    OffsetFetchRequestTopic<'a> {
        name: &'a str = 0-7,
        partition_indexes: Vec<i32> = 0-7,
    }
    OffsetFetchRequestGroup<'a> {
        group_id: &'a str = 8+,
        member_id: Option<&'a str> = 9+,
        /// -1 outside of KIP-848.
        member_epoch: i32 = 9+ default -1,
        /// Null asks for all.
        topics: Option<Vec<OffsetFetchRequestTopics<'a>>> = 8+,
    }
    OffsetFetchRequestTopics<'a> {
        name: &'a str = 8-9,
        topic_id: Uuid = 10+,
        partition_indexes: Vec<i32> = 8+,
    }
}

message! {
    OffsetFetchResponse<'a>, key 9, versions 1-10, flexible 6+ {
        throttle_time_ms: i32 = 3+,
        topics: Vec<OffsetFetchResponseTopic<'a>> = 0-7,
        error_code: i16 = 2-7,
        groups: Vec<OffsetFetchResponseGroup<'a>> = 8+,
    }
    OffsetFetchResponseTopic<'a> {
        name: &'a str = 0-7,
        partitions: Vec<OffsetFetchResponsePartition<'a>> = 0-7,
    }
    OffsetFetchResponsePartition<'a> {
        partition_index: i32 = 0-7,
        /// -1 where none was committed.
        committed_offset: i64 = 0-7,
        committed_leader_epoch: i32 = 5-7 default -1,
        metadata: Option<&'a str> = 0-7,
        error_code: i16 = 0-7,
    }
    OffsetFetchResponseGroup<'a> {
        group_id: &'a str = 8+,
        topics: Vec<OffsetFetchResponseTopics<'a>> = 8+,
        error_code: i16 = 8+,
    }
    OffsetFetchResponseTopics<'a> {
        name: &'a str = 8-9,
        topic_id: Uuid = 10+,
        partitions: Vec<OffsetFetchResponsePartitions<'a>> = 8+,
    }
    OffsetFetchResponsePartitions<'a> {
        partition_index: i32 = 8+,
        /// -1 where none was committed.
        committed_offset: i64 = 8+,
        committed_leader_epoch: i32 = 8+ default -1,
        metadata: Option<&'a str> = 8+,
        error_code: i16 = 8+,
    }
}
