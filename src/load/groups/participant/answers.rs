//! What a participant hears: from its coordinator, and from the leaders of its partitions.

use std::collections::BTreeMap;

use super::super::super::net::Clock;
use super::super::super::stamp::{Read, Stamp};
use super::super::world::World;
use super::{Participant, Place, RETRY_NS};
use crate::client::{Assigned, Change, Response, SessionError, refusal};
use crate::error_code::ErrorCode;
use crate::protocol::{
    ApiKey, FetchResponse, FindCoordinatorResponse, ListOffsetsResponse, OffsetCommitResponse, OffsetFetchResponse,
};
use crate::types::BrokerId;

/// What ends a rebalance's old round, and is no fault.
const ORDINARY: &[ErrorCode] = &[ErrorCode::None, ErrorCode::MemberIdRequired, ErrorCode::RebalanceInProgress];

impl Participant {
    pub fn on_event(&mut self, key: BrokerId, world: &mut World) {
        let mut responses = Vec::new();
        let outcome = self.links.on_event(key, &mut world.poller.scratch, &mut responses);
        let mut lost = None;
        for response in responses {
            if let Err(reason) = self.on_response(key, &response, world) {
                lost.get_or_insert(reason);
            }
        }
        let now_ns = world.clock.now_ns();
        if let Some(reason) = lost.or(outcome.err()) {
            self.on_lost(key, &reason, now_ns, world);
        }
    }

    fn on_response(&mut self, key: BrokerId, response: &Response, world: &mut World) -> Result<(), String> {
        let is = |api: ApiKey| response.api_key == api.code();
        let now_ns = world.clock.now_ns();
        let wrong = |error: SessionError| error.to_string();
        if is(ApiKey::Fetch) {
            self.on_fetched(key, response.decode().map_err(wrong)?, now_ns, world);
        } else if is(ApiKey::OffsetCommit) {
            self.on_committed(&response.decode().map_err(wrong)?, now_ns, world);
        } else if is(ApiKey::OffsetFetch) {
            self.on_offsets(&response.decode().map_err(wrong)?, now_ns, world);
        } else if is(ApiKey::ListOffsets) {
            self.on_ends(&response.decode().map_err(wrong)?, now_ns, world);
        } else if is(ApiKey::FindCoordinator) {
            self.on_coordinator(&response.decode().map_err(wrong)?, now_ns, world);
        } else {
            self.on_group(response, now_ns, world).map_err(wrong)?;
        }
        Ok(())
    }

    fn on_coordinator(&mut self, answer: &FindCoordinatorResponse, now_ns: u64, world: &mut World) {
        self.is_finding = false;
        let (code, broker) = match answer.coordinators.first() {
            Some(coordinator) => (coordinator.error_code, coordinator.node_id),
            None => (answer.error_code, answer.node_id),
        };
        match ErrorCode::from_code(code).unwrap_or_default() {
            ErrorCode::None if code == 0 && world.plan.addresses.contains_key(&broker) => {
                self.coordinator = Some(broker);
            }
            code => {
                world.samples.error(format!("FindCoordinator: {}", code.name()));
                self.retry_ns = now_ns + RETRY_NS;
            }
        }
    }

    fn on_group(&mut self, response: &Response, now_ns: u64, world: &mut World) -> Result<(), SessionError> {
        let answered = self.machine.on_response(Clock::time(now_ns), response)?;
        self.has_changed = true;
        if let Some(due_ns) = self.beat_due_ns.take() {
            world.answered += 1;
            if !world.is_disturbed[self.group] {
                world.samples.heartbeat.saturating_record(now_ns.saturating_sub(due_ns));
            }
        }
        if !ORDINARY.contains(&answered.code) {
            world.samples.error(format!("membership: {}", answered.code.name()));
        }
        match answered.change {
            None => {}
            Some(Change::Assignment { removed, added }) => {
                self.give_up(&removed, now_ns, world);
                self.positions.extend(added.into_iter().map(|assigned| (assigned, Place::Unknown)));
            }
            Some(Change::Left) => (self.is_in, self.has_left) = (false, true),
            Some(Change::CoordinatorLost) => self.coordinator = None,
            Some(Change::Failed(code)) => {
                let group = &self.machine.config().group_id;
                world.failure = Some(format!("a member of group {group} is refused: {code}{}", hint(code)));
            }
        }
        Ok(())
    }

    fn on_offsets(&mut self, answer: &OffsetFetchResponse, now_ns: u64, world: &mut World) {
        self.is_asking_offsets = false;
        match self.machine.committed(answer) {
            Ok(committed) => {
                for (assigned, offset) in committed {
                    if let Some(place) = self.positions.get_mut(&assigned).filter(|place| **place == Place::Unknown) {
                        *place = offset.map_or(Place::Uncommitted, Place::At);
                    }
                }
                self.has_changed = true;
                self.renew_fetcher(world);
            }
            Err(code) => {
                world.samples.error(format!("OffsetFetch: {}", code.name()));
                self.retry_ns = now_ns + RETRY_NS;
            }
        }
    }

    fn on_ends(&mut self, answer: &ListOffsetsResponse, now_ns: u64, world: &mut World) {
        self.ends_asked = self.ends_asked.saturating_sub(1);
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            let assigned = Assigned { topic: 0, partition: partition.partition_index };
            match ErrorCode::from_code(partition.error_code) {
                Some(ErrorCode::None) => {
                    if let Some(place) = self.positions.get_mut(&assigned) {
                        *place = Place::At(partition.offset);
                    }
                }
                code => {
                    world.samples.error(format!("ListOffsets: {}", code.unwrap_or_default().name()));
                    self.retry_ns = now_ns + RETRY_NS;
                }
            }
        }
        self.has_changed = true;
        self.renew_fetcher(world);
    }

    fn on_committed(&mut self, answer: &OffsetCommitResponse, now_ns: u64, world: &mut World) {
        let refused = refusal(answer).filter(|code| !ORDINARY.contains(code));
        if let Some(code) = refused {
            world.samples.error(format!("OffsetCommit: {}", code.name()));
        }
        if let Some(due_ns) = self.committing_due_ns.take() {
            world.answered += 1;
            if !world.is_disturbed[self.group] {
                world.samples.commit.saturating_record(now_ns.saturating_sub(due_ns));
            }
        }
    }

    fn on_fetched(&mut self, leader: BrokerId, answer: FetchResponse, now_ns: u64, world: &mut World) {
        let less = |counts: &mut BTreeMap<BrokerId, usize>| match counts.get_mut(&leader) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        };
        less(&mut self.fetches_in_flight);
        if less(&mut self.stale_fetches) {
            return;
        }
        let Some(fetcher) = &mut self.fetcher else { return };
        for fetched in fetcher.on_response(Clock::time(now_ns), leader, answer) {
            let assigned = self.fetched[fetched.subscription];
            let batches = match fetched.outcome {
                Ok(batches) => batches,
                Err(code) => {
                    world.samples.error(format!("Fetch: {}", code.name()));
                    continue;
                }
            };
            self.positions.insert(assigned, Place::At(fetcher.subscription(fetched.subscription).offset));
            for record in batches.records() {
                let Ok((_, record)) = record else {
                    world.samples.error("records that do not read".into());
                    break;
                };
                world.consumption[self.group].on_record(assigned.partition as usize, now_ns);
                let read = Stamp::read(record.value.as_deref().unwrap_or_default(), world.plan.run, false);
                if let (Read::Whole(stamp) | Read::Times(stamp), false) = (read, world.is_disturbed[self.group]) {
                    world.samples.end_to_end.saturating_record(now_ns.saturating_sub(stamp.due_ns));
                }
            }
        }
    }
}

/// Which setting of the broker to look at.
fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidSessionTimeout => {
            " --session-timeout lies between group.min.session.timeout.ms and group.max.session.timeout.ms of the broker"
        }
        ErrorCode::GroupMaxSizeReached => " See group.max.size of the broker",
        ErrorCode::UnsupportedVersion => {
            " The broker may have the consumer protocol switched off: --protocol classic works"
        }
        _ => "",
    }
}
