//! Quotas: who may take how much of this broker (KIP-13, 124, 219, 546, 612). A request over its quota is answered at once
//! with the time to hold back, and its connection is not read for that long. While no quota is set, a request costs one
//! branch. `window`, `usage` and `limits` are plain values; here they meet requests, connections and other cores.

mod limits;
mod settings;
mod usage;
mod window;

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use limits::Limits;
pub use limits::QuotaKind;
pub use usage::Counted;
use usage::{TELL_INTERVAL_MS, Usage};
use window::Sampling;

use super::connection::Caller;
use super::{ConnectionId, Effect, Message, Shard, Timer};
use crate::config::BrokerConfig;
use crate::metadata::QuotaEntity;
use crate::protocol::ApiKey;
use crate::types::{ShardId, Time};

/// Whoever did not authenticate, and nobody can.
const ANONYMOUS: &str = "ANONYMOUS";

/// Of a fetch response, for each partition, around the records.
const FETCH_OVERHEAD_BYTES: usize = 64;

pub(super) struct Quotas {
    /// As they were when `limits` was made of them.
    set: Arc<BTreeMap<QuotaEntity, BTreeMap<String, f64>>>,
    limits: Limits,
    usage: Usage,
    user: Arc<str>,
    nobody: Arc<str>,
    /// Some quota needs to see requests: the branch that everybody pays.
    sees_requests: bool,
    /// Client ids of the requests whose cost in time is not known yet.
    untimed: Vec<Arc<str>>,
    telling: bool,
}

/// What becomes of a fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FetchVerdict {
    pub throttle_time_ms: i32,
    /// The answer is empty and was not counted.
    pub is_withheld: bool,
}

impl Quotas {
    pub fn new(config: &BrokerConfig, shards: u16) -> Quotas {
        let sampling = Sampling {
            samples: config.quota_window_num as usize,
            sample_ms: u64::from(config.quota_window_size_seconds) * 1000,
        };
        Quotas {
            set: Arc::default(),
            limits: Limits::default(),
            usage: Usage::new(sampling, shards > 1),
            user: ANONYMOUS.into(),
            nobody: "".into(),
            sees_requests: false,
            untimed: Vec::new(),
            telling: false,
        }
    }

    /// The facts may have changed.
    pub fn apply(&mut self, set: &Arc<BTreeMap<QuotaEntity, BTreeMap<String, f64>>>) {
        if Arc::ptr_eq(&self.set, set) {
            return;
        }
        self.set = set.clone();
        self.limits = Limits::of(set);
        self.sees_requests = self.limits.any_of_requests();
    }

    pub fn sees_requests(&self) -> bool {
        self.sees_requests
    }

    /// The quota of this kind that holds for a client, and what is counted against it.
    fn of(&self, kind: QuotaKind, client_id: &Arc<str>) -> Option<(Counted, f64)> {
        let limit = self.limits.of_client(kind, &self.user, client_id)?;
        let part = |counts: bool, name: &Arc<str>| if counts { name.clone() } else { self.nobody.clone() };
        let (user, client_id) = (part(limit.by_user, &self.user), part(limit.by_client_id, client_id));
        Some((Counted { kind, user, client_id }, limit.bound))
    }

    /// Time to hold back after what was counted, or would be after `more`.
    fn throttle_ms(&mut self, now: Time, counted: &Counted, more: f64, bound: f64) -> u64 {
        let throttle_ms = self.usage.throttle_ms(millis(now), counted, more, bound);
        match counted.kind {
            QuotaKind::Produce | QuotaKind::Fetch => throttle_ms,
            // As in Kafka, nobody waits longer than a sample for time that was taken.
            QuotaKind::Request | QuotaKind::Connection => throttle_ms.min(self.usage.sampling().sample_ms),
        }
    }

    fn on_produce(&mut self, now: Time, client_id: &Arc<str>, bytes: usize) -> u64 {
        let Some((counted, bound)) = self.of(QuotaKind::Produce, client_id) else { return 0 };
        self.usage.count(millis(now), &counted, bytes as f64);
        self.throttle_ms(now, &counted, 0.0, bound)
    }

    /// Time that the client's requests took before is held against this one: its own is not known before it is over.
    fn on_request(&mut self, now: Time, client_id: &Arc<str>) -> u64 {
        let Some((counted, bound)) = self.of(QuotaKind::Request, client_id) else { return 0 };
        self.throttle_ms(now, &counted, 0.0, bound)
    }

    fn on_fetch(&mut self, now: Time, client_id: &Arc<str>, bytes: usize) -> FetchVerdict {
        let of_time_ms = self.on_request(now, client_id);
        let mut verdict = FetchVerdict { throttle_time_ms: in_response(of_time_ms), is_withheld: of_time_ms > 0 };
        let Some((counted, bound)) = self.of(QuotaKind::Fetch, client_id) else { return verdict };
        let throttle_ms = self.throttle_ms(now, &counted, bytes as f64, bound);
        // What is larger than a whole window may hold would otherwise never leave.
        verdict.is_withheld |= throttle_ms > 0 && !self.usage.is_idle(millis(now), &counted);
        verdict.throttle_time_ms = in_response(of_time_ms.max(throttle_ms));
        if !verdict.is_withheld {
            self.usage.count(millis(now), &counted, bytes as f64);
        }
        verdict
    }

    /// What the complete samples hold at most: a larger response would only be withheld.
    fn fetch_bytes_max(&self, client_id: &Arc<str>) -> Option<u32> {
        let (_, bound) = self.of(QuotaKind::Fetch, client_id)?;
        Some((bound * self.usage.sampling().complete_ms() as f64 / 1000.0) as u32)
    }

    /// A new connection counts, unless it is refused: then its client must wait so long before the next.
    fn on_connection(&mut self, now: Time, peer: &str) -> u64 {
        let bound = peer.parse::<IpAddr>().ok().and_then(|address| self.limits.of_address(address));
        let Some(bound) = bound else { return 0 };
        let counted = Counted { kind: QuotaKind::Connection, user: peer.into(), client_id: self.nobody.clone() };
        let throttle_ms = self.throttle_ms(now, &counted, 1.0, bound);
        if throttle_ms == 0 {
            self.usage.count(millis(now), &counted, 1.0);
        }
        throttle_ms
    }
}

impl Shard {
    /// A request arrived while quotas are set: whose it is, and for how long its client must hold back after it.
    /// Produce and Fetch say that themselves, when they know more.
    pub(super) fn meter(&mut self, now: Time, caller: Caller, client_id: &str, effects: &mut Vec<Effect>) -> i32 {
        let Some(connection) = self.connections.get_mut(&caller.connection) else { return 0 };
        let client_id = match &connection.client_id {
            Some(known) if **known == *client_id => known.clone(),
            _ => connection.client_id.insert(client_id.into()).clone(),
        };
        let throttle_ms = match caller.api_key {
            key if key == ApiKey::Produce.code() || key == ApiKey::Fetch.code() => 0,
            _ => self.quotas.on_request(now, &client_id),
        };
        if self.times_requests() {
            self.quotas.untimed.push(client_id);
        }
        self.mute(now, caller.connection, throttle_ms, effects);
        in_response(throttle_ms)
    }

    /// A produce request of this size is counted when it arrives, so that the next one is not read before its time.
    /// Without an answer (acks=0) the time it takes is not held against it, as in Kafka.
    pub(super) fn meter_produce(
        &mut self,
        now: Time,
        caller: Caller,
        acks: i16,
        bytes: usize,
        effects: &mut Vec<Effect>,
    ) -> i32 {
        let Some(client_id) = self.metered_client_id(caller.connection) else { return 0 };
        let of_time_ms = if acks == 0 { 0 } else { self.quotas.on_request(now, &client_id) };
        let throttle_ms = self.quotas.on_produce(now, &client_id, bytes).max(of_time_ms);
        self.tell_usage_soon(now);
        self.mute(now, caller.connection, throttle_ms, effects);
        in_response(throttle_ms)
    }

    /// An answer of so many partitions and record bytes is ready.
    pub(super) fn meter_fetch(
        &mut self,
        now: Time,
        caller: Caller,
        client_id: &Arc<str>,
        (partitions, bytes): (usize, usize),
        effects: &mut Vec<Effect>,
    ) -> FetchVerdict {
        let verdict = self.quotas.on_fetch(now, client_id, bytes + partitions * FETCH_OVERHEAD_BYTES);
        self.tell_usage_soon(now);
        self.mute(now, caller.connection, verdict.throttle_time_ms as u64, effects);
        verdict
    }

    /// Whose requests this connection's are; `None` while no quota needs to know.
    pub(super) fn metered_client_id(&self, connection: ConnectionId) -> Option<Arc<str>> {
        if !self.quotas.sees_requests {
            return None;
        }
        self.connections.get(&connection)?.client_id.clone()
    }

    pub(super) fn fetch_bytes_max(&self, client_id: Option<&Arc<str>>) -> u32 {
        client_id.and_then(|client_id| self.quotas.fetch_bytes_max(client_id)).unwrap_or(u32::MAX)
    }

    /// A new connection whose address had too many is closed, late: its client would only come again at once.
    pub(super) fn is_refused(
        &mut self,
        now: Time,
        connection: ConnectionId,
        peer: &str,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if !self.quotas.limits.any(QuotaKind::Connection) {
            return false;
        }
        let throttle_ms = self.quotas.on_connection(now, peer);
        self.tell_usage_soon(now);
        if throttle_ms == 0 {
            return false;
        }
        self.mute(now, connection, throttle_ms, effects);
        self.set_timer(now.after_ms(throttle_ms), Timer::CloseRefused { connection });
        true
    }

    fn mute(&mut self, now: Time, connection: ConnectionId, throttle_ms: u64, effects: &mut Vec<Effect>) {
        if throttle_ms > 0 {
            self.metrics.throttled += 1;
            self.metrics.throttle_us.record(throttle_ms.saturating_mul(1000));
            effects.push(Effect::Mute { connection, until: now.after_ms(throttle_ms) });
        }
    }

    /// The time that requests take has to be measured.
    pub fn times_requests(&self) -> bool {
        self.quotas.limits.any(QuotaKind::Request)
    }

    /// Each request since the last call took so long on this core.
    pub fn on_request_time(&mut self, now: Time, request_ns: u64) {
        let percent_seconds = request_ns as f64 * 100.0 / 1e9;
        for client_id in std::mem::take(&mut self.quotas.untimed) {
            if let Some((counted, _)) = self.quotas.of(QuotaKind::Request, &client_id) {
                self.quotas.usage.count(millis(now), &counted, percent_seconds);
            }
        }
        self.tell_usage_soon(now);
    }

    fn tell_usage_soon(&mut self, now: Time) {
        if self.quotas.usage.has_untold() && !std::mem::replace(&mut self.quotas.telling, true) {
            self.set_timer(now.after_ms(TELL_INTERVAL_MS), Timer::TellUsage);
        }
    }

    pub(super) fn tell_usage(&mut self, effects: &mut Vec<Effect>) {
        self.quotas.telling = false;
        let used = self.quotas.usage.take_untold();
        for to in (0..self.shards).map(ShardId).filter(|to| *to != self.id && !self.stopping) {
            effects.push(Effect::Send { to, message: Message::Used(used.clone()) });
        }
    }

    /// What clients took on another core.
    pub(super) fn on_used(&mut self, now: Time, used: &[(Counted, f64)]) {
        for (counted, amount) in used {
            self.quotas.usage.add(millis(now), counted, *amount);
        }
    }
}

fn millis(now: Time) -> u64 {
    now.monotonic_us / 1000
}

fn in_response(throttle_ms: u64) -> i32 {
    i32::try_from(throttle_ms).unwrap_or(i32::MAX)
}
