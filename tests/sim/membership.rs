//! What members of both protocols share: they look for their coordinator, look at offsets and commit their own, always
//! greater ones. A member that lost its connection comes back as another one, because what it had under way may still
//! happen; unless the node ended, and with it all that was under way.

use std::collections::{BTreeMap, BTreeSet};

use gannet::error_code::ErrorCode;
use gannet::protocol::decode_response;
use gannet::protocol::find_coordinator::*;
use gannet::protocol::offset_commit::*;
use gannet::protocol::offset_fetch::*;
use gannet::types::{Offset, PartitionId, TopicId};

use crate::client::{Asked, Ctx, Line};
use crate::groups::{Committed, Group, READ, Slot};
use crate::model::Fate;

#[derive(Debug)]
pub enum Ask {
    Find,
    /// With what was known of the offsets before.
    Fetch(Vec<(PartitionId, Slot, Committed)>),
    Commit(Vec<CommitRow>),
    /// With the last generation that anybody was assigned in.
    Join(i32),
    Sync,
    /// Whether it is heard: while a log is replayed all heartbeats are told that all is well.
    Heartbeat {
        counts: bool,
    },
    ConsumerHeartbeat {
        /// What the member said it has.
        owned: Option<BTreeSet<PartitionId>>,
    },
    Leave,
}

#[derive(Clone, Debug)]
pub struct CommitRow {
    id: PartitionId,
    slot: Slot,
    offset: Offset,
    /// Nobody else had been given the partition when this was sent.
    held: bool,
    /// It was known to be there.
    known: bool,
}

pub struct Membership {
    pub line: Line<Ask>,
    pub group: &'static str,
    /// Empty before the member has one.
    pub id: String,
    /// Or generation.
    pub epoch: i32,
    pub instance: Option<String>,
    pub owned: BTreeMap<PartitionId, Slot>,
    pub reads: BTreeSet<&'static str>,
    /// The life of the node that it was last connected to.
    connected_in: Option<u64>,
    pub is_found: bool,
    pub has_looked: bool,
}

/// Partitions of topics that live.
pub fn slots(ctx: &Ctx, is_read: impl Fn(&str) -> bool) -> Vec<(Slot, PartitionId)> {
    let mut slots = Vec::new();
    for (id, topic) in ctx.model.topics.iter().filter(|(_, topic)| topic.fate == Fate::Lives && is_read(&topic.name)) {
        let indexes = 0..topic.partitions.len() as i32;
        slots.extend(indexes.map(|index| ((topic.name.clone(), index), PartitionId { topic: *id, index })));
    }
    slots
}

pub fn some_topics(ctx: &mut Ctx) -> BTreeSet<&'static str> {
    match ctx.chance.below(3) {
        0 => [ctx.chance.pick(&READ)].into(),
        _ => READ.into(),
    }
}

impl Membership {
    pub fn new(ctx: &mut Ctx, group: &'static str, instance: Option<String>) -> Membership {
        ctx.model.groups.of(group).has_static |= instance.is_some();
        Membership {
            line: Line::new(),
            group,
            id: String::new(),
            epoch: 0,
            instance,
            owned: BTreeMap::new(),
            reads: some_topics(ctx),
            connected_in: None,
            is_found: false,
            has_looked: false,
        }
    }

    pub fn of<'a>(&self, ctx: &'a mut Ctx) -> &'a mut Group {
        ctx.model.groups.of(self.group)
    }

    pub fn on_connected(&mut self, ctx: &mut Ctx) {
        self.line.up = true;
        self.connected_in = Some(ctx.life);
        self.has_looked = false;
    }

    /// True if all that was under way is gone with the node, and the member can go on as the one it was.
    pub fn on_closed(&mut self, ctx: &mut Ctx) -> bool {
        self.line.cut();
        let before = self.connected_in.take();
        before.is_none() || (before != Some(ctx.life) && !ctx.chance.one_in(4))
    }

    /// Ends this member for good, as far as its client goes: the coordinator may learn of it late, or never.
    pub fn end(&mut self, ctx: &mut Ctx) {
        let id = std::mem::take(&mut self.id);
        self.of(ctx).end(&id);
        self.owned.clear();
        self.epoch = 0;
    }

    pub fn find(&mut self, ctx: &mut Ctx) {
        let version = ctx.chance.between(0, 6) as i16;
        let request =
            FindCoordinatorRequest { key: self.group, coordinator_keys: vec![self.group], ..Default::default() };
        self.line.send(ctx, &request, version, Ask::Find);
    }

    pub fn on_found(&mut self, asked: &Asked<Ask>, frame: &[u8]) {
        let (_, response) = decode_response::<FindCoordinatorResponse>(frame, asked.version).expect("it reads");
        let error_code = response.coordinators.first().map_or(response.error_code, |row| row.error_code);
        self.is_found = error_code == 0;
    }

    /// Looks at all offsets that there may be.
    pub fn look(&mut self, ctx: &mut Ctx) {
        let version = ctx.chance.between(1, 10) as i16;
        let known = slots(ctx, |_| true);
        let group = self.of(ctx);
        let wanted: Vec<_> = known.into_iter().map(|(slot, id)| (id, slot, group.offset(id).clone())).collect();
        let mut topics: BTreeMap<(&str, TopicId), Vec<i32>> = BTreeMap::new();
        for (id, slot, _) in &wanted {
            topics.entry((&slot.0, id.topic)).or_default().push(id.index);
        }
        let named = topics
            .iter()
            .map(|((name, _), indexes)| OffsetFetchRequestTopic { name, partition_indexes: indexes.clone() });
        let rows = topics.iter().map(|((name, topic_id), indexes)| OffsetFetchRequestTopics {
            name,
            topic_id: *topic_id,
            partition_indexes: indexes.clone(),
        });
        let group =
            OffsetFetchRequestGroup { group_id: self.group, topics: Some(rows.collect()), ..Default::default() };
        let request = OffsetFetchRequest {
            group_id: self.group,
            topics: Some(named.collect()),
            groups: vec![group],
            ..Default::default()
        };
        self.line.send(ctx, &request, version, Ask::Fetch(wanted.clone()));
    }

    pub fn on_looked(
        &mut self,
        ctx: &mut Ctx,
        asked: &Asked<Ask>,
        wanted: &[(PartitionId, Slot, Committed)],
        frame: &[u8],
    ) {
        let (_, response) = decode_response::<OffsetFetchResponse>(frame, asked.version).expect("it reads");
        let mut told: Vec<(Slot, TopicId, Offset, i16)> = Vec::new();
        for topic in &response.topics {
            for row in &topic.partitions {
                let slot = (topic.name.to_owned(), row.partition_index);
                told.push((slot, TopicId::ZERO, row.committed_offset, row.error_code));
            }
        }
        for topic in response.groups.iter().flat_map(|group| &group.topics) {
            for row in &topic.partitions {
                let slot = (topic.name.to_owned(), row.partition_index);
                told.push((slot, topic.topic_id, row.committed_offset, row.error_code));
            }
        }
        let whole = response.groups.first().map_or(response.error_code, |group| group.error_code);
        let alone = told.first().filter(|_| asked.version < 2).map_or(0, |row| row.3);
        if is_not_yet(if whole == 0 { alone } else { whole }) {
            return;
        }
        self.has_looked = true;
        let life = ctx.life;
        self.of(ctx).loaded_in = Some(life);
        for ((name, index), topic, offset, error_code) in told {
            let is_it = |(id, slot, _): &&(PartitionId, Slot, Committed)| match asked.version {
                10.. => (id.topic, id.index) == (topic, index),
                _ => (&slot.0, slot.1) == (&name, index),
            };
            let (id, _, before) = wanted.iter().find(is_it).expect("only what was asked for is told");
            if ctx.model.is_stable(id.topic, asked.sent_at) {
                assert!(error_code == 0, "{}: {id:?} is told with error {error_code}", self.group);
                let (name, group) = (self.group, self.of(ctx));
                let may_be_gone = group.may_lose_offsets;
                group.offset(*id).check(&(name, id), offset, before, may_be_gone);
            }
        }
    }

    /// Commits for some of what the member reads.
    pub fn commit(&mut self, ctx: &mut Ctx, first_version: u64) {
        let version = if ctx.model.groups.by_id { 10 } else { ctx.chance.between(first_version, 10) as i16 };
        let mut rows = Vec::new();
        for id in self.owned.keys().copied().collect::<Vec<_>>() {
            let Some(topic) = ctx.model.topics.get(&id.topic) else { continue };
            let slot = (topic.name.clone(), id.index);
            if ctx.chance.one_in(2) || rows.is_empty() {
                let known = ctx.model.partition(id).is_some();
                let group = self.of(ctx);
                let (held, offset) = (group.holds(&self.id, id), group.offset(id).next());
                rows.push(CommitRow { id, slot, offset, held, known });
            }
        }
        if rows.is_empty() {
            return self.look(ctx);
        }
        let topics = rows.iter().map(|row| OffsetCommitRequestTopic {
            name: &row.slot.0,
            topic_id: row.id.topic,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: row.id.index,
                committed_offset: row.offset,
                committed_metadata: None,
                ..Default::default()
            }],
        });
        let (id, instance) = (self.id.clone(), self.instance.clone());
        let request = OffsetCommitRequest {
            group_id: self.group,
            generation_id_or_member_epoch: self.epoch,
            member_id: &id,
            group_instance_id: instance.as_deref(),
            topics: topics.collect(),
            ..Default::default()
        };
        self.line.send(ctx, &request, version, Ask::Commit(rows.clone()));
    }

    /// The error that says that the sender is no member any more, if there is one.
    pub fn on_committed(
        &mut self,
        ctx: &mut Ctx,
        asked: &Asked<Ask>,
        rows: &[CommitRow],
        frame: &[u8],
    ) -> Option<ErrorCode> {
        let (_, response) = decode_response::<OffsetCommitResponse>(frame, asked.version).expect("it reads");
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|row| row.error_code);
        let mut fenced = None;
        for (row, code) in rows.iter().zip(codes) {
            let error = ErrorCode::from_code(code).expect("a code that is known");
            let certain = if asked.version >= 10 {
                row.known && ctx.model.lives(row.id.topic)
            } else {
                ctx.model.is_stable(row.id.topic, asked.sent_at)
            };
            let (name, life, model) = (self.group, ctx.life, &mut ctx.model.groups);
            let group = model.of(name);
            match error {
                ErrorCode::None => {
                    assert!(
                        row.held,
                        "{name}: {} of {} committed {} for {:?}, which another member has",
                        self.id, self.epoch, row.offset, row.id
                    );
                    group.loaded_in = Some(life);
                    if certain {
                        group.offset(row.id).on_committed(row.offset);
                    }
                    model.count("commits of offsets");
                }
                ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
                    assert!(!certain, "{name}: {:?} is unknown, but lives", row.id);
                }
                ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::RebalanceInProgress => group.offset(row.id).on_refused(row.offset),
                ErrorCode::UnknownMemberId
                | ErrorCode::GroupIdNotFound
                | ErrorCode::IllegalGeneration
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::FencedMemberEpoch
                | ErrorCode::FencedInstanceId => {
                    group.offset(row.id).on_refused(row.offset);
                    model.count("commits of fenced members");
                    fenced = Some(error);
                }
                error => panic!("{name}: a commit is told {error:?}"),
            }
        }
        fenced
    }
}

/// The coordinator is not ready, or has no space.
pub fn is_not_yet(code: i16) -> bool {
    match ErrorCode::from_code(code).expect("a code that is known") {
        ErrorCode::None => false,
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => true,
        error => panic!("{error:?} is no error of a question"),
    }
}
