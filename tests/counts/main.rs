//! Counts that noise does not touch: allocations, copies and messages between cores per request, flushes and entries into
//! the kernel per message, processor time against a loop that moves the same bytes. A figure that grows fails here, on any
//! machine, before a bench shows it. Nothing is asserted about wall time.

mod allocations;
mod cores;
mod deciding;
#[allow(dead_code)]
#[path = "../broker/fixture.rs"]
mod fixture;
mod process;
mod wire;
