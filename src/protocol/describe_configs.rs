//! DescribeConfigs (key 32): every setting in force, where it comes from and what it means.

use super::message::message;

message! {
    DescribeConfigsRequest<'a>, key 32, versions 1-4, flexible 4+ {
        resources: Vec<DescribeConfigsResource<'a>> = 0+,
        include_synonyms: bool = 1+,
        include_documentation: bool = 3+,
    }
    DescribeConfigsResource<'a> {
        /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
        /// Null asks for all.
        configuration_keys: Option<Vec<&'a str>> = 0+,
    }
}

message! {
    DescribeConfigsResponse<'a>, key 32, versions 1-4, flexible 4+ {
        throttle_time_ms: i32 = 0+,
        results: Vec<DescribeConfigsResult<'a>> = 0+,
    }
    DescribeConfigsResult<'a> {
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
        configs: Vec<DescribeConfigsResourceResult<'a>> = 0+,
    }
    DescribeConfigsResourceResult<'a> {
        name: &'a str = 0+,
        /// Null where it is secret.
        value: Option<&'a str> = 0+,
        read_only: bool = 0+,
        /// 1 topic, 2 this broker dynamically, 3 all brokers dynamically, 4 the broker's file, 5 default.
        config_source: i8 = 1+ default -1,
        is_sensitive: bool = 0+,
        synonyms: Vec<DescribeConfigsSynonym<'a>> = 1+,
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password.
        config_type: i8 = 3+,
        documentation: Option<&'a str> = 3+,
    }
    /// The same setting in a place of lower rank.
    DescribeConfigsSynonym<'a> {
        name: &'a str = 1+,
        value: Option<&'a str> = 1+,
        source: i8 = 1+,
    }
}
