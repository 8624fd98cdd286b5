//! ConsumerGroupHeartbeat (key 68): the one request of a member of a consumer group (KIP-848). What did not change since the
//! last heartbeat is null or -1.

use super::message::message;
use crate::types::Uuid;

message! {
    ConsumerGroupHeartbeatRequest<'a>, key 68, versions 0-1, flexible 0+ {
        group_id: &'a str = 0+,
        /// From version 1 on the client draws it; before it may be empty at first.
        member_id: &'a str = 0+,
        /// 0 joins, -1 leaves, -2 leaves as a static member that will be back.
        member_epoch: i32 = 0+,
        instance_id: Option<&'a str> = 0+,
        rack_id: Option<&'a str> = 0+,
        /// How long the member may take to give partitions up.
        rebalance_timeout_ms: i32 = 0+ default -1,
        subscribed_topic_names: Option<Vec<&'a str>> = 0+,
        subscribed_topic_regex: Option<&'a str> = 1+,
        server_assignor: Option<&'a str> = 0+,
        /// What the member has.
        topic_partitions: Option<Vec<TopicPartitions>> = 0+,
    }
}

message! {
    ConsumerGroupHeartbeatResponse<'a>, key 68, versions 0-1, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        member_id: Option<&'a str> = 0+,
        member_epoch: i32 = 0+,
        /// Until the next heartbeat.
        heartbeat_interval_ms: i32 = 0+,
        /// What the member is to have; null if that did not change.
        assignment: Option<Assignment> = 0+,
    }
    Assignment {
        topic_partitions: Vec<TopicPartitions> = 0+,
    }
    TopicPartitions {
        topic_id: Uuid = 0+,
        partitions: Vec<i32> = 0+,
    }
}
