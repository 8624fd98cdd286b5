//! How much of something one client took lately: a row of samples, counted as Kafka counts it, so that the same quota slows
//! a client down to the same rate. Owned by `Usage`; it knows no clients and reads no clock.

use std::collections::VecDeque;

/// `quota.window.num` samples of `quota.window.size.seconds` each. The last one is still being filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sampling {
    pub samples: usize,
    pub sample_ms: u64,
}

impl Sampling {
    /// A sample to which nothing was added for so long counts no more.
    pub fn kept_ms(self) -> u64 {
        self.sample_ms.saturating_mul(self.samples as u64)
    }

    /// Time that the complete samples cover.
    pub fn complete_ms(self) -> u64 {
        self.sample_ms.saturating_mul(self.samples as u64 - 1)
    }
}

/// Invariant: samples stand in the order of their starts, at most one more than `Sampling::samples`.
#[derive(Default, Debug)]
pub(super) struct Window {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    start_ms: u64,
    last_ms: u64,
    amount: f64,
}

impl Window {
    pub fn count(&mut self, now_ms: u64, amount: f64, sampling: Sampling) {
        match self.samples.back_mut() {
            Some(sample) if now_ms.saturating_sub(sample.start_ms) < sampling.sample_ms => {
                sample.amount += amount;
                sample.last_ms = now_ms;
            }
            _ => {
                if self.samples.len() > sampling.samples {
                    self.samples.pop_front();
                }
                self.samples.push_back(Sample { start_ms: now_ms, last_ms: now_ms, amount });
            }
        }
    }

    /// How long nothing more may come until the rate is down at `bound` a second, if `more` came now; 0 while it is within.
    /// To bring rate R over a window of W down to T, W must grow by X so that R·W/(W+X) = T, hence X = (R-T)/T·W.
    pub fn throttle_ms(&mut self, now_ms: u64, more: f64, bound: f64, sampling: Sampling) -> u64 {
        self.forget_old(now_ms, sampling);
        let window_ms = self.length_ms(now_ms, sampling) as f64;
        let amount = more + self.samples.iter().map(|sample| sample.amount).sum::<f64>();
        let rate = amount * 1000.0 / window_ms;
        if rate <= bound { 0 } else { ((rate - bound) / bound * window_ms).round() as u64 }
    }

    /// Like one that never counted anything.
    pub fn is_idle(&mut self, now_ms: u64, sampling: Sampling) -> bool {
        self.forget_old(now_ms, sampling);
        self.samples.is_empty()
    }

    fn forget_old(&mut self, now_ms: u64, sampling: Sampling) {
        let is_old = |sample: &mut Sample| now_ms.saturating_sub(sample.last_ms) >= sampling.kept_ms();
        while self.samples.pop_front_if(is_old).is_some() {}
    }

    /// A client that has just begun is measured as if the complete samples lay behind it, or its first request would look
    /// like a huge rate.
    fn length_ms(&self, now_ms: u64, sampling: Sampling) -> u64 {
        let elapsed_ms = self.samples.front().map_or(0, |oldest| now_ms.saturating_sub(oldest.start_ms));
        let missing = (sampling.samples as u64 - 1).saturating_sub(elapsed_ms / sampling.sample_ms);
        elapsed_ms.saturating_add(missing.saturating_mul(sampling.sample_ms)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLING: Sampling = Sampling { samples: 11, sample_ms: 1000 };

    fn throttle(window: &mut Window, now_ms: u64, amount: f64, bound: f64) -> u64 {
        window.count(now_ms, amount, SAMPLING);
        window.throttle_ms(now_ms, 0.0, bound, SAMPLING)
    }

    /// Ten seconds at 400 a second, then 2300 at once: 6300 in 10.5 s is 600 a second, and (600-500)/500·10.5 s = 2.1 s.
    #[test]
    fn a_spike_is_paid_for_as_in_kafka() {
        let mut window = Window::default();
        for second in 0..10 {
            assert_eq!(throttle(&mut window, second * 1000, 400.0, 500.0), 0);
        }
        assert_eq!(window.throttle_ms(10_500, 2300.0, 500.0, SAMPLING), 2100, "asked before");
        assert_eq!(throttle(&mut window, 10_500, 2300.0, 500.0), 2100);
        for second in 0..10 {
            throttle(&mut window, 12_600 + second * 1000, 400.0, 500.0);
        }
        assert_eq!(throttle(&mut window, 22_600, 0.0, 500.0), 0, "the spike has left the window");
    }

    #[test]
    fn the_first_request_is_measured_over_all_complete_samples() {
        assert_eq!(throttle(&mut Window::default(), 77, 10_000.0, 1000.0), 0);
        assert_eq!(throttle(&mut Window::default(), 77, 10_100.0, 1000.0), 100);
        let single = Sampling { samples: 1, sample_ms: 1000 };
        let mut window = Window::default();
        window.count(5, 3.0, single);
        assert_eq!(window.throttle_ms(5, 0.0, 1000.0, single), 2, "a window of no length counts as a millisecond");
    }

    #[test]
    fn a_sample_counts_until_nothing_was_added_to_it_for_a_whole_window() {
        let mut window = Window::default();
        window.count(0, 50_000.0, SAMPLING);
        window.count(999, 1.0, SAMPLING);
        assert!(window.throttle_ms(11_998, 0.0, 1000.0, SAMPLING) > 0);
        assert!(!window.is_idle(11_998, SAMPLING));
        assert_eq!(window.throttle_ms(11_999, 0.0, 1000.0, SAMPLING), 0);
        assert!(window.is_idle(11_999, SAMPLING));
    }

    #[test]
    fn a_client_that_obeys_its_throttle_time_gets_the_bound() {
        let (mut window, mut now_ms, mut sent) = (Window::default(), 0, 0.0);
        while now_ms < 120_000 {
            sent += 16_000.0;
            now_ms += 1 + throttle(&mut window, now_ms, 16_000.0, 100_000.0);
            assert!(window.samples.len() <= 12);
        }
        let rate = sent / (now_ms as f64 / 1000.0);
        assert!((rate / 100_000.0 - 1.0).abs() < 0.1, "{rate}: the first ten seconds' worth may come at once");
    }
}
