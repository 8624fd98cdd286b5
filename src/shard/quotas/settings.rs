//! Quotas as they are set: DescribeClientQuotas from this core's image, AlterClientQuotas through the controller.

use std::collections::BTreeMap;

use super::super::connection::Caller;
use super::super::{Effect, Shard};
use crate::coordinator::{AlterQuotasResult, ControllerRequest, QuotaChange, Refusal};
use crate::error_code::ErrorCode;
use crate::metadata::QuotaEntity;
use crate::protocol::describe_client_quotas::*;
use crate::protocol::{AlterClientQuotasRequest, AlterClientQuotasResponse, DecodeError, Reader, alter_client_quotas};
use crate::types::{Set, Time};

impl Shard {
    pub(in crate::shard) fn on_describe_client_quotas(
        &mut self,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeClientQuotasRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let quotas = self.image.quotas().clone();
        let matches = check_filter(&request)
            .map(|()| quotas.iter().filter(|(entity, _)| is_wanted(entity, &request)).map(entry).collect());
        let refusal = matches.as_ref().err();
        let response = DescribeClientQuotasResponse {
            error_code: refusal.map_or(ErrorCode::None, |refusal| refusal.error_code).code(),
            error_message: refusal.map(|refusal| refusal.message.as_str()),
            entries: matches.as_ref().ok().cloned(),
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
        Ok(())
    }

    pub(in crate::shard) fn on_alter_client_quotas(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = AlterClientQuotasRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let name = |part: &alter_client_quotas::EntityData<'_>| {
            (part.entity_type.to_owned(), part.entity_name.map(str::to_owned))
        };
        let changes = request.entries.iter().map(|entry| QuotaChange {
            entity: entry.entity.iter().map(name).collect(),
            quotas: entry.ops.iter().map(|op| (op.key.to_owned(), (!op.remove).then_some(op.value))).collect(),
        });
        let (changes, validate_only) = (changes.collect(), request.validate_only);
        self.ask_controller(now, caller, ControllerRequest::AlterQuotas { changes, validate_only }, effects);
        Ok(())
    }

    pub(in crate::shard) fn answer_alter_client_quotas(
        &mut self,
        caller: Caller,
        results: &[AlterQuotasResult],
        effects: &mut Vec<Effect>,
    ) {
        let entries = results.iter().map(|result| {
            let refusal = result.outcome.as_ref().err();
            let part = |(kind, name): &'_ (String, Option<String>)| (kind.clone(), name.clone());
            (refusal, result.entity.iter().map(part).collect::<Vec<_>>())
        });
        let entries: Vec<_> = entries.collect();
        let rows = entries.iter().map(|(refusal, entity)| alter_client_quotas::EntryData {
            error_code: refusal.map_or(ErrorCode::None, |refusal| refusal.error_code).code(),
            error_message: refusal.map(|refusal| refusal.message.as_str()),
            entity: entity
                .iter()
                .map(|(kind, name)| alter_client_quotas::EntityData { entity_type: kind, entity_name: name.as_deref() })
                .collect(),
        });
        let response = AlterClientQuotasResponse { entries: rows.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }
}

const MATCH_NAME: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_NAMED: i8 = 2;

fn check_filter(request: &DescribeClientQuotasRequest<'_>) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let mut seen = Set::default();
    for component in &request.components {
        let kind = component.entity_type;
        if kind.is_empty() {
            return invalid("Invalid empty entity type.".to_owned());
        }
        if !seen.insert(kind) {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        if QuotaEntity::default().part_mut(kind).is_none() {
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, format!("Unsupported entity type {kind}")));
        }
        match (component.match_type, component.r#match) {
            (MATCH_NAME, Some(_)) | (MATCH_DEFAULT | MATCH_NAMED, None) => {}
            (MATCH_NAME, None) => {
                return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned());
            }
            (MATCH_DEFAULT, Some(_)) => {
                return invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.".to_owned());
            }
            (MATCH_NAMED, Some(_)) => {
                return invalid(
                    "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.".to_owned(),
                );
            }
            (unknown, _) => return invalid(format!("Unknown match type {unknown}")),
        }
    }
    if seen.contains(QuotaEntity::IP) && seen.len() > 1 {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId \
             filter component."
                .to_owned(),
        );
    }
    Ok(())
}

/// Every component of the filter matches a part of the entity; a strict one leaves no part over.
fn is_wanted(entity: &QuotaEntity, request: &DescribeClientQuotasRequest<'_>) -> bool {
    let matches = |component: &ComponentData<'_>| {
        let part = entity.parts().find(|(kind, _)| *kind == component.entity_type);
        part.is_some_and(|(_, name)| match component.match_type {
            MATCH_NAMED => true,
            _ => name.as_deref() == component.r#match,
        })
    };
    request.components.iter().all(matches) && (!request.strict || entity.parts().count() == request.components.len())
}

fn entry<'a>((entity, quotas): (&'a QuotaEntity, &'a BTreeMap<String, f64>)) -> EntryData<'a> {
    let parts = entity.parts().map(|(entity_type, name)| EntityData { entity_type, entity_name: name.as_deref() });
    let values = quotas.iter().map(|(key, value)| ValueData { key, value: *value });
    EntryData { entity: parts.collect(), values: values.collect() }
}
