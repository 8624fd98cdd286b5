//! DescribeLogDirs (key 35): what each log directory of this broker holds, and how much room is left (KIP-113, KIP-827).

use super::message::message;

message! {
    DescribeLogDirsRequest<'a>, key 35, versions 1-5, flexible 2+ {
        /// Null asks for all.
        topics: Option<Vec<DescribableLogDirTopic<'a>>> = 0+,
    }
    DescribableLogDirTopic<'a> {
        topic: &'a str = 0+,
        partitions: Vec<i32> = 0+,
    }
}

message! {
    DescribeLogDirsResponse<'a>, key 35, versions 1-5, flexible 2+ {
        throttle_time_ms: i32 = 0+,
        error_code: i16 = 3+,
        results: Vec<DescribeLogDirsResult<'a>> = 0+,
    }
    DescribeLogDirsResult<'a> {
        /// KAFKA_STORAGE_ERROR of a directory that failed.
        error_code: i16 = 0+,
        log_dir: &'a str = 0+,
        topics: Vec<DescribeLogDirsTopic<'a>> = 0+,
        /// Of the volume; -1 where unknown.
        total_bytes: i64 = 4+ default -1,
        usable_bytes: i64 = 4+ default -1,
        /// Takes no new partitions (KIP-1066).
        is_cordoned: bool = 5+,
    }
    DescribeLogDirsTopic<'a> {
        name: &'a str = 0+,
        partitions: Vec<DescribeLogDirsPartition> = 0+,
    }
    DescribeLogDirsPartition {
        partition_index: i32 = 0+,
        /// Bytes of its segments.
        partition_size: i64 = 0+,
        /// How far this replica is behind the high watermark.
        offset_lag: i64 = 0+,
        /// A copy that is being made in another directory.
        is_future_key: bool = 0+,
    }
}
