//! What keeps a hostile or a forgotten client cheap: how much one connection may hold, and for how long.

use std::sync::Arc;

use super::admission::Admission;

#[derive(Clone, Debug)]
pub struct NetLimits {
    /// Over all cores.
    pub admission: Arc<Admission>,
    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// `gannet.connection.requests.max`: a connection with so many unanswered requests is not read.
    pub requests_in_flight_max: u32,
    /// A connection with so many unsent response bytes is not read.
    pub response_pause_bytes: usize,
    /// A connection with so many unsent response bytes is closed.
    pub response_bytes_max: usize,
    /// With more unsent response bytes in all, a peer that takes none of its own is closed after `pressed_stall_ms`.
    pub unsent_bytes_max: usize,
    pub pressed_stall_ms: u64,
    /// `connections.max.idle.ms`; `u64::MAX` is never.
    pub idle_max_ms: u64,
    /// A peer that takes none of its responses for so long is closed.
    pub stalled_max_ms: u64,
}

impl Default for NetLimits {
    fn default() -> NetLimits {
        NetLimits {
            admission: Admission::new(usize::MAX, usize::MAX),
            request_bytes_max: 100 << 20,
            requests_in_flight_max: 128,
            response_pause_bytes: 8 << 20,
            response_bytes_max: 256 << 20,
            unsent_bytes_max: 128 << 20,
            pressed_stall_ms: 3000,
            idle_max_ms: 600_000,
            stalled_max_ms: 30_000,
        }
    }
}
