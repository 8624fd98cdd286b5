//! Words that every room may say: identifiers, offsets, time, and a map with a fixed hasher.

mod few;

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;

pub use few::Few;

/// Position of a record in a partition; 0 is the first ever appended.
pub type Offset = i64;
/// Counts the leaders of a partition (KIP-101); -1 where unknown.
pub type LeaderEpoch = i32;
/// `node.id` of a broker.
pub type BrokerId = i32;
/// Identity of an idempotent producer (KIP-98); -1 where there is none.
pub type ProducerId = i64;
/// Counts the incarnations of one producer id; -1 where there is none.
pub type ProducerEpoch = i16;
/// Milliseconds since 1970-01-01 UTC, as in record timestamps; -1 where there is none.
pub type Timestamp = i64;

/// One core's shard, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Node ids of a broker's cores, where each is a node of its own for clients, stand this far apart: core 3 of broker 7
    /// is node 300007. Core 0 has the broker's own id.
    pub const NODE_ID_STEP: BrokerId = 100_000;
    /// Beyond so many cores the ids would run out.
    pub const NODES_MAX: u16 = (BrokerId::MAX / ShardId::NODE_ID_STEP) as u16;

    /// The node that this core of a broker is. Saturates where the settings' limits were not kept.
    pub fn node_of(self, broker: BrokerId) -> BrokerId {
        broker.saturating_add(i32::from(self.0).saturating_mul(Self::NODE_ID_STEP))
    }
}

/// A 128-bit identifier in Kafka's text form: base64url without padding, 22 characters (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// Identity of a topic: survives restarts, changes when a topic is created again under the same name.
pub type TopicId = Uuid;

impl Uuid {
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// Kafka's own id of `__cluster_metadata`.
    pub const METADATA_TOPIC: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// A version-4 uuid out of 128 random bits.
    pub fn from_random(bits: u128) -> Uuid {
        let mut bytes = bits.to_be_bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (i, character) in text.iter_mut().enumerate() {
            let sextet = if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
            *character = BASE64_URL[(sextet & 63) as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Uuid, Self::Err> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return Err("an id is 22 characters of base64url");
        }
        let mut bits: u128 = 0;
        for (i, character) in text.iter().enumerate() {
            let sextet = BASE64_URL.iter().position(|c| c == character).ok_or("not a base64url character")? as u128;
            bits = if i < 21 { bits << 6 | sextet } else { bits << 2 | sextet >> 4 };
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

/// One partition of one topic, by the topic's id: a partition of a re-created topic is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId {
    pub topic: TopicId,
    /// Counted from 0.
    pub index: i32,
}

impl PartitionId {
    /// The metadata log, the one partition that exists before any topic does.
    pub const METADATA: PartitionId = PartitionId { topic: Uuid::METADATA_TOPIC, index: 0 };

    /// The core that owns this partition. A pure function, so that every core finds the owner without asking and
    /// another core count moves nothing on disk. Neighbouring partitions of a topic land on neighbouring cores.
    pub fn owner(self, shards: u16) -> ShardId {
        assert!(shards > 0);
        if self == PartitionId::METADATA {
            return ShardId(0);
        }
        let id = u128::from_be_bytes(self.topic.0);
        let start = (id >> 64) as u64 ^ id as u64;
        ShardId((start.wrapping_add(self.index as u64) % u64::from(shards)) as u16)
    }
}

/// The present, as the reactor read it once for a whole turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time {
    /// Microseconds since an arbitrary start; never goes back. Deadlines are in these.
    pub monotonic_us: u64,
    /// Wall clock in milliseconds since 1970; may jump.
    pub wall_ms: Timestamp,
}

/// A deadline in `Time::monotonic_us`.
pub type Deadline = u64;

impl Time {
    pub fn after_ms(self, ms: u64) -> Deadline {
        self.monotonic_us.saturating_add(ms.saturating_mul(1000))
    }
}

/// A hash map whose iteration order depends on its content alone: the order is part of behaviour (invariant 9).
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FixedHasher>>;
/// The set to `Map`.
pub type Set<K> = std::collections::HashSet<K, BuildHasherDefault<FixedHasher>>;

/// Multiply-and-rotate hashing with a fixed seed. Keys from outside are bounded in number before they reach a map.
#[derive(Default, Clone, Copy)]
pub struct FixedHasher(u64);

impl FixedHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.mix(u64::from_le_bytes(chunk.try_into().expect("chunks of 8")));
        }
        let mut last = [0u8; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        // The multiplication leaves its best bits on top; the table takes them from both ends.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_back_from_its_text() {
        for bits in [0, 1, u128::MAX, 0xbd9d_a265_2cd0_4d6c_5b14_ac60_8caf_b003] {
            let id = Uuid::from_random(bits);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().len(), 22);
        }
        assert_eq!(Uuid::METADATA_TOPIC.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert!("too short".parse::<Uuid>().is_err());
    }

    #[test]
    fn neighbouring_partitions_spread_over_all_cores() {
        for shards in 1..9 {
            let topic = Uuid::from_random(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
            let mut owned = vec![0; shards as usize];
            for index in 0..i32::from(shards) * 3 {
                owned[PartitionId { topic, index }.owner(shards).0 as usize] += 1;
            }
            assert_eq!(owned, vec![3; shards as usize]);
        }
        assert_eq!(PartitionId::METADATA.owner(7), ShardId(0));
    }
}
