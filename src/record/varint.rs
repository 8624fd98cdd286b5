//! Zigzag varints, the numbers inside records: 7 bits per byte, least significant first.

/// Appends `value` in 1–10 bytes.
pub fn put(target: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        target.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    target.push(rest as u8);
}

/// How many bytes `put` appends for it.
pub fn size(value: i64) -> usize {
    let bits = 64 - (((value << 1) ^ (value >> 63)) as u64 | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes a number of up to 64 bits off the front. `None` if the bytes end inside it or it is longer than 10 bytes.
pub fn take_long(source: &mut &[u8]) -> Option<i64> {
    // Most numbers in records are small.
    if let Some((&byte @ 0..0x80, rest)) = source.split_first() {
        *source = rest;
        return Some(i64::from(byte >> 1) ^ -i64::from(byte & 1));
    }
    let mut bits: u64 = 0;
    for (i, byte) in source.iter().enumerate().take(10) {
        if i == 9 && *byte > 1 {
            return None;
        }
        bits |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *source = &source[i + 1..];
            return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
        }
    }
    None
}

/// Takes a number of up to 32 bits off the front.
pub fn take(source: &mut &[u8]) -> Option<i32> {
    take_long(source)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_of_either_sign_take_one_byte() {
        for (value, bytes) in [(0, &[0u8][..]), (-1, &[1]), (1, &[2]), (63, &[0x7e]), (-64, &[0x7f]), (64, &[0x80, 1])]
        {
            let mut target = Vec::new();
            put(&mut target, value);
            assert_eq!(target, bytes);
        }
    }

    #[test]
    fn unending_and_oversize_numbers_are_refused() {
        assert_eq!(take_long(&mut &[][..]), None);
        assert_eq!(take_long(&mut &[0x80][..]), None);
        assert_eq!(take_long(&mut &[0xff; 11][..]), None);
        assert_eq!(take_long(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]), None);
        let mut beyond = Vec::new();
        put(&mut beyond, i64::from(i32::MAX) + 1);
        assert_eq!(take(&mut &beyond[..]), None);
    }

    proptest! {
        #[test]
        fn every_number_reads_back(value: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_long(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
