//! Broker settings that can change while the broker runs (KIP-226): which they are, what they may be, and the broker's
//! settings with them in place. They come from the metadata log, for all brokers or for one, and outrank the file.

use std::collections::BTreeMap;

use super::group::GroupConfig;
use super::ignored::{ignored, names};
use super::key::{ConfigError, Key, nearest};
use super::{BrokerConfig, TopicConfig};

/// Keys of the broker's own tables that are read again whenever they are used.
const DYNAMIC: &[&str] = &[
    "group.consumer.assignment.interval.ms",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "producer.id.expiration.ms",
];

/// Kafka changes these while it runs and here they have no effect: they are kept and shown, so that scripts go on working.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "background.threads",
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.threads",
    "max.connection.creation.rate",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// The topic's key whose default this broker's key sets, if it is the one that may change: the strongest of its synonyms.
fn topic_key(name: &str) -> Option<&'static Key> {
    TopicConfig::KEYS.iter().find(|key| key.synonyms.first().is_some_and(|synonym| synonym.name == name))
}

fn broker_key(name: &str) -> Option<&'static Key> {
    BrokerConfig::key(name).filter(|key| DYNAMIC.contains(&key.name))
}

fn group_key(name: &str) -> Option<&'static Key> {
    GroupConfig::key(name).filter(|key| DYNAMIC.contains(&key.name))
}

/// The setting of this name can change while the broker runs.
pub fn is_dynamic(name: &str) -> bool {
    dynamic_key(name).is_some() || without_effect(name).is_some()
}

/// The name, if it is one that is kept and does nothing.
pub(super) fn without_effect(name: &str) -> Option<&'static str> {
    WITHOUT_EFFECT.iter().find(|known| **known == name && topic_key(name).is_none()).copied()
}

/// The row of a setting that can change while the broker runs and has an effect.
pub fn dynamic_key(name: &str) -> Option<&'static Key> {
    topic_key(name).or_else(|| broker_key(name)).or_else(|| group_key(name))
}

impl BrokerConfig {
    /// These settings with those of all brokers and those of this one in their place. Only settings that may change while
    /// the broker runs are taken, and only if all hold together.
    pub fn with_dynamic(
        &self,
        all: &BTreeMap<String, String>,
        own: &BTreeMap<String, String>,
    ) -> Result<BrokerConfig, ConfigError> {
        let refused: Vec<&str> =
            all.keys().chain(own.keys()).map(String::as_str).filter(|name| !is_dynamic(name)).collect();
        if let Some(first) = refused.first() {
            return Err(ConfigError {
                key: first.to_string(),
                value: None,
                place: None,
                problem: not_dynamic(&refused),
                said: None,
            });
        }
        let mut config = BrokerConfig { dynamic_default: all.clone(), dynamic: own.clone(), ..self.clone() };
        for (name, text) in all.iter().chain(own) {
            let set = match (topic_key(name), broker_key(name), group_key(name)) {
                (Some(key), ..) => config.topic.set(key.name, text),
                (None, Some(key), _) => config.set(key.name, text),
                (None, None, Some(key)) => config.group.set(key.name, text),
                (None, None, None) => Ok(()),
            };
            set.map_err(|error| ConfigError { key: name.clone(), ..error })?;
        }
        config.topic.check().and_then(|()| config.topic_config(&BTreeMap::new())).map_err(|error| {
            let synonym = TopicConfig::key(&error.key).and_then(|key| key.synonyms.first());
            ConfigError { key: synonym.map_or(error.key, |synonym| synonym.name.to_owned()), ..error }
        })?;
        Ok(config)
    }

    /// The same of settings that were sound when they were made: those that this broker's limits no longer allow are left out.
    pub fn with_dynamic_where_sound(
        &self,
        all: &BTreeMap<String, String>,
        own: &BTreeMap<String, String>,
    ) -> BrokerConfig {
        if let Ok(config) = self.with_dynamic(all, own) {
            return config;
        }
        let mut sound = (BTreeMap::new(), BTreeMap::new());
        for (from, is_own) in [(all, false), (own, true)] {
            for (name, text) in from {
                let mut tried = sound.clone();
                let side = if is_own { &mut tried.1 } else { &mut tried.0 };
                side.insert(name.clone(), text.clone());
                if self.with_dynamic(&tried.0, &tried.1).is_ok() {
                    sound = tried;
                }
            }
        }
        self.with_dynamic(&sound.0, &sound.1).expect("each was added only if all hold together")
    }
}

/// Kafka's sentence for settings that stand in the file alone, ours for those that nobody knows.
fn not_dynamic(refused: &[&str]) -> String {
    let is_known = |name: &str| super::broker::known(name).is_some() || ignored(name).is_some();
    if let Some(unknown) = refused.iter().find(|name| !is_known(name)) {
        let known = super::broker::known_names().chain(names());
        let meant = nearest(unknown, known).map(|known| format!(", did you mean {known}?")).unwrap_or_default();
        return format!("Unknown broker config name: {unknown}{meant}");
    }
    format!("Cannot update these configs dynamically: [{}]", refused.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn with(all: &[(&str, &str)], own: &[(&str, &str)]) -> Result<BrokerConfig, ConfigError> {
        BrokerConfig::default().with_dynamic(&settings(all), &settings(own))
    }

    #[test]
    fn one_brokers_setting_outranks_that_of_all() {
        let config = with(&[("log.retention.ms", "5"), ("log.segment.bytes", "2000000")], &[("log.retention.ms", "7")]);
        let config = config.unwrap();
        assert_eq!((config.topic.retention_ms, config.topic.segment_bytes), (7, 2_000_000));
        let config = with(&[("producer.id.expiration.ms", "1000")], &[]).unwrap();
        assert_eq!(config.producer_id_expiration_ms, 1000);
        let config = with(&[("group.consumer.assignment.interval.ms", "0")], &[]).unwrap();
        assert_eq!(config.group.consumer_assignment_interval_ms, 0);
    }

    #[test]
    fn what_only_a_start_reads_is_refused() {
        let refused = |name| with(&[(name, "1")], &[]).unwrap_err().problem;
        assert_eq!(refused("num.partitions"), "Cannot update these configs dynamically: [num.partitions]");
        assert_eq!(refused("log.retention.hours"), "Cannot update these configs dynamically: [log.retention.hours]");
        assert_eq!(
            refused("log.segment.byte"),
            "Unknown broker config name: log.segment.byte, did you mean log.segment.bytes?"
        );
        assert!(with(&[], &[("log.segment.bytes", "1")]).unwrap_err().to_string().contains("log.segment.bytes"));
    }

    #[test]
    fn what_has_no_effect_is_kept() {
        let config = with(&[("num.io.threads", "16")], &[]).unwrap();
        assert_eq!(config.dynamic_default, settings(&[("num.io.threads", "16")]));
    }

    #[test]
    fn settings_that_lost_their_ground_are_left_out_one_by_one() {
        let too_large = settings(&[("message.max.bytes", "2000000000"), ("log.retention.ms", "5")]);
        let config = BrokerConfig::default().with_dynamic_where_sound(&too_large, &BTreeMap::new());
        assert_eq!(config.topic.max_message_bytes, 1_048_588);
        assert_eq!((config.topic.retention_ms, config.dynamic_default.len()), (5, 1));
    }
}
