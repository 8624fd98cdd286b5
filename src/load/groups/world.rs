//! What all participants of a storm share: the plan, one poller, and what the phase that runs has seen.

use std::sync::Arc;

use super::super::net::{Clock, Poller};
use super::super::plan::Plan;
use super::samples::{Consumption, Samples};

#[derive(Debug)]
pub struct World {
    pub plan: Arc<Plan>,
    pub clock: Clock,
    pub poller: Poller,
    pub samples: Samples,
    /// Of the groups that consume, by group.
    pub consumption: Vec<Consumption>,
    /// By group: its latencies do not count, since this phase disturbs it.
    pub is_disturbed: Vec<bool>,
    pub commit_interval_ns: u64,
    /// Heartbeats and commits that were answered, for the live line.
    pub answered: u64,
    /// Why the run cannot go on.
    pub failure: Option<String>,
}
