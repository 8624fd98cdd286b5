//! The seam between deciding and doing: everything that can happen to a shard, and everything it can do to the world.
//! A new variant is an architectural change: rare, and drawn in the README.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::message::Message;
pub use crate::journal::CommitId;
use crate::journal::JournalBlock;
pub use crate::log::Compaction;
use crate::types::{Deadline, Offset, ShardId, TopicId};

/// One client connection of one core. The generation keeps a late effect from reaching the slot's next tenant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

/// Names a read, a write or a change of files until its `Event` comes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId(pub u64);

#[derive(Debug)]
pub enum Event {
    /// A client connected through the listener of this index (in the order of `listeners`).
    /// `peer` is its address without the port, as text.
    Opened { connection: ConnectionId, listener: u16, peer: String },
    /// One whole request without its length prefix. The buffer belongs to the shard alone, so batches are stamped in place.
    Request { connection: ConnectionId, frame: BytesMut },
    /// The connection is gone; nothing sent to it any more will arrive.
    Closed { connection: ConnectionId },
    /// Another core speaks.
    Message { from: ShardId, message: Message },
    /// This commit and all before it are on stable storage.
    Committed { commit: CommitId },
    /// A `Read` ended.
    Read { operation: OperationId, bytes: Result<Bytes, FileError> },
    /// How much room a log directory has, by its index in `log.dirs`.
    Space { log_dir: u16, space: SpaceFound },
    /// A `Write` or a `File` ended.
    Done { operation: OperationId, outcome: Result<(), FileError> },
    /// A `Compact` ended.
    Compacted { operation: OperationId, compaction: Box<Compaction> },
}

#[derive(Debug)]
pub enum Effect {
    /// Chunks of one whole response, length prefix included. Responses of a connection leave in the order of these effects.
    Respond { connection: ConnectionId, response: Vec<Bytes> },
    /// Close after what was already given to `Respond` has been sent. Comes back as `Closed`.
    Close { connection: ConnectionId },
    /// No requests are taken from this connection until then: its client is over a quota (KIP-219). The later of several
    /// counts; requests that have arrived already may still come.
    Mute { connection: ConnectionId, until: Deadline },
    /// Never dropped (invariant 5).
    Send { to: ShardId, message: Message },
    /// All that this turn appended, to be made durable at once.
    Commit { commit: CommitId, block: JournalBlock },
    /// Lazy write-back that lengthens a segment: `position` is where the last write of this file ended.
    Write { operation: OperationId, file: FileName, position: u64, bytes: Vec<Bytes> },
    /// Exactly `length` bytes, or fewer at the end of the file.
    Read { operation: OperationId, file: FileName, position: u64, length: u32 },
    /// Look how much room a log directory has.
    Space { log_dir: u16 },
    /// Changes to one directory's files happen in the order of their effects; those of different directories in any.
    File { operation: OperationId, change: FileChange },
    /// `compaction.take(bytes)`, which is too much work for a turn: beside the reactor.
    Compact { operation: OperationId, compaction: Box<Compaction>, bytes: Bytes },
}

/// Of the volume that a log directory is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total_bytes: u64,
    /// What this process may still write.
    pub usable_bytes: u64,
}

pub type SpaceFound = Result<Space, FileError>;

/// A file of one partition, under Kafka's name: `<directory>/<20 digits of the base offset>.<extension>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileName {
    /// `<log dir>/<topic>-<partition>`.
    pub directory: Arc<str>,
    pub base_offset: Offset,
    pub kind: FileKind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    /// A segment that compaction is writing; worth nothing before it is whole.
    CleanedLog,
    /// One that is whole: recovery puts it in the place of the segments it was made from.
    SwapLog,
    /// Files of a segment that is no more. They stay for `file.delete.delay.ms`; a start deletes them.
    DeletedLog,
    DeletedOffsetIndex,
    DeletedTimeIndex,
}

impl FileKind {
    pub fn extension(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::OffsetIndex => "index",
            FileKind::TimeIndex => "timeindex",
            FileKind::CleanedLog => "log.cleaned",
            FileKind::SwapLog => "log.swap",
            FileKind::DeletedLog => "log.deleted",
            FileKind::DeletedOffsetIndex => "index.deleted",
            FileKind::DeletedTimeIndex => "timeindex.deleted",
        }
    }

    /// A live segment's files, each with the name it gets when the segment goes.
    pub const DELETED: [(FileKind, FileKind); 3] = [
        (FileKind::Log, FileKind::DeletedLog),
        (FileKind::OffsetIndex, FileKind::DeletedOffsetIndex),
        (FileKind::TimeIndex, FileKind::DeletedTimeIndex),
    ];
}

impl FileName {
    /// The same segment's file of another kind.
    pub fn of_kind(&self, kind: FileKind) -> FileName {
        FileName { kind, ..self.clone() }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:020}.{}", self.directory, self.base_offset, self.kind.extension())
    }
}

#[derive(Clone, Debug)]
pub enum FileChange {
    /// Creates the partition's directory and in it Kafka's `partition.metadata` (`version: 0`, `topic_id: <id>`), unsynced;
    /// it already existing is fine. The file tells recovery whose directory it is when a topic was created again.
    CreateDirectory { directory: Arc<str>, topic: TopicId },
    /// Renames the directory aside, then deletes it with all that is in it. It not existing is fine.
    DeleteDirectory { directory: Arc<str> },
    /// The whole content of a small file, atomically and durably: written beside it, synced, renamed, directory synced.
    Replace { path: Arc<str>, bytes: Bytes },
    /// The whole content of a file that nothing depends on, such as an index: written beside it and renamed. It becomes
    /// durable with the next sync that names it; until then a power loss may leave it old, empty or damaged.
    Put { file: FileName, bytes: Bytes },
    /// Room for a segment that is about to be begun: the file has this length, all of it reading as zeros, and its space is
    /// taken. Without that much space it stays empty.
    Preallocate { file: FileName, length: u64 },
    /// The exact length of a segment whose last block was padded, or that was given more room than it needed.
    Truncate { file: FileName, length: u64 },
    /// It not existing is fine.
    Delete { file: FileName },
    /// The file gets the name of another kind, in place of what has that name. It not existing is fine.
    Rename { file: FileName, to: FileKind },
    /// Everything written to these files so far is on stable storage, their directory entries included. Many files cost
    /// one flush of the file system, not one each.
    Sync { files: Vec<FileName> },
}

/// What a file said instead of obeying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// ENOSPC, EDQUOT or EFBIG: foreseen, tried again later.
    NoSpace,
    /// The file is not there.
    NotFound,
    /// Anything else, as the operating system words it.
    Failed(String),
}
