//! The APIs that create, change and describe.

use gannet::protocol::create_partitions::*;
use gannet::protocol::create_topics::*;
use gannet::protocol::delete_topics::*;
use gannet::protocol::describe_cluster::*;
use gannet::protocol::describe_configs::*;
use gannet::protocol::describe_topic_partitions::*;

use super::{TOPIC_ID, assert_request, assert_response};

#[test]
fn create_topics() {
    assert_request(
        "00000040001300040000000300036170700000000100066f72646572730000000300010000000000000001000c726574656e\
         74696f6e2e6d730004313030300000ea6000",
        4,
        CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: "orders",
                num_partitions: 3,
                replication_factor: 1,
                assignments: vec![],
                configs: vec![CreatableTopicConfig { name: "retention.ms", value: Some("1000") }],
            }],
            timeout_ms: 60_000,
            validate_only: false,
        },
    );
    assert_request(
        "00000042001300070000000700036170700002076f7264657273ffffffffffff020000000003000000010000000200020d72\
         6574656e74696f6e2e6d73000000000003e80100",
        7,
        CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: "orders",
                num_partitions: -1,
                replication_factor: -1,
                assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2] }],
                configs: vec![CreatableTopicConfig { name: "retention.ms", value: None }],
            }],
            timeout_ms: 1000,
            validate_only: true,
        },
    );
    assert_response(
        "0000001e00000007000000010000000100066f726465727300240006657869737473",
        2,
        CreateTopicsResponse {
            throttle_time_ms: 1,
            topics: vec![CreatableTopicResult {
                name: "orders",
                error_code: 36,
                error_message: Some("exists"),
                ..Default::default()
            }],
        },
    );
    assert_response(
        "0000004d00000007000000000102076f72646572730102030405060708090a0b0c0d0e0f1000240765786973747300000003\
         0001020d726574656e74696f6e2e6d73053130303001010000010002001d00",
        7,
        CreateTopicsResponse {
            throttle_time_ms: 1,
            topics: vec![CreatableTopicResult {
                name: "orders",
                error_code: 36,
                error_message: Some("exists"),
                topic_id: TOPIC_ID,
                topic_config_error_code: 29,
                num_partitions: 3,
                replication_factor: 1,
                configs: Some(vec![CreatableTopicConfigs {
                    name: "retention.ms",
                    value: Some("1000"),
                    read_only: true,
                    config_source: 1,
                    is_sensitive: false,
                }]),
            }],
        },
    );
}

#[test]
fn delete_topics() {
    assert_request(
        "0000001b001400040000000400036170700002076f72646572730000ea6000",
        4,
        DeleteTopicsRequest { topic_names: vec!["orders"], timeout_ms: 60_000, ..Default::default() },
    );
    assert_request(
        "0000001d001400010000000700036170700000000100066f7264657273000003e8",
        1,
        DeleteTopicsRequest { topic_names: vec!["orders"], timeout_ms: 1000, ..Default::default() },
    );
    assert_request(
        "00000026001400060000000700036170700002000102030405060708090a0b0c0d0e0f1000000003e800",
        6,
        DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: None, topic_id: TOPIC_ID }],
            timeout_ms: 1000,
            ..Default::default()
        },
    );
    assert_response(
        "0000001600000007000000010000000100066f72646572730003",
        1,
        DeleteTopicsResponse {
            throttle_time_ms: 1,
            responses: vec![DeletableTopicResult { name: Some("orders"), error_code: 3, ..Default::default() }],
        },
    );
    assert_response(
        "0000002a00000007000000000102076f72646572730102030405060708090a0b0c0d0e0f10000305676f6e650000",
        6,
        DeleteTopicsResponse {
            throttle_time_ms: 1,
            responses: vec![DeletableTopicResult {
                name: Some("orders"),
                error_code: 3,
                topic_id: TOPIC_ID,
                error_message: Some("gone"),
            }],
        },
    );
}

#[test]
fn create_partitions() {
    assert_request(
        "00000022002500020000000500036170700002076f72646572730000000600000000ea600000",
        2,
        CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: "orders", count: 6, assignments: None }],
            timeout_ms: 60_000,
            validate_only: false,
        },
    );
    assert_request(
        "00000028002500030000000700036170700002076f7264657273000000060202000000010000000003e80100",
        3,
        CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "orders",
                count: 6,
                assignments: Some(vec![CreatePartitionsAssignment { broker_ids: vec![1] }]),
            }],
            timeout_ms: 1000,
            validate_only: true,
        },
    );
    assert_response(
        "0000001b00000007000000010000000100066f726465727300250003666577",
        0,
        CreatePartitionsResponse {
            throttle_time_ms: 1,
            results: vec![CreatePartitionsTopicResult { name: "orders", error_code: 37, error_message: Some("few") }],
        },
    );
    assert_response(
        "0000001900000007000000000102076f72646572730025046665770000",
        3,
        CreatePartitionsResponse {
            throttle_time_ms: 1,
            results: vec![CreatePartitionsTopicResult { name: "orders", error_code: 37, error_message: Some("few") }],
        },
    );
}

#[test]
fn describe_configs() {
    assert_request(
        "0000001f00200001000000060003617070000000010200066f7264657273ffffffff01",
        1,
        DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: 2,
                resource_name: "orders",
                configuration_keys: None,
            }],
            include_synonyms: true,
            include_documentation: false,
        },
    );
    assert_request(
        "0000002900200004000000070003617070000202076f7264657273020d726574656e74696f6e2e6d7300010100",
        4,
        DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: 2,
                resource_name: "orders",
                configuration_keys: Some(vec!["retention.ms"]),
            }],
            include_synonyms: true,
            include_documentation: true,
        },
    );
    assert_response(
        "000000510000000700000001000000010000ffff0200066f726465727300000001000c726574656e74696f6e2e6d73000431\
         3030300001010000000100106c6f672e726574656e74696f6e2e6d7300043230303004",
        1,
        DescribeConfigsResponse {
            throttle_time_ms: 1,
            results: vec![DescribeConfigsResult {
                resource_type: 2,
                resource_name: "orders",
                configs: vec![DescribeConfigsResourceResult {
                    name: "retention.ms",
                    value: Some("1000"),
                    config_source: 1,
                    is_sensitive: true,
                    synonyms: vec![DescribeConfigsSynonym { name: "log.retention.ms", value: Some("2000"), source: 4 }],
                    ..Default::default()
                }],
                ..Default::default()
            }],
        },
    );
    assert_response(
        "000000510000000700000000010200000002076f7264657273020d726574656e74696f6e2e6d73053130303000010102116c\
         6f672e726574656e74696f6e2e6d73053230303004000509686f77206c6f6e67000000",
        4,
        DescribeConfigsResponse {
            throttle_time_ms: 1,
            results: vec![DescribeConfigsResult {
                resource_type: 2,
                resource_name: "orders",
                configs: vec![DescribeConfigsResourceResult {
                    name: "retention.ms",
                    value: Some("1000"),
                    config_source: 1,
                    is_sensitive: true,
                    synonyms: vec![DescribeConfigsSynonym { name: "log.retention.ms", value: Some("2000"), source: 4 }],
                    config_type: 5,
                    documentation: Some("how long"),
                    ..Default::default()
                }],
                ..Default::default()
            }],
        },
    );
}

#[test]
fn describe_cluster() {
    assert_request(
        "00000012003c00020000000700036170700001010100",
        2,
        DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            endpoint_type: 1,
            include_fenced_brokers: true,
        },
    );
    assert_response(
        "0000002500000007000000000100000002630000000202000000010268000023840272008000000000",
        0,
        DescribeClusterResponse {
            throttle_time_ms: 1,
            cluster_id: "c",
            controller_id: 2,
            brokers: vec![DescribeClusterBroker {
                broker_id: 1,
                host: "h",
                port: 9092,
                rack: Some("r"),
                is_fenced: false,
            }],
            ..Default::default()
        },
    );
    assert_response(
        "00000027000000070000000001000000010263000000020200000001026800002384027201008000000000",
        2,
        DescribeClusterResponse {
            throttle_time_ms: 1,
            cluster_id: "c",
            controller_id: 2,
            brokers: vec![DescribeClusterBroker {
                broker_id: 1,
                host: "h",
                port: 9092,
                rack: Some("r"),
                is_fenced: true,
            }],
            ..Default::default()
        },
    );
}

#[test]
fn describe_topic_partitions() {
    assert_request(
        "00000029004b00000000000700036170700002076f7264657273000000006401076f7264657273000000070000",
        0,
        DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: "orders" }],
            response_partition_limit: 100,
            cursor: Some(Cursor { topic_name: "orders", partition_index: 7 }),
        },
    );
    assert_response(
        "0000005c000000070000000001020000076f72646572730102030405060708090a0b0c0d0e0f100102000900000003000000\
         04000000060200000007020000000800020000000b020000000a00800000000001076f7264657273000000070000",
        0,
        DescribeTopicPartitionsResponse {
            throttle_time_ms: 1,
            topics: vec![DescribeTopicPartitionsResponseTopic {
                name: Some("orders"),
                topic_id: TOPIC_ID,
                is_internal: true,
                partitions: vec![DescribeTopicPartitionsResponsePartition {
                    error_code: 9,
                    partition_index: 3,
                    leader_id: 4,
                    leader_epoch: 6,
                    replica_nodes: vec![7],
                    isr_nodes: vec![8],
                    eligible_leader_replicas: None,
                    last_known_elr: Some(vec![11]),
                    offline_replicas: vec![10],
                }],
                ..Default::default()
            }],
            next_cursor: Some(Cursor { topic_name: "orders", partition_index: 7 }),
        },
    );
}
