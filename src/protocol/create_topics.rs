//! CreateTopics (key 19).

use super::message::message;
use crate::types::Uuid;

message! {
    CreateTopicsRequest<'a>, key 19, versions 2-7, flexible 5+ {
        topics: Vec<CreatableTopic<'a>> = 0+,
        timeout_ms: i32 = 0+ default 60_000,
        validate_only: bool = 1+,
    }
    CreatableTopic<'a> {
        name: &'a str = 0+,
        /// -1 for the broker's default, or when `assignments` counts them.
        num_partitions: i32 = 0+,
        /// -1 for the broker's default, or when `assignments` counts them.
        replication_factor: i16 = 0+,
        /// Empty lets the controller choose.
        assignments: Vec<CreatableReplicaAssignment> = 0+,
        configs: Vec<CreatableTopicConfig<'a>> = 0+,
    }
    CreatableReplicaAssignment {
        partition_index: i32 = 0+,
        broker_ids: Vec<i32> = 0+,
    }
    CreatableTopicConfig<'a> {
        name: &'a str = 0+,
        value: Option<&'a str> = 0+,
    }
}

message! {
    CreateTopicsResponse<'a>, key 19, versions 2-7, flexible 5+ {
        throttle_time_ms: i32 = 2+,
        topics: Vec<CreatableTopicResult<'a>> = 0+,
    }
    CreatableTopicResult<'a> {
        name: &'a str = 0+,
        topic_id: Uuid = 7+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 1+,
        /// Why `configs` is null, where it is (KIP-525).
        topic_config_error_code: i16 = 5+ tag 0,
        num_partitions: i32 = 5+ default -1,
        replication_factor: i16 = 5+ default -1,
        configs: Option<Vec<CreatableTopicConfigs<'a>>> = 5+,
    }
    CreatableTopicConfigs<'a> {
        name: &'a str = 5+,
        value: Option<&'a str> = 5+,
        read_only: bool = 5+,
        /// As in DescribeConfigs.
        config_source: i8 = 5+ default -1,
        is_sensitive: bool = 5+,
    }
}
