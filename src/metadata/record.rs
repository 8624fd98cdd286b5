//! One fact of the metadata log, owned: what `protocol::MetadataRecord` is on the wire.

use std::sync::Arc;

use crate::types::{BrokerId, LeaderEpoch, PartitionId, ProducerId, TopicId, Uuid};

#[derive(Clone, PartialEq, Debug)]
pub enum MetadataRecord {
    /// A broker joined, or came back with other addresses.
    Broker(BrokerRecord),
    Topic(TopicRecord),
    /// A partition came to be or changed; it is stated whole.
    Partition(PartitionRecord),
    Config(ConfigRecord),
    RemoveTopic(TopicId),
    Feature(FeatureRecord),
    Quota(QuotaRecord),
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

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigResource {
    Topic(Arc<str>),
    /// `None` for all brokers.
    Broker(Option<BrokerId>),
    /// A subscription to metrics of clients (KIP-714).
    ClientMetrics(Arc<str>),
    Group(Arc<str>),
}

impl ConfigResource {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;

    /// Kafka's number of the type.
    pub fn resource_type(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => Self::TOPIC,
            ConfigResource::Broker(_) => Self::BROKER,
            ConfigResource::ClientMetrics(_) => Self::CLIENT_METRICS,
            ConfigResource::Group(_) => Self::GROUP,
        }
    }

    /// As it stands on the wire; all brokers together have the empty name.
    pub fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name) | ConfigResource::ClientMetrics(name) | ConfigResource::Group(name) => {
                name.to_string()
            }
            ConfigResource::Broker(id) => id.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

/// Whom quotas are for: any of a user and a client id, or an address. A part without a name is the default for all that
/// have no quota of their own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct QuotaEntity {
    pub user: Option<QuotaName>,
    pub client_id: Option<QuotaName>,
    pub ip: Option<QuotaName>,
}

/// `None` is the default.
pub type QuotaName = Option<Arc<str>>;

impl QuotaEntity {
    pub const USER: &str = "user";
    pub const CLIENT_ID: &str = "client-id";
    pub const IP: &str = "ip";

    /// Its parts under Kafka's names.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &QuotaName)> {
        let parts = [(Self::USER, &self.user), (Self::CLIENT_ID, &self.client_id), (Self::IP, &self.ip)];
        parts.into_iter().filter_map(|(kind, name)| Some((kind, name.as_ref()?)))
    }

    /// The part of this name; `None` if there is no such part.
    pub fn part_mut(&mut self, kind: &str) -> Option<&mut Option<QuotaName>> {
        match kind {
            Self::USER => Some(&mut self.user),
            Self::CLIENT_ID => Some(&mut self.client_id),
            Self::IP => Some(&mut self.ip),
            _ => None,
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct QuotaRecord {
    pub entity: QuotaEntity,
    pub key: String,
    /// `None` takes the quota back.
    pub value: Option<f64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureRecord {
    pub name: Arc<str>,
    /// 0 switches the feature off.
    pub level: i16,
}
