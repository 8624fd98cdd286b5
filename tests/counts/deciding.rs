//! What a request costs the shard that decides it: allocations, copies, messages to other cores.

use bytes::Bytes;
use gannet::config::BrokerConfig;
use gannet::protocol::{FetchResponse, ProduceResponse, decode_response};
use gannet::types::Uuid;

use crate::allocations::take_places;
use crate::cores::{CONSUMER, Cores, PRODUCER};
use crate::wire;

const NO_SESSION: (i32, i32) = (0, -1);

/// Rounds before and while it is counted. What grows now and then, such as a ring that doubles, is in the mean of so many
/// and not in their median.
const WARM_UP: usize = 300;
const ROUNDS: usize = 1000;

/// A round that touches so many partitions or batches allocates at most so often; growth is on top, less than once in ten
/// of them.
fn allocates_at_most(most: u64, touched: usize, cores: &mut Cores, mut round: impl FnMut(&mut Cores)) {
    let mut counted = |cores: &mut Cores| {
        let before = cores.allocated;
        round(cores);
        cores.responses.clear();
        (cores.allocated - before).count
    };
    for _ in 0..WARM_UP {
        counted(cores);
    }
    let mut counts: Vec<u64> = (0..ROUNDS).map(|_| counted(cores)).collect();
    counts.sort_unstable();
    let median = counts[ROUNDS / 2];
    let growth = counts.iter().map(|count| count.saturating_sub(median)).sum::<u64>() as f64 / ROUNDS as f64;
    let growth_max = touched as f64 / 10.0;
    if median <= most && growth < growth_max {
        return;
    }
    cores.notes_places = true;
    counted(cores);
    let places = take_places();
    panic!(
        "{median} allocations a round and {growth} by growth; {most} and {growth_max} are allowed. Where:\n{places}"
    );
}

fn produced(cores: &mut Cores) -> ProduceResponse<'static> {
    let response: &'static [u8] = Box::leak(cores.take_response().to_vec().into_boxed_slice());
    decode_response::<ProduceResponse>(response, wire::PRODUCE_VERSION).expect("a response").1
}

#[test]
fn a_produce_request_allocates_no_more_than_it_did() {
    let mut cores = Cores::open(1);
    let topic_id = cores.create_topic(100);
    let frame = wire::produce(topic_id, 1, &wire::batch(1024));
    cores.request(PRODUCER, frame.clone());
    cores.settle();
    assert_eq!(produced(&mut cores).responses[0].partition_responses[0].error_code, 0);
    allocates_at_most(3, 1, &mut cores, |cores| {
        cores.request(PRODUCER, frame.clone());
        cores.settle();
        assert_eq!(cores.responses.len(), 1);
    });
}

#[test]
fn produce_requests_that_share_a_commit_allocate_no_more_than_they_did() {
    const REQUESTS: usize = 64;
    let mut cores = Cores::open(1);
    let topic_id = cores.create_topic(1);
    let frame = wire::produce(topic_id, 1, &wire::batch(100));
    allocates_at_most(131, REQUESTS, &mut cores, |cores| {
        cores.requests(PRODUCER, (0..REQUESTS).map(|_| frame.clone()));
        cores.settle();
        assert_eq!(cores.responses.len(), REQUESTS);
    });
}

#[test]
fn a_produce_request_to_many_partitions_allocates_no_more_than_it_did() {
    let mut cores = Cores::open(1);
    let topic_id = cores.create_topic(100);
    let frame = wire::produce(topic_id, 100, &wire::batch(100));
    allocates_at_most(16, 100, &mut cores, |cores| {
        cores.request(PRODUCER, frame.clone());
        cores.settle();
        assert_eq!(cores.responses.len(), 1);
    });
}

#[test]
fn a_fetch_at_the_tail_allocates_no_more_than_it_did() {
    let mut cores = Cores::open(1);
    let topic_id = cores.create_topic(1);
    cores.request(PRODUCER, wire::produce(topic_id, 1, &wire::batch(1024)));
    cores.settle();
    cores.responses.clear();
    let frame = wire::fetch(topic_id, [(0, 0)], NO_SESSION);
    allocates_at_most(4, 1, &mut cores, |cores| {
        cores.request(CONSUMER, frame.clone());
        assert!(cores.responses.pop_front().expect("at once").concat().len() > 1024);
    });
}

/// The consumer's side of it: its session's fetch waits, is woken by a producer's commit, and comes again.
#[test]
fn a_record_on_its_way_from_producer_to_consumer_allocates_no_more_than_it_did() {
    let mut cores = Cores::open(1);
    let topic_id = cores.create_topic(1);
    let produce = wire::produce(topic_id, 1, &wire::batch(1024));
    let (session, mut epoch, mut offset) = (begin_session(&mut cores, topic_id, 1), 1, 0);
    allocates_at_most(4, 1, &mut cores, |cores| {
        cores.request(CONSUMER, wire::fetch(topic_id, [(0, offset)], (session, epoch)));
        assert!(cores.responses.is_empty(), "it waits");
        cores.request(PRODUCER, produce.clone());
        cores.settle();
        assert_eq!(cores.responses.len(), 2, "the waiting fetch and the producer");
        (epoch, offset) = (epoch + 1, offset + 1);
    });
}

#[test]
fn an_idle_fetch_session_allocates_no_more_than_it_did_however_many_partitions_it_has() {
    for partitions in [1, 100] {
        let mut cores = Cores::open(1);
        let topic_id = cores.create_topic(partitions);
        let (session, mut epoch) = (begin_session(&mut cores, topic_id, partitions), 1);
        allocates_at_most(1, partitions as usize, &mut cores, |cores| {
            cores.request(CONSUMER, wire::fetch(topic_id, [], (session, epoch)));
            cores.pass_ms(600);
            assert_eq!(cores.responses.len(), 1);
            epoch += 1;
        });
    }
}

#[test]
fn a_metadata_request_allocates_no_more_than_it_did() {
    let mut cores = Cores::open(1);
    cores.create_topic(10);
    allocates_at_most(28, 1, &mut cores, |cores| {
        cores.request(CONSUMER, wire::metadata());
        assert_eq!(cores.responses.len(), 1);
    });
}

fn begin_session(cores: &mut Cores, topic_id: Uuid, partitions: i32) -> i32 {
    cores.request(CONSUMER, wire::fetch(topic_id, (0..partitions).map(|index| (index, 0)), (0, 0)));
    cores.pass_ms(600);
    let response = cores.take_response();
    let (_, begun) = decode_response::<FetchResponse>(&response, wire::FETCH_VERSION).expect("a response");
    assert!(begun.session_id > 0);
    begun.session_id
}

/// The bytes of `inner` are a part of `outer`, at the same place in memory.
fn is_part_of(inner: &[u8], outer: &std::ops::Range<*const u8>) -> bool {
    let inner = inner.as_ptr_range();
    outer.start <= inner.start && inner.end <= outer.end
}

/// The one copy before the disk is the journal's, of which the block says how long it is; a socket's send is the kernel's.
#[test]
fn the_bytes_that_were_received_are_journaled_written_and_fetched_where_they_stand() {
    for value_bytes in [1024, 65_536] {
        let mut cores = Cores::open(1);
        let topic_id = cores.create_topic(1);
        cores.keeps_bytes = true;
        let batch = wire::batch(value_bytes);
        let (mut received, before) = (Vec::new(), cores.allocated);
        let count = (4 << 20) / value_bytes;
        for _ in 0..count {
            let frame = wire::produce(topic_id, 1, &batch);
            received.push(frame.as_ptr_range());
            cores.request(PRODUCER, frame);
            cores.settle();
        }
        // Nothing was copied unseen: a copy needs a place.
        let allocated = (cores.allocated - before).bytes;
        assert!(allocated < (count * 4096) as u64, "{allocated} bytes allocated for {count} requests");
        let entries: Vec<_> = cores.blocks.iter().flat_map(|block| block.entries()).collect();
        assert_eq!(entries.len(), count);
        for (entry, frame) in entries.iter().zip(&received) {
            assert!(is_part_of(entry.batch.bytes(), frame), "the journal's block holds a copy");
        }
        let encoded: u64 = cores.blocks.iter().map(|block| block.payload_bytes()).sum();
        assert_eq!(encoded, (count * batch.len()) as u64, "the journal's copy, once");
        assert!(!cores.written.is_empty());
        for piece in &cores.written {
            assert!(received.iter().any(|frame| is_part_of(piece, frame)), "a segment is written from a copy");
        }
        cores.responses.clear();
        let before = cores.allocated;
        cores.request(CONSUMER, wire::fetch(topic_id, [(0, count as i64 - 8)], NO_SESSION));
        let response = cores.responses.pop_front().expect("at once");
        let shared: usize = shared_bytes(&response, &received);
        assert_eq!(shared, 8 * batch.len(), "what is fetched is what was received");
        let allocated = (cores.allocated - before).bytes;
        assert!(allocated < 8 * 1024, "{allocated} bytes allocated for one fetch");
    }
}

fn shared_bytes(response: &[Bytes], received: &[std::ops::Range<*const u8>]) -> usize {
    let shared = response.iter().filter(|piece| received.iter().any(|frame| is_part_of(piece, frame)));
    shared.map(|piece| piece.len()).sum()
}

const PARTITIONS: i32 = 16;

/// What `request` says between the cores until it is answered.
fn messages_of(cores: &mut Cores, mut request: impl FnMut(&mut Cores)) -> u64 {
    request(cores);
    cores.responses.clear();
    let before = cores.messages_sent;
    request(cores);
    assert!(!cores.responses.is_empty());
    cores.messages_sent - before
}

#[test]
fn a_request_costs_each_other_core_one_message_there_and_one_back_however_many_partitions() {
    for shards in [1, 2, 4] {
        let others = u64::from(shards) - 1;
        let mut cores = Cores::open(shards);
        let topic_id = cores.create_topic(PARTITIONS);
        let batch = wire::batch(100);
        let produce = |cores: &mut Cores, partitions| {
            cores.request(PRODUCER, wire::produce(topic_id, partitions, &batch));
            cores.settle();
        };
        assert_eq!(messages_of(&mut cores, |cores| produce(cores, PARTITIONS)), 2 * others, "produce");
        assert!(messages_of(&mut cores, |cores| produce(cores, 1)) <= 2, "produce to one partition");
        let fetch = |cores: &mut Cores, partitions: std::ops::Range<i32>| {
            cores.request(CONSUMER, wire::fetch(topic_id, partitions.map(|index| (index, 0)), NO_SESSION));
            cores.settle();
        };
        assert_eq!(messages_of(&mut cores, |cores| fetch(cores, 0..PARTITIONS)), 2 * others, "fetch");
        assert!(messages_of(&mut cores, |cores| fetch(cores, 0..1)) <= 2, "fetch from one partition");
        assert_eq!(messages_of(&mut cores, |cores| cores.request(CONSUMER, wire::metadata())), 0, "metadata");
    }
}

/// With data on one of several cores: each says at once that it has nothing, and the one with data again.
#[test]
fn a_fetch_that_waits_costs_no_messages_while_nothing_comes() {
    let mut cores = Cores::open(2);
    let topic_id = cores.create_topic(PARTITIONS);
    let (session, mut epoch) = (begin_session(&mut cores, topic_id, PARTITIONS), 1);
    let waits = messages_of(&mut cores, |cores| {
        cores.request(CONSUMER, wire::fetch(topic_id, [], (session, epoch)));
        cores.settle();
        assert!(cores.responses.is_empty());
        let before = cores.messages_sent;
        cores.pass_ms(100);
        assert_eq!(cores.messages_sent, before);
        cores.pass_ms(500);
        epoch += 1;
    });
    assert_eq!(waits, 3, "one there, one that says nothing is there, one at the end");
}

/// They are read in turn: a chunk read ahead of one waits until all others had theirs.
#[test]
fn what_a_consumer_of_many_partitions_gets_from_disk_was_read_once() {
    const BATCHES: i64 = 64;
    const MEMORY_BYTES: usize = 64 << 20;
    let mut config = BrokerConfig::default();
    config.gannet.memory_bytes = Some(MEMORY_BYTES as u64);
    let mut cores = Cores::open_as(1, config);
    cores.keeps_files = true;
    let topic_id = cores.create_topic(PARTITIONS);
    let batch = wire::batch(64 << 10);
    for _ in 0..BATCHES {
        cores.request(PRODUCER, wire::produce(topic_id, PARTITIONS, &batch));
        cores.settle();
    }
    cores.pass_ms(60_000);
    cores.responses.clear();
    let mut next = [0; PARTITIONS as usize];
    while next.iter().any(|offset| *offset < BATCHES) {
        cores.request(CONSUMER, wire::fetch(topic_id, (0..).zip(next), NO_SESSION));
        cores.settle();
        let response = cores.take_response();
        let (_, fetched) = decode_response::<FetchResponse>(&response, wire::FETCH_VERSION).expect("a response");
        for partition in &fetched.responses[0].partitions {
            assert_eq!(partition.error_code, 0);
            next[partition.partition_index as usize] += (partition.records.bytes() / batch.len()) as i64;
        }
    }
    // Half of the memory holds what came last. A chunk ends in a part of a batch, which the next one begins with.
    let from_disk = (BATCHES as usize * PARTITIONS as usize * batch.len() - MEMORY_BYTES / 2) as u64;
    let (read, most) = (cores.read_bytes, from_disk + from_disk / 4);
    assert!((from_disk..most).contains(&read), "{read} bytes were read for {from_disk}");
}
