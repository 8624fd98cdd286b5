//! The process: one pinned reactor per core, the mesh between them, start and stop.
