//! DeleteGroups (key 42): empty groups go, with their offsets.

use super::message::message;

message! {
    DeleteGroupsRequest<'a>, key 42, versions 0-2, flexible 2+ {
        groups_names: Vec<&'a str> = 0+,
    }
}

message! {
    DeleteGroupsResponse<'a>, key 42, versions 0-2, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        results: Vec<DeletableGroupResult<'a>> = 0+,
    }
    DeletableGroupResult<'a> {
        group_id: &'a str = 0+,
        error_code: i16 = 0+,
    }
}
