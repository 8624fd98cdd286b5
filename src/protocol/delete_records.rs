//! DeleteRecords (key 21): the front of a partition's log goes.

use super::message::message;

message! {
    DeleteRecordsRequest<'a>, key 21, versions 0-2, flexible 2+ {
        topics: Vec<DeleteRecordsTopic<'a>> = 0+,
        timeout_ms: i32 = 0+,
    }
    DeleteRecordsTopic<'a> {
        name: &'a str = 0+,
        partitions: Vec<DeleteRecordsPartition> = 0+,
    }
    DeleteRecordsPartition {
        partition_index: i32 = 0+,
        /// Of the first record to stay; -1 is the high watermark.
        offset: i64 = 0+,
    }
}

message! {
    DeleteRecordsResponse<'a>, key 21, versions 0-2, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        topics: Vec<DeleteRecordsTopicResult<'a>> = 0+,
    }
    DeleteRecordsTopicResult<'a> {
        name: &'a str = 0+,
        partitions: Vec<DeleteRecordsPartitionResult> = 0+,
    }
    DeleteRecordsPartitionResult {
        partition_index: i32 = 0+,
        /// The log start offset of every replica now; -1 on an error.
        low_watermark: i64 = 0+,
        error_code: i16 = 0+,
    }
}
