//! One fact of the metadata log, owned: what `protocol::MetadataRecord` is on the wire.

use std::sync::Arc;

use crate::types::{BrokerId, LeaderEpoch, PartitionId, ProducerId, TopicId, Uuid};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataRecord {
    /// A broker joined, or came back with other addresses.
    Broker(BrokerRecord),
    Topic(TopicRecord),
    /// A partition came to be or changed; it is stated whole.
    Partition(PartitionRecord),
    Config(ConfigRecord),
    RemoveTopic(TopicId),
    Feature(FeatureRecord),
    /// Producer ids below are given away.
    ProducerIds {
        broker: BrokerId,
        broker_epoch: i64,
        next_producer_id: ProducerId,
    },
    /// Changes nothing.
    NoOp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerRecord {
    pub id: BrokerId,
    /// Drawn anew at each start of the broker's process.
    pub incarnation: Uuid,
    /// Offset of this record in the metadata log: the later registration has the greater one.
    pub epoch: i64,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<Arc<str>>,
    /// Registered, but may lead nothing.
    pub fenced: bool,
}

/// Where clients reach a broker, for those who came through the listener of this name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub listener: Arc<str>,
    pub host: Arc<str>,
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRecord {
    pub name: Arc<str>,
    pub id: TopicId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRecord {
    pub partition: PartitionId,
    pub replicas: Arc<[BrokerId]>,
    pub isr: Arc<[BrokerId]>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigRecord {
    pub resource: ConfigResource,
    pub key: String,
    /// `None` takes the setting back.
    pub value: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigResource {
    Topic(Arc<str>),
    /// `None` for all brokers.
    Broker(Option<BrokerId>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureRecord {
    pub name: Arc<str>,
    /// 0 switches the feature off.
    pub level: i16,
}
