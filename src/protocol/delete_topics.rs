//! DeleteTopics (key 20).

use super::message::message;
use crate::types::Uuid;

message! {
    DeleteTopicsRequest<'a>, key 20, versions 1-6, flexible 4+ {
        topics: Vec<DeleteTopicState<'a>> = 6+,
        topic_names: Vec<&'a str> = 0-5,
        timeout_ms: i32 = 0+,
    }
    /// By name, or by id where the name is null.
    DeleteTopicState<'a> {
        name: Option<&'a str> = 6+,
        topic_id: Uuid = 6+,
    }
}

message! {
    DeleteTopicsResponse<'a>, key 20, versions 1-6, flexible 4+ {
        throttle_time_ms: i32 = 1+,
        responses: Vec<DeletableTopicResult<'a>> = 0+,
    }
    DeletableTopicResult<'a> {
        name: Option<&'a str> = 0+ nullable 6+,
        topic_id: Uuid = 6+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 5+,
    }
}
