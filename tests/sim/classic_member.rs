//! Members of the classic protocol: they join, the one that leads assigns, the others wait for it. Now and then one leaves,
//! joins again, reads other topics, or does nothing for longer than its session lasts and commits as if nothing were.

use std::collections::{BTreeMap, BTreeSet};

use gannet::error_code::ErrorCode;
use gannet::protocol::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartitions};
use gannet::protocol::heartbeat::*;
use gannet::protocol::join_group::*;
use gannet::protocol::leave_group::*;
use gannet::protocol::sync_group::*;
use gannet::protocol::{Message, Writer, decode_response};
use gannet::types::PartitionId;

use crate::client::{Action, Asked, Client, Ctx};
use crate::groups::Slot;
use crate::membership::{Ask, Membership, slots, some_topics};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    Join,
    Sync,
    Member,
}

pub struct ClassicMember {
    base: Membership,
    stage: Stage,
    /// The version of its joins: a static member that leads must be told that it does.
    version: i16,
    leader: String,
    /// Everybody in the generation and what they read, if it is this member's to assign.
    others: Vec<(String, Vec<String>)>,
    /// What there was to assign, by the one that did.
    planned: Option<BTreeSet<Slot>>,
    joined_at: u64,
    session_ms: u64,
    rebalance_ms: u64,
    pause_us: u64,
    /// It has slept, and does not know for how long.
    drowsy: bool,
    /// All members are of the classic protocol.
    is_pure: bool,
}

fn subscription(reads: &BTreeSet<&'static str>) -> Vec<u8> {
    let subscription = ConsumerProtocolSubscription { topics: reads.iter().copied().collect(), ..Default::default() };
    let mut writer = Writer::new();
    subscription.encode_message(&mut writer, 1);
    let mut bytes = 1i16.to_be_bytes().to_vec();
    bytes.extend(writer.finish().concat());
    bytes
}

fn topics_of(subscription: &[u8]) -> Vec<String> {
    let (_, subscription) = ConsumerProtocolSubscription::of_bytes(subscription).expect("a member wrote it");
    subscription.topics.iter().map(|topic| (*topic).to_owned()).collect()
}

impl ClassicMember {
    pub fn new(ctx: &mut Ctx, group: &'static str, instance: Option<String>, is_pure: bool) -> ClassicMember {
        let session_ms = ctx.chance.pick(&[200, 400, 800]);
        let version = if instance.is_some() { 9 } else { ctx.chance.between(1, 9) as i16 };
        ClassicMember {
            base: Membership::new(ctx, group, instance),
            stage: Stage::Join,
            version,
            leader: String::new(),
            others: Vec::new(),
            planned: None,
            joined_at: 0,
            session_ms,
            rebalance_ms: ctx.chance.pick(&[250, 500]),
            pause_us: ctx.chance.pick(&[10_000, 25_000, 50_000]),
            drowsy: false,
            is_pure,
        }
    }

    fn leads(&self) -> bool {
        !self.base.id.is_empty() && self.leader == self.base.id
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        if !self.base.line.up || self.base.line.in_flight() > 0 {
            return;
        }
        if !self.base.is_found {
            return self.base.find(ctx);
        }
        if !self.base.has_looked {
            return self.base.look(ctx);
        }
        match self.stage {
            Stage::Join => self.join(ctx),
            Stage::Sync => self.sync(ctx),
            Stage::Member if std::mem::take(&mut self.drowsy) && !self.base.owned.is_empty() => {
                self.base.commit(ctx, 2);
            }
            Stage::Member if self.leads() && self.planned != Some(self.to_plan(ctx)) => self.join(ctx),
            Stage::Member => match ctx.chance.below(60) {
                0..3 => self.base.look(ctx),
                _ if ctx.settling => self.heartbeat(ctx),
                3 => self.leave(ctx),
                4 => self.join(ctx),
                5 => {
                    self.base.reads = some_topics(ctx);
                    self.join(ctx);
                }
                6 | 7 => {
                    self.drowsy = true;
                    ctx.wake_in(self.session_ms * 900, self.session_ms * 2_000);
                }
                8..35 if !self.base.owned.is_empty() => self.base.commit(ctx, 2),
                _ => self.heartbeat(ctx),
            },
        }
    }

    /// All there is of what the members read.
    fn to_plan(&self, ctx: &Ctx) -> BTreeSet<Slot> {
        let all = slots(ctx, |topic| self.others.iter().any(|(_, topics)| topics.iter().any(|read| read == topic)));
        all.into_iter().map(|(slot, _)| slot).collect()
    }

    /// Whoever joins gives up all it has.
    fn join(&mut self, ctx: &mut Ctx) {
        let id = self.base.id.clone();
        self.base.owned.clear();
        let group = self.base.of(ctx);
        let begun = group.last_generation;
        if !id.is_empty() {
            group.give_up(&id, |_| true);
            group.set_uncertain(&id);
            group.rebalancing.insert(id.clone());
        }
        (self.stage, self.joined_at, self.planned) = (Stage::Join, ctx.now, None);
        let (metadata, instance) = (subscription(&self.base.reads), self.base.instance.clone());
        let request = JoinGroupRequest {
            group_id: self.base.group,
            session_timeout_ms: self.session_ms as i32,
            rebalance_timeout_ms: self.rebalance_ms as i32,
            member_id: &id,
            group_instance_id: instance.as_deref(),
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: &metadata }],
            ..Default::default()
        };
        self.base.line.send(ctx, &request, self.version, Ask::Join(begun));
    }

    fn on_joined(&mut self, ctx: &mut Ctx, asked: &Asked<Ask>, frame: &[u8], begun: i32) {
        let (_, response) = decode_response::<JoinGroupResponse>(frame, asked.version).expect("it reads");
        let error = ErrorCode::from_code(response.error_code).expect("a code that is known");
        if error == ErrorCode::MemberIdRequired {
            self.base.id = response.member_id.to_owned();
            return;
        }
        if self.on_error(ctx, error) {
            return;
        }
        let (generation, name) = (response.generation_id, self.base.group);
        let group = self.base.of(ctx);
        assert!(generation >= begun || group.begins_anew(), "{name}: generation {generation} comes after {begun}");
        group.rebalancing.remove(&self.base.id);
        group.rebalancing.insert(response.member_id.to_owned());
        (self.base.id, self.base.epoch) = (response.member_id.to_owned(), generation);
        self.leader = response.leader.to_owned();
        self.others = response.members.iter().map(|row| (row.member_id.to_owned(), topics_of(row.metadata))).collect();
        if response.skip_assignment {
            self.others.clear();
        }
        self.stage = Stage::Sync;
        ctx.model.groups.count("joins");
    }

    fn sync(&mut self, ctx: &mut Ctx) {
        let version = ctx.chance.between(3, 5) as i16;
        let mut plan: BTreeMap<&str, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
        if self.leads() && !self.others.is_empty() {
            let to_plan = self.to_plan(ctx);
            let start = ctx.chance.below(8) as usize;
            for (place, (topic, index)) in to_plan.iter().enumerate() {
                let readers: Vec<&(String, Vec<String>)> =
                    self.others.iter().filter(|(_, topics)| topics.contains(topic)).collect();
                let reader = &readers[(start + place) % readers.len()].0;
                plan.entry(reader).or_default().entry(topic.clone()).or_default().push(*index);
            }
            self.planned = Some(to_plan);
        }
        let assigned: Vec<_> = plan
            .iter()
            .map(|(member, topics)| {
                let rows =
                    topics.iter().map(|(topic, partitions)| TopicPartitions { topic, partitions: partitions.clone() });
                let assignment = ConsumerProtocolAssignment { assigned_partitions: rows.collect(), user_data: None };
                (*member, assignment.to_bytes(1))
            })
            .collect();
        let assignments =
            assigned.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
        let instance = self.base.instance.clone();
        let id = self.base.id.clone();
        let request = SyncGroupRequest {
            group_id: self.base.group,
            generation_id: self.base.epoch,
            member_id: &id,
            group_instance_id: instance.as_deref(),
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            assignments: assignments.collect(),
        };
        self.base.line.send(ctx, &request, version, Ask::Sync);
    }

    fn on_synced(&mut self, ctx: &mut Ctx, asked: &Asked<Ask>, frame: &[u8]) {
        let (_, response) = decode_response::<SyncGroupResponse>(frame, asked.version).expect("it reads");
        let error = ErrorCode::from_code(response.error_code).expect("a code that is known");
        if self.on_error(ctx, error) {
            return;
        }
        let mut assigned: Vec<Slot> = Vec::new();
        if !response.assignment.is_empty() {
            let assignment = ConsumerProtocolAssignment::of_bytes(response.assignment).expect("a leader wrote it");
            for row in &assignment.assigned_partitions {
                assigned.extend(row.partitions.iter().map(|index| (row.topic.to_owned(), *index)));
            }
        }
        // What has another meaning by now, or had one when the leader assigned it, nobody reads.
        let known = slots(ctx, |_| true).into_iter().filter(|(_, id)| ctx.model.is_stable(id.topic, self.joined_at));
        let known: BTreeMap<Slot, PartitionId> = known.collect();
        self.base.owned = assigned.iter().filter_map(|slot| Some((*known.get(slot)?, slot.clone()))).collect();
        let (now, name, id, generation) = (ctx.now, self.base.group, self.base.id.clone(), self.base.epoch);
        let (until, is_pure) = (self.joined_at + self.certain_us(), self.is_pure);
        let (reads, leader, taken) = (&self.base.reads, &self.leader, self.base.owned.keys().copied().collect());
        let (life, lasting) = (ctx.life, self.base.instance.clone().unwrap_or_else(|| id.clone()));
        let group = self.base.of(ctx);
        group.loaded_in = Some(life);
        let is_new = is_pure && group.assigned(name, generation, leader, &lasting, &assigned);
        let taken_over = group.take(name, &id, &taken, now);
        group.set_certain(&id, until);
        group.rebalancing.remove(&id);
        group.live.insert(id, reads.clone());
        if is_new {
            ctx.model.groups.count("generations");
        }
        *ctx.model.groups.counts.entry("partitions taken over").or_default() += taken_over;
        self.stage = Stage::Member;
    }

    /// It cannot be given up sooner after it was heard.
    fn certain_us(&self) -> u64 {
        self.session_ms.min(self.rebalance_ms) * 1000
    }

    fn heartbeat(&mut self, ctx: &mut Ctx) {
        let version = ctx.chance.between(3, 4) as i16;
        let (member, instance) = (self.base.id.clone(), self.base.instance.clone());
        let life = ctx.life;
        let counts = self.base.of(ctx).loaded_in == Some(life);
        let request = HeartbeatRequest {
            group_id: self.base.group,
            generation_id: self.base.epoch,
            member_id: &member,
            group_instance_id: instance.as_deref(),
        };
        self.base.line.send(ctx, &request, version, Ask::Heartbeat { counts });
    }

    fn leave(&mut self, ctx: &mut Ctx) {
        let version = ctx.chance.between(3, 5) as i16;
        let id = self.base.id.clone();
        let member = MemberIdentity { member_id: &id, ..Default::default() };
        let request = LeaveGroupRequest { group_id: self.base.group, member_id: &id, members: vec![member] };
        self.base.line.send(ctx, &request, version, Ask::Leave);
        self.base.end(ctx);
        self.stage = Stage::Join;
    }

    /// What an error means for a member. False if there is none.
    fn on_error(&mut self, ctx: &mut Ctx, error: ErrorCode) -> bool {
        match error {
            ErrorCode::None => return false,
            ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress => {}
            ErrorCode::RebalanceInProgress => self.stage = Stage::Join,
            ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupIdNotFound => {
                let (name, id, now) = (self.base.group, self.base.id.clone(), ctx.now);
                if self.is_pure && error != ErrorCode::FencedInstanceId {
                    self.base.of(ctx).check_removal(name, &id, &error, now);
                }
                ctx.model.groups.count("members given up");
                self.base.end(ctx);
                self.stage = Stage::Join;
            }
            error => panic!("{}: a member is told {error:?}", self.base.group),
        }
        true
    }
}

impl Client for ClassicMember {
    fn name(&self) -> &'static str {
        "member of the classic protocol"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        if !self.base.line.up {
            return ctx.actions.push(Action::Connect);
        }
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.base.on_connected(ctx);
        let (born_at, died_at, certain_us) = (ctx.born_at, ctx.died_at, self.certain_us());
        let id = self.base.id.clone();
        let group = self.base.of(ctx);
        // Nobody had given it up when the node ended, so it has a whole session from the start.
        if group.certain_until(&id) > died_at {
            let until = group.certain_until(&id).max(born_at + certain_us);
            group.set_certain(&id, until);
        }
        self.go_on(ctx);
    }

    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]) {
        let asked = self.base.line.take(frame);
        match &asked.ask {
            Ask::Find => self.base.on_found(&asked, frame),
            Ask::Fetch(wanted) => self.base.on_looked(ctx, &asked, wanted, frame),
            Ask::Commit(rows) => {
                if let Some(error) = self.base.on_committed(ctx, &asked, rows, frame) {
                    self.on_error(ctx, error);
                }
            }
            Ask::Join(begun) => self.on_joined(ctx, &asked, frame, *begun),
            Ask::Sync => self.on_synced(ctx, &asked, frame),
            Ask::Heartbeat { counts } => {
                let (_, response) = decode_response::<HeartbeatResponse>(frame, asked.version).expect("it reads");
                let error = ErrorCode::from_code(response.error_code).expect("a code that is known");
                if !self.on_error(ctx, error) && *counts {
                    let (id, until) = (self.base.id.clone(), asked.sent_at + self.certain_us());
                    self.base.of(ctx).set_certain(&id, until);
                }
            }
            Ask::Leave => {
                decode_response::<LeaveGroupResponse>(frame, asked.version).expect("it reads");
            }
            Ask::ConsumerHeartbeat { .. } => unreachable!("of the other protocol"),
        }
        let low = if self.stage == Stage::Member { self.pause_us } else { 1_000 };
        ctx.wake_in(low / 2, low * 2);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        if self.base.on_closed(ctx) {
            ctx.model.groups.count("members that outlived the node");
        } else {
            self.base.end(ctx);
            self.stage = Stage::Join;
        }
        ctx.wake_in(5_000, 60_000);
    }

    fn is_settled(&self, _ctx: &mut Ctx) -> bool {
        self.stage == Stage::Member
    }
}
