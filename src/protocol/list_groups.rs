//! ListGroups (key 16): the groups that this broker coordinates.

use super::message::message;

message! {
    ListGroupsRequest<'a>, key 16, versions 0-5, flexible 3+ {
        /// Empty asks for every state (KIP-518).
        states_filter: Vec<&'a str> = 4+,
        /// Empty asks for every type (KIP-848).
        types_filter: Vec<&'a str> = 5+,
    }
}

message! {
    ListGroupsResponse<'a>, key 16, versions 0-5, flexible 3+ {
        throttle_time_ms: i32 = 1+,
        error_code: i16 = 0+,
        groups: Vec<ListedGroup<'a>> = 0+,
    }
    ListedGroup<'a> {
        group_id: &'a str = 0+,
        protocol_type: &'a str = 0+,
        group_state: &'a str = 4+,
        /// classic, consumer …
        group_type: &'a str = 5+,
    }
}
