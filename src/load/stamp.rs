//! What the generator writes at the head of each value: whose record it is, when it was due, and, to verify, its place in
//! its producer's sequence and a checksum. The rest of the value is the workload's.
//!
//! ```text
//! 32 bytes and more:  0 run 4 checksum 8 due_ns 16 delay_us 20 producer 24 sequence 32 the workload's
//! 16 to 31 bytes:     0 run 4 due_ns 12 delay_us 16 the workload's
//! ```

/// A value of at least this size carries the whole stamp, one of at least `TIME_BYTES` the times only.
pub const STAMP_BYTES: usize = 32;
pub const TIME_BYTES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    /// Tells the records of this run from all others.
    pub run: u32,
    /// When the record was due, in nanoseconds since the run began.
    pub due_ns: u64,
    /// How much later it was handed to the client, in microseconds; what is beyond an hour counts as an hour.
    pub delay_us: u32,
    pub producer: u32,
    /// Of the producer's records of this partition, counted from 0.
    pub sequence: u64,
}

/// What a value turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    Whole(Stamp),
    /// Too short for more than the times.
    Times(Stamp),
    /// Another run's, or nobody's.
    Foreign,
    /// The checksum and the bytes do not agree.
    Corrupt,
}

impl Stamp {
    /// Writes as much as fits. `is_checked` adds the checksum over all of the value.
    pub fn write(&self, value: &mut [u8], is_checked: bool) {
        if value.len() >= STAMP_BYTES {
            value[0..4].copy_from_slice(&self.run.to_be_bytes());
            value[8..16].copy_from_slice(&self.due_ns.to_be_bytes());
            value[16..20].copy_from_slice(&self.delay_us.to_be_bytes());
            value[20..24].copy_from_slice(&self.producer.to_be_bytes());
            value[24..32].copy_from_slice(&self.sequence.to_be_bytes());
            let checksum = if is_checked { checksum(value) } else { 0 };
            value[4..8].copy_from_slice(&checksum.to_be_bytes());
        } else if value.len() >= TIME_BYTES {
            value[0..4].copy_from_slice(&self.run.to_be_bytes());
            value[4..12].copy_from_slice(&self.due_ns.to_be_bytes());
            value[12..16].copy_from_slice(&self.delay_us.to_be_bytes());
        }
    }

    pub fn read(value: &[u8], run: u32, is_checked: bool) -> Read {
        let word = |at: usize| value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let long = |at: usize| value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let whole = || {
            let (run, due_ns, delay_us) = (word(0)?, long(8)?, word(16)?);
            Some(Stamp { run, due_ns, delay_us, producer: word(20)?, sequence: long(24)? })
        };
        let times = || Some(Stamp { run: word(0)?, due_ns: long(4)?, delay_us: word(12)?, ..Stamp::default() });
        let read = match value.len() {
            STAMP_BYTES.. => {
                if is_checked && word(4) != Some(checksum(value)) {
                    return Read::Corrupt;
                }
                whole().map(Read::Whole)
            }
            _ => times().map(Read::Times),
        };
        match read {
            Some(found @ (Read::Whole(stamp) | Read::Times(stamp))) if stamp.run == run => found,
            _ => Read::Foreign,
        }
    }
}

/// Over everything but itself.
fn checksum(value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&value[..4]), &value[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 7, due_ns: 1 << 40, delay_us: 9, producer: 3, sequence: 5 };

    #[test]
    fn a_stamp_reads_back_whole_or_in_part() {
        for size in [32, 33, 1000] {
            let mut value = vec![b'x'; size];
            STAMP.write(&mut value, true);
            assert_eq!(Stamp::read(&value, 7, true), Read::Whole(STAMP));
            assert_eq!(Stamp::read(&value, 8, true), Read::Foreign);
        }
        let mut value = vec![b'x'; 20];
        STAMP.write(&mut value, false);
        assert_eq!(Stamp::read(&value, 7, false), Read::Times(Stamp { producer: 0, sequence: 0, ..STAMP }));
        assert_eq!(Stamp::read(b"short", 7, false), Read::Foreign);
        assert_eq!(Stamp::read(b"", 0, true), Read::Foreign);
    }

    #[test]
    fn any_changed_byte_is_found() {
        let mut value = vec![b'x'; 40];
        STAMP.write(&mut value, true);
        for at in 0..value.len() {
            let mut bent = value.clone();
            bent[at] ^= 1;
            assert_eq!(Stamp::read(&bent, 7, true), Read::Corrupt, "byte {at}");
        }
    }
}
