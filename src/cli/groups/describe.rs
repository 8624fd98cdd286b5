//! `gannet groups describe`: how far a group has read, how far it is behind, and who reads which partition.

use std::collections::{BTreeMap, BTreeSet};

use super::{LATEST, Place, all_groups, committed, coordinator, offsets_at};
use crate::cli::ClusterArguments;
use crate::cli::connection::Client;
use crate::cli::failure::{Failure, code_of, describe as describe_error};
use crate::error_code::ErrorCode;
use crate::protocol::consumer_protocol::ConsumerProtocolAssignment;
use crate::protocol::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest, DescribeGroupsResponse,
};
use crate::types::{BrokerId, Offset};

/// A group as either protocol shows it.
pub(super) struct Group {
    pub state: String,
    members: Vec<Member>,
}

struct Member {
    id: String,
    host: String,
    client_id: String,
    partitions: Vec<Place>,
}

/// One line of the table.
struct Row {
    place: Option<Place>,
    current: Option<Offset>,
    end: Option<Offset>,
    member: Option<usize>,
}

pub(super) fn run(groups: &[String], cluster: &ClusterArguments) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let groups = match groups {
        [] => all_groups(&mut client)?.into_iter().map(|listed| listed.group).collect(),
        groups => groups.to_vec(),
    };
    let mut text = String::new();
    for group in &groups {
        text += &describe_group(&mut client, group)?;
    }
    Ok(text)
}

fn describe_group(client: &mut Client, name: &str) -> Result<String, Failure> {
    let coordinator = coordinator(client, name)?;
    let group = look_at(client, coordinator, name)?;
    let committed = committed(client, coordinator, name)?;
    let assigned = group.members.iter().flat_map(|member| &member.partitions);
    let places: BTreeSet<Place> = committed.keys().chain(assigned).cloned().collect();
    let places: Vec<Place> = places.into_iter().collect();
    let ends = offsets_at(client, &places, LATEST)?;
    Ok(format_group(name, &group, &rows(&group, &places, &committed, &ends)))
}

/// State and members. A group of the classic protocol is not found by the newer question.
pub(super) fn look_at(client: &mut Client, coordinator: BrokerId, name: &str) -> Result<Group, Failure> {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![name], ..Default::default() };
    if let Ok(response) = client.call_broker(coordinator, &request) {
        let answer: ConsumerGroupDescribeResponse = client.decode(&response)?;
        if let Some(group) = answer.groups.iter().find(|group| group.error_code == 0) {
            let members = group.members.iter().map(|member| Member {
                id: member.member_id.to_owned(),
                host: member.client_host.to_owned(),
                client_id: member.client_id.to_owned(),
                partitions: places(
                    member.assignment.topic_partitions.iter().map(|topic| (topic.topic_name, &topic.partitions)),
                ),
            });
            return Ok(Group { state: group.group_state.to_owned(), members: members.collect() });
        }
    }
    let request = DescribeGroupsRequest { groups: vec![name], ..Default::default() };
    let response = client.call_broker(coordinator, &request)?;
    let answer: DescribeGroupsResponse = client.decode(&response)?;
    let group = answer.groups.first();
    let group = group.ok_or_else(|| Failure::new("the broker did not answer for the group it was asked"))?;
    match code_of(group.error_code) {
        ErrorCode::None if group.group_state == "Dead" => Err(not_found(client, name)),
        ErrorCode::None => {
            let members = group.members.iter().map(|member| Member {
                id: member.member_id.to_owned(),
                host: member.client_host.to_owned(),
                client_id: member.client_id.to_owned(),
                partitions: assigned(member.member_assignment),
            });
            Ok(Group { state: group.group_state.to_owned(), members: members.collect() })
        }
        ErrorCode::GroupIdNotFound => Err(not_found(client, name)),
        code => Err(Failure::new(format_args!(
            "the broker at {} does not describe group '{name}': {}",
            client.address(),
            describe_error(code, group.error_message)
        ))),
    }
}

fn not_found(client: &Client, name: &str) -> Failure {
    Failure::new(format_args!(
        "Consumer group '{name}' does not exist. See which do with: gannet groups list{}",
        client.bootstrap_option()
    ))
}

/// What the leader of a classic group handed out; opaque bytes of a protocol that is not the consumers' show nothing.
fn assigned(assignment: &[u8]) -> Vec<Place> {
    match ConsumerProtocolAssignment::of_bytes(assignment) {
        Ok(assignment) => places(assignment.assigned_partitions.iter().map(|topic| (topic.topic, &topic.partitions))),
        Err(_) => Vec::new(),
    }
}

fn places<'a>(topics: impl Iterator<Item = (&'a str, &'a Vec<i32>)>) -> Vec<Place> {
    topics.flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic.to_owned(), *index))).collect()
}

fn rows(
    group: &Group,
    places: &[Place],
    committed: &BTreeMap<Place, Offset>,
    ends: &BTreeMap<Place, Offset>,
) -> Vec<Row> {
    let of_partitions = places.iter().map(|place| Row {
        place: Some(place.clone()),
        current: committed.get(place).copied(),
        end: ends.get(place).copied(),
        member: group.members.iter().position(|member| member.partitions.contains(place)),
    });
    let idle = group.members.iter().enumerate().filter(|(_, member)| member.partitions.is_empty());
    let of_idle = idle.map(|(index, _)| Row { place: None, current: None, end: None, member: Some(index) });
    of_partitions.chain(of_idle).collect()
}

fn format_group(name: &str, group: &Group, rows: &[Row]) -> String {
    let mut text = match &*group.state {
        "Empty" => format!("\nConsumer group '{name}' has no active members.\n"),
        "Stable" => String::new(),
        _ => format!("\nWarning: Consumer group '{name}' is rebalancing.\n"),
    };
    if rows.is_empty() {
        return text;
    }
    let member = |row: &Row| row.member.map(|index| &group.members[index]);
    let widest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0).max(15);
    let groups = name.len().max(15);
    let topics = widest(&|row| row.place.as_ref().map_or(1, |(topic, _)| topic.len()));
    let ids = widest(&|row| member(row).map_or(1, |member| member.id.len()));
    let hosts = widest(&|row| member(row).map_or(1, |member| member.host.len()));
    let line = |cells: [&str; 9]| {
        let [group, topic, partition, current, end, lag, id, host, client] = cells;
        format!(
            "\n{group:<groups$} {topic:<topics$} {partition:<10} {current:<15} {end:<15} {lag:<15} {id:<ids$} {host:<hosts$} {client}"
        )
    };
    text += &line([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    let shown = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
    for row in rows {
        let (topic, partition) =
            row.place.clone().map_or(("-".to_owned(), "-".to_owned()), |(topic, index)| (topic, index.to_string()));
        let lag = row.current.zip(row.end).map(|(current, end)| end - current);
        let (id, host, client) =
            member(row).map_or(("-", "-", "-"), |member| (&*member.id, &*member.host, &*member.client_id));
        let numbers = [shown(row.current), shown(row.end), shown(lag)];
        text += &line([name, &topic, &partition, &numbers[0], &numbers[1], &numbers[2], id, host, client]);
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_described_in_the_form_of_kafka_s_own_tool() {
        let member = |id: &str, partitions| Member {
            id: id.to_owned(),
            host: "/127.0.0.1".to_owned(),
            client_id: "app".to_owned(),
            partitions,
        };
        let place = |index| ("orders".to_owned(), index);
        let group = Group {
            state: "Stable".to_owned(),
            members: vec![member("app-1", vec![place(0)]), member("app-2", vec![])],
        };
        let committed = BTreeMap::from([(place(0), 7), (place(1), 3)]);
        let ends = BTreeMap::from([(place(0), 10), (place(1), 3)]);
        let rows = rows(&group, &[place(0), place(1), place(2)], &committed, &ends);
        let text = format_group("billing", &group, &rows);
        let lines: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..3], ["GROUP", "TOPIC", "PARTITION"]);
        assert_eq!(lines[1], ["billing", "orders", "0", "7", "10", "3", "app-1", "/127.0.0.1", "app"]);
        assert_eq!(lines[2], ["billing", "orders", "1", "3", "3", "0", "-", "-", "-"]);
        assert_eq!(lines[3], ["billing", "orders", "2", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(lines[4], ["billing", "-", "-", "-", "-", "-", "app-2", "/127.0.0.1", "app"]);
        assert!(text.starts_with("\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  "));
    }
}
