//! Several log directories, one of which fails. A regular file in the place of the directory stands for the device that is
//! gone: it needs no privilege, and the system refuses every path below it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gannet::error_code::ErrorCode;
use gannet::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use gannet::protocol::produce::{PartitionProduceData, TopicProduceData};
use gannet::protocol::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, FindCoordinatorRequest, FindCoordinatorResponse, Message,
    MetadataResponse, ProduceRequest, ProduceResponse, decode_response, encode_request,
};
use gannet::record::BatchBuilder;

use super::fixture::{Broker, PATIENCE, exchange};

const PARTITIONS: i32 = 6;
const STORAGE_ERROR: i16 = 56;

/// Two log directories, and what was acknowledged in each partition.
struct Node {
    _keep: tempfile::TempDir,
    first: PathBuf,
    second: PathBuf,
    broker: Broker,
    acknowledged: BTreeMap<i32, Vec<Vec<u8>>>,
}

impl Node {
    fn start() -> Node {
        let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
        let [first, second] = ["first", "second"].map(|name| keep.path().join(name));
        let log_dirs = format!("log.dirs={},{}", first.display(), second.display());
        let broker = Broker::start_in(&first, &[&log_dirs, "gannet.cores=2", "gannet.writeback.interval.ms=20"], None);
        Node { _keep: keep, first, second, broker, acknowledged: BTreeMap::new() }
    }

    fn call<'a, M: Message<'a>>(&self, request: &M, version: i16) -> Vec<u8> {
        let frame = encode_request(request, version, 7, Some("test")).concat();
        exchange(&mut self.broker.connect(), &frame[4..]).expect("an answer")
    }

    /// One record; the error code of the answer.
    fn produce(&mut self, partition: i32, value: &[u8]) -> i16 {
        let mut builder = BatchBuilder::new();
        builder.push(1_700_000_000_000, None, Some(value));
        let records = builder.build();
        let partition_data = [PartitionProduceData { index: partition, records: Some(&records) }].into();
        let topic_data = [TopicProduceData { name: "spread", partition_data, ..Default::default() }].into();
        let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data, transactional_id: None };
        let answer = self.call(&request, 9);
        let (_, response) = decode_response::<ProduceResponse>(&answer, 9).expect("it reads");
        let error_code = response.responses[0].partition_responses[0].error_code;
        if error_code == 0 {
            self.acknowledged.entry(partition).or_default().push(value.to_vec());
        }
        error_code
    }

    fn fill(&mut self, partitions: impl Iterator<Item = i32>, what: &str) {
        for partition in partitions {
            for number in 0..20 {
                let value = format!("{what} {number} {}", "x".repeat(number * 100));
                assert_eq!(self.produce(partition, value.as_bytes()), 0, "partition {partition}");
            }
        }
    }

    /// The partitions that lie in this log directory.
    fn partitions_in(log_dir: &Path) -> Vec<i32> {
        let is_there = |partition: &i32| log_dir.join(format!("spread-{partition}")).is_dir();
        (0..PARTITIONS).filter(is_there).collect()
    }

    fn aside(&self) -> PathBuf {
        self.second.with_extension("aside")
    }

    fn break_second(&self) {
        std::fs::rename(&self.second, self.aside()).expect("moved");
        std::fs::write(&self.second, "in the way").expect("written");
    }

    fn repair_second(&self) {
        std::fs::remove_file(&self.second).or_else(|_| std::fs::remove_dir_all(&self.second)).expect("removed");
        std::fs::rename(self.aside(), &self.second).expect("moved back");
    }

    /// By partition: error, leader, offline replicas.
    fn metadata(&self) -> BTreeMap<i32, (i16, i32, Vec<i32>)> {
        let topic = MetadataRequestTopic { name: Some("spread"), ..Default::default() };
        let answer = self.call(&MetadataRequest { topics: Some(vec![topic]), ..Default::default() }, 9);
        let (_, response) = decode_response::<MetadataResponse>(&answer, 9).expect("it reads");
        let partitions = response.topics[0].partitions.iter();
        partitions.map(|p| (p.partition_index, (p.error_code, p.leader_id, p.offline_replicas.clone()))).collect()
    }

    /// By log directory: error, how many partitions.
    fn log_dirs(&self) -> Vec<(i16, usize)> {
        let answer = self.call(&DescribeLogDirsRequest { topics: None }, 4);
        let (_, response) = decode_response::<DescribeLogDirsResponse>(&answer, 4).expect("it reads");
        let count = |topics: &[gannet::protocol::describe_log_dirs::DescribeLogDirsTopic]| {
            topics.iter().map(|topic| topic.partitions.len()).sum()
        };
        response.results.iter().map(|dir| (dir.error_code, count(&dir.topics))).collect()
    }

    /// The errors that groups get which look for their coordinator.
    fn coordinators(&self) -> Vec<i16> {
        let groups: Vec<String> = (0..16).map(|number| format!("group {number}")).collect();
        let coordinator_keys = groups.iter().map(String::as_str).collect();
        let answer = self.call(&FindCoordinatorRequest { coordinator_keys, ..Default::default() }, 4);
        let (_, response) = decode_response::<FindCoordinatorResponse>(&answer, 4).expect("it reads");
        response.coordinators.iter().map(|coordinator| coordinator.error_code).collect()
    }

    fn check(&self, partitions: impl Iterator<Item = i32>) {
        for partition in partitions {
            let found: Vec<_> =
                self.broker.read_all("spread", partition).into_iter().map(|(_, payload)| payload).collect();
            let expected = self.acknowledged.get(&partition).cloned().unwrap_or_default();
            assert!(found == expected, "partition {partition}: {} of {} records", found.len(), expected.len());
        }
    }

    fn check_offline(&mut self, lost: &[i32]) {
        for partition in 0..PARTITIONS {
            let is_lost = lost.contains(&partition);
            let expected = if is_lost { STORAGE_ERROR } else { 0 };
            assert_eq!(self.produce(partition, b"while it is offline"), expected, "partition {partition}");
            let leaderless = (ErrorCode::LeaderNotAvailable.code(), -1, vec![1]);
            let told = self.metadata().remove(&partition).expect("all are told");
            assert_eq!(told, if is_lost { leaderless } else { (0, 1, Vec::new()) }, "partition {partition}");
        }
        assert_eq!(self.log_dirs()[1], (STORAGE_ERROR, 0));
        self.check((0..PARTITIONS).filter(|partition| !lost.contains(partition)));
    }
}

#[test]
fn a_log_directory_that_fails_takes_its_own_partitions_with_it_and_gives_them_back() {
    let mut node = Node::start();
    node.broker.create_topic("spread", PARTITIONS);
    node.fill(0..PARTITIONS, "before");
    assert!(node.coordinators().iter().all(|error| *error == 0), "all groups have one");
    let lost = Node::partitions_in(&node.second);
    assert_eq!(lost.len() + Node::partitions_in(&node.first).len(), PARTITIONS as usize);
    assert!(!lost.is_empty() && lost.len() < PARTITIONS as usize, "{lost:?} are in the second one");

    node.break_second();
    // What was written stays readable through open files: it is a new file that finds out.
    node.broker.create_topic("other", PARTITIONS);
    let begin = Instant::now();
    while lost.iter().any(|partition| node.metadata()[partition].0 == 0) {
        assert!(begin.elapsed() < PATIENCE, "nobody notices:\n{}", node.broker.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(node.broker.log().contains("a log directory failed"), "{}", node.broker.log());
    node.check_offline(&lost);
    let mut errors = node.coordinators();
    errors.sort_unstable();
    errors.dedup();
    assert_eq!(errors, [0, ErrorCode::CoordinatorNotAvailable.code()], "some groups have one");
    let mut own = std::fs::read_dir(node.first.join(".gannet")).expect("there").flatten();
    assert!(own.any(|file| file.file_name().to_string_lossy().starts_with("kept-")));

    node.broker.kill();
    node.broker.restart();
    assert!(node.broker.log().contains("a log directory is offline"));
    node.check_offline(&lost);
    assert!(node.broker.terminate().success(), "{}", node.broker.log());

    node.repair_second();
    node.broker.restart();
    node.check(0..PARTITIONS);
    node.fill(0..PARTITIONS, "after");
    node.check(0..PARTITIONS);
    assert_eq!(node.log_dirs().iter().map(|(error, _)| *error).collect::<Vec<_>>(), [0, 0]);
    assert!(node.coordinators().iter().all(|error| *error == 0), "all groups have one again");
}

#[test]
fn a_log_directory_that_is_not_mounted_is_not_taken_for_an_empty_one() {
    let mut node = Node::start();
    node.broker.create_topic("spread", PARTITIONS);
    node.fill(0..PARTITIONS, "before");
    let lost = Node::partitions_in(&node.second);
    node.broker.kill();
    std::fs::rename(&node.second, node.aside()).expect("moved");
    std::fs::create_dir(&node.second).expect("an empty mount point");
    node.broker.restart();
    assert!(node.broker.log().contains("mount its device"), "{}", node.broker.log());
    node.check_offline(&lost);
    node.broker.kill();
    node.repair_second();
    node.broker.restart();
    node.check(0..PARTITIONS);
}

#[test]
fn without_its_first_log_directory_the_broker_does_not_start() {
    let mut node = Node::start();
    node.broker.kill();
    std::fs::remove_dir_all(&node.first).expect("removed");
    std::fs::write(&node.first, "in the way").expect("written");
    let output = node.broker.serve_command().output().expect("our own binary");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("holds the journals and the metadata log"), "{text}");
}
