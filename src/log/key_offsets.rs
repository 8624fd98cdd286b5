//! The last offset of each key, as compaction sees them: of a size that is fixed when it is made. Keys are known by 128 bits
//! of two keyed hashes, so that long keys cost no more than short ones.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use crate::types::Offset;

/// Two halves of the hash, and the offset.
const SLOT_BYTES: u64 = 24;

/// An open-addressed table. Its memory is asked for at once and touched as it fills.
pub struct KeyOffsets {
    high: Vec<u64>,
    low: Vec<u64>,
    /// One more than the offset; 0 where the slot is free.
    offsets: Vec<Offset>,
    used: usize,
    seed: u64,
}

impl fmt::Debug for KeyOffsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyOffsets({} keys)", self.used)
    }
}

impl KeyOffsets {
    /// Room for `keys` keys, or for as many as `budget_bytes` allow.
    pub fn new(keys: u64, budget_bytes: u64, seed: u64) -> KeyOffsets {
        let slots = (keys.saturating_mul(4) / 3 + 8).min((budget_bytes / SLOT_BYTES).max(8)) as usize;
        KeyOffsets { high: vec![0; slots], low: vec![0; slots], offsets: vec![0; slots], used: 0, seed }
    }

    /// Whether so many more keys fit for certain. A quarter of the slots stays free, so that searches are short.
    pub fn has_room_for(&self, keys: usize) -> bool {
        self.used.saturating_add(keys) <= self.offsets.len() / 4 * 3
    }

    /// This key stands at this offset too. Offsets rise.
    pub fn put(&mut self, key: &[u8], offset: Offset) {
        let (high, low) = self.hash(key);
        let slot = self.slot(high, low);
        if self.offsets[slot] == 0 {
            assert!(self.used + 1 < self.offsets.len(), "whoever puts a key asks for room before");
            self.used += 1;
            (self.high[slot], self.low[slot]) = (high, low);
        }
        self.offsets[slot] = self.offsets[slot].max(offset + 1);
    }

    /// The last offset of this key.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let (high, low) = self.hash(key);
        let offset = self.offsets[self.slot(high, low)];
        (offset > 0).then_some(offset - 1)
    }

    /// Where this hash is, or would be.
    fn slot(&self, high: u64, low: u64) -> usize {
        let slots = self.offsets.len();
        let mut slot = (low % slots as u64) as usize;
        while self.offsets[slot] != 0 && (self.high[slot], self.low[slot]) != (high, low) {
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        slot
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let half = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher.write(key);
            hasher.finish()
        };
        (half(self.seed), half(!self.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_counts() {
        let mut keys = KeyOffsets::new(1000, 1 << 20, 7);
        for offset in 0..3000 {
            keys.put(format!("key {}", offset % 1000).as_bytes(), offset);
        }
        for key in 0..1000 {
            assert_eq!(keys.get(format!("key {key}").as_bytes()), Some(2000 + key));
        }
        assert_eq!((keys.get(b"another"), keys.get(b"")), (None, None));
        keys.put(b"", 3000);
        assert_eq!((keys.get(b""), keys.used), (Some(3000), 1001));
    }

    #[test]
    fn its_size_follows_the_need_up_to_the_budget() {
        assert!(KeyOffsets::new(10, 1 << 20, 0).has_room_for(10));
        let bounded = KeyOffsets::new(u64::MAX, 24_000, 0);
        assert_eq!(bounded.offsets.len(), 1000);
        assert!(bounded.has_room_for(750) && !bounded.has_room_for(751));
    }
}
