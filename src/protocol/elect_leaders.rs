//! ElectLeaders (key 43): lets partitions choose their leaders again (KIP-460).

use super::message::message;

message! {
    ElectLeadersRequest<'a>, key 43, versions 0-2, flexible 2+ {
        /// 0 the preferred leader, 1 any that is there, even one that lacks records.
        election_type: i8 = 1+,
        /// Null asks for every partition.
        topic_partitions: Option<Vec<TopicPartitions<'a>>> = 0+,
        timeout_ms: i32 = 0+ default 60_000,
    }
    TopicPartitions<'a> {
        topic: &'a str = 0+,
        partitions: Vec<i32> = 0+,
    }
}

message! {
    ElectLeadersResponse<'a>, key 43, versions 0-2, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 1+,
        replica_election_results: Vec<ReplicaElectionResult<'a>> = 0+,
    }
    ReplicaElectionResult<'a> {
        topic: &'a str = 0+,
        partition_result: Vec<PartitionResult<'a>> = 0+,
    }
    PartitionResult<'a> {
        partition_id: i32 = 0+,
        error_code: i16 = 0+,
        error_message: Option<&'a str> = 0+,
    }
}
