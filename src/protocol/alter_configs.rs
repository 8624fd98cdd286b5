//! AlterConfigs (key 33): all of a resource's settings replaced at once. IncrementalAlterConfigs is what to use.

use super::message::message;

message! {
    AlterConfigsRequest<'a>, key 33, versions 0-2, flexible 2+ {
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
        value: Option<&'a str> = 0+,
    }
}

message! {
    AlterConfigsResponse<'a>, key 33, versions 0-2, flexible 2+ {
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
