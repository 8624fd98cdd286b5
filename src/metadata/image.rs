//! `MetadataImage`: the facts as they are after some number of records. Shared between cores as `Arc<MetadataImage>`;
//! the next image is a clone with records applied, and the two share every topic that did not change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::record::{
    BrokerRecord, ConfigRecord, ConfigResource, Endpoint, FeatureRecord, MetadataRecord, PartitionRecord, QuotaEntity,
    QuotaRecord, TopicRecord,
};
use crate::config::{BrokerConfig, TopicConfig};
use crate::types::{BrokerId, LeaderEpoch, Map, PartitionId, ProducerId, TopicId, Uuid};

/// Invariants:
/// - `names` and `topics` hold the same topics, under their names and their ids
/// - the partitions of a topic are numbered from 0 without a gap
/// - `partitions` counts those of all topics
#[derive(Clone, Debug)]
pub struct MetadataImage {
    cluster_id: Arc<str>,
    /// Of this broker's file.
    static_config: Arc<BrokerConfig>,
    /// That with what was set while the broker ran: what a topic does not set itself comes from here.
    config: Arc<BrokerConfig>,
    topic_defaults: Arc<TopicConfig>,
    version: u64,
    brokers: BTreeMap<BrokerId, Arc<Broker>>,
    names: Arc<BTreeMap<Arc<str>, TopicId>>,
    topics: Arc<Map<TopicId, Arc<Topic>>>,
    partitions: usize,
    /// Of everything but topics, which hold their own.
    configs: Arc<BTreeMap<ConfigResource, BTreeMap<String, String>>>,
    quotas: Arc<BTreeMap<QuotaEntity, BTreeMap<String, f64>>>,
    features: BTreeMap<Arc<str>, i16>,
    next_producer_id: ProducerId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub id: BrokerId,
    pub incarnation: Uuid,
    /// Offset of its registration in the metadata log.
    pub epoch: i64,
    /// Several of one listener: each core has its own.
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<Arc<str>>,
    /// Registered, but may lead nothing.
    pub fenced: bool,
}

impl Broker {
    /// Where clients of this listener reach the broker: at one address or, where each core has its own, at so many as there
    /// are cores, in their order.
    pub fn endpoints_of(&self, listener: &str) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(move |endpoint| &*endpoint.listener == listener)
    }

    /// The address of the broker's first core, which is the one that decides for the cluster.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints_of(listener).next()
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: TopicId,
    /// By partition index.
    pub partitions: Vec<Partition>,
    /// Settings of this topic that differ from the broker's.
    pub configs: BTreeMap<String, String>,
    /// Those and, for the others, this broker's.
    pub config: Arc<TopicConfig>,
}

impl Topic {
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// The preferred leader first.
    pub replicas: Arc<[BrokerId]>,
    pub isr: Arc<[BrokerId]>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of this partition's state.
    pub partition_epoch: i32,
}

/// A record that does not fit what the records before it say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImageError {
    TopicExists {
        name: Arc<str>,
    },
    UnknownTopic {
        id: TopicId,
    },
    UnknownTopicName {
        name: Arc<str>,
    },
    /// Partitions come to be in the order of their indexes.
    PartitionGap {
        partition: PartitionId,
        partitions: usize,
    },
    ProducerIdsRetreat {
        next_producer_id: ProducerId,
        present: ProducerId,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata log contradicts itself: ")?;
        match self {
            ImageError::TopicExists { name } => write!(f, "topic {name} is created while it exists"),
            ImageError::UnknownTopic { id } => write!(f, "a record names topic id {id}, which no record created"),
            ImageError::UnknownTopicName { name } => write!(f, "a setting is for topic {name}, which does not exist"),
            ImageError::PartitionGap { partition: PartitionId { topic, index }, partitions } => {
                write!(f, "partition {index} of topic id {topic} is stated while the topic has {partitions}")
            }
            ImageError::ProducerIdsRetreat { next_producer_id, present } => {
                write!(f, "the next producer id goes back from {present} to {next_producer_id}")
            }
        }
    }
}

impl std::error::Error for ImageError {}

impl MetadataImage {
    /// Before the first record, as a broker of this configuration sees it.
    pub fn new(cluster_id: Arc<str>, config: Arc<BrokerConfig>) -> MetadataImage {
        MetadataImage {
            cluster_id,
            topic_defaults: Arc::new(config.topic.clone()),
            static_config: config.clone(),
            config,
            version: 0,
            brokers: BTreeMap::new(),
            names: Arc::default(),
            topics: Arc::default(),
            partitions: 0,
            configs: Arc::default(),
            quotas: Arc::default(),
            features: BTreeMap::new(),
            next_producer_id: 0,
        }
    }

    pub fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// How many records made this image: the offset of the next one in the metadata log.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// In the order of their ids.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topic_by_id(*self.names.get(name)?)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// In the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics_from("")
    }

    /// In the order of their names, from this name on.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        let from = (std::ops::Bound::Included(name), std::ops::Bound::Unbounded);
        self.names.range::<str, _>(from).map(|(_, id)| &self.topics[id])
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Of all topics.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.topic_by_id(id.topic)?.partition(id.index)
    }

    /// This broker's settings as its file has them.
    pub fn static_config(&self) -> &Arc<BrokerConfig> {
        &self.static_config
    }

    /// This broker's settings in force.
    pub fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    /// What was set for this one while the cluster ran; `None` for nothing, or a topic that does not exist.
    pub fn configs_of(&self, resource: &ConfigResource) -> Option<&BTreeMap<String, String>> {
        match resource {
            ConfigResource::Topic(name) => self.topic(name).map(|topic| &topic.configs),
            other => self.configs.get(other),
        }
    }

    /// Everything but topics that has settings of its own, by kind and name.
    pub fn configured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// By entity, then by Kafka's name of the quota.
    pub fn quotas(&self) -> &Arc<BTreeMap<QuotaEntity, BTreeMap<String, f64>>> {
        &self.quotas
    }

    /// Finalized levels, `metadata.version` among them.
    pub fn features(&self) -> &BTreeMap<Arc<str>, i16> {
        &self.features
    }

    /// The first producer id that nobody has.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Takes the next record of the metadata log in and names the topic that it changed. Costs a copy of what it changes,
    /// if an older image shares that; never of the other topics. After an error the image is as it was.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<Option<TopicId>, ImageError> {
        let changed = match record {
            MetadataRecord::Topic(topic) => Some(self.apply_topic(topic)?),
            MetadataRecord::Partition(partition) => Some(self.apply_partition(partition)?),
            MetadataRecord::RemoveTopic(id) => Some(self.apply_remove_topic(*id)?),
            MetadataRecord::Config(config) => self.apply_config(config)?,
            MetadataRecord::Broker(broker) => {
                self.apply_broker(broker);
                None
            }
            MetadataRecord::Feature(feature) => {
                self.apply_feature(feature);
                None
            }
            MetadataRecord::Quota(quota) => {
                self.apply_quota(quota);
                None
            }
            MetadataRecord::ProducerIds { next_producer_id, .. } => {
                let (next_producer_id, present) = (*next_producer_id, self.next_producer_id);
                if next_producer_id < present {
                    return Err(ImageError::ProducerIdsRetreat { next_producer_id, present });
                }
                self.next_producer_id = next_producer_id;
                None
            }
            MetadataRecord::NoOp => None,
        };
        self.version += 1;
        Ok(changed)
    }

    fn apply_topic(&mut self, record: &TopicRecord) -> Result<TopicId, ImageError> {
        let TopicRecord { name, id } = record;
        if self.names.contains_key(name) || self.topics.contains_key(id) {
            return Err(ImageError::TopicExists { name: name.clone() });
        }
        let topic = Topic {
            name: name.clone(),
            id: *id,
            partitions: Vec::new(),
            configs: BTreeMap::new(),
            config: self.topic_defaults.clone(),
        };
        Arc::make_mut(&mut self.names).insert(name.clone(), *id);
        Arc::make_mut(&mut self.topics).insert(*id, Arc::new(topic));
        Ok(*id)
    }

    fn apply_partition(&mut self, record: &PartitionRecord) -> Result<TopicId, ImageError> {
        let PartitionId { topic: id, index } = record.partition;
        let partitions = self.topics.get(&id).ok_or(ImageError::UnknownTopic { id })?.partitions.len();
        let state = Partition {
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        };
        match usize::try_from(index) {
            Ok(index) if index < partitions => self.topic_mut(id).partitions[index] = state,
            Ok(index) if index == partitions => {
                self.topic_mut(id).partitions.push(state);
                self.partitions += 1;
            }
            _ => return Err(ImageError::PartitionGap { partition: record.partition, partitions }),
        }
        Ok(id)
    }

    fn apply_remove_topic(&mut self, id: TopicId) -> Result<TopicId, ImageError> {
        if !self.topics.contains_key(&id) {
            return Err(ImageError::UnknownTopic { id });
        }
        let topic = Arc::make_mut(&mut self.topics).remove(&id).expect("just seen");
        Arc::make_mut(&mut self.names).remove(&topic.name);
        self.partitions -= topic.partitions.len();
        Ok(id)
    }

    fn apply_config(&mut self, record: &ConfigRecord) -> Result<Option<TopicId>, ImageError> {
        let set = |configs: &mut BTreeMap<String, String>| match &record.value {
            Some(value) => configs.insert(record.key.clone(), value.clone()),
            None => configs.remove(&record.key),
        };
        if let ConfigResource::Topic(name) = &record.resource {
            let id = *self.names.get(name).ok_or(ImageError::UnknownTopicName { name: name.clone() })?;
            let config = self.config.clone();
            let topic = self.topic_mut(id);
            set(&mut topic.configs);
            topic.config = Arc::new(effective(&config, &topic.configs));
            return Ok(Some(id));
        }
        let configs = Arc::make_mut(&mut self.configs);
        let of_resource = configs.entry(record.resource.clone()).or_default();
        set(of_resource);
        if of_resource.is_empty() {
            configs.remove(&record.resource);
        }
        if let ConfigResource::Broker(id) = record.resource
            && id.is_none_or(|id| id == self.config.node_id)
        {
            self.apply_broker_config();
        }
        Ok(None)
    }

    /// The broker's settings changed, and with them what topics do not set themselves.
    fn apply_broker_config(&mut self) {
        let none = BTreeMap::new();
        let set_for = |id| self.configs.get(&ConfigResource::Broker(id)).unwrap_or(&none);
        let config =
            self.static_config.with_dynamic_where_sound(set_for(None), set_for(Some(self.static_config.node_id)));
        self.topic_defaults = Arc::new(config.topic.clone());
        self.config = Arc::new(config);
        for topic in Arc::make_mut(&mut self.topics).values_mut() {
            let config = match topic.configs.is_empty() {
                true => self.topic_defaults.clone(),
                false => Arc::new(effective(&self.config, &topic.configs)),
            };
            Arc::make_mut(topic).config = config;
        }
    }

    fn apply_quota(&mut self, record: &QuotaRecord) {
        let quotas = Arc::make_mut(&mut self.quotas);
        let of_entity = quotas.entry(record.entity.clone()).or_default();
        match record.value {
            Some(value) => of_entity.insert(record.key.clone(), value),
            None => of_entity.remove(&record.key),
        };
        if of_entity.is_empty() {
            quotas.remove(&record.entity);
        }
    }

    fn apply_broker(&mut self, record: &BrokerRecord) {
        let BrokerRecord { id, incarnation, epoch, endpoints, rack, fenced } = record.clone();
        self.brokers.insert(id, Arc::new(Broker { id, incarnation, epoch, endpoints, rack, fenced }));
    }

    fn apply_feature(&mut self, record: &FeatureRecord) {
        match record.level {
            0 => self.features.remove(&record.name),
            level => self.features.insert(record.name.clone(), level),
        };
    }

    fn topic_mut(&mut self, id: TopicId) -> &mut Topic {
        let topic = Arc::make_mut(&mut self.topics).get_mut(&id).expect("the caller has seen it");
        Arc::make_mut(topic)
    }
}

/// A topic's settings in force. A setting that this broker's limits no longer allow was sound when it was made; the
/// broker's own stands in for it, since a topic without settings would be none.
fn effective(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> TopicConfig {
    broker.topic_config(overrides).unwrap_or_else(|_| {
        let mut sound = BTreeMap::new();
        for (key, value) in overrides {
            sound.insert(key.clone(), value.clone());
            if broker.topic_config(&sound).is_err() {
                sound.remove(key);
            }
        }
        broker.topic_config(&sound).expect("each was added only if all hold together, the broker's own hold alone")
    })
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
