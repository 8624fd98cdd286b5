//! What an image makes of the records of the metadata log.

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
        let (resource, key, value) = (ConfigResource::Topic("orders".into()), key.to_owned(), Some(value.to_owned()));
        image.apply(&MetadataRecord::Config(ConfigRecord { resource, key, value })).expect("exists");
    }
    let config = TopicConfig { retention_ms: 5, ..TopicConfig::default() };
    assert_eq!(*image.topic("orders").expect("exists").config, config);
}

#[test]
fn a_setting_of_the_broker_reaches_the_topics_that_do_not_set_it() {
    let mut image = orders_and_audit();
    image.apply(&setting("orders", Some("5"))).expect("exists");
    let set = |broker, value: Option<&str>| {
        let resource = ConfigResource::Broker(broker);
        MetadataRecord::Config(ConfigRecord {
            resource,
            key: "log.retention.ms".to_owned(),
            value: value.map(str::to_owned),
        })
    };
    let retention = |image: &MetadataImage| {
        ["orders", "audit"].map(|topic| image.topic(topic).expect("exists").config.retention_ms)
    };
    let node_id = image.config().node_id;
    for (record, expected) in [
        (set(None, Some("7")), [5, 7]),
        (set(Some(node_id), Some("8")), [5, 8]),
        (set(Some(node_id + 1), Some("9")), [5, 8]),
        (set(Some(node_id), None), [5, 7]),
        (set(None, None), [5, TopicConfig::default().retention_ms]),
    ] {
        image.apply(&record).expect("brokers always have settings");
        assert_eq!(retention(&image), expected, "{record:?}");
    }
    assert_eq!(image.configured().count(), 1, "that of the other broker");
}

#[test]
fn a_quota_that_is_taken_back_leaves_nothing() {
    let quota = |value| {
        let entity = QuotaEntity { client_id: Some(None), ..QuotaEntity::default() };
        MetadataRecord::Quota(QuotaRecord { entity, key: "producer_byte_rate".to_owned(), value })
    };
    let mut image = image(&[quota(Some(1.0)), quota(Some(2.0))]);
    assert_eq!(image.quotas().values().flatten().collect::<Vec<_>>(), [(&"producer_byte_rate".to_owned(), &2.0)]);
    image.apply(&quota(None)).expect("quotas always fit");
    assert!(image.quotas().is_empty());
}

#[test]
fn a_broker_that_comes_back_replaces_its_former_self() {
    let broker = |port| {
        let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port, security_protocol: 0 };
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
