//! `gannet quotas`: describe and alter what clients may take.

use std::io::Write;

use clap::{Args, Subcommand};

use super::ClusterArguments;
use super::connection::Client;
use super::failure::{Failure, code_of, describe};
use crate::error_code::ErrorCode;
use crate::protocol::alter_client_quotas::{AlterEntryData, EntityData, OpData};
use crate::protocol::describe_client_quotas::{ComponentData, EntryData};
use crate::protocol::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};

#[derive(Args, Debug)]
pub struct QuotasArguments {
    #[command(subcommand)]
    command: QuotasCommand,
}

#[derive(Subcommand, Debug)]
enum QuotasCommand {
    /// Print the quotas of this entity, or all that are set
    Describe {
        #[command(flatten)]
        of: Entity,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
    /// Set quotas, or take them back; they hold at once
    Alter {
        #[command(flatten)]
        of: Entity,
        /// producer_byte_rate, consumer_byte_rate, request_percentage; connection_creation_rate of an address
        #[arg(long, value_name = "QUOTA=VALUE", value_parser = super::topics::parse_config)]
        set: Vec<(String, String)>,
        /// Take a quota back; may be given several times
        #[arg(long, value_name = "QUOTA")]
        delete: Vec<String>,
        /// Only ask whether it would be allowed
        #[arg(long)]
        validate_only: bool,
        #[command(flatten)]
        cluster: ClusterArguments,
    },
}

/// Whose quotas: a user, a client id, both together, or an address.
#[derive(Args, Debug)]
struct Entity {
    /// Of a user; without authentication everybody is ANONYMOUS
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Of each user that has none of its own
    #[arg(long, conflicts_with = "user")]
    user_default: bool,
    /// Of the clients that give this id
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Of each client id that has none of its own
    #[arg(long, conflicts_with = "client_id")]
    client_id_default: bool,
    /// Of an address
    #[arg(long, conflicts_with_all = ["user", "user_default", "client_id", "client_id_default"])]
    ip: Option<String>,
    /// Of each address that has none of its own
    #[arg(long, conflicts_with_all = ["ip", "user", "user_default", "client_id", "client_id_default"])]
    ip_default: bool,
}

impl Entity {
    /// Kafka's type and the name, or none for the default.
    fn parts(&self) -> Vec<(&'static str, Option<&str>)> {
        let parts = [
            ("user", &self.user, self.user_default),
            ("client-id", &self.client_id, self.client_id_default),
            ("ip", &self.ip, self.ip_default),
        ];
        parts
            .into_iter()
            .filter(|(_, name, default)| name.is_some() || *default)
            .map(|(k, n, _)| (k, n.as_deref()))
            .collect()
    }
}

pub fn run(arguments: QuotasArguments) -> Result<(), Failure> {
    let printed = match arguments.command {
        QuotasCommand::Describe { of, cluster } => describe_quotas(&of.parts(), &cluster)?,
        QuotasCommand::Alter { of, set, delete, validate_only, cluster } => {
            let parts = of.parts();
            if parts.is_empty() {
                return Err(Failure::new(
                    "whose quotas? name them with --user, --client-id or --ip, or the defaults with --user-default, \
                     --client-id-default or --ip-default",
                ));
            }
            let mut ops = Vec::new();
            for (key, text) in &set {
                let value = text.parse().map_err(|_| Failure::new(format!("{key}={text}: a quota is a number")))?;
                ops.push(OpData { key, value, remove: false });
            }
            ops.extend(delete.iter().map(|key| OpData { key, value: 0.0, remove: true }));
            if ops.is_empty() {
                return Err(Failure::new("nothing to change: name a quota with --set or --delete"));
            }
            alter(&parts, ops, validate_only, &cluster)?
        }
    };
    let mut out = std::io::stdout().lock();
    out.write_all(printed.as_bytes()).and_then(|()| out.flush()).map_err(Failure::of_output)
}

const MATCH_NAME: i8 = 0;
const MATCH_DEFAULT: i8 = 1;

fn describe_quotas(parts: &[(&str, Option<&str>)], cluster: &ClusterArguments) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let components = parts.iter().map(|&(entity_type, name)| ComponentData {
        entity_type,
        match_type: if name.is_some() { MATCH_NAME } else { MATCH_DEFAULT },
        r#match: name,
    });
    let request = DescribeClientQuotasRequest { components: components.collect(), strict: !parts.is_empty() };
    let response = client.call(&request)?;
    let answer: DescribeClientQuotasResponse = client.decode(&response)?;
    refused(&client, "tell", answer.error_code, answer.error_message)?;
    let entries = answer.entries.unwrap_or_default();
    if entries.is_empty() {
        return Ok("No quotas are set.\n".to_owned());
    }
    Ok(entries.iter().map(format_entry).collect())
}

fn alter(
    parts: &[(&str, Option<&str>)],
    ops: Vec<OpData<'_>>,
    validate_only: bool,
    cluster: &ClusterArguments,
) -> Result<String, Failure> {
    let mut client = Client::connect(&cluster.bootstrap_server)?;
    let entity = parts.iter().map(|&(entity_type, entity_name)| EntityData { entity_type, entity_name }).collect();
    let request = AlterClientQuotasRequest { entries: vec![AlterEntryData { entity, ops }], validate_only };
    let response = client.call(&request)?;
    let answer: AlterClientQuotasResponse = client.decode(&response)?;
    let entry = answer.entries.first();
    let entry = entry.ok_or_else(|| Failure::new("the broker did not answer for what it was asked"))?;
    refused(&client, "change", entry.error_code, entry.error_message)?;
    let title = title(parts.iter().copied());
    Ok(match validate_only {
        true => format!("The change of quotas of {title} would be allowed.\n"),
        false => format!("Completed updating quotas of {title}.\n"),
    })
}

fn refused(client: &Client, verb: &str, code: i16, message: Option<&str>) -> Result<(), Failure> {
    match code_of(code) {
        ErrorCode::None => Ok(()),
        code => {
            let (address, why) = (client.address(), describe(code, message));
            Err(Failure::new(format_args!("the broker at {address} did not {verb} the quotas: {why}")))
        }
    }
}

fn format_entry(entry: &EntryData<'_>) -> String {
    let values = entry.values.iter().map(|value| format!("  {}={}\n", value.key, value.value));
    let title = title(entry.entity.iter().map(|part| (part.entity_type, part.entity_name)));
    format!("Quotas of {title}:\n{}", values.collect::<String>())
}

fn title<'a>(parts: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let part = |(kind, name): (&str, Option<&str>)| match name {
        Some(name) => format!("{kind} {name}"),
        None => format!("each {kind} without its own"),
    };
    parts.map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::describe_client_quotas::{self as told, ValueData};

    #[test]
    fn quotas_are_printed_with_whom_they_are_for() {
        let part = |entity_type, entity_name| told::EntityData { entity_type, entity_name };
        let entry = EntryData {
            entity: vec![part("user", None), part("client-id", Some("app"))],
            values: vec![ValueData { key: "request_percentage", value: 12.5 }],
        };
        let text = "Quotas of each user without its own, client-id app:\n  request_percentage=12.5\n";
        assert_eq!(format_entry(&entry), text);
    }
}
