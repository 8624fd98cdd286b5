//! `MetadataImage`: the facts as they are after some number of records. Shared between cores as `Arc<MetadataImage>`;
//! the next image is a clone with records applied, and the two share every topic that did not change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::record::{
    BrokerRecord, ConfigRecord, ConfigResource, Endpoint, FeatureRecord, MetadataRecord, PartitionRecord, TopicRecord,
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
    /// Of this broker: what a topic does not set itself comes from here.
    config: Arc<BrokerConfig>,
    topic_defaults: Arc<TopicConfig>,
    version: u64,
    brokers: BTreeMap<BrokerId, Arc<Broker>>,
    names: Arc<BTreeMap<Arc<str>, TopicId>>,
    topics: Arc<Map<TopicId, Arc<Topic>>>,
    partitions: usize,
    broker_configs: BTreeMap<Option<BrokerId>, BTreeMap<String, String>>,
    features: BTreeMap<Arc<str>, i16>,
    next_producer_id: ProducerId,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub id: BrokerId,
    pub incarnation: Uuid,
    /// Offset of its registration in the metadata log.
    pub epoch: i64,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<Arc<str>>,
    /// Registered, but may lead nothing.
    pub fenced: bool,
}

impl Broker {
    /// Where clients of this listener reach the broker.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| &*endpoint.listener == listener)
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
            config,
            version: 0,
            brokers: BTreeMap::new(),
            names: Arc::default(),
            topics: Arc::default(),
            partitions: 0,
            broker_configs: BTreeMap::new(),
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

    /// Settings of one broker, or with `None` of all, that were made while the cluster ran.
    pub fn broker_configs(&self, broker: Option<BrokerId>) -> Option<&BTreeMap<String, String>> {
        self.broker_configs.get(&broker)
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
        match &record.resource {
            ConfigResource::Broker(broker) => {
                set(self.broker_configs.entry(*broker).or_default());
                Ok(None)
            }
            ConfigResource::Topic(name) => {
                let id = *self.names.get(name).ok_or(ImageError::UnknownTopicName { name: name.clone() })?;
                let config = self.config.clone();
                let topic = self.topic_mut(id);
                set(&mut topic.configs);
                topic.config = Arc::new(effective(&config, &topic.configs));
                Ok(Some(id))
            }
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
mod tests {
    use super::*;

    const ORDERS: TopicId = Uuid([1; 16]);
    const AUDIT: TopicId = Uuid([2; 16]);

    fn topic(name: &str, id: TopicId) -> MetadataRecord {
        MetadataRecord::Topic(TopicRecord { name: name.into(), id })
    }

    fn partition(topic: TopicId, index: i32, leader_epoch: LeaderEpoch) -> MetadataRecord {
        MetadataRecord::Partition(PartitionRecord {
            partition: PartitionId { topic, index },
            replicas: [1].into(),
            isr: [1].into(),
            leader: Some(1),
            leader_epoch,
            partition_epoch: leader_epoch,
        })
    }

    fn setting(topic: &str, value: Option<&str>) -> MetadataRecord {
        MetadataRecord::Config(ConfigRecord {
            resource: ConfigResource::Topic(topic.into()),
            key: "retention.ms".to_owned(),
            value: value.map(str::to_owned),
        })
    }

    fn image(records: &[MetadataRecord]) -> MetadataImage {
        let mut image = MetadataImage::new("cluster".into(), Arc::default());
        for record in records {
            image.apply(record).expect("consistent");
        }
        image
    }

    fn orders_and_audit() -> MetadataImage {
        image(&[
            topic("orders", ORDERS),
            partition(ORDERS, 0, 0),
            partition(ORDERS, 1, 0),
            topic("audit", AUDIT),
            partition(AUDIT, 0, 0),
        ])
    }

    #[test]
    fn a_topic_is_found_by_name_and_by_id() {
        let image = orders_and_audit();
        assert_eq!(image.topic("orders"), image.topic_by_id(ORDERS));
        assert_eq!(image.topic("orders").expect("created").partitions.len(), 2);
        assert_eq!((image.topic_count(), image.partition_count(), image.version()), (2, 3, 5));
        assert!(image.partition(PartitionId { topic: ORDERS, index: 2 }).is_none());
        assert!(image.partition(PartitionId { topic: ORDERS, index: -1 }).is_none());
    }

    #[test]
    fn topics_are_listed_by_name_from_any_name_on() {
        let image = orders_and_audit();
        let names = |from| image.topics_from(from).map(|topic| &*topic.name).collect::<Vec<_>>();
        assert_eq!(names(""), ["audit", "orders"]);
        assert_eq!(names("b"), ["orders"]);
        assert_eq!(names("orders"), ["orders"]);
        assert!(names("orders2").is_empty());
    }

    #[test]
    fn a_change_leaves_older_images_as_they_were_and_shares_the_other_topics() {
        let before = orders_and_audit();
        let mut after = before.clone();
        assert_eq!(after.apply(&partition(ORDERS, 0, 7)), Ok(Some(ORDERS)));
        let epoch = |image: &MetadataImage| image.topic("orders").expect("created").partitions[0].leader_epoch;
        assert_eq!((epoch(&before), epoch(&after)), (0, 7));
        assert!(Arc::ptr_eq(before.topic("audit").expect("created"), after.topic("audit").expect("created")));
    }

    #[test]
    fn a_deleted_topic_is_gone_and_its_name_is_free_for_another_id() {
        let mut image = orders_and_audit();
        assert_eq!(image.apply(&MetadataRecord::RemoveTopic(ORDERS)), Ok(Some(ORDERS)));
        assert!(image.topic("orders").is_none() && image.topic_by_id(ORDERS).is_none());
        assert_eq!(image.partition_count(), 1);
        image.apply(&topic("orders", Uuid([3; 16]))).expect("the name is free");
        assert!(image.topic("orders").expect("created").partitions.is_empty());
    }

    #[test]
    fn a_setting_is_made_and_taken_back() {
        let mut image = orders_and_audit();
        image.apply(&setting("orders", Some("5"))).expect("exists");
        let orders = image.topic("orders").expect("exists");
        assert_eq!((&*orders.configs["retention.ms"], orders.config.retention_ms), ("5", 5));
        assert_eq!(image.apply(&setting("orders", None)), Ok(Some(ORDERS)));
        let orders = image.topic("orders").expect("exists");
        assert!(orders.configs.is_empty());
        assert_eq!(*orders.config, TopicConfig::default());
    }

    #[test]
    fn a_setting_that_is_no_longer_allowed_leaves_the_others_in_force() {
        let mut image = orders_and_audit();
        for (key, value) in [("max.message.bytes", "-7"), ("retention.ms", "5"), ("of.tomorrow", "1")] {
            let (resource, key, value) =
                (ConfigResource::Topic("orders".into()), key.to_owned(), Some(value.to_owned()));
            image.apply(&MetadataRecord::Config(ConfigRecord { resource, key, value })).expect("exists");
        }
        let config = TopicConfig { retention_ms: 5, ..TopicConfig::default() };
        assert_eq!(*image.topic("orders").expect("exists").config, config);
    }

    #[test]
    fn a_broker_that_comes_back_replaces_its_former_self() {
        let broker = |port| {
            let endpoint =
                Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port, security_protocol: 0 };
            let record = BrokerRecord {
                id: 1,
                incarnation: Uuid::ZERO,
                epoch: 0,
                endpoints: vec![endpoint],
                rack: None,
                fenced: false,
            };
            MetadataRecord::Broker(record)
        };
        let image = image(&[broker(9092), broker(9093)]);
        assert_eq!(image.brokers().count(), 1);
        let broker = image.broker(1).expect("registered");
        assert_eq!(broker.endpoint("PLAINTEXT").expect("advertised").port, 9093);
        assert!(broker.endpoint("INTERNAL").is_none());
    }

    #[test]
    fn a_record_that_contradicts_the_others_is_refused_and_changes_nothing() {
        let ids = |next_producer_id| MetadataRecord::ProducerIds { broker: 1, broker_epoch: 0, next_producer_id };
        let mut image = orders_and_audit();
        image.apply(&ids(2000)).expect("forward");
        let unknown = Uuid([9; 16]);
        for record in [
            topic("orders", unknown),
            topic("other", ORDERS),
            partition(unknown, 0, 0),
            partition(ORDERS, 3, 0),
            partition(ORDERS, -1, 0),
            setting("other", Some("5")),
            MetadataRecord::RemoveTopic(unknown),
            ids(1000),
        ] {
            assert!(image.apply(&record).is_err(), "{record:?}");
        }
        assert_eq!((image.version(), image.topic_count(), image.partition_count()), (6, 2, 3));
        assert_eq!(image.next_producer_id(), 2000);
    }
}
