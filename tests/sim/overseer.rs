//! The one that looks at groups from outside: lists and describes them, now and then tries to delete one, and says at the
//! end whether they have come to rest: each group has the members that think they are in it, and everything is assigned.

use std::collections::{BTreeMap, BTreeSet};

use gannet::error_code::ErrorCode;
use gannet::protocol::consumer_protocol::ConsumerProtocolAssignment;
use gannet::protocol::delete_groups::*;
use gannet::protocol::list_groups::*;
use gannet::protocol::offset_fetch::*;
use gannet::protocol::{consumer_group_describe, decode_response, describe_groups};
use gannet::types::PartitionId;

use crate::client::{Action, Asked, Client, Ctx, Line};
use crate::groups::{Described, GROUPS, Slot};
use crate::membership::{is_not_yet, slots};

#[derive(Clone, Debug)]
enum Ask {
    List,
    Classic(&'static str),
    Consumer(&'static str),
    Offsets(&'static str),
    Delete(&'static str),
}

pub struct Overseer {
    line: Line<Ask>,
    /// Only tells what it is told, and wants nothing of it.
    only_tells: bool,
    /// What is left of a round of questions about all groups.
    left: Vec<Ask>,
    began_at: u64,
    told: BTreeMap<String, String>,
    problem: Option<String>,
    described: BTreeMap<&'static str, Described>,
    /// A round that began when faults had ended has come to its end, and found nothing wrong.
    is_calm: bool,
}

impl Overseer {
    pub fn new() -> Overseer {
        Overseer {
            line: Line::new(),
            only_tells: false,
            left: Vec::new(),
            began_at: 0,
            told: BTreeMap::new(),
            problem: None,
            described: BTreeMap::new(),
            is_calm: false,
        }
    }

    pub fn that_only_tells() -> Overseer {
        Overseer { only_tells: true, ..Overseer::new() }
    }

    fn go_on(&mut self, ctx: &mut Ctx) {
        if !self.line.up || self.line.in_flight() > 0 || (self.only_tells && self.is_calm) {
            return;
        }
        let names = ctx.model.groups.names();
        if names.is_empty() {
            self.is_calm = true;
            return ctx.wake_in(50_000, 100_000);
        }
        if ctx.settling {
            if self.left.is_empty() {
                (self.told, self.problem, self.began_at) = (BTreeMap::new(), None, ctx.now);
                self.left = names
                    .iter()
                    .flat_map(|name| [Ask::Offsets(name), Ask::Consumer(name), Ask::Classic(name)])
                    .collect();
            }
            let ask = self.left.last().cloned().expect("filled just now");
            return self.ask(ctx, ask);
        }
        let name = names[ctx.chance.below(names.len() as u64) as usize];
        let ask = match ctx.chance.below(12) {
            0 => Ask::Delete(name),
            1 => Ask::List,
            2..6 => Ask::Classic(name),
            6..9 => Ask::Offsets(name),
            _ => Ask::Consumer(name),
        };
        self.ask(ctx, ask);
    }

    fn ask(&mut self, ctx: &mut Ctx, ask: Ask) {
        match &ask {
            Ask::List => self.line.send(ctx, &ListGroupsRequest::default(), 5, ask),
            Ask::Classic(name) => {
                let request = describe_groups::DescribeGroupsRequest { groups: vec![name], ..Default::default() };
                self.line.send(ctx, &request, 6, ask);
            }
            Ask::Consumer(name) => {
                let request = consumer_group_describe::ConsumerGroupDescribeRequest {
                    group_ids: vec![name],
                    ..Default::default()
                };
                self.line.send(ctx, &request, 1, ask);
            }
            Ask::Offsets(name) => {
                let group = OffsetFetchRequestGroup { group_id: name, ..Default::default() };
                let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
                self.line.send(ctx, &request, 9, ask);
            }
            Ask::Delete(name) => {
                let group = ctx.model.groups.of(name);
                (group.may_vanish, group.may_lose_offsets) = (true, true);
                self.line.send(ctx, &DeleteGroupsRequest { groups_names: vec![name] }, 2, ask);
            }
        }
    }

    /// The question is answered, and the answer is something to keep.
    fn keep(&mut self, what: &str, name: &str, answer: &dyn std::fmt::Debug) {
        self.left.pop();
        self.told.insert(format!("{name} {what}"), format!("{answer:?}"));
    }

    fn on_classic(&mut self, name: &'static str, frame: &[u8]) {
        let (_, response) = decode_response::<describe_groups::DescribeGroupsResponse>(frame, 6).expect("it reads");
        let group = &response.groups[0];
        let is_known = group.error_code != ErrorCode::GroupIdNotFound.code();
        if is_known && is_not_yet(group.error_code) {
            return;
        }
        let mut described = Described::new();
        for member in &group.members {
            let mut assigned: Vec<Slot> = Vec::new();
            if !member.member_assignment.is_empty() {
                let rows = ConsumerProtocolAssignment::of_bytes(member.member_assignment).expect("a leader wrote it");
                for row in &rows.assigned_partitions {
                    assigned.extend(row.partitions.iter().map(|index| (row.topic.to_owned(), *index)));
                }
            }
            described.insert(member.member_id.to_owned(), assigned);
        }
        if is_known && group.group_state == "Stable" {
            check_once(name, &described);
        }
        if is_known && !matches!(group.group_state, "Stable" | "Empty") {
            self.problem = Some(format!("{name} is {}", group.group_state));
        }
        if is_known {
            self.described.insert(name, described);
        }
        self.keep("as a classic group", name, group);
    }

    fn on_consumer(&mut self, name: &'static str, frame: &[u8]) {
        let read = decode_response::<consumer_group_describe::ConsumerGroupDescribeResponse>(frame, 1);
        let group = &read.as_ref().expect("it reads").1.groups[0];
        let is_known = group.error_code != ErrorCode::GroupIdNotFound.code();
        if is_known && is_not_yet(group.error_code) {
            return;
        }
        let slots_of = |assignment: &consumer_group_describe::Assignment| -> Vec<Slot> {
            let rows = assignment.topic_partitions.iter();
            rows.flat_map(|row| row.partitions.iter().map(|index| (row.topic_name.to_owned(), *index))).collect()
        };
        let ids_of = |assignment: &consumer_group_describe::Assignment| -> Vec<PartitionId> {
            let rows = assignment.topic_partitions.iter();
            rows.flat_map(|row| row.partitions.iter().map(|index| PartitionId { topic: row.topic_id, index: *index }))
                .collect()
        };
        let mut seen = BTreeSet::new();
        let mut targets = BTreeSet::new();
        for member in &group.members {
            for id in ids_of(&member.assignment) {
                assert!(seen.insert(id), "{name}: {id:?} has two owners: {group:?}");
            }
            for id in ids_of(&member.target_assignment) {
                assert!(targets.insert(id), "{name}: {id:?} is to have two owners: {group:?}");
            }
        }
        if is_known {
            let rows = group.members.iter();
            let described = rows.map(|member| (member.member_id.to_owned(), slots_of(&member.assignment))).collect();
            self.described.insert(name, described);
            if !matches!(group.group_state, "Stable" | "Empty") {
                self.problem = Some(format!("{name} is {}", group.group_state));
            }
        }
        let kept: &dyn std::fmt::Debug = if group.error_code == 0 { group } else { &group.error_code };
        self.keep("as a consumer group", name, kept);
    }

    fn on_offsets(&mut self, name: &'static str, frame: &[u8]) {
        let (_, response) = decode_response::<OffsetFetchResponse>(frame, 9).expect("it reads");
        let group = &response.groups[0];
        if is_not_yet(group.error_code) {
            return;
        }
        self.keep("offsets", name, group);
    }

    fn on_round(&mut self, ctx: &mut Ctx) {
        let described = std::mem::take(&mut self.described);
        for name in ctx.model.groups.names() {
            let all = slots(ctx, |_| true);
            let group = ctx.model.groups.of(name);
            let is_read = |topic: &str| group.live.values().any(|reads| reads.contains(topic));
            let expected: BTreeSet<Slot> =
                all.into_iter().map(|(slot, _)| slot).filter(|(topic, _)| is_read(topic)).collect();
            let found = described.get(name).cloned().unwrap_or_default();
            if let Err(problem) = group.check_rest(&expected, &found) {
                self.problem = Some(format!("{name}: {problem}"));
            }
        }
        self.is_calm = self.only_tells || self.problem.is_none();
        ctx.model.groups.problem = self.problem.clone();
        ctx.model.groups.told = Some((self.began_at, ctx.now, std::mem::take(&mut self.told)));
    }
}

fn check_once(name: &str, described: &Described) {
    let mut seen = BTreeSet::new();
    for slot in described.values().flatten() {
        assert!(seen.insert(slot), "{name}: {slot:?} has two owners: {described:?}");
    }
}

impl Client for Overseer {
    fn name(&self) -> &'static str {
        "the one that looks at groups"
    }

    fn on_wake(&mut self, ctx: &mut Ctx) {
        if !self.line.up {
            return ctx.actions.push(Action::Connect);
        }
        self.go_on(ctx);
    }

    fn on_connected(&mut self, ctx: &mut Ctx) {
        self.line.up = true;
        self.go_on(ctx);
    }

    fn on_frame(&mut self, ctx: &mut Ctx, frame: &[u8]) {
        let asked: Asked<Ask> = self.line.take(frame);
        let before = self.left.len();
        match asked.ask {
            Ask::List => {
                let (_, response) = decode_response::<ListGroupsResponse>(frame, 5).expect("it reads");
                let known = |name: &str| name == crate::keeper::GROUP || GROUPS.iter().any(|(group, _)| *group == name);
                let names: BTreeSet<&str> = response.groups.iter().map(|group| group.group_id).collect();
                assert!(names.len() == response.groups.len(), "a group is listed twice: {response:?}");
                assert!(names.iter().all(|name| known(name)), "nobody ever made one of {names:?}");
            }
            Ask::Classic(name) => self.on_classic(name, frame),
            Ask::Consumer(name) => self.on_consumer(name, frame),
            Ask::Offsets(name) => self.on_offsets(name, frame),
            Ask::Delete(name) => {
                let (_, response) = decode_response::<DeleteGroupsResponse>(frame, 2).expect("it reads");
                match ErrorCode::from_code(response.results[0].error_code).expect("a code that is known") {
                    ErrorCode::None => ctx.model.groups.count("groups deleted"),
                    ErrorCode::NonEmptyGroup | ErrorCode::GroupIdNotFound => {}
                    error => assert!(is_not_yet(error.code()), "deleting {name}: {error:?}"),
                }
            }
        }
        if before > 0 && self.left.is_empty() {
            self.on_round(ctx);
        }
        let pause_us = if self.left.is_empty() { 40_000 } else { 200 };
        ctx.wake_in(pause_us / 2, pause_us);
    }

    fn on_closed(&mut self, ctx: &mut Ctx) {
        self.line.cut();
        self.left.clear();
        self.is_calm = false;
        ctx.wake_in(5_000, 50_000);
    }

    fn is_settled(&self, ctx: &mut Ctx) -> bool {
        self.is_calm && (ctx.model.groups.told.is_some() || ctx.model.groups.names().is_empty())
    }
}
