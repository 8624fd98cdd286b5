//! ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments, for as long as a partition has the one replica that
//! leads it: nothing is ever under way, an election is not needed, and only the placement that is there already can be had.
//! Errors and sentences are Kafka's.

use super::connection::Caller;
use super::offline::Offline;
use super::{Effect, Shard};
use crate::error_code::ErrorCode;
use crate::metadata::{MetadataImage, Nodes};
use crate::protocol::alter_partition_reassignments::*;
use crate::protocol::elect_leaders::*;
use crate::protocol::list_partition_reassignments::*;
use crate::protocol::{DecodeError, Reader};
use crate::types::{BrokerId, PartitionId};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

type Refused = (ErrorCode, String);

impl Shard {
    pub(super) fn on_elect_leaders(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ElectLeadersRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let mut response = ElectLeadersResponse::default();
        let image = self.image.clone();
        let mut outcomes: Vec<(&str, Vec<(i32, Refused)>)> = Vec::new();
        if !matches!(request.election_type, PREFERRED | UNCLEAN) {
            response.error_code = ErrorCode::InvalidRequest.code();
        } else if let Some(topics) = &request.topic_partitions {
            for topic in topics {
                let outcome = |&index| (index, elect(&image, &self.offline, request.election_type, topic.topic, index));
                outcomes.push((topic.topic, topic.partitions.iter().map(outcome).collect()));
            }
        } else {
            // Of all partitions only those are told that would have needed one.
            for topic in image.topics() {
                let indexes = 0..topic.partitions.len() as i32;
                let all = indexes
                    .map(|index| (index, elect(&image, &self.offline, request.election_type, &topic.name, index)));
                let told: Vec<_> = all.filter(|(_, refused)| refused.0 != ErrorCode::ElectionNotNeeded).collect();
                if !told.is_empty() {
                    outcomes.push((&topic.name, told));
                }
            }
        }
        let results = outcomes.iter().map(|(topic, partitions)| ReplicaElectionResult {
            topic,
            partition_result: partitions
                .iter()
                .map(|(index, (error_code, message))| PartitionResult {
                    partition_id: *index,
                    error_code: error_code.code(),
                    error_message: Some(message),
                })
                .collect(),
        });
        response.replica_election_results = results.collect();
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(super) fn on_alter_partition_reassignments(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = AlterPartitionReassignmentsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let image = self.image.clone();
        let may_change = request.allow_replication_factor_change;
        let nodes = image.nodes(self.listener_of(caller));
        let mut outcomes = Vec::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                outcomes.push(reassign(&image, &nodes, topic.name, partition, may_change).err());
            }
        }
        let mut told = outcomes.iter();
        let responses = request.topics.iter().map(|topic| ReassignableTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(&mut told)
                .map(|(partition, refused)| ReassignablePartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: refused.as_ref().map_or(0, |(error_code, _)| error_code.code()),
                    error_message: refused.as_ref().map(|(_, message)| &**message),
                })
                .collect(),
        });
        let response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: may_change,
            responses: responses.collect(),
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(super) fn on_list_partition_reassignments(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        ListPartitionReassignmentsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let response = ListPartitionReassignmentsResponse::default();
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }
}

/// Why no leader is elected.
fn elect(image: &MetadataImage, offline: &Offline, election_type: i8, name: &str, index: i32) -> Refused {
    let Some(topic) = image.topic(name) else {
        return (ErrorCode::UnknownTopicOrPartition, format!("No such topic as {name}"));
    };
    let Some(state) = topic.partition(index) else {
        return (ErrorCode::UnknownTopicOrPartition, format!("No such partition as {name}-{index}"));
    };
    match offline.leader_of(PartitionId { topic: topic.id, index }, state) {
        Some(_) => (ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.".to_owned()),
        None if election_type == PREFERRED => {
            (ErrorCode::PreferredLeaderNotAvailable, "The preferred leader was not available.".to_owned())
        }
        None => {
            let message = "Eligible topic partition leaders are not available.";
            (ErrorCode::EligibleLeadersNotAvailable, message.to_owned())
        }
    }
}

/// Whether the partition has these replicas already; no other can be given to it.
fn reassign(
    image: &MetadataImage,
    nodes: &Nodes<'_>,
    name: &str,
    wanted: &ReassignablePartition,
    may_change_count: bool,
) -> Result<(), Refused> {
    let unknown = |message| Err((ErrorCode::UnknownTopicOrPartition, message));
    let Some(topic) = image.topic(name) else { return unknown(format!("Unable to find a topic named {name}.")) };
    let index = wanted.partition_index;
    let Some(state) = topic.partition(index) else {
        return unknown(format!("Unable to find partition {name}:{index}."));
    };
    let Some(replicas) = &wanted.replicas else {
        let message = "No partition reassignment is in progress.".to_owned();
        return Err((ErrorCode::NoReassignmentInProgress, message));
    };
    check_assignment(image, replicas).map_err(|message| (ErrorCode::InvalidReplicaAssignment, message))?;
    if !may_change_count && replicas.len() != state.replicas.len() {
        let (present, wanted) = (state.replicas.len(), replicas.len());
        let message = format!("The replication factor is changed from {present} to {wanted}");
        return Err((ErrorCode::InvalidReplicationFactor, message));
    }
    let id = PartitionId { topic: topic.id, index };
    let present: Vec<_> = state.replicas.iter().map(|broker| nodes.of(*broker, id)).collect();
    if *replicas != present {
        let message = format!("Partition {name}-{index} stays on {present:?}: replicas are not moved yet.");
        return Err((ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(())
}

fn check_assignment(image: &MetadataImage, replicas: &[BrokerId]) -> Result<(), String> {
    if replicas.is_empty() {
        return Err("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (place, broker) in sorted.iter().enumerate() {
        if image.broker_of_node(*broker).is_none() {
            return Err(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
        if place > 0 && sorted[place - 1] == *broker {
            return Err(format!("The manual partition assignment includes the broker {broker} more than once."));
        }
    }
    Ok(())
}
