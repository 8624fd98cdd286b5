//! Produce (key 0): record batches to append. Records stay in the frame and are only pointed to.

use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use super::message::message;
use crate::types::{Few, Uuid};

message! {
    ProduceRequest<'a>, key 0, versions 3-13, flexible 9+ {
        transactional_id: Option<&'a str> = 3+,
        /// 0 no answer at all, 1 the leader's, -1 all in-sync replicas'.
        acks: i16 = 0+,
        timeout_ms: i32 = 0+,
        topic_data: Few<TopicProduceData<'a>> = 0+,
    }
    TopicProduceData<'a> {
        name: &'a str = 0-12,
        topic_id: Uuid = 13+,
        partition_data: Few<PartitionProduceData<'a>> = 0+,
    }
    PartitionProduceData<'a> {
        index: i32 = 0+,
        /// One record batch of magic 2, as it will be stored.
        records: Option<&'a [u8]> = 0+,
    }
}

message! {
    ProduceResponse<'a>, key 0, versions 3-13, flexible 9+ {
        responses: Few<TopicProduceResponse<'a>> = 0+,
        throttle_time_ms: i32 = 1+,
        /// Of the leaders that `current_leader` names (KIP-951).
        node_endpoints: Vec<NodeEndpoint<'a>> = 10+ tag 0,
    }
    TopicProduceResponse<'a> {
        name: &'a str = 0-12,
        topic_id: Uuid = 13+,
        partition_responses: Few<PartitionProduceResponse<'a>> = 0+,
    }
    PartitionProduceResponse<'a> {
        index: i32 = 0+,
        error_code: i16 = 0+,
        base_offset: i64 = 0+,
        /// -1 unless the topic stamps records with the time of their append.
        log_append_time_ms: i64 = 2+ default -1,
        log_start_offset: i64 = 5+ default -1,
        /// Which records made the batch fail (KIP-467).
        record_errors: Vec<BatchIndexAndErrorMessage<'a>> = 8+,
        error_message: Option<&'a str> = 8+,
        current_leader: LeaderIdAndEpoch = 10+ tag 0,
    }
    BatchIndexAndErrorMessage<'a> {
        batch_index: i32 = 8+,
        batch_index_error_message: Option<&'a str> = 8+,
    }
}
