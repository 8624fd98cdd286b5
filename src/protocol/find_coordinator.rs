//! FindCoordinator (key 10): which broker coordinates a group or a transactional id.

use super::message::message;

message! {
    FindCoordinatorRequest<'a>, key 10, versions 0-6, flexible 3+ {
        key: &'a str = 0-3,
        /// 0 group, 1 transaction, 2 share group.
        key_type: i8 = 1+,
        coordinator_keys: Vec<&'a str> = 4+,
    }
}

message! {
    FindCoordinatorResponse<'a>, key 10, versions 0-6, flexible 3+ {
        throttle_time_ms: i32 = 1+,
        error_code: i16 = 0-3,
        error_message: Option<&'a str> = 1-3,
        node_id: i32 = 0-3,
        host: &'a str = 0-3,
        port: i32 = 0-3,
        coordinators: Vec<Coordinator<'a>> = 4+,
    }
    Coordinator<'a> {
        key: &'a str = 4+,
        node_id: i32 = 4+,
        host: &'a str = 4+,
        port: i32 = 4+,
        error_code: i16 = 4+,
        error_message: Option<&'a str> = 4+,
    }
}
