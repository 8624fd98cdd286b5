//! CreatePartitions (key 37): more partitions for a topic.

use super::message::message;

message! {
    CreatePartitionsRequest<'a>, key 37, versions 0-3, flexible 2+ {
        topics: Vec<CreatePartitionsTopic<'a>> = 0+,
        timeout_ms: i32 = 0+,
        validate_only: bool = 0+,
    }
    CreatePartitionsTopic<'a> {
        name: &'a str = 0+,
        /// How many the topic shall have in all.
        count: i32 = 0+,
        /// One per new partition; null lets the controller choose.
        assignments: Option<Vec<CreatePartitionsAssignment>> = 0+,
    }
    CreatePartitionsAssignment {
        broker_ids: Vec<i32> = 0+,
    }
}

message! {
    CreatePartitionsResponse<'a>, key 37, versions 0-3, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        results: Vec<CreatePartitionsTopicResult<'a>> = 0+,
    }
    CreatePartitionsTopicResult<'a> {
        name: &'a str = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
    }
}
