//! `gannet topics`: create, list, describe, delete. `describe` prints in the form of Kafka's own tool.

use std::io::Write;

use clap::{Args, Subcommand};

use super::ClusterArguments;
use super::connection::{Client, check};
use super::failure::{Failure, code_of, describe};
use crate::error_code::ErrorCode;
use crate::protocol::create_topics::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::delete_topics::DeleteTopicState;
use crate::protocol::describe_configs::{DescribeConfigsResource, DescribeConfigsResult};
use crate::protocol::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, TopicRequest,
};
use crate::protocol::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};
use crate::types::TopicId;

const TIMEOUT_MS: i32 = 30_000;
const RESOURCE_TOPIC: i8 = 2;
const SOURCE_DEFAULT: i8 = 5;

#[derive(Args, Debug)]
pub struct TopicsArguments {
    #[command(subcommand)]
    command: TopicsCommand,
}

#[derive(Subcommand, Debug)]
enum TopicsCommand {
    /// Create a topic
    Create(CreateArguments),
    /// Print the name of every topic
    List {
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Print partitions, leaders, replicas and settings
    Describe {
        /// Topics to describe; all of them if none is named
        names: Vec<String>,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Delete topics and all their records
    Delete {
        /// Topics to delete
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
}

#[derive(Args, Debug)]
struct CreateArguments {
    /// Letters, digits, '.', '_' and '-'
    name: String,
    /// Number of partitions [default: the broker's num.partitions]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Copies of each partition [default: the broker's default.replication.factor]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topic, under Kafka's name; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_config)]
    config: Vec<(String, String)>,
    /// Be content if the topic exists already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

pub(super) fn parse_config(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting is KEY=VALUE, such as retention.ms=3600000")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

pub fn run(arguments: TopicsArguments) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let printed = match arguments.command {
        TopicsCommand::Create(arguments) => create(arguments)?,
        TopicsCommand::List { cluster } => list(&cluster)?,
        TopicsCommand::Describe { names, cluster } => describe_topics(&names, &cluster)?,
        TopicsCommand::Delete { names, cluster } => return delete(&names, &cluster, &mut out),
    };
    out.write_all(printed.as_bytes()).and_then(|()| out.flush()).map_err(Failure::of_output)
}

fn create(arguments: CreateArguments) -> Result<String, Failure> {
    let CreateArguments { name, partitions, replication_factor, config, if_not_exists, cluster } = arguments;
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let configs = config.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
    let topic = CreatableTopic {
        name: &name,
        num_partitions: partitions.unwrap_or(-1),
        replication_factor: replication_factor.unwrap_or(-1),
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: false };
    let response = client.call(&request)?;
    let answer: CreateTopicsResponse = client.decode(&response)?;
    let (code, message) = answer
        .topics
        .first()
        .map_or((ErrorCode::UnknownServerError, None), |topic| (code_of(topic.error_code), topic.error_message));
    match code {
        ErrorCode::None => Ok(format!("Created topic {name}.\n")),
        ErrorCode::TopicAlreadyExists if if_not_exists => Ok(String::new()),
        ErrorCode::TopicAlreadyExists => Err(Failure::new(format_args!(
            "topic {name} exists already on the broker at {}. See it with: gannet topics describe {name}{}; to be content \
             with that, pass --if-not-exists",
            client.address(),
            client.bootstrap_option()
        ))),
        code => Err(Failure::new(format_args!(
            "the broker at {} did not create topic {name}: {}",
            client.address(),
            describe(code, message)
        ))),
    }
}

fn list(cluster: &ClusterArguments) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    Ok(client.refresh(None)?.topics.keys().map(|name| format!("{name}\n")).collect())
}

fn delete(names: &[String], cluster: &ClusterArguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    // From version 6 on topics are named in `topics`, before in `topic_names`.
    let request = DeleteTopicsRequest {
        topics: names.iter().map(|name| DeleteTopicState { name: Some(name), topic_id: TopicId::ZERO }).collect(),
        topic_names: names.iter().map(String::as_str).collect(),
        timeout_ms: TIMEOUT_MS,
    };
    let response = client.call(&request)?;
    let answer: DeleteTopicsResponse = client.decode(&response)?;
    let mut failures = Vec::new();
    for topic in &answer.responses {
        let name = topic.name.unwrap_or("?");
        match code_of(topic.error_code) {
            ErrorCode::None => writeln!(out, "Deleted topic {name}.").map_err(Failure::of_output)?,
            ErrorCode::UnknownTopicOrPartition => {
                let hint = client.nearest_topic(name).map(|near| format!("; did you mean {near}?"));
                let (address, hint) = (client.address(), hint.unwrap_or_default());
                failures.push(format!("topic {name} does not exist on the broker at {address}{hint}"));
            }
            code => failures.push(format!("topic {name} was not deleted: {}", describe(code, topic.error_message))),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n"))) }
}

/// A topic's partitions, gathered over the pages of DescribeTopicPartitions.
struct Description {
    name: String,
    id: TopicId,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
}

fn describe_topics(names: &[String], cluster: &ClusterArguments) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let descriptions = descriptions(&mut client, names)?;
    if descriptions.is_empty() {
        return Ok(String::new());
    }
    let resource = |description: &Description| (RESOURCE_TOPIC, description.name.clone());
    let resources: Vec<(i8, String)> = descriptions.iter().map(resource).collect();
    let request = DescribeConfigsRequest {
        resources: resources
            .iter()
            .map(|(resource_type, resource_name)| DescribeConfigsResource {
                resource_type: *resource_type,
                resource_name,
                configuration_keys: None,
            })
            .collect(),
        ..Default::default()
    };
    let response = client.call(&request)?;
    let answer: DescribeConfigsResponse = client.decode(&response)?;
    let mut text = String::new();
    for description in &descriptions {
        let configs = answer.results.iter().find(|result| result.resource_name == description.name);
        if let Some(result) = configs {
            check(client.address(), &format!("the settings of {}", description.name), result.error_code)?;
        }
        text += &format_topic(description, configs);
    }
    Ok(text)
}

fn descriptions(client: &mut Client, names: &[String]) -> Result<Vec<Description>, Failure> {
    let mut descriptions: Vec<Description> = Vec::new();
    let mut next: Option<(String, i32)> = None;
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: names.iter().map(|name| TopicRequest { name }).collect(),
            cursor: next.as_ref().map(|(topic_name, index)| Cursor { topic_name, partition_index: *index }),
            ..Default::default()
        };
        let response = client.call(&request)?;
        let answer: DescribeTopicPartitionsResponse = client.decode(&response)?;
        for topic in answer.topics {
            take_page(client, topic, &mut descriptions)?;
        }
        let cursor = answer.next_cursor.map(|cursor| (cursor.topic_name.to_owned(), cursor.partition_index));
        // A cursor that stands still would be followed for ever.
        if cursor.is_none() || cursor == next {
            break;
        }
        next = cursor;
    }
    descriptions.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(descriptions)
}

fn take_page(
    client: &mut Client,
    topic: DescribeTopicPartitionsResponseTopic,
    descriptions: &mut Vec<Description>,
) -> Result<(), Failure> {
    let name = topic.name.unwrap_or_default();
    match code_of(topic.error_code) {
        ErrorCode::None => {}
        code => return Err(client.without_topic(name, code)),
    }
    match descriptions.iter_mut().find(|description| description.name == name) {
        Some(description) => description.partitions.extend(topic.partitions),
        None => {
            descriptions.push(Description { name: name.to_owned(), id: topic.topic_id, partitions: topic.partitions })
        }
    }
    Ok(())
}

fn format_topic(description: &Description, configs: Option<&DescribeConfigsResult>) -> String {
    let Description { name, id, partitions } = description;
    let set = configs.iter().flat_map(|result| &result.configs).filter(|config| config.config_source != SOURCE_DEFAULT);
    let set: Vec<String> = set.map(|config| format!("{}={}", config.name, config.value.unwrap_or("null"))).collect();
    let replication_factor = partitions.first().map_or(0, |partition| partition.replica_nodes.len());
    let mut text = format!(
        "Topic: {name}\tTopicId: {id}\tPartitionCount: {}\tReplicationFactor: {replication_factor}\tConfigs: {}\n",
        partitions.len(),
        set.join(",")
    );
    for partition in partitions {
        let leader = if partition.leader_id < 0 { "none".to_owned() } else { partition.leader_id.to_string() };
        text += &format!(
            "\tTopic: {name}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: {}\tLastKnownElr: {}\n",
            partition.partition_index,
            join(&partition.replica_nodes),
            join(&partition.isr_nodes),
            partition.eligible_leader_replicas.as_deref().map_or("N/A".to_owned(), join),
            partition.last_known_elr.as_deref().map_or("N/A".to_owned(), join),
        );
    }
    text
}

fn join(brokers: &[i32]) -> String {
    brokers.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::describe_configs::DescribeConfigsResourceResult;

    #[test]
    fn a_topic_is_described_in_the_form_of_kafka_s_own_tool() {
        let partition = |partition_index, leader_id| DescribeTopicPartitionsResponsePartition {
            partition_index,
            leader_id,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![2],
            eligible_leader_replicas: Some(vec![]),
            last_known_elr: None,
            ..Default::default()
        };
        let description = Description {
            name: "orders".to_owned(),
            id: "4HuooSSxTKa9lIE3qn6Xbg".parse().unwrap(),
            partitions: vec![partition(0, 2), partition(1, -1)],
        };
        let config = |name, value, config_source| DescribeConfigsResourceResult {
            name,
            value: Some(value),
            config_source,
            ..Default::default()
        };
        let configs = DescribeConfigsResult {
            configs: vec![config("a", "1", 1), config("b", "2", SOURCE_DEFAULT), config("c", "3", 4)],
            ..Default::default()
        };
        assert_eq!(
            format_topic(&description, Some(&configs)),
            "Topic: orders\tTopicId: 4HuooSSxTKa9lIE3qn6Xbg\tPartitionCount: 2\tReplicationFactor: 2\tConfigs: a=1,c=3\n\
             \tTopic: orders\tPartition: 0\tLeader: 2\tReplicas: 1,2\tIsr: 2\tElr: \tLastKnownElr: N/A\n\
             \tTopic: orders\tPartition: 1\tLeader: none\tReplicas: 1,2\tIsr: 2\tElr: \tLastKnownElr: N/A\n"
        );
    }
}
