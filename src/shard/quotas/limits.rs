//! Which quota holds for whom: the quotas that are set, arranged so that a request finds its own without allocating, in
//! Kafka's order of precedence (KIP-55).

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::metadata::{QuotaEntity, QuotaName};
use crate::types::Map;

/// What a quota limits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum QuotaKind {
    /// Bytes of produce requests a second.
    Produce,
    /// Bytes of fetch responses a second.
    Fetch,
    /// Share of one core's time, in percent (KIP-124).
    Request,
    /// New connections of one address a second (KIP-612).
    Connection,
}

/// The quotas of the cluster. Those that no verb enforces are refused when they are set, and left out here.
#[derive(Default)]
pub(super) struct Limits {
    produce: OfKind,
    fetch: OfKind,
    request: OfKind,
    addresses: Map<IpAddr, f64>,
    other_addresses: Option<f64>,
}

#[derive(Default)]
struct OfKind {
    users: Map<Arc<str>, Clients>,
    /// Users that have no quota of their own.
    other_users: Clients,
    /// Whoever the user is.
    any_user: Clients,
    is_set: bool,
}

#[derive(Default)]
struct Clients {
    named: Map<Arc<str>, f64>,
    others: Option<f64>,
    /// All clients of a user together.
    all: Option<f64>,
}

/// The quota that holds for a client.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Limit {
    /// A second.
    pub bound: f64,
    /// Users are counted apart.
    pub by_user: bool,
    /// Client ids are counted apart, even if the quota is the default of all of them.
    pub by_client_id: bool,
}

impl Limits {
    pub fn of(quotas: &BTreeMap<QuotaEntity, BTreeMap<String, f64>>) -> Limits {
        let mut limits = Limits::default();
        for (entity, of_entity) in quotas {
            for (key, &bound) in of_entity {
                match key.as_str() {
                    "producer_byte_rate" => limits.produce.set(entity, bound),
                    "consumer_byte_rate" => limits.fetch.set(entity, bound),
                    "request_percentage" => limits.request.set(entity, bound),
                    "connection_creation_rate" => limits.set_address(&entity.ip, bound),
                    _ => {}
                }
            }
        }
        limits
    }

    fn set_address(&mut self, ip: &Option<QuotaName>, bound: f64) {
        match ip {
            Some(Some(ip)) => {
                if let Ok(address) = ip.parse::<IpAddr>() {
                    self.addresses.insert(address.to_canonical(), bound);
                }
            }
            Some(None) => self.other_addresses = Some(bound),
            None => {}
        }
    }

    /// Some quota needs to see requests.
    pub fn any_of_requests(&self) -> bool {
        self.produce.is_set || self.fetch.is_set || self.request.is_set
    }

    pub fn any(&self, kind: QuotaKind) -> bool {
        match kind {
            QuotaKind::Produce => self.produce.is_set,
            QuotaKind::Fetch => self.fetch.is_set,
            QuotaKind::Request => self.request.is_set,
            QuotaKind::Connection => self.other_addresses.is_some() || !self.addresses.is_empty(),
        }
    }

    pub fn of_client(&self, kind: QuotaKind, user: &str, client_id: &str) -> Option<Limit> {
        match kind {
            QuotaKind::Produce => self.produce.find(user, client_id),
            QuotaKind::Fetch => self.fetch.find(user, client_id),
            QuotaKind::Request => self.request.find(user, client_id),
            QuotaKind::Connection => None,
        }
    }

    pub fn of_address(&self, address: IpAddr) -> Option<f64> {
        self.addresses.get(&address.to_canonical()).copied().or(self.other_addresses)
    }
}

impl OfKind {
    fn set(&mut self, entity: &QuotaEntity, bound: f64) {
        let clients = match &entity.user {
            Some(Some(user)) => self.users.entry(user.clone()).or_default(),
            Some(None) => &mut self.other_users,
            None => &mut self.any_user,
        };
        match &entity.client_id {
            Some(Some(client_id)) => drop(clients.named.insert(client_id.clone(), bound)),
            Some(None) => clients.others = Some(bound),
            None => clients.all = Some(bound),
        }
        self.is_set = true;
    }

    /// The first of: the user's for this client id, for any client id, for all together; the same of users without quotas
    /// of their own; the client id's, any client id's.
    fn find(&self, user: &str, client_id: &str) -> Option<Limit> {
        for clients in self.users.get(user).into_iter().chain([&self.other_users]) {
            if let Some(bound) = clients.of(client_id) {
                return Some(Limit { bound, by_user: true, by_client_id: true });
            }
            if let Some(bound) = clients.all {
                return Some(Limit { bound, by_user: true, by_client_id: false });
            }
        }
        self.any_user.of(client_id).map(|bound| Limit { bound, by_user: false, by_client_id: true })
    }
}

impl Clients {
    /// A client without an id has no quota of client ids, not even the default.
    fn of(&self, client_id: &str) -> Option<f64> {
        if client_id.is_empty() { None } else { self.named.get(client_id).copied().or(self.others) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<QuotaName> {
        match text {
            "-" => None,
            "*" => Some(None),
            name => Some(Some(name.into())),
        }
    }

    fn limits(key: &str, set: &[(&str, &str, f64)]) -> Limits {
        let entity = |user, client_id| QuotaEntity { user: name(user), client_id: name(client_id), ip: None };
        let of_key = |bound| BTreeMap::from([(key.to_owned(), bound)]);
        Limits::of(&set.iter().map(|(user, client_id, bound)| (entity(user, client_id), of_key(*bound))).collect())
    }

    #[test]
    fn the_most_particular_quota_holds() {
        // In order of precedence, each with whether users and client ids are counted apart.
        let all = [
            ("ann", "app", 1.0, true, true),
            ("ann", "*", 2.0, true, true),
            ("ann", "-", 3.0, true, false),
            ("*", "app", 4.0, true, true),
            ("*", "*", 5.0, true, true),
            ("*", "-", 6.0, true, false),
            ("-", "app", 7.0, false, true),
            ("-", "*", 8.0, false, true),
        ];
        for first in 0..all.len() {
            let left: Vec<_> = all[first..].iter().map(|(user, client, bound, ..)| (*user, *client, *bound)).collect();
            let (_, _, bound, by_user, by_client_id) = all[first];
            let found = limits("producer_byte_rate", &left).of_client(QuotaKind::Produce, "ann", "app");
            assert_eq!(found, Some(Limit { bound, by_user, by_client_id }));
        }
        let limits = limits("producer_byte_rate", &all.map(|(user, client, bound, ..)| (user, client, bound)));
        let bound = |user, client_id| limits.of_client(QuotaKind::Produce, user, client_id).map(|limit| limit.bound);
        assert_eq!(
            [("ann", "other"), ("ben", "app"), ("ben", "other")].map(|(user, client)| bound(user, client)),
            [Some(2.0), Some(4.0), Some(5.0)]
        );
        assert_eq!([bound("ann", ""), bound("ben", "")], [Some(3.0), Some(6.0)], "without an id only the user counts");
    }

    #[test]
    fn a_quota_limits_nothing_but_its_kind() {
        let set = limits("consumer_byte_rate", &[("-", "app", 5.0)]);
        assert!(set.any(QuotaKind::Fetch) && set.any_of_requests());
        assert!(!set.any(QuotaKind::Produce) && !set.any(QuotaKind::Request) && !set.any(QuotaKind::Connection));
        assert_eq!(set.of_client(QuotaKind::Produce, "ANONYMOUS", "app"), None);
        assert_eq!(set.of_client(QuotaKind::Fetch, "ANONYMOUS", "other"), None);
        assert!(!Limits::default().any_of_requests());
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let of = |ip: &str, bound| {
            let entity = QuotaEntity { ip: name(ip), ..QuotaEntity::default() };
            (entity, BTreeMap::from([("connection_creation_rate".to_owned(), bound)]))
        };
        let limits = Limits::of(&BTreeMap::from([of("0:0:0:0:0:0:0:1", 1.0), of("10.0.0.1", 2.0), of("*", 3.0)]));
        let bound = |text: &str| limits.of_address(text.parse().expect("an address"));
        assert_eq!(["::1", "10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"].map(bound), [1.0, 2.0, 2.0, 3.0].map(Some));
        assert!(limits.any(QuotaKind::Connection) && !limits.any_of_requests());
    }
}
