//! Settings: DescribeConfigs and ListConfigResources from this core's image, AlterConfigs and IncrementalAlterConfigs
//! through the controller.

use std::collections::BTreeMap;

use super::connection::Caller;
use super::{Effect, Shard};
use crate::config::{self, ConfigEntry};
use crate::coordinator::{
    AlterConfigsResult, ConfigChange, ConfigOperation, ControllerRequest, Refusal, check_topic_name,
};
use crate::error_code::ErrorCode;
use crate::metadata::ConfigResource;
use crate::protocol::describe_configs::*;
use crate::protocol::list_config_resources::{self as listed, ListConfigResourcesRequest, ListConfigResourcesResponse};
use crate::protocol::{
    AlterConfigsRequest, AlterConfigsResponse, ApiKey, DecodeError, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, Reader, alter_configs, incremental_alter_configs,
};
use crate::types::{BrokerId, Time};

impl Shard {
    pub(super) fn on_describe_configs(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeConfigsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let answers: Vec<_> = request.resources.iter().map(|resource| self.settings_of(resource)).collect();
        let results = request.resources.iter().zip(&answers).map(|(resource, answer)| {
            let (error_code, error_message, entries) = match answer {
                Ok(entries) => (ErrorCode::None, None, entries.as_slice()),
                Err(refusal) => (refusal.error_code, Some(refusal.message.as_str()), &[][..]),
            };
            let keys = resource.configuration_keys.as_deref().unwrap_or_default();
            let wanted = |entry: &&ConfigEntry| keys.is_empty() || keys.contains(&entry.name);
            DescribeConfigsResult {
                error_code: error_code.code(),
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                configs: entries.iter().filter(wanted).map(|entry| setting(entry, &request)).collect(),
            }
        });
        let response = DescribeConfigsResponse { results: results.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    fn settings_of(&self, resource: &DescribeConfigsResource<'_>) -> Result<Vec<ConfigEntry>, Refusal> {
        let name = resource.resource_name;
        let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let overrides = |resource| self.image.configs_of(&resource).cloned().unwrap_or_default();
        match resource.resource_type {
            ConfigResource::TOPIC => match self.image.topic(name) {
                Some(topic) => Ok(config::describe_topic(&topic.configs, &self.config)),
                None => Err(match check_topic_name(name) {
                    Err(message) => Refusal::new(ErrorCode::InvalidTopicException, message),
                    Ok(()) => {
                        Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."))
                    }
                }),
            },
            ConfigResource::BROKER if name.is_empty() => Ok(config::describe_dynamic_defaults(&self.config)),
            ConfigResource::BROKER => match name.parse::<i32>() {
                Ok(id) if self.is_own_node(id) => Ok(config::describe_broker(&self.config)),
                Ok(_) => {
                    let own = self.config.node_id;
                    invalid(&format!("Unexpected broker id, expected {own} or empty string, but received {name}"))
                }
                Err(_) => invalid(&format!("Broker id must be an integer, but it is: {name}")),
            },
            ConfigResource::CLIENT_METRICS if name.is_empty() => {
                invalid("Client metrics subscription name must not be empty")
            }
            ConfigResource::CLIENT_METRICS => {
                Ok(config::describe_client_metrics(&overrides(ConfigResource::ClientMetrics(name.into()))))
            }
            ConfigResource::GROUP if name.is_empty() => invalid("Group name must not be empty"),
            ConfigResource::GROUP => {
                Ok(config::describe_group(&overrides(ConfigResource::Group(name.into())), &self.config))
            }
            BROKER_LOGGER => invalid(LOGGERS),
            other => invalid(&format!("Unsupported resource type: {other}")),
        }
    }

    fn is_own_node(&self, id: BrokerId) -> bool {
        self.image.broker_of_node(id).map_or(id, |broker| broker.id) == self.config.node_id
    }

    pub(super) fn on_list_config_resources(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ListConfigResourcesRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let listable = [
            ConfigResource::GROUP,
            ConfigResource::CLIENT_METRICS,
            BROKER_LOGGER,
            ConfigResource::BROKER,
            ConfigResource::TOPIC,
        ];
        let types = match (caller.api_version, request.resource_types.as_slice()) {
            (0, _) => &[ConfigResource::CLIENT_METRICS],
            (_, []) => &listable[..],
            (_, types) => types,
        };
        if !types.iter().all(|kind| listable.contains(kind)) {
            let error_code = ErrorCode::UnsupportedVersion.code();
            let response = ListConfigResourcesResponse { error_code, ..Default::default() };
            self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
            return Ok(());
        }
        let image = self.image.clone();
        let nodes = image.nodes(self.listener_of(caller));
        let mut resources: BTreeMap<i8, Vec<String>> = BTreeMap::new();
        for &resource_type in types {
            resources.entry(resource_type).or_insert_with(|| match resource_type {
                ConfigResource::TOPIC => image.topics().map(|topic| topic.name.to_string()).collect(),
                ConfigResource::BROKER | BROKER_LOGGER => nodes.iter().map(|node| node.id.to_string()).collect(),
                kind => {
                    let of_kind = image.configured().filter(|resource| resource.resource_type() == kind);
                    of_kind.map(ConfigResource::name).collect()
                }
            });
        }
        let config_resources = resources.iter().flat_map(|(&resource_type, names)| {
            names.iter().map(move |name| listed::ConfigResource { resource_name: name, resource_type })
        });
        let response =
            ListConfigResourcesResponse { config_resources: config_resources.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(super) fn on_alter_configs(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = AlterConfigsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let operation = |config: &alter_configs::AlterableConfig<'_>| ConfigOperation {
            key: config.name.to_owned(),
            operation: 0,
            value: config.value.map(str::to_owned),
        };
        let changes = request.resources.iter().map(|resource| ConfigChange {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.to_owned(),
            operations: resource.configs.iter().map(operation).collect(),
            replaces_all: true,
        });
        let (changes, validate_only) = (changes.collect(), request.validate_only);
        self.ask_controller(now, caller, ControllerRequest::AlterConfigs { changes, validate_only }, effects);
        Ok(())
    }

    pub(super) fn on_incremental_alter_configs(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = IncrementalAlterConfigsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let operation = |config: &incremental_alter_configs::AlterableConfig<'_>| ConfigOperation {
            key: config.name.to_owned(),
            operation: config.config_operation,
            value: config.value.map(str::to_owned),
        };
        let changes = request.resources.iter().map(|resource| ConfigChange {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.to_owned(),
            operations: resource.configs.iter().map(operation).collect(),
            replaces_all: false,
        });
        let (changes, validate_only) = (changes.collect(), request.validate_only);
        self.ask_controller(now, caller, ControllerRequest::AlterConfigs { changes, validate_only }, effects);
        Ok(())
    }

    pub(super) fn answer_alter_configs(
        &mut self,
        caller: Caller,
        results: &[AlterConfigsResult],
        effects: &mut Vec<Effect>,
    ) {
        let version = caller.api_version;
        let row = |result: &AlterConfigsResult| {
            let refusal = result.outcome.as_ref().err();
            let error_code = refusal.map_or(ErrorCode::None, |refusal| refusal.error_code).code();
            (error_code, refusal.map(|refusal| refusal.message.clone()))
        };
        let rows: Vec<_> = results.iter().map(row).collect();
        let rows = results.iter().zip(&rows);
        if caller.api_key == ApiKey::AlterConfigs.code() {
            let responses = rows.map(|(result, (error_code, message))| alter_configs::AlterConfigsResourceResponse {
                error_code: *error_code,
                error_message: message.as_deref(),
                resource_type: result.resource_type,
                resource_name: &result.resource_name,
            });
            let response = AlterConfigsResponse { responses: responses.collect(), ..Default::default() };
            self.respond(caller, effects, |writer| response.encode(writer, version));
        } else {
            let responses =
                rows.map(|(result, (error_code, message))| incremental_alter_configs::AlterConfigsResourceResponse {
                    error_code: *error_code,
                    error_message: message.as_deref(),
                    resource_type: result.resource_type,
                    resource_name: &result.resource_name,
                });
            let response = IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() };
            self.respond(caller, effects, |writer| response.encode(writer, version));
        }
    }
}

const BROKER_LOGGER: i8 = 8;
const LOGGERS: &str = "this broker has no loggers to set one by one; start it with RUST_LOG=gannet=debug to see more";

fn setting<'a>(entry: &'a ConfigEntry, request: &DescribeConfigsRequest<'_>) -> DescribeConfigsResourceResult<'a> {
    let synonyms = entry.synonyms.iter().map(|synonym| DescribeConfigsSynonym {
        name: synonym.name,
        value: synonym.value.as_deref(),
        source: synonym.source as i8,
    });
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.is_sensitive,
        synonyms: if request.include_synonyms { synonyms.collect() } else { Vec::new() },
        config_type: entry.config_type as i8,
        documentation: request.include_documentation.then_some(entry.documentation),
    }
}
