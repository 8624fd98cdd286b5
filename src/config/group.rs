//! The settings of consumer groups and of `__consumer_offsets`, under Kafka's names and with its defaults.

use super::key::ConfigError;
use super::key::Valid::{AtLeast, Between, OneOf};
use super::settings::{settings, words};

settings! {
    /// What groups are told to keep to.
    pub struct GroupConfig {
        /// Partitions of __consumer_offsets. It decides which groups share a log, so it cannot change once the topic exists.
        offsets_topic_partitions: i32 = "offsets.topic.num.partitions" Int, Some("50"), Between(1, 10_000), High, [];
        /// Replicas of __consumer_offsets; fewer while there are fewer brokers.
        offsets_topic_replication_factor: i32 = "offsets.topic.replication.factor" Short, Some("3"), AtLeast(1), High, [];
        /// Segment size of __consumer_offsets: small, so that compaction comes early and a restart reads little.
        offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes" Int, Some("104857600"), AtLeast(1 << 20), High, [];
        /// Longest text that a client may keep beside a committed offset.
        offset_metadata_max_bytes: u32 = "offset.metadata.max.bytes" Int, Some("4096"), AtLeast(0), High, [];
        /// How long offsets outlive the last member that could use them, or their commit where nobody subscribed.
        offsets_retention_minutes: i32 = "offsets.retention.minutes" Int, Some("10080"), AtLeast(1), High, [];
        /// How often expired offsets are looked for.
        offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms" Long, Some("600000"), AtLeast(1), High, [];
        /// Shortest session timeout that a member of a classic group may ask for.
        min_session_timeout_ms: i32 = "group.min.session.timeout.ms" Int, Some("6000"), AtLeast(1), Medium, [];
        /// Longest session timeout that a member of a classic group may ask for.
        max_session_timeout_ms: i32 = "group.max.session.timeout.ms" Int, Some("1800000"), AtLeast(1), Medium, [];
        /// How long the first rebalance of an empty group waits for more members, again after each one that comes.
        initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms" Int, Some("3000"), AtLeast(0), Medium, [];
        /// Members that a classic group may have.
        max_size: i32 = "group.max.size" Int, Some("2147483647"), AtLeast(1), Medium, [];
        /// Session timeout of members of the consumer protocol (KIP-848).
        consumer_session_timeout_ms: i32 = "group.consumer.session.timeout.ms" Int, Some("45000"), AtLeast(1), Medium, [];
        /// Shortest session timeout that a group may be given.
        consumer_min_session_timeout_ms: i32 = "group.consumer.min.session.timeout.ms" Int, Some("45000"), AtLeast(1), Medium, [];
        /// Longest session timeout that a group may be given.
        consumer_max_session_timeout_ms: i32 = "group.consumer.max.session.timeout.ms" Int, Some("60000"), AtLeast(1), Medium, [];
        /// Time between heartbeats of members of the consumer protocol.
        consumer_heartbeat_interval_ms: i32 = "group.consumer.heartbeat.interval.ms" Int, Some("5000"), AtLeast(1), Medium, [];
        /// Shortest heartbeat interval that a group may be given.
        consumer_min_heartbeat_interval_ms: i32 = "group.consumer.min.heartbeat.interval.ms" Int, Some("5000"), AtLeast(1), Medium, [];
        /// Longest heartbeat interval that a group may be given.
        consumer_max_heartbeat_interval_ms: i32 = "group.consumer.max.heartbeat.interval.ms" Int, Some("15000"), AtLeast(1), Medium, [];
        /// Members that a group of the consumer protocol may have.
        consumer_max_size: i32 = "group.consumer.max.size" Int, Some("2147483647"), AtLeast(1), Medium, [];
        /// Longest time between two assignments of a group of the consumer protocol; a millisecond per member is enough.
        consumer_assignment_interval_ms: i32 = "group.consumer.assignment.interval.ms" Int, Some("1000"), AtLeast(0), Medium, [];
        /// How partitions may be handed out in the consumer protocol; the first one where members do not choose.
        consumer_assignors: Vec<String> = "group.consumer.assignors" List, Some("uniform,range"), OneOf(&["uniform", "range"]), Medium, [];
        /// Which protocol a live group may move to when members of the other one join.
        consumer_migration_policy: MigrationPolicy = "group.consumer.migration.policy" String, Some("bidirectional"), OneOf(MigrationPolicy::WORDS), Medium, [];
    }
}

words! {
    /// `group.consumer.migration.policy`
    pub enum MigrationPolicy {
        /// Up when the first member of the consumer protocol joins, down when the last one leaves.
        Bidirectional = "bidirectional",
        /// From the classic to the consumer protocol only.
        Upgrade = "upgrade",
        /// From the consumer to the classic protocol only.
        Downgrade = "downgrade",
        /// Neither.
        Disabled = "disabled",
    }
}

impl GroupConfig {
    /// The settings against each other.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let ordered = [
            (
                "group.min.session.timeout.ms",
                self.min_session_timeout_ms,
                "group.max.session.timeout.ms",
                self.max_session_timeout_ms,
            ),
            (
                "group.consumer.min.session.timeout.ms",
                self.consumer_min_session_timeout_ms,
                "group.consumer.session.timeout.ms",
                self.consumer_session_timeout_ms,
            ),
            (
                "group.consumer.session.timeout.ms",
                self.consumer_session_timeout_ms,
                "group.consumer.max.session.timeout.ms",
                self.consumer_max_session_timeout_ms,
            ),
            (
                "group.consumer.min.heartbeat.interval.ms",
                self.consumer_min_heartbeat_interval_ms,
                "group.consumer.heartbeat.interval.ms",
                self.consumer_heartbeat_interval_ms,
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                self.consumer_heartbeat_interval_ms,
                "group.consumer.max.heartbeat.interval.ms",
                self.consumer_max_heartbeat_interval_ms,
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                self.consumer_heartbeat_interval_ms,
                "group.consumer.session.timeout.ms",
                self.consumer_session_timeout_ms,
            ),
        ];
        for (key, value, above, most) in ordered {
            if value > most {
                let problem = format!("it must not exceed {above}, which is {most}");
                return Err(ConfigError::problem(key, &value.to_string(), problem));
            }
        }
        if self.consumer_assignors.is_empty() {
            return Err(ConfigError::value("group.consumer.assignors", "", "any of uniform, range; at least one"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        assert_eq!(GroupConfig::default().check(), Ok(()));
        let config = GroupConfig { min_session_timeout_ms: 10, max_session_timeout_ms: 9, ..GroupConfig::default() };
        assert_eq!(config.check().expect_err("out of order").key, "group.min.session.timeout.ms");
        let config = GroupConfig { consumer_assignors: Vec::new(), ..GroupConfig::default() };
        assert_eq!(config.check().expect_err("none left").key, "group.consumer.assignors");
    }
}
