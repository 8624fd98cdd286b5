//! What it costs to read a request and to write a response, at several sizes.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gannet::protocol::fetch::{FetchPartition, FetchTopic, FetchableTopicResponse, PartitionData};
use gannet::protocol::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use gannet::protocol::produce::{PartitionProduceData, PartitionProduceResponse};
use gannet::protocol::produce::{TopicProduceData, TopicProduceResponse};
use gannet::protocol::{
    FetchRequest, FetchResponse, Message, MetadataResponse, ProduceRequest, ProduceResponse, Records, decode_header,
    decode_response, encode_request, response_writer,
};
use gannet::types::Uuid;

/// The newest version of each that clients of Kafka 4 speak.
const PRODUCE_VERSION: i16 = 13;
const FETCH_VERSION: i16 = 17;
const METADATA_VERSION: i16 = 13;

fn topic_id() -> Uuid {
    Uuid::from_random(0x6f72_6465_7273)
}

fn frame<'a, M: Message<'a>>(request: &M, version: i16) -> Bytes {
    Bytes::from(encode_request(request, version, 7, Some("bench")).concat()).slice(4..)
}

fn response<'a, M: Message<'a>>(message: &M, version: i16) -> Vec<Bytes> {
    let mut writer = response_writer(M::KEY, version, 7);
    message.encode_message(&mut writer, version);
    writer.finish()
}

fn produce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/produce");
    for (partitions, batch_bytes) in [(1, 100), (1, 65_536), (100, 1024), (1000, 200)] {
        let batch = vec![7; batch_bytes];
        let data = |index| PartitionProduceData { index, records: Some(&batch) };
        let topic =
            TopicProduceData { topic_id: topic_id(), partition_data: (0..partitions).map(data).collect(), name: "" };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: [topic].into(), ..ProduceRequest::default() };
        let frame = frame(&request, PRODUCE_VERSION);
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("decode", format!("{partitions}x{batch_bytes}B")), |bencher| {
            bencher.iter(|| {
                let (header, mut body) = decode_header(black_box(&frame)).expect("a header");
                ProduceRequest::decode(&mut body, header.api_version).expect("a request")
            });
        });
    }
    for partitions in [1, 100, 1000] {
        let part = |index| PartitionProduceResponse { index, base_offset: 42, ..PartitionProduceResponse::default() };
        let partition_responses = (0..partitions).map(part).collect();
        let answer = ProduceResponse {
            responses: [TopicProduceResponse { name: "", topic_id: topic_id(), partition_responses }].into(),
            ..ProduceResponse::default()
        };
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("encode", partitions), |bencher| {
            bencher.iter(|| response(black_box(&answer), PRODUCE_VERSION));
        });
    }
}

fn fetch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/fetch");
    for partitions in [1, 100, 1000] {
        let part = |partition| FetchPartition {
            partition,
            fetch_offset: 5,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: "", topic_id: topic_id(), partitions: (0..partitions).map(part).collect() };
        let request =
            FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: [topic].into(), ..FetchRequest::default() };
        let frame = frame(&request, FETCH_VERSION);
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("decode", partitions), |bencher| {
            bencher.iter(|| {
                let (header, mut body) = decode_header(black_box(&frame)).expect("a header");
                FetchRequest::decode(&mut body, header.api_version).expect("a request")
            });
        });
    }
    for (partitions, batch_bytes) in [(1, 200), (1, 1 << 20), (100, 1 << 14)] {
        let records = Records([Bytes::from(vec![7; batch_bytes])].into());
        let part =
            |index| PartitionData { partition_index: index, records: records.clone(), ..PartitionData::default() };
        let topic =
            FetchableTopicResponse { topic: "", topic_id: topic_id(), partitions: (0..partitions).map(part).collect() };
        let answer = FetchResponse { responses: [topic].into(), ..FetchResponse::default() };
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("encode", format!("{partitions}x{batch_bytes}B")), |bencher| {
            bencher.iter(|| response(black_box(&answer), FETCH_VERSION));
        });
    }
}

fn metadata(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/metadata");
    for partitions in [1, 100, 10_000] {
        let part = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some("orders"),
            topic_id: topic_id(),
            partitions: (0..partitions).map(part).collect(),
            ..MetadataResponseTopic::default()
        };
        let broker = MetadataResponseBroker { node_id: 1, host: "localhost", port: 9092, rack: None };
        let answer = MetadataResponse { brokers: vec![broker], topics: vec![topic], ..MetadataResponse::default() };
        let bytes = response(&answer, METADATA_VERSION).concat();
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("encode", partitions), |bencher| {
            bencher.iter(|| response(black_box(&answer), METADATA_VERSION));
        });
        group.bench_function(BenchmarkId::new("decode", partitions), |bencher| {
            bencher.iter(|| {
                decode_response::<MetadataResponse>(black_box(&bytes[4..]), METADATA_VERSION)
                    .expect("a response")
                    .1
                    .topics
                    .len()
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    targets = produce, fetch, metadata
}
criterion_main!(benches);
