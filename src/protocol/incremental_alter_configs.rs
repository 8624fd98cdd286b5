//! IncrementalAlterConfigs (key 44): single settings set, taken back, or changed as lists (KIP-339).

use super::message::message;

message! {
    IncrementalAlterConfigsRequest<'a>, key 44, versions 0-1, flexible 1+ {
        resources: Vec<AlterConfigsResource<'a>> = 0+,
        validate_only: bool = 0+,
    }
    AlterConfigsResource<'a> {
        /// As in DescribeConfigs.
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
        configs: Vec<AlterableConfig<'a>> = 0+,
    }
    AlterableConfig<'a> {
        name: &'a str = 0+,
        /// 0 set, 1 delete, 2 append to a list, 3 subtract from a list.
        config_operation: i8 = 0+,
        value: Option<&'a str> = 0+,
    }
}

message! {
    IncrementalAlterConfigsResponse<'a>, key 44, versions 0-1, flexible 1+ {
        throttle_time_ms: i32 = 0+,
        responses: Vec<AlterConfigsResourceResponse<'a>> = 0+,
    }
    AlterConfigsResourceResponse<'a> {
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
    }
}
