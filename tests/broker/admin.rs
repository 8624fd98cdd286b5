//! What administrators do to a running broker, with our own command lines and with bare requests.

use std::time::Instant;

use gannet::protocol::alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use gannet::protocol::create_acls::AclCreation;
use gannet::protocol::delete_acls::DeleteAclsFilter;
use gannet::protocol::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use gannet::protocol::describe_producers::TopicRequest;
use gannet::protocol::describe_quorum::{QuorumPartition, QuorumTopic};
use gannet::protocol::elect_leaders::TopicPartitions;
use gannet::protocol::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, CreateAclsRequest, CreateAclsResponse,
    DeleteAclsRequest, DeleteAclsResponse, DeleteRecordsRequest, DeleteRecordsResponse, DescribeAclsRequest,
    DescribeAclsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest,
    DescribeProducersResponse, DescribeQuorumRequest, DescribeQuorumResponse, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    ListTransactionsRequest, ListTransactionsResponse, Message, decode_response, encode_request,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::fixture::{Broker, PATIENCE, exchange};

fn call<'a, M: Message<'a>>(broker: &Broker, request: &M, version: i16) -> Vec<u8> {
    let frame = encode_request(request, version, 7, Some("admin")).concat();
    exchange(&mut broker.connect(), &frame[4..]).expect("an answer")
}

fn fill(broker: &Broker, topic: &str, records: usize) {
    let producer: BaseProducer = broker.client().set("enable.idempotence", "true").create().expect("a producer");
    for index in 0..records {
        let payload = format!("record {index}");
        producer.send(BaseRecord::<(), str>::to(topic).payload(&payload).partition(0)).expect("queued");
    }
    producer.flush(PATIENCE).expect("acknowledged");
}

fn delete_before(broker: &Broker, topic: &str, offset: i64) -> (i16, i64) {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic, partitions }];
    let answer = call(broker, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }, 2);
    let (_, response) = decode_response::<DeleteRecordsResponse>(&answer, 2).expect("it reads");
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.low_watermark)
}

#[test]
fn deleted_records_stay_deleted_after_a_crash() {
    let mut broker = Broker::start(&["gannet.cores=2"]);
    broker.create_topic("orders", 3);
    fill(&broker, "orders", 10);
    assert_eq!(delete_before(&broker, "orders", 4), (0, 4));
    assert_eq!(delete_before(&broker, "orders", 2), (0, 4), "it never goes back");
    assert_eq!(delete_before(&broker, "orders", 11), (1, -1), "beyond the high watermark");
    assert_eq!(delete_before(&broker, "absent", 1), (3, -1));
    broker.kill();
    broker.restart();
    assert_eq!(broker.read_all("orders", 0).first().map(|(offset, _)| *offset), Some(4));
    assert_eq!(delete_before(&broker, "orders", -1), (0, 10), "all there is");
}

#[test]
fn log_directories_tell_sizes_and_room() {
    let broker = Broker::start(&["gannet.cores=2"]);
    broker.create_topic("orders", 2);
    fill(&broker, "orders", 100);
    for version in [1, 4] {
        let answer = call(&broker, &DescribeLogDirsRequest { topics: None }, version);
        let (_, response) = decode_response::<DescribeLogDirsResponse>(&answer, version).expect("it reads");
        assert_eq!((response.error_code, response.results.len()), (0, 1));
        let directory = &response.results[0];
        assert_eq!(directory.error_code, 0);
        let orders = directory.topics.iter().find(|topic| topic.name == "orders").expect("it is there");
        assert_eq!(orders.partitions.len(), 2);
        assert!(orders.partitions[0].partition_size > 1000 && orders.partitions[1].partition_size == 0);
        if version == 4 {
            assert!(0 < directory.usable_bytes && directory.usable_bytes <= directory.total_bytes);
        }
    }
}

#[test]
fn a_partition_tells_the_producers_it_remembers() {
    let broker = Broker::start(&["gannet.cores=2"]);
    broker.create_topic("orders", 1);
    fill(&broker, "orders", 3);
    let topics = vec![TopicRequest { name: "orders", partition_indexes: vec![0, 1] }];
    let answer = call(&broker, &DescribeProducersRequest { topics }, 0);
    let (_, response) = decode_response::<DescribeProducersResponse>(&answer, 0).expect("it reads");
    let partitions = &response.topics[0].partitions;
    assert_eq!((partitions[0].error_code, partitions[1].error_code), (0, 3));
    let [producer] = &partitions[0].active_producers[..] else { panic!("{partitions:?}") };
    assert_eq!((producer.last_sequence, producer.current_txn_start_offset), (2, -1));
}

#[test]
fn acls_are_refused_in_kafkas_words_where_there_is_no_authorizer() {
    const SECURITY_DISABLED: i16 = 54;
    let broker = Broker::start(&["gannet.cores=1"]);
    for version in 1..=3 {
        let answer = call(&broker, &DescribeAclsRequest::default(), version);
        let (_, described) = decode_response::<DescribeAclsResponse>(&answer, version).expect("it reads");
        assert_eq!(described.error_code, SECURITY_DISABLED);
        assert_eq!(described.error_message, Some("No Authorizer is configured."));
        let creations = vec![AclCreation::default(), AclCreation::default()];
        let answer = call(&broker, &CreateAclsRequest { creations }, version);
        let (_, created) = decode_response::<CreateAclsResponse>(&answer, version).expect("it reads");
        assert_eq!(created.results.iter().map(|result| result.error_code).collect::<Vec<_>>(), [SECURITY_DISABLED; 2]);
        let filters = vec![DeleteAclsFilter::default()];
        let answer = call(&broker, &DeleteAclsRequest { filters }, version);
        let (_, deleted) = decode_response::<DeleteAclsResponse>(&answer, version).expect("it reads");
        assert_eq!(deleted.filter_results[0].error_code, SECURITY_DISABLED);
    }
}

#[test]
fn settings_change_under_the_running_broker_and_are_there_after_a_restart() {
    let mut broker = Broker::start(&["gannet.cores=2"]);
    broker.create_topic("orders", 2);
    broker.gannet(&["configs", "alter", "--topic", "orders", "--set", "max.message.bytes=500"]);
    broker.gannet(&["configs", "alter", "--brokers", "--set", "log.retention.ms=3600000"]);
    let producer: BaseProducer = broker.client().set("message.timeout.ms", "30000").create().expect("a producer");
    let large = "x".repeat(2000);
    producer.send(BaseRecord::<(), str>::to("orders").payload(&large).partition(0)).expect("queued");
    producer.flush(PATIENCE).expect("answered");
    assert!(broker.read_all("orders", 0).is_empty(), "larger than the topic takes now");
    for _ in 0..2 {
        let own = broker.gannet(&["configs", "describe", "--topic", "orders"]);
        assert!(own.contains("max.message.bytes=500") && !own.contains("retention.ms"), "{own}");
        let all = broker.gannet(&["configs", "describe", "--topic", "orders", "--all"]);
        assert!(all.contains("retention.ms=3600000") && all.contains("DYNAMIC_DEFAULT_BROKER_CONFIG"), "{all}");
        assert!(broker.terminate().success());
        broker.restart();
    }
    broker.gannet(&["configs", "alter", "--topic", "orders", "--delete", "max.message.bytes"]);
    fill(&broker, "orders", 1);
    assert_eq!(broker.read_all("orders", 0).len(), 1);
}

#[test]
fn a_group_is_listed_described_reset_and_deleted() {
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
    let broker = Broker::start(&["gannet.cores=2", "group.initial.rebalance.delay.ms=0"]);
    broker.create_topic("orders", 1);
    fill(&broker, "orders", 10);
    let mut config = broker.client();
    config.set("group.id", "billing").set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&["orders"]).expect("subscribed");
    let begin = Instant::now();
    let mut read = 0;
    while read < 10 {
        // A rebalance ends a poll without a record.
        if let Some(record) = consumer.poll(PATIENCE) {
            record.expect("a record");
            read += 1;
        }
        assert!(begin.elapsed() < PATIENCE, "{read} of 10 records before patience ends");
    }
    consumer.commit_consumer_state(CommitMode::Sync).expect("committed");
    let cells = |text: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with("billing")).expect("a row of the group");
        line.split_whitespace().map(str::to_owned).collect()
    };
    let busy = cells(&broker.gannet(&["groups", "describe", "billing"]));
    assert_eq!(busy[..6], ["billing", "orders", "0", "10", "10", "0"]);
    assert_ne!(busy[6], "-", "a member reads it");
    drop(consumer);
    assert_eq!(broker.gannet(&["groups", "list"]), "billing\n");
    broker.gannet(&["groups", "reset-offsets", "billing", "--topic", "orders", "--shift-by", "-7", "--execute"]);
    let idle = cells(&broker.gannet(&["groups", "describe", "billing"]));
    assert_eq!(idle, ["billing", "orders", "0", "3", "10", "7", "-", "-", "-"]);
    let deleted = broker.gannet(&["groups", "delete", "billing"]);
    assert_eq!(deleted, "Deletion of requested consumer groups ('billing') was successful.\n");
    assert_eq!(broker.gannet(&["groups", "list"]), "");
}

#[test]
fn a_quorum_of_one_elects_nobody_and_moves_nothing() {
    let broker = Broker::start(&["gannet.cores=2"]);
    broker.create_topic("orders", 2);

    let partitions = vec![QuorumPartition { partition_index: 0 }];
    let quorum = |topic_name| {
        let topics = vec![QuorumTopic { topic_name, partitions: partitions.clone() }];
        call(&broker, &DescribeQuorumRequest { topics }, 2)
    };
    let answer = quorum("__cluster_metadata");
    let (_, response) = decode_response::<DescribeQuorumResponse>(&answer, 2).expect("it reads");
    let state = &response.topics[0].partitions[0];
    assert_eq!((response.error_code, state.error_code, state.leader_id), (0, 0, 1));
    let voters: Vec<_> = state.current_voters.iter().map(|voter| (voter.replica_id, voter.log_end_offset)).collect();
    assert_eq!(voters, [(1, state.high_watermark)]);
    assert!(state.high_watermark > 3, "the registration, the topic and its partitions at least");
    assert_eq!((state.observers.len(), response.nodes.len(), response.nodes[0].listeners.len()), (0, 1, 1));
    let answer = quorum("orders");
    let (_, response) = decode_response::<DescribeQuorumResponse>(&answer, 2).expect("it reads");
    assert_eq!(response.topics[0].partitions[0].error_code, 3);

    let elect = |topic_partitions| {
        let answer = call(&broker, &ElectLeadersRequest { election_type: 0, topic_partitions, timeout_ms: 1000 }, 2);
        let (_, response) = decode_response::<ElectLeadersResponse>(&answer, 2).expect("it reads");
        let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        results.map(|partition| (partition.partition_id, partition.error_code)).collect::<Vec<_>>()
    };
    let named = |topic, partitions| Some(vec![TopicPartitions { topic, partitions }]);
    assert_eq!(elect(named("orders", vec![1, 2])), [(1, 84), (2, 3)]);
    assert_eq!(elect(named("absent", vec![0])), [(0, 3)]);
    assert_eq!(elect(None), [], "of all, those that needed one");

    let reassign = |name, partition_index, replicas: Option<&[i32]>| {
        let partition = ReassignablePartition { partition_index, replicas: replicas.map(<[i32]>::to_vec) };
        let topics = vec![ReassignableTopic { name, partitions: vec![partition] }];
        let allow = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        let answer = call(&broker, &allow, 1);
        let (_, response) = decode_response::<AlterPartitionReassignmentsResponse>(&answer, 1).expect("it reads");
        response.responses[0].partitions[0].error_code
    };
    assert_eq!(reassign("orders", 0, Some(&[1])), 0, "it is there already");
    assert_eq!(reassign("orders", 0, Some(&[1, 2])), 39, "no broker 2");
    assert_eq!(reassign("orders", 0, Some(&[1, 1])), 39);
    assert_eq!(reassign("orders", 0, Some(&[])), 39);
    assert_eq!(reassign("orders", 0, None), 85);
    assert_eq!((reassign("orders", 2, Some(&[1])), reassign("absent", 0, Some(&[1]))), (3, 3));

    let answer = call(&broker, &ListPartitionReassignmentsRequest::default(), 0);
    let (_, response) = decode_response::<ListPartitionReassignmentsResponse>(&answer, 0).expect("it reads");
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
    let request = ListTransactionsRequest { state_filters: vec!["Ongoing", "Odd"], ..Default::default() };
    let answer = call(&broker, &request, 2);
    let (_, response) = decode_response::<ListTransactionsResponse>(&answer, 2).expect("it reads");
    assert_eq!((response.unknown_state_filters, response.transaction_states.len()), (vec!["Odd"], 0));
}

#[test]
fn a_preallocated_segment_is_read_as_what_was_written_after_a_crash_and_cut_by_a_clean_stop() {
    let settings =
        ["gannet.cores=1", "log.preallocate=true", "log.segment.bytes=4194304", "gannet.writeback.interval.ms=20"];
    let mut broker = Broker::start(&settings);
    broker.create_topic("orders", 1);
    fill(&broker, "orders", 100);
    let segment = broker.directory.join("orders-0/00000000000000000000.log");
    let length = || std::fs::metadata(&segment).map_or(0, |file| file.len());
    let until = Instant::now() + PATIENCE;
    while length() != 4_194_304 {
        assert!(Instant::now() < until, "the segment has {} bytes", length());
        std::thread::yield_now();
    }
    assert_eq!(broker.read_all("orders", 0).len(), 100);
    broker.kill();
    broker.restart();
    assert_eq!(broker.read_all("orders", 0).len(), 100);
    fill(&broker, "orders", 10);
    assert!(broker.terminate().success());
    assert!((1..100_000).contains(&length()), "{} bytes after a clean stop", length());
}
