//! The APIs of settings, log directories, features, producers and quotas, in their oldest and newest versions.

use super::{assert_request, assert_response};

#[test]
fn delete_records() {
    use gannet::protocol::delete_records::*;

    assert_request(
        "0000002d001500000000000700036170700000000100066f726465727300000001000000010000011f71fb04cb00007530",
        0,
        DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "orders",
                partitions: vec![DeleteRecordsPartition { partition_index: 1, offset: 1_234_567_890_123 }],
            }],
            timeout_ms: 30_000,
        },
    );
    assert_request(
        "0000002a001500020000000700036170700002076f726465727302000000010000011f71fb04cb00000000753000",
        2,
        DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "orders",
                partitions: vec![DeleteRecordsPartition { partition_index: 1, offset: 1_234_567_890_123 }],
            }],
            timeout_ms: 30_000,
        },
    );
    assert_response(
        "0000002600000007000000050000000100066f726465727300000001000000010000011f71fb04cb001b",
        0,
        DeleteRecordsResponse {
            throttle_time_ms: 5,
            topics: vec![DeleteRecordsTopicResult {
                name: "orders",
                partitions: vec![DeleteRecordsPartitionResult {
                    partition_index: 1,
                    low_watermark: 1_234_567_890_123,
                    error_code: 27,
                }],
            }],
        },
    );
    assert_response(
        "0000002300000007000000000502076f726465727302000000010000011f71fb04cb001b000000",
        2,
        DeleteRecordsResponse {
            throttle_time_ms: 5,
            topics: vec![DeleteRecordsTopicResult {
                name: "orders",
                partitions: vec![DeleteRecordsPartitionResult {
                    partition_index: 1,
                    low_watermark: 1_234_567_890_123,
                    error_code: 27,
                }],
            }],
        },
    );
}

#[test]
fn alter_configs() {
    use gannet::protocol::alter_configs::*;

    assert_request(
        "0000002e00210000000000070003617070000000010400066f72646572730000000100066f7264657273000576616c756501",
        0,
        AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 4,
                resource_name: "orders",
                configs: vec![AlterableConfig { name: "orders", value: Some("value") }],
            }],
            validate_only: true,
        },
    );
    assert_request(
        "0000002900210002000000070003617070000204076f726465727302076f72646572730676616c756500000100",
        2,
        AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 4,
                resource_name: "orders",
                configs: vec![AlterableConfig { name: "orders", value: Some("value") }],
            }],
            validate_only: true,
        },
    );
    assert_response(
        "00000019000000070000000500000001001bffff0400066f7264657273",
        0,
        AlterConfigsResponse {
            throttle_time_ms: 5,
            responses: vec![AlterConfigsResourceResponse {
                error_code: 27,
                error_message: None,
                resource_type: 4,
                resource_name: "orders",
            }],
        },
    );
    assert_response(
        "0000001700000007000000000502001b0004076f72646572730000",
        2,
        AlterConfigsResponse {
            throttle_time_ms: 5,
            responses: vec![AlterConfigsResourceResponse {
                error_code: 27,
                error_message: None,
                resource_type: 4,
                resource_name: "orders",
            }],
        },
    );
}

#[test]
fn incremental_alter_configs() {
    use gannet::protocol::incremental_alter_configs::*;

    assert_request(
        "0000002f002c0000000000070003617070000000010400066f72646572730000000100066f726465727304000576616c7565\
         01",
        0,
        IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 4,
                resource_name: "orders",
                configs: vec![AlterableConfig { name: "orders", config_operation: 4, value: Some("value") }],
            }],
            validate_only: true,
        },
    );
    assert_request(
        "0000002a002c0001000000070003617070000204076f726465727302076f7264657273040676616c756500000100",
        1,
        IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 4,
                resource_name: "orders",
                configs: vec![AlterableConfig { name: "orders", config_operation: 4, value: Some("value") }],
            }],
            validate_only: true,
        },
    );
    assert_response(
        "00000019000000070000000500000001001bffff0400066f7264657273",
        0,
        IncrementalAlterConfigsResponse {
            throttle_time_ms: 5,
            responses: vec![AlterConfigsResourceResponse {
                error_code: 27,
                error_message: None,
                resource_type: 4,
                resource_name: "orders",
            }],
        },
    );
    assert_response(
        "0000001700000007000000000502001b0004076f72646572730000",
        1,
        IncrementalAlterConfigsResponse {
            throttle_time_ms: 5,
            responses: vec![AlterConfigsResourceResponse {
                error_code: 27,
                error_message: None,
                resource_type: 4,
                resource_name: "orders",
            }],
        },
    );
}

#[test]
fn describe_log_dirs() {
    use gannet::protocol::describe_log_dirs::*;

    assert_request(
        "00000021002300010000000700036170700000000100066f72646572730000000100000006",
        1,
        DescribeLogDirsRequest { topics: Some(vec![DescribableLogDirTopic { topic: "orders", partitions: vec![6] }]) },
    );
    assert_request(
        "0000001d002300050000000700036170700002076f726465727302000000060000",
        5,
        DescribeLogDirsRequest { topics: Some(vec![DescribableLogDirTopic { topic: "orders", partitions: vec![6] }]) },
    );
    assert_response(
        "0000003a000000070000000500000001001b00052f646174610000000100066f726465727300000001000000010000011f71\
         fb04cb0000011f71fb04cb01",
        1,
        DescribeLogDirsResponse {
            throttle_time_ms: 5,
            results: vec![DescribeLogDirsResult {
                error_code: 27,
                log_dir: "/data",
                topics: vec![DescribeLogDirsTopic {
                    name: "orders",
                    partitions: vec![DescribeLogDirsPartition {
                        partition_index: 1,
                        partition_size: 1_234_567_890_123,
                        offset_lag: 1_234_567_890_123,
                        is_future_key: true,
                    }],
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_response(
        "00000047000000070000000005001b02001b062f6461746102076f726465727302000000010000011f71fb04cb0000011f71\
         fb04cb0100000000011f71fb04cb0000011f71fb04cb010000",
        5,
        DescribeLogDirsResponse {
            throttle_time_ms: 5,
            error_code: 27,
            results: vec![DescribeLogDirsResult {
                error_code: 27,
                log_dir: "/data",
                topics: vec![DescribeLogDirsTopic {
                    name: "orders",
                    partitions: vec![DescribeLogDirsPartition {
                        partition_index: 1,
                        partition_size: 1_234_567_890_123,
                        offset_lag: 1_234_567_890_123,
                        is_future_key: true,
                    }],
                }],
                total_bytes: 1_234_567_890_123,
                usable_bytes: 1_234_567_890_123,
                is_cordoned: true,
            }],
        },
    );
}

#[test]
fn list_config_resources() {
    use gannet::protocol::list_config_resources::*;

    assert_request("0000000f004a00000000000700036170700000", 0, ListConfigResourcesRequest { ..Default::default() });
    assert_request(
        "00000011004a000100000007000361707000020400",
        1,
        ListConfigResourcesRequest { resource_types: vec![4] },
    );
    assert_response(
        "00000015000000070000000005001b02076f72646572730000",
        0,
        ListConfigResourcesResponse {
            throttle_time_ms: 5,
            error_code: 27,
            config_resources: vec![ConfigResource { resource_name: "orders", ..Default::default() }],
        },
    );
    assert_response(
        "00000016000000070000000005001b02076f7264657273040000",
        1,
        ListConfigResourcesResponse {
            throttle_time_ms: 5,
            error_code: 27,
            config_resources: vec![ConfigResource { resource_name: "orders", resource_type: 4 }],
        },
    );
}

#[test]
fn update_features() {
    use gannet::protocol::update_features::*;

    assert_request(
        "00000026003900000000000700036170700000007530020e67726f75702e76657273696f6e0003010000",
        0,
        UpdateFeaturesRequest {
            timeout_ms: 30_000,
            feature_updates: vec![FeatureUpdateKey {
                feature: "group.version",
                max_version_level: 3,
                allow_downgrade: true,
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_request(
        "00000027003900020000000700036170700000007530020e67726f75702e76657273696f6e000304000100",
        2,
        UpdateFeaturesRequest {
            timeout_ms: 30_000,
            feature_updates: vec![FeatureUpdateKey {
                feature: "group.version",
                max_version_level: 3,
                upgrade_type: 4,
                ..Default::default()
            }],
            validate_only: true,
        },
    );
    assert_response(
        "00000020000000070000000005001b00020e67726f75702e76657273696f6e001b000000",
        0,
        UpdateFeaturesResponse {
            throttle_time_ms: 5,
            error_code: 27,
            error_message: None,
            results: vec![UpdatableFeatureResult { feature: "group.version", error_code: 27, error_message: None }],
        },
    );
    assert_response(
        "0000000d000000070000000005001b0000",
        2,
        UpdateFeaturesResponse { throttle_time_ms: 5, error_code: 27, error_message: None, ..Default::default() },
    );
}

#[test]
fn describe_producers() {
    use gannet::protocol::describe_producers::*;

    assert_request(
        "0000001d003d00000000000700036170700002076f726465727302000000060000",
        0,
        DescribeProducersRequest { topics: vec![TopicRequest { name: "orders", partition_indexes: vec![6] }] },
    );
    assert_response(
        "0000004200000007000000000502076f72646572730200000001001b00020000011f71fb04cb00000006000000060000011f\
         71fb04cb000000060000011f71fb04cb00000000",
        0,
        DescribeProducersResponse {
            throttle_time_ms: 5,
            topics: vec![TopicResponse {
                name: "orders",
                partitions: vec![PartitionResponse {
                    partition_index: 1,
                    error_code: 27,
                    error_message: None,
                    active_producers: vec![ProducerState {
                        producer_id: 1_234_567_890_123,
                        producer_epoch: 6,
                        last_sequence: 6,
                        last_timestamp: 1_234_567_890_123,
                        coordinator_epoch: 6,
                        current_txn_start_offset: 1_234_567_890_123,
                    }],
                }],
            }],
        },
    );
}

#[test]
fn describe_client_quotas() {
    use gannet::protocol::describe_client_quotas::*;

    assert_request(
        "0000002500300000000000070003617070000000010009636c69656e742d69640400056d6174636801",
        0,
        DescribeClientQuotasRequest {
            components: vec![ComponentData { entity_type: "client-id", match_type: 4, r#match: Some("match") }],
            strict: true,
        },
    );
    assert_request(
        "000000230030000100000007000361707000020a636c69656e742d696404066d61746368000100",
        1,
        DescribeClientQuotasRequest {
            components: vec![ComponentData { entity_type: "client-id", match_type: 4, r#match: Some("match") }],
            strict: true,
        },
    );
    assert_response(
        "000000350000000700000005001bffff00000001000000010009636c69656e742d696400036170700000000100036b657941\
         30000080000000",
        0,
        DescribeClientQuotasResponse {
            throttle_time_ms: 5,
            error_code: 27,
            error_message: None,
            entries: Some(vec![EntryData {
                entity: vec![EntityData { entity_type: "client-id", entity_name: Some("app") }],
                values: vec![ValueData { key: "key", value: 1048576.5 }],
            }]),
        },
    );
    assert_response(
        "0000002d000000070000000005001b0002020a636c69656e742d6964046170700002046b65794130000080000000000000",
        1,
        DescribeClientQuotasResponse {
            throttle_time_ms: 5,
            error_code: 27,
            error_message: None,
            entries: Some(vec![EntryData {
                entity: vec![EntityData { entity_type: "client-id", entity_name: Some("app") }],
                values: vec![ValueData { key: "key", value: 1048576.5 }],
            }]),
        },
    );
}

#[test]
fn alter_client_quotas() {
    use gannet::protocol::alter_client_quotas::*;

    assert_request(
        "000000380031000000000007000361707000000001000000010009636c69656e742d696400036170700000000100036b6579\
         41300000800000000101",
        0,
        AlterClientQuotasRequest {
            entries: vec![AlterEntryData {
                entity: vec![EntityData { entity_type: "client-id", entity_name: Some("app") }],
                ops: vec![OpData { key: "key", value: 1048576.5, remove: true }],
            }],
            validate_only: true,
        },
    );
    assert_request(
        "00000031003100010000000700036170700002020a636c69656e742d6964046170700002046b657941300000800000000100\
         000100",
        1,
        AlterClientQuotasRequest {
            entries: vec![AlterEntryData {
                entity: vec![EntityData { entity_type: "client-id", entity_name: Some("app") }],
                ops: vec![OpData { key: "key", value: 1048576.5, remove: true }],
            }],
            validate_only: true,
        },
    );
    assert_response(
        "00000024000000070000000500000001001bffff000000010009636c69656e742d69640003617070",
        0,
        AlterClientQuotasResponse {
            throttle_time_ms: 5,
            entries: vec![EntryData {
                error_code: 27,
                error_message: None,
                entity: vec![EntityData { entity_type: "client-id", entity_name: Some("app") }],
            }],
        },
    );
    assert_response(
        "0000001f00000007000000000502001b00020a636c69656e742d696404617070000000",
        1,
        AlterClientQuotasResponse {
            throttle_time_ms: 5,
            entries: vec![EntryData {
                error_code: 27,
                error_message: None,
                entity: vec![EntityData { entity_type: "client-id", entity_name: Some("app") }],
            }],
        },
    );
}

#[test]
fn describe_user_scram_credentials() {
    use gannet::protocol::describe_user_scram_credentials::*;

    assert_request(
        "0000001700320000000000070003617070000206616c6963650000",
        0,
        DescribeUserScramCredentialsRequest { users: Some(vec![UserName { name: "alice" }]) },
    );
    assert_response(
        "000000210000000700000000050000000206616c696365005b036e6f020100001000000000",
        0,
        DescribeUserScramCredentialsResponse {
            throttle_time_ms: 5,
            error_code: 0,
            error_message: None,
            results: vec![DescribeUserScramCredentialsResult {
                user: "alice",
                error_code: 91,
                error_message: Some("no"),
                credential_infos: vec![CredentialInfo { mechanism: 1, iterations: 4096 }],
            }],
        },
    );
}
