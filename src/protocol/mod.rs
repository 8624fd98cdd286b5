//! Kafka's wire: frames, the bounded codec, one file per API. Messages borrow from the frame they are read from; nothing here
//! knows what a request means, and no bytes from outside can make it panic or allocate more than they pay for.

pub mod codec;
mod message;
mod wire;

pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_topic_partitions;
pub mod fetch;
pub mod find_coordinator;
pub mod init_producer_id;
pub mod leader;
pub mod list_offsets;
pub mod metadata;
pub mod metadata_record;
pub mod offset_for_leader_epoch;
pub mod produce;

mod frame;

pub use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub use codec::{DecodeError, REQUEST_ELEMENTS_MAX, Reader, STRING_BYTES_MAX, Writer};
pub use create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
pub use create_topics::{CreateTopicsRequest, CreateTopicsResponse};
pub use delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
pub use describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
pub use describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse};
pub use describe_topic_partitions::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
pub use fetch::{FetchRequest, FetchResponse};
pub use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub use frame::{
    APIS, ApiKey, ApiRange, RequestHeader, api, decode_header, decode_response, encode_request, response_writer,
};
pub use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub use leader::{LeaderIdAndEpoch, NodeEndpoint};
pub use list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
pub use message::Message;
pub use metadata::{MetadataRequest, MetadataResponse};
pub use metadata_record::MetadataRecord;
pub use offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
pub use produce::{ProduceRequest, ProduceResponse};
pub use wire::{Field, Records, Structure, Type, Wire};
