//! What clients are told about topics, against a controller whose decisions are applied at once.

use super::*;
use crate::coordinator::ControllerRequest;
use crate::coordinator::controller::tests::{Cluster, topic};
use crate::metadata::BrokerRecord;

/// The first topic's answer, as a client sees it.
fn refused(cluster: &mut Cluster, topic: NewTopic) -> (ErrorCode, String) {
    let refusal = cluster.create(topic).expect_err("refused");
    (refusal.error_code, refusal.message)
}

fn create(cluster: &mut Cluster, topics: Vec<NewTopic>, validate_only: bool) -> Vec<CreateTopicResult> {
    match cluster.handle(ControllerRequest::CreateTopics { topics, validate_only }) {
        ControllerReply::CreateTopics(results) => results,
        other => panic!("{other:?}"),
    }
}

fn delete(cluster: &mut Cluster, topics: Vec<TopicReference>) -> Vec<DeleteTopicResult> {
    match cluster.handle(ControllerRequest::DeleteTopics { topics }) {
        ControllerReply::DeleteTopics(results) => results,
        other => panic!("{other:?}"),
    }
}

fn grow(cluster: &mut Cluster, count: i32, assignments: Option<Vec<Vec<BrokerId>>>) -> Result<(), Refusal> {
    let topics = vec![NewPartitions { name: "orders".to_owned(), count, assignments }];
    match cluster.handle(ControllerRequest::CreatePartitions { topics, validate_only: false }) {
        ControllerReply::CreatePartitions(mut results) => results.remove(0).outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_gets_the_default_partitions_with_leaders_in_sync() {
    let mut cluster = Cluster::of(1);
    let created = cluster.create(topic("orders")).expect("created");
    assert_eq!((created.partitions, created.replication_factor), (3, 1));
    let topic = cluster.image.topic("orders").expect("created");
    assert_eq!((topic.id, topic.partitions.len()), (created.id, 3));
    for partition in &topic.partitions {
        assert_eq!((partition.leader, &*partition.isr, &*partition.replicas), (Some(1), &[1][..], &[1][..]));
    }
}

#[test]
fn replicas_are_spread_over_brokers_without_meeting() {
    let mut cluster = Cluster::of(3);
    cluster.create(NewTopic { partitions: 6, replication_factor: 2, ..topic("orders") }).expect("created");
    let topic = cluster.image.topic("orders").expect("created");
    let mut replicas_of = [0; 4];
    for partition in &topic.partitions {
        assert_ne!(partition.replicas[0], partition.replicas[1]);
        assert_eq!(partition.leader, Some(partition.replicas[0]));
        partition.replicas.iter().for_each(|broker| replicas_of[*broker as usize] += 1);
    }
    assert_eq!(replicas_of, [0, 4, 4, 4]);
}

#[test]
fn a_fenced_broker_gets_no_replica_and_leads_nothing() {
    let mut cluster = Cluster::of(2);
    let fenced =
        BrokerRecord { id: 2, incarnation: Uuid::ZERO, epoch: 5, endpoints: Vec::new(), rack: None, fenced: true };
    cluster.image.apply(&MetadataRecord::Broker(fenced)).expect("registered");
    let (error_code, message) = refused(&mut cluster, NewTopic { replication_factor: 2, ..topic("orders") });
    assert_eq!(error_code, ErrorCode::InvalidReplicationFactor, "{message}");
    let (error_code, message) = refused(&mut cluster, NewTopic { assignments: vec![(0, vec![2])], ..topic("orders") });
    assert_eq!(error_code, ErrorCode::InvalidReplicaAssignment, "{message}");
    cluster.create(NewTopic { assignments: vec![(0, vec![2, 1])], ..topic("orders") }).expect("broker 1 lives");
    let partition = &cluster.image.topic("orders").expect("created").partitions[0];
    assert_eq!((partition.leader, &*partition.isr, &*partition.replicas), (Some(1), &[1][..], &[2, 1][..]));
}

#[test]
fn impossible_topics_are_refused_in_kafkas_words() {
    let mut cluster = Cluster::of(1);
    cluster.create(topic("orders")).expect("created");
    cluster.create(topic("a.b")).expect("created");
    let cases = [
        (topic("orders"), ErrorCode::TopicAlreadyExists, "Topic 'orders' already exists."),
        (topic("a_b"), ErrorCode::InvalidTopicException, "Topic 'a_b' collides with existing topic: a.b"),
        (topic(".."), ErrorCode::InvalidTopicException, "Topic name is invalid: '..' is not allowed"),
        (
            topic("__cluster_metadata"),
            ErrorCode::InvalidRequest,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (
            NewTopic { partitions: 0, ..topic("new") },
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            NewTopic { replication_factor: 2, ..topic("new") },
            ErrorCode::InvalidReplicationFactor,
            "Replication factor: 2 larger than available brokers: 1.",
        ),
        (
            NewTopic { replication_factor: 0, ..topic("new") },
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            NewTopic { configs: vec![("retention.ms".to_owned(), None)], ..topic("new") },
            ErrorCode::InvalidConfig,
            "Null value not supported for topic configs: retention.ms",
        ),
    ];
    for (key, value) in [("retention.ms", "soon"), ("retention", "1000")] {
        let configs = vec![(key.to_owned(), Some(value.to_owned()))];
        let (error_code, message) = refused(&mut cluster, NewTopic { configs, ..topic("new") });
        assert_eq!(error_code, ErrorCode::InvalidConfig);
        assert!(message.contains(key), "{message}");
    }
    for (topic, error_code, message) in cases {
        assert_eq!(refused(&mut cluster, topic), (error_code, message.to_owned()));
    }
    assert_eq!(cluster.image.topic_count(), 2);
}

#[test]
fn a_manual_assignment_is_taken_or_refused_with_its_fault() {
    let mut cluster = Cluster::of(2);
    let assigned = |assignments: &[(i32, &[BrokerId])]| NewTopic {
        assignments: assignments.iter().map(|(index, replicas)| (*index, replicas.to_vec())).collect(),
        ..topic("orders")
    };
    let cases = [
        (NewTopic { partitions: 1, ..assigned(&[(0, &[1])]) }, "numPartitions was not set to -1"),
        (NewTopic { replication_factor: 1, ..assigned(&[(0, &[1])]) }, "replication factor was not set to -1"),
        (assigned(&[(0, &[])]), "an empty replica list"),
        (assigned(&[(0, &[7])]), "includes broker 7, but no such broker is registered"),
        (assigned(&[(0, &[1, 1])]), "the broker 1 more than once"),
        (assigned(&[(0, &[1, 2]), (1, &[1])]), "not consistent with previous partitions, which have 2 replica(s)"),
        (assigned(&[(0, &[1]), (0, &[2])]), "multiple manual partition assignments for partition 0"),
        (assigned(&[(0, &[1]), (2, &[2])]), "consecutive 0-based"),
        (assigned(&[(-1, &[1]), (0, &[2])]), "consecutive 0-based"),
    ];
    for (topic, sentence) in cases {
        let (_, message) = refused(&mut cluster, topic);
        assert!(message.contains(sentence), "{message}");
    }
    let created = cluster.create(assigned(&[(1, &[2, 1]), (0, &[1, 2])])).expect("sound");
    assert_eq!((created.partitions, created.replication_factor), (2, 2));
    let topic = cluster.image.topic("orders").expect("created");
    assert_eq!((topic.partitions[0].leader, topic.partitions[1].leader), (Some(1), Some(2)));
}

#[test]
fn topics_of_one_request_stand_or_fall_each_by_itself() {
    let mut cluster = Cluster::of(1);
    let topics = ["good", "twice", "bad name", "twice", "a.b", "a_b"].map(topic).to_vec();
    let results = create(&mut cluster, topics, false);
    let codes: Vec<(&str, ErrorCode)> = results
        .iter()
        .map(|result| {
            (&*result.name, result.outcome.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.error_code))
        })
        .collect();
    assert_eq!(
        codes,
        [
            ("good", ErrorCode::None),
            ("twice", ErrorCode::InvalidRequest),
            ("bad name", ErrorCode::InvalidTopicException),
            ("a.b", ErrorCode::None),
            ("a_b", ErrorCode::InvalidTopicException),
        ]
    );
    assert_eq!(cluster.image.topic_count(), 2);
}

#[test]
fn to_validate_only_changes_nothing_and_says_the_same() {
    let mut cluster = Cluster::of(1);
    let results = create(&mut cluster, vec![topic("orders"), topic("..")], true);
    let created = results[0].outcome.as_ref().expect("possible");
    assert_eq!((created.id, created.partitions), (Uuid::ZERO, 3));
    assert!(results[1].outcome.is_err());
    assert_eq!(cluster.image.topic_count(), 0);
}

#[test]
fn settings_come_with_the_topic() {
    let mut cluster = Cluster::of(1);
    let configs = vec![("retention.ms".to_owned(), Some("1000".to_owned()))];
    let created = cluster.create(NewTopic { configs, ..topic("orders") }).expect("created");
    assert_eq!(created.configs["retention.ms"], "1000");
    let orders = cluster.image.topic("orders").expect("created");
    assert_eq!((&orders.configs, orders.config.retention_ms), (&created.configs, 1000));
}

#[test]
fn the_limit_on_partitions_counts_those_of_all_topics_and_says_what_to_do() {
    let mut cluster = Cluster::of(1);
    let topics = ["a", "b"].map(|name| NewTopic { partitions: 60, ..topic(name) }).to_vec();
    let results = create(&mut cluster, topics, false);
    assert!(results[0].outcome.is_ok());
    let refusal = results[1].outcome.clone().expect_err("120 are too many");
    assert_eq!(refusal.error_code, ErrorCode::PolicyViolation);
    assert!(refusal.message.contains("would make 120 in all, and the limit is 100"), "{}", refusal.message);
    assert!(refusal.message.contains("gannet.partitions.max"), "{}", refusal.message);
    let (error_code, _) = refused(&mut cluster, NewTopic { partitions: i32::MAX, ..topic("huge") });
    assert_eq!(error_code, ErrorCode::PolicyViolation);
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let mut cluster = Cluster::of(1);
    cluster.create(topic("orders")).expect("created");
    let audit = cluster.create(topic("audit")).expect("created").id;
    let results = delete(&mut cluster, vec![TopicReference::by_name("orders"), TopicReference::by_id(audit)]);
    assert!(results.iter().all(|result| result.outcome.is_ok()));
    assert_eq!(results[1].name.as_deref(), Some("audit"));
    assert_eq!((cluster.image.topic_count(), cluster.image.partition_count()), (0, 0));
}

#[test]
fn what_cannot_be_deleted_is_said_topic_by_topic() {
    let mut cluster = Cluster::of(1);
    let orders = cluster.create(topic("orders")).expect("created").id;
    let unknown = Uuid([9; 16]);
    let both = TopicReference { name: Some("orders".to_owned()), id: orders };
    let neither = TopicReference { name: None, id: Uuid::ZERO };
    let topics = vec![
        TopicReference::by_name("nowhere"),
        TopicReference::by_id(unknown),
        both,
        neither,
        TopicReference::by_name("twice"),
        TopicReference::by_name("twice"),
    ];
    let results = delete(&mut cluster, topics);
    let codes: Vec<ErrorCode> =
        results.iter().map(|result| result.outcome.clone().expect_err("refused").error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicId,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
        ]
    );
    assert!(cluster.image.topic("orders").is_some());
}

#[test]
fn a_topic_named_and_numbered_in_one_request_is_deleted_once() {
    let mut cluster = Cluster::of(1);
    let orders = cluster.create(topic("orders")).expect("created").id;
    let results = delete(&mut cluster, vec![TopicReference::by_id(orders), TopicReference::by_name("orders")]);
    assert!(results[0].outcome.is_ok());
    assert_eq!(results[1].outcome.clone().expect_err("again").error_code, ErrorCode::InvalidRequest);
}

#[test]
fn deletion_can_be_disabled() {
    let mut cluster = Cluster::of(1);
    cluster.create(topic("orders")).expect("created");
    Arc::make_mut(&mut cluster.controller.config).delete_topic_enable = false;
    let results = delete(&mut cluster, vec![TopicReference::by_name("orders")]);
    assert_eq!(results[0].outcome.clone().expect_err("disabled").error_code, ErrorCode::TopicDeletionDisabled);
    assert!(cluster.image.topic("orders").is_some());
}

#[test]
fn partitions_are_added_behind_those_that_are() {
    let mut cluster = Cluster::of(2);
    cluster.create(topic("orders")).expect("created");
    let before = cluster.image.topic("orders").expect("created").partitions.clone();
    grow(&mut cluster, 5, None).expect("more");
    grow(&mut cluster, 6, Some(vec![vec![2]])).expect("one more");
    let after = &cluster.image.topic("orders").expect("created").partitions;
    assert_eq!((after.len(), &after[..3], after[5].leader), (6, &before[..], Some(2)));
}

#[test]
fn partitions_never_become_fewer() {
    let mut cluster = Cluster::of(1);
    cluster.create(topic("orders")).expect("created");
    let mut message = |count, assignments| grow(&mut cluster, count, assignments).expect_err("refused").message;
    assert_eq!(message(3, None), "Topic already has 3 partition(s).");
    let fewer = "The topic orders currently has 3 partition(s); 2 would not be an increase.";
    assert_eq!(message(2, None), fewer);
    assert_eq!(message(i32::MIN, None), fewer.replace('2', "-2147483648"));
    assert_eq!(
        message(5, Some(vec![vec![1]])),
        "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."
    );
    assert!(message(4, Some(vec![vec![7]])).contains("no such broker is registered"));
    assert!(message(i32::MAX, None).contains("the limit is 100"));
    assert_eq!(cluster.image.partition_count(), 3);
}
