//! Quotas of the running broker, seen by bare clients: who is over one is told for how long and is not read meanwhile; nobody
//! else notices. Windows are so long that no test's own time matters.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use gannet::protocol::fetch::{FetchPartition, FetchTopic};
use gannet::protocol::produce::{PartitionProduceData, TopicProduceData};
use gannet::protocol::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, Message, ProduceRequest, ProduceResponse,
    decode_response, encode_request,
};
use gannet::record::BatchBuilder;

use super::fixture::{Broker, exchange};

const WINDOW_MS: usize = 60_000;

fn start() -> Broker {
    let broker = Broker::start(&["gannet.cores=2", "quota.window.num=2", "quota.window.size.seconds=60"]);
    broker.create_topic("orders", 2);
    broker
}

/// A whole frame, its length included.
fn produce(client_id: &str, acks: i16, partition: i32, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(1, None, Some(&vec![7; bytes]));
    let batch = builder.build();
    let data = PartitionProduceData { index: partition, records: Some(&batch) };
    let topic = TopicProduceData { name: "orders", partition_data: [data].into(), ..Default::default() };
    let request = ProduceRequest { acks, timeout_ms: 10_000, topic_data: [topic].into(), ..Default::default() };
    encode_request(&request, 9, 7, Some(client_id)).concat()
}

fn produced(answer: &[u8]) -> (i16, i32) {
    let (_, response) = decode_response::<ProduceResponse>(answer, 9).expect("it reads");
    (response.responses[0].partition_responses[0].error_code, response.throttle_time_ms)
}

fn call<'a, M: Message<'a>>(stream: &mut TcpStream, client_id: &str, request: &M, version: i16) -> Vec<u8> {
    exchange(stream, &encode_request(request, version, 7, Some(client_id)).concat()[4..]).expect("an answer")
}

/// Some request that everybody may send.
fn ask_offsets(stream: &mut TcpStream, client_id: &str) -> i32 {
    let answer = call(stream, client_id, &ListOffsetsRequest { replica_id: -1, ..Default::default() }, 5);
    decode_response::<ListOffsetsResponse>(&answer, 5).expect("it reads").1.throttle_time_ms
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let outcome = stream.read(&mut [0; 1]);
    stream.set_nonblocking(false).expect("a socket");
    matches!(outcome, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_producer_over_its_quota_is_told_and_not_read_while_others_are() {
    let broker = start();
    broker.gannet(&["quotas", "alter", "--client-id", "greedy", "--set", "producer_byte_rate=100"]);
    let shown = broker.gannet(&["quotas", "describe", "--client-id", "greedy"]);
    assert!(shown.contains("client-id greedy") && shown.contains("producer_byte_rate=100"), "{shown}");
    for acks in [1, 0] {
        let mut greedy = broker.connect();
        let request = produce("greedy", acks, 0, 20_000);
        if acks == 0 {
            greedy.write_all(&request).expect("sent");
        } else {
            let throttle_ms = (request.len() - 4) * 10 - WINDOW_MS;
            let answer = exchange(&mut greedy, &request[4..]).expect("an answer");
            assert_eq!(produced(&answer), (0, throttle_ms as i32), "over a window of one sample, as Kafka counts");
        }
        let rest = encode_request(&ListOffsetsRequest { replica_id: -1, ..Default::default() }, 5, 8, Some("greedy"));
        if acks == 1 {
            greedy.write_all(&rest.concat()).expect("sent");
        }
        let mut modest = broker.connect();
        for partition in [0, 1].repeat(20) {
            let answer = exchange(&mut modest, &produce("modest", 1, partition, 20_000)[4..]).expect("an answer");
            assert_eq!(produced(&answer), (0, 0));
        }
        if acks == 0 {
            greedy.write_all(&rest.concat()).expect("sent");
            assert_eq!(ask_offsets(&mut modest, "modest"), 0);
        }
        assert!(is_silent(&mut greedy), "its next request waits");
    }
    assert_eq!(broker.read_all("orders", 0).len(), 42, "nothing was refused");
    broker.gannet(&["quotas", "alter", "--client-id", "greedy", "--delete", "producer_byte_rate"]);
    let answer = exchange(&mut broker.connect(), &produce("greedy", 1, 0, 20_000)[4..]).expect("an answer");
    assert_eq!(produced(&answer), (0, 0), "without a quota nothing is counted");
}

#[test]
fn all_connections_of_a_client_share_its_quota_whatever_their_cores() {
    let broker = start();
    let request = produce("app", 1, 0, 1000);
    // Six hundred of them fill the window.
    let bound = format!("producer_byte_rate={}", (request.len() - 4) * 10);
    broker.gannet(&["quotas", "alter", "--user-default", "--set", &bound]);
    let is_within = |_: &i32| {
        let answer = exchange(&mut broker.connect(), &request[4..]).expect("an answer");
        produced(&answer).1 == 0
    };
    let accepted = (0..2000).take_while(is_within).count();
    assert!((600..1000).contains(&accepted), "{accepted}: cores that did not know of each other would take 1200");
}

fn fetch(stream: &mut TcpStream, client_id: &str) -> (i32, usize) {
    let partition = FetchPartition { partition: 0, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "orders", partitions: [partition].into(), ..Default::default() };
    let request =
        FetchRequest { max_wait_ms: 10_000, min_bytes: 1 << 20, topics: [topic].into(), ..Default::default() };
    let answer = call(stream, client_id, &request, 12);
    let (_, response) = decode_response::<FetchResponse>(&answer, 12).expect("it reads");
    assert_eq!(response.error_code, 0);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    (response.throttle_time_ms, partitions.map(|partition| partition.records.0.concat().len()).sum())
}

#[test]
fn a_consumer_over_its_quota_gets_nothing_until_it_has_waited() {
    let broker = start();
    for _ in 0..20 {
        exchange(&mut broker.connect(), &produce("writer", 1, 0, 10_000)[4..]).expect("an answer");
    }
    broker.gannet(&["quotas", "alter", "--client-id-default", "--set", "consumer_byte_rate=500"]);
    let mut greedy = broker.connect();
    let (throttle_ms, bytes) = fetch(&mut greedy, "greedy");
    assert!(throttle_ms == 0 && (15_000..=30_000).contains(&bytes), "a window's worth at most: {bytes}");
    let (throttle_ms, bytes) = fetch(&mut greedy, "greedy");
    assert!(throttle_ms > 1000 && bytes == 0, "{throttle_ms}");
    let frame = encode_request(&ListOffsetsRequest { replica_id: -1, ..Default::default() }, 5, 8, Some("greedy"));
    greedy.write_all(&frame.concat()).expect("sent");
    assert_eq!(fetch(&mut broker.connect(), "another").0, 0, "each client id has the default for itself");
    assert!(is_silent(&mut greedy));
}

#[test]
fn requests_that_take_too_much_time_are_slowed_down_whatever_they_ask() {
    let broker = start();
    broker.gannet(&[
        "quotas",
        "alter",
        "--user",
        "ANONYMOUS",
        "--client-id",
        "busy",
        "--set",
        "request_percentage=0.01",
    ]);
    let mut busy = broker.connect();
    let throttle_ms = (0..1_000_000).map(|_| ask_offsets(&mut busy, "busy")).find(|throttle_ms| *throttle_ms > 0);
    assert!(throttle_ms.is_some_and(|throttle_ms| throttle_ms <= WINDOW_MS as i32), "{throttle_ms:?}");
    assert_eq!(ask_offsets(&mut broker.connect(), "idle"), 0);
}

#[test]
fn an_address_that_connects_too_often_is_turned_away() {
    let broker = Broker::start(&["gannet.cores=2", "quota.window.num=2"]);
    broker.gannet(&["quotas", "alter", "--ip", "127.0.0.1", "--set", "connection_creation_rate=5"]);
    let answers = |_: &i32| {
        let frame = encode_request(&ListOffsetsRequest { replica_id: -1, ..Default::default() }, 5, 8, None).concat();
        exchange(&mut broker.connect(), &frame[4..]).is_ok()
    };
    let accepted = (0..10_000).take_while(answers).count();
    assert!((1..10_000).contains(&accepted), "{accepted}");
}
