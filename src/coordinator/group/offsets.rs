//! Committed offsets of the groups of one partition.

#[derive(Debug, Default)]
pub(super) struct Offsets {}
