//! Numbers as people write them: sizes with binary suffixes, counts with decimal ones, lengths of time.

use std::time::Duration;

/// `16384`, `16k`, `1m`, `2g`: powers of 1024, as Kafka's users mean them.
pub fn bytes(text: &str) -> Result<usize, String> {
    let scaled = scaled(text, &[("kib", 10), ("mib", 20), ("gib", 30), ("k", 10), ("m", 20), ("g", 30), ("b", 0)]);
    let size = scaled.and_then(|(number, shift)| {
        (number as usize).checked_shl(shift).filter(|size| size >> shift == number as usize)
    });
    size.ok_or_else(|| format!("'{text}' is no size: write bytes, or 16k, 1m, 2g (powers of 1024)"))
}

fn scaled(text: &str, suffixes: &[(&str, u32)]) -> Option<(u64, u32)> {
    let text = text.trim().to_ascii_lowercase();
    let found = suffixes.iter().find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, *shift)));
    let (number, shift) = found.unwrap_or((&text, 0));
    Some((number.trim().parse().ok()?, shift))
}

/// `500`, `50k`, `1.5m`: powers of 1000, for records and records per second.
pub fn count(text: &str) -> Result<f64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, factor) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1e3),
        Some(b'm') => (&lower[..lower.len() - 1], 1e6),
        _ => (&*lower, 1.0),
    };
    let count = number.parse::<f64>().ok().map(|number| number * factor);
    let sound = count.filter(|count| count.is_finite() && *count >= 0.0);
    sound.ok_or_else(|| format!("'{text}' is no number: write 500, 50k or 1.5m (powers of 1000)"))
}

/// `500ms`, `10s`, `2m`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let lower = text.trim().to_ascii_lowercase();
    let units = [("ms", 1e-3), ("us", 1e-6), ("min", 60.0), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let found = units.iter().find_map(|(unit, seconds)| Some((lower.strip_suffix(unit)?, *seconds)));
    let (number, seconds) = found.unwrap_or((&lower, 1.0));
    let length = number.trim().parse::<f64>().ok().map(|number| number * seconds);
    let sound = length.filter(|seconds| (0.0..=1e7).contains(seconds));
    sound
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("'{text}' is no length of time: write 500ms, 10s, 2m or 1h"))
}

/// A length of time as `duration` reads it.
pub fn length(length: Duration) -> String {
    if length.is_zero() { "0s".into() } else { format!("{length:?}") }
}

/// Three digits and a unit of a thousand: `1.23M`, `50.0k`, `7.00`.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        ..1e3 => (value, ""),
        ..1e6 => (value / 1e3, "k"),
        ..1e9 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    format!("{}{unit}", three_digits(value))
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        unknown if unknown.is_nan() => "–".into(),
        0.0 => "0".into(),
        99.95.. => format!("{value:.0}"),
        9.995.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Microseconds as µs, ms or s.
pub fn short_us(us: f64) -> String {
    match us.abs() {
        unknown if unknown.is_nan() => "–".into(),
        ..999.5 => format!("{} µs", three_digits(us)),
        ..999_500.0 => format!("{} ms", three_digits(us / 1e3)),
        _ => format!("{} s", three_digits(us / 1e6)),
    }
}

/// Bytes per second in MiB.
pub fn short_mib(bytes_per_s: f64) -> String {
    format!("{} MiB/s", three_digits(bytes_per_s / (1024.0 * 1024.0)))
}

/// Bytes as a size without a remainder, where there is one: `16k`, `32m`.
pub fn size(bytes: usize) -> String {
    match bytes {
        0 => "0".into(),
        bytes if bytes.is_multiple_of(1 << 30) => format!("{}g", bytes >> 30),
        bytes if bytes.is_multiple_of(1 << 20) => format!("{}m", bytes >> 20),
        bytes if bytes.is_multiple_of(1 << 10) => format!("{}k", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!((bytes("16k"), bytes("1 MiB"), bytes("17")), (Ok(16384), Ok(1 << 20), Ok(17)));
        assert_eq!((count("50k"), count("1.5m"), count("7")), (Ok(50e3), Ok(1.5e6), Ok(7.0)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!((duration("2m"), duration("3")), (Ok(Duration::from_secs(120)), Ok(Duration::from_secs(3))));
        for wrong in ["", "k", "-1", "x", "99999999999999999999g", "17179869184g"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(count("-1").is_err() && count("inf").is_err() && duration("-1s").is_err() && duration("nan").is_err());
    }

    #[test]
    fn numbers_are_told_with_three_digits() {
        assert_eq!([short(7.0), short(999.0), short(50_000.0), short(1.234e6)], ["7.00", "999", "50.0k", "1.23M"]);
        assert_eq!([short_us(85.0), short_us(1234.0), short_us(2.5e6)], ["85.0 µs", "1.23 ms", "2.50 s"]);
        assert_eq!([size(16384), size(1 << 20), size(1000)], ["16k", "1m", "1000"]);
    }
}
