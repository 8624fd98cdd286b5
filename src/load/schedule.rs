//! When records are due: an open loop, which asks the clock and never the broker. A record that cannot be sent when it is
//! due stays due at that time, and its latency counts from there.

use std::str::FromStr;

use super::random::Random;
use super::units::{count, short};

/// How many records per second, all producers together.
#[derive(Clone, PartialEq, Debug)]
pub enum Rate {
    PerSecond(f64),
    /// These rates one after another, each as long as the other steps.
    Steps(Vec<f64>),
    /// As fast as the client's own limits allow: there is no intended time but the actual one.
    Max,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Arrivals {
    /// Evenly spaced
    Fixed,
    /// As independent users come: exponential gaps
    Poisson,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate::Max);
        }
        let rate =
            count(text).map_err(|_| format!("'{text}' is no rate: write records per second, such as 50k, or max"))?;
        if (0.001..=1e8).contains(&rate) {
            Ok(Rate::PerSecond(rate))
        } else {
            Err("a rate is 0.001 to 100m, or max".into())
        }
    }
}

impl Rate {
    /// `10k:100k:10k`: from, to, step.
    pub fn ramp(text: &str) -> Result<Rate, String> {
        let wrong = || format!("'{text}' is no ramp: write FROM:TO:STEP in records per second, such as 10k:100k:10k");
        let parts: Vec<f64> = text.split(':').map(count).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let [from, to, step] = parts[..] else { return Err(wrong()) };
        if from < 0.001 || to < from || step <= 0.0 || to > 1e8 {
            return Err(wrong());
        }
        let steps = ((to - from) / step + 1e-9).floor() as usize + 1;
        if steps > 1000 {
            return Err(format!("a ramp of {steps} steps is too long: at most 1000"));
        }
        Ok(Rate::Steps((0..steps).map(|index| from + step * index as f64).collect()))
    }

    pub fn steps(&self) -> &[f64] {
        match self {
            Rate::PerSecond(rate) => std::slice::from_ref(rate),
            Rate::Steps(steps) => steps,
            Rate::Max => &[],
        }
    }

    /// Mean of the steps; `None` for the maximum.
    pub fn mean(&self) -> Option<f64> {
        let steps = self.steps();
        (!steps.is_empty()).then(|| steps.iter().sum::<f64>() / steps.len() as f64)
    }

    pub fn text(&self) -> String {
        match self {
            Rate::PerSecond(rate) => format!("{}/s", short(*rate)),
            Rate::Steps(steps) => {
                let (first, last) = (steps.first().copied().unwrap_or(0.0), steps.last().copied().unwrap_or(0.0));
                format!("{}/s to {}/s in {} steps", short(first), short(last), steps.len())
            }
            Rate::Max => "max".into(),
        }
    }
}

/// One producer's share of the rate. Times are nanoseconds since the run began.
#[derive(Clone, Debug)]
pub struct Schedule {
    steps: Vec<f64>,
    step_ns: u64,
    share: f64,
    arrivals: Arrivals,
    random: Random,
    /// When the steps begin; until then the first rate holds.
    measured_from_ns: u64,
    /// In picoseconds, so that a rate of millions does not drift: 2^64 of them are 213 days.
    due_ps: u64,
}

impl Schedule {
    /// Producer `index` of `producers`; `None` where there is no schedule, at the maximum rate.
    pub fn new(
        rate: &Rate,
        step_ns: u64,
        arrivals: Arrivals,
        index: usize,
        producers: usize,
        random: Random,
    ) -> Option<Schedule> {
        let steps = rate.steps().to_vec();
        let first = *steps.first()?;
        let mut schedule = Schedule {
            steps,
            step_ns: step_ns.max(1),
            share: producers as f64,
            arrivals,
            random,
            measured_from_ns: u64::MAX,
            due_ps: (1e12 / first * index as f64) as u64,
        };
        if arrivals == Arrivals::Poisson {
            schedule.due_ps = 0;
            schedule.advance();
        }
        Some(schedule)
    }

    pub fn measure_from(&mut self, ns: u64) {
        self.measured_from_ns = ns;
    }

    pub fn due_ns(&self) -> u64 {
        self.due_ps / 1000
    }

    /// From one record to the next, on average, at the present rate.
    pub fn gap_ns(&self) -> u64 {
        (self.gap_ps() / 1000.0) as u64
    }

    fn gap_ps(&self) -> f64 {
        let into_ns = self.due_ns().saturating_sub(self.measured_from_ns);
        let step = ((into_ns / self.step_ns) as usize).min(self.steps.len() - 1);
        1e12 * self.share / self.steps[step]
    }

    /// The record that was due is taken.
    pub fn advance(&mut self) {
        let gap_ps = self.gap_ps();
        let gap_ps = match self.arrivals {
            Arrivals::Fixed => gap_ps,
            Arrivals::Poisson => gap_ps * self.random.exponential(),
        };
        self.due_ps = self.due_ps.saturating_add(gap_ps.round() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(rate: &Rate, arrivals: Arrivals, index: usize, producers: usize, upto_ns: u64) -> Vec<u64> {
        let mut schedule =
            Schedule::new(rate, 1_000_000_000, arrivals, index, producers, Random::new(5, index as u64)).unwrap();
        schedule.measure_from(0);
        let mut due = Vec::new();
        while schedule.due_ns() < upto_ns {
            due.push(schedule.due_ns());
            schedule.advance();
        }
        due
    }

    #[test]
    fn producers_share_a_rate_evenly_and_in_turn() {
        let mut all: Vec<u64> =
            (0..4).flat_map(|index| due(&Rate::PerSecond(1000.0), Arrivals::Fixed, index, 4, 1_000_000_000)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).map(|i| i * 1_000_000).collect::<Vec<u64>>());
    }

    #[test]
    fn a_rate_of_millions_does_not_drift() {
        let count = due(&Rate::PerSecond(3e6), Arrivals::Fixed, 0, 1, 1_000_000_000).len();
        assert!((2_999_990..=3_000_010).contains(&count), "{count}");
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_deviation_of_their_kind() {
        let due = due(&Rate::PerSecond(1000.0), Arrivals::Poisson, 0, 1, 20_000_000_000);
        assert!((due.len() as f64 - 20_000.0).abs() < 6.0 * 20_000f64.sqrt(), "{}", due.len());
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05);
    }

    #[test]
    fn a_ramp_changes_its_rate_with_each_step_and_stays_at_the_last() {
        let rate = Rate::ramp("100:300:100").unwrap();
        assert_eq!(rate, Rate::Steps(vec![100.0, 200.0, 300.0]));
        let due = due(&rate, Arrivals::Fixed, 0, 1, 4_000_000_000);
        let in_second = |second: u64| due.iter().filter(|ns| **ns / 1_000_000_000 == second).count();
        // A gap is whole picoseconds, so a step may take one record of the next.
        let expected = [100, 200, 300, 300];
        assert!((0..4).all(|second| in_second(second as u64).abs_diff(expected[second]) <= 1));
    }

    #[test]
    fn warm_up_keeps_the_first_rate() {
        let rate = Rate::ramp("100:300:100").unwrap();
        let mut schedule = Schedule::new(&rate, 1_000_000_000, Arrivals::Fixed, 0, 1, Random::new(5, 0)).unwrap();
        (0..500).for_each(|_| schedule.advance());
        assert_eq!(schedule.due_ns(), 5_000_000_000);
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for wrong in ["0", "-1", "", "fast", "1e99"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        for wrong in ["1:2", "2:1:1", "1:2:0", "a:b:c", "1:1m:1"] {
            assert!(Rate::ramp(wrong).is_err(), "{wrong}");
        }
    }
}
