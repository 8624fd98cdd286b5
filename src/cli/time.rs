//! Points in time as people write them.

use crate::types::Timestamp;

/// Milliseconds since 1970, or `YYYY-MM-DD[THH:MM[:SS[.mmm]]][Z|±HH:MM]`; UTC unless it says otherwise.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    if let Ok(timestamp @ 0..) = text.parse() {
        return Ok(timestamp);
    }
    date_and_time(text).ok_or_else(|| {
        "a time is milliseconds since 1970, or YYYY-MM-DDTHH:MM:SS with Z or an offset such as +01:00".to_owned()
    })
}

fn date_and_time(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    let (time, offset_minutes) = match time.find(['Z', '+', '-']) {
        None => (time, 0),
        Some(at) if &time[at..] == "Z" => (&time[..at], 0),
        Some(at) => {
            let (hours, minutes) = time[at + 1..].split_once(':')?;
            let minutes = number(hours, 2).filter(|hours| *hours < 24)? * 60 + number(minutes, 2)?;
            (&time[..at], if time[at..].starts_with('-') { -minutes } else { minutes })
        }
    };
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (number(time.next()?, 2)?, number(time.next()?, 2)?);
    let (second, millis) = match time.next() {
        None => (0, 0),
        Some(second) => match second.split_once('.') {
            None => (number(second, 2)?, 0),
            Some((second, fraction)) => (number(second, 2)?, number(fraction, 3)?),
        },
    };
    let is_date = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + millis)
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Leap days of all years before this one, counted from year 1.
    let leap_days = |year: i64| (year - 1).div_euclid(4) - (year - 1).div_euclid(100) + (year - 1).div_euclid(400);
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    (year - 1970) * 365 + leap_days(year) - leap_days(1970) + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_people_write_it() {
        for (text, timestamp) in [
            ("1700000000000", 1_700_000_000_000),
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14 22:13:20", 1_700_000_000_000),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
            ("2023-11-14T16:43:20-05:30", 1_700_000_000_000),
            ("2000-03-01T00:00Z", 951_868_800_000),
            ("2024-02-29", 1_709_164_800_000),
            ("1969-12-31T23:59:59Z", -1000),
        ] {
            assert_eq!(parse(text), Ok(timestamp), "{text}");
        }
        for wrong in ["", "-5", "2023-02-29", "2023-13-01", "2023-1-1", "2023-01-01T24:00", "2023-01-01T10", "now"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
