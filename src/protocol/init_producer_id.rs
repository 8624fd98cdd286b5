//! InitProducerId (key 22): an identity for an idempotent or transactional producer (KIP-98).

use super::message::message;

message! {
    InitProducerIdRequest<'a>, key 22, versions 0-5, flexible 2+ {
        /// Null for a producer that is only idempotent.
        transactional_id: Option<&'a str> = 0+,
        transaction_timeout_ms: i32 = 0+,
        /// What the producer has so far, to raise its epoch (KIP-360); -1 where nothing.
        producer_id: i64 = 3+ default -1,
        producer_epoch: i16 = 3+ default -1,
    }
}

message! {
    InitProducerIdResponse, key 22, versions 0-5, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        producer_id: i64 = 0+ default -1,
        producer_epoch: i16 = 0+,
    }
}
