//! DescribeClientQuotas (key 48): the quotas set for users, client ids and addresses (KIP-546).

use super::message::message;

message! {
    DescribeClientQuotasRequest<'a>, key 48, versions 0-1, flexible 1+ {
        components: Vec<ComponentData<'a>> = 0+,
        /// Leaves out entities with other components than these.
        strict: bool = 0+,
    }
    ComponentData<'a> {
        /// user, client-id or ip.
        entity_type: &'a str = 0+,
        /// 0 this name, 1 the default, 2 any that is named.
        match_type: i8 = 0+,
        /// Null unless the match is of a name.
        r#match: Option<&'a str> = 0+,
    }
}

message! {
    DescribeClientQuotasResponse<'a>, key 48, versions 0-1, flexible 1+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        entries: Option<Vec<EntryData<'a>>> = 0+,
    }
    EntryData<'a> {
        entity: Vec<EntityData<'a>> = 0+,
        values: Vec<ValueData<'a>> = 0+,
    }
    EntityData<'a> {
        entity_type: &'a str = 0+,
        /// Null is the default entity.
        entity_name: Option<&'a str> = 0+,
    }
    ValueData<'a> {
        key: &'a str = 0+,
        value: f64 = 0+,
    }
}
