//! The clock: read once per turn, the only source of `Time`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::types::Time;

/// One start for the whole process, so that a deadline means the same on every core.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Time {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Time { monotonic_us: self.start.elapsed().as_micros() as u64, wall_ms: i64::try_from(wall).unwrap_or(i64::MAX) }
    }
}
