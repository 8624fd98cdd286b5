//! AlterClientQuotas (key 49): quotas of users, client ids and addresses are set or taken back (KIP-546).

use super::message::message;

message! {
    AlterClientQuotasRequest<'a>, key 49, versions 0-1, flexible 1+ {
        entries: Vec<AlterEntryData<'a>> = 0+,
        validate_only: bool = 0+,
    }
    AlterEntryData<'a> {
        entity: Vec<EntityData<'a>> = 0+,
        ops: Vec<OpData<'a>> = 0+,
    }
    OpData<'a> {
        key: &'a str = 0+,
        value: f64 = 0+,
        /// Takes the quota back, whatever the value.
        remove: bool = 0+,
    }
}

message! {
    AlterClientQuotasResponse<'a>, key 49, versions 0-1, flexible 1+ {
        throttle_time_ms: i32 = 0+,
        entries: Vec<EntryData<'a>> = 0+,
    }
    EntryData<'a> {
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
        entity: Vec<EntityData<'a>> = 0+,
    }
    EntityData<'a> {
        /// user, client-id or ip.
        entity_type: &'a str = 0+,
        /// Null is the default entity.
        entity_name: Option<&'a str> = 0+,
    }
}
