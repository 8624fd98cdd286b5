//! Gannet: a Kafka-compatible broker for bare-metal Linux. Shards decide, reactors do.

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
pub mod reactor;
