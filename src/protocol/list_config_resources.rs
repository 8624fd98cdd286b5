//! ListConfigResources (key 74): what has settings of its own. Version 0 knows client metrics alone (KIP-1142).

use super::message::message;

message! {
    ListConfigResourcesRequest, key 74, versions 0-1, flexible 0+ {
        /// As in DescribeConfigs; empty asks for every type.
        resource_types: Vec<i8> = 1+,
    }
}

message! {
    ListConfigResourcesResponse<'a>, key 74, versions 0-1, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        config_resources: Vec<ConfigResource<'a>> = 0+,
    }
    ConfigResource<'a> {
        resource_name: &'a str = 0+,
        resource_type: i8 = 1+ default 16,
    }
}
