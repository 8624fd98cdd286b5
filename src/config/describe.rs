//! The settings as DescribeConfigs and the README show them: value, where it comes from, and what else could have set it.

use std::collections::BTreeMap;

use super::key::{Importance, Key, ValueType};
use super::{BrokerConfig, GannetConfig, GroupConfig, TopicConfig};

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    DynamicTopic = 1,
    StaticBroker = 4,
    Default = 5,
}

/// One setting, in the terms of DescribeConfigs v4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    pub name: &'static str,
    /// In force now; `None` is null.
    pub value: Option<String>,
    pub source: ConfigSource,
    /// Never shown. None of our settings holds a secret.
    pub is_sensitive: bool,
    /// Cannot be changed while the broker runs.
    pub read_only: bool,
    pub is_default: bool,
    /// All that could set it, the strongest first; the first is in force.
    pub synonyms: Vec<ConfigSynonym>,
    pub config_type: ValueType,
    pub documentation: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigSynonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// The settings of a topic that overrides these. The overrides are valid: the topic was created with them.
pub fn describe_topic(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let config = broker.topic_config(overrides).unwrap_or_else(|_| broker.topic.clone());
    let describe = |key: &'static Key| {
        let own = overrides.get(key.name).map(|text| ConfigSynonym {
            name: key.name,
            value: Some(text.clone()),
            source: ConfigSource::DynamicTopic,
        });
        let synonyms = own.into_iter().chain(inherited(key, broker)).collect();
        entry(key, config.text(key.name), synonyms, false)
    };
    TopicConfig::KEYS.iter().map(describe).collect()
}

/// The broker's settings, the defaults of its topics among them.
pub fn describe_broker(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let mut entries = Vec::new();
    for key in BrokerConfig::KEYS {
        let names = [key.name].into_iter().chain(key.synonyms.iter().map(|synonym| synonym.name));
        let set = names.filter_map(|name| configured(name, broker));
        let synonyms = set.chain(default_of(key.name, key.default.map(str::to_string))).collect();
        entries.push(entry(key, broker.text(key.name), synonyms, true));
    }
    for key in GroupConfig::KEYS {
        let set = configured(key.name, broker).into_iter();
        let synonyms = set.chain(default_of(key.name, key.default.map(str::to_string))).collect();
        entries.push(entry(key, broker.group.text(key.name), synonyms, true));
    }
    for key in GannetConfig::KEYS {
        let set = configured(key.name, broker).into_iter();
        let synonyms = set.chain(default_of(key.name, key.default.map(str::to_string))).collect();
        entries.push(entry(key, broker.gannet.text(key.name), synonyms, true));
    }
    for key in TopicConfig::KEYS {
        for synonym in key.synonyms {
            let synonyms: Vec<ConfigSynonym> =
                inherited(key, broker).filter(|found| found.name == synonym.name).collect();
            let value = synonyms.first().and_then(|found| found.value.clone());
            entries.push(ConfigEntry { name: synonym.name, ..entry(key, value, synonyms, true) });
        }
    }
    entries.sort_by_key(|entry| entry.name);
    entries
}

fn entry(key: &'static Key, value: Option<String>, synonyms: Vec<ConfigSynonym>, read_only: bool) -> ConfigEntry {
    let source = synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source);
    ConfigEntry {
        name: key.name,
        value,
        source,
        is_sensitive: false,
        read_only,
        is_default: source == ConfigSource::Default,
        synonyms,
        config_type: key.value_type,
        documentation: key.documentation(),
    }
}

/// What the broker gives a topic's key: all its own keys that were set, then the default under the name of the last.
fn inherited(key: &'static Key, broker: &BrokerConfig) -> impl Iterator<Item = ConfigSynonym> {
    let set = key.synonyms.iter().filter_map(|synonym| configured(synonym.name, broker));
    let last = key.synonyms.last().copied();
    let default = key.default.map(|text| last.map_or(text.to_string(), |synonym| synonym.of_key(text)));
    set.chain(default_of(last.map_or(key.name, |synonym| synonym.name), default))
}

fn configured(name: &'static str, broker: &BrokerConfig) -> Option<ConfigSynonym> {
    let value = Some(broker.configured.get(name)?.clone());
    Some(ConfigSynonym { name, value, source: ConfigSource::StaticBroker })
}

fn default_of(name: &'static str, value: Option<String>) -> Option<ConfigSynonym> {
    value.map(|value| ConfigSynonym { name, value: Some(value), source: ConfigSource::Default })
}

/// The tables of all keys, for the README.
pub fn keys_as_markdown() -> String {
    let mut text = String::new();
    for (title, keys) in [
        ("Broker", BrokerConfig::KEYS),
        ("Group", GroupConfig::KEYS),
        ("Gannet's own", GannetConfig::KEYS),
        ("Topic", TopicConfig::KEYS),
    ] {
        text += &format!("\n| {title} key | default | may be | what it does |\n| --- | --- | --- | --- |\n");
        for key in keys {
            let mut names = vec![format!("`{}`", key.name)];
            names.extend(
                key.synonyms.iter().filter(|other| other.name != key.name).map(|other| format!("`{}`", other.name)),
            );
            let strong = if key.importance == Importance::High { "**" } else { "" };
            let default = key.default.map_or("unset".to_string(), |default| format!("`{default}`"));
            text += &format!(
                "| {strong}{}{strong} | {default} | {} | {} |\n",
                names.join(", "),
                key.allowed(),
                key.documentation()
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Properties;

    fn broker(text: &str) -> BrokerConfig {
        BrokerConfig::from_properties(&Properties::parse("f", text).unwrap(), &[], false).unwrap().0
    }

    fn find<'a>(entries: &'a [ConfigEntry], name: &str) -> &'a ConfigEntry {
        entries.iter().find(|entry| entry.name == name).unwrap()
    }

    fn synonyms(entry: &ConfigEntry) -> Vec<(&str, &str, ConfigSource)> {
        entry.synonyms.iter().map(|s| (s.name, s.value.as_deref().unwrap(), s.source)).collect()
    }

    #[test]
    fn a_topics_setting_shows_all_that_could_have_set_it() {
        use ConfigSource::*;
        let broker = broker("log.retention.hours=24\nlog.segment.bytes=2097152\n");
        let own = BTreeMap::from([("retention.ms".to_string(), "1000".to_string())]);
        let entries = describe_topic(&own, &broker);
        assert_eq!(entries.len(), TopicConfig::KEYS.len());
        let retention = find(&entries, "retention.ms");
        assert_eq!((retention.value.as_deref(), retention.source), (Some("1000"), DynamicTopic));
        assert_eq!(
            synonyms(retention),
            [
                ("retention.ms", "1000", DynamicTopic),
                ("log.retention.hours", "24", StaticBroker),
                ("log.retention.hours", "72", Default)
            ]
        );
        let segment = find(&entries, "segment.bytes");
        assert_eq!(
            (segment.value.as_deref(), segment.source, segment.is_default),
            (Some("2097152"), StaticBroker, false)
        );
        let flush = find(&entries, "flush.messages");
        assert_eq!((flush.value.as_deref(), flush.is_default), (Some("1"), true));
        assert!(!flush.read_only);
    }

    #[test]
    fn the_brokers_settings_are_listed_once_each_and_read_only() {
        let broker = broker("log.retention.hours=24\nbroker.id=7\n");
        let entries = describe_broker(&broker);
        assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted, none twice");
        assert!(entries.iter().all(|entry| entry.read_only));
        assert_eq!(find(&entries, "node.id").value.as_deref(), Some("7"));
        assert_eq!(find(&entries, "log.retention.hours").value.as_deref(), Some("24"));
        assert_eq!(find(&entries, "log.retention.ms").value, None);
        assert_eq!(find(&entries, "min.insync.replicas").value.as_deref(), Some("1"));
    }

    #[test]
    fn the_readmes_table_has_a_row_for_every_key() {
        let text = keys_as_markdown();
        for key in BrokerConfig::KEYS.iter().chain(GroupConfig::KEYS).chain(GannetConfig::KEYS).chain(TopicConfig::KEYS)
        {
            assert!(text.contains(&format!("`{}`", key.name)), "{}", key.name);
            assert!(key.documentation().ends_with('.'), "{}", key.name);
        }
    }
}
