//! OffsetForLeaderEpoch (key 23): where a leader epoch ended, so that a client can tell a truncated log (KIP-320).

use super::message::message;

message! {
    OffsetForLeaderEpochRequest<'a>, key 23, versions 2-4, flexible 4+ {
        /// -1 for a consumer, -2 where the version does not say.
        replica_id: i32 = 3+ default -2,
        topics: Vec<OffsetForLeaderTopic<'a>> = 0+,
    }
    OffsetForLeaderTopic<'a> {
        topic: &'a str = 0+,
        partitions: Vec<OffsetForLeaderPartition> = 0+,
    }
    OffsetForLeaderPartition {
        partition: i32 = 0+,
        current_leader_epoch: i32 = 2+ default -1,
        /// The epoch whose end is asked for.
        leader_epoch: i32 = 0+,
    }
}

message! {
    OffsetForLeaderEpochResponse<'a>, key 23, versions 2-4, flexible 4+ {
        throttle_time_ms: i32 = 2+,
        topics: Vec<OffsetForLeaderTopicResult<'a>> = 0+,
    }
    OffsetForLeaderTopicResult<'a> {
        topic: &'a str = 0+,
        partitions: Vec<EpochEndOffset> = 0+,
    }
    EpochEndOffset {
        error_code: i16 = 0+,
        partition: i32 = 0+,
        /// The largest known epoch not above the one asked for; -1 where there is none.
        leader_epoch: i32 = 1+ default -1,
        end_offset: i64 = 0+ default -1,
    }
}
