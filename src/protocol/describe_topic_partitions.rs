//! DescribeTopicPartitions (key 75): topics page by page, with the replicas that may lead (KIP-966).

use super::message::message;
use crate::types::Uuid;

message! {
    DescribeTopicPartitionsRequest<'a>, key 75, versions 0, flexible 0+ {
        /// Empty asks for all topics.
        topics: Vec<TopicRequest<'a>> = 0+,
        response_partition_limit: i32 = 0+ default 2000,
        /// Where the last page ended.
        cursor: Option<Cursor<'a>> = 0+,
    }
    TopicRequest<'a> {
        name: &'a str = 0+,
    }
    /// The first partition that is not on the page any more.
    Cursor<'a> {
        topic_name: &'a str = 0+,
        partition_index: i32 = 0+,
    }
}

message! {
    DescribeTopicPartitionsResponse<'a>, key 75, versions 0, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        topics: Vec<DescribeTopicPartitionsResponseTopic<'a>> = 0+,
        /// Null on the last page.
        next_cursor: Option<Cursor<'a>> = 0+,
    }
    DescribeTopicPartitionsResponseTopic<'a> {
        error_code: i16 = 0+,
        name: Option<&'a str> = 0+,
        topic_id: Uuid = 0+,
        is_internal: bool = 0+,
        partitions: Vec<DescribeTopicPartitionsResponsePartition> = 0+,
        topic_authorized_operations: i32 = 0+ default i32::MIN,
    }
    DescribeTopicPartitionsResponsePartition {
        error_code: i16 = 0+,
        partition_index: i32 = 0+,
        leader_id: i32 = 0+,
        leader_epoch: i32 = 0+ default -1,
        replica_nodes: Vec<i32> = 0+,
        isr_nodes: Vec<i32> = 0+,
        eligible_leader_replicas: Option<Vec<i32>> = 0+,
        last_known_elr: Option<Vec<i32>> = 0+,
        offline_replicas: Vec<i32> = 0+,
    }
}
