//! The one seeded generator of a run, and the trace whose hash two runs of one seed share.

use std::fmt::Write;

/// splitmix64.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed ^ 0x5157_11a7_0b5e_55ed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0);
        self.next() % end
    }

    /// Both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Every line goes into the hash; they are printed only when one seed is replayed.
pub struct Trace {
    pub hash: u64,
    pub printed: bool,
    line: String,
}

impl Trace {
    pub fn new(printed: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, printed, line: String::new() }
    }

    pub fn note(&mut self, now_us: u64, line: std::fmt::Arguments<'_>) {
        self.line.clear();
        write!(self.line, "{:>10}.{:03} {line}", now_us / 1000, now_us % 1000).expect("a string takes everything");
        for word in self.line.as_bytes().chunks(8) {
            let word = word.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            self.hash = (self.hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        if self.printed {
            eprintln!("{}", self.line);
        }
    }
}
