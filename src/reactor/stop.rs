//! How a process with several reactors ends: all of them, when none has anything left to say to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::types::ShardId;

/// How the process asks its reactors to stop, and they agree that all are done.
pub struct Stop {
    requested: AtomicBool,
    quiet: Vec<AtomicBool>,
}

impl Stop {
    pub fn new(shards: usize) -> Arc<Stop> {
        Arc::new(Stop {
            requested: AtomicBool::new(false),
            quiet: (0..shards).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// Ring every doorbell afterwards.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// A core may leave only when none will speak to it any more.
    pub fn all_quiet(&self, shard: ShardId, quiet: bool) -> bool {
        self.quiet[usize::from(shard.0)].store(quiet, Ordering::SeqCst);
        quiet && self.quiet.iter().all(|quiet| quiet.load(Ordering::SeqCst))
    }
}
