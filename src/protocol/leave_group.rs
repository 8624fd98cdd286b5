//! LeaveGroup (key 13): members leave a classic group, or an administrator removes them (KIP-345).

use super::message::message;

message! {
    LeaveGroupRequest<'a>, key 13, versions 0-5, flexible 4+ {
        group_id: &'a str = 0+,
        member_id: &'a str = 0-2,
        members: Vec<MemberIdentity<'a>> = 3+,
    }
    MemberIdentity<'a> {
        /// Empty where the group instance id says who.
        member_id: &'a str = 3+,
        group_instance_id: Option<&'a str> = 3+,
        reason: Option<&'a str> = 5+,
    }
}

message! {
    LeaveGroupResponse<'a>, key 13, versions 0-5, flexible 4+ {
        throttle_time_ms: i32 = 1+,
        error_code: i16 = 0+,
        members: Vec<MemberResponse<'a>> = 3+,
    }
    MemberResponse<'a> {
        member_id: &'a str = 3+,
        group_instance_id: Option<&'a str> = 3+,
        error_code: i16 = 3+,
    }
}
