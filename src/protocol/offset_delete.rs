//! OffsetDelete (key 47): a group forgets how far it has read (KIP-496).

use super::message::message;

message! {
    OffsetDeleteRequest<'a>, key 47, versions 0, flexible 1+ {
        group_id: &'a str = 0+,
        topics: Vec<OffsetDeleteRequestTopic<'a>> = 0+,
    }
    OffsetDeleteRequestTopic<'a> {
        name: &'a str = 0+,
        partitions: Vec<OffsetDeleteRequestPartition> = 0+,
    }
    OffsetDeleteRequestPartition {
        partition_index: i32 = 0+,
    }
}

message! {
    OffsetDeleteResponse<'a>, key 47, versions 0, flexible 1+ {
        error_code: i16 = 0+,
        throttle_time_ms: i32 = 0+,
        topics: Vec<OffsetDeleteResponseTopic<'a>> = 0+,
    }
    OffsetDeleteResponseTopic<'a> {
        name: &'a str = 0+,
        partitions: Vec<OffsetDeleteResponsePartition> = 0+,
    }
    OffsetDeleteResponsePartition {
        partition_index: i32 = 0+,
        error_code: i16 = 0+,
    }
}
