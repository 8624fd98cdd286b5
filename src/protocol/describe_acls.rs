//! DescribeAcls (key 29): the access control entries that a filter matches (KIP-140, KIP-290).

use super::message::message;

message! {
    DescribeAclsRequest<'a>, key 29, versions 1-3, flexible 2+ {
        resource_type_filter: i8 = 0+,
        /// Null is any name.
        resource_name_filter: Option<&'a str> = 0+,
        /// 1 any, 2 whatever would match the name, 3 this very name, 4 names that begin so.
        pattern_type_filter: i8 = 1+ default 3,
        principal_filter: Option<&'a str> = 0+,
        host_filter: Option<&'a str> = 0+,
        operation: i8 = 0+,
        permission_type: i8 = 0+,
    }
}

message! {
    DescribeAclsResponse<'a>, key 29, versions 1-3, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        resources: Vec<DescribeAclsResource<'a>> = 0+,
    }
    DescribeAclsResource<'a> {
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
        pattern_type: i8 = 1+ default 3,
        acls: Vec<AclDescription<'a>> = 0+,
    }
    AclDescription<'a> {
        principal: &'a str = 0+,
        host: &'a str = 0+,
        operation: i8 = 0+,
        permission_type: i8 = 0+,
    }
}
