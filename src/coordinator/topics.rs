//! The controller's decisions on topics: each topic of a request is judged by itself, and refused in Kafka's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::controller::{Controller, ControllerDecision};
use super::topic_name;
use super::{
    ControllerReply, CreatePartitionsResult, CreateTopicResult, CreatedTopic, Decision, DeleteTopicResult,
    NewPartitions, NewTopic, Refusal, TopicReference,
};
use crate::error_code::ErrorCode;
use crate::metadata::{
    ConfigRecord, ConfigResource, MetadataImage, MetadataRecord, PartitionRecord, Topic, TopicRecord,
};
use crate::types::{BrokerId, Map, PartitionId, Set, TopicId, Uuid};

const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Replicas of partitions in the order of their indexes.
type Assignment = Vec<Vec<BrokerId>>;

/// What the topics of one request come to, while they are looked at one by one.
struct Plan {
    records: Vec<MetadataRecord>,
    /// Of all topics, with those planned.
    partitions: usize,
    /// Collision keys of the names that exist, with those planned.
    collisions: Map<String, Arc<str>>,
}

impl Controller {
    pub(super) fn create_topics(
        &mut self,
        image: &MetadataImage,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> ControllerDecision {
        let may_collide = topics.iter().any(|topic| topic_name::collision_key(&topic.name).is_some());
        let existing = image.topics().filter(|_| may_collide);
        let collisions =
            existing.filter_map(|topic| Some((topic_name::collision_key(&topic.name)?, topic.name.clone()))).collect();
        let mut plan = Plan { records: Vec::new(), partitions: image.partition_count(), collisions };
        let mut results = Vec::with_capacity(topics.len());
        for (topic, named) in once_each(topics, |topic| topic.name.clone()) {
            let outcome = match named {
                Named::Once => self.create_topic(image, &topic, &mut plan),
                Named::Again => Err(duplicate_name()),
            };
            let outcome = outcome.map(|created| match validate_only {
                true => CreatedTopic { id: Uuid::ZERO, ..created },
                false => created,
            });
            results.push(CreateTopicResult { name: topic.name, outcome });
        }
        decision(plan.records, validate_only, ControllerReply::CreateTopics(results))
    }

    fn create_topic(
        &mut self,
        image: &MetadataImage,
        topic: &NewTopic,
        plan: &mut Plan,
    ) -> Result<CreatedTopic, Refusal> {
        let collision_key = self.check_name(image, &topic.name, plan)?;
        let configs = check_configs(image, &topic.configs)?;
        let assignment = self.assign(image, topic, plan.partitions)?;
        let leaders = elect(image, &assignment)?;

        let name: Arc<str> = topic.name.as_str().into();
        let id = self.draw_topic_id(image);
        plan.collisions.extend(collision_key.map(|key| (key, name.clone())));
        plan.partitions += assignment.len();
        plan.records.push(MetadataRecord::Topic(TopicRecord { name: name.clone(), id }));
        plan.records.extend(configs.iter().map(|(key, value)| {
            let resource = ConfigResource::Topic(name.clone());
            MetadataRecord::Config(ConfigRecord { resource, key: key.clone(), value: Some(value.clone()) })
        }));
        plan.records.extend(partition_records(id, 0, &assignment, leaders));
        Ok(CreatedTopic {
            id,
            partitions: assignment.len() as i32,
            replication_factor: assignment[0].len() as i16,
            configs,
        })
    }

    /// Gives back what other names must not come to.
    fn check_name(&self, image: &MetadataImage, name: &str, plan: &Plan) -> Result<Option<String>, Refusal> {
        if name == CLUSTER_METADATA_TOPIC {
            let message = format!("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        topic_name::check(name).map_err(|reason| Refusal::new(ErrorCode::InvalidTopicException, reason))?;
        if image.topic(name).is_some() {
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        let key = topic_name::collision_key(name);
        match key.as_ref().and_then(|key| plan.collisions.get(key)) {
            Some(other) => Err(Refusal::new(
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {other}"),
            )),
            None => Ok(key),
        }
    }

    /// The replicas of a new topic, chosen by the client or here. Never empty.
    fn assign(&mut self, image: &MetadataImage, topic: &NewTopic, existing: usize) -> Result<Assignment, Refusal> {
        if !topic.assignments.is_empty() {
            let assignment = manual_assignment(image, topic)?;
            self.check_partitions_max(&topic.name, existing, assignment.len())?;
            return Ok(assignment);
        }
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if topic.partitions < -1 || topic.partitions == 0 {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        let partitions = match topic.partitions {
            -1 => self.config.num_partitions,
            partitions => partitions,
        };
        let replication_factor = match topic.replication_factor {
            -1 => self.config.default_replication_factor,
            replication_factor => i32::from(replication_factor),
        };
        let partitions = usize::try_from(partitions).expect("positive: the default is checked when it is read");
        self.check_partitions_max(&topic.name, existing, partitions)?;
        self.place(image, partitions, replication_factor)
    }

    /// Spreads replicas over the brokers in turn, from a random one on, so that small topics do not all meet on the first.
    fn place(
        &mut self,
        image: &MetadataImage,
        partitions: usize,
        replication_factor: i32,
    ) -> Result<Assignment, Refusal> {
        let brokers: Vec<BrokerId> = image.brokers().filter(|broker| !broker.fenced).map(|broker| broker.id).collect();
        let replicas = usize::try_from(replication_factor).expect("positive: the default is checked when it is read");
        if replicas > brokers.len() {
            let available = brokers.len();
            let message =
                format!("Replication factor: {replication_factor} larger than available brokers: {available}.");
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let start = self.draw_below(brokers.len());
        let replica = |partition, replica| brokers[(start + partition + replica) % brokers.len()];
        Ok((0..partitions).map(|partition| (0..replicas).map(|n| replica(partition, n)).collect()).collect())
    }

    fn check_partitions_max(&self, name: &str, existing: usize, added: usize) -> Result<(), Refusal> {
        let (total, limit) = (existing.saturating_add(added), self.config.gannet.partitions_max as usize);
        if total <= limit {
            return Ok(());
        }
        let message = format!(
            "{added} more partitions for topic '{name}' would make {total} in all, and the limit is {limit}. Ask for \
             fewer, delete topics that nobody uses, or raise gannet.partitions.max and restart the broker."
        );
        Err(Refusal::new(ErrorCode::PolicyViolation, message))
    }

    pub(super) fn delete_topics(&self, image: &MetadataImage, topics: Vec<TopicReference>) -> ControllerDecision {
        let mut deleted = Set::default();
        let mut results = Vec::with_capacity(topics.len());
        for (topic, named) in once_each(topics, |topic| (topic.name.clone(), topic.id)) {
            let found = match (named, &topic.name, topic.id) {
                (Named::Again, Some(_), _) => Err(duplicate_name()),
                (Named::Again, None, id) if id != Uuid::ZERO => {
                    Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic id."))
                }
                _ => self.find_to_delete(image, &topic),
            };
            let found = found.and_then(|found| match deleted.insert(found.id) {
                true => Ok(found),
                false => {
                    let sentence = "The provided topic name maps to an ID that was already supplied.";
                    Err(Refusal::new(ErrorCode::InvalidRequest, sentence))
                }
            });
            results.push(match found {
                Ok(found) => DeleteTopicResult { name: Some(found.name.clone()), id: found.id, outcome: Ok(()) },
                Err(refusal) => {
                    DeleteTopicResult { name: topic.name.map(Arc::from), id: topic.id, outcome: Err(refusal) }
                }
            });
        }
        let deleted = results.iter().filter(|result| result.outcome.is_ok());
        let records = deleted.map(|result| MetadataRecord::RemoveTopic(result.id)).collect();
        Decision { records, reply: ControllerReply::DeleteTopics(results) }
    }

    fn find_to_delete<'a>(&self, image: &'a MetadataImage, topic: &TopicReference) -> Result<&'a Arc<Topic>, Refusal> {
        if !self.config.delete_topic_enable {
            return Err(ErrorCode::TopicDeletionDisabled.into());
        }
        match (&topic.name, topic.id) {
            (None, Uuid::ZERO) => {
                Err(Refusal::new(ErrorCode::InvalidRequest, "Neither topic name nor id were specified."))
            }
            (None, id) => image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId.into()),
            (Some(name), Uuid::ZERO) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition.into()),
            (Some(_), _) => {
                Err(Refusal::new(ErrorCode::InvalidRequest, "You may not specify both topic name and topic id."))
            }
        }
    }

    pub(super) fn create_partitions(
        &mut self,
        image: &MetadataImage,
        topics: Vec<NewPartitions>,
        validate_only: bool,
    ) -> ControllerDecision {
        let mut plan = Plan { records: Vec::new(), partitions: image.partition_count(), collisions: Map::default() };
        let mut results = Vec::with_capacity(topics.len());
        for (topic, named) in once_each(topics, |topic| topic.name.clone()) {
            let outcome = match named {
                Named::Once => self.add_partitions(image, &topic, &mut plan),
                Named::Again => Err(duplicate_name()),
            };
            results.push(CreatePartitionsResult { name: topic.name, outcome });
        }
        decision(plan.records, validate_only, ControllerReply::CreatePartitions(results))
    }

    fn add_partitions(
        &mut self,
        image: &MetadataImage,
        wanted: &NewPartitions,
        plan: &mut Plan,
    ) -> Result<(), Refusal> {
        let topic = image.topic(&wanted.name).ok_or(Refusal::from(ErrorCode::UnknownTopicOrPartition))?;
        let (name, present) = (&wanted.name, topic.partitions.len());
        let refuse = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        let added = match i64::from(wanted.count) - present as i64 {
            0 => return refuse(format!("Topic already has {present} partition(s).")),
            added @ 1.. => added as usize,
            _ => {
                let count = wanted.count;
                let message =
                    format!("The topic {name} currently has {present} partition(s); {count} would not be an increase.");
                return refuse(message);
            }
        };
        self.check_partitions_max(name, plan.partitions, added)?;
        let replication_factor = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
        let assignment = match &wanted.assignments {
            Some(assignments) if assignments.len() != added => {
                let given = assignments.len();
                let message = format!(
                    "Attempted to add {added} additional partition(s), but only {given} assignment(s) were specified."
                );
                return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            Some(assignments) => {
                for replicas in assignments {
                    check_replicas(image, replicas, Some(replication_factor))?;
                }
                assignments.clone()
            }
            None => self.place(image, added, replication_factor as i32)?,
        };
        let leaders = elect(image, &assignment)?;
        plan.partitions += added;
        plan.records.extend(partition_records(topic.id, present, &assignment, leaders));
        Ok(())
    }
}

fn check_configs(
    image: &MetadataImage,
    configs: &[(String, Option<String>)],
) -> Result<BTreeMap<String, String>, Refusal> {
    let without_value: Vec<&str> = configs.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| &**key).collect();
    if !without_value.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", without_value.join(","));
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    let configs = configs.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect();
    match image.config().topic_config(&configs) {
        Ok(_) => Ok(configs),
        Err(error) => Err(Refusal::new(ErrorCode::InvalidConfig, error.sentence())),
    }
}

/// The client's own choice of replicas for a new topic.
fn manual_assignment(image: &MetadataImage, topic: &NewTopic) -> Result<Assignment, Refusal> {
    for (given, what) in
        [(i32::from(topic.replication_factor), "replication factor"), (topic.partitions, "numPartitions")]
    {
        if given != -1 {
            let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    }
    let refuse = |message| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    let mut by_index = BTreeMap::new();
    let mut replication_factor = None;
    for (index, replicas) in &topic.assignments {
        check_replicas(image, replicas, replication_factor)?;
        replication_factor = Some(replicas.len());
        if by_index.insert(*index, replicas.clone()).is_some() {
            return refuse(format!("Found multiple manual partition assignments for partition {index}"));
        }
    }
    if !by_index.keys().copied().eq(0..by_index.len() as i32) {
        return refuse("partitions should be a consecutive 0-based integer sequence".to_owned());
    }
    Ok(by_index.into_values().collect())
}

fn check_replicas(
    image: &MetadataImage,
    replicas: &[BrokerId],
    replication_factor: Option<usize>,
) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refuse("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut seen = Set::default();
    for broker in replicas {
        if image.broker(*broker).is_none() {
            return refuse(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
        if !seen.insert(broker) {
            return refuse(format!("The manual partition assignment includes the broker {broker} more than once."));
        }
    }
    match replication_factor.filter(|expected| *expected != replicas.len()) {
        Some(expected) => refuse(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {expected} replica(s).",
            replicas.len()
        )),
        None => Ok(()),
    }
}

/// In-sync replicas of each partition, the leader first: those of its replicas that live.
fn elect(image: &MetadataImage, assignment: &Assignment) -> Result<Vec<Arc<[BrokerId]>>, Refusal> {
    let lives = |id: &BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let in_sync = assignment.iter().enumerate().map(|(index, replicas)| {
        let isr: Arc<[BrokerId]> = replicas.iter().copied().filter(lives).collect();
        match isr.is_empty() {
            false => Ok(isr),
            true => Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
                     controlled shutdown."
                ),
            )),
        }
    });
    in_sync.collect()
}

fn partition_records(
    topic: TopicId,
    first_index: usize,
    assignment: &Assignment,
    in_sync: Vec<Arc<[BrokerId]>>,
) -> impl Iterator<Item = MetadataRecord> {
    let partitions = (first_index as i32..).zip(assignment.iter().zip(in_sync));
    partitions.map(move |(index, (replicas, isr))| {
        MetadataRecord::Partition(PartitionRecord {
            partition: PartitionId { topic, index },
            replicas: replicas.as_slice().into(),
            leader: Some(isr[0]),
            isr,
            leader_epoch: 0,
            partition_epoch: 0,
        })
    })
}

fn decision(records: Vec<MetadataRecord>, validate_only: bool, reply: ControllerReply) -> ControllerDecision {
    Decision { records: if validate_only { Vec::new() } else { records }, reply }
}

fn duplicate_name() -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")
}

#[derive(Clone, Copy)]
enum Named {
    Once,
    Again,
}

/// The first of those that name the same, in their order, with whether others did.
fn once_each<T, K: std::hash::Hash + Eq>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<(T, Named)> {
    let mut rows: Vec<(T, Named)> = Vec::with_capacity(items.len());
    let mut seen: Map<K, usize> = Map::default();
    for item in items {
        let next = rows.len();
        match *seen.entry(key(&item)).or_insert(next) {
            row if row < next => rows[row].1 = Named::Again,
            _ => rows.push((item, Named::Once)),
        }
    }
    rows
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
