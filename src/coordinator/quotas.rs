//! The controller's decisions on quotas: each entity of a request is judged by itself, and refused in Kafka's words.

use super::controller::{Controller, ControllerDecision};
use super::{ControllerReply, Decision, Refusal};
use crate::error_code::ErrorCode;
use crate::metadata::{MetadataImage, MetadataRecord, QuotaEntity, QuotaRecord};
use crate::types::Set;

/// What a client asks of one entity's quotas.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaChange {
    /// As the client wrote them: type, and name or the default.
    pub entity: Vec<(String, Option<String>)>,
    /// By Kafka's names of quotas; `None` takes one back.
    pub quotas: Vec<(String, Option<f64>)>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct AlterQuotasResult {
    pub entity: Vec<(String, Option<String>)>,
    pub outcome: Result<(), Refusal>,
}

/// A quota and what it may be.
struct Quota {
    name: &'static str,
    /// For an address, otherwise for users and client ids.
    of_ip: bool,
    whole: Option<f64>,
}

const QUOTAS: &[Quota] = &[
    Quota { name: "producer_byte_rate", of_ip: false, whole: Some(i64::MAX as f64) },
    Quota { name: "consumer_byte_rate", of_ip: false, whole: Some(i64::MAX as f64) },
    Quota { name: "request_percentage", of_ip: false, whole: None },
    Quota { name: "connection_creation_rate", of_ip: true, whole: Some(i32::MAX as f64) },
];

impl Controller {
    pub(super) fn alter_quotas(
        &self,
        image: &MetadataImage,
        changes: Vec<QuotaChange>,
        validate_only: bool,
    ) -> ControllerDecision {
        let mut records = Vec::new();
        let mut seen = Set::default();
        let mut results = Vec::with_capacity(changes.len());
        for change in changes {
            let outcome = entity(&change).and_then(|entity| match seen.insert(entity.clone()) {
                true => decide(image, entity, &change),
                false => Err(invalid(format!("Ignoring duplicate entity {}", words(&change)))),
            });
            let outcome = outcome.map(|decided| records.extend(decided));
            results.push(AlterQuotasResult { entity: change.entity, outcome });
        }
        let records = if validate_only { Vec::new() } else { records };
        Decision { records, reply: ControllerReply::AlterQuotas(results) }
    }
}

fn entity(change: &QuotaChange) -> Result<QuotaEntity, Refusal> {
    let mut entity = QuotaEntity::default();
    for (kind, name) in &change.entity {
        let Some(part) = entity.part_mut(kind) else {
            return Err(invalid(format!("Unhandled client quota entity type: {kind}")));
        };
        if part.is_some() {
            return Err(invalid(format!("Invalid client quota entity, duplicate entity entry {kind}")));
        }
        if name.as_deref() == Some("") {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
        *part = Some(name.as_deref().map(Into::into));
    }
    match (&entity.ip, entity.user.is_some() || entity.client_id.is_some()) {
        (None, false) => Err(invalid("Invalid empty client quota entity")),
        (Some(_), true) => {
            Err(invalid("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"))
        }
        (Some(Some(ip)), false) if !is_address(ip) => {
            Err(invalid(format!("{ip} is not a valid IP or resolvable host.")))
        }
        _ => Ok(entity),
    }
}

/// Names of hosts are not looked up: a quota holds for what a connection shows, its address.
fn is_address(text: &str) -> bool {
    text.parse::<core::net::IpAddr>().is_ok()
}

fn decide(image: &MetadataImage, entity: QuotaEntity, change: &QuotaChange) -> Result<Vec<MetadataRecord>, Refusal> {
    let mut seen = Set::default();
    let mut records = Vec::new();
    let present = image.quotas().get(&entity);
    for (key, value) in &change.quotas {
        if !seen.insert(key) {
            let entity = words(change);
            return Err(invalid(format!("Duplicate quota key {key} not updating quota for this entity {entity}")));
        }
        if let Some(value) = value {
            check(&entity, key, *value)?;
        }
        if present.and_then(|quotas| quotas.get(key)) != value.as_ref() {
            let quota = QuotaRecord { entity: entity.clone(), key: key.clone(), value: *value };
            records.push(MetadataRecord::Quota(quota));
        }
    }
    Ok(records)
}

fn check(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), Refusal> {
    let quota = QUOTAS.iter().find(|quota| quota.name == key && quota.of_ip == entity.ip.is_some());
    if key == "controller_mutation_rate" {
        let why = "this broker does not limit the rate of topic changes, so the quota would do nothing; leave it out";
        return Err(invalid(format!("{key}: {why}")));
    }
    let quota = quota.ok_or_else(|| invalid(format!("Invalid configuration key {key}")))?;
    if value.is_nan() || value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    match quota.whole {
        Some(most) if value > most => {
            let kind = if quota.of_ip { "an INT" } else { "a LONG" };
            Err(invalid(format!("Proposed value for {key} is too large for {kind}.")))
        }
        Some(_) if value % 1.0 > 1e-6 => Err(invalid(format!("{key} cannot be a fractional value."))),
        _ => Ok(()),
    }
}

fn words(change: &QuotaChange) -> String {
    let parts = change.entity.iter().map(|(kind, name)| format!("{kind}={}", name.as_deref().unwrap_or("<default>")));
    parts.collect::<Vec<_>>().join(", ")
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::super::controller::tests::Cluster;
    use super::*;
    use crate::coordinator::ControllerRequest;

    fn change(entity: &[(&str, Option<&str>)], quotas: &[(&str, Option<f64>)]) -> QuotaChange {
        let name = |name: &Option<&str>| name.map(str::to_owned);
        QuotaChange {
            entity: entity.iter().map(|(kind, of)| (kind.to_string(), name(of))).collect(),
            quotas: quotas.iter().map(|(key, value)| (key.to_string(), *value)).collect(),
        }
    }

    fn alter(cluster: &mut Cluster, changes: Vec<QuotaChange>) -> Vec<Result<(), Refusal>> {
        let reply = cluster.handle(ControllerRequest::AlterQuotas { changes, validate_only: false });
        let ControllerReply::AlterQuotas(results) = reply else { panic!("another reply") };
        results.into_iter().map(|result| result.outcome).collect()
    }

    #[test]
    fn quotas_are_set_changed_and_taken_back() {
        let mut cluster = Cluster::of(1);
        let app = [("client-id", Some("app"))];
        for value in [Some(1024.0), Some(2048.0)] {
            assert_eq!(alter(&mut cluster, vec![change(&app, &[("producer_byte_rate", value)])]), [Ok(())]);
            let set: Vec<f64> = cluster.image.quotas().values().flat_map(|quotas| quotas.values().copied()).collect();
            assert_eq!(set, [value.expect("set")]);
        }
        assert_eq!(alter(&mut cluster, vec![change(&app, &[("producer_byte_rate", None)])]), [Ok(())]);
        assert!(cluster.image.quotas().is_empty());
        assert_eq!(alter(&mut cluster, vec![change(&app, &[("never_set", None)])]), [Ok(())]);
    }

    #[test]
    fn the_default_of_a_user_and_a_client_id_are_one_entity_in_either_order() {
        let mut cluster = Cluster::of(1);
        let rate = [("request_percentage", Some(12.5))];
        let one = change(&[("user", None), ("client-id", Some("app"))], &rate);
        let same = change(&[("client-id", Some("app")), ("user", None)], &rate);
        let outcomes = alter(&mut cluster, vec![one, same]);
        assert_eq!(outcomes[0], Ok(()));
        assert!(outcomes[1].as_ref().expect_err("the same").message.starts_with("Ignoring duplicate entity"));
        assert_eq!(cluster.image.quotas().len(), 1);
    }

    #[test]
    fn refusals_have_kafkas_words() {
        let mut cluster = Cluster::of(1);
        let rate = |value| [("producer_byte_rate", Some(value))];
        let app = [("client-id", Some("app"))];
        let address = [("ip", Some("127.0.0.1"))];
        for (change, message) in [
            (change(&[], &rate(1.0)), "Invalid empty client quota entity"),
            (change(&[("planet", None)], &rate(1.0)), "Unhandled client quota entity type: planet"),
            (change(&[("user", Some(""))], &rate(1.0)), "Empty user not supported"),
            (change(&[("ip", Some("nowhere"))], &rate(1.0)), "nowhere is not a valid IP or resolvable host."),
            (change(&[app[0], app[0]], &rate(1.0)), "Invalid client quota entity, duplicate entity entry client-id"),
            (change(&app, &rate(0.0)), "Quota producer_byte_rate must be greater than 0"),
            (change(&app, &rate(f64::NAN)), "Quota producer_byte_rate must be greater than 0"),
            (change(&app, &rate(1.5)), "producer_byte_rate cannot be a fractional value."),
            (change(&app, &rate(1e30)), "Proposed value for producer_byte_rate is too large for a LONG."),
            (
                change(&app, &[("controller_mutation_rate", Some(5.0))]),
                "controller_mutation_rate: this broker does not limit the rate of topic changes, so the quota would do \
                 nothing; leave it out",
            ),
            (change(&address, &rate(1.0)), "Invalid configuration key producer_byte_rate"),
            (
                change(&address, &[("connection_creation_rate", Some(3e9))]),
                "Proposed value for connection_creation_rate is too large for an INT.",
            ),
            (
                change(&[app[0], address[0]], &rate(1.0)),
                "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId",
            ),
        ] {
            assert_eq!(alter(&mut cluster, vec![change])[0].as_ref().expect_err("refused").message, message);
        }
        assert!(cluster.image.quotas().is_empty());
    }
}
