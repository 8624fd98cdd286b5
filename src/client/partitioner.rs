//! Which partition a record goes to: where its key's hash says, as in Kafka's own clients, or, without a key, to one
//! partition until its batch is full and then to the next, so that batches are large (KIP-480).

/// Chooses among the partitions of one topic.
#[derive(Clone, Debug)]
pub struct Partitioner {
    partitions: u32,
    sticky: u32,
}

impl Partitioner {
    /// At least one partition, counted from 0. `start` is where keyless records go first: it spreads producers that each
    /// send little.
    pub fn new(partitions: u32, start: u32) -> Partitioner {
        assert!(partitions > 0, "a topic has at least one partition");
        Partitioner { partitions, sticky: start % partitions }
    }

    pub fn partition(&self, key: Option<&[u8]>) -> u32 {
        match key {
            Some(key) => (murmur2(key) & 0x7fff_ffff) % self.partitions,
            None => self.sticky,
        }
    }

    /// The batch of the keyless records' partition is full: the next ones go elsewhere.
    pub fn on_batch_full(&mut self) {
        self.sticky = (self.sticky + 1) % self.partitions;
    }
}

/// MurmurHash2, 32 bits, in the form and with the seed of Kafka's clients, so that a key lands on the same partition
/// whoever produces it.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut word = u32::from_le_bytes(word.try_into().expect("chunks of 4")).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_kafka_s_own_clients() {
        // The vectors of Kafka's UtilsTest.
        let vectors: [(&[u8], i32); 7] = [
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            (b"abc", 479470107),
            (b"", 275646681),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn a_key_always_goes_to_its_partition_and_keyless_records_move_on_with_a_full_batch() {
        let mut partitioner = Partitioner::new(3, 5);
        assert_eq!(partitioner.partition(None), 2);
        let of_key = partitioner.partition(Some(b"foobar"));
        assert_eq!(of_key, ((-790332482i32 & 0x7fff_ffff) % 3) as u32);
        partitioner.on_batch_full();
        assert_eq!((partitioner.partition(None), partitioner.partition(Some(b"foobar"))), (0, of_key));
    }
}
