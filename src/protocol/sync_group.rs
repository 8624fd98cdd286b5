//! SyncGroup (key 14): the leader of a group hands out what it assigned, and every member gets its part.

use super::message::message;

message! {
    SyncGroupRequest<'a>, key 14, versions 0-5, flexible 4+ {
        group_id: &'a str = 0+,
        generation_id: i32 = 0+,
        member_id: &'a str = 0+,
        group_instance_id: Option<&'a str> = 3+,
        protocol_type: Option<&'a str> = 5+,
        protocol_name: Option<&'a str> = 5+,
        /// Empty unless this is the leader.
        assignments: Vec<SyncGroupRequestAssignment<'a>> = 0+,
    }
    SyncGroupRequestAssignment<'a> {
        member_id: &'a str = 0+,
        assignment: &'a [u8] = 0+,
    }
}

message! {
    SyncGroupResponse<'a>, key 14, versions 0-5, flexible 4+ {
        throttle_time_ms: i32 = 1+,
        error_code: i16 = 0+,
        protocol_type: Option<&'a str> = 5+,
        protocol_name: Option<&'a str> = 5+,
        assignment: &'a [u8] = 0+,
    }
}
