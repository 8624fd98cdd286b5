//! Damage to a valid input: systematic where a bug would most likely be, random for the rest.

use crate::generate::{Random, put_uvarint};

/// Cuts at every byte, flips every bit, and puts the classic wrong lengths over every position.
pub fn systematic(input: &[u8], mut visit: impl FnMut(&[u8])) {
    for end in 0..input.len() {
        visit(&input[..end]);
    }
    let mut damaged = input.to_vec();
    for position in 0..input.len() {
        for bit in 0..8 {
            damaged[position] ^= 1 << bit;
            visit(&damaged);
            damaged[position] ^= 1 << bit;
        }
        for length in lengths() {
            let end = (position + length.len()).min(damaged.len());
            damaged[position..end].copy_from_slice(&length[..end - position]);
            visit(&damaged);
            damaged[position..end].copy_from_slice(&input[position..end]);
        }
        // A compact length is longer than the byte it replaces: everything behind it moves.
        for length in [1 << 20, i32::MAX as u32, u32::MAX] {
            let mut compact = input[..position].to_vec();
            put_uvarint(&mut compact, length);
            compact.extend(&input[position + 1..]);
            visit(&compact);
        }
    }
}

fn lengths() -> [Vec<u8>; 8] {
    [
        i32::MAX.to_be_bytes().to_vec(),
        i32::MIN.to_be_bytes().to_vec(),
        (-1i32).to_be_bytes().to_vec(),
        (1i32 << 20).to_be_bytes().to_vec(),
        i16::MAX.to_be_bytes().to_vec(),
        (-2i16).to_be_bytes().to_vec(),
        vec![0xff; 10],
        vec![0; 4],
    ]
}

/// A few random changes; sometimes the tail of another input.
pub fn random(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut damaged = input.to_vec();
    for _ in 0..1 + random.below(4) {
        let position = random.below(damaged.len() + 1);
        match random.below(5) {
            0 => damaged.truncate(position),
            1 => damaged.insert(position, random.next() as u8),
            2 => {
                let from = random.below(other.len() + 1);
                damaged.truncate(position);
                damaged.extend(&other[from..]);
            }
            3 => {
                let repeated = damaged[position..].to_vec();
                damaged.extend(repeated);
            }
            _ if position < damaged.len() => damaged[position] = random.next() as u8,
            _ => {}
        }
    }
    damaged
}
