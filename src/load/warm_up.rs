//! When a warm-up is over: caches, connections and schedulers have settled when windows agree.

use super::results::IntervalRow;

/// How many intervals must agree.
const WINDOWS: usize = 3;
/// How far rates may differ, largest against smallest.
const RATE_SPREAD: f64 = 1.05;
/// How far medians may differ.
const LATENCY_SPREAD: f64 = 1.10;
/// Medians this close agree, whatever their ratio: the machine's own noise.
const LATENCY_NOISE_US: f64 = 50.0;

#[derive(Clone, Debug, Default)]
pub struct Settling {
    /// Rate and median latency of the last intervals.
    windows: Vec<(f64, f64)>,
}

impl Settling {
    /// Takes in the next interval.
    pub fn is_settled(&mut self, row: &IntervalRow) -> bool {
        let window = match row.acknowledged.records {
            0 => (row.consumed_rate, row.end_to_end.p50_us),
            _ => (row.rate, row.acknowledged.p50_us),
        };
        self.windows.push(window);
        let Some(last) = self.windows.last_chunk::<WINDOWS>() else { return false };
        let extremes = |value: fn(&(f64, f64)) -> f64| {
            let values = last.iter().map(value);
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max))
        };
        let (slowest, fastest) = extremes(|window| window.0);
        let (shortest, longest) = extremes(|window| window.1);
        slowest > 0.0
            && fastest <= slowest * RATE_SPREAD
            && (longest <= shortest * LATENCY_SPREAD || longest - shortest <= LATENCY_NOISE_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::results::Spread;

    fn settled_after(windows: &[(f64, f64)]) -> Option<usize> {
        let mut settling = Settling::default();
        windows.iter().position(|(rate, p50_us)| {
            let acknowledged = Spread { records: 1, p50_us: *p50_us, ..Spread::default() };
            settling.is_settled(&IntervalRow { rate: *rate, acknowledged, ..IntervalRow::default() })
        })
    }

    #[test]
    fn three_windows_must_agree_in_rate_and_latency() {
        assert_eq!(settled_after(&[(100.0, 1000.0), (100.0, 1050.0), (98.0, 1000.0)]), Some(2));
        let slow_start =
            [(20.0, 9000.0), (90.0, 3000.0), (100.0, 1500.0), (100.0, 1000.0), (99.0, 1010.0), (100.0, 990.0)];
        assert_eq!(settled_after(&slow_start), Some(5));
        assert_eq!(settled_after(&[(0.0, 0.0); 9]), None);
        assert_eq!(settled_after(&[(100.0, 1000.0), (100.0, 2000.0), (100.0, 1000.0), (100.0, 2000.0)]), None);
    }

    #[test]
    fn a_few_microseconds_are_noise() {
        assert_eq!(settled_after(&[(100.0, 60.0), (100.0, 100.0), (100.0, 70.0)]), Some(2));
    }
}
