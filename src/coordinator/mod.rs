//! Machines of one shape: decide, append, replay.
