//! Metadata records, as Kafka's tools read them.

use gannet::protocol::MetadataRecord;
use gannet::protocol::metadata_record::*;

use super::{TOPIC_ID, unhex};

#[track_caller]
fn assert_record(value: &str, record: impl Into<MetadataRecord<'static>>) {
    let (value, record) = (unhex(value), record.into());
    assert_eq!(MetadataRecord::decode(value).as_ref(), Ok(&record));
    assert_eq!(record.encode(), value);
}

#[test]
fn metadata_records() {
    // Frame version 1, key, version; then the body; at last the number of tagged fields.
    assert_record(
        "01 02 00 07 6f7264657273 0102030405060708090a0b0c0d0e0f10 00",
        TopicRecord { name: "orders", topic_id: TOPIC_ID },
    );
    assert_record(
        "01 03 01 00000002 0102030405060708090a0b0c0d0e0f10 02 00000001 02 00000001 01 01 00000001 00000005 00000006 \
         02 0102030405060708090a0b0c0d0e0f10 00",
        PartitionRecord {
            partition_id: 2,
            topic_id: TOPIC_ID,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 5,
            partition_epoch: 6,
            directories: vec![TOPIC_ID],
            ..Default::default()
        },
    );
    assert_record(
        "01 04 00 02 07 6f7264657273 0d 726574656e74696f6e2e6d73 05 31303030 00",
        ConfigRecord { resource_type: 2, resource_name: "orders", name: "retention.ms", value: Some("1000") },
    );
    assert_record(
        "01 04 00 02 07 6f7264657273 0d 726574656e74696f6e2e6d73 00 00",
        ConfigRecord { resource_type: 2, resource_name: "orders", name: "retention.ms", value: None },
    );
    assert_record("01 09 00 0102030405060708090a0b0c0d0e0f10 00", RemoveTopicRecord { topic_id: TOPIC_ID });
    assert_record(
        "01 0c 00 11 6d657461646174612e76657273696f6e 001b 00",
        FeatureLevelRecord { name: "metadata.version", feature_level: 27 },
    );
    assert_record(
        "01 0f 00 00000001 0000000000000009 0000000000000fa0 00",
        ProducerIdsRecord { broker_id: 1, broker_epoch: 9, next_producer_id: 4000 },
    );
    assert_record("01 14 00 00", NoOpRecord {});
    // The log directories are tag 0: one field of 17 bytes.
    assert_record(
        "01 00 03 00000001 00 0102030405060708090a0b0c0d0e0f10 0000000000000009 \
         02 0a 504c41494e54455854 02 68 2384 0000 00 02 11 6d657461646174612e76657273696f6e 0001 001b 00 02 72 01 00 \
         01 00 11 02 0102030405060708090a0b0c0d0e0f10",
        RegisterBrokerRecord {
            broker_id: 1,
            incarnation_id: TOPIC_ID,
            broker_epoch: 9,
            end_points: vec![BrokerEndpoint { name: "PLAINTEXT", host: "h", port: 9092, security_protocol: 0 }],
            features: vec![BrokerFeature {
                name: "metadata.version",
                min_supported_version: 1,
                max_supported_version: 27,
            }],
            rack: Some("r"),
            fenced: true,
            log_dirs: vec![TOPIC_ID],
            ..Default::default()
        },
    );
}
