//! DescribeProducers (key 61): the idempotent producers that a partition remembers (KIP-664).

use super::message::message;

message! {
    DescribeProducersRequest<'a>, key 61, versions 0, flexible 0+ {
        topics: Vec<TopicRequest<'a>> = 0+,
    }
    TopicRequest<'a> {
        name: &'a str = 0+,
        partition_indexes: Vec<i32> = 0+,
    }
}

message! {
    DescribeProducersResponse<'a>, key 61, versions 0, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        topics: Vec<TopicResponse<'a>> = 0+,
    }
    TopicResponse<'a> {
        name: &'a str = 0+,
        partitions: Vec<PartitionResponse<'a>> = 0+,
    }
    PartitionResponse<'a> {
        partition_index: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        active_producers: Vec<ProducerState> = 0+,
    }
    ProducerState {
        producer_id: i64 = 0+,
        producer_epoch: i32 = 0+,
        last_sequence: i32 = 0+ default -1,
        last_timestamp: i64 = 0+ default -1,
        coordinator_epoch: i32 = 0+,
        /// -1 outside of a transaction.
        current_txn_start_offset: i64 = 0+ default -1,
    }
}
