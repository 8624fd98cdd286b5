//! All participants on one thread: one poller, one queue of what is due, and for each group whether it is stable. It turns
//! until somebody outside is satisfied.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::net::{Clock, Links, Poller};
use super::super::plan::Plan;
use super::super::producing::Producing;
use super::super::random::Random;
use super::super::stats::Interval;
use super::arguments::{GroupProtocol, GroupsArguments};
use super::participant::Participant;
use super::samples::{Consumption, Samples};
use super::world::World;
use crate::client::{Assigned, ClassicMember, ConsumerMember, Member, MemberConfig, SubscribedTopic};
use crate::types::Uuid;

/// Connections that may be on their way at one moment: a broker's backlog holds them.
const OPENING_MAX: usize = 32;
const SLEEP_NS_MAX: u64 = 10_000_000;
/// What is due is looked at so often at most before sockets are.
const PUMPS_PER_TURN: usize = 256;

#[derive(Debug, Default)]
pub struct Group {
    /// Places among the participants.
    pub members: Vec<usize>,
    pub stable_since_ns: Option<u64>,
}

#[derive(Debug)]
pub struct Storm {
    pub world: World,
    pub participants: Vec<Participant>,
    pub groups: Vec<Group>,
    /// Groups that are not stable.
    pub unstable: BTreeSet<usize>,
    arguments: GroupsArguments,
    producing: Option<Producing>,
    produced: Interval,
    /// When which participant is due; an entry counts if `due_ns` of the participant says the same.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    due_ns: Vec<u64>,
    random: Random,
    tokens: Vec<u64>,
    interrupted: Arc<AtomicBool>,
    show: fn(&Storm, u64),
    shown_ns: u64,
}

impl Storm {
    pub fn new(
        arguments: &GroupsArguments,
        plan: Plan,
        interrupted: Arc<AtomicBool>,
        show: fn(&Storm, u64),
    ) -> Result<Storm, String> {
        let plan = Arc::new(plan);
        let poller = Poller::new().map_err(|error| format!("the generator cannot watch sockets: {error}"))?;
        let (groups, all) = (arguments.groups as usize, arguments.all_members() as usize);
        let consuming = if plan.producers > 0 { arguments.consuming() as usize } else { 0 };
        let producing = (plan.producers > 0).then(|| Producing::new(plan.clone(), 0, all as u32));
        let mut storm = Storm {
            world: World {
                clock: Clock::start(),
                poller,
                samples: Samples::default(),
                consumption: vec![Consumption::new(plan.partitions.len()); consuming],
                is_disturbed: vec![false; groups],
                commit_interval_ns: arguments.commit_interval.as_nanos() as u64,
                answered: 0,
                failure: None,
                plan: plan.clone(),
            },
            participants: Vec::with_capacity(all),
            groups: (0..groups).map(|_| Group::default()).collect(),
            unstable: (0..groups).collect(),
            arguments: arguments.clone(),
            producing,
            produced: Interval::default(),
            queue: BinaryHeap::new(),
            due_ns: vec![u64::MAX; all],
            random: Random::new(arguments.seed, 2),
            tokens: Vec::new(),
            interrupted,
            show,
            shown_ns: 0,
        };
        for index in 0..all {
            let group = index / arguments.members as usize;
            let machine = storm.machine(group);
            storm.participants.push(Participant::new(group, machine, index as u32, &plan, group < consuming));
            storm.groups[group].members.push(index);
        }
        Ok(storm)
    }

    /// A member that has never joined.
    fn machine(&mut self, group: usize) -> Member {
        let plan = &self.world.plan;
        let topic = SubscribedTopic {
            name: plan.partitions[0].topic.clone(),
            id: plan.partitions[0].topic_id,
            partitions: plan.partitions.len() as i32,
        };
        let config = MemberConfig {
            group_id: format!("{}-{group}", self.arguments.group).into(),
            instance_id: None,
            topics: vec![topic],
            session_timeout_ms: i32::try_from(self.arguments.session_timeout.as_millis()).unwrap_or(i32::MAX),
            rebalance_timeout_ms: 300_000,
            heartbeat_interval_ms: self.arguments.heartbeat_interval.as_millis() as u64,
            retry_backoff_ms: plan.consumer.retry_backoff_ms,
        };
        match self.arguments.protocol {
            GroupProtocol::Classic => Member::Classic(ClassicMember::new(config)),
            GroupProtocol::Consumer => {
                let bits = u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
                Member::Consumer(ConsumerMember::new(config, Uuid::from_random(bits)))
            }
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.world.clock.now_ns()
    }

    /// Opens every participant's connections, a few at a time. False if time ran out.
    pub fn connect(&mut self, limit_ns: u64) -> Result<bool, String> {
        let mut opening: Vec<usize> = Vec::new();
        let mut next = 0;
        while next < self.participants.len() || !opening.is_empty() {
            while opening.len() < OPENING_MAX && next < self.participants.len() {
                opening.push(next);
                self.pump(next);
                next += 1;
            }
            self.turn(limit_ns)?;
            let now_ns = self.now_ns();
            opening.retain(|index| !self.participants[*index].is_connected(&self.world, now_ns));
            if now_ns > limit_ns {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn connected(&self) -> usize {
        self.participants.iter().filter(|participant| participant.is_open()).count()
    }

    pub fn join(&mut self, index: usize) {
        let machine = self.machine(self.participants[index].group);
        let now_ns = self.now_ns();
        self.participants[index].join(machine, now_ns, &self.world);
        self.pump(index);
    }

    pub fn leave(&mut self, index: usize) {
        let now_ns = self.now_ns();
        self.participants[index].leave(now_ns, &mut self.world);
        self.pump(index);
    }

    pub fn die(&mut self, index: usize) {
        let plan = self.world.plan.clone();
        self.participants[index].die(index as u32, &plan);
        self.look(index);
    }

    /// Spreads heartbeats and commits evenly over their intervals.
    pub fn spread(&mut self) {
        let now_ns = self.now_ns();
        let beat_us = match self.arguments.protocol {
            GroupProtocol::Classic => self.arguments.heartbeat_interval.as_micros() as u64,
            GroupProtocol::Consumer => 0,
        };
        for index in 0..self.participants.len() {
            let participant = &mut self.participants[index];
            // Of the consumer protocol only the broker knows the interval: the deadline that stands is the end of one.
            let upto_us = match beat_us {
                0 => participant.machine.next_deadline().map_or(0, |us| us.saturating_sub(now_ns / 1000)),
                beat_us => beat_us,
            };
            let part = self.random.unit();
            participant.machine.heartbeat_at(now_ns / 1000 + (upto_us as f64 * part) as u64);
            participant.commit_at(now_ns + (self.world.commit_interval_ns as f64 * self.random.unit()) as u64);
            self.schedule(index);
        }
    }

    fn pump(&mut self, index: usize) {
        self.participants[index].pump(&mut self.world);
        self.look(index);
    }

    /// After something happened to a participant.
    fn look(&mut self, index: usize) {
        if std::mem::take(&mut self.participants[index].has_changed) || !self.participants[index].is_in {
            self.look_at_group(self.participants[index].group);
        }
        self.schedule(index);
    }

    fn schedule(&mut self, index: usize) {
        let next_ns = self.participants[index].next_ns();
        if next_ns != self.due_ns[index] {
            self.due_ns[index] = next_ns;
            if next_ns != u64::MAX {
                self.queue.push(Reverse((next_ns, index)));
            }
        }
    }

    fn look_at_group(&mut self, index: usize) {
        let is_stable = self.is_stable(index);
        let group = &mut self.groups[index];
        match (is_stable, group.stable_since_ns) {
            (true, None) => {
                group.stable_since_ns = Some(self.world.clock.now_ns());
                self.unstable.remove(&index);
            }
            (false, Some(_)) => {
                group.stable_since_ns = None;
                self.unstable.insert(index);
            }
            _ => {}
        }
    }

    fn is_stable(&self, group: usize) -> bool {
        let members = || self.groups[group].members.iter().map(|member| &self.participants[*member]);
        let mut live = members().filter(|member| member.is_in).peekable();
        let Some(first) = live.peek() else { return false };
        // In the classic protocol one generation shares the partitions; in the other, members are at epochs of their own.
        let generation = first.machine.generation();
        let is_one = |generation_of: i32| matches!(first.machine, Member::Consumer(_)) || generation_of == generation;
        if !members().filter(|member| member.is_in).all(|one| one.is_settled() && is_one(one.machine.generation())) {
            return false;
        }
        let parts = live.map(|member| member.machine.assignment());
        is_even(parts, self.world.plan.partitions.len())
    }

    /// Until `is_done`, or until time runs out, which gives false.
    pub fn run_until(&mut self, limit_ns: u64, is_done: impl Fn(&Storm) -> bool) -> Result<bool, String> {
        while !is_done(self) {
            if self.now_ns() >= limit_ns {
                return Ok(false);
            }
            self.turn(limit_ns)?;
        }
        Ok(true)
    }

    pub fn run_for(&mut self, length_ns: u64) -> Result<(), String> {
        let limit_ns = self.now_ns() + length_ns;
        self.run_until(limit_ns, |_| false).map(|_| ())
    }

    fn turn(&mut self, limit_ns: u64) -> Result<(), String> {
        let (clock, mut next_ns) = (self.world.clock, limit_ns);
        if let Some(producing) = &mut self.producing {
            producing.produce(clock, u64::MAX, &mut self.produced);
            producing.pump(&self.world.poller, clock.now_ns(), 0, &mut self.produced);
            next_ns = next_ns.min(producing.next_ns());
            if let Some(reason) = producing.failure.take() {
                return Err(reason);
            }
        }
        for _ in 0..PUMPS_PER_TURN {
            let Some(Reverse((due_ns, index))) = self.queue.peek().copied() else { break };
            if due_ns > clock.now_ns() {
                next_ns = next_ns.min(due_ns);
                break;
            }
            self.queue.pop();
            if self.due_ns[index] == due_ns {
                self.due_ns[index] = u64::MAX;
                self.pump(index);
            }
        }
        if let Some(Reverse((due_ns, _))) = self.queue.peek() {
            next_ns = next_ns.min(*due_ns);
        }
        let now_ns = clock.now_ns();
        let until_ns = next_ns.min(now_ns.saturating_add(SLEEP_NS_MAX));
        let mut tokens = std::mem::take(&mut self.tokens);
        let waited = self.world.poller.wait(now_ns, until_ns, &mut tokens);
        waited.map_err(|error| format!("the generator cannot wait for its sockets: {error}"))?;
        for token in tokens.drain(..) {
            self.on_event(token);
        }
        self.tokens = tokens;
        if now_ns >= self.shown_ns + self.arguments.interval.as_nanos() as u64 {
            self.shown_ns = now_ns;
            (self.show)(self, now_ns);
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        self.world.failure.take().map_or(Ok(()), Err)
    }

    fn on_event(&mut self, token: u64) {
        let (client, broker) = Links::parts(token);
        if client < self.participants.len() {
            self.participants[client].on_event(broker, &mut self.world);
            self.pump(client);
        } else if let Some(producing) = &mut self.producing {
            let now_ns = self.world.clock.now_ns();
            producing.on_event(broker, &mut self.world.poller, now_ns, 0, &mut self.produced);
        }
    }

    /// What was produced since the last call, and errors of it, counted into the samples.
    pub fn take_produced(&mut self) -> u64 {
        let produced = std::mem::take(&mut self.produced);
        for (name, count) in produced.counts.errors {
            *self.world.samples.errors.entry(format!("Produce: {name}")).or_default() += count;
        }
        produced.counts.acknowledged
    }
}

/// Every partition has one owner, and no owner more than one partition more than another.
fn is_even<'a>(parts: impl Iterator<Item = &'a BTreeSet<Assigned>>, partitions: usize) -> bool {
    let (mut least, mut most, mut all) = (usize::MAX, 0, Vec::with_capacity(partitions));
    for part in parts {
        (least, most) = (least.min(part.len()), most.max(part.len()));
        all.extend(part.iter().map(|assigned| assigned.partition));
    }
    all.sort_unstable();
    most - least.min(most) <= 1 && all.len() == partitions && all.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_even_when_each_partition_has_one_owner_and_the_parts_are_alike() {
        let part = |partitions: &[i32]| -> BTreeSet<Assigned> {
            partitions.iter().map(|partition| Assigned { topic: 0, partition: *partition }).collect()
        };
        let is_even = |parts: &[&[i32]]| is_even(parts.iter().map(|one| part(one)).collect::<Vec<_>>().iter(), 3);
        assert!(is_even(&[&[0, 2], &[1]]));
        assert!(!is_even(&[&[0, 1, 2], &[]]), "one has everything");
        assert!(!is_even(&[&[0, 2], &[]]), "one partition has no owner");
        assert!(!is_even(&[&[0, 1], &[1]]), "one partition has two owners and one none");
        assert!(is_even(&[&[0], &[1], &[2], &[]]), "one member more than partitions");
    }
}
