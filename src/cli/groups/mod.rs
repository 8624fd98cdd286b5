//! `gannet groups`: list, describe, reset and delete groups, in the form of Kafka's own tool. Here are the command lines and
//! what all of them ask; `describe` and `reset` have files of their own.

mod describe;
mod reset;

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};

use super::ClusterArguments;
use super::connection::Client;
use super::failure::{Failure, code_of, describe as describe_error};
use crate::error_code::ErrorCode;
use crate::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::offset_fetch::OffsetFetchRequestGroup;
use crate::protocol::{
    DeleteGroupsRequest, DeleteGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, ListGroupsRequest,
    ListGroupsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use crate::types::{BrokerId, Offset, Timestamp};

const LATEST: Timestamp = -1;
const EARLIEST: Timestamp = -2;

#[derive(Args, Debug)]
pub struct GroupsArguments {
    #[command(subcommand)]
    command: GroupsCommand,
}

#[derive(Subcommand, Debug)]
enum GroupsCommand {
    /// Print the id of every group
    List {
        /// Print type and state too
        #[arg(long)]
        state: bool,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Print how far groups have read and who reads
    Describe {
        /// Groups to describe; all of them if none is named
        groups: Vec<String>,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Move a group without members to other offsets; prints them, and does it with --execute
    ResetOffsets(reset::ResetArguments),
    /// Delete groups without members, and their offsets
    Delete {
        /// Groups to delete
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
}

/// Topic and partition.
type Place = (String, i32);

pub fn run(arguments: GroupsArguments) -> Result<(), Failure> {
    let printed = match arguments.command {
        GroupsCommand::List { state, cluster } => list(state, &cluster)?,
        GroupsCommand::Describe { groups, cluster } => describe::run(&groups, &cluster)?,
        GroupsCommand::ResetOffsets(arguments) => reset::run(&arguments)?,
        GroupsCommand::Delete { groups, cluster } => delete(&groups, &cluster)?,
    };
    let mut out = std::io::stdout().lock();
    out.write_all(printed.as_bytes()).and_then(|()| out.flush()).map_err(Failure::of_output)
}

struct Listed {
    group: String,
    kind: String,
    state: String,
}

/// Every broker knows the groups that it coordinates.
fn all_groups(client: &mut Client) -> Result<Vec<Listed>, Failure> {
    let brokers: Vec<BrokerId> = client.refresh(Some(&[]))?.brokers.keys().copied().collect();
    let mut groups = Vec::new();
    for broker in brokers {
        let response = client.call_broker(broker, &ListGroupsRequest::default())?;
        let answer: ListGroupsResponse = client.decode(&response)?;
        super::connection::check(client.address(), "the list of groups", answer.error_code)?;
        groups.extend(answer.groups.iter().map(|group| Listed {
            group: group.group_id.to_owned(),
            kind: group.group_type.to_owned(),
            state: group.group_state.to_owned(),
        }));
    }
    groups.sort_by(|one, other| one.group.cmp(&other.group));
    Ok(groups)
}

fn list(state: bool, cluster: &ClusterArguments) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let groups = all_groups(&mut client)?;
    if !state {
        return Ok(groups.iter().map(|listed| format!("{}\n", listed.group)).collect());
    }
    let width = groups.iter().map(|listed| listed.group.len()).max().unwrap_or(0).max(15);
    let row = |group: &str, kind: &str, state: &str| format!("{group:<width$} {kind:<20} {state:<20}\n");
    let rows: String = groups.iter().map(|listed| row(&listed.group, &listed.kind, &listed.state)).collect();
    Ok(row("GROUP", "TYPE", "STATE") + &rows)
}

fn delete(groups: &[String], cluster: &ClusterArguments) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let mut failures = Vec::new();
    let mut deleted = Vec::new();
    for group in groups {
        let coordinator = coordinator(&mut client, group)?;
        let response = client.call_broker(coordinator, &DeleteGroupsRequest { groups_names: vec![group] })?;
        let answer: DeleteGroupsResponse = client.decode(&response)?;
        match answer.results.first().map_or(ErrorCode::UnknownServerError, |result| code_of(result.error_code)) {
            ErrorCode::None => deleted.push(format!("'{group}'")),
            code => failures.push(format!("group '{group}' was not deleted: {}", describe_error(code, None))),
        }
    }
    if !failures.is_empty() {
        return Err(Failure::new(failures.join("\n")));
    }
    Ok(format!("Deletion of requested consumer groups ({}) was successful.\n", deleted.join(", ")))
}

fn coordinator(client: &mut Client, group: &str) -> Result<BrokerId, Failure> {
    // Up to version 3 one key, from 4 on many: the session writes those that its version has.
    let request = FindCoordinatorRequest { key: group, key_type: 0, coordinator_keys: vec![group] };
    let response = client.call(&request)?;
    let answer: FindCoordinatorResponse = client.decode(&response)?;
    let (code, message, node_id) = match answer.coordinators.first() {
        Some(found) => (found.error_code, found.error_message, found.node_id),
        None => (answer.error_code, answer.error_message, answer.node_id),
    };
    match code_of(code) {
        ErrorCode::None => {
            client.refresh(Some(&[]))?;
            Ok(node_id)
        }
        code => Err(Failure::new(format_args!(
            "the broker at {} does not tell who coordinates group '{group}': {}",
            client.address(),
            describe_error(code, message)
        ))),
    }
}

/// What a group has committed.
fn committed(client: &mut Client, coordinator: BrokerId, group: &str) -> Result<BTreeMap<Place, Offset>, Failure> {
    let of_group = OffsetFetchRequestGroup { group_id: group, topics: None, ..Default::default() };
    let request = OffsetFetchRequest { group_id: group, topics: None, groups: vec![of_group], require_stable: false };
    let names: BTreeMap<_, _> =
        client.refresh(None)?.topics.iter().map(|(name, topic)| (topic.id, name.clone())).collect();
    let response = client.call_broker(coordinator, &request)?;
    let answer: OffsetFetchResponse = client.decode(&response)?;
    let what = format!("the offsets of group '{group}'");
    let mut offsets = BTreeMap::new();
    super::connection::check(client.address(), &what, answer.error_code)?;
    for topic in &answer.topics {
        let of_topic = topic.partitions.iter().filter(|partition| partition.committed_offset >= 0);
        offsets.extend(of_topic.map(|p| ((topic.name.to_owned(), p.partition_index), p.committed_offset)));
    }
    for of_group in &answer.groups {
        super::connection::check(client.address(), &what, of_group.error_code)?;
        for topic in &of_group.topics {
            let name = names.get(&topic.topic_id).cloned().unwrap_or_else(|| topic.name.to_owned());
            let of_topic = topic.partitions.iter().filter(|partition| partition.committed_offset >= 0);
            offsets.extend(of_topic.map(|p| ((name.clone(), p.partition_index), p.committed_offset)));
        }
    }
    Ok(offsets)
}

/// The offsets at this time, of the partitions that have a leader. Knows topics from the last refresh.
fn offsets_at(client: &mut Client, places: &[Place], timestamp: Timestamp) -> Result<BTreeMap<Place, Offset>, Failure> {
    let mut by_leader: BTreeMap<BrokerId, BTreeMap<&str, Vec<ListOffsetsPartition>>> = BTreeMap::new();
    for (topic, index) in places {
        let known = client.cluster.topics.get(topic);
        let partition = known.and_then(|topic| topic.partitions.iter().find(|partition| partition.index == *index));
        let Some(leader) = partition.and_then(|partition| partition.leader) else { continue };
        let asked = ListOffsetsPartition { partition_index: *index, current_leader_epoch: -1, timestamp };
        by_leader.entry(leader).or_default().entry(topic).or_default().push(asked);
    }
    let mut offsets = BTreeMap::new();
    for (leader, topics) in by_leader {
        let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name, partitions });
        let request = ListOffsetsRequest { replica_id: -1, topics: topics.collect(), ..Default::default() };
        let response = client.call_broker(leader, &request)?;
        let answer: ListOffsetsResponse = client.decode(&response)?;
        for topic in &answer.topics {
            let found = topic.partitions.iter().filter(|partition| partition.error_code == 0);
            offsets.extend(found.map(|p| ((topic.name.to_owned(), p.partition_index), p.offset)));
        }
    }
    Ok(offsets)
}
