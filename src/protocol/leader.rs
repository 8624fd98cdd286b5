//! Who leads a partition and where to reach it: what Produce and Fetch say with NOT_LEADER_OR_FOLLOWER so that a client need
//! not ask for metadata first (KIP-951).

use super::message::structure;

structure! {
    LeaderIdAndEpoch {
        /// -1 where unknown.
        leader_id: i32 = 0+ default -1,
        /// -1 where unknown.
        leader_epoch: i32 = 0+ default -1,
    }
}

structure! {
    /// A broker as the client may connect to it.
    NodeEndpoint<'a> {
        node_id: i32 = 0+,
        host: &'a str = 0+,
        port: i32 = 0+,
        rack: Option<&'a str> = 0+,
    }
}
