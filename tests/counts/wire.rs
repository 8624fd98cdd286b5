//! Requests as current clients send them, without their length.

use bytes::{Bytes, BytesMut};
use gannet::protocol::create_topics::CreatableTopic;
use gannet::protocol::fetch::{FetchPartition, FetchTopic};
use gannet::protocol::metadata::MetadataRequestTopic;
use gannet::protocol::produce::{PartitionProduceData, TopicProduceData};
use gannet::protocol::{CreateTopicsRequest, FetchRequest, Message, MetadataRequest, ProduceRequest, encode_request};
use gannet::record::BatchBuilder;
use gannet::types::{Few, Uuid};

const TOPIC: &str = "orders";
pub const CREATE_TOPICS_VERSION: i16 = 7;
pub const PRODUCE_VERSION: i16 = 13;
pub const FETCH_VERSION: i16 = 17;

fn frame<'a, M: Message<'a>>(request: &M, version: i16) -> BytesMut {
    BytesMut::from(&encode_request(request, version, 7, Some("counts")).concat()[4..])
}

pub fn create_topic(partitions: i32) -> BytesMut {
    let topic =
        CreatableTopic { name: TOPIC, num_partitions: partitions, replication_factor: 1, ..CreatableTopic::default() };
    frame(&CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }, CREATE_TOPICS_VERSION)
}

/// One record whose value has this many bytes.
pub fn batch(value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(1_700_000_000_000, None, Some(&vec![b'x'; value_bytes]));
    builder.build()
}

/// The batch to each of the topic's first partitions.
pub fn produce(topic_id: Uuid, partitions: i32, batch: &[u8]) -> BytesMut {
    let data = |index| PartitionProduceData { index, records: Some(batch) };
    let topic = TopicProduceData { name: "", topic_id, partition_data: (0..partitions).map(data).collect() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: [topic].into(), ..ProduceRequest::default() };
    frame(&request, PRODUCE_VERSION)
}

/// A fetch by session; epoch -1 with id 0 is one without, epoch 0 begins one.
pub fn fetch(topic_id: Uuid, offsets: impl IntoIterator<Item = (i32, i64)>, session: (i32, i32)) -> BytesMut {
    let partition = |(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let partitions: Few<_> = offsets.into_iter().map(partition).collect();
    let topic = FetchTopic { topic: "", topic_id, partitions };
    let topics = if topic.partitions.is_empty() { Few::new() } else { [topic].into() };
    let (session_id, session_epoch) = session;
    let request =
        FetchRequest { max_wait_ms: 500, min_bytes: 1, session_id, session_epoch, topics, ..FetchRequest::default() };
    frame(&request, FETCH_VERSION)
}

pub fn metadata() -> BytesMut {
    let topic = MetadataRequestTopic { name: Some(TOPIC), ..MetadataRequestTopic::default() };
    frame(&MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() }, 12)
}
