//! Metadata records ⇄ the bytes of Kafka's own metadata log, so that its tools read ours.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{
    BrokerRecord, ConfigRecord, ConfigResource, Endpoint, FeatureRecord, MetadataRecord, PartitionRecord, QuotaEntity,
    QuotaRecord, TopicRecord,
};
use crate::protocol::DecodeError;
use crate::protocol::metadata_record::{self as wire, MetadataRecord as Wire};
use crate::types::{BrokerId, PartitionId, Uuid};

const NO_LEADER: BrokerId = -1;

/// Why a value of the metadata log is not a fact that this broker understands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordError {
    Decode(DecodeError),
    /// A setting of something that has none here.
    Resource {
        resource_type: i8,
        name: String,
    },
    /// A quota for something that has none here.
    Entity {
        entity_type: String,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Decode(error) => write!(f, "a record of the metadata log does not read: {error}"),
            RecordError::Resource { resource_type, name } => {
                write!(
                    f,
                    "the metadata log has a setting for resource type {resource_type}, {name:?}; known are topics (2), \
                     brokers (4), client metrics (16) and groups (32)"
                )
            }
            RecordError::Entity { entity_type } => {
                write!(f, "the metadata log has a quota for {entity_type:?}; known are user, client-id and ip")
            }
        }
    }
}

impl std::error::Error for RecordError {}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> RecordError {
        RecordError::Decode(error)
    }
}

impl MetadataRecord {
    /// The value of one record of the metadata log.
    pub fn encode(&self) -> Bytes {
        match self {
            MetadataRecord::Broker(broker) => encode_broker(broker),
            MetadataRecord::Topic(topic) => wire_bytes(wire::TopicRecord { name: &topic.name, topic_id: topic.id }),
            MetadataRecord::Partition(partition) => encode_partition(partition),
            MetadataRecord::Config(config) => encode_config(config),
            MetadataRecord::RemoveTopic(topic_id) => wire_bytes(wire::RemoveTopicRecord { topic_id: *topic_id }),
            MetadataRecord::Feature(feature) => {
                wire_bytes(wire::FeatureLevelRecord { name: &feature.name, feature_level: feature.level })
            }
            MetadataRecord::Quota(quota) => encode_quota(quota),
            MetadataRecord::ProducerIds { broker, broker_epoch, next_producer_id } => {
                wire_bytes(wire::ProducerIdsRecord {
                    broker_id: *broker,
                    broker_epoch: *broker_epoch,
                    next_producer_id: *next_producer_id,
                })
            }
            MetadataRecord::NoOp => wire_bytes(wire::NoOpRecord {}),
        }
    }

    /// Reads the value of one record. A kind that this broker does not know is an error: an image without one of the
    /// cluster's facts would be wrong.
    pub fn decode(value: &[u8]) -> Result<MetadataRecord, RecordError> {
        Ok(match Wire::decode(value)? {
            Wire::RegisterBroker(broker) => MetadataRecord::Broker(decode_broker(&broker)),
            Wire::Topic(topic) => MetadataRecord::Topic(TopicRecord { name: topic.name.into(), id: topic.topic_id }),
            Wire::Partition(partition) => MetadataRecord::Partition(decode_partition(partition)),
            Wire::Config(config) => MetadataRecord::Config(decode_config(&config)?),
            Wire::RemoveTopic(topic) => MetadataRecord::RemoveTopic(topic.topic_id),
            Wire::FeatureLevel(feature) => {
                MetadataRecord::Feature(FeatureRecord { name: feature.name.into(), level: feature.feature_level })
            }
            Wire::ClientQuota(quota) => MetadataRecord::Quota(decode_quota(&quota)?),
            Wire::ProducerIds(ids) => MetadataRecord::ProducerIds {
                broker: ids.broker_id,
                broker_epoch: ids.broker_epoch,
                next_producer_id: ids.next_producer_id,
            },
            Wire::NoOp(_) => MetadataRecord::NoOp,
        })
    }
}

fn wire_bytes<'a>(record: impl Into<Wire<'a>>) -> Bytes {
    record.into().encode()
}

fn encode_broker(broker: &BrokerRecord) -> Bytes {
    let end_points = broker.endpoints.iter().map(|endpoint| wire::BrokerEndpoint {
        name: &endpoint.listener,
        host: &endpoint.host,
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    });
    wire_bytes(wire::RegisterBrokerRecord {
        broker_id: broker.id,
        incarnation_id: broker.incarnation,
        broker_epoch: broker.epoch,
        end_points: end_points.collect(),
        rack: broker.rack.as_deref(),
        fenced: broker.fenced,
        ..wire::RegisterBrokerRecord::default()
    })
}

fn decode_broker(broker: &wire::RegisterBrokerRecord) -> BrokerRecord {
    let endpoints = broker.end_points.iter().map(|endpoint| Endpoint {
        listener: endpoint.name.into(),
        host: endpoint.host.into(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    });
    BrokerRecord {
        id: broker.broker_id,
        incarnation: broker.incarnation_id,
        epoch: broker.broker_epoch,
        endpoints: endpoints.collect(),
        rack: broker.rack.map(Arc::from),
        fenced: broker.fenced,
    }
}

fn encode_partition(partition: &PartitionRecord) -> Bytes {
    wire_bytes(wire::PartitionRecord {
        partition_id: partition.partition.index,
        topic_id: partition.partition.topic,
        replicas: partition.replicas.to_vec(),
        isr: partition.isr.to_vec(),
        leader: partition.leader.unwrap_or(NO_LEADER),
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        // Not assigned: which of its log directories a broker uses is its own affair.
        directories: vec![Uuid::ZERO; partition.replicas.len()],
        ..wire::PartitionRecord::default()
    })
}

fn decode_partition(partition: wire::PartitionRecord) -> PartitionRecord {
    PartitionRecord {
        partition: PartitionId { topic: partition.topic_id, index: partition.partition_id },
        replicas: partition.replicas.into(),
        isr: partition.isr.into(),
        leader: Some(partition.leader).filter(|leader| *leader != NO_LEADER),
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
    }
}

fn encode_config(config: &ConfigRecord) -> Bytes {
    let (resource_type, resource_name) = (config.resource.resource_type(), config.resource.name());
    let (name, value) = (&*config.key, config.value.as_deref());
    wire_bytes(wire::ConfigRecord { resource_type, resource_name: &resource_name, name, value })
}

fn decode_config(config: &wire::ConfigRecord) -> Result<ConfigRecord, RecordError> {
    let resource = match (config.resource_type, config.resource_name) {
        (ConfigResource::TOPIC, name) => Some(ConfigResource::Topic(name.into())),
        (ConfigResource::BROKER, "") => Some(ConfigResource::Broker(None)),
        (ConfigResource::BROKER, id) => id.parse().ok().map(|id| ConfigResource::Broker(Some(id))),
        (ConfigResource::CLIENT_METRICS, name) => Some(ConfigResource::ClientMetrics(name.into())),
        (ConfigResource::GROUP, name) => Some(ConfigResource::Group(name.into())),
        _ => None,
    };
    let resource = resource.ok_or_else(|| RecordError::Resource {
        resource_type: config.resource_type,
        name: config.resource_name.to_owned(),
    })?;
    Ok(ConfigRecord { resource, key: config.name.to_owned(), value: config.value.map(str::to_owned) })
}

fn encode_quota(quota: &QuotaRecord) -> Bytes {
    let parts = quota.entity.parts();
    let entity = parts.map(|(entity_type, name)| wire::EntityData { entity_type, entity_name: name.as_deref() });
    let (value, remove) = (quota.value.unwrap_or(0.0), quota.value.is_none());
    wire_bytes(wire::ClientQuotaRecord { entity: entity.collect(), key: &quota.key, value, remove })
}

fn decode_quota(quota: &wire::ClientQuotaRecord) -> Result<QuotaRecord, RecordError> {
    let mut entity = QuotaEntity::default();
    for part in &quota.entity {
        let unknown = || RecordError::Entity { entity_type: part.entity_type.to_owned() };
        *entity.part_mut(part.entity_type).ok_or_else(unknown)? = Some(part.entity_name.map(Arc::from));
    }
    Ok(QuotaRecord { entity, key: quota.key.to_owned(), value: (!quota.remove).then_some(quota.value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid([7; 16]);

    fn config(resource: ConfigResource, value: Option<&str>) -> MetadataRecord {
        MetadataRecord::Config(ConfigRecord {
            resource,
            key: "retention.ms".to_owned(),
            value: value.map(str::to_owned),
        })
    }

    fn quota(value: Option<f64>) -> MetadataRecord {
        let entity = QuotaEntity { user: Some(None), client_id: Some(Some("app".into())), ip: None };
        MetadataRecord::Quota(QuotaRecord { entity, key: "producer_byte_rate".to_owned(), value })
    }

    fn partition(leader: Option<BrokerId>) -> MetadataRecord {
        MetadataRecord::Partition(PartitionRecord {
            partition: PartitionId { topic: TOPIC, index: 3 },
            replicas: [1, 2, 3].into(),
            isr: [1, 3].into(),
            leader,
            leader_epoch: 4,
            partition_epoch: 9,
        })
    }

    fn one_of_each() -> Vec<MetadataRecord> {
        let endpoint =
            Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port: 65535, security_protocol: 0 };
        vec![
            MetadataRecord::Broker(BrokerRecord {
                id: 1,
                incarnation: Uuid([9; 16]),
                epoch: 12,
                endpoints: vec![endpoint],
                rack: Some("a".into()),
                fenced: false,
            }),
            MetadataRecord::Topic(TopicRecord { name: "orders".into(), id: TOPIC }),
            partition(Some(1)),
            partition(None),
            config(ConfigResource::Topic("orders".into()), Some("5")),
            config(ConfigResource::Topic("orders".into()), None),
            config(ConfigResource::Broker(None), Some("5")),
            config(ConfigResource::Broker(Some(1)), Some("")),
            config(ConfigResource::Group("billing".into()), Some("5")),
            config(ConfigResource::ClientMetrics("all".into()), Some("5")),
            quota(Some(1024.5)),
            quota(None),
            MetadataRecord::RemoveTopic(TOPIC),
            MetadataRecord::Feature(FeatureRecord { name: "metadata.version".into(), level: 25 }),
            MetadataRecord::ProducerIds { broker: 1, broker_epoch: 12, next_producer_id: 2000 },
            MetadataRecord::NoOp,
        ]
    }

    #[test]
    fn every_record_reads_back_as_it_was_written() {
        for record in one_of_each() {
            assert_eq!(MetadataRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn a_record_cut_short_is_refused() {
        for record in one_of_each() {
            let bytes = record.encode();
            for length in 0..bytes.len() {
                assert!(MetadataRecord::decode(&bytes[..length]).is_err(), "{record:?} cut at {length}");
            }
        }
    }

    #[test]
    fn a_topic_record_has_the_bytes_that_kafka_writes() {
        let bytes = MetadataRecord::Topic(TopicRecord { name: "orders".into(), id: TOPIC }).encode();
        // Frame version, key and version, the name with its length plus one, the id, no tagged fields.
        let expected = [&[1, 2, 0, 7][..], b"orders", &[7; 16], &[0]].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_setting_of_something_unknown_is_refused_by_name() {
        let record = wire::ConfigRecord { resource_type: 8, resource_name: "1", name: "k", value: None };
        let error = MetadataRecord::decode(&wire_bytes(record)).expect_err("loggers have no settings here");
        assert!(error.to_string().contains("resource type 8, \"1\""), "{error}");
        let entity = vec![wire::EntityData { entity_type: "planet", entity_name: None }];
        let record = wire::ClientQuotaRecord { entity, ..Default::default() };
        let error = MetadataRecord::decode(&wire_bytes(record)).expect_err("planets have no quotas");
        assert!(error.to_string().contains("planet"), "{error}");
    }
}
