//! Every declared message as data and as functions over bytes. Shared by the wire tests and the fuzz targets, neither of
//! which uses all of it.
#![allow(dead_code)]

use std::fmt::Debug;
use std::ops::RangeInclusive;

use gannet::protocol::metadata_record::*;
use gannet::protocol::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Request,
    Response,
    Record,
}

/// A body read by us.
pub struct Recoded {
    /// What our encoder makes of it.
    pub bytes: Vec<u8>,
    pub debug: String,
    /// Bytes behind the body.
    pub rest: usize,
}

#[derive(Clone)]
pub struct Declared {
    pub name: &'static str,
    pub kind: Kind,
    pub key: i16,
    pub versions: RangeInclusive<i16>,
    pub first_flexible: i16,
    pub fields: &'static [Field],
    /// Reads a body, and checks that what we write of it reads as the same.
    pub recode: fn(&[u8], i16) -> Result<Recoded, DecodeError>,
    /// Reads a body and drops it.
    pub decode: fn(&[u8], i16) -> Result<(), DecodeError>,
}

fn recoded<'a, M: Message<'a> + PartialEq + Debug>(bytes: &'a [u8], version: i16) -> Result<(M, Recoded), DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = M::decode_message(&mut reader, version)?;
    let mut writer = Writer::new();
    message.encode_message(&mut writer, version);
    let debug = format!("{message:?}");
    Ok((message, Recoded { bytes: writer.into_bytes().to_vec(), debug, rest: reader.remaining().len() }))
}

macro_rules! declared {
    ($($kind:ident: $($message:ident)*;)*) => {
        pub fn all() -> Vec<Declared> {
            vec![$($(Declared {
                name: stringify!($message),
                kind: Kind::$kind,
                key: <$message as Message>::KEY,
                versions: <$message as Message>::VERSIONS,
                first_flexible: <$message as Message>::FIRST_FLEXIBLE,
                fields: <$message as Structure>::FIELDS,
                recode: |bytes, version| {
                    let (message, recoded) = recoded::<$message>(bytes, version)?;
                    let again = $message::decode(&mut Reader::new(&recoded.bytes), version);
                    // By words where not by value: what is not a number equals nothing.
                    let is_same = again.as_ref() == Ok(&message) || format!("{again:?}") == format!("Ok({message:?})");
                    assert!(is_same, "what we write must read as what we wrote: {message:?}, {again:?}");
                    Ok(recoded)
                },
                decode: |bytes, version| $message::decode(&mut Reader::new(bytes), version).map(drop),
            },)*)*]
        }
    };
}

declared! {
    Request: ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest FindCoordinatorRequest ApiVersionsRequest
        CreateTopicsRequest DeleteTopicsRequest InitProducerIdRequest OffsetForLeaderEpochRequest DescribeConfigsRequest
        CreatePartitionsRequest DescribeClusterRequest DescribeTopicPartitionsRequest JoinGroupRequest SyncGroupRequest HeartbeatRequest LeaveGroupRequest OffsetCommitRequest OffsetFetchRequest OffsetDeleteRequest ListGroupsRequest DescribeGroupsRequest DeleteGroupsRequest ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest DeleteRecordsRequest AlterConfigsRequest IncrementalAlterConfigsRequest DescribeLogDirsRequest ListConfigResourcesRequest UpdateFeaturesRequest DescribeProducersRequest DescribeClientQuotasRequest AlterClientQuotasRequest
        DescribeAclsRequest CreateAclsRequest DeleteAclsRequest DescribeUserScramCredentialsRequest
        ElectLeadersRequest AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest DescribeQuorumRequest ListTransactionsRequest;
    Response: ProduceResponse FetchResponse ListOffsetsResponse MetadataResponse FindCoordinatorResponse
        ApiVersionsResponse CreateTopicsResponse DeleteTopicsResponse InitProducerIdResponse
        OffsetForLeaderEpochResponse DescribeConfigsResponse CreatePartitionsResponse DescribeClusterResponse
        DescribeTopicPartitionsResponse JoinGroupResponse SyncGroupResponse HeartbeatResponse LeaveGroupResponse OffsetCommitResponse OffsetFetchResponse OffsetDeleteResponse ListGroupsResponse DescribeGroupsResponse DeleteGroupsResponse ConsumerGroupHeartbeatResponse ConsumerGroupDescribeResponse DeleteRecordsResponse AlterConfigsResponse IncrementalAlterConfigsResponse DescribeLogDirsResponse ListConfigResourcesResponse UpdateFeaturesResponse DescribeProducersResponse DescribeClientQuotasResponse AlterClientQuotasResponse
        DescribeAclsResponse CreateAclsResponse DeleteAclsResponse DescribeUserScramCredentialsResponse
        ElectLeadersResponse AlterPartitionReassignmentsResponse ListPartitionReassignmentsResponse DescribeQuorumResponse ListTransactionsResponse;
    Record: RegisterBrokerRecord TopicRecord PartitionRecord ConfigRecord RemoveTopicRecord FeatureLevelRecord
        ClientQuotaRecord ProducerIdsRecord NoOpRecord;
}
