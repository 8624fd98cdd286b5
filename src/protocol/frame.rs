//! Frames: the table of APIs this broker offers, request and response headers, and the client's half of both.
//! A frame here is without its 4-byte length prefix; what is written carries it.

use bytes::{Bytes, BytesMut};

use super::codec::{DecodeError, Reader, Writer};
use super::message::Message;
use super::wire::Wire;
use super::*;

/// The APIs of this broker, under Kafka's names and numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(i16)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    DescribeLogDirs = 35,
    CreatePartitions = 37,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeUserScramCredentials = 50,
    DescribeQuorum = 55,
    UpdateFeatures = 57,
    DescribeCluster = 60,
    DescribeProducers = 61,
    ListTransactions = 66,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
}

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

/// One API and the versions of it that this broker reads, both ends included.
#[derive(Clone, Copy, Debug)]
pub struct ApiRange {
    pub key: ApiKey,
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
    /// What ApiVersions says instead of `min`.
    pub advertised_min: i16,
    first_flexible: i16,
}

impl ApiRange {
    const fn of<'a, M: Message<'a>>(key: ApiKey, name: &'static str) -> ApiRange {
        assert!(M::KEY == key as i16);
        let (min, max) = (*M::VERSIONS.start(), *M::VERSIONS.end());
        ApiRange { key, name, min, max, advertised_min: min, first_flexible: M::FIRST_FLEXIBLE }
    }

    pub fn has(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// Everything this broker offers, by ascending key.
pub const APIS: &[ApiRange] = &[
    // Clients built on librdkafka switch compression off unless version 0 is listed, though nobody sends it (KAFKA-18659).
    ApiRange { advertised_min: 0, ..ApiRange::of::<ProduceRequest>(ApiKey::Produce, "Produce") },
    ApiRange::of::<FetchRequest>(ApiKey::Fetch, "Fetch"),
    ApiRange::of::<ListOffsetsRequest>(ApiKey::ListOffsets, "ListOffsets"),
    ApiRange::of::<MetadataRequest>(ApiKey::Metadata, "Metadata"),
    ApiRange::of::<OffsetCommitRequest>(ApiKey::OffsetCommit, "OffsetCommit"),
    ApiRange::of::<OffsetFetchRequest>(ApiKey::OffsetFetch, "OffsetFetch"),
    // Clients built on librdkafka compress with lz4 only if this is listed.
    ApiRange::of::<FindCoordinatorRequest>(ApiKey::FindCoordinator, "FindCoordinator"),
    ApiRange::of::<JoinGroupRequest>(ApiKey::JoinGroup, "JoinGroup"),
    ApiRange::of::<HeartbeatRequest>(ApiKey::Heartbeat, "Heartbeat"),
    ApiRange::of::<LeaveGroupRequest>(ApiKey::LeaveGroup, "LeaveGroup"),
    ApiRange::of::<SyncGroupRequest>(ApiKey::SyncGroup, "SyncGroup"),
    ApiRange::of::<DescribeGroupsRequest>(ApiKey::DescribeGroups, "DescribeGroups"),
    ApiRange::of::<ListGroupsRequest>(ApiKey::ListGroups, "ListGroups"),
    ApiRange::of::<ApiVersionsRequest>(ApiKey::ApiVersions, "ApiVersions"),
    ApiRange::of::<CreateTopicsRequest>(ApiKey::CreateTopics, "CreateTopics"),
    ApiRange::of::<DeleteTopicsRequest>(ApiKey::DeleteTopics, "DeleteTopics"),
    ApiRange::of::<DeleteRecordsRequest>(ApiKey::DeleteRecords, "DeleteRecords"),
    ApiRange::of::<InitProducerIdRequest>(ApiKey::InitProducerId, "InitProducerId"),
    ApiRange::of::<OffsetForLeaderEpochRequest>(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch"),
    ApiRange::of::<DescribeAclsRequest>(ApiKey::DescribeAcls, "DescribeAcls"),
    ApiRange::of::<CreateAclsRequest>(ApiKey::CreateAcls, "CreateAcls"),
    ApiRange::of::<DeleteAclsRequest>(ApiKey::DeleteAcls, "DeleteAcls"),
    ApiRange::of::<DescribeConfigsRequest>(ApiKey::DescribeConfigs, "DescribeConfigs"),
    ApiRange::of::<AlterConfigsRequest>(ApiKey::AlterConfigs, "AlterConfigs"),
    ApiRange::of::<DescribeLogDirsRequest>(ApiKey::DescribeLogDirs, "DescribeLogDirs"),
    ApiRange::of::<CreatePartitionsRequest>(ApiKey::CreatePartitions, "CreatePartitions"),
    ApiRange::of::<DeleteGroupsRequest>(ApiKey::DeleteGroups, "DeleteGroups"),
    ApiRange::of::<ElectLeadersRequest>(ApiKey::ElectLeaders, "ElectLeaders"),
    ApiRange::of::<IncrementalAlterConfigsRequest>(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs"),
    ApiRange::of::<AlterPartitionReassignmentsRequest>(
        ApiKey::AlterPartitionReassignments,
        "AlterPartitionReassignments",
    ),
    ApiRange::of::<ListPartitionReassignmentsRequest>(ApiKey::ListPartitionReassignments, "ListPartitionReassignments"),
    ApiRange::of::<OffsetDeleteRequest>(ApiKey::OffsetDelete, "OffsetDelete"),
    ApiRange::of::<DescribeClientQuotasRequest>(ApiKey::DescribeClientQuotas, "DescribeClientQuotas"),
    ApiRange::of::<AlterClientQuotasRequest>(ApiKey::AlterClientQuotas, "AlterClientQuotas"),
    ApiRange::of::<DescribeUserScramCredentialsRequest>(
        ApiKey::DescribeUserScramCredentials,
        "DescribeUserScramCredentials",
    ),
    ApiRange::of::<DescribeQuorumRequest>(ApiKey::DescribeQuorum, "DescribeQuorum"),
    ApiRange::of::<UpdateFeaturesRequest>(ApiKey::UpdateFeatures, "UpdateFeatures"),
    ApiRange::of::<DescribeClusterRequest>(ApiKey::DescribeCluster, "DescribeCluster"),
    ApiRange::of::<DescribeProducersRequest>(ApiKey::DescribeProducers, "DescribeProducers"),
    ApiRange::of::<ListTransactionsRequest>(ApiKey::ListTransactions, "ListTransactions"),
    ApiRange::of::<ConsumerGroupHeartbeatRequest>(ApiKey::ConsumerGroupHeartbeat, "ConsumerGroupHeartbeat"),
    ApiRange::of::<ConsumerGroupDescribeRequest>(ApiKey::ConsumerGroupDescribe, "ConsumerGroupDescribe"),
    ApiRange::of::<ListConfigResourcesRequest>(ApiKey::ListConfigResources, "ListConfigResources"),
    ApiRange::of::<DescribeTopicPartitionsRequest>(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions"),
];

/// The row of this key; `None` for an API that this broker does not offer.
pub fn api(key: i16) -> Option<&'static ApiRange> {
    APIS.iter().find(|api| api.key.code() == key)
}

/// What every request begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader<'a> {
    pub api_key: i16,
    pub api_version: i16,
    /// Chosen by the client, returned with the response.
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

/// Reads the header and leaves the reader at the body. Whether key and version are offered is the caller's question; where
/// they are not, there is no body to be read, for nobody knows where it begins.
pub fn decode_header<'a>(frame: &'a [u8]) -> Result<(RequestHeader<'a>, Reader<'a>), DecodeError> {
    let mut reader = Reader::new(frame);
    let api_key = i16::read(&mut reader, 0)?;
    let api_version = i16::read(&mut reader, 0)?;
    let correlation_id = i32::read(&mut reader, 0)?;
    // The client id keeps its 2-byte length in flexible headers too, so that it can always be read.
    let client_id = reader.nullable_string()?;
    if api(api_key).is_some_and(|api| api.has(api_version) && api_version >= api.first_flexible) {
        reader.set_flexible(true);
        reader.tagged_fields(|_, _| Ok(false))?;
        reader.set_flexible(false);
    }
    Ok((RequestHeader { api_key, api_version, correlation_id, client_id }, reader))
}

/// A frame that begins with the response's header; the body is encoded behind it, `finish` fills the length prefix in.
pub fn response_writer(api_key: i16, api_version: i16, correlation_id: i32) -> Writer {
    response_writer_in(BytesMut::with_capacity(256), api_key, api_version, correlation_id)
}

/// The same, written into `room` as far as that goes.
pub fn response_writer_in(room: BytesMut, api_key: i16, api_version: i16, correlation_id: i32) -> Writer {
    let mut writer = Writer::frame_in(room);
    correlation_id.write(&mut writer, 0);
    if api_key != ApiKey::ApiVersions.code() && api(api_key).is_some_and(|api| api_version >= api.first_flexible) {
        writer.uvarint(0);
    }
    writer
}

/// The client's half: one whole request.
pub fn encode_request<'a, M: Message<'a>>(
    request: &M,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Vec<Bytes> {
    let mut writer = Writer::frame();
    M::KEY.write(&mut writer, 0);
    api_version.write(&mut writer, 0);
    correlation_id.write(&mut writer, 0);
    writer.nullable_string(client_id);
    if M::is_flexible(api_version) {
        writer.uvarint(0);
    }
    request.encode_message(&mut writer, api_version);
    writer.finish()
}

/// The client's half: correlation id and body of one response.
pub fn decode_response<'a, M: Message<'a>>(frame: &'a [u8], api_version: i16) -> Result<(i32, M), DecodeError> {
    read_response(Reader::of_response(frame), api_version)
}

/// The same from a counted buffer: records that it holds are slices of it.
pub fn decode_shared_response<'a, M: Message<'a>>(frame: &'a Bytes, api_version: i16) -> Result<(i32, M), DecodeError> {
    read_response(Reader::of_shared_response(frame), api_version)
}

fn read_response<'a, M: Message<'a>>(mut reader: Reader<'a>, api_version: i16) -> Result<(i32, M), DecodeError> {
    let correlation_id = i32::read(&mut reader, 0)?;
    if M::KEY != ApiKey::ApiVersions.code() && M::is_flexible(api_version) {
        reader.set_flexible(true);
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    Ok((correlation_id, M::decode_message(&mut reader, api_version)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_from_its_frame() {
        let request = InitProducerIdRequest { transaction_timeout_ms: 7, ..Default::default() };
        for version in 0..=5 {
            let frame = encode_request(&request, version, 42, Some("rdkafka")).concat();
            assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
            let (header, mut body) = decode_header(&frame[4..]).unwrap();
            let expected =
                RequestHeader { api_key: 22, api_version: version, correlation_id: 42, client_id: Some("rdkafka") };
            assert_eq!(header, expected);
            assert_eq!(InitProducerIdRequest::decode(&mut body, version), Ok(request.clone()));
            assert!(body.remaining().is_empty());
        }
    }

    #[test]
    fn a_response_reads_back_from_its_frame() {
        let response = MetadataResponse { cluster_id: Some("c"), ..Default::default() };
        for version in 2..=13 {
            let mut writer = response_writer(3, version, 42);
            response.encode(&mut writer, version);
            let frame = writer.into_bytes();
            assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
            assert_eq!(decode_response::<MetadataResponse>(&frame[4..], version), Ok((42, response.clone())));
        }
    }

    #[test]
    fn the_response_header_of_api_versions_has_no_tagged_fields() {
        assert_eq!(response_writer(18, 4, 1).written_bytes(), 8);
        assert_eq!(response_writer(3, 13, 1).written_bytes(), 9);
        assert_eq!(response_writer(3, 8, 1).written_bytes(), 8);
    }

    #[test]
    fn the_header_of_an_unknown_version_or_api_is_still_read() {
        for (api_key, api_version) in [(18, 99), (18, -1), (0, 99), (999, 0), (-1, i16::MIN)] {
            let mut frame = Vec::new();
            frame.extend(i16::to_be_bytes(api_key));
            frame.extend(i16::to_be_bytes(api_version));
            frame.extend([0, 0, 0, 5, 0xff, 0xff]);
            let expected = RequestHeader { api_key, api_version, correlation_id: 5, client_id: None };
            assert_eq!(decode_header(&frame).map(|(header, _)| header), Ok(expected));
        }
        assert!(decode_header(&[0, 18, 0]).is_err());
    }

    #[test]
    fn produce_is_advertised_from_version_0_and_read_from_3() {
        let produce = api(0).unwrap();
        assert_eq!((produce.advertised_min, produce.min, produce.max), (0, 3, 13));
        assert!(!produce.has(2) && produce.has(3) && !produce.has(14));
        assert!(APIS.is_sorted_by_key(|api| api.key));
        assert!(api(4).is_none());
    }
}
