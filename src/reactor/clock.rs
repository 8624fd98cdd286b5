//! The clock: read once per turn, the only source of `Time`; and a thread's own, which stands while it sleeps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Processor time that the calling thread has used.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert!(result == 0, "every thread has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_clock_goes_on_while_it_works() {
        let before = thread_time();
        let mut sum = 0u64;
        while thread_time() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(thread_time() > before);
    }
}
