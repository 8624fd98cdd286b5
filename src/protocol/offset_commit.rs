//! OffsetCommit (key 8): a group remembers how far it has read. Topics by id from version 10 on.

use super::message::message;
use crate::types::Uuid;

message! {
    OffsetCommitRequest<'a>, key 8, versions 2-10, flexible 8+ {
        group_id: &'a str = 0+,
        /// The generation of a classic group, the member's epoch of a consumer group (KIP-848), -1 outside of both.
        generation_id_or_member_epoch: i32 = 1+ default -1,
        member_id: &'a str = 1+,
        group_instance_id: Option<&'a str> = 7+,
        /// -1 takes the broker's setting.
        retention_time_ms: i64 = 2-4 default -1,
        topics: Vec<OffsetCommitRequestTopic<'a>> = 0+,
    }
    OffsetCommitRequestTopic<'a> {
        name: &'a str = 0-9,
        topic_id: Uuid = 10+,
        partitions: Vec<OffsetCommitRequestPartition<'a>> = 0+,
    }
    OffsetCommitRequestPartition<'a> {
        partition_index: i32 = 0+,
        /// Of the next record to be read.
        committed_offset: i64 = 0+,
        /// Of the last record read; -1 where the client does not know it.
        committed_leader_epoch: i32 = 6+ default -1,
        /// The client's own note.
        committed_metadata: Option<&'a str> = 0+,
    }
}

message! {
    OffsetCommitResponse<'a>, key 8, versions 2-10, flexible 8+ {
        throttle_time_ms: i32 = 3+,
        topics: Vec<OffsetCommitResponseTopic<'a>> = 0+,
    }
    OffsetCommitResponseTopic<'a> {
        name: &'a str = 0-9,
        topic_id: Uuid = 10+,
        partitions: Vec<OffsetCommitResponsePartition> = 0+,
    }
    OffsetCommitResponsePartition {
        partition_index: i32 = 0+,
        error_code: i16 = 0+,
    }
}
