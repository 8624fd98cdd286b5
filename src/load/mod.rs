//! The load generator, `gannet load`: puts load on any Kafka-compatible cluster and measures it. Open loop: records are due
//! by a schedule that asks the clock only, and latency counts from when a record was due. Threads, sockets and clocks live
//! here; the client's decisions are those of `client`, which this room feeds. It knows nothing of our own broker.
//!
//! `plan` is what a run is to do, `run` drives it, each `worker` thread owns some `producing` and `consuming` clients.
//! `groups` is a load of its own: members of consumer groups that come and go.

mod arguments;
pub mod chart;
mod compare;
mod consuming;
mod file;
mod groups;
mod machine;
mod net;
mod page;
mod picture;
mod plan;
mod plot;
mod producing;
mod random;
mod results;
mod run;
mod schedule;
mod session;
mod settings;
mod setup;
mod stamp;
mod stats;
mod table;
mod units;
mod verify;
mod warm_up;
mod worker;
mod workload;

pub use arguments::LoadArguments;
pub use session::run;
