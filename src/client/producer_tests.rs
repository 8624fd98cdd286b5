//! The producer against brokers that answer as told: batching, pipelining, order, retries.

use super::*;
use crate::client::{PartitionInfo, Topic};
use crate::protocol::decode_header;
use crate::protocol::encode_request;
use crate::protocol::leader::LeaderIdAndEpoch;
use crate::protocol::produce::TopicProduceResponse;
use crate::record::{BatchHeader, records};
use crate::types::Uuid;

const VERSION: i16 = 13;

fn config() -> ProducerConfig {
    ProducerConfig {
        acks: -1,
        compression: None,
        linger_ms: 5,
        batch_bytes_max: 200,
        request_bytes_max: 10_000,
        requests_in_flight_max: 5,
        request_timeout_ms: 1000,
        delivery_timeout_ms: 10_000,
        retries: u32::MAX,
        retry_backoff_ms: 100,
    }
}

/// Partitions 0.. of one topic, led by these brokers.
fn producer(config: ProducerConfig, leaders: &[BrokerId]) -> Producer {
    let destination = |(index, leader): (usize, &BrokerId)| Destination {
        topic: "orders".into(),
        topic_id: Uuid::from_random(7),
        partition: index as i32,
        leader: Some(*leader),
    };
    Producer::new(config, Some((9, 0)), leaders.iter().enumerate().map(destination).collect())
}

fn at_ms(ms: u64) -> Time {
    Time { monotonic_us: ms * 1000, wall_ms: 1_700_000_000_000 + ms as i64 }
}

/// A record that fills a batch by itself.
fn push_batch(producer: &mut Producer, now: Time, destination: usize) {
    assert!(producer.push(now, destination, 0, None, Some(&[b'x'; 150])));
}

/// What the next request carries: partition, first sequence and record count of each batch; also that it encodes.
fn sent(producer: &mut Producer, now: Time, broker: BrokerId) -> Option<Vec<(i32, i32, i32)>> {
    let request = producer.next_request(now, broker)?;
    let frame = encode_request(&request, VERSION, 1, None).concat();
    assert_eq!(decode_header(&frame[4..]).unwrap().0.api_key, 0);
    let batches = request.topic_data.iter().flat_map(|topic| &topic.partition_data).map(|partition| {
        let header = BatchHeader::parse(partition.records.unwrap()).unwrap();
        assert_eq!((header.producer_id, header.producer_epoch), (9, 0));
        (partition.index, header.base_sequence, header.record_count)
    });
    Some(batches.collect())
}

fn answer(producer: &mut Producer, now: Time, broker: BrokerId, answers: &[(i32, ErrorCode, Offset)]) -> Vec<Delivery> {
    let partition_responses = answers.iter().map(|&(index, code, base_offset)| PartitionProduceResponse {
        index,
        error_code: code.code(),
        base_offset,
        current_leader: LeaderIdAndEpoch::default(),
        ..Default::default()
    });
    let topic = TopicProduceResponse {
        name: "",
        topic_id: Uuid::from_random(7),
        partition_responses: partition_responses.collect(),
    };
    producer.on_response(now, broker, &ProduceResponse { responses: [topic].into(), ..Default::default() })
}

fn delivered(destination: usize, records: i32, base_offset: Offset) -> Delivery {
    Delivery { destination, first_record: 0, records, outcome: Ok(base_offset) }
}

#[test]
fn a_batch_leaves_when_it_is_full_or_has_lingered() {
    let mut producer = producer(config(), &[1]);
    assert!(!producer.push(at_ms(0), 0, 0, None, Some(b"a")));
    assert_eq!(sent(&mut producer, at_ms(4), 1), None);
    assert_eq!(producer.next_deadline(), Some(5000));
    assert_eq!(sent(&mut producer, at_ms(5), 1), Some(vec![(0, 0, 1)]));
    push_batch(&mut producer, at_ms(6), 0);
    assert_eq!(sent(&mut producer, at_ms(6), 1), Some(vec![(0, 1, 1)]));
}

#[test]
fn flushing_ends_all_lingering() {
    let mut producer = producer(config(), &[1]);
    producer.push(at_ms(0), 0, 0, None, Some(b"a"));
    producer.flush();
    assert_eq!(sent(&mut producer, at_ms(0), 1), Some(vec![(0, 0, 1)]));
    assert!(!producer.is_idle());
    assert_eq!(answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::None, 70)]), [delivered(0, 1, 70)]);
    assert!(producer.is_idle());
    assert_eq!(producer.buffered_bytes(), 0);
    assert_eq!(producer.next_deadline(), None);
}

#[test]
fn a_record_too_many_opens_the_next_batch_and_nothing_is_lost_between() {
    let mut producer = producer(config(), &[1]);
    let pushed = (0..20u8).filter(|i| producer.push(at_ms(0), 0, 0, Some(&[*i]), Some(&[b'v'; 30]))).count();
    producer.flush();
    let mut values = Vec::new();
    while let Some(request) = producer.next_request(at_ms(0), 1) {
        let batch = request.topic_data[0].partition_data[0].records.unwrap();
        assert!(batch.len() <= 200);
        values.extend(records(batch, 1000).unwrap().map(|record| record.unwrap().key.unwrap()[0]));
        answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::None, 0)]);
    }
    assert!(pushed > 4);
    assert_eq!(values, (0..20).collect::<Vec<u8>>());
}

#[test]
fn a_request_holds_one_batch_of_each_partition_that_its_broker_leads() {
    let mut producer = producer(config(), &[1, 2, 1]);
    for destination in [0, 0, 1, 2] {
        push_batch(&mut producer, at_ms(0), destination);
    }
    assert_eq!(producer.leaders(), [1, 2]);
    assert_eq!(sent(&mut producer, at_ms(0), 1), Some(vec![(0, 0, 1), (2, 0, 1)]));
    assert_eq!(sent(&mut producer, at_ms(0), 1), Some(vec![(0, 1, 1)]));
    assert_eq!(sent(&mut producer, at_ms(0), 2), Some(vec![(1, 0, 1)]));
    assert_eq!(sent(&mut producer, at_ms(0), 2), None);
}

#[test]
fn a_request_keeps_to_its_size_and_the_partition_left_out_comes_first_next_time() {
    let mut producer = producer(ProducerConfig { request_bytes_max: 500, ..config() }, &[1, 1, 1]);
    for destination in [0, 1, 2, 0, 1, 2] {
        push_batch(&mut producer, at_ms(0), destination);
    }
    assert_eq!(sent(&mut producer, at_ms(0), 1), Some(vec![(0, 0, 1), (1, 0, 1)]));
    assert_eq!(sent(&mut producer, at_ms(0), 1), Some(vec![(0, 1, 1), (2, 0, 1)]));
}

#[test]
fn no_more_requests_are_in_flight_than_may_be() {
    let mut producer = producer(ProducerConfig { requests_in_flight_max: 2, ..config() }, &[1]);
    for _ in 0..3 {
        push_batch(&mut producer, at_ms(0), 0);
    }
    assert!(sent(&mut producer, at_ms(0), 1).is_some() && sent(&mut producer, at_ms(0), 1).is_some());
    assert_eq!(sent(&mut producer, at_ms(0), 1), None);
    // Only the brokers' answers, or their silence, go on from here.
    assert_eq!(producer.next_deadline(), Some(1_000_000));
    answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::None, 0)]);
    assert_eq!(sent(&mut producer, at_ms(1), 1), Some(vec![(0, 2, 1)]));
}

#[test]
fn what_comes_back_is_sent_again_in_order_after_everything_in_flight_has_come_back() {
    let mut producer = producer(config(), &[1]);
    for _ in 0..3 {
        push_batch(&mut producer, at_ms(0), 0);
        sent(&mut producer, at_ms(0), 1);
    }
    push_batch(&mut producer, at_ms(0), 0);
    assert_eq!(answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::NotLeaderOrFollower, -1)]), []);
    assert!(producer.wants_metadata());
    assert_eq!(sent(&mut producer, at_ms(500), 1), None);
    assert_eq!(answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::OutOfOrderSequenceNumber, -1)]), []);
    assert_eq!(answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::OutOfOrderSequenceNumber, -1)]), []);
    assert_eq!(sent(&mut producer, at_ms(100), 1), None);
    let sequences: Vec<_> = std::iter::from_fn(|| sent(&mut producer, at_ms(101), 1)).flatten().collect();
    assert_eq!(sequences, [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1)]);
}

#[test]
fn a_sequence_out_of_order_by_itself_is_the_end_of_its_batch() {
    let mut producer = producer(config(), &[1]);
    push_batch(&mut producer, at_ms(0), 0);
    sent(&mut producer, at_ms(0), 1);
    let deliveries = answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::OutOfOrderSequenceNumber, -1)]);
    assert_eq!(deliveries[0].outcome, Err((ErrorCode::OutOfOrderSequenceNumber, None)));
}

#[test]
fn a_duplicate_counts_as_delivered() {
    let mut producer = producer(config(), &[1]);
    push_batch(&mut producer, at_ms(0), 0);
    sent(&mut producer, at_ms(0), 1);
    let deliveries = answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::DuplicateSequenceNumber, -1)]);
    assert_eq!(deliveries, [delivered(0, 1, -1)]);
}

#[test]
fn a_lost_connection_brings_everything_back_and_the_new_leader_gets_it() {
    let mut producer = producer(config(), &[1]);
    for _ in 0..2 {
        push_batch(&mut producer, at_ms(0), 0);
        sent(&mut producer, at_ms(0), 1);
    }
    assert_eq!(producer.on_disconnect(at_ms(10), 1), []);
    assert!(producer.wants_metadata() && !producer.is_idle());
    let partition = PartitionInfo { index: 0, leader: Some(2), leader_epoch: 1 };
    let topic = Topic { id: Uuid::from_random(7), is_internal: false, partitions: vec![partition.clone()] };
    let mut cluster = Cluster::default();
    cluster.topics.insert("orders".to_owned(), topic);
    producer.on_metadata(&cluster);
    assert!(!producer.wants_metadata());
    assert_eq!(sent(&mut producer, at_ms(110), 1), None);
    assert_eq!(sent(&mut producer, at_ms(110), 2), Some(vec![(0, 0, 1)]));
    assert_eq!(sent(&mut producer, at_ms(110), 2), Some(vec![(0, 1, 1)]));

    // A topic of the same name and another id is another topic.
    cluster.topics.get_mut("orders").unwrap().id = Uuid::from_random(8);
    producer.on_metadata(&cluster);
    assert!(producer.leaders().is_empty() && producer.wants_metadata());
}

#[test]
fn a_batch_that_nobody_takes_is_given_up_at_its_deadline() {
    let mut producer = producer(config(), &[1]);
    push_batch(&mut producer, at_ms(0), 0);
    producer.push(at_ms(1), 0, 0, None, Some(b"a"));
    producer.on_disconnect(at_ms(9_990), 1);
    assert_eq!(producer.expire(at_ms(9_999)), []);
    assert_eq!(producer.next_deadline(), Some(10_000_000));
    let given_up = producer.expire(at_ms(10_001));
    assert_eq!(given_up.len(), 2);
    assert!(given_up.iter().all(|delivery| delivery.outcome == Err((ErrorCode::RequestTimedOut, None))));
    assert!(producer.is_idle());
}

#[test]
fn a_broker_that_never_answers_is_overdue() {
    let mut producer = producer(config(), &[1]);
    push_batch(&mut producer, at_ms(0), 0);
    sent(&mut producer, at_ms(0), 1);
    assert_eq!((producer.overdue(at_ms(999)), producer.overdue(at_ms(1000))), (None, Some(1)));
}

#[test]
fn a_response_without_the_partition_is_a_refusal() {
    let mut producer = producer(config(), &[1]);
    push_batch(&mut producer, at_ms(0), 0);
    sent(&mut producer, at_ms(0), 1);
    let deliveries = answer(&mut producer, at_ms(1), 1, &[(5, ErrorCode::None, 3)]);
    assert_eq!(deliveries[0].outcome, Err((ErrorCode::UnknownServerError, None)));
    // And one more answer than was asked for changes nothing.
    assert_eq!(answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::None, 3)]), []);
}

#[test]
fn without_acks_a_batch_is_done_when_it_is_sent() {
    let destination = Destination { topic: "orders".into(), topic_id: Uuid::ZERO, partition: 0, leader: Some(1) };
    let mut producer = Producer::new(ProducerConfig { acks: 0, ..config() }, None, vec![destination]);
    push_batch(&mut producer, at_ms(0), 0);
    assert!(producer.next_request(at_ms(0), 1).is_some_and(|request| request.acks == 0));
    assert_eq!(producer.on_sent_unanswered(1), [delivered(0, 1, -1)]);
    assert!(producer.is_idle());
}

#[test]
fn a_delivery_tells_which_records_of_its_destination_it_ends() {
    let mut producer = producer(config(), &[1]);
    for _ in 0..2 {
        producer.push(at_ms(0), 0, 0, None, Some(b"small"));
    }
    producer.push(at_ms(0), 0, 0, None, Some(&[b'x'; 150]));
    producer.flush();
    while sent(&mut producer, at_ms(0), 1).is_some() {}
    let first = answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::None, 70)]);
    let second = answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::None, 72)]);
    assert_eq!((first[0].first_record, first[0].records), (0, 2));
    assert_eq!((second[0].first_record, second[0].records), (2, 1));
}

#[test]
fn a_refusal_counts_once_the_retries_are_spent() {
    let mut producer = producer(ProducerConfig { retries: 1, ..config() }, &[1]);
    push_batch(&mut producer, at_ms(0), 0);
    sent(&mut producer, at_ms(0), 1);
    assert_eq!(answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::NotEnoughReplicas, -1)]), []);
    assert!(sent(&mut producer, at_ms(101), 1).is_some());
    let ended = answer(&mut producer, at_ms(102), 1, &[(0, ErrorCode::NotEnoughReplicas, -1)]);
    assert_eq!(ended[0].outcome, Err((ErrorCode::NotEnoughReplicas, None)));
    assert!(producer.is_idle());
}

/// The broker would refuse whatever follows the gap, for ever, and say that its sequence is out of order.
#[test]
fn after_a_batch_was_given_up_its_partition_goes_on_under_another_identity() {
    let mut producer = producer(config(), &[1, 1]);
    for destination in [0, 1] {
        push_batch(&mut producer, at_ms(0), destination);
    }
    assert_eq!(sent(&mut producer, at_ms(0), 1), Some(vec![(0, 0, 1), (1, 0, 1)]));
    push_batch(&mut producer, at_ms(0), 0);
    assert_eq!(sent(&mut producer, at_ms(0), 1), Some(vec![(0, 1, 1)]));
    push_batch(&mut producer, at_ms(0), 0);
    let refused = answer(&mut producer, at_ms(1), 1, &[(0, ErrorCode::MessageTooLarge, -1), (1, ErrorCode::None, 0)]);
    assert_eq!((refused[0].outcome.is_err(), refused[1].outcome.is_ok()), (true, true));
    // The one in flight behind it comes back first; nothing else of its partition leaves meanwhile.
    assert!(!producer.wants_identity());
    assert_eq!(sent(&mut producer, at_ms(1), 1), None);
    let refused = answer(&mut producer, at_ms(2), 1, &[(0, ErrorCode::OutOfOrderSequenceNumber, -1)]);
    assert!(refused[0].outcome.is_err() && producer.wants_identity());
    // The other partition does not wait.
    push_batch(&mut producer, at_ms(2), 1);
    assert_eq!(sent(&mut producer, at_ms(2), 1), Some(vec![(1, 1, 1)]));
    assert_eq!(producer.on_identity((9, 0)), []);
    assert!(!producer.wants_identity());
    assert_eq!(sent(&mut producer, at_ms(2), 1), Some(vec![(0, 0, 1)]));
}

#[test]
fn what_may_be_there_already_is_not_sent_again_under_another_identity() {
    let mut producer = producer(config(), &[1]);
    for _ in 0..2 {
        push_batch(&mut producer, at_ms(0), 0);
        sent(&mut producer, at_ms(0), 1);
    }
    producer.on_disconnect(at_ms(1), 1);
    push_batch(&mut producer, at_ms(2), 0);
    assert_eq!(sent(&mut producer, at_ms(200), 1), Some(vec![(0, 0, 1)]));
    answer(&mut producer, at_ms(201), 1, &[(0, ErrorCode::MessageTooLarge, -1)]);
    let given_up = producer.on_identity((9, 0));
    assert_eq!((given_up.len(), given_up[0].first_record, given_up[0].outcome.is_err()), (1, 1, true));
    assert_eq!(sent(&mut producer, at_ms(202), 1), Some(vec![(0, 0, 1)]));
}

#[test]
fn a_batch_that_expires_before_it_was_ever_sent_leaves_no_gap() {
    let mut producer = producer(config(), &[1]);
    producer.on_disconnect(at_ms(0), 1);
    push_batch(&mut producer, at_ms(0), 0);
    push_batch(&mut producer, at_ms(5_000), 0);
    assert_eq!(producer.expire(at_ms(10_000)).len(), 1);
    assert_eq!((producer.wants_identity(), sent(&mut producer, at_ms(10_000), 1)), (false, Some(vec![(0, 0, 1)])));
}

#[test]
fn without_retries_a_lost_connection_is_the_end_of_what_was_in_flight() {
    let mut producer = producer(ProducerConfig { retries: 0, ..config() }, &[1]);
    push_batch(&mut producer, at_ms(0), 0);
    sent(&mut producer, at_ms(0), 1);
    push_batch(&mut producer, at_ms(0), 0);
    let given_up = producer.on_disconnect(at_ms(1), 1);
    assert_eq!(given_up.len(), 1);
    assert_eq!(given_up[0].outcome, Err((ErrorCode::NetworkException, None)));
}
