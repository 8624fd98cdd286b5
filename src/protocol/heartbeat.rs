//! Heartbeat (key 12): a member of a classic group lives; the answer tells it of a rebalance.

use super::message::message;

message! {
    HeartbeatRequest<'a>, key 12, versions 0-4, flexible 4+ {
        group_id: &'a str = 0+,
        generation_id: i32 = 0+,
        member_id: &'a str = 0+,
        group_instance_id: Option<&'a str> = 3+,
    }
}

message! {
    HeartbeatResponse, key 12, versions 0-4, flexible 4+ {
        throttle_time_ms: i32 = 1+,
        error_code: i16 = 0+,
    }
}
