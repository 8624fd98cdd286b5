//! A log with a role. It decides what is acknowledged and what consumers may see; it belongs to one shard, and never
//! knows connections or requests: who waits is named by tokens of the shard's.

mod waiters;

use std::sync::Arc;

pub use waiters::Waiters;

use crate::error_code::ErrorCode;
use crate::log::Log;
use crate::types::{LeaderEpoch, Offset, PartitionId};

#[derive(Debug)]
pub struct Partition {
    pub id: PartitionId,
    /// `<log dir>/<topic>-<index>`.
    pub directory: Arc<str>,
    pub log: Log,
    pub leader: Leader,
    pub waiters: Waiters,
}

/// The leader's half of a partition.
#[derive(Debug)]
pub struct Leader {
    pub leader_epoch: LeaderEpoch,
    /// Offset up to which every in-sync replica holds the log; consumers read below it. Invariants:
    /// - log_start_offset ≤ high_watermark ≤ log_end_offset
    /// - never retreats within a leader epoch
    high_watermark: Offset,
}

impl Partition {
    pub fn lead(id: PartitionId, directory: Arc<str>, log: Log, leader_epoch: LeaderEpoch) -> Partition {
        let leader = Leader { leader_epoch, high_watermark: log.log_end_offset() };
        Partition { id, directory, log, leader, waiters: Waiters::default() }
    }

    pub fn high_watermark(&self) -> Offset {
        self.leader.high_watermark
    }

    /// Consumers under `read_committed` read below it. Without open transactions it is the high watermark.
    pub fn last_stable_offset(&self) -> Offset {
        self.leader.high_watermark
    }

    /// Checks the epoch a client believes in (KIP-320); -1 is "does not say".
    pub fn check_leader_epoch(&self, current: LeaderEpoch) -> Result<(), ErrorCode> {
        match current {
            -1 => Ok(()),
            epoch if epoch < self.leader.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > self.leader.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The only function that moves the high watermark: to the offset that every in-sync replica holds as firmly as the
    /// topic asks for. True if it moved.
    pub fn advance_high_watermark(&mut self) -> bool {
        let held = if self.is_relaxed() { self.log.log_end_offset() } else { self.log.durable_offset() };
        let moved = held > self.leader.high_watermark;
        self.leader.high_watermark = self.leader.high_watermark.max(held);
        moved
    }

    /// `min.insync.replicas`, for acks=all; no more are asked for than the partition has (KIP-966). On one node the leader is
    /// the only replica there is.
    pub fn has_enough_replicas(&self) -> bool {
        const REPLICAS: i32 = 1;
        let in_sync = REPLICAS;
        in_sync >= self.log.config().min_insync_replicas.min(REPLICAS)
    }

    /// The topic asked for less than stable storage before an acknowledgement: Kafka's `flush.messages` above 1.
    pub fn is_relaxed(&self) -> bool {
        self.log.config().flush_messages > 1
    }
}
