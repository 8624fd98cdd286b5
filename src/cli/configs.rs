//! `gannet configs`: describe and alter settings, in the form of Kafka's own tool.

use std::io::Write;

use clap::{ArgGroup, Args, Subcommand};

use super::ClusterArguments;
use super::connection::Client;
use super::failure::{Failure, code_of, describe};
use crate::client::Response;
use crate::error_code::ErrorCode;
use crate::protocol::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use crate::protocol::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use crate::protocol::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    Message,
};

#[derive(Args, Debug)]
pub struct ConfigsArguments {
    #[command(subcommand)]
    command: ConfigsCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigsCommand {
    /// Print what was set, where it comes from, and what it hides
    Describe {
        #[command(flatten)]
        of: Resource,
        /// Every setting in force, defaults too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Change settings while the cluster runs
    Alter {
        #[command(flatten)]
        of: Resource,
        /// Give a setting this value; may be given several times
        #[arg(long, value_name = "KEY=VALUE", value_parser = super::topics::parse_config)]
        set: Vec<(String, String)>,
        /// Take a setting back; may be given several times
        #[arg(long, value_name = "KEY")]
        delete: Vec<String>,
        /// Add to a list; may be given several times
        #[arg(long, value_name = "KEY=VALUE", value_parser = super::topics::parse_config)]
        append: Vec<(String, String)>,
        /// Take out of a list; may be given several times
        #[arg(long, value_name = "KEY=VALUE", value_parser = super::topics::parse_config)]
        subtract: Vec<(String, String)>,
        /// Only ask whether it would be allowed
        #[arg(long)]
        validate_only: bool,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
}

/// Whose settings.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("resource").required(true).multiple(false))]
struct Resource {
    /// Of a topic
    #[arg(long, group = "resource")]
    topic: Option<String>,
    /// Of one broker
    #[arg(long, group = "resource", value_name = "ID")]
    broker: Option<i32>,
    /// Of all brokers, as they were set while the cluster ran
    #[arg(long, group = "resource")]
    brokers: bool,
    /// Of a group
    #[arg(long, group = "resource")]
    group: Option<String>,
    /// Of a subscription to clients' metrics
    #[arg(long, group = "resource", value_name = "NAME")]
    client_metrics: Option<String>,
}

/// Kafka's numbers and words of one kind of resource.
struct Kind {
    resource_type: i8,
    /// As Kafka's tool calls it.
    word: &'static str,
    name: String,
    /// Source of what was set for this very resource.
    own_source: i8,
}

impl Resource {
    fn kind(&self) -> Kind {
        let kind = |resource_type, word, name: String, own_source| Kind { resource_type, word, name, own_source };
        match self {
            Resource { topic: Some(name), .. } => kind(2, "topic", name.clone(), 1),
            Resource { broker: Some(id), .. } => kind(4, "broker", id.to_string(), 2),
            Resource { group: Some(name), .. } => kind(32, "group", name.clone(), 8),
            Resource { client_metrics: Some(name), .. } => kind(16, "client-metric", name.clone(), 7),
            _ => kind(4, "broker", String::new(), 3),
        }
    }
}

impl Kind {
    fn title(&self) -> String {
        if self.name.is_empty() { "brokers in the cluster".to_owned() } else { format!("{} {}", self.word, self.name) }
    }
}

pub fn run(arguments: ConfigsArguments) -> Result<(), Failure> {
    let printed = match arguments.command {
        ConfigsCommand::Describe { of, all, cluster } => describe_settings(&of.kind(), all, &cluster)?,
        ConfigsCommand::Alter { of, set, delete, append, subtract, validate_only, cluster } => {
            let operations = [(0, &set), (2, &append), (3, &subtract)];
            let given = operations.iter().flat_map(|(operation, pairs)| {
                pairs.iter().map(move |(name, value)| (*operation, name.as_str(), Some(value.as_str())))
            });
            let changes: Vec<_> = given.chain(delete.iter().map(|name| (1, name.as_str(), None))).collect();
            if changes.is_empty() {
                return Err(Failure::new(
                    "nothing to change: name a setting with --set, --delete, --append or --subtract",
                ));
            }
            alter(&of.kind(), &changes, validate_only, &cluster)?
        }
    };
    let mut out = std::io::stdout().lock();
    out.write_all(printed.as_bytes()).and_then(|()| out.flush()).map_err(Failure::of_output)
}

fn describe_settings(kind: &Kind, all: bool, cluster: &ClusterArguments) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let resource = DescribeConfigsResource {
        resource_type: kind.resource_type,
        resource_name: &kind.name,
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    let response = ask(&mut client, kind, &request)?;
    let answer: DescribeConfigsResponse = client.decode(&response)?;
    let result = answer.results.first();
    let result = result.ok_or_else(|| Failure::new("the broker did not answer for what it was asked"))?;
    refused(&client, kind, "tell", result.error_code, result.error_message)?;
    Ok(format_settings(kind, all, result))
}

fn alter(
    kind: &Kind,
    changes: &[(i8, &str, Option<&str>)],
    validate_only: bool,
    cluster: &ClusterArguments,
) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let configs =
        changes.iter().map(|&(config_operation, name, value)| AlterableConfig { name, config_operation, value });
    let resource = AlterConfigsResource {
        resource_type: kind.resource_type,
        resource_name: &kind.name,
        configs: configs.collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let response = ask(&mut client, kind, &request)?;
    let answer: IncrementalAlterConfigsResponse = client.decode(&response)?;
    let result = answer.responses.first();
    let result = result.ok_or_else(|| Failure::new("the broker did not answer for what it was asked"))?;
    refused(&client, kind, "change", result.error_code, result.error_message)?;
    let title = kind.title();
    Ok(match (validate_only, kind.name.is_empty()) {
        (true, _) => format!("The change of {title} would be allowed.\n"),
        (false, true) => format!("Completed updating default config for {title}.\n"),
        (false, false) => format!("Completed updating config for {title}.\n"),
    })
}

/// A broker's own settings are known to that broker alone.
fn ask<'a, M: Message<'a>>(client: &mut Client, kind: &Kind, request: &M) -> Result<Response, Failure> {
    match kind.name.parse() {
        Ok(id) if kind.word == "broker" => {
            client.refresh(Some(&[]))?;
            client.call_broker(id, request)
        }
        _ => client.call(request),
    }
}

fn refused(client: &Client, kind: &Kind, verb: &str, code: i16, message: Option<&str>) -> Result<(), Failure> {
    match code_of(code) {
        ErrorCode::None => Ok(()),
        code => Err(Failure::new(format_args!(
            "the broker at {} did not {verb} the settings of {}: {}",
            client.address(),
            kind.title(),
            describe(code, message)
        ))),
    }
}

fn format_settings(kind: &Kind, all: bool, result: &DescribeConfigsResult<'_>) -> String {
    let title = kind.title();
    let mut text = match (all, kind.name.is_empty()) {
        (true, _) => format!("All configs for {title} are:\n"),
        (false, true) => format!("Default configs for {title} are:\n"),
        (false, false) => format!("Dynamic configs for {title} are:\n"),
    };
    let shown = result.configs.iter().filter(|config| all || config.config_source == kind.own_source);
    for config in shown {
        text += &format_setting(config);
    }
    text
}

fn format_setting(config: &DescribeConfigsResourceResult<'_>) -> String {
    let synonyms = config
        .synonyms
        .iter()
        .map(|synonym| format!("{}:{}={}", source_name(synonym.source), synonym.name, synonym.value.unwrap_or("null")));
    let synonyms: Vec<String> = synonyms.collect();
    format!(
        "  {}={} sensitive={} synonyms={{{}}}\n",
        config.name,
        config.value.unwrap_or("null"),
        config.is_sensitive,
        synonyms.join(", ")
    )
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::describe_configs::DescribeConfigsSynonym;

    #[test]
    fn settings_are_printed_in_the_form_of_kafka_s_own_tool() {
        let synonym = |name, value, source| DescribeConfigsSynonym { name, value: Some(value), source };
        let setting = |name, value, config_source, synonyms| DescribeConfigsResourceResult {
            name,
            value,
            config_source,
            synonyms,
            ..Default::default()
        };
        let set = [synonym("retention.ms", "5", 1), synonym("log.retention.hours", "72", 5)];
        let configs =
            vec![setting("retention.ms", Some("5"), 1, set.to_vec()), setting("segment.ms", None, 5, Vec::new())];
        let result = DescribeConfigsResult { configs, ..Default::default() };
        let topic = Kind { resource_type: 2, word: "topic", name: "orders".to_owned(), own_source: 1 };
        let retention = "  retention.ms=5 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5, \
                         DEFAULT_CONFIG:log.retention.hours=72}\n";
        let dynamic = format_settings(&topic, false, &result);
        assert_eq!(dynamic, format!("Dynamic configs for topic orders are:\n{retention}"));
        let all = format_settings(&topic, true, &result);
        let segment = "  segment.ms=null sensitive=false synonyms={}\n";
        assert_eq!(all, format!("All configs for topic orders are:\n{retention}{segment}"));
    }
}
