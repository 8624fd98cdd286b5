//! `gannet groups reset-offsets`: where a group without members goes on reading.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args};

use super::describe::look_at;
use super::{EARLIEST, LATEST, Place, committed, coordinator, offsets_at};
use crate::cli::connection::Client;
use crate::cli::failure::{Failure, code_of, describe as describe_error};
use crate::cli::{ClusterArguments, time};
use crate::error_code::ErrorCode;
use crate::protocol::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::protocol::{OffsetCommitRequest, OffsetCommitResponse};
use crate::types::{BrokerId, Offset, Timestamp};

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("target").required(true).multiple(false))]
#[command(group = ArgGroup::new("scope").required(true).multiple(false))]
pub struct ResetArguments {
    /// The group to move
    group: String,
    /// A topic, or some of its partitions as TOPIC:0,1; may be given several times
    #[arg(long, group = "scope", value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<String>,
    /// Every topic that the group has committed offsets of
    #[arg(long, group = "scope")]
    all_topics: bool,
    /// To the first record there is
    #[arg(long, group = "target")]
    to_earliest: bool,
    /// To the end
    #[arg(long, group = "target")]
    to_latest: bool,
    /// To where it is, for what has moved out of reach
    #[arg(long, group = "target")]
    to_current: bool,
    /// To this offset
    #[arg(long, group = "target", value_name = "OFFSET")]
    to_offset: Option<Offset>,
    /// By so many records, back if negative
    #[arg(long, group = "target", value_name = "RECORDS", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record that is not older than this
    #[arg(long, group = "target", value_name = "TIME", value_parser = time::parse)]
    to_datetime: Option<Timestamp>,
    /// Do it, rather than print what would be done
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

pub(super) fn run(arguments: &ResetArguments) -> Result<String, Failure> {
    let group = &*arguments.group;
    let mut client = Client::connect(&arguments.cluster.bootstrap_server)?;
    let coordinator = coordinator(&mut client, group)?;
    check_inactive(&mut client, coordinator, group)?;
    let present = committed(&mut client, coordinator, group)?;
    let places = places(&client, arguments, &present)?;
    let target = targets(&mut client, arguments, &places, &present)?;
    if arguments.execute {
        commit(&mut client, coordinator, group, &target)?;
    }
    Ok(format_offsets(group, &target))
}

/// Who reads would go on from where it is and overwrite what is set here. A group that does not exist yet is made.
fn check_inactive(client: &mut Client, coordinator: BrokerId, group: &str) -> Result<(), Failure> {
    match look_at(client, coordinator, group) {
        Ok(found) if found.state != "Empty" => Err(Failure::new(format_args!(
            "offsets can only be reset while group '{group}' is inactive, and its state is {}: stop its members first",
            found.state
        ))),
        _ => Ok(()),
    }
}

fn places(
    client: &Client,
    arguments: &ResetArguments,
    present: &BTreeMap<Place, Offset>,
) -> Result<Vec<Place>, Failure> {
    if arguments.all_topics {
        return Ok(present.keys().cloned().collect());
    }
    let mut places = Vec::new();
    for text in &arguments.topic {
        let (name, indexes) = text.split_once(':').map_or((&**text, None), |(name, indexes)| (name, Some(indexes)));
        let topic = client.cluster.topics.get(name);
        let topic = topic.ok_or_else(|| Failure::new(format_args!("topic {name} does not exist")))?;
        let known = || topic.partitions.iter().map(|partition| partition.index);
        match indexes {
            None => places.extend(known().map(|index| (name.to_owned(), index))),
            Some(indexes) => {
                for index in indexes.split(',') {
                    let found = index.trim().parse().ok().filter(|index| known().any(|known| known == *index));
                    let found = found.ok_or_else(|| {
                        Failure::new(format_args!("topic {name} has no partition {index}; it has {}", known().count()))
                    })?;
                    places.push((name.to_owned(), found));
                }
            }
        }
    }
    Ok(places)
}

/// Where each partition shall stand: never outside of what its log holds.
fn targets(
    client: &mut Client,
    arguments: &ResetArguments,
    places: &[Place],
    present: &BTreeMap<Place, Offset>,
) -> Result<BTreeMap<Place, Offset>, Failure> {
    let earliest = offsets_at(client, places, EARLIEST)?;
    let latest = offsets_at(client, places, LATEST)?;
    let at_time = match arguments.to_datetime {
        Some(timestamp) => offsets_at(client, places, timestamp)?,
        None => BTreeMap::new(),
    };
    let mut targets = BTreeMap::new();
    for place in places {
        let (Some(&first), Some(&end)) = (earliest.get(place), latest.get(place)) else {
            let (topic, index) = place;
            return Err(Failure::new(format_args!("partition {index} of topic {topic} has no leader to ask")));
        };
        let now = present.get(place).copied();
        let wanted = match arguments {
            ResetArguments { to_earliest: true, .. } => first,
            ResetArguments { to_latest: true, .. } => end,
            ResetArguments { to_offset: Some(offset), .. } => *offset,
            ResetArguments { shift_by: Some(records), .. } => now.unwrap_or(end).saturating_add(*records),
            // No record that young has the offset -1.
            ResetArguments { to_datetime: Some(_), .. } => {
                at_time.get(place).copied().filter(|offset| *offset >= 0).unwrap_or(end)
            }
            _ => now.unwrap_or(end),
        };
        targets.insert(place.clone(), wanted.clamp(first, end));
    }
    Ok(targets)
}

fn commit(
    client: &mut Client,
    coordinator: BrokerId,
    group: &str,
    target: &BTreeMap<Place, Offset>,
) -> Result<(), Failure> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition_index), committed_offset) in target {
        topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *committed_offset,
            committed_metadata: Some(""),
            ..Default::default()
        });
    }
    let ids: BTreeMap<&str, _> = client.cluster.topics.iter().map(|(name, topic)| (&**name, topic.id)).collect();
    let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
        name,
        topic_id: ids.get(name).copied().unwrap_or_default(),
        partitions,
    });
    let request = OffsetCommitRequest { group_id: group, topics: topics.collect(), ..Default::default() };
    let response = client.call_broker(coordinator, &request)?;
    let answer: OffsetCommitResponse = client.decode(&response)?;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    match partitions.map(|partition| code_of(partition.error_code)).find(|code| *code != ErrorCode::None) {
        None => Ok(()),
        Some(code) => Err(Failure::new(format_args!(
            "the offsets of group '{group}' were not all reset: {}",
            describe_error(code, None)
        ))),
    }
}

fn format_offsets(group: &str, target: &BTreeMap<Place, Offset>) -> String {
    let line = |group: &str, topic: &str, partition: &str, offset: &str| {
        format!("\n{group:<30} {topic:<30} {partition:<10} {offset:<15}")
    };
    let mut text = line("GROUP", "TOPIC", "PARTITION", "NEW-OFFSET");
    for ((topic, index), offset) in target {
        text += &line(group, topic, &index.to_string(), &offset.to_string());
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_offsets_are_printed_in_the_form_of_kafka_s_own_tool() {
        let target = BTreeMap::from([(("orders".to_owned(), 1), 42)]);
        let text = format_offsets("billing", &target);
        let expected = format!(
            "\n{:<30} {:<30} {:<10} {:<15}\n{:<30} {:<30} {:<10} {:<15}\n",
            "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET", "billing", "orders", "1", "42"
        );
        assert_eq!(text, expected);
    }
}
