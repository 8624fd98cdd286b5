//! DescribeConfigs: settings in force, from the table in `config`.

use super::connection::Caller;
use super::{Effect, Shard};
use crate::config::{self, ConfigEntry};
use crate::coordinator::check_topic_name;
use crate::error_code::ErrorCode;
use crate::protocol::describe_configs::*;
use crate::protocol::{DecodeError, Reader};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

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
                Err((error_code, message)) => (*error_code, Some(message.as_str()), &[][..]),
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

    fn settings_of(&self, resource: &DescribeConfigsResource<'_>) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
        let name = resource.resource_name;
        match resource.resource_type {
            TOPIC => match self.image.topic(name) {
                Some(topic) => Ok(config::describe_topic(&topic.configs, &self.config)),
                None if check_topic_name(name).is_err() => {
                    Err((ErrorCode::InvalidTopicException, format!("{name} is not a topic name")))
                }
                None => Err((ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."))),
            },
            BROKER if name.is_empty() || name == self.config.node_id.to_string() => {
                // The empty name asks for what holds for every broker and was set while running: nothing yet.
                Ok(if name.is_empty() { Vec::new() } else { config::describe_broker(&self.config) })
            }
            BROKER => {
                let own = self.config.node_id;
                let message = format!("Unexpected broker id, expected {own} or empty string, but received {name}");
                Err((ErrorCode::InvalidRequest, message))
            }
            other => Err((ErrorCode::InvalidRequest, format!("resource type {other} has no settings here"))),
        }
    }
}

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
