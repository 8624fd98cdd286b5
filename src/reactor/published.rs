//! Counts of all cores, where threads that are no reactor find them. Each core puts its own in; a lock is held for one copy.

use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::Metrics;
use crate::types::ShardId;

/// What each core counted until a second ago at most, for whoever asks from outside.
pub struct Published(Vec<Mutex<Metrics>>);

impl Published {
    pub fn new(shards: usize) -> Arc<Published> {
        Arc::new(Published((0..shards).map(|_| Mutex::default()).collect()))
    }

    /// Of all cores together.
    pub fn merged(&self) -> Metrics {
        let mut all = Metrics::default();
        for core in &self.0 {
            all.merge(&core.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    /// What this core has counted by now.
    pub fn put(&self, core: ShardId, metrics: Metrics) {
        *self.0[usize::from(core.0)].lock().unwrap_or_else(PoisonError::into_inner) = metrics;
    }
}
