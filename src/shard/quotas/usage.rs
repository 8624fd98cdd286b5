//! What clients with a quota took, on all cores together. A quota is the broker's, and a client's connections lie on any
//! core: each core counts its own traffic at once and tells the others every `TELL_INTERVAL_MS`, so that an answer never
//! waits for another core and a client on one connection gets its whole quota. What a core does not know yet is a quarter
//! of a percent of a window, and is paid for in the next answer.

use std::sync::Arc;

use super::limits::QuotaKind;
use super::window::{Sampling, Window};
use crate::types::Map;

pub const TELL_INTERVAL_MS: u64 = 25;

/// What is counted together: the clients that share a quota.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Counted {
    pub kind: QuotaKind,
    /// Or the address that connections come from. Empty where users are not counted apart.
    pub user: Arc<str>,
    /// Empty where client ids are not counted apart.
    pub client_id: Arc<str>,
}

/// Memory that windows may take. Client ids are the clients' choice, so there may be any number of them.
const BYTES_MAX: usize = 16 << 20;
/// Of a window and its place in the tables, and of each sample.
const WINDOW_BYTES: usize = 192;
const SAMPLE_BYTES: usize = 24;
/// Windows below this number are not looked through for idle ones.
const SWEEP_WINDOWS_MIN: usize = 1024;

pub(super) struct Usage {
    sampling: Sampling,
    windows: Map<Counted, Window>,
    /// Of the windows, as `cost` has it.
    bytes: usize,
    /// Idle windows are dropped when there are so many, or no room for more.
    sweep_at: usize,
    /// Not before then: looking through all windows must not become every request's work.
    next_sweep_ms: u64,
    /// Counted here and not yet told.
    untold: Map<Counted, f64>,
    /// There are other cores to tell.
    tells: bool,
}

impl Usage {
    pub fn new(sampling: Sampling, tells: bool) -> Usage {
        assert!(sampling.samples > 0 && sampling.sample_ms > 0);
        Usage {
            sampling,
            windows: Map::default(),
            bytes: 0,
            sweep_at: SWEEP_WINDOWS_MIN,
            next_sweep_ms: 0,
            untold: Map::default(),
            tells,
        }
    }

    /// Counts what was taken here.
    pub fn count(&mut self, now_ms: u64, counted: &Counted, amount: f64) {
        if self.tells && amount > 0.0 {
            match self.untold.get_mut(counted) {
                Some(untold) => *untold += amount,
                None => drop(self.untold.insert(counted.clone(), amount)),
            }
        }
        self.add(now_ms, counted, amount);
    }

    /// Counts what was taken on another core.
    pub fn add(&mut self, now_ms: u64, counted: &Counted, amount: f64) {
        let sampling = self.sampling;
        self.window(now_ms, counted).count(now_ms, amount, sampling);
    }

    /// How long the client must hold back if it took `more` now, nothing being counted; 0 while it is within its quota.
    pub fn throttle_ms(&mut self, now_ms: u64, counted: &Counted, more: f64, bound: f64) -> u64 {
        let sampling = self.sampling;
        self.window(now_ms, counted).throttle_ms(now_ms, more, bound, sampling)
    }

    /// Nothing of it was taken lately.
    pub fn is_idle(&mut self, now_ms: u64, counted: &Counted) -> bool {
        let sampling = self.sampling;
        self.window(now_ms, counted).is_idle(now_ms, sampling)
    }

    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    pub fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    pub fn take_untold(&mut self) -> Vec<(Counted, f64)> {
        std::mem::take(&mut self.untold).into_iter().collect()
    }

    /// When the room is spent, newcomers of a kind are counted as one: a client gains nothing by ever new ids.
    fn window(&mut self, now_ms: u64, counted: &Counted) -> &mut Window {
        if !self.windows.contains_key(counted) {
            let is_full = self.windows.len() >= self.sweep_at || self.bytes + self.cost(counted) > BYTES_MAX;
            if is_full && now_ms >= self.next_sweep_ms {
                self.sweep(now_ms);
            }
            if self.bytes + self.cost(counted) > BYTES_MAX {
                let newcomers = Counted { kind: counted.kind, user: "".into(), client_id: "".into() };
                return self.windows.entry(newcomers).or_default();
            }
            self.bytes += self.cost(counted);
        }
        self.windows.entry(counted.clone()).or_default()
    }

    fn cost(&self, counted: &Counted) -> usize {
        WINDOW_BYTES + SAMPLE_BYTES * (self.sampling.samples + 1) + counted.user.len() + counted.client_id.len()
    }

    fn sweep(&mut self, now_ms: u64) {
        let sampling = self.sampling;
        self.next_sweep_ms = now_ms + sampling.sample_ms;
        self.windows.retain(|_, window| !window.is_idle(now_ms, sampling));
        self.bytes = self.windows.keys().map(|counted| self.cost(counted)).sum();
        self.sweep_at = SWEEP_WINDOWS_MIN.max(2 * self.windows.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        Usage::new(Sampling { samples: 11, sample_ms: 1000 }, true)
    }

    fn client(client_id: &str) -> Counted {
        Counted { kind: QuotaKind::Produce, user: "".into(), client_id: client_id.into() }
    }

    #[test]
    fn cores_that_tell_each_other_hold_a_client_to_one_quota() {
        let (mut here, mut there) = (usage(), usage());
        here.count(0, &client("app"), 8000.0);
        here.count(0, &client("app"), 1000.0);
        there.count(0, &client("app"), 8000.0);
        assert_eq!(there.throttle_ms(10, &client("app"), 0.0, 1000.0), 0, "it does not know yet");
        for (counted, amount) in here.take_untold() {
            there.add(10, &counted, amount);
        }
        assert_eq!(there.throttle_ms(10, &client("app"), 0.0, 1000.0), 6990);
        assert_eq!(there.take_untold(), [(client("app"), 8000.0)], "what was heard is not told on");
        assert!(!here.has_untold());
    }

    #[test]
    fn ever_new_client_ids_gain_nothing_and_cost_a_bounded_amount() {
        let mut usage = usage();
        let long = "x".repeat(30_000);
        for index in 0..2_000 {
            usage.count(5, &client(&format!("{long}{index}")), 1000.0);
        }
        assert!(usage.bytes <= BYTES_MAX && usage.windows.len() < 600);
        assert!(usage.throttle_ms(5, &client("another"), 0.0, 1000.0) == 0, "a short id still fits");
        assert!(usage.throttle_ms(5, &client(&format!("{long}another")), 0.0, 1000.0) > 0);
        assert!(usage.throttle_ms(11_005, &client(&format!("{long}another")), 0.0, 1000.0) == 0);
        assert!(usage.windows.len() < 3, "idle windows are gone");
    }

    #[test]
    fn an_idle_client_leaves_no_window_behind() {
        let mut usage = usage();
        for index in 0..100_000u64 {
            usage.count(index * 100, &client(&index.to_string()), 1.0);
            usage.take_untold();
        }
        assert!(usage.windows.len() <= SWEEP_WINDOWS_MIN, "{}", usage.windows.len());
    }
}
