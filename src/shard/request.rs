//! Requests as they arrive: header, version, and the verb that answers. A frame that does not read ends its connection, as
//! in Kafka; an API that is not offered too, except ApiVersions, which always gets an answer that says what is (KIP-511).

use bytes::BytesMut;

use super::connection::Caller;
use super::features::offered;
use super::{ConnectionId, Effect, Shard};
use crate::error_code::ErrorCode;
use crate::protocol::api_versions::ApiVersionsResponse;
use crate::protocol::{self, ApiKey, DecodeError};
use crate::types::Time;

impl Shard {
    pub(super) fn on_request(
        &mut self,
        now: Time,
        connection: ConnectionId,
        frame: BytesMut,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_registered() {
            self.early.push((connection, frame));
            return;
        }
        let Some(open) = self.connections.get_mut(&connection) else { return };
        let sequence = open.on_request();
        self.metrics
            .requests
            .count(i16::from_be_bytes([frame.first().copied().unwrap_or(0), frame.get(1).copied().unwrap_or(0)]));
        if let Err(error) = self.dispatch(now, connection, sequence, frame, effects) {
            self.metrics.hostile_frames += 1;
            tracing::debug!(?connection, %error, "a request that does not read: the connection is closed");
            self.close(connection, effects);
        }
    }

    fn dispatch(
        &mut self,
        now: Time,
        connection: ConnectionId,
        sequence: u64,
        frame: BytesMut,
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let (header, body) = protocol::decode_header(&frame)?;
        let mut caller = Caller {
            connection,
            sequence,
            api_key: header.api_key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            throttle_time_ms: 0,
        };
        let body_at = frame.len() - body.remaining().len();
        let api = protocol::api(header.api_key).filter(|api| api.has(header.api_version));
        let Some(api) = api else {
            return self.on_unsupported(caller, effects);
        };
        let client_id = header.client_id.unwrap_or_default();
        if self.quotas.sees_requests() {
            caller.throttle_time_ms = self.meter(now, caller, client_id, effects);
        }
        let body = &frame[body_at..];
        match api.key {
            ApiKey::Produce => self.on_produce(now, caller, frame, body_at, effects),
            ApiKey::Fetch => self.on_fetch_request(now, caller, body, effects),
            ApiKey::ListOffsets => self.on_list_offsets(now, caller, body, effects),
            ApiKey::OffsetForLeaderEpoch => self.on_offset_for_leader_epoch(now, caller, body, effects),
            ApiKey::Metadata => self.on_metadata(now, caller, body, effects),
            ApiKey::DescribeCluster => self.on_describe_cluster(caller, body, effects),
            ApiKey::DescribeTopicPartitions => self.on_describe_topic_partitions(caller, body, effects),
            ApiKey::DescribeAcls => self.on_describe_acls(caller, body, effects),
            ApiKey::CreateAcls => self.on_create_acls(caller, body, effects),
            ApiKey::DeleteAcls => self.on_delete_acls(caller, body, effects),
            ApiKey::DescribeConfigs => self.on_describe_configs(caller, body, effects),
            ApiKey::ListConfigResources => self.on_list_config_resources(caller, body, effects),
            ApiKey::AlterConfigs => self.on_alter_configs(now, caller, body, effects),
            ApiKey::IncrementalAlterConfigs => self.on_incremental_alter_configs(now, caller, body, effects),
            ApiKey::DescribeClientQuotas => self.on_describe_client_quotas(caller, body, effects),
            ApiKey::AlterClientQuotas => self.on_alter_client_quotas(now, caller, body, effects),
            ApiKey::DescribeUserScramCredentials => self.on_describe_user_scram_credentials(caller, body, effects),
            ApiKey::DescribeQuorum => self.on_describe_quorum(now, caller, body, effects),
            ApiKey::ElectLeaders => self.on_elect_leaders(caller, body, effects),
            ApiKey::AlterPartitionReassignments => self.on_alter_partition_reassignments(caller, body, effects),
            ApiKey::ListPartitionReassignments => self.on_list_partition_reassignments(caller, body, effects),
            ApiKey::ListTransactions => self.on_list_transactions(caller, body, effects),
            ApiKey::UpdateFeatures => self.on_update_features(now, caller, body, effects),
            ApiKey::DeleteRecords => self.on_delete_records(now, caller, body, effects),
            ApiKey::DescribeProducers => self.on_describe_producers(now, caller, body, effects),
            ApiKey::DescribeLogDirs => self.on_describe_log_dirs(now, caller, body, effects),
            ApiKey::CreateTopics => self.on_create_topics(now, caller, body, effects),
            ApiKey::DeleteTopics => self.on_delete_topics(now, caller, body, effects),
            ApiKey::CreatePartitions => self.on_create_partitions(now, caller, body, effects),
            ApiKey::InitProducerId => self.on_init_producer_id(now, caller, body, effects),
            ApiKey::FindCoordinator => self.on_find_coordinator(now, caller, body, effects),
            ApiKey::JoinGroup => self.on_join_group(now, caller, client_id, body, effects),
            ApiKey::SyncGroup => self.on_sync_group(now, caller, body, effects),
            ApiKey::Heartbeat => self.on_heartbeat(now, caller, body, effects),
            ApiKey::LeaveGroup => self.on_leave_group(now, caller, body, effects),
            ApiKey::OffsetCommit => self.on_offset_commit(now, caller, body, effects),
            ApiKey::OffsetFetch => self.on_offset_fetch(now, caller, body, effects),
            ApiKey::OffsetDelete => self.on_offset_delete(now, caller, body, effects),
            ApiKey::ListGroups => self.on_list_groups(now, caller, body, effects),
            ApiKey::DescribeGroups => self.on_describe_groups(now, caller, body, effects),
            ApiKey::ConsumerGroupHeartbeat => self.on_consumer_group_heartbeat(now, caller, client_id, body, effects),
            ApiKey::ConsumerGroupDescribe => self.on_consumer_group_describe(now, caller, body, effects),
            ApiKey::DeleteGroups => self.on_delete_groups(now, caller, body, effects),
            ApiKey::ApiVersions => self.on_api_versions(caller, body, effects),
        }
    }

    /// ApiVersions of an unknown version is answered in version 0, with the versions of ApiVersions itself.
    fn on_unsupported(&mut self, caller: Caller, effects: &mut Vec<Effect>) -> Result<(), DecodeError> {
        if caller.api_key != ApiKey::ApiVersions.code() {
            return Err(DecodeError::Version { version: caller.api_version, min: 0, max: 0 });
        }
        let api_keys = offered().into_iter().filter(|api| api.api_key == caller.api_key).collect();
        let error_code = ErrorCode::UnsupportedVersion.code();
        let response = ApiVersionsResponse { error_code, api_keys, ..Default::default() };
        self.respond(Caller { api_version: 0, ..caller }, effects, |writer| response.encode(writer, 0));
        Ok(())
    }
}
