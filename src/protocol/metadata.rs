//! Metadata (key 3): brokers, topics, partitions and their leaders.

use super::message::message;
use crate::types::Uuid;

message! {
    MetadataRequest<'a>, key 3, versions 0-13, flexible 9+ {
        /// Null asks for all topics; so does an empty list in version 0, which knows no null.
        topics: Option<Vec<MetadataRequestTopic<'a>>> = 0+ nullable 1+,
        allow_auto_topic_creation: bool = 4+ default true,
        include_cluster_authorized_operations: bool = 8-10,
        include_topic_authorized_operations: bool = 8+,
    }
    MetadataRequestTopic<'a> {
        /// In versions 10 and 11 present but without meaning (KIP-516).
        topic_id: Uuid = 10+,
        name: Option<&'a str> = 0+ nullable 10+,
    }
}

message! {
    MetadataResponse<'a>, key 3, versions 0-13, flexible 9+ {
        throttle_time_ms: i32 = 3+,
        brokers: Vec<MetadataResponseBroker<'a>> = 0+,
        cluster_id: Option<&'a str> = 2+,
        controller_id: i32 = 1+ default -1,
        topics: Vec<MetadataResponseTopic<'a>> = 0+,
        /// Bits of `AclOperation`; the default says that nobody asked.
        cluster_authorized_operations: i32 = 8-10 default i32::MIN,
        /// REBOOTSTRAP_REQUIRED or none (KIP-1102).
        error_code: i16 = 13+,
    }
    MetadataResponseBroker<'a> {
        node_id: i32 = 0+,
        host: &'a str = 0+,
        port: i32 = 0+,
        rack: Option<&'a str> = 1+,
    }
    MetadataResponseTopic<'a> {
        error_code: i16 = 0+,
        name: Option<&'a str> = 0+ nullable 12+,
        topic_id: Uuid = 10+,
        is_internal: bool = 1+,
        partitions: Vec<MetadataResponsePartition> = 0+,
        topic_authorized_operations: i32 = 8+ default i32::MIN,
    }
    MetadataResponsePartition {
        error_code: i16 = 0+,
        partition_index: i32 = 0+,
        /// -1 where there is none.
        leader_id: i32 = 0+,
        leader_epoch: i32 = 7+ default -1,
        replica_nodes: Vec<i32> = 0+,
        isr_nodes: Vec<i32> = 0+,
        offline_replicas: Vec<i32> = 5+,
    }
}
