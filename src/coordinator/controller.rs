//! `Controller`: decides what becomes of the cluster's facts. Lives beside the metadata log, on its owner's core. Topics
//! are in `topics.rs`.

use std::sync::Arc;

use super::features::first_levels;
use super::random::Random;
use super::{BrokerRegistration, ControllerReply, ControllerRequest, Decision, ProducerIdBlock, Refusal};
use crate::config::BrokerConfig;
use crate::error_code::ErrorCode;
use crate::metadata::{BrokerRecord, MetadataImage, MetadataRecord, Partition, PartitionRecord};
use crate::types::{BrokerId, PartitionId, ProducerId, Time, TopicId, Uuid};

/// So many producer ids are given away at once: one record of the metadata log for a thousand producers.
const PRODUCER_IDS_PER_BLOCK: i32 = 1000;

#[derive(Debug)]
pub struct Controller {
    pub(super) config: Arc<BrokerConfig>,
    random: Random,
}

pub(super) type ControllerDecision = Decision<MetadataRecord, ControllerReply>;

impl Controller {
    /// Topic ids are drawn from `seed`: another one at each start.
    pub fn new(config: Arc<BrokerConfig>, seed: u64) -> Controller {
        Controller { config, random: Random::new(seed) }
    }

    /// `image` has every record decided so far applied, committed or not: a decision must see those before it.
    pub fn handle(&mut self, image: &MetadataImage, _now: Time, request: ControllerRequest) -> ControllerDecision {
        match request {
            ControllerRequest::CreateTopics { topics, validate_only } => {
                self.create_topics(image, topics, validate_only)
            }
            ControllerRequest::DeleteTopics { topics } => self.delete_topics(image, topics),
            ControllerRequest::CreatePartitions { topics, validate_only } => {
                self.create_partitions(image, topics, validate_only)
            }
            ControllerRequest::AlterConfigs { changes, validate_only } => {
                self.alter_configs(image, changes, validate_only)
            }
            ControllerRequest::AlterQuotas { changes, validate_only } => {
                self.alter_quotas(image, changes, validate_only)
            }
            ControllerRequest::UpdateFeatures { updates, validate_only } => {
                self.update_features(image, &updates, validate_only)
            }
            ControllerRequest::AllocateProducerIds { broker } => allocate_producer_ids(image, broker),
            ControllerRequest::RegisterBroker(broker) => register_broker(image, broker),
        }
    }

    /// An id that no topic has, that is not reserved, and that a command line does not take for an option.
    pub(super) fn draw_topic_id(&mut self, image: &MetadataImage) -> TopicId {
        loop {
            let id = Uuid::from_random(self.random.draw());
            if image.topic_by_id(id).is_none() && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// Any number below `end`.
    pub(super) fn draw_below(&mut self, end: usize) -> usize {
        assert!(end > 0);
        (self.random.draw() % end as u128) as usize
    }
}

fn allocate_producer_ids(image: &MetadataImage, broker: BrokerId) -> ControllerDecision {
    let first = image.next_producer_id();
    let Some(next_producer_id) = first.checked_add(ProducerId::from(PRODUCER_IDS_PER_BLOCK)) else {
        let refusal = Refusal::new(ErrorCode::UnknownServerError, "All producer ids have been given away.");
        return Decision { records: Vec::new(), reply: ControllerReply::AllocateProducerIds(Err(refusal)) };
    };
    let broker_epoch = image.broker(broker).map_or(-1, |broker| broker.epoch);
    let block = ProducerIdBlock { first, count: PRODUCER_IDS_PER_BLOCK };
    Decision {
        records: vec![MetadataRecord::ProducerIds { broker, broker_epoch, next_producer_id }],
        reply: ControllerReply::AllocateProducerIds(Ok(block)),
    }
}

fn register_broker(image: &MetadataImage, broker: BrokerRegistration) -> ControllerDecision {
    let broker_epoch = i64::try_from(image.version()).expect("offsets are 63 bits");
    let id = broker.id;
    let mut records = vec![MetadataRecord::Broker(BrokerRecord {
        id,
        incarnation: broker.incarnation,
        epoch: broker_epoch,
        endpoints: broker.endpoints,
        rack: broker.rack,
        fenced: false,
    })];
    records.extend(first_levels(image));
    if broker.after_crash {
        let partitions = image.topics().flat_map(|topic| {
            let indexes = 0..topic.partitions.len() as i32;
            indexes.zip(&topic.partitions).map(|(index, state)| (PartitionId { topic: topic.id, index }, state))
        });
        let led = partitions.filter(|(_, state)| state.leader == Some(id));
        records.extend(led.map(|(partition, state)| lead_anew(partition, state)));
    }
    Decision { records, reply: ControllerReply::RegisterBroker { broker_epoch } }
}

fn lead_anew(partition: PartitionId, state: &Partition) -> MetadataRecord {
    MetadataRecord::Partition(PartitionRecord {
        partition,
        replicas: state.replicas.clone(),
        isr: state.isr.clone(),
        leader: state.leader,
        leader_epoch: state.leader_epoch + 1,
        partition_epoch: state.partition_epoch + 1,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::coordinator::{NewTopic, TopicReference};

    /// A controller and the image that its decisions make, of a cluster of brokers 1, 2, 3 …
    pub struct Cluster {
        pub controller: Controller,
        pub image: MetadataImage,
    }

    impl Cluster {
        pub fn of(brokers: BrokerId) -> Cluster {
            let mut config = BrokerConfig { num_partitions: 3, ..BrokerConfig::default() };
            config.gannet.partitions_max = 100;
            let config = Arc::new(config);
            let image = MetadataImage::new("cluster".into(), config.clone());
            let mut cluster = Cluster { controller: Controller::new(config, 42), image };
            for id in 1..=brokers {
                cluster.handle(ControllerRequest::RegisterBroker(registration(id, false)));
            }
            cluster
        }

        /// Decides, applies what was decided, and answers.
        pub fn handle(&mut self, request: ControllerRequest) -> ControllerReply {
            let decision = self.controller.handle(&self.image, Time::default(), request);
            for record in &decision.records {
                self.image.apply(record).expect("a decision fits the image it was made on");
            }
            decision.reply
        }

        pub fn create(&mut self, topic: NewTopic) -> Result<super::super::CreatedTopic, Refusal> {
            let request = ControllerRequest::CreateTopics { topics: vec![topic], validate_only: false };
            let ControllerReply::CreateTopics(mut results) = self.handle(request) else { panic!("another reply") };
            assert_eq!(results.len(), 1);
            results.remove(0).outcome
        }
    }

    pub fn topic(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }

    pub fn registration(id: BrokerId, after_crash: bool) -> BrokerRegistration {
        BrokerRegistration { id, incarnation: Uuid::ZERO, endpoints: Vec::new(), rack: None, after_crash }
    }

    #[test]
    fn no_producer_id_is_given_away_twice() {
        let mut cluster = Cluster::of(1);
        for block in 0..3 {
            let reply = cluster.handle(ControllerRequest::AllocateProducerIds { broker: 1 });
            let expected = ProducerIdBlock { first: block * 1000, count: 1000 };
            assert_eq!(reply, ControllerReply::AllocateProducerIds(Ok(expected)));
        }
    }

    #[test]
    fn when_the_last_producer_id_is_gone_the_next_block_is_refused() {
        let mut cluster = Cluster::of(1);
        let next_producer_id = i64::MAX - 1;
        let spent = MetadataRecord::ProducerIds { broker: 1, broker_epoch: 0, next_producer_id };
        cluster.image.apply(&spent).expect("forward");
        let reply = cluster.handle(ControllerRequest::AllocateProducerIds { broker: 1 });
        assert!(matches!(reply, ControllerReply::AllocateProducerIds(Err(_))));
    }

    #[test]
    fn a_broker_back_from_a_crash_leads_its_partitions_in_a_new_epoch() {
        let mut cluster = Cluster::of(2);
        let assignments = vec![(0, vec![1]), (1, vec![2])];
        cluster.create(NewTopic { assignments, ..topic("orders") }).expect("created");
        let epochs = |cluster: &Cluster| {
            let topic = cluster.image.topic("orders").expect("created");
            topic.partitions.iter().map(|partition| partition.leader_epoch).collect::<Vec<_>>()
        };
        cluster.handle(ControllerRequest::RegisterBroker(registration(1, false)));
        assert_eq!(epochs(&cluster), [0, 0]);
        cluster.handle(ControllerRequest::RegisterBroker(registration(1, true)));
        assert_eq!(epochs(&cluster), [1, 0]);
    }

    #[test]
    fn a_later_registration_has_a_greater_epoch() {
        let mut cluster = Cluster::of(1);
        let before = cluster.image.broker(1).expect("registered").epoch;
        cluster.create(topic("orders")).expect("created");
        let reply = cluster.handle(ControllerRequest::RegisterBroker(registration(1, false)));
        let after = cluster.image.broker(1).expect("registered").epoch;
        assert!(after > before);
        assert_eq!(reply, ControllerReply::RegisterBroker { broker_epoch: after });
    }

    #[test]
    fn a_topic_created_again_under_its_name_has_another_id() {
        let mut cluster = Cluster::of(1);
        let first = cluster.create(topic("orders")).expect("created").id;
        let topics = vec![TopicReference::by_name("orders")];
        cluster.handle(ControllerRequest::DeleteTopics { topics });
        assert_ne!(cluster.create(topic("orders")).expect("created again").id, first);
    }
}
