//! Members of the consumer protocol (KIP-848): one heartbeat says what a member has and reads, and tells it what it is to
//! have. What it is to give up it gives up after a while, and says so; now and then it takes too long, leaves, reads other
//! topics, or does nothing for longer than its session lasts and commits as if nothing were.

use std::collections::{BTreeMap, BTreeSet};

use gannet::error_code::ErrorCode;
use gannet::protocol::consumer_group_heartbeat::*;
use gannet::protocol::decode_response;
use gannet::types::{PartitionId, TopicId};

use crate::client::{Action, Asked, Client, Ctx};
use crate::membership::{Ask, Membership, some_topics};

/// First version of OffsetCommit for these members.
const COMMIT_FROM_VERSION: u64 = 9;
const LEAVE: i32 = -1;
const LEAVE_FOR_A_WHILE: i32 = -2;

pub struct ConsumerMember {
    base: Membership,
    version: i16,
    /// Drawn by the client from version 1 on.
    next_id: u64,
    session_ms: u64,
    rebalance_ms: u64,
    pause_us: u64,
    /// What it was told to give up, and when it will have done that.
    giving_up: Option<(u64, BTreeSet<PartitionId>)>,
    /// By then it can be given up for not giving that up.
    revoked_by: Option<u64>,
    /// What it has or reads is not what it said last.
    has_news: bool,
    heard_in: Option<u64>,
    drowsy: bool,
    /// All members are of this protocol.
    is_pure: bool,
}

impl ConsumerMember {
    pub fn new(
        ctx: &mut Ctx,
        group: &'static str,
        instance: Option<String>,
        is_pure: bool,
        session_ms: u64,
    ) -> ConsumerMember {
        ConsumerMember {
            base: Membership::new(ctx, group, instance),
            version: ctx.chance.below(2) as i16,
            next_id: ctx.chance.next() << 16,
            session_ms,
            rebalance_ms: ctx.chance.pick(&[150, 400]),
            pause_us: ctx.chance.pick(&[10_000, 25_000, 50_000]),
            giving_up: None,
            revoked_by: None,
            has_news: true,
            heard_in: None,
            drowsy: false,
            is_pure,
        }
    }

    fn is_in(&self) -> bool {
        self.base.epoch > 0
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
        if std::mem::take(&mut self.drowsy) && !self.base.owned.is_empty() {
            return self.base.commit(ctx, COMMIT_FROM_VERSION);
        }
        self.give_up(ctx);
        if !self.is_in() || ctx.settling || self.has_news {
            return match ctx.chance.one_in(20) {
                true => self.base.look(ctx),
                false => self.heartbeat(ctx),
            };
        }
        match ctx.chance.below(60) {
            0..3 => self.base.look(ctx),
            3 => self.leave(ctx),
            4 | 5 => {
                self.base.reads = some_topics(ctx);
                self.has_news = true;
                self.heartbeat(ctx);
            }
            6 | 7 => {
                self.drowsy = true;
                ctx.wake_in(self.session_ms * 900, self.session_ms * 2_000);
            }
            8..35 if !self.base.owned.is_empty() => self.base.commit(ctx, COMMIT_FROM_VERSION),
            _ => self.heartbeat(ctx),
        }
    }

    fn give_up(&mut self, ctx: &mut Ctx) {
        if let Some((_, lost)) = self.giving_up.take_if(|(at, _)| *at <= ctx.now) {
            self.base.owned.retain(|id, _| !lost.contains(id));
            let id = self.base.id.clone();
            self.base.of(ctx).give_up(&id, |id| lost.contains(&id));
            self.has_news = true;
        }
    }

    fn heartbeat(&mut self, ctx: &mut Ctx) {
        let joins = !self.is_in();
        if joins && self.version >= 1 && self.base.id.is_empty() {
            self.next_id += 1;
            self.base.id = format!("member-{:x}", self.next_id);
        }
        let is_full = joins || std::mem::take(&mut self.has_news) || ctx.chance.one_in(4);
        let owned: BTreeSet<PartitionId> = self.base.owned.keys().copied().collect();
        let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        owned.iter().for_each(|id| topics.entry(id.topic).or_default().push(id.index));
        let rows = topics.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions });
        let (id, instance) = (self.base.id.clone(), self.base.instance.clone());
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.base.group,
            member_id: &id,
            member_epoch: self.base.epoch,
            instance_id: instance.as_deref(),
            rebalance_timeout_ms: if is_full { self.rebalance_ms as i32 } else { -1 },
            subscribed_topic_names: is_full.then(|| self.base.reads.iter().copied().collect()),
            topic_partitions: is_full.then(|| rows.collect()),
            ..Default::default()
        };
        let ask = Ask::ConsumerHeartbeat { owned: is_full.then_some(owned) };
        self.base.line.send(ctx, &request, self.version, ask);
    }

    fn on_heartbeat(&mut self, ctx: &mut Ctx, asked: &Asked<Ask>, owned: Option<&BTreeSet<PartitionId>>, frame: &[u8]) {
        let (_, response) = decode_response::<ConsumerGroupHeartbeatResponse>(frame, asked.version).expect("it reads");
        let error = ErrorCode::from_code(response.error_code).expect("a code that is known");
        if self.on_error(ctx, error) {
            return;
        }
        if !self.is_in() {
            ctx.model.groups.count("joins");
        }
        let known = self.base.id.clone();
        self.base.id = response.member_id.expect("a member has an id").to_owned();
        assert!(known.is_empty() || known == self.base.id, "{known} became {}", self.base.id);
        self.base.epoch = response.member_epoch;
        assert!(self.base.epoch > 0, "{}: {} is told epoch {}", self.base.group, self.base.id, self.base.epoch);
        // What was decided before the node ended is waited for anew since it began.
        let since = if self.heard_in == Some(ctx.life) { asked.sent_at } else { ctx.born_at };
        self.heard_in = Some(ctx.life);
        if owned.is_some() && self.giving_up.is_none() {
            self.revoked_by = None;
        }
        if let Some(assignment) = &response.assignment {
            self.on_assignment(ctx, assignment, since);
        }
        let until = asked.sent_at + self.session_ms * 1000;
        let until = until.min(self.revoked_by.unwrap_or(u64::MAX));
        let (id, life, reads) = (self.base.id.clone(), ctx.life, self.base.reads.clone());
        let group = self.base.of(ctx);
        group.set_certain(&id, until);
        group.loaded_in = Some(life);
        match self.giving_up {
            Some(_) => group.rebalancing.insert(id.clone()),
            None => group.rebalancing.remove(&id),
        };
        group.live.insert(id, reads);
    }

    fn on_assignment(&mut self, ctx: &mut Ctx, assignment: &Assignment, since: u64) {
        let told = assignment.topic_partitions.iter();
        let told: BTreeSet<PartitionId> = told
            .flat_map(|row| row.partitions.iter().map(|index| PartitionId { topic: row.topic_id, index: *index }))
            .collect();
        let lost: BTreeSet<PartitionId> = self.base.owned.keys().filter(|id| !told.contains(id)).copied().collect();
        let new: BTreeSet<PartitionId> = told.iter().filter(|id| !self.base.owned.contains_key(id)).copied().collect();
        let (name, id, now) = (self.base.group, self.base.id.clone(), ctx.now);
        let taken_over = self.base.of(ctx).take(name, &id, &new, now);
        *ctx.model.groups.counts.entry("partitions taken over").or_default() += taken_over;
        for id in new {
            // Without a name where the topic is created, but nobody has been told yet.
            let name = ctx.model.topics.get(&id.topic).map(|topic| topic.name.clone());
            self.base.owned.insert(id, (name.unwrap_or_default(), id.index));
        }
        if lost.is_empty() {
            (self.giving_up, self.revoked_by) = (None, None);
            return;
        }
        match &mut self.giving_up {
            Some((_, giving_up)) => *giving_up = lost,
            None => {
                let slow = ctx.chance.one_in(12) && !ctx.settling;
                let takes_us = if slow { self.rebalance_ms * 1_500 } else { ctx.chance.below(60_000) };
                self.giving_up = Some((now + takes_us, lost));
                self.revoked_by = Some(since + self.rebalance_ms * 1000);
                ctx.model.groups.count("revocations");
            }
        }
    }

    fn leave(&mut self, ctx: &mut Ctx) {
        let for_a_while = self.base.instance.is_some() && ctx.chance.one_in(2);
        let (id, instance) = (self.base.id.clone(), self.base.instance.clone());
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.base.group,
            member_id: &id,
            member_epoch: if for_a_while { LEAVE_FOR_A_WHILE } else { LEAVE },
            instance_id: instance.as_deref(),
            ..Default::default()
        };
        self.base.line.send(ctx, &request, self.version, Ask::Leave);
        self.end(ctx);
    }

    fn end(&mut self, ctx: &mut Ctx) {
        self.base.end(ctx);
        (self.giving_up, self.revoked_by, self.has_news) = (None, None, true);
    }

    /// What an error means for a member. False if there is none.
    fn on_error(&mut self, ctx: &mut Ctx, error: ErrorCode) -> bool {
        match error {
            ErrorCode::None => return false,
            ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress => {
                self.has_news = true;
            }
            // Until the session of the one it was has ended.
            ErrorCode::UnreleasedInstanceId => {}
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::StaleMemberEpoch
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupIdNotFound => {
                let (name, id, now) = (self.base.group, self.base.id.clone(), ctx.now);
                if self.is_pure {
                    self.base.of(ctx).check_removal(name, &id, &error, now);
                }
                ctx.model.groups.count("members given up");
                self.end(ctx);
                if error != ErrorCode::FencedInstanceId && self.base.instance.is_none() {
                    self.base.id = id;
                }
            }
            error => panic!("{}: a member is told {error:?}", self.base.group),
        }
        true
    }
}

impl Client for ConsumerMember {
    fn name(&self) -> &'static str {
        "member of the consumer protocol"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        if !self.base.line.up {
            return ctx.actions.push(Action::Connect);
        }
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.base.on_connected(ctx);
        let (born_at, died_at) = (ctx.born_at, ctx.died_at);
        let certain_us = self.session_ms.min(self.rebalance_ms) * 1000;
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
            Ask::ConsumerHeartbeat { owned } => self.on_heartbeat(ctx, &asked, owned.as_ref(), frame),
            Ask::Leave => {
                decode_response::<ConsumerGroupHeartbeatResponse>(frame, asked.version).expect("it reads");
            }
            ask => unreachable!("{ask:?} is of the other protocol"),
        }
        let low = if self.is_in() { self.pause_us } else { 6_000 };
        ctx.wake_in(low / 2, low * 2);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        if self.base.on_closed(ctx) {
            ctx.model.groups.count("members that outlived the node");
            self.has_news = true;
        } else {
            self.end(ctx);
        }
        ctx.wake_in(5_000, 60_000);
    }

    fn is_settled(&self, _ctx: &mut Ctx) -> bool {
        self.is_in() && self.giving_up.is_none()
    }
}
