//! Fetch (key 1): batches from an offset on, for consumers and followers. Records are spliced into the response.

use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use super::message::message;
use super::wire::Records;
use crate::types::{Few, Uuid};

message! {
    FetchRequest<'a>, key 1, versions 4-18, flexible 12+ {
        cluster_id: Option<&'a str> = 12+ tag 0,
        /// -1 for a consumer.
        replica_id: i32 = 0-14 default -1,
        replica_state: ReplicaState = 15+ tag 1,
        max_wait_ms: i32 = 0+,
        min_bytes: i32 = 0+,
        max_bytes: i32 = 3+ default i32::MAX,
        /// 0 read_uncommitted, 1 read_committed.
        isolation_level: i8 = 4+,
        /// 0 where there is no session (KIP-227).
        session_id: i32 = 7+,
        /// 0 asks for a new session, -1 for none.
        session_epoch: i32 = 7+ default -1,
        topics: Few<FetchTopic<'a>> = 0+,
        /// What the session no longer asks for.
        forgotten_topics_data: Vec<ForgottenTopic<'a>> = 7+,
        rack_id: &'a str = 11+,
    }
    /// Who the fetching follower is (KIP-903).
    ReplicaState {
        replica_id: i32 = 15+ default -1,
        replica_epoch: i64 = 15+ default -1,
    }
    FetchTopic<'a> {
        topic: &'a str = 0-12,
        topic_id: Uuid = 13+,
        partitions: Few<FetchPartition> = 0+,
    }
    FetchPartition {
        partition: i32 = 0+,
        /// -1 where the client does not know one (KIP-320).
        current_leader_epoch: i32 = 9+ default -1,
        fetch_offset: i64 = 0+,
        last_fetched_epoch: i32 = 12+ default -1,
        /// The follower's; -1 for a consumer.
        log_start_offset: i64 = 5+ default -1,
        partition_max_bytes: i32 = 0+,
        replica_directory_id: Uuid = 17+ tag 0,
        /// The high watermark that the follower knows (KIP-1166).
        high_watermark: i64 = 18+ tag 1 default i64::MAX,
    }
    ForgottenTopic<'a> {
        topic: &'a str = 7-12,
        topic_id: Uuid = 13+,
        partitions: Vec<i32> = 7+,
    }
}

message! {
    FetchResponse<'a>, key 1, versions 4-18, flexible 12+ {
        throttle_time_ms: i32 = 1+,
        error_code: i16 = 7+,
        session_id: i32 = 7+,
        responses: Few<FetchableTopicResponse<'a>> = 0+,
        node_endpoints: Vec<NodeEndpoint<'a>> = 16+ tag 0,
    }
    FetchableTopicResponse<'a> {
        topic: &'a str = 0-12,
        topic_id: Uuid = 13+,
        partitions: Few<PartitionData> = 0+,
    }
    PartitionData {
        partition_index: i32 = 0+,
        error_code: i16 = 0+,
        high_watermark: i64 = 0+,
        last_stable_offset: i64 = 4+ default -1,
        log_start_offset: i64 = 5+ default -1,
        /// Where the follower's log left the leader's: truncate to it.
        diverging_epoch: EpochEndOffset = 12+ tag 0,
        current_leader: LeaderIdAndEpoch = 12+ tag 1,
        /// Set where the log starts later than the follower asked: fetch this snapshot instead.
        snapshot_id: SnapshotId = 12+ tag 2,
        /// Null under read_uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> = 4+,
        /// -1 tells the consumer to stay with the leader (KIP-392).
        preferred_read_replica: i32 = 11+ default -1,
        records: Records = 0+,
    }
    EpochEndOffset {
        epoch: i32 = 12+ default -1,
        end_offset: i64 = 12+ default -1,
    }
    SnapshotId {
        end_offset: i64 = 0+ default -1,
        epoch: i32 = 0+ default -1,
    }
    AbortedTransaction {
        producer_id: i64 = 4+,
        first_offset: i64 = 4+,
    }
}
