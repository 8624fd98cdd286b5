//! DescribeGroups (key 15): state and members of classic groups.

use super::message::message;

message! {
    DescribeGroupsRequest<'a>, key 15, versions 0-6, flexible 5+ {
        groups: Vec<&'a str> = 0+,
        include_authorized_operations: bool = 3+,
    }
}

message! {
    DescribeGroupsResponse<'a>, key 15, versions 0-6, flexible 5+ {
        throttle_time_ms: i32 = 1+,
        groups: Vec<DescribedGroup<'a>> = 0+,
    }
    DescribedGroup<'a> {
        /// From version 6 on GROUP_ID_NOT_FOUND of a group that is not; before it such a group is "Dead" (KIP-1043).
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 6+,
        group_id: &'a str = 0+,
        group_state: &'a str = 0+,
        protocol_type: &'a str = 0+,
        /// Name of the assignor.
        protocol_data: &'a str = 0+,
        members: Vec<DescribedGroupMember<'a>> = 0+,
        /// A bit for each operation; the least number where it was not asked for.
        authorized_operations: i32 = 3+ default i32::MIN,
    }
    DescribedGroupMember<'a> {
        member_id: &'a str = 0+,
        group_instance_id: Option<&'a str> = 4+,
        client_id: &'a str = 0+,
        client_host: &'a str = 0+,
        member_metadata: &'a [u8] = 0+,
        member_assignment: &'a [u8] = 0+,
    }
}
