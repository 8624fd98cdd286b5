//! `gannet.listener.per.core`: clients see each core as a node and come to the one that owns what they want; what is asked of
//! the broker itself is answered by any of its ids; whoever comes to the wrong core is served all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use gannet::protocol::alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use gannet::protocol::create_topics::{CreatableReplicaAssignment, CreatableTopic};
use gannet::protocol::describe_configs::DescribeConfigsResource;
use gannet::protocol::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use gannet::protocol::metadata::MetadataRequestTopic;
use gannet::protocol::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeQuorumRequest, DescribeQuorumResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    ListGroupsRequest, ListGroupsResponse, Message, MetadataRequest, MetadataResponse, decode_response, encode_request,
};
use gannet::types::{PartitionId, ShardId, TopicId};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::fixture::{Broker, PATIENCE, exchange};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
const PER_CORE: &str = "gannet.listener.per.core=true";

/// A port and the next one, out of those that the system gives to nobody who does not ask. Each test gets others.
fn two_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let begin = 10_000 + std::process::id() as u16 % 10_000;
    let two = || begin + NEXT.fetch_add(2, Ordering::Relaxed);
    std::iter::repeat_with(two).take(5_000).find(|port| is_free(*port) && is_free(port + 1)).expect("two free ports")
}

fn start() -> Broker {
    Broker::start_at(two_ports(), &["gannet.cores=2", PER_CORE])
}

/// Asks the core that listens at the broker's port plus this number.
fn call<'a, M: Message<'a>>(broker: &Broker, core: u16, request: &M, version: i16) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port + core)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let frame = encode_request(request, version, 7, Some("per-core")).concat();
    exchange(&mut stream, &frame[4..]).expect("an answer")
}

/// Leaders by partition, and the id of the topic.
fn leaders(broker: &Broker, core: u16) -> (BTreeMap<i32, i32>, TopicId) {
    let topics = vec![MetadataRequestTopic { name: Some(TOPIC), ..Default::default() }];
    let answer = call(broker, core, &MetadataRequest { topics: Some(topics), ..Default::default() }, 12);
    let (_, response) = decode_response::<MetadataResponse>(&answer, 12).expect("it reads");
    let nodes: Vec<_> =
        response.brokers.iter().map(|node| (node.node_id, node.port - i32::from(broker.port))).collect();
    assert_eq!(nodes, [(1, 0), (100_001, 1)]);
    assert_eq!(response.controller_id, 1);
    let topic = &response.topics[0];
    for partition in &topic.partitions {
        assert_eq!(partition.replica_nodes, [partition.leader_id]);
        assert_eq!(partition.isr_nodes, [partition.leader_id]);
    }
    (
        topic.partitions.iter().map(|partition| (partition.partition_index, partition.leader_id)).collect(),
        topic.topic_id,
    )
}

fn fill(broker: &Broker, records: i32) {
    let producer: BaseProducer = broker.client().create().expect("a producer");
    for number in 0..records {
        for partition in 0..PARTITIONS {
            let payload = number.to_string();
            let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
        }
    }
    producer.flush(PATIENCE).expect("delivered");
}

fn member(broker: &Broker, group: &str, protocol: &str) -> BaseConsumer {
    let mut config: ClientConfig = broker.client();
    config.set("group.id", group).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    config.set("group.protocol", protocol);
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[TOPIC]).expect("a subscription");
    consumer
}

/// Reads so many of each partition and commits them.
fn read(broker: &Broker, consumer: &BaseConsumer, records: i32) -> BTreeMap<i32, BTreeSet<i64>> {
    let mut seen: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    let begin = Instant::now();
    while seen.values().map(BTreeSet::len).sum::<usize>() < (records * PARTITIONS) as usize {
        assert!(begin.elapsed() < PATIENCE, "only {seen:?} came\n{}", broker.log());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            seen.entry(message.partition()).or_default().insert(message.offset());
        }
    }
    consumer.commit_consumer_state(CommitMode::Sync).expect("committed");
    seen
}

#[test]
fn each_core_is_the_leader_of_what_it_owns_and_its_coordinator() {
    let broker = start();
    broker.create_topic(TOPIC, PARTITIONS);
    let (told, topic) = leaders(&broker, 0);
    assert_eq!((told.clone(), topic), leaders(&broker, 1), "all cores tell the same");
    for (&index, &leader) in &told {
        assert_eq!(leader, PartitionId { topic, index }.owner(2).node_of(1));
    }
    assert_eq!(told.values().collect::<BTreeSet<_>>().len(), 2);

    let answer = call(&broker, 1, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() }, 1);
    let (_, cluster) = decode_response::<DescribeClusterResponse>(&answer, 1).expect("it reads");
    assert_eq!(cluster.brokers.iter().map(|node| node.broker_id).collect::<Vec<_>>(), [1, 100_001]);
    assert_eq!(cluster.controller_id, 1);
    let answer = call(&broker, 1, &DescribeQuorumRequest::default(), 2);
    assert!(decode_response::<DescribeQuorumResponse>(&answer, 2).is_ok());

    let groups: Vec<String> = (0..8).map(|number| format!("group-{number}")).collect();
    let keys = groups.iter().map(String::as_str).collect();
    let answer = call(&broker, 0, &FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() }, 4);
    let (_, found) = decode_response::<FindCoordinatorResponse>(&answer, 4).expect("it reads");
    let places: BTreeSet<_> = found.coordinators.iter().map(|row| (row.node_id, row.port)).collect();
    let port = i32::from(broker.port);
    assert_eq!(places, BTreeSet::from([(1, port), (100_001, port + 1)]));
}

#[test]
fn what_clients_put_together_of_all_nodes_is_there_once() {
    let broker = start();
    broker.create_topic(TOPIC, PARTITIONS);
    fill(&broker, 1);
    for number in 0..6 {
        read(&broker, &member(&broker, &format!("group-{number}"), "classic"), 1);
    }
    let (mut groups, mut logs) = (Vec::new(), Vec::new());
    let (told, _) = leaders(&broker, 0);
    for core in 0..2 {
        let answer = call(&broker, core, &ListGroupsRequest::default(), 4);
        let (_, listed) = decode_response::<ListGroupsResponse>(&answer, 4).expect("it reads");
        assert!(!listed.groups.is_empty());
        groups.extend(listed.groups.iter().map(|group| group.group_id.to_owned()));
        let answer = call(&broker, core, &DescribeLogDirsRequest { topics: None }, 4);
        let (_, described) = decode_response::<DescribeLogDirsResponse>(&answer, 4).expect("it reads");
        for topic in described.results[0].topics.iter().filter(|topic| topic.name == TOPIC) {
            for partition in &topic.partitions {
                assert_eq!(told[&partition.partition_index], ShardId(core).node_of(1));
                logs.push(partition.partition_index);
            }
        }
    }
    groups.sort();
    logs.sort_unstable();
    assert_eq!(groups, (0..6).map(|number| format!("group-{number}")).collect::<Vec<_>>());
    assert_eq!(logs, (0..PARTITIONS).collect::<Vec<_>>());
    assert_eq!(broker.gannet(&["groups", "list"]).matches("group-").count(), 6);
}

#[test]
fn every_id_of_a_broker_has_its_settings() {
    let broker = start();
    let set = |core: u16, node: &str, value: &str| {
        let configs = vec![AlterableConfig { name: "log.retention.ms", config_operation: 0, value: Some(value) }];
        let resources = vec![AlterConfigsResource { resource_type: 4, resource_name: node, configs }];
        let answer = call(&broker, core, &IncrementalAlterConfigsRequest { resources, validate_only: false }, 1);
        let (_, altered) = decode_response::<IncrementalAlterConfigsResponse>(&answer, 1).expect("it reads");
        assert_eq!(altered.responses[0].resource_name, node);
        altered.responses[0].error_code
    };
    let get = |core: u16, node: &str| {
        let resources =
            vec![DescribeConfigsResource { resource_type: 4, resource_name: node, configuration_keys: None }];
        let answer = call(&broker, core, &DescribeConfigsRequest { resources, ..Default::default() }, 4);
        let (_, described) = decode_response::<DescribeConfigsResponse>(&answer, 4).expect("it reads");
        let entries = &described.results[0].configs;
        let value = entries.iter().find(|entry| entry.name == "log.retention.ms").and_then(|entry| entry.value);
        value.map(str::to_owned)
    };
    assert_eq!(set(1, "100001", "5000"), 0);
    for (core, node) in [(0, "1"), (1, "100001"), (0, "100001"), (1, "1")] {
        let begin = Instant::now();
        while get(core, node).as_deref() != Some("5000") {
            assert!(begin.elapsed() < PATIENCE, "{node} at core {core}: {:?}", get(core, node));
        }
    }
    const INVALID_REQUEST: i16 = 42;
    assert_eq!(set(0, "200001", "6000"), INVALID_REQUEST, "there are two cores");
    assert_eq!(get(0, "200001"), None);
}

#[test]
fn replicas_are_of_brokers_however_many_nodes_clients_see() {
    const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    const INVALID_REPLICATION_FACTOR: i16 = 38;
    let broker = start();
    let create = |name: &str, replication_factor: i16, replicas: Option<Vec<i32>>| {
        let assignment = |broker_ids| CreatableReplicaAssignment { partition_index: 0, broker_ids };
        let topic = CreatableTopic {
            name,
            num_partitions: if replicas.is_some() { -1 } else { 1 },
            replication_factor,
            assignments: replicas.into_iter().map(assignment).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        let answer = call(&broker, 1, &request, 7);
        let (_, created) = decode_response::<CreateTopicsResponse>(&answer, 7).expect("it reads");
        (created.topics[0].error_code, created.topics[0].error_message.unwrap_or_default().to_owned())
    };
    let (error_code, message) = create("twice", 2, None);
    assert_eq!(error_code, INVALID_REPLICATION_FACTOR);
    assert!(message.contains("larger than available brokers: 1"), "{message}");
    assert_eq!(create("spread", -1, Some(vec![1, 100_001])).0, INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(create("elsewhere", -1, Some(vec![200_001])).0, INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(create(TOPIC, -1, Some(vec![100_001])), (0, String::new()));

    let (told, _) = leaders(&broker, 0);
    let reassign = |replicas: Vec<i32>| {
        let partitions = vec![ReassignablePartition { partition_index: 0, replicas: Some(replicas) }];
        let topics = vec![ReassignableTopic { name: TOPIC, partitions }];
        let answer = call(&broker, 0, &AlterPartitionReassignmentsRequest { topics, ..Default::default() }, 0);
        let (_, response) = decode_response::<AlterPartitionReassignmentsResponse>(&answer, 0).expect("it reads");
        response.responses[0].partitions[0].error_code
    };
    assert_eq!(reassign(vec![told[&0]]), 0, "where it is already");
    assert_eq!(reassign(vec![100_002 - told[&0]]), INVALID_REPLICA_ASSIGNMENT);
}

#[test]
fn clients_go_on_through_starts_with_other_core_counts() {
    let mut broker = start();
    broker.create_topic(TOPIC, PARTITIONS);
    let producer: BaseProducer = broker.client().set("enable.idempotence", "true").create().expect("a producer");
    let members = ["classic", "consumer"].map(|protocol| (protocol, member(&broker, protocol, protocol)));
    for (round, cores) in [2, 1, 2].into_iter().enumerate() {
        if round > 0 {
            broker.kill();
            broker.set_override(&format!("gannet.cores={cores}"));
            broker.restart();
        }
        for number in 0..50 {
            for partition in 0..PARTITIONS {
                let payload = format!("{round}-{number}");
                let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&payload);
                producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
            }
        }
        producer.flush(PATIENCE).expect("delivered");
        for (protocol, consumer) in &members {
            let seen = read(&broker, consumer, 50);
            let offsets = round as i64 * 50..(round as i64 + 1) * 50;
            let whole = seen.values().all(|seen| seen.iter().copied().eq(offsets.clone()));
            assert!(whole, "{protocol} in round {round} read {seen:?}");
        }
    }
    assert!(broker.terminate().success());
}

#[test]
fn a_broker_whose_last_core_has_no_port_does_not_start() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
    let port = two_ports();
    let _taken = TcpListener::bind(("127.0.0.1", port + 1)).expect("just seen free");
    let overrides = ["gannet.cores=2".to_owned(), PER_CORE.to_owned()];
    let output = super::fixture::serve(directory.path(), port, &overrides).output().expect("our own binary");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let next = format!("PLAINTEXT://127.0.0.1:{} for core 1 (gannet.listener.per.core)", port + 1);
    assert!(said.contains(&next) && said.contains("ss -ltnp"), "{said}");
}
