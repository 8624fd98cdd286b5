//! ListTransactions (key 66): the transactions that a coordinator knows (KIP-664, KIP-994, KIP-1152).

use super::message::message;

message! {
    ListTransactionsRequest<'a>, key 66, versions 0-2, flexible 0+ {
        /// Empty asks for all states.
        state_filters: Vec<&'a str> = 0+,
        producer_id_filters: Vec<i64> = 0+,
        /// Those that run for longer, in milliseconds; -1 asks for all.
        duration_filter: i64 = 1+ default -1,
        /// A regular expression.
        transactional_id_pattern: Option<&'a str> = 2+,
    }
}

message! {
    ListTransactionsResponse<'a>, key 66, versions 0-2, flexible 0+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 0+,
        unknown_state_filters: Vec<&'a str> = 0+,
        transaction_states: Vec<TransactionState<'a>> = 0+,
    }
    TransactionState<'a> {
        transactional_id: &'a str = 0+,
        producer_id: i64 = 0+,
        transaction_state: &'a str = 0+,
    }
}
