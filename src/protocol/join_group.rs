//! JoinGroup (key 11): a member enters a group of the classic protocol, or a rebalance of it.

use super::message::message;

message! {
    JoinGroupRequest<'a>, key 11, versions 0-9, flexible 6+ {
        group_id: &'a str = 0+,
        /// Without a heartbeat for this long the member is dead.
        session_timeout_ms: i32 = 0+,
        /// How long a rebalance waits for this member; -1 takes the session timeout, as version 0 does.
        rebalance_timeout_ms: i32 = 1+ default -1,
        /// Empty at first.
        member_id: &'a str = 0+,
        /// A static member's (KIP-345).
        group_instance_id: Option<&'a str> = 5+,
        /// "consumer" for consumers; opaque to the broker.
        protocol_type: &'a str = 0+,
        /// The member's assignors, the one it likes best first.
        protocols: Vec<JoinGroupRequestProtocol<'a>> = 0+,
        /// For people (KIP-800).
        reason: Option<&'a str> = 8+,
    }
    JoinGroupRequestProtocol<'a> {
        name: &'a str = 0+,
        /// The subscription; opaque.
        metadata: &'a [u8] = 0+,
    }
}

message! {
    JoinGroupResponse<'a>, key 11, versions 0-9, flexible 6+ {
        throttle_time_ms: i32 = 2+,
        error_code: i16 = 0+,
        generation_id: i32 = 0+ default -1,
        protocol_type: Option<&'a str> = 7+,
        /// Chosen from what every member named.
        protocol_name: Option<&'a str> = 0+ nullable 7+,
        /// Member id of the one who assigns.
        leader: &'a str = 0+,
        /// The leader came back and its last assignment stands (KIP-814).
        skip_assignment: bool = 9+,
        member_id: &'a str = 0+,
        /// Of the leader alone all members, of others none.
        members: Vec<JoinGroupResponseMember<'a>> = 0+,
    }
    JoinGroupResponseMember<'a> {
        member_id: &'a str = 0+,
        group_instance_id: Option<&'a str> = 5+,
        metadata: &'a [u8] = 0+,
    }
}
