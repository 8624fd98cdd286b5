//! Chance out of a seed: a run with the same seed draws the same keys, sizes and arrivals.

/// A xorshift generator with a multiplied output: fast, and good enough for workloads. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// `stream` tells apart generators of one seed.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut mixed = seed ^ stream.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((mixed ^ mixed >> 31) | 1)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of mean 1: the gaps of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Of mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Ranks 0.. of `items` things, where rank r is drawn in proportion to 1 / (r + 1)^s. Rejection against the integral of
/// that curve: constant time whatever the number of items.
#[derive(Clone, Debug)]
pub struct Zipf {
    items: f64,
    exponent: f64,
    /// The integral up to the left edge of the first rank, and up to the right edge of the last.
    low: f64,
    high: f64,
}

impl Zipf {
    /// At least one item, and an exponent above zero.
    pub fn new(items: u64, exponent: f64) -> Zipf {
        assert!(items > 0 && exponent > 0.0);
        let mut zipf = Zipf { items: items as f64, exponent, low: 0.0, high: 0.0 };
        // The first rank's bar is 1 wide and 1 high: it begins where the curve's area left of 1.5 would be 1.
        zipf.low = zipf.area(1.5) - 1.0;
        zipf.high = zipf.area(zipf.items + 0.5);
        zipf
    }

    /// The integral of x^-s from 1 to x.
    fn area(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { x.ln() } else { (power * x.ln()).exp_m1() / power }
    }

    fn inverse_area(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { area.exp() } else { ((area * power).ln_1p() / power).exp() }
    }

    pub fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.low + random.unit() * (self.high - self.low);
            let rank = self.inverse_area(area).round().clamp(1.0, self.items);
            // Under the bar of this rank, whose right edge is at rank + 0.5?
            if area >= self.area(rank + 0.5) - rank.powf(-self.exponent) {
                return rank as u64 - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_draws_one_sequence_and_streams_differ() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [random.next_u64(), random.next_u64()]
        };
        assert_eq!(draw(7, 0), draw(7, 0));
        assert_ne!(draw(7, 0), draw(7, 1));
        assert_ne!(draw(7, 0), draw(8, 0));
    }

    #[test]
    fn distributions_have_their_means() {
        let mut random = Random::new(1, 0);
        let mean = |draw: &mut dyn FnMut() -> f64| (0..100_000).map(|_| draw()).sum::<f64>() / 1e5;
        assert!((mean(&mut || random.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(&mut || random.normal()).abs() < 0.02);
        assert!((mean(&mut || random.below(100) as f64) - 49.5).abs() < 0.5);
    }

    #[test]
    fn zipf_ranks_come_in_proportion() {
        for exponent in [0.8, 1.0, 1.2] {
            let (items, draws) = (1000, 400_000);
            let zipf = Zipf::new(items, exponent);
            let mut random = Random::new(3, 0);
            let mut counts = vec![0u64; items as usize];
            (0..draws).for_each(|_| counts[zipf.draw(&mut random) as usize] += 1);
            let weight: f64 = (1..=items).map(|rank| (rank as f64).powf(-exponent)).sum();
            for rank in [1, 2, 3, 10, 100] {
                let expected = draws as f64 * (rank as f64).powf(-exponent) / weight;
                let found = counts[rank - 1] as f64;
                assert!(
                    (found - expected).abs() < 6.0 * expected.sqrt(),
                    "s {exponent} rank {rank}: {found} for {expected}"
                );
            }
        }
    }
}
