//! Gannet: a Kafka-compatible broker for bare-metal Linux. *Shards decide, reactors do.*
//!
//! Each core runs one [`shard::Shard`], a plain value that owns its partitions and answers every event with effects, and
//! one [`reactor::Reactor`], which turns sockets, disks and mailboxes into events and performs the effects. The rooms, in
//! reading order; each imports downward only (`tests/tidy` holds the table):
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`types`], [`error_code`], [`config`], [`metrics`] | words: what everyone may say |
//! | [`protocol`], [`record`] | formats: Kafka's wire, and record batches |
//! | [`journal`] | one core's write-ahead log: what a commit holds, what may be recycled, what recovery replays |
//! | [`log`] | one partition's log: segments, indexes, leader epochs, producers, the tail in memory, retention, compaction |
//! | [`partition`] | a log with a role: high watermark, and who waits for it |
//! | [`metadata`], [`coordinator`] | the cluster's facts and the controller that decides them; groups and their offsets |
//! | [`client`] | the client's half of the wire |
//! | [`shard`] | all that one core owns; `seam.rs` has its doors, then one file per verb |
//! | [`reactor`] | the machine: ring, sockets, durable commits, mesh between cores, files |
//! | [`broker`], [`cli`] | the process, and the command lines |
//! | [`load`] | the load generator: open loop, any Kafka-compatible cluster |
//!
//! Above `reactor` nothing waits, reads a clock or touches the machine: it all runs from a seed in `tests/sim`.
//!
//! # Invariants that no single file shows
//!
//! 1. Deciding rooms never wait, read a clock, draw unseeded chance or fail with `io::Error`. `now` is an argument.
//! 2. Shards share nothing that changes. Between cores travel owned messages, immutable `Bytes` and `Arc<MetadataImage>`.
//! 3. Records are the producer's bytes from socket to disk to consumer; base offset and leader epoch of a batch's header,
//!    which its checksum leaves out, are ours.
//! 4. An acknowledgement is sent only after the commit that holds the data is on stable storage (unless the topic asks for
//!    less with `flush.messages`), and a consumer never sees a record that an acknowledged history could lose.
//! 5. A message between cores is never dropped: where a ring is full it waits, and sockets are left unread meanwhile.
//! 6. The high watermark moves in `Partition::advance_high_watermark` only; the image changes by replay only.
//! 7. A failed or short durable write ends the process with a plain message: after it the page's truth is unknown. A full
//!    disk is not that: it is foreseen, and answered with an error while reads and deletes go on. Nor is a failure in
//!    another log directory than the first: that one is offline, its partitions are kept, and the others go on.
//! 8. Every queue, table and loop has a limit.
//! 9. Iteration order is part of behaviour: no randomly seeded hash map in deciding rooms.
//! 10. A broker that comes back from a crash leads under a new leader epoch.
//! 11. A journal file is used again only after all it holds is in the segments, synced, and a checkpoint table says so; or,
//!     of a partition that is offline, in a file of what is kept for it. Where a log directory can fail alone, memory lets
//!     go of a batch only then.
//! 12. A log's start is on stable storage before anything below it goes, and no segment goes or changes that a recovery
//!     would still look for. A compacted segment ends where the next one begins.

pub mod config;
pub mod error_code;
pub mod metrics;
pub mod types;

pub mod protocol;
pub mod record;

pub mod client;
pub mod coordinator;
pub mod journal;
pub mod log;
pub mod metadata;
pub mod partition;

pub mod shard;

pub mod broker;
pub mod cli;
pub mod load;
pub mod reactor;
