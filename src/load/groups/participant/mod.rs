//! One member with its connections: one to its coordinator and, if it fetches, one more for records, as clients have them.
//! The group's machine and the fetcher decide; this moves their requests, and keeps the positions between them.

mod answers;

use std::collections::BTreeMap;

use super::super::net::{Clock, Link, Links};
use super::super::plan::Plan;
use super::world::World;
use crate::client::{Assigned, Fetcher, Member, MemberRequest, Position, Subscription};
use crate::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::{FindCoordinatorRequest, ListOffsetsRequest};
use crate::types::{BrokerId, Offset};

const RETRY_NS: u64 = 100_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Unknown,
    /// The group has committed nothing: where the partition ends is asked of its leader.
    Uncommitted,
    At(Offset),
}

#[derive(Debug)]
pub struct Participant {
    pub group: usize,
    pub machine: Member,
    /// False before it is told to join, and once it has left or died.
    pub is_in: bool,
    pub has_left: bool,
    /// Its part, or what it knows of it, is another than before.
    pub has_changed: bool,
    links: Links,
    fetches: bool,
    /// Any broker, to be asked who coordinates.
    first: BrokerId,
    coordinator: Option<BrokerId>,
    is_finding: bool,
    /// The coordinator's connection took requests when last looked at.
    is_open: bool,
    /// Since when the heartbeat in flight was due.
    beat_due_ns: Option<u64>,
    commit_due_ns: u64,
    /// The commit in flight that counts; those before a rebalance are in flight beside it.
    committing_due_ns: Option<u64>,
    positions: BTreeMap<Assigned, Place>,
    is_asking_offsets: bool,
    ends_asked: usize,
    fetcher: Option<Fetcher>,
    /// Which partition each subscription of the fetcher is.
    fetched: Vec<Assigned>,
    fetches_in_flight: BTreeMap<BrokerId, usize>,
    /// Answers to come that the last assignment's fetcher asked for.
    stale_fetches: BTreeMap<BrokerId, usize>,
    retry_ns: u64,
}

/// The coordinator's connection is another than the one for records, as in Kafka's own clients.
fn coordinator_key(broker: BrokerId) -> BrokerId {
    i32::MAX - broker
}

impl Participant {
    pub fn new(group: usize, machine: Member, client: u32, plan: &Plan, fetches: bool) -> Participant {
        Participant {
            group,
            machine,
            is_in: false,
            has_left: false,
            has_changed: false,
            links: links(client, plan),
            fetches,
            first: *plan.addresses.keys().next().expect("a cluster has a broker"),
            coordinator: None,
            is_finding: false,
            is_open: false,
            beat_due_ns: None,
            commit_due_ns: u64::MAX,
            committing_due_ns: None,
            positions: BTreeMap::new(),
            is_asking_offsets: false,
            ends_asked: 0,
            fetcher: None,
            fetched: Vec::new(),
            fetches_in_flight: BTreeMap::new(),
            stale_fetches: BTreeMap::new(),
            retry_ns: 0,
        }
    }

    /// Its part is known, and where to read it.
    pub fn is_settled(&self) -> bool {
        self.is_in && self.machine.is_settled() && self.positions.values().all(|place| matches!(place, Place::At(_)))
    }

    pub fn commit_at(&mut self, ns: u64) {
        self.commit_due_ns = ns;
    }

    /// Joins, as a new member where it has been one before.
    pub fn join(&mut self, machine: Member, now_ns: u64, world: &World) {
        self.machine = machine;
        (self.is_in, self.has_left, self.has_changed) = (true, false, true);
        self.commit_due_ns = now_ns + world.commit_interval_ns;
    }

    /// Commits what it has read and leaves.
    pub fn leave(&mut self, now_ns: u64, world: &mut World) {
        let all: Vec<Assigned> = self.positions.keys().copied().collect();
        self.give_up(&all, now_ns, world);
        self.machine.leave();
        (self.commit_due_ns, self.has_changed) = (u64::MAX, true);
    }

    /// Its connections close, and it says nothing more.
    pub fn die(&mut self, client: u32, plan: &Plan) {
        let machine = self.machine.clone();
        *self = Participant::new(self.group, machine, client, plan, self.fetches);
    }

    /// Connections are open and the coordinator is known.
    pub fn is_connected(&mut self, world: &World, now_ns: u64) -> bool {
        let Some(key) = self.coordinator_link() else { return false };
        let first = self.first;
        let mut is_ready = |key| matches!(self.links.ready(&world.poller, now_ns, key), Ok(Some(_)));
        is_ready(key) && is_ready(first)
    }

    /// The coordinator can be asked.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    fn coordinator_link(&self) -> Option<BrokerId> {
        let coordinator = self.coordinator?;
        Some(if self.fetches { coordinator_key(coordinator) } else { coordinator })
    }

    /// Sends what is due.
    pub fn pump(&mut self, world: &mut World) {
        let now_ns = world.clock.now_ns();
        if self.coordinator.is_none() {
            self.find_coordinator(now_ns, world);
        }
        let Some(key) = self.coordinator_link() else { return };
        self.is_open = self.open(key, now_ns, world);
        if self.fetches {
            self.open(self.first, now_ns, world);
        }
        if !self.is_open || !self.is_in {
            return;
        }
        self.ask_group(key, now_ns, world);
        self.ask_offsets(key, now_ns, world);
        if now_ns >= self.commit_due_ns {
            let due_ns = self.commit_due_ns;
            self.commit_due_ns = (due_ns + world.commit_interval_ns).max(now_ns);
            if self.committing_due_ns.is_none() && self.machine.is_settled() {
                let positions = self.positions();
                self.commit(key, &positions, Some(due_ns), now_ns, world);
            }
        }
        self.ask_ends(now_ns, world);
        self.fetch(now_ns, world);
    }

    /// The connection can take requests; begins to open one where there is none.
    fn open(&mut self, key: BrokerId, now_ns: u64, world: &mut World) -> bool {
        match self.links.ready(&world.poller, now_ns, key) {
            Ok(link) => link.is_some(),
            Err(reason) => {
                self.on_lost(key, &reason, now_ns, world);
                false
            }
        }
    }

    fn send(
        &mut self,
        key: BrokerId,
        now_ns: u64,
        world: &mut World,
        send: impl FnOnce(&Member, &mut Link) -> Result<(), String>,
    ) -> bool {
        let outcome = match self.links.ready(&world.poller, now_ns, key) {
            Ok(Some(link)) => send(&self.machine, link),
            Ok(None) => return false,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = &outcome {
            self.on_lost(key, reason, now_ns, world);
        }
        outcome.is_ok()
    }

    fn find_coordinator(&mut self, now_ns: u64, world: &mut World) {
        if self.is_finding || now_ns < self.retry_ns {
            return;
        }
        self.is_finding = self.send(self.first, now_ns, world, |machine, link| {
            let group_id = &*machine.config().group_id;
            let request = FindCoordinatorRequest { key: group_id, key_type: 0, coordinator_keys: vec![group_id] };
            link.send(&request, true)
        });
    }

    fn ask_group(&mut self, key: BrokerId, now_ns: u64, world: &mut World) {
        let due_ns = self.machine.next_deadline().map(|deadline| deadline * 1000);
        let Some(request) = self.machine.next_request(Clock::time(now_ns)) else { return };
        let outcome = match self.links.ready(&world.poller, now_ns, key) {
            Ok(Some(link)) => match &request {
                MemberRequest::Join(request) => link.send(request, true),
                MemberRequest::Sync(request) => link.send(request, true),
                MemberRequest::Leave(request) => link.send(request, true),
                MemberRequest::Heartbeat(request) => link.send(request, true),
                MemberRequest::ConsumerHeartbeat(request) => link.send(request, true),
            },
            Ok(None) => Err("it is not open".into()),
            Err(reason) => Err(reason),
        };
        let is_beat = match &request {
            MemberRequest::Heartbeat(_) => true,
            MemberRequest::ConsumerHeartbeat(request) => request.member_epoch > 0,
            _ => false,
        };
        self.beat_due_ns = due_ns.filter(|due_ns| is_beat && *due_ns > 0);
        if let Err(reason) = outcome {
            if reason.starts_with("it does not offer") || reason.starts_with("it offers") {
                world.failure = Some(format!("the coordinator cannot take members of this protocol: {reason}"));
            }
            self.on_lost(key, &reason, now_ns, world);
        }
    }

    fn ask_offsets(&mut self, key: BrokerId, now_ns: u64, world: &mut World) {
        let unknown: Vec<Assigned> = self.of_place(Place::Unknown);
        if unknown.is_empty() || self.is_asking_offsets || now_ns < self.retry_ns {
            return;
        }
        self.is_asking_offsets =
            self.send(key, now_ns, world, |machine, link| link.send(&machine.ask_offsets(&unknown), true));
    }

    fn of_place(&self, place: Place) -> Vec<Assigned> {
        self.positions.iter().filter(|(_, known)| **known == place).map(|(assigned, _)| *assigned).collect()
    }

    /// Of partitions that nothing was committed for, at their leaders.
    fn ask_ends(&mut self, now_ns: u64, world: &mut World) {
        let open = self.of_place(Place::Uncommitted);
        if open.is_empty() || self.ends_asked > 0 || now_ns < self.retry_ns {
            return;
        }
        let mut by_leader: BTreeMap<BrokerId, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for Assigned { partition, .. } in open {
            let Some(leader) = world.plan.partitions.get(partition as usize).and_then(|place| place.leader) else {
                continue;
            };
            let asked = ListOffsetsPartition { partition_index: partition, current_leader_epoch: -1, timestamp: -1 };
            by_leader.entry(leader).or_default().push(asked);
        }
        for (leader, partitions) in by_leader {
            let is_sent = self.send(leader, now_ns, world, |machine, link| {
                let topics = vec![ListOffsetsTopic { name: &machine.config().topics[0].name, partitions }];
                link.send(&ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 10_000 }, true)
            });
            self.ends_asked += usize::from(is_sent);
        }
    }

    fn positions(&self) -> Vec<Position> {
        let known = self.positions.iter().filter_map(|(assigned, place)| match place {
            Place::At(offset) => Some(Position { assigned: *assigned, offset: *offset, leader_epoch: -1 }),
            _ => None,
        });
        known.collect()
    }

    fn commit(&mut self, key: BrokerId, positions: &[Position], due_ns: Option<u64>, now_ns: u64, world: &mut World) {
        if positions.is_empty() {
            return;
        }
        let is_sent = self.send(key, now_ns, world, |machine, link| link.send(&machine.commit(positions), true));
        if is_sent && due_ns.is_some() {
            self.committing_due_ns = due_ns;
        }
    }

    /// Commits these partitions as far as they were read, and reads them no more.
    fn give_up(&mut self, removed: &[Assigned], now_ns: u64, world: &mut World) {
        let mut last = self.positions();
        last.retain(|position| removed.contains(&position.assigned));
        if let Some(key) = self.coordinator_link() {
            self.commit(key, &last, None, now_ns, world);
        }
        self.positions.retain(|assigned, _| !removed.contains(assigned));
        self.renew_fetcher(world);
    }

    fn fetch(&mut self, now_ns: u64, world: &mut World) {
        let Some(fetcher) = &mut self.fetcher else { return };
        let mut lost = None;
        for leader in fetcher.leaders() {
            match self.links.ready(&world.poller, now_ns, leader) {
                Ok(Some(link)) => {
                    let Some(request) = fetcher.next_request(Clock::time(now_ns), leader) else { continue };
                    match link.send(&request, true) {
                        Ok(()) => *self.fetches_in_flight.entry(leader).or_default() += 1,
                        Err(reason) => lost = Some((leader, reason)),
                    }
                }
                Ok(None) => {}
                Err(reason) => lost = Some((leader, reason)),
            }
        }
        if let Some((leader, reason)) = lost {
            self.on_lost(leader, &reason, now_ns, world);
        }
    }

    /// A fetcher of all partitions whose position is known.
    fn renew_fetcher(&mut self, world: &World) {
        if !self.fetches {
            return;
        }
        self.stale_fetches = self.fetches_in_flight.clone();
        let positions = self.positions();
        self.fetched = positions.iter().map(|position| position.assigned).collect();
        let subscription = |position: &Position| {
            let place = &world.plan.partitions[position.assigned.partition as usize];
            Subscription {
                topic: place.topic.clone(),
                topic_id: place.topic_id,
                partition: place.partition,
                leader: place.leader,
                leader_epoch: place.leader_epoch,
                offset: position.offset,
            }
        };
        let subscriptions: Vec<_> = positions.iter().map(subscription).collect();
        self.fetcher = (!subscriptions.is_empty()).then(|| Fetcher::new(world.plan.consumer.config(), subscriptions));
    }

    fn on_lost(&mut self, key: BrokerId, reason: &str, now_ns: u64, world: &mut World) {
        world.samples.disconnects += 1;
        world.samples.error(format!("connection: {reason}"));
        self.links.close(key, now_ns);
        if self.coordinator_link() == Some(key) {
            (self.coordinator, self.is_open) = (None, false);
            self.machine.on_disconnect(Clock::time(now_ns));
            (self.beat_due_ns, self.committing_due_ns) = (None, None);
            self.is_asking_offsets = false;
        }
        if key == self.first {
            self.is_finding = false;
        }
        self.ends_asked = 0;
        self.fetches_in_flight.remove(&key);
        self.stale_fetches.remove(&key);
        if let Some(fetcher) = &mut self.fetcher {
            fetcher.on_disconnect(Clock::time(now_ns), key);
        }
        self.retry_ns = now_ns + RETRY_NS;
    }

    /// When something is due without anything happening on a socket.
    pub fn next_ns(&self) -> u64 {
        let in_time = |ns: u64| (ns != u64::MAX).then_some(ns);
        let (is_found, is_asking) = (self.coordinator.is_some(), self.is_in && self.is_open);
        let machine = self.machine.next_deadline().filter(|_| is_asking).map(|us| us * 1000);
        let commit = in_time(self.commit_due_ns).filter(|_| is_asking);
        let fetch = self.fetcher.as_ref().and_then(Fetcher::next_deadline).map(|us| us * 1000 + 1);
        let is_waiting = (!is_found && !self.is_finding)
            || (is_asking && !self.is_asking_offsets && self.ends_asked == 0 && !self.is_placed());
        let retry = is_waiting.then_some(self.retry_ns);
        machine
            .into_iter()
            .chain(commit)
            .chain(fetch)
            .chain(retry)
            .chain(self.links.next_ns())
            .min()
            .unwrap_or(u64::MAX)
    }

    fn is_placed(&self) -> bool {
        self.positions.values().all(|place| matches!(place, Place::At(_)))
    }
}

fn links(client: u32, plan: &Plan) -> Links {
    let mut addresses = plan.addresses.clone();
    addresses.extend(plan.addresses.iter().map(|(broker, address)| (coordinator_key(*broker), *address)));
    Links::new(client, format!("{}-member-{client}", plan.client_id), addresses)
}
