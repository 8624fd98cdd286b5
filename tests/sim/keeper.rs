//! A consumer that is a member of no group and keeps its offset under a group's name all the same: it knows exactly what
//! there is to be found, so that an offset that was taken back, or that has outlived its time, is missed if it returns.

use std::collections::BTreeSet;

use gannet::error_code::ErrorCode;
use gannet::protocol::decode_response;
use gannet::protocol::delete_groups::*;
use gannet::protocol::find_coordinator::*;
use gannet::protocol::offset_commit::*;
use gannet::protocol::offset_delete::*;
use gannet::protocol::offset_fetch::*;

use crate::client::{Action, Client, Ctx, Line};
use crate::membership::is_not_yet;

pub const GROUP: &str = "quinces";
/// A topic that nobody deletes.
const TOPIC: &str = "__consumer_offsets";
const RETENTION_MS: i64 = 60;
const NOTHING: i64 = -1;

#[derive(Debug)]
enum Ask {
    Find,
    Look,
    Commit { offset: i64, expires: bool },
    Delete,
    DeleteGroup,
}

pub struct Keeper {
    line: Line<Ask>,
    is_found: bool,
    /// One of these is there.
    possible: BTreeSet<i64>,
    next: i64,
    /// From then on it may have expired.
    expires_at: Option<u64>,
    pause_us: u64,
    has_looked: bool,
}

impl Keeper {
    pub fn new(ctx: &mut Ctx) -> Keeper {
        Keeper {
            line: Line::new(),
            is_found: false,
            possible: [NOTHING].into(),
            next: 0,
            expires_at: None,
            pause_us: ctx.chance.pick(&[4_000, 20_000, 60_000]),
            has_looked: false,
        }
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        if !self.line.up || self.line.in_flight() > 0 {
            return;
        }
        if !self.is_found {
            let request = FindCoordinatorRequest { coordinator_keys: vec![GROUP], ..Default::default() };
            return self.line.send(ctx, &request, 4, Ask::Find);
        }
        match ctx.chance.below(8) {
            _ if ctx.settling => self.look(ctx),
            0 => self.delete(ctx),
            1 => self.delete_group(ctx),
            2..5 => self.look(ctx),
            _ => self.commit(ctx),
        }
    }

    fn look(&mut self, ctx: &mut Ctx) {
        let topics =
            Some(vec![OffsetFetchRequestTopics { name: TOPIC, partition_indexes: vec![0], ..Default::default() }]);
        let groups = vec![OffsetFetchRequestGroup { group_id: GROUP, topics, ..Default::default() }];
        self.line.send(ctx, &OffsetFetchRequest { groups, ..Default::default() }, 8, Ask::Look);
    }

    fn commit(&mut self, ctx: &mut Ctx) {
        self.next += 1;
        let (offset, expires) = (self.next, ctx.chance.one_in(3));
        // Only these versions can say how long it is to be kept.
        let version = if expires { ctx.chance.between(2, 4) } else { ctx.chance.between(2, 9) } as i16;
        let partitions = vec![OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() }];
        let request = OffsetCommitRequest {
            group_id: GROUP,
            retention_time_ms: if expires { RETENTION_MS } else { -1 },
            topics: vec![OffsetCommitRequestTopic { name: TOPIC, partitions, ..Default::default() }],
            ..Default::default()
        };
        // It may be there from now on, and expire.
        self.possible.insert(offset);
        self.line.send(ctx, &request, version, Ask::Commit { offset, expires });
    }

    fn delete(&mut self, ctx: &mut Ctx) {
        self.possible.insert(NOTHING);
        let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
        let request =
            OffsetDeleteRequest { group_id: GROUP, topics: vec![OffsetDeleteRequestTopic { name: TOPIC, partitions }] };
        self.line.send(ctx, &request, 0, Ask::Delete);
    }

    fn delete_group(&mut self, ctx: &mut Ctx) {
        self.possible.insert(NOTHING);
        self.line.send(ctx, &DeleteGroupsRequest { groups_names: vec![GROUP] }, 2, Ask::DeleteGroup);
    }

    fn on_looked(&mut self, ctx: &mut Ctx, frame: &[u8], sent_at: u64) {
        let (_, response) = decode_response::<OffsetFetchResponse>(frame, 8).expect("it reads");
        let group = &response.groups[0];
        if is_not_yet(group.error_code) {
            return;
        }
        let offset = group.topics[0].partitions[0].committed_offset;
        let expired = offset == NOTHING && self.expires_at.is_some_and(|at| at <= ctx.now);
        assert!(
            expired || self.possible.contains(&offset),
            "{GROUP}: {offset} is there, one of {:?} should be; asked at {sent_at}",
            self.possible
        );
        if expired {
            ctx.model.groups.count("offsets that expired");
        }
        if offset == NOTHING {
            self.expires_at = None;
        }
        self.possible = [offset].into();
        self.has_looked = true;
    }

    /// It is gone for certain, or it may be there still.
    fn on_deleted(&mut self, ctx: &mut Ctx, code: i16) {
        match ErrorCode::from_code(code).expect("a code that is known") {
            ErrorCode::None | ErrorCode::GroupIdNotFound => {
                (self.possible, self.expires_at) = ([NOTHING].into(), None);
                ctx.model.groups.count("offsets taken back");
            }
            error => assert!(is_not_yet(code), "{GROUP}: deleting is told {error:?}"),
        }
    }
}

impl Client for Keeper {
    fn name(&self) -> &'static str {
        "the one that keeps offsets"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        if !self.line.up {
            return ctx.actions.push(Action::Connect);
        }
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.line.up = true;
        self.has_looked = false;
        self.go_on(ctx);
    }

    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]) {
        let asked = self.line.take(frame);
        match asked.ask {
            Ask::Find => {
                let (_, response) = decode_response::<FindCoordinatorResponse>(frame, 4).expect("it reads");
                self.is_found = response.coordinators[0].error_code == 0;
            }
            Ask::Look => self.on_looked(ctx, frame, asked.sent_at),
            Ask::Commit { offset, expires } => {
                let (_, response) = decode_response::<OffsetCommitResponse>(frame, asked.version).expect("it reads");
                let code = response.topics[0].partitions[0].error_code;
                if is_not_yet(code) {
                    self.possible.remove(&offset);
                } else {
                    self.possible = [offset].into();
                    // On the clock of the node, which counts in whole milliseconds.
                    self.expires_at = expires.then(|| asked.sent_at + RETENTION_MS as u64 * 1000 - 1000);
                }
            }
            Ask::Delete => {
                let (_, response) = decode_response::<OffsetDeleteResponse>(frame, 0).expect("it reads");
                self.on_deleted(ctx, response.error_code);
            }
            Ask::DeleteGroup => {
                let (_, response) = decode_response::<DeleteGroupsResponse>(frame, 2).expect("it reads");
                self.on_deleted(ctx, response.results[0].error_code);
            }
        }
        ctx.wake_in(self.pause_us / 2, self.pause_us * 2);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        // Of two commits that are under way the first may expire.
        for asked in self.line.cut() {
            if matches!(asked.ask, Ask::Commit { expires: true, .. }) {
                self.expires_at = Some(asked.sent_at);
            }
        }
        // What is under way has arrived by then.
        ctx.wake_in(100_000, 150_000);
    }

    fn is_settled(&self, _ctx: &mut Ctx) -> bool {
        self.has_looked
    }
}
