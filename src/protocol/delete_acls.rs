//! DeleteAcls (key 31): the access control entries that filters match are taken away (KIP-140, KIP-290).

use super::message::message;

message! {
    DeleteAclsRequest<'a>, key 31, versions 1-3, flexible 2+ {
        filters: Vec<DeleteAclsFilter<'a>> = 0+,
    }
    DeleteAclsFilter<'a> {
        resource_type_filter: i8 = 0+,
        resource_name_filter: Option<&'a str> = 0+,
        pattern_type_filter: i8 = 1+ default 3,
        principal_filter: Option<&'a str> = 0+,
        host_filter: Option<&'a str> = 0+,
        operation: i8 = 0+,
        permission_type: i8 = 0+,
    }
}

message! {
    DeleteAclsResponse<'a>, key 31, versions 1-3, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        /// One for each filter, in its order.
        filter_results: Vec<DeleteAclsFilterResult<'a>> = 0+,
    }
    DeleteAclsFilterResult<'a> {
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        matching_acls: Vec<DeleteAclsMatchingAcl<'a>> = 0+,
    }
    DeleteAclsMatchingAcl<'a> {
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
        pattern_type: i8 = 1+ default 3,
        principal: &'a str = 0+,
        host: &'a str = 0+,
        operation: i8 = 0+,
        permission_type: i8 = 0+,
    }
}
