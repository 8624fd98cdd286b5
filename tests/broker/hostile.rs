//! Clients that break the protocol, say nothing, or do not listen: each costs itself its connection and nobody else anything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::fixture::{API_VERSIONS, Broker, PATIENCE, exchange};

fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    !matches!(stream.read(&mut byte), Ok(1..))
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn lengths_without_sense_close_their_connection_and_take_no_memory() {
    let broker = Broker::start(&[]);
    let before = resident_kib(broker.pid());
    for length in [i32::MAX, 200 << 20, 0, -1, i32::MIN] {
        let mut stream = broker.connect();
        stream.write_all(&length.to_be_bytes()).expect("sent");
        assert!(is_closed(&mut stream), "length {length}");
    }
    // A length that is allowed, and then nothing: memory follows what was received.
    let silent: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = broker.connect();
            stream.write_all(&(99_i32 << 20).to_be_bytes()).expect("sent");
            stream.write_all(&[0; 100]).expect("sent");
            stream
        })
        .collect();
    assert_eq!(exchange(&mut broker.connect(), API_VERSIONS).expect("an answer")[..4], [0, 0, 0, 7]);
    let grown = resident_kib(broker.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB for {} silent clients", silent.len());
}

/// Asks for all of the four partitions, and for as much as there is of each.
fn fetch_everything(topic: &str) -> Vec<u8> {
    let mut frame = [&[0, 1, 0, 4, 0, 0, 0, 9, 0xff, 0xff][..], &(-1_i32).to_be_bytes()].concat();
    for number in [1000, 1, 64 << 20] {
        frame.extend(i32::to_be_bytes(number));
    }
    frame.extend([0, 0, 0, 0, 1, 0, topic.len() as u8]);
    frame.extend(topic.bytes());
    frame.extend(4_i32.to_be_bytes());
    for partition in 0..4_i32 {
        frame.extend(partition.to_be_bytes());
        frame.extend(0_i64.to_be_bytes());
        frame.extend((64_i32 << 20).to_be_bytes());
    }
    [&(frame.len() as i32).to_be_bytes(), &frame[..]].concat()
}

#[test]
fn consumers_that_never_read_hold_no_more_memory_the_more_they_are() {
    const SILENT: usize = 24;
    let broker = Broker::start(&["gannet.memory.bytes=67108864", "socket.request.max.bytes=2097152"]);
    broker.create_topic("bait", 4);
    let producer: BaseProducer = broker.client().create().expect("a producer");
    let value = vec![b'x'; 800_000];
    for number in 0..128 {
        let record = BaseRecord::<(), _>::to("bait").partition(number % 4).payload(&value);
        producer.send(record).expect("queued");
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).expect("delivered");
    let before = resident_kib(broker.pid());
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|_| {
            let mut stream = broker.connect();
            stream.write_all(&fetch_everything("bait")).expect("sent");
            stream
        })
        .collect();
    let announced = silent.iter().map(|stream| {
        let mut length = [0; 4];
        while stream.peek(&mut length).expect("an answer begins") < 4 {}
        u64::from(u32::from_be_bytes(length))
    });
    let announced: u64 = announced.sum();
    assert!(announced < 100 << 20, "{announced} bytes for {SILENT} clients");
    let grown = resident_kib(broker.pid()).saturating_sub(before);
    assert!(grown < 150 << 10, "{grown} KiB for {SILENT} clients");
    assert!(exchange(&mut broker.connect(), API_VERSIONS).is_ok());
}

#[test]
fn frames_that_do_not_read_close_their_connection_and_no_other() {
    let broker = Broker::start(&[]);
    let mut honest = broker.connect();
    let array_of_two_billion = [&[0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff][..], &i32::MAX.to_be_bytes()].concat();
    let unknown_api = [0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff].to_vec();
    let unknown_version = [0, 3, 0x7f, 0xff, 0, 0, 0, 1, 0xff, 0xff].to_vec();
    let cut_header = vec![0, 3, 0];
    for frame in [array_of_two_billion, unknown_api, unknown_version, cut_header] {
        let mut stream = broker.connect();
        let refused = exchange(&mut stream, &frame).is_err();
        assert!(refused, "{frame:?} was answered");
        assert!(exchange(&mut honest, API_VERSIONS).is_ok());
    }
    // ApiVersions is the exception: an unknown version of it is told what is known (KIP-511).
    let unknown = [0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff];
    let answer = exchange(&mut broker.connect(), &unknown).expect("an answer");
    assert_eq!(answer, [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[test]
fn a_slow_writer_is_served_like_any_other() {
    let broker = Broker::start(&[]);
    let mut stream = broker.connect();
    let frame = [&(API_VERSIONS.len() as u32).to_be_bytes()[..], API_VERSIONS].concat();
    for byte in frame {
        stream.write_all(&[byte]).expect("sent");
        stream.flush().expect("sent");
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let broker = Broker::start(&[]);
    let mut stream = broker.connect();
    let mut frames = Vec::new();
    for correlation_id in 0..500_u32 {
        let mut request = API_VERSIONS.to_vec();
        if correlation_id % 3 == 0 {
            // Metadata 1 of no topic.
            request = [0, 3, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0].to_vec();
        }
        request[4..8].copy_from_slice(&correlation_id.to_be_bytes());
        frames.extend((request.len() as u32).to_be_bytes());
        frames.extend(request);
    }
    stream.write_all(&frames).expect("sent");
    for correlation_id in 0..500_u32 {
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[..4], correlation_id.to_be_bytes());
    }
}

#[test]
fn a_parked_consumer_gets_a_record_when_it_comes() {
    let broker = Broker::start(&["gannet.cores=2"]);
    broker.create_topic("parked", 4);
    let mut config = broker.client();
    config.set("group.id", "unused").set("fetch.wait.max.ms", "30000").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..4 {
        list.add_partition_offset("parked", partition, rdkafka::Offset::Beginning).expect("an assignment");
    }
    let producer: BaseProducer = broker.client().create().expect("a producer");
    let produce = |partition, payload: &str| {
        producer.send(BaseRecord::<(), str>::to("parked").partition(partition).payload(payload)).expect("queued");
        producer.flush(PATIENCE).expect("acknowledged");
    };
    // With one record read of each, the client asks for all partitions in one request.
    (0..4).for_each(|partition| produce(partition, "early"));
    consumer.assign(&list).expect("an assignment");
    for _ in 0..4 {
        consumer.poll(PATIENCE).expect("it is there").expect("no error");
    }
    // Once it has been parked, only a wake-up brings the records before its 30 s are over.
    assert!(consumer.poll(Duration::from_millis(700)).is_none());
    for partition in 0..4 {
        produce(partition, "late");
        let message = consumer.poll(Duration::from_secs(15)).expect("it comes when it is there").expect("no error");
        assert_eq!(rdkafka::Message::partition(&message), partition);
    }
}
