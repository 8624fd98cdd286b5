//! A topic's settings: all of Kafka 4's topic configs. Defaults are Kafka's except the safe ones: 72 hours of retention,
//! and every acknowledged record on stable storage.

use std::collections::BTreeMap;

use super::key::Valid::{Any, AtLeast, Between, BetweenOr, Fraction, OneOf, Replicas};
use super::key::{ConfigError, hours, minutes, nearest, same};
use super::settings::{Setting, settings, words};

settings! {
    /// The settings of one topic, each from the topic itself, else from the broker's file, else the default.
    pub struct TopicConfig {
        /// What happens to old segments: they are deleted, or compacted to the last record of each key, or both; empty keeps them for ever.
        cleanup_policy: CleanupPolicy = "cleanup.policy" List, Some("delete"), OneOf(&["compact", "delete"]), Medium, [same("log.cleanup.policy")];
        /// Level of gzip where compression.type is gzip; -1 leaves it to the codec.
        compression_gzip_level: i32 = "compression.gzip.level" Int, Some("-1"), BetweenOr(1, 9, -1), Medium, [same("compression.gzip.level")];
        /// Accepted for lz4; the built-in encoder has one level.
        compression_lz4_level: i32 = "compression.lz4.level" Int, Some("9"), Between(1, 17), Medium, [same("compression.lz4.level")];
        /// Codec in which batches are kept. producer keeps each as it came, which alone needs no work; any other opens and compresses it anew.
        compression_type: CompressionType = "compression.type" String, Some("producer"), OneOf(CompressionType::WORDS), Medium, [same("compression.type")];
        /// Level of zstd where compression.type is zstd.
        compression_zstd_level: i32 = "compression.zstd.level" Int, Some("3"), Between(-131_072, 22), Medium, [same("compression.zstd.level")];
        /// How long a compacted topic keeps the mark of a deleted key, so that every reader can see it.
        delete_retention_ms: i64 = "delete.retention.ms" Long, Some("86400000"), AtLeast(0), Medium, [same("log.cleaner.delete.retention.ms")];
        /// How long the file of a deleted segment stays for readers that are at it.
        file_delete_delay_ms: i64 = "file.delete.delay.ms" Long, Some("60000"), AtLeast(0), Medium, [same("log.segment.delete.delay.ms")];
        /// 1: a record is acknowledged once it is on stable storage. Larger: it is acknowledged from memory and written soon after, so a crash may lose it.
        flush_messages: i64 = "flush.messages" Long, Some("1"), AtLeast(1), Medium, [same("log.flush.interval.messages")];
        /// The longest a record may wait for stable storage. Always kept: where flush.messages is larger than 1, records are on their way there within 5 ms too, only nobody waits for it.
        flush_ms: i64 = "flush.ms" Long, Some("9223372036854775807"), AtLeast(0), Medium, [same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")];
        /// Replicas whose copying is slowed down on the following side, as partition:broker.
        follower_replication_throttled_replicas: Vec<String> = "follower.replication.throttled.replicas" List, Some(""), Replicas, Medium, [];
        /// Distance between two entries of the offset index, in bytes of the log.
        index_interval_bytes: i32 = "index.interval.bytes" Int, Some("4096"), AtLeast(0), Medium, [same("log.index.interval.bytes")];
        /// Replicas whose copying is slowed down on the leading side, as partition:broker.
        leader_replication_throttled_replicas: Vec<String> = "leader.replication.throttled.replicas" List, Some(""), Replicas, Medium, [];
        /// With tiered storage, bytes kept locally; -2 is retention.bytes.
        local_retention_bytes: i64 = "local.retention.bytes" Long, Some("-2"), AtLeast(-2), Medium, [same("log.local.retention.bytes")];
        /// With tiered storage, time kept locally; -2 is retention.ms.
        local_retention_ms: i64 = "local.retention.ms" Long, Some("-2"), AtLeast(-2), Medium, [same("log.local.retention.ms")];
        /// The longest a record stays uncompacted.
        max_compaction_lag_ms: i64 = "max.compaction.lag.ms" Long, Some("9223372036854775807"), AtLeast(1), Medium, [same("log.cleaner.max.compaction.lag.ms")];
        /// Size of the largest batch taken, as it is stored: compressed, header included.
        max_message_bytes: i32 = "max.message.bytes" Int, Some("1048588"), AtLeast(0), Medium, [same("message.max.bytes")];
        /// How far a record's timestamp may lie ahead of the broker's clock.
        message_timestamp_after_max_ms: i64 = "message.timestamp.after.max.ms" Long, Some("3600000"), AtLeast(0), Medium, [same("log.message.timestamp.after.max.ms")];
        /// How far a record's timestamp may lie behind the broker's clock.
        message_timestamp_before_max_ms: i64 = "message.timestamp.before.max.ms" Long, Some("9223372036854775807"), AtLeast(0), Medium, [same("log.message.timestamp.before.max.ms")];
        /// Whether records keep the producer's timestamp or get the broker's.
        message_timestamp_type: MessageTimestampType = "message.timestamp.type" String, Some("CreateTime"), OneOf(MessageTimestampType::WORDS), Medium, [same("log.message.timestamp.type")];
        /// Share of a compacted log that must be uncompacted before it is compacted again.
        min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio" Double, Some("0.5"), Fraction, Medium, [same("log.cleaner.min.cleanable.ratio")];
        /// The shortest a record stays uncompacted.
        min_compaction_lag_ms: i64 = "min.compaction.lag.ms" Long, Some("0"), AtLeast(0), Medium, [same("log.cleaner.min.compaction.lag.ms")];
        /// With acks=all, how many replicas must hold a record before it is acknowledged.
        min_insync_replicas: i32 = "min.insync.replicas" Int, Some("1"), AtLeast(1), Medium, [same("min.insync.replicas")];
        /// Gives a new segment's file room for all of segment.bytes at once; it is cut to what was written when it is closed.
        preallocate: bool = "preallocate" Boolean, Some("false"), Any, Medium, [same("log.preallocate")];
        /// With tiered storage, stops copying.
        remote_log_copy_disable: bool = "remote.log.copy.disable" Boolean, Some("false"), Any, Medium, [];
        /// With tiered storage, deletes what was copied once it is switched off.
        remote_log_delete_on_disable: bool = "remote.log.delete.on.disable" Boolean, Some("false"), Any, Medium, [];
        /// Tiered storage; not offered.
        remote_storage_enable: bool = "remote.storage.enable" Boolean, Some("false"), Any, Medium, [];
        /// Size of a partition beyond which its oldest segments go; -1 is no limit.
        retention_bytes: i64 = "retention.bytes" Long, Some("-1"), Any, Medium, [same("log.retention.bytes")];
        /// Age beyond which a segment goes; -1 is never.
        retention_ms: i64 = "retention.ms" Long, Some("259200000"), AtLeast(-1), Medium, [same("log.retention.ms"), minutes("log.retention.minutes"), hours("log.retention.hours")];
        /// Size at which a segment is closed and the next one begun.
        segment_bytes: i32 = "segment.bytes" Int, Some("1073741824"), AtLeast(1 << 20), Medium, [same("log.segment.bytes")];
        /// Size of the largest index of a segment.
        segment_index_bytes: i32 = "segment.index.bytes" Int, Some("10485760"), AtLeast(4), Medium, [same("log.index.size.max.bytes")];
        /// Random part of segment.ms, so that not all partitions begin a segment at once.
        segment_jitter_ms: i64 = "segment.jitter.ms" Long, Some("0"), AtLeast(0), Medium, [same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")];
        /// Age at which a segment is closed and the next one begun, so that retention and compaction can reach it.
        segment_ms: i64 = "segment.ms" Long, Some("604800000"), AtLeast(1), Medium, [same("log.roll.ms"), hours("log.roll.hours")];
        /// Lets a replica that lacks acknowledged records lead if no other is left: available, and lossy.
        unclean_leader_election_enable: bool = "unclean.leader.election.enable" Boolean, Some("false"), Any, Medium, [same("unclean.leader.election.enable")];
    }
}

words! {
    /// `compression.type`
    pub enum CompressionType {
        Uncompressed = "uncompressed",
        Zstd = "zstd",
        Lz4 = "lz4",
        Snappy = "snappy",
        Gzip = "gzip",
        Producer = "producer",
    }
}

words! {
    /// `message.timestamp.type`
    pub enum MessageTimestampType {
        CreateTime = "CreateTime",
        LogAppendTime = "LogAppendTime",
    }
}

/// `cleanup.policy`; neither is for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

impl Setting for CleanupPolicy {
    fn read(text: &str) -> Option<CleanupPolicy> {
        let has = |policy| super::key::list(text).any(|word| word == policy);
        Some(CleanupPolicy { delete: has("delete"), compact: has("compact") })
    }

    fn text(&self) -> Option<String> {
        let words = [(self.compact, "compact"), (self.delete, "delete")];
        let chosen: Vec<_> = words.into_iter().filter_map(|(chosen, word)| chosen.then_some(word)).collect();
        Some(chosen.join(","))
    }
}

impl TopicConfig {
    /// These settings with a topic's own in their place. An unknown name, a value out of range and settings that
    /// contradict each other are errors. (`BrokerConfig::topic_config` also minds the broker's limits.)
    pub fn with_overrides(&self, overrides: &BTreeMap<String, String>) -> Result<TopicConfig, ConfigError> {
        let mut config = self.clone();
        for (name, text) in overrides {
            if TopicConfig::key(name).is_none() {
                let known = nearest(name, TopicConfig::KEYS.iter().map(|key| key.name));
                let meant = known.map(|known| format!(", did you mean {known}?")).unwrap_or_default();
                let problem = format!("Unknown topic config name: {name}{meant}");
                return Err(ConfigError { key: name.clone(), value: None, place: None, problem, said: None });
            }
            config.set(name, text)?;
        }
        config.check()?;
        Ok(config)
    }

    /// The settings against each other.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: String| {
            Err(ConfigError { key: key.to_owned(), value: None, place: None, problem, said: None })
        };
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return refuse(
                "min.compaction.lag.ms",
                format!(
                    "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
                    self.min_compaction_lag_ms, self.max_compaction_lag_ms
                ),
            );
        }
        if self.remote_storage_enable {
            let problem = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with \
                           remote log storage.";
            return refuse("remote.storage.enable", problem.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn the_defaults_are_kafkas_but_for_the_safe_ones() {
        let config = TopicConfig::default();
        assert_eq!((config.retention_ms, config.flush_messages), (72 * 3_600_000, 1));
        assert_eq!((config.segment_bytes, config.segment_ms), (1 << 30, 7 * 24 * 3_600_000));
        assert_eq!((config.max_message_bytes, config.index_interval_bytes), (1_048_588, 4096));
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!(config.check(), Ok(()));
        for key in TopicConfig::KEYS {
            assert_eq!(config.text(key.name).as_deref(), key.default, "{}", key.name);
        }
    }

    #[test]
    fn a_topics_own_settings_win() {
        let own =
            overrides(&[("cleanup.policy", "compact,delete"), ("retention.ms", "-1"), ("compression.type", "zstd")]);
        let config = TopicConfig::default().with_overrides(&own).unwrap();
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: true });
        assert_eq!((config.retention_ms, config.compression_type), (-1, CompressionType::Zstd));
        assert_eq!(config.text("cleanup.policy").unwrap(), "compact,delete");
    }

    #[test]
    fn errors_name_the_setting_and_what_it_may_be() {
        let refused =
            |name, value| TopicConfig::default().with_overrides(&overrides(&[(name, value)])).unwrap_err().to_string();
        assert!(refused("segment.bytes", "100").contains("Invalid value 100 for configuration segment.bytes"));
        assert!(refused("segment.bytes", "100").contains("at least 1048576"));
        assert!(refused("cleanup.policy", "deleted").contains("compact, delete"));
        assert!(refused("retention", "1").contains("Unknown topic config name: retention"));
        assert!(refused("retention.msec", "1").contains("did you mean retention.ms?"));
        assert!(refused("min.compaction.lag.ms", "-1").contains("at least 0"));
        assert!(refused("remote.storage.enable", "true").contains("Tiered Storage"));
        assert!(refused("compression.gzip.level", "0").contains("from 1 to 9, or -1"));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let own = overrides(&[("min.compaction.lag.ms", "20"), ("max.compaction.lag.ms", "10")]);
        assert_eq!(TopicConfig::default().with_overrides(&own).unwrap_err().key, "min.compaction.lag.ms");
    }
}
