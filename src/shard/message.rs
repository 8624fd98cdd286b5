//! What cores say to each other: owned values, moved. A request that touches partitions elsewhere costs one message to
//! each core involved and one back; a fetch that waits on several cores costs a third when the data comes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{AskedOfGroup, ConnectionId, Counted, GroupAnswer, LogSize, LowWatermark, ProducersOf};
use crate::coordinator::{ControllerReply, ControllerRequest};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::types::{Deadline, Few, LeaderEpoch, Offset, PartitionId, Set, Timestamp, TopicId};

/// Names a request of the core that asks; it comes back with the answer.
pub type Ticket = u64;

#[derive(Debug)]
pub enum Message {
    Append {
        ticket: Ticket,
        append: Append,
    },
    Appended {
        ticket: Ticket,
        results: Few<AppendResult>,
    },
    Fetch {
        ticket: Ticket,
        fetch: Fetch,
    },
    /// The client of this connection is gone: what it waits for is not worth an answer.
    CancelFetch {
        connection: ConnectionId,
    },
    /// What this session fetches is not asked for any more.
    EndSession {
        session: i32,
    },
    /// `last` unless more will follow because the core still waits for data.
    Fetched {
        ticket: Ticket,
        results: Few<FetchResult>,
        last: bool,
    },
    Offsets {
        ticket: Ticket,
        queries: Vec<OffsetQuery>,
    },
    OffsetsFound {
        ticket: Ticket,
        answers: Vec<OffsetAnswer>,
    },
    /// What an administrator wants to know or to change, to the core that owns the partitions.
    Ask {
        ticket: Ticket,
        question: Question,
    },
    Told {
        ticket: Ticket,
        answer: Answer,
    },
    /// To shard 0, which owns the metadata log.
    Control {
        ticket: Ticket,
        request: ControllerRequest,
    },
    Controlled {
        ticket: Ticket,
        reply: ControllerReply,
    },
    /// To the core whose partitions of `__consumer_offsets` these groups belong to.
    Groups {
        ticket: Ticket,
        requests: Vec<AskedOfGroup>,
    },
    GroupReplies {
        ticket: Ticket,
        replies: Vec<GroupAnswer>,
    },
    /// A log directory, by its index in `log.dirs`, failed, and with it these partitions of the core that says so.
    Offline {
        log_dir: u16,
        partitions: Vec<PartitionId>,
    },
    /// From shard 0 to all: the facts changed, these topics among them.
    Image {
        image: Arc<MetadataImage>,
        changed: Vec<TopicId>,
    },
    /// The image that carries this version is in use here.
    ImageApplied {
        version: u64,
    },
    /// What clients with a quota took on this core since it last said so.
    Used(Vec<(Counted, f64)>),
}

/// Batches for partitions of one core, out of one produce request.
#[derive(Debug)]
pub struct Append {
    /// -1, 0 or 1.
    pub acks: i16,
    pub zstd_allowed: bool,
    pub parts: Few<AppendPart>,
}

#[derive(Debug)]
pub struct AppendPart {
    /// Position in the request, for the answer.
    pub part: u32,
    pub partition: PartitionId,
    pub records: BytesMut,
}

#[derive(Debug)]
pub struct AppendResult {
    pub part: u32,
    pub outcome: Result<AppendOutcome, AppendError>,
}

#[derive(Clone, Copy, Debug)]
pub struct AppendOutcome {
    pub base_offset: Offset,
    /// -1 unless the topic uses LogAppendTime.
    pub log_append_time_ms: Timestamp,
    pub log_start_offset: Offset,
}

#[derive(Debug)]
pub struct AppendError {
    pub error_code: ErrorCode,
    pub message: Option<String>,
    pub record_index: Option<i32>,
}

impl AppendError {
    pub fn new(error_code: ErrorCode) -> AppendError {
        AppendError { error_code, message: None, record_index: None }
    }
}

/// The partitions of one fetch request that one core owns.
#[derive(Debug)]
pub struct Fetch {
    /// Of the asking core. A connection waits for one fetch at a time: a new one ends the wait of the one before.
    pub connection: ConnectionId,
    /// The session that the parts belong to: the core remembers them for its next request.
    pub session: Option<i32>,
    /// All of a request without a session; of a session what is new, or asked differently than before.
    pub parts: Few<FetchPart>,
    /// Parts that the session fetches no longer.
    pub forgotten: Vec<u32>,
    /// Tell of every part, not only of those that have changed.
    pub everything: bool,
    pub min_bytes: u32,
    pub max_bytes: u32,
    pub deadline: Deadline,
    pub read_committed: bool,
    /// Other cores take part: say at once what there is, even if nothing.
    pub answer_at_once: bool,
}

#[derive(Clone, Debug)]
pub struct FetchPart {
    /// Position in the request or place in the session, for the answer.
    pub part: u32,
    pub partition: PartitionId,
    pub fetch_offset: Offset,
    pub max_bytes: u32,
    /// What the client believes (KIP-320); -1 where it does not say.
    pub current_leader_epoch: LeaderEpoch,
    pub last_fetched_epoch: LeaderEpoch,
}

#[derive(Debug)]
pub struct FetchResult {
    pub part: u32,
    pub error_code: ErrorCode,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// The reader's history parts from ours: the last epoch both know and where it ends here.
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    pub leader_epoch: LeaderEpoch,
    pub records: Few<Bytes>,
}

impl FetchResult {
    pub fn error(part: u32, error_code: ErrorCode) -> FetchResult {
        FetchResult {
            part,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            leader_epoch: -1,
            records: Few::new(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    /// Nothing for the reader but where the partition stands.
    pub fn is_quiet(&self) -> bool {
        self.records.is_empty() && self.error_code == ErrorCode::None && self.diverging_epoch.is_none()
    }
}

/// One question of ListOffsets or OffsetForLeaderEpoch.
#[derive(Debug)]
pub struct OffsetQuery {
    pub part: u32,
    pub partition: PartitionId,
    pub current_leader_epoch: LeaderEpoch,
    pub question: OffsetQuestion,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetQuestion {
    Earliest,
    Latest {
        read_committed: bool,
    },
    MaxTimestamp,
    /// The first record that is not older.
    Timestamp(Timestamp),
    EndOfEpoch(LeaderEpoch),
}

#[derive(Clone, Debug)]
pub struct OffsetAnswer {
    pub part: u32,
    pub error_code: ErrorCode,
    pub timestamp: Timestamp,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl OffsetAnswer {
    pub fn error(part: u32, error_code: ErrorCode) -> OffsetAnswer {
        OffsetAnswer { part, error_code, timestamp: -1, offset: -1, leader_epoch: -1 }
    }
}

/// Partitions are named with their place in the request, for the answer.
#[derive(Debug)]
pub enum Question {
    /// Records below these offsets shall go; -1 stands for the high watermark.
    DeleteRecords(Vec<(u32, PartitionId, Offset)>),
    Producers(Vec<(u32, PartitionId)>),
    /// Of these partitions, or of all.
    Sizes(Option<Arc<Set<PartitionId>>>),
}

#[derive(Debug)]
pub enum Answer {
    /// Where the logs start now.
    LowWatermarks(Vec<LowWatermark>),
    Producers(Vec<ProducersOf>),
    Sizes(Vec<LogSize>),
}
