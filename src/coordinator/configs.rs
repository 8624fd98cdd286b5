//! The controller's decisions on settings: each resource of a request is judged by itself and changes whole or not at all,
//! and is refused in Kafka's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::controller::{Controller, ControllerDecision};
use super::{ControllerReply, Decision, Refusal, check_topic_name};
use crate::config::{self, ClientMetricsSettings, ConfigError, GroupSettings, Key, TopicConfig};
use crate::error_code::ErrorCode;
use crate::metadata::{ConfigRecord, ConfigResource, MetadataImage, MetadataRecord};
use crate::types::{Map, Set};

/// Longest value that a record of the metadata log may hold.
const VALUE_BYTES_MAX: usize = i16::MAX as usize;

/// What a client asks of one resource's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigChange {
    /// Kafka's number of the type, as the client wrote it.
    pub resource_type: i8,
    pub resource_name: String,
    pub operations: Vec<ConfigOperation>,
    /// What is not named is taken back (AlterConfigs).
    pub replaces_all: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigOperation {
    pub key: String,
    /// Kafka's number: 0 set, 1 delete, 2 append to a list, 3 subtract from a list.
    pub operation: i8,
    pub value: Option<String>,
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterConfigsResult {
    pub resource_type: i8,
    pub resource_name: String,
    pub outcome: Result<(), Refusal>,
}

impl Controller {
    pub(super) fn alter_configs(
        &self,
        image: &MetadataImage,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> ControllerDecision {
        let mut named: Map<(i8, &str), usize> = Map::default();
        for change in &changes {
            *named.entry((change.resource_type, &change.resource_name)).or_default() += 1;
        }
        let mut records = Vec::new();
        let decide = |change: &ConfigChange| match named[&(change.resource_type, &*change.resource_name)] {
            1 => decide(image, change),
            _ => Err(invalid("Each resource must appear at most once.")),
        };
        let outcomes: Vec<_> = changes.iter().map(decide).collect();
        let results = changes.into_iter().zip(outcomes).map(|(change, outcome)| AlterConfigsResult {
            resource_type: change.resource_type,
            resource_name: change.resource_name,
            outcome: outcome.map(|decided| records.extend(decided)),
        });
        let reply = ControllerReply::AlterConfigs(results.collect());
        Decision { records: if validate_only { Vec::new() } else { records }, reply }
    }
}

/// The records of one resource's change.
fn decide(image: &MetadataImage, change: &ConfigChange) -> Result<Vec<MetadataRecord>, Refusal> {
    check_operations(change)?;
    let resource = resource(image, change)?;
    let present = image.configs_of(&resource).cloned().unwrap_or_default();
    let mut wanted = if change.replaces_all { BTreeMap::new() } else { present.clone() };
    for operation in &change.operations {
        match value(&resource, operation, present.get(&operation.key))? {
            Some(value) => wanted.insert(operation.key.clone(), value),
            None => wanted.remove(&operation.key),
        };
    }
    check(image, &resource, &wanted)?;
    let taken_back = present.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key, None));
    let changed = wanted.iter().filter(|(key, value)| present.get(*key) != Some(value));
    let records = taken_back.chain(changed.map(|(key, value)| (key, Some(value.clone()))));
    Ok(records
        .map(|(key, value)| {
            MetadataRecord::Config(ConfigRecord { resource: resource.clone(), key: key.clone(), value })
        })
        .collect())
}

fn check_operations(change: &ConfigChange) -> Result<(), Refusal> {
    let mut seen = Set::default();
    if !change.operations.iter().all(|operation| seen.insert(&operation.key)) {
        return Err(invalid("Error due to duplicate config keys"));
    }
    let without_value: Vec<&str> = change
        .operations
        .iter()
        .filter(|operation| operation.value.is_none() && operation.operation != DELETE)
        .map(|operation| &*operation.key)
        .collect();
    if !without_value.is_empty() {
        return Err(invalid(format!("Null value not supported for : {}", without_value.join(", "))));
    }
    match change.operations.iter().find(|operation| !(SET..=SUBTRACT).contains(&operation.operation)) {
        Some(unknown) => Err(invalid(format!("Unknown operations type {}", unknown.operation))),
        None => Ok(()),
    }
}

fn resource(image: &MetadataImage, change: &ConfigChange) -> Result<ConfigResource, Refusal> {
    let name = &*change.resource_name;
    let named = |resource: fn(Arc<str>) -> ConfigResource, if_empty: &str| match name {
        "" => Err(invalid(if_empty)),
        name => Ok(resource(name.into())),
    };
    match change.resource_type {
        ConfigResource::TOPIC => named(ConfigResource::Topic, "Default topic resources are not allowed."),
        ConfigResource::GROUP => named(ConfigResource::Group, "Default group resources are not allowed."),
        ConfigResource::CLIENT_METRICS => named(ConfigResource::ClientMetrics, "Subscription name can't be empty"),
        ConfigResource::BROKER if name.is_empty() => Ok(ConfigResource::Broker(None)),
        ConfigResource::BROKER => {
            let id = name.parse().map_err(|_| invalid(format!("Node id must be an integer, but it is: {name}")))?;
            // The cores of a broker have its settings.
            let broker = image.broker_of_node(id).map_or(id, |broker| broker.id);
            match image.config().node_id {
                own if own == broker => Ok(ConfigResource::Broker(Some(own))),
                own => Err(invalid(format!("Unexpected broker id, expected {own}, but received {name}"))),
            }
        }
        other => Err(invalid(format!("Unknown resource type {other}"))),
    }
}

/// What one operation makes of a setting; `None` takes it back.
fn value(
    resource: &ConfigResource,
    operation: &ConfigOperation,
    present: Option<&String>,
) -> Result<Option<String>, Refusal> {
    let given = operation.value.as_deref().unwrap_or_default();
    let value = match operation.operation {
        SET => given.to_owned(),
        DELETE => return Ok(None),
        change => {
            let parts = key(resource, &operation.key).and_then(|key| key.parts(present.map(String::as_str)));
            let Some(mut parts) = parts else {
                let (word, name) = (if change == APPEND { "APPEND" } else { "SUBTRACT" }, &operation.key);
                let message = format!("Can't {word} to key {name} because its type is not LIST.");
                return Err(Refusal::new(ErrorCode::InvalidConfig, message));
            };
            for part in given.split(',').map(str::trim) {
                match change {
                    APPEND if parts.iter().all(|present| present != part) => parts.push(part.to_owned()),
                    APPEND => {}
                    _ => parts.retain(|present| present != part),
                }
            }
            parts.join(",")
        }
    };
    if value.len() > VALUE_BYTES_MAX {
        let message = format!(
            "The configuration value cannot be added because it exceeds the maximum value size of {VALUE_BYTES_MAX} bytes."
        );
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    Ok(Some(value))
}

fn key(resource: &ConfigResource, name: &str) -> Option<&'static Key> {
    match resource {
        ConfigResource::Topic(_) => TopicConfig::key(name),
        ConfigResource::Broker(_) => config::dynamic_key(name),
        ConfigResource::Group(_) => GroupSettings::key(name),
        ConfigResource::ClientMetrics(_) => ClientMetricsSettings::key(name),
    }
}

/// Whether the resource may have these settings, as they all are after the change.
fn check(image: &MetadataImage, resource: &ConfigResource, wanted: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let broker = image.config();
    match resource {
        ConfigResource::Topic(name) => {
            check_topic_name(name).map_err(|message| Refusal::new(ErrorCode::InvalidTopicException, message))?;
            broker.topic_config(wanted).map_err(|error| refusal(ErrorCode::InvalidConfig, &error))?;
            if image.topic(name).is_none() {
                let message = format!("The topic '{name}' does not exist.");
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
            }
            Ok(())
        }
        ConfigResource::Broker(id) => {
            let none = BTreeMap::new();
            let of_all = image.configs_of(&ConfigResource::Broker(None)).unwrap_or(&none);
            let own = image.configs_of(&ConfigResource::Broker(Some(broker.node_id))).unwrap_or(&none);
            let (of_all, own) = if id.is_none() { (wanted, own) } else { (of_all, wanted) };
            let together = image.static_config().with_dynamic(of_all, own);
            together.map(drop).map_err(|error| refusal(ErrorCode::InvalidRequest, &error))
        }
        ConfigResource::Group(_) => {
            GroupSettings::check(wanted, broker).map_err(|error| refusal(ErrorCode::InvalidConfig, &error))
        }
        ConfigResource::ClientMetrics(_) => {
            let error_code = |error: &ConfigError| match &*error.key {
                "match" => ErrorCode::InvalidConfig,
                _ => ErrorCode::InvalidRequest,
            };
            ClientMetricsSettings::check(wanted).map_err(|error| refusal(error_code(&error), &error))
        }
    }
}

fn refusal(error_code: ErrorCode, error: &ConfigError) -> Refusal {
    Refusal::new(error_code, error.sentence())
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::super::controller::tests::{Cluster, topic};
    use super::*;
    use crate::coordinator::ControllerRequest;

    fn operation(key: &str, operation: i8, value: Option<&str>) -> ConfigOperation {
        ConfigOperation { key: key.to_owned(), operation, value: value.map(str::to_owned) }
    }

    fn change(resource_type: i8, resource_name: &str, operations: Vec<ConfigOperation>) -> ConfigChange {
        ConfigChange { resource_type, resource_name: resource_name.to_owned(), operations, replaces_all: false }
    }

    fn alter(cluster: &mut Cluster, changes: Vec<ConfigChange>) -> Vec<Result<(), Refusal>> {
        let request = ControllerRequest::AlterConfigs { changes, validate_only: false };
        let ControllerReply::AlterConfigs(results) = cluster.handle(request) else { panic!("another reply") };
        results.into_iter().map(|result| result.outcome).collect()
    }

    fn refused(cluster: &mut Cluster, change: ConfigChange) -> (ErrorCode, String) {
        let refusal = alter(cluster, vec![change]).remove(0).expect_err("refused");
        (refusal.error_code, refusal.message)
    }

    fn with_orders() -> Cluster {
        let mut cluster = Cluster::of(1);
        cluster.create(topic("orders")).expect("created");
        cluster
    }

    fn configs<'a>(cluster: &'a Cluster, resource: &ConfigResource) -> Vec<(&'a str, &'a str)> {
        let configs = cluster.image.configs_of(resource).into_iter().flatten();
        configs.map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn single_settings_change_and_the_others_stay() {
        let mut cluster = with_orders();
        let orders = ConfigResource::Topic("orders".into());
        let set = vec![operation("retention.ms", SET, Some("5")), operation("segment.ms", SET, Some("6"))];
        assert_eq!(alter(&mut cluster, vec![change(2, "orders", set)]), [Ok(())]);
        assert_eq!(cluster.image.topic("orders").expect("created").config.retention_ms, 5);
        let back = vec![operation("retention.ms", DELETE, None), operation("flush.ms", DELETE, None)];
        assert_eq!(alter(&mut cluster, vec![change(2, "orders", back)]), [Ok(())]);
        assert_eq!(configs(&cluster, &orders), [("segment.ms", "6")]);
    }

    #[test]
    fn alter_configs_takes_back_what_it_does_not_name() {
        let mut cluster = with_orders();
        let set = |key| vec![operation(key, SET, Some("5"))];
        alter(&mut cluster, vec![change(2, "orders", set("retention.ms"))]);
        let replace = ConfigChange { replaces_all: true, ..change(2, "orders", set("segment.ms")) };
        assert_eq!(alter(&mut cluster, vec![replace]), [Ok(())]);
        assert_eq!(configs(&cluster, &ConfigResource::Topic("orders".into())), [("segment.ms", "5")]);
    }

    #[test]
    fn lists_grow_and_shrink_from_their_default() {
        let mut cluster = with_orders();
        let orders = ConfigResource::Topic("orders".into());
        for (kind, value, expected) in [
            (APPEND, "compact", "delete,compact"),
            (APPEND, "compact,delete", "delete,compact"),
            (SUBTRACT, "delete", "compact"),
        ] {
            alter(&mut cluster, vec![change(2, "orders", vec![operation("cleanup.policy", kind, Some(value))])]);
            assert_eq!(configs(&cluster, &orders), [("cleanup.policy", expected)]);
        }
        let (code, message) =
            refused(&mut cluster, change(2, "orders", vec![operation("retention.ms", APPEND, Some("1"))]));
        assert_eq!(code, ErrorCode::InvalidConfig);
        assert_eq!(message, "Can't APPEND to key retention.ms because its type is not LIST.");
    }

    #[test]
    fn one_wrong_setting_refuses_its_resource_and_no_other() {
        let mut cluster = with_orders();
        let mixed = vec![operation("retention.ms", SET, Some("5")), operation("segment.bytes", SET, Some("1"))];
        let group = vec![operation("consumer.session.timeout.ms", SET, Some("50000"))];
        let outcomes = alter(&mut cluster, vec![change(2, "orders", mixed), change(32, "billing", group)]);
        let refusal = outcomes[0].as_ref().expect_err("too small a segment");
        assert_eq!(refusal.error_code, ErrorCode::InvalidConfig);
        assert!(refusal.message.starts_with("Invalid value 1 for configuration segment.bytes"), "{refusal}");
        assert_eq!(outcomes[1], Ok(()));
        assert!(configs(&cluster, &ConfigResource::Topic("orders".into())).is_empty());
        let billing = [("consumer.session.timeout.ms", "50000")];
        assert_eq!(configs(&cluster, &ConfigResource::Group("billing".into())), billing);
    }

    #[test]
    fn refusals_have_kafkas_codes_and_words() {
        use ErrorCode::{InvalidConfig, InvalidRequest, UnknownTopicOrPartition};
        let mut cluster = with_orders();
        let set = |key| vec![operation(key, SET, Some("5"))];
        for (change, code, message) in [
            (change(2, "other", set("retention.ms")), UnknownTopicOrPartition, "The topic 'other' does not exist."),
            (change(2, "", set("retention.ms")), InvalidRequest, "Default topic resources are not allowed."),
            (change(2, "orders", set("retention")), InvalidConfig, "Unknown topic config name: retention"),
            (change(4, "x", set("log.retention.ms")), InvalidRequest, "Node id must be an integer, but it is: x"),
            (
                change(4, "9", set("log.retention.ms")),
                InvalidRequest,
                "Unexpected broker id, expected 1, but received 9",
            ),
            (
                change(4, "", set("num.partitions")),
                InvalidRequest,
                "Cannot update these configs dynamically: [num.partitions]",
            ),
            (change(32, "g", set("nothing")), InvalidConfig, "Unknown group config name: nothing"),
            (change(16, "m", set("nothing")), InvalidRequest, "Unknown client metrics configuration: nothing"),
            (change(8, "1", set("root")), InvalidRequest, "Unknown resource type 8"),
            (change(2, "orders", vec![operation("k", 9, Some(""))]), InvalidRequest, "Unknown operations type 9"),
            (change(2, "orders", vec![operation("k", SET, None)]), InvalidRequest, "Null value not supported for : k"),
            (change(2, "orders", [set("a"), set("a")].concat()), InvalidRequest, "Error due to duplicate config keys"),
        ] {
            assert_eq!(refused(&mut cluster, change), (code, message.to_owned()));
        }
        let twice = vec![change(2, "orders", set("retention.ms")); 2];
        for outcome in alter(&mut cluster, twice) {
            assert_eq!(outcome.expect_err("twice").message, "Each resource must appear at most once.");
        }
    }

    #[test]
    fn what_is_only_validated_changes_nothing() {
        let mut cluster = with_orders();
        let changes = vec![change(2, "orders", vec![operation("retention.ms", SET, Some("5"))])];
        let reply = cluster.handle(ControllerRequest::AlterConfigs { changes, validate_only: true });
        let ControllerReply::AlterConfigs(results) = reply else { panic!("another reply") };
        assert_eq!(results[0].outcome, Ok(()));
        assert!(configs(&cluster, &ConfigResource::Topic("orders".into())).is_empty());
    }
}
