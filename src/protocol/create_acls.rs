//! CreateAcls (key 30): access control entries are added (KIP-140, KIP-290).

use super::message::message;

message! {
    CreateAclsRequest<'a>, key 30, versions 1-3, flexible 2+ {
        creations: Vec<AclCreation<'a>> = 0+,
    }
    AclCreation<'a> {
        resource_type: i8 = 0+,
        resource_name: &'a str = 0+,
        resource_pattern_type: i8 = 1+ default 3,
        principal: &'a str = 0+,
        host: &'a str = 0+,
        operation: i8 = 0+,
        permission_type: i8 = 0+,
    }
}

message! {
    CreateAclsResponse<'a>, key 30, versions 1-3, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        /// One for each creation, in its order.
        results: Vec<AclCreationResult<'a>> = 0+,
    }
    AclCreationResult<'a> {
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
    }
}
