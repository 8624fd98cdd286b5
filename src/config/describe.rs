//! The settings as DescribeConfigs and the README show them: value, where it comes from, and what else could have set it.

use std::collections::BTreeMap;

use super::dynamic::{WITHOUT_EFFECT, is_dynamic, without_effect};
use super::ignored::ignored;
use super::key::{Importance, Key, ValueType};
use super::{BrokerConfig, ClientMetricsSettings, GannetConfig, GroupConfig, GroupSettings, TopicConfig};

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    DynamicTopic = 1,
    DynamicBroker = 2,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
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
        let own = own_of(key, overrides, ConfigSource::DynamicTopic);
        let synonyms: Vec<_> = own.into_iter().chain(inherited(key, broker)).collect();
        let value = in_given_order(key, &synonyms).or_else(|| config.text(key.name));
        entry(key, value, synonyms, false)
    };
    TopicConfig::KEYS.iter().map(describe).collect()
}

/// The settings of a group that overrides these.
pub fn describe_group(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let describe = |key: &'static Key| {
        let own = own_of(key, overrides, ConfigSource::Group);
        let default = default_of(key.name, key.default.filter(|_| key.synonyms.is_empty()).map(str::to_owned));
        let synonyms: Vec<_> = own.into_iter().chain(inherited(key, broker)).chain(default).collect();
        entry(key, synonyms.first().and_then(|synonym| synonym.value.clone()), synonyms, false)
    };
    GroupSettings::KEYS.iter().map(describe).collect()
}

/// The settings of a client metrics subscription that has these.
pub fn describe_client_metrics(overrides: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let describe = |key: &'static Key| {
        let synonyms: Vec<_> = own_of(key, overrides, ConfigSource::ClientMetrics).into_iter().collect();
        let value = overrides.get(key.name).cloned().or(key.default.map(str::to_owned));
        entry(key, value, synonyms, false)
    };
    ClientMetricsSettings::KEYS.iter().map(describe).collect()
}

/// The broker's settings, the defaults of its topics among them.
pub fn describe_broker(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let mut entries = Vec::new();
    for key in BrokerConfig::KEYS {
        let names: Vec<_> = [key.name].into_iter().chain(key.synonyms.iter().map(|synonym| synonym.name)).collect();
        entries.push(entry_of_broker(key, &names, broker.text(key.name), broker));
    }
    for key in GroupConfig::KEYS {
        entries.push(entry_of_broker(key, &[key.name], broker.group.text(key.name), broker));
    }
    for key in GannetConfig::KEYS {
        entries.push(entry_of_broker(key, &[key.name], broker.gannet.text(key.name), broker));
    }
    for key in TopicConfig::KEYS {
        for synonym in key.synonyms {
            let is_last = key.synonyms.last() == Some(synonym);
            let default = key.default.filter(|_| is_last).map(|text| synonym.of_key(text));
            let synonyms: Vec<_> =
                configured(&[synonym.name], broker).into_iter().chain(default_of(synonym.name, default)).collect();
            let value = synonyms.first().and_then(|found| found.value.clone());
            let entry = entry(key, value, synonyms, !is_dynamic(synonym.name));
            entries.push(ConfigEntry { name: synonym.name, config_type: synonym.value_type(key), ..entry });
        }
    }
    entries.extend(WITHOUT_EFFECT.iter().filter_map(|name| kept(name, broker)));
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// What was set for all brokers while they ran.
pub fn describe_dynamic_defaults(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let mut entries = describe_broker(broker);
    entries.retain_mut(|entry| {
        entry.synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        let Some(set) = entry.synonyms.first() else { return false };
        (entry.value, entry.source) = (set.value.clone(), set.source);
        true
    });
    entries
}

fn entry_of_broker(
    key: &'static Key,
    names: &[&'static str],
    value: Option<String>,
    broker: &BrokerConfig,
) -> ConfigEntry {
    let default = default_of(key.name, key.default.map(str::to_string));
    let synonyms = configured(names, broker).into_iter().chain(default).collect();
    entry(key, value, synonyms, !is_dynamic(key.name))
}

/// A setting that does nothing and was set while the broker ran.
fn kept(name: &'static str, broker: &BrokerConfig) -> Option<ConfigEntry> {
    let synonyms = configured(&[without_effect(name)?], broker);
    let (value, source) = synonyms.first().map(|set| (set.value.clone(), set.source))?;
    Some(ConfigEntry {
        name,
        value,
        source,
        is_sensitive: false,
        read_only: false,
        is_default: false,
        synonyms,
        config_type: ValueType::String,
        documentation: ignored(name).unwrap_or("Kept; it has no effect."),
    })
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

fn own_of(key: &'static Key, overrides: &BTreeMap<String, String>, source: ConfigSource) -> Option<ConfigSynonym> {
    let text = overrides.get(key.name)?;
    let value = key.parts(Some(text)).map_or_else(|| text.clone(), |parts| parts.join(","));
    Some(ConfigSynonym { name: key.name, value: Some(value), source })
}

/// What the broker gives a key: all its own keys that were set, then the default of the strongest. That is null where there
/// are several, and then not shown.
fn inherited(key: &'static Key, broker: &BrokerConfig) -> impl Iterator<Item = ConfigSynonym> {
    let names: Vec<_> = key.synonyms.iter().map(|synonym| synonym.name).collect();
    let default = match key.synonyms {
        [only] => default_of(only.name, key.default.map(str::to_owned)),
        _ => None,
    };
    configured(&names, broker).into_iter().chain(default)
}

/// A list is shown as whoever set it has ordered it.
fn in_given_order(key: &Key, synonyms: &[ConfigSynonym]) -> Option<String> {
    key.parts(Some(synonyms.first()?.value.as_deref()?)).map(|parts| parts.join(","))
}

/// What was set under these names, the strongest first: for this broker while it ran, for all, in its file.
fn configured(names: &[&'static str], broker: &BrokerConfig) -> Vec<ConfigSynonym> {
    let mut set = Vec::new();
    let from = |texts: &BTreeMap<String, String>, source, set: &mut Vec<ConfigSynonym>| {
        let found = names.iter().filter_map(|name| Some((name, texts.get(*name)?)));
        set.extend(found.map(|(name, text)| ConfigSynonym { name, value: Some(text.clone()), source }));
    };
    from(&broker.dynamic, ConfigSource::DynamicBroker, &mut set);
    from(&broker.dynamic_default, ConfigSource::DynamicDefaultBroker, &mut set);
    let in_file = names.iter().filter_map(|name| Some((name, broker.configured.get(name)?)));
    let source = ConfigSource::StaticBroker;
    set.extend(in_file.map(|(name, text)| ConfigSynonym { name, value: Some(text.clone()), source }));
    set
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
            [("retention.ms", "1000", DynamicTopic), ("log.retention.hours", "24", StaticBroker)]
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
    fn the_brokers_settings_are_listed_once_each_and_read_only_but_for_the_dynamic() {
        let broker = broker("log.retention.hours=24\nbroker.id=7\n");
        let entries = describe_broker(&broker);
        assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted, none twice");
        assert!(entries.iter().all(|entry| entry.read_only != is_dynamic(entry.name)));
        assert!(!find(&entries, "log.retention.ms").read_only && find(&entries, "log.retention.hours").read_only);
        assert_eq!(find(&entries, "node.id").value.as_deref(), Some("7"));
        assert_eq!(find(&entries, "log.retention.hours").value.as_deref(), Some("24"));
        assert_eq!(find(&entries, "log.retention.ms").value, None);
        assert_eq!(find(&entries, "min.insync.replicas").value.as_deref(), Some("1"));
    }

    #[test]
    fn a_list_keeps_the_order_of_whoever_set_it() {
        let own = BTreeMap::from([("cleanup.policy".to_string(), "delete, compact".to_string())]);
        let entries = describe_topic(&own, &broker(""));
        let policy = find(&entries, "cleanup.policy");
        assert_eq!(policy.value.as_deref(), Some("delete,compact"));
        assert_eq!(synonyms(policy)[0], ("cleanup.policy", "delete,compact", ConfigSource::DynamicTopic));
        let entries = describe_topic(&BTreeMap::new(), &broker("log.cleanup.policy=delete,compact\n"));
        assert_eq!(find(&entries, "cleanup.policy").value.as_deref(), Some("delete,compact"));
    }

    #[test]
    fn of_several_names_none_shows_a_default_and_hours_are_ints() {
        let broker = broker("");
        assert!(find(&describe_topic(&BTreeMap::new(), &broker), "segment.ms").synonyms.is_empty());
        let entries = describe_broker(&broker);
        assert_eq!(find(&entries, "log.roll.hours").config_type, ValueType::Int);
        assert_eq!(synonyms(find(&entries, "log.roll.hours")), [("log.roll.hours", "168", ConfigSource::Default)]);
        assert_eq!(find(&entries, "log.roll.ms").config_type, ValueType::Long);
    }

    #[test]
    fn what_was_set_while_the_broker_ran_outranks_its_file() {
        use ConfigSource::*;
        let set = |name: &str, value: &str| BTreeMap::from([(name.to_string(), value.to_string())]);
        let broker = broker("log.segment.bytes=2097152\n");
        let broker = broker.with_dynamic(&set("log.segment.bytes", "3000000"), &set("num.io.threads", "16")).unwrap();
        let entries = describe_broker(&broker);
        let segment = find(&entries, "log.segment.bytes");
        let ranks =
            [("log.segment.bytes", "3000000", DynamicDefaultBroker), ("log.segment.bytes", "2097152", StaticBroker)];
        assert_eq!(synonyms(segment)[..2], ranks);
        assert_eq!(find(&entries, "num.io.threads").source, DynamicBroker);
        let of_topic = describe_topic(&BTreeMap::new(), &broker);
        assert_eq!(synonyms(find(&of_topic, "segment.bytes"))[..2], ranks);
        assert_eq!(find(&of_topic, "segment.bytes").value.as_deref(), Some("3000000"));
        let defaults = describe_dynamic_defaults(&broker);
        assert_eq!(defaults.iter().map(|entry| entry.name).collect::<Vec<_>>(), ["log.segment.bytes"]);
    }

    #[test]
    fn a_group_and_a_subscription_show_what_they_override() {
        let broker = broker("group.consumer.session.timeout.ms=50000\n");
        let own = BTreeMap::from([("consumer.heartbeat.interval.ms".to_string(), "6000".to_string())]);
        let group = describe_group(&own, &broker);
        assert_eq!(find(&group, "consumer.heartbeat.interval.ms").source, ConfigSource::Group);
        assert_eq!(find(&group, "consumer.session.timeout.ms").value.as_deref(), Some("50000"));
        assert_eq!(find(&group, "consumer.session.timeout.ms").source, ConfigSource::StaticBroker);
        let metrics = describe_client_metrics(&BTreeMap::from([("interval.ms".to_string(), "100".to_string())]));
        assert_eq!(find(&metrics, "interval.ms").source, ConfigSource::ClientMetrics);
        assert_eq!(find(&metrics, "metrics").value.as_deref(), Some(""));
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
