//! What a reactor asks of the value that decides: the shard, or in tests an echo.

use crate::metrics::Metrics;
use crate::shard::{Effect, Event, Shard};
use crate::types::{Deadline, Time};

/// The shard, as its reactor sees it.
pub trait Decide {
    fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>);
    fn end_turn(&mut self, now: Time, effects: &mut Vec<Effect>);
    /// When `end_turn` has something to do although nothing happened.
    fn next_deadline(&self) -> Option<Deadline>;
    /// False while the memory budget is spent: sockets are not read.
    fn accepts_requests(&self) -> bool;
    /// So many bytes of responses wait at sockets that do not take them.
    fn on_unsent_bytes(&mut self, _bytes: usize) {}
    /// Write everything back; answer what is parked.
    fn begin_stop(&mut self, now: Time, effects: &mut Vec<Effect>);
    /// Nothing is dirty and nothing in flight.
    fn drained(&self) -> bool;
    /// Why the process must not go on, if a file could not be written.
    fn failure(&self) -> Option<&str> {
        None
    }
    /// The time that requests take has to be measured.
    fn times_requests(&self) -> bool {
        false
    }
    /// Each request since the last call took so long.
    fn on_request_time(&mut self, _now: Time, _request_ns: u64) {}
    /// What the shard itself counts.
    fn metrics(&self) -> &Metrics;
}

impl Decide for Shard {
    fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        Shard::step(self, now, event, effects);
    }

    fn end_turn(&mut self, now: Time, effects: &mut Vec<Effect>) {
        Shard::end_turn(self, now, effects);
    }

    fn next_deadline(&self) -> Option<Deadline> {
        Shard::next_deadline(self)
    }

    fn accepts_requests(&self) -> bool {
        Shard::accepts_requests(self)
    }

    fn on_unsent_bytes(&mut self, bytes: usize) {
        Shard::on_unsent_bytes(self, bytes);
    }

    fn begin_stop(&mut self, now: Time, effects: &mut Vec<Effect>) {
        Shard::begin_stop(self, now, effects);
    }

    fn drained(&self) -> bool {
        Shard::drained(self)
    }

    fn failure(&self) -> Option<&str> {
        Shard::failure(self)
    }

    fn times_requests(&self) -> bool {
        Shard::times_requests(self)
    }

    fn on_request_time(&mut self, now: Time, request_ns: u64) {
        Shard::on_request_time(self, now, request_ns);
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
