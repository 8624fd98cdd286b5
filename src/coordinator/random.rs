//! Chance out of a seed: every seed gives another sequence, the same seed the same (splitmix64).

use crate::types::Uuid;

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn draw(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// In the form of RFC 9562, as `java.util.UUID` prints it: 36 characters of lower-case hex and dashes.
    pub fn draw_uuid_text(&mut self) -> String {
        let bytes = Uuid::from_random(self.draw()).0;
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_form_that_java_prints() {
        let text = Random::new(7).draw_uuid_text();
        assert_eq!(text.len(), 36);
        assert_eq!(text.match_indices('-').map(|(at, _)| at).collect::<Vec<_>>(), [8, 13, 18, 23]);
        assert_eq!((text.as_bytes()[14], Random::new(7).draw_uuid_text()), (b'4', text.clone()));
    }
}
