//! The APIs that records go through, and those a client needs to find them.

use bytes::Bytes;
use gannet::protocol::api_versions::*;
use gannet::protocol::init_producer_id::*;
use gannet::protocol::list_offsets::*;
use gannet::protocol::metadata::*;
use gannet::protocol::produce::*;
use gannet::protocol::*;
use gannet::protocol::{fetch, offset_for_leader_epoch};
use gannet::types::Uuid;

use super::{TOPIC_ID, assert_request, assert_response, one, unhex};

#[test]
fn api_versions() {
    assert_request(
        "0000003c001200030000000100036170700017636f6e666c75656e742d6b61666b612d707974686f6e16322e31362e312d72\
         646b61666b612d322e31362e3000",
        3,
        ApiVersionsRequest {
            client_software_name: "confluent-kafka-python",
            client_software_version: "2.16.1-rdkafka-2.16.0",
        },
    );
    assert_request(
        "0000002300120004000000070003617070000d6b61666b612d707974686f6e07332e302e313200",
        4,
        ApiVersionsRequest { client_software_name: "kafka-python", client_software_version: "3.0.12" },
    );
    // What a broker answers to a version it does not know (KIP-511): version 0, with its own range of ApiVersions.
    let refused = ApiVersionsResponse {
        error_code: 35,
        api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }],
        ..Default::default()
    };
    assert_response("0000001000000007002300000001001200000004", 0, refused.clone());
    assert_response(
        "0000005500000007002302001200000004000000000003001a02147472616e73616374696f6e2e76657273696f6e00000002\
         000108000000000000000b021a02147472616e73616374696f6e2e76657273696f6e0002000100",
        4,
        ApiVersionsResponse {
            supported_features: vec![SupportedFeatureKey {
                name: "transaction.version",
                min_version: 0,
                max_version: 2,
            }],
            finalized_features_epoch: 11,
            finalized_features: vec![FinalizedFeatureKey {
                name: "transaction.version",
                max_version_level: 2,
                min_version_level: 1,
            }],
            ..refused
        },
    );
}

#[test]
fn metadata_requests() {
    assert_request(
        "0000002a0003000d000000020003617070000200000000000000000000000000000000076f726465727300010000",
        13,
        MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some("orders") }]),
            allow_auto_topic_creation: true,
            ..Default::default()
        },
    );
    assert_request(
        "00000019000300000000000700036170700000000100066f7264657273",
        0,
        MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some("orders") }]),
            allow_auto_topic_creation: true,
            ..Default::default()
        },
    );
    assert_request(
        "0000001a000300050000000700036170700000000100066f726465727300",
        5,
        MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some("orders") }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        },
    );
    assert_request("0000001100030001000000070003617070ffffffff", 1, MetadataRequest::default());
}

#[test]
fn metadata_responses() {
    assert_response(
        "0000003f0000000700000001000000010001680000238400000001000500066f726465727300000001000900000003000000\
         0400000001000000070000000100000008",
        0,
        MetadataResponse {
            brokers: vec![MetadataResponseBroker { node_id: 1, host: "h", port: 9092, rack: None }],
            topics: vec![MetadataResponseTopic {
                error_code: 5,
                name: Some("orders"),
                partitions: vec![MetadataResponsePartition {
                    error_code: 9,
                    partition_index: 3,
                    leader_id: 4,
                    leader_epoch: -1,
                    replica_nodes: vec![7],
                    isr_nodes: vec![8],
                    offline_replicas: vec![],
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_response(
        "0000005600000007000000010000000100000001000168000023840001720001630000000200000001000500066f72646572\
         7301000000010009000000030000000400000001000000070000000100000008000000010000000a",
        5,
        MetadataResponse {
            brokers: vec![MetadataResponseBroker { node_id: 1, host: "h", port: 9092, rack: Some("r") }],
            throttle_time_ms: 1,
            cluster_id: Some("c"),
            controller_id: 2,
            topics: vec![MetadataResponseTopic {
                error_code: 5,
                name: Some("orders"),
                is_internal: true,
                partitions: vec![MetadataResponsePartition {
                    error_code: 9,
                    partition_index: 3,
                    leader_id: 4,
                    leader_epoch: -1,
                    replica_nodes: vec![7],
                    isr_nodes: vec![8],
                    offline_replicas: vec![10],
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_response(
        "0000005f0000000700000000010200000001026800002384027200026300000002020005076f726465727301020304050607\
         08090a0b0c0d0e0f100102000900000003000000040000000602000000070200000008020000000a008000000000008100",
        13,
        MetadataResponse {
            brokers: vec![MetadataResponseBroker { node_id: 1, host: "h", port: 9092, rack: Some("r") }],
            throttle_time_ms: 1,
            cluster_id: Some("c"),
            controller_id: 2,
            error_code: 129,
            topics: vec![MetadataResponseTopic {
                error_code: 5,
                name: Some("orders"),
                topic_id: TOPIC_ID,
                is_internal: true,
                partitions: vec![MetadataResponsePartition {
                    error_code: 9,
                    partition_index: 3,
                    leader_id: 4,
                    leader_epoch: 6,
                    replica_nodes: vec![7],
                    isr_nodes: vec![8],
                    offline_replicas: vec![10],
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
}

#[test]
fn produce_requests() {
    // One record "value" under "key" with one header, sent by an idempotent producer.
    let batch = unhex(
        "00000000000000000000004400000000028f66943d0000000000000000018bcfe568000000018bcfe568000000000000000f\
         a00000000000000000000124000000066b65790a76616c75650202680231",
    );
    assert_request(
        "000000760000000a0000000300036170700000ffff0000753002076f72646572730200000000510000000000000000000000\
         4400000000028f66943d0000000000000000018bcfe568000000018bcfe568000000000000000fa000000000000000000001\
         24000000066b65790a76616c75650202680231000000",
        10,
        ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30000,
            topic_data: one(TopicProduceData {
                name: "orders",
                partition_data: [PartitionProduceData { index: 0, records: Some(batch) }].into(),
                ..Default::default()
            }),
        },
    );
    assert_request(
        "000000310000000300000007000361707000027478ffff000005dc0000000100066f72646572730000000100000002000000\
         02aabb",
        3,
        ProduceRequest {
            transactional_id: Some("tx"),
            acks: -1,
            timeout_ms: 1500,
            topic_data: one(TopicProduceData {
                name: "orders",
                partition_data: [PartitionProduceData { index: 2, records: Some(&[0xaa, 0xbb]) }].into(),
                ..Default::default()
            }),
        },
    );
    assert_request(
        "000000310000000700000007000361707000027478ffff000005dc0000000100066f72646572730000000100000002000000\
         02aabb",
        7,
        ProduceRequest {
            transactional_id: Some("tx"),
            acks: -1,
            timeout_ms: 1500,
            topic_data: one(TopicProduceData {
                name: "orders",
                partition_data: [PartitionProduceData { index: 2, records: Some(&[0xaa, 0xbb]) }].into(),
                ..Default::default()
            }),
        },
    );
    assert_request(
        "000000330000000d00000007000361707000037478ffff000005dc020102030405060708090a0b0c0d0e0f10020000000203\
         aabb000000",
        13,
        ProduceRequest {
            transactional_id: Some("tx"),
            acks: -1,
            timeout_ms: 1500,
            topic_data: one(TopicProduceData {
                topic_id: TOPIC_ID,
                partition_data: [PartitionProduceData { index: 2, records: Some(&[0xaa, 0xbb]) }].into(),
                ..Default::default()
            }),
        },
    );
}

#[test]
fn produce_responses() {
    assert_response(
        "0000002e000000070000000100066f726465727300000001000000020006ffffffffffffffffffffffffffffffff00000001",
        3,
        ProduceResponse {
            responses: one(TopicProduceResponse {
                name: "orders",
                partition_responses: one(PartitionProduceResponse {
                    index: 2,
                    error_code: 6,
                    base_offset: -1,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            throttle_time_ms: 1,
            ..Default::default()
        },
    );
    assert_response(
        "00000036000000070000000100066f726465727300000001000000020006ffffffffffffffffffffffffffffffff00000000\
         0000000a00000001",
        7,
        ProduceResponse {
            responses: one(TopicProduceResponse {
                name: "orders",
                partition_responses: one(PartitionProduceResponse {
                    index: 2,
                    error_code: 6,
                    base_offset: -1,
                    log_start_offset: 10,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            throttle_time_ms: 1,
            ..Default::default()
        },
    );
    assert_response(
        "000000660000000700020102030405060708090a0b0c0d0e0f1002000000020006ffffffffffffffffffffffffffffffff00\
         0000000000000a02000000040462616400066d6f766564010009000000030000000800000000000101000d02000000030268\
         000023840000",
        13,
        ProduceResponse {
            responses: one(TopicProduceResponse {
                topic_id: TOPIC_ID,
                partition_responses: one(PartitionProduceResponse {
                    index: 2,
                    error_code: 6,
                    base_offset: -1,
                    log_start_offset: 10,
                    record_errors: vec![BatchIndexAndErrorMessage {
                        batch_index: 4,
                        batch_index_error_message: Some("bad"),
                    }],
                    error_message: Some("moved"),
                    current_leader: LeaderIdAndEpoch { leader_id: 3, leader_epoch: 8 },
                    ..Default::default()
                }),
                ..Default::default()
            }),
            throttle_time_ms: 1,
            node_endpoints: vec![NodeEndpoint { node_id: 3, host: "h", port: 9092, rack: None }],
        },
    );
}

#[test]
fn fetch_requests() {
    assert_request(
        "0000005a0001001000000003000361707000000001f400000001032000000100000000ffffffff0200000000000000000000\
         0000000000070200000000000000050000000000000000ffffffffffffffffffffffff001000000000010100",
        16,
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 52_428_800,
            isolation_level: 1,
            session_epoch: -1,
            topics: one(fetch::FetchTopic {
                topic_id: Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
                partitions: one(fetch::FetchPartition {
                    current_leader_epoch: 5,
                    partition_max_bytes: 1_048_576,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        },
    );
    assert_request(
        "0000003e00010004000000070003617070ffffffff000001f40000000103200000010000000100066f726465727300000001\
         00000001000000000000006400100000",
        4,
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 52_428_800,
            isolation_level: 1,
            topics: one(fetch::FetchTopic {
                topic: "orders",
                partitions: one(fetch::FetchPartition {
                    partition: 1,
                    fetch_offset: 100,
                    partition_max_bytes: 1_048_576,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        },
    );
    assert_request(
        "000000660001000b000000070003617070ffffffff000001f400000001032000000100000009000000020000000100066f72\
         646572730000000100000001000000050000000000000064ffffffffffffffff001000000000000100036f6c640000000100\
         000003000172",
        11,
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 52_428_800,
            isolation_level: 1,
            session_id: 9,
            session_epoch: 2,
            topics: one(fetch::FetchTopic {
                topic: "orders",
                partitions: one(fetch::FetchPartition {
                    partition: 1,
                    current_leader_epoch: 5,
                    fetch_offset: 100,
                    partition_max_bytes: 1_048_576,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            forgotten_topics_data: vec![fetch::ForgottenTopic {
                topic: "old",
                partitions: vec![3],
                ..Default::default()
            }],
            rack_id: "r",
            ..Default::default()
        },
    );
    assert_request(
        "000000a00001001200000007000361707000000001f40000000103200000010000000900000002020102030405060708090a\
         0b0c0d0e0f10020000000100000005000000000000006400000004ffffffffffffffff001000000200100102030405060708\
         090a0b0c0d0e0f100108000000000000005a00020102030405060708090a0b0c0d0e0f100200000003000272020002026301\
         0d00000003000000000000000400",
        18,
        FetchRequest {
            cluster_id: Some("c"),
            replica_state: fetch::ReplicaState { replica_id: 3, replica_epoch: 4 },
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 52_428_800,
            isolation_level: 1,
            session_id: 9,
            session_epoch: 2,
            topics: one(fetch::FetchTopic {
                topic_id: TOPIC_ID,
                partitions: one(fetch::FetchPartition {
                    partition: 1,
                    current_leader_epoch: 5,
                    fetch_offset: 100,
                    last_fetched_epoch: 4,
                    replica_directory_id: TOPIC_ID,
                    high_watermark: 90,
                    partition_max_bytes: 1_048_576,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            forgotten_topics_data: vec![fetch::ForgottenTopic {
                topic_id: TOPIC_ID,
                partitions: vec![3],
                ..Default::default()
            }],
            rack_id: "r",
            ..Default::default()
        },
    );
}

#[test]
fn fetch_responses() {
    assert_response(
        "0000004800000007000000010000000100066f7264657273000000010000000200060000000000000064000000000000005a\
         000000010000000000000fa0000000000000005500000002aabb",
        4,
        FetchResponse {
            throttle_time_ms: 1,
            responses: one(fetch::FetchableTopicResponse {
                topic: "orders",
                partitions: one(fetch::PartitionData {
                    partition_index: 2,
                    error_code: 6,
                    high_watermark: 100,
                    last_stable_offset: 90,
                    aborted_transactions: Some(vec![fetch::AbortedTransaction { producer_id: 4000, first_offset: 85 }]),
                    records: Records([Bytes::from_static(&[0xaa, 0xbb])].into()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        },
    );
    assert_response(
        "0000005a00000007000000010000000000090000000100066f72646572730000000100000002000600000000000000640000\
         00000000005a000000000000000a000000010000000000000fa000000000000000550000000500000002aabb",
        11,
        FetchResponse {
            throttle_time_ms: 1,
            session_id: 9,
            responses: one(fetch::FetchableTopicResponse {
                topic: "orders",
                partitions: one(fetch::PartitionData {
                    partition_index: 2,
                    error_code: 6,
                    high_watermark: 100,
                    last_stable_offset: 90,
                    log_start_offset: 10,
                    preferred_read_replica: 5,
                    aborted_transactions: Some(vec![fetch::AbortedTransaction { producer_id: 4000, first_offset: 85 }]),
                    records: Records([Bytes::from_static(&[0xaa, 0xbb])].into()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        },
    );
    assert_response(
        "00000094000000070000000001000000000009020102030405060708090a0b0c0d0e0f100200000002000600000000000000\
         64000000000000005a000000000000000a020000000000000fa00000000000000055000000000503aabb03000d0000000400\
         00000000000050000109000000030000000800020d000000000000004600000002000001000e020000000302680000238402\
         7200",
        18,
        FetchResponse {
            throttle_time_ms: 1,
            session_id: 9,
            responses: one(fetch::FetchableTopicResponse {
                topic_id: TOPIC_ID,
                partitions: one(fetch::PartitionData {
                    partition_index: 2,
                    error_code: 6,
                    high_watermark: 100,
                    last_stable_offset: 90,
                    log_start_offset: 10,
                    diverging_epoch: fetch::EpochEndOffset { epoch: 4, end_offset: 80 },
                    current_leader: LeaderIdAndEpoch { leader_id: 3, leader_epoch: 8 },
                    snapshot_id: fetch::SnapshotId { end_offset: 70, epoch: 2 },
                    preferred_read_replica: 5,
                    aborted_transactions: Some(vec![fetch::AbortedTransaction { producer_id: 4000, first_offset: 85 }]),
                    records: Records([Bytes::from_static(&[0xaa, 0xbb])].into()),
                }),
                ..Default::default()
            }),
            node_endpoints: vec![NodeEndpoint { node_id: 3, host: "h", port: 9092, rack: Some("r") }],
            ..Default::default()
        },
    );
}

#[test]
fn list_offsets() {
    assert_request(
        "0000002f0002000700000002000361707000ffffffff0102076f7264657273020000000000000005fffffffffffffffe0000\
         00",
        7,
        ListOffsetsRequest {
            replica_id: -1,
            isolation_level: 1,
            topics: vec![ListOffsetsTopic {
                name: "orders",
                partitions: vec![ListOffsetsPartition { partition_index: 0, current_leader_epoch: 5, timestamp: -2 }],
            }],
            ..Default::default()
        },
    );
    assert_request(
        "0000002d00020001000000070003617070ffffffff0000000100066f72646572730000000100000001fffffffffffffffa",
        1,
        ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: "orders",
                partitions: vec![ListOffsetsPartition { partition_index: 1, current_leader_epoch: -1, timestamp: -6 }],
            }],
            ..Default::default()
        },
    );
    // Beyond the oracle.
    assert_request(
        "000000330002000b00000007000361707000ffffffff0102076f7264657273020000000100000005fffffffffffffffa0000\
         00000bb800",
        11,
        ListOffsetsRequest {
            replica_id: -1,
            isolation_level: 1,
            topics: vec![ListOffsetsTopic {
                name: "orders",
                partitions: vec![ListOffsetsPartition { partition_index: 1, current_leader_epoch: 5, timestamp: -6 }],
            }],
            timeout_ms: 3000,
        },
    );
    assert_response(
        "0000002a000000070000000100066f7264657273000000010000000100000000018bcfe56800000000000000002a",
        1,
        ListOffsetsResponse {
            topics: vec![ListOffsetsTopicResponse {
                name: "orders",
                partitions: vec![ListOffsetsPartitionResponse {
                    partition_index: 1,
                    error_code: 0,
                    timestamp: 1_700_000_000_000,
                    offset: 42,
                    leader_epoch: -1,
                }],
            }],
            ..Default::default()
        },
    );
    assert_response(
        "0000002f00000007000000000102076f7264657273020000000100000000018bcfe56800000000000000002a000000050000\
         00",
        11,
        ListOffsetsResponse {
            throttle_time_ms: 1,
            topics: vec![ListOffsetsTopicResponse {
                name: "orders",
                partitions: vec![ListOffsetsPartitionResponse {
                    partition_index: 1,
                    error_code: 0,
                    timestamp: 1_700_000_000_000,
                    offset: 42,
                    leader_epoch: 5,
                }],
            }],
        },
    );
}

#[test]
fn init_producer_id() {
    assert_request(
        "0000001e001600040000000200036170700000ffffffffffffffffffffffffffff00",
        4,
        InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
        },
    );
    assert_request(
        "0000001500160000000000070003617070000274780000ea60",
        0,
        InitProducerIdRequest {
            transactional_id: Some("tx"),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        },
    );
    assert_request(
        "0000002000160005000000070003617070000374780000ea600000000000000fa0000300",
        5,
        InitProducerIdRequest {
            transactional_id: Some("tx"),
            transaction_timeout_ms: 60_000,
            producer_id: 4000,
            producer_epoch: 3,
        },
    );
    assert_response(
        "00000014000000070000000100000000000000000fa00003",
        0,
        InitProducerIdResponse { throttle_time_ms: 1, error_code: 0, producer_id: 4000, producer_epoch: 3 },
    );
    assert_response(
        "0000001600000007000000000100000000000000000fa0000300",
        5,
        InitProducerIdResponse { throttle_time_ms: 1, error_code: 0, producer_id: 4000, producer_epoch: 3 },
    );
}

#[test]
fn offset_for_leader_epoch_frames() {
    assert_request(
        "00000029001700020000000700036170700000000100066f726465727300000001000000010000000500000004",
        2,
        OffsetForLeaderEpochRequest {
            replica_id: -2,
            topics: vec![offset_for_leader_epoch::OffsetForLeaderTopic {
                topic: "orders",
                partitions: vec![offset_for_leader_epoch::OffsetForLeaderPartition {
                    partition: 1,
                    current_leader_epoch: 5,
                    leader_epoch: 4,
                }],
            }],
        },
    );
    assert_request(
        "0000002a0017000400000007000361707000ffffffff02076f726465727302000000010000000500000004000000",
        4,
        OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![offset_for_leader_epoch::OffsetForLeaderTopic {
                topic: "orders",
                partitions: vec![offset_for_leader_epoch::OffsetForLeaderPartition {
                    partition: 1,
                    current_leader_epoch: 5,
                    leader_epoch: 4,
                }],
            }],
        },
    );
    assert_response(
        "0000002a00000007000000010000000100066f726465727300000001000000000001000000040000000000000050",
        2,
        OffsetForLeaderEpochResponse {
            throttle_time_ms: 1,
            topics: vec![offset_for_leader_epoch::OffsetForLeaderTopicResult {
                topic: "orders",
                partitions: vec![offset_for_leader_epoch::EpochEndOffset {
                    error_code: 0,
                    partition: 1,
                    leader_epoch: 4,
                    end_offset: 80,
                }],
            }],
        },
    );
    assert_response(
        "0000002700000007000000000102076f726465727302000000000001000000040000000000000050000000",
        4,
        OffsetForLeaderEpochResponse {
            throttle_time_ms: 1,
            topics: vec![offset_for_leader_epoch::OffsetForLeaderTopicResult {
                topic: "orders",
                partitions: vec![offset_for_leader_epoch::EpochEndOffset {
                    error_code: 0,
                    partition: 1,
                    leader_epoch: 4,
                    end_offset: 80,
                }],
            }],
        },
    );
}
