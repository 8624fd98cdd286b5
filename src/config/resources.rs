//! The settings of single groups and of client metrics subscriptions, which live in the metadata log alone.

use std::collections::BTreeMap;

use super::BrokerConfig;
use super::key::Valid::{Any, AtLeast, Between, OneOf};
use super::key::{ConfigError, same};
use super::settings::settings;

settings! {
    /// What one group may have otherwise than the broker gives it. Groups of shares and streams are not offered yet: what is
    /// set for them is kept and shown.
    pub struct GroupSettings {
        /// Session timeout of the group's members of the consumer protocol.
        consumer_session_timeout_ms: i32 = "consumer.session.timeout.ms" Int, Some("45000"), AtLeast(1), Medium, [same("group.consumer.session.timeout.ms")];
        /// Time between heartbeats of the group's members of the consumer protocol.
        consumer_heartbeat_interval_ms: i32 = "consumer.heartbeat.interval.ms" Int, Some("5000"), AtLeast(1), Medium, [same("group.consumer.heartbeat.interval.ms")];
        /// Longest time between two assignments of the group's members of the consumer protocol.
        consumer_assignment_interval_ms: i32 = "consumer.assignment.interval.ms" Int, Some("1000"), AtLeast(0), Medium, [same("group.consumer.assignment.interval.ms")];
        /// Longest time between two assignments of a share group.
        share_assignment_interval_ms: i32 = "share.assignment.interval.ms" Int, Some("1000"), AtLeast(0), Medium, [same("group.share.assignment.interval.ms")];
        /// Longest time between two assignments of a streams group.
        streams_assignment_interval_ms: i32 = "streams.assignment.interval.ms" Int, Some("1000"), AtLeast(0), Medium, [same("group.streams.assignment.interval.ms")];
        /// Session timeout of a share group's members.
        share_session_timeout_ms: i32 = "share.session.timeout.ms" Int, Some("45000"), AtLeast(1), Medium, [same("group.share.session.timeout.ms")];
        /// Time between heartbeats of a share group's members.
        share_heartbeat_interval_ms: i32 = "share.heartbeat.interval.ms" Int, Some("5000"), AtLeast(1), Medium, [same("group.share.heartbeat.interval.ms")];
        /// How long a member of a share group may hold a record before another one gets it.
        share_record_lock_duration_ms: i32 = "share.record.lock.duration.ms" Int, Some("30000"), AtLeast(1000), Medium, [same("group.share.record.lock.duration.ms")];
        /// How often a record is given to a share group before it is given up.
        share_delivery_count_limit: i32 = "share.delivery.count.limit" Int, Some("5"), AtLeast(2), Medium, [same("group.share.delivery.count.limit")];
        /// Records of one partition that a share group may hold at once.
        share_partition_max_record_locks: i32 = "share.partition.max.record.locks" Int, Some("2000"), AtLeast(100), Medium, [same("group.share.partition.max.record.locks")];
        /// Where a share group starts to read: earliest, latest, or by_duration: with an ISO 8601 duration.
        share_auto_offset_reset: String = "share.auto.offset.reset" String, Some("latest"), Any, Medium, [];
        /// Whether a share group sees records of transactions that are open or were aborted.
        share_isolation_level: String = "share.isolation.level" String, Some("read_uncommitted"), OneOf(&["read_committed", "read_uncommitted"]), Medium, [];
        /// Whether members of a share group may lengthen their hold on a record.
        share_renew_acknowledge_enable: bool = "share.renew.acknowledge.enable" Boolean, Some("true"), Any, Medium, [];
        /// Session timeout of a streams group's members.
        streams_session_timeout_ms: i32 = "streams.session.timeout.ms" Int, Some("45000"), AtLeast(1), Medium, [same("group.streams.session.timeout.ms")];
        /// Time between heartbeats of a streams group's members.
        streams_heartbeat_interval_ms: i32 = "streams.heartbeat.interval.ms" Int, Some("5000"), AtLeast(1), Medium, [same("group.streams.heartbeat.interval.ms")];
        /// Standby copies of each stateful task of a streams group.
        streams_num_standby_replicas: i32 = "streams.num.standby.replicas" Int, Some("0"), AtLeast(0), Medium, [same("group.streams.num.standby.replicas")];
        /// How long the first rebalance of an empty streams group waits for more members.
        streams_initial_rebalance_delay_ms: i32 = "streams.initial.rebalance.delay.ms" Int, Some("3000"), AtLeast(0), Medium, [same("group.streams.initial.rebalance.delay.ms")];
    }
}

settings! {
    /// Which metrics which clients are to push (KIP-714).
    pub struct ClientMetricsSettings {
        /// Prefixes of the metrics' names; * for all.
        metrics: Vec<String> = "metrics" List, Some(""), Any, Medium, [];
        /// Time between two pushes.
        interval_ms: i32 = "interval.ms" Int, Some("300000"), Between(100, 3_600_000), Medium, [];
        /// Patterns that a client must match, as client_id=…; without any it is all clients.
        match_: Vec<String> = "match" List, Some(""), Any, Medium, [];
    }
}

const MATCHABLE: &[&str] = &[
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

impl GroupSettings {
    /// Why these cannot be a group's settings; `Ok` if they can.
    pub fn check(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<(), ConfigError> {
        let mut settings = GroupSettings::default();
        for (name, text) in overrides {
            if GroupSettings::key(name).is_none() {
                return Err(unknown(name, format!("Unknown group config name: {name}")));
            }
            settings.set(name, text)?;
        }
        let group = &broker.group;
        let bounded = [
            (
                "consumer.heartbeat.interval.ms",
                settings.consumer_heartbeat_interval_ms,
                group.consumer_min_heartbeat_interval_ms,
                group.consumer_max_heartbeat_interval_ms,
            ),
            (
                "consumer.session.timeout.ms",
                settings.consumer_session_timeout_ms,
                group.consumer_min_session_timeout_ms,
                group.consumer_max_session_timeout_ms,
            ),
        ];
        for (name, value, least, most) in bounded {
            if !overrides.contains_key(name) {
                continue;
            }
            // Kafka names the broker's setting that is in the way.
            let bound = |which| format!("group.{}", name.replacen("consumer.", which, 1));
            let problem = if value < least {
                format!("{name} must be greater than or equal to {}", bound("consumer.min."))
            } else if value > most {
                format!("{name} must be less than or equal to {}", bound("consumer.max."))
            } else {
                continue;
            };
            return Err(ConfigError { value: None, ..ConfigError::problem(name, &value.to_string(), problem) });
        }
        Ok(())
    }
}

impl ClientMetricsSettings {
    /// Why these cannot be the settings of a subscription; `Ok` if they can.
    pub fn check(overrides: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let mut settings = ClientMetricsSettings::default();
        for (name, text) in overrides {
            if ClientMetricsSettings::key(name).is_none() {
                return Err(unknown(name, format!("Unknown client metrics configuration: {name}")));
            }
            settings.set(name, text)?;
        }
        for pattern in &settings.match_ {
            let is_pattern =
                matches!(pattern.split('=').collect::<Vec<_>>()[..], [name, _] if MATCHABLE.contains(&name.trim()));
            if !is_pattern {
                let problem = format!("Illegal client matching pattern: {pattern}");
                return Err(ConfigError { value: None, ..ConfigError::problem("match", pattern, problem) });
            }
        }
        Ok(())
    }
}

fn unknown(name: &str, problem: String) -> ConfigError {
    ConfigError { key: name.to_owned(), value: None, place: None, problem, said: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_groups_settings_stay_within_the_brokers_bounds() {
        let check = |name, value| GroupSettings::check(&settings(name, value), &BrokerConfig::default());
        assert_eq!(check("consumer.session.timeout.ms", "50000"), Ok(()));
        let refused = |text| check("consumer.session.timeout.ms", text).unwrap_err().sentence();
        let words = "consumer.session.timeout.ms must be";
        assert_eq!(refused("70000"), format!("{words} less than or equal to group.consumer.max.session.timeout.ms"));
        assert_eq!(refused("1"), format!("{words} greater than or equal to group.consumer.min.session.timeout.ms"));
        assert!(check("consumer.session", "1").unwrap_err().problem.contains("Unknown group config name"));
        assert_eq!(check("share.isolation.level", "read_committed"), Ok(()));
        assert!(check("share.isolation.level", "x").is_err());
    }

    #[test]
    fn a_subscription_matches_by_known_names() {
        let check = |name, value| ClientMetricsSettings::check(&settings(name, value));
        assert_eq!(check("match", "client_id=a.*,client_software_name=rdkafka"), Ok(()));
        assert!(check("match", "colour=red").unwrap_err().problem.contains("Illegal client matching pattern"));
        assert!(check("match", "client_id").is_err());
        assert_eq!(check("interval.ms", "100"), Ok(()));
        assert!(check("interval.ms", "99").is_err());
        assert!(check("interval", "100").unwrap_err().problem.contains("Unknown client metrics configuration"));
    }
}
