//! A member of a classic group: joins, learns its part, beats, and begins anew with every rebalance. Gives everything up for
//! a rebalance (eager); as the leader of its group it assigns ranges. Asks one thing at a time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::range::{Subscriber, assign};
use super::{Answered, Assigned, Change, MemberConfig, MemberRequest, difference};
use crate::client::{Response, SessionError};
use crate::error_code::ErrorCode;
use crate::protocol::consumer_protocol::{
    CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartitions,
};
use crate::protocol::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use crate::protocol::leave_group::MemberIdentity;
use crate::protocol::sync_group::SyncGroupRequestAssignment;
use crate::protocol::{
    ApiKey, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use crate::types::{Deadline, Time};

const ASSIGNOR: &str = "range";
/// Of what this member says and, as a leader, hands out: with owned partitions, of which an eager member has none.
const CONSUMER_PROTOCOL_VERSION: i16 = 1;

#[derive(Clone, Debug)]
pub struct ClassicMember {
    config: MemberConfig,
    /// What it says of itself when it joins.
    subscription: Bytes,
    member_id: String,
    generation: i32,
    state: State,
    is_asked: bool,
    /// When the next request is due.
    not_before: Deadline,
    assignment: BTreeSet<Assigned>,
}

/// ```text
/// Joining ──JoinGroup──▶ Syncing ──SyncGroup──▶ Stable ──▶ Joining   a rebalance, or the coordinator does not know it
///    ▲ MEMBER_ID_REQUIRED   │ a rebalance       │
///    └──────────────────────┴───────────────────┘
/// any ──leave──▶ Leaving ──LeaveGroup──▶ Out      any ──▶ Out   an error that joining again does not heal
/// ```
#[derive(Clone, Debug)]
enum State {
    Joining,
    /// With what a leader hands out: member id and assignment.
    Syncing(Vec<(String, Bytes)>),
    Stable,
    Leaving,
    Out,
}

impl ClassicMember {
    pub fn new(config: MemberConfig) -> ClassicMember {
        let topics = config.topics.iter().map(|topic| &*topic.name).collect();
        let subscription = ConsumerProtocolSubscription { topics, ..Default::default() };
        ClassicMember {
            subscription: subscription.to_bytes(CONSUMER_PROTOCOL_VERSION),
            config,
            member_id: String::new(),
            generation: -1,
            state: State::Joining,
            is_asked: false,
            not_before: 0,
            assignment: BTreeSet::new(),
        }
    }

    pub fn config(&self) -> &MemberConfig {
        &self.config
    }

    pub fn next_request(&mut self, now: Time) -> Option<MemberRequest<'_>> {
        if self.is_asked || matches!(self.state, State::Out) || now.monotonic_us < self.not_before {
            return None;
        }
        self.is_asked = true;
        let group_id = &*self.config.group_id;
        let (member_id, group_instance_id) = (&*self.member_id, self.config.instance_id.as_deref());
        let request = match &self.state {
            State::Joining => MemberRequest::Join(JoinGroupRequest {
                group_id,
                session_timeout_ms: self.config.session_timeout_ms,
                rebalance_timeout_ms: self.config.rebalance_timeout_ms,
                member_id,
                group_instance_id,
                protocol_type: CONSUMER_PROTOCOL_TYPE,
                protocols: vec![JoinGroupRequestProtocol { name: ASSIGNOR, metadata: &self.subscription }],
                reason: None,
            }),
            State::Syncing(assignments) => MemberRequest::Sync(SyncGroupRequest {
                group_id,
                generation_id: self.generation,
                member_id,
                group_instance_id,
                protocol_type: Some(CONSUMER_PROTOCOL_TYPE),
                protocol_name: Some(ASSIGNOR),
                assignments: assignments
                    .iter()
                    .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                    .collect(),
            }),
            State::Stable => MemberRequest::Heartbeat(HeartbeatRequest {
                group_id,
                generation_id: self.generation,
                member_id,
                group_instance_id,
            }),
            State::Leaving | State::Out => MemberRequest::Leave(LeaveGroupRequest {
                group_id,
                member_id,
                members: vec![MemberIdentity { member_id, group_instance_id, reason: None }],
            }),
        };
        Some(request)
    }

    pub fn on_response(&mut self, now: Time, response: &Response) -> Result<Answered, SessionError> {
        self.is_asked = false;
        let is_leaving = matches!(self.state, State::Leaving | State::Out);
        let is_beat = response.api_key == ApiKey::Heartbeat.code();
        let (code, change) = match response.api_key {
            key if key == ApiKey::JoinGroup.code() => self.on_joined(now, &response.decode()?, is_leaving),
            key if key == ApiKey::SyncGroup.code() => self.on_synced(now, &response.decode()?),
            key if key == ApiKey::LeaveGroup.code() => {
                let answer: LeaveGroupResponse = response.decode()?;
                self.state = State::Out;
                return Ok(Answered { code: code_of(answer.error_code), change: Some(Change::Left) });
            }
            _ => {
                let answer: HeartbeatResponse = response.decode()?;
                (code_of(answer.error_code), None)
            }
        };
        if is_leaving {
            self.not_before = now.monotonic_us;
            return Ok(Answered { code, change: None });
        }
        let change = match code {
            ErrorCode::None if is_beat => {
                self.not_before = now.after_ms(self.config.heartbeat_interval_ms);
                None
            }
            ErrorCode::None => change,
            code => self.on_refused(now, code),
        };
        Ok(Answered { code, change })
    }

    fn on_joined(&mut self, now: Time, answer: &JoinGroupResponse, is_leaving: bool) -> (ErrorCode, Option<Change>) {
        let code = code_of(answer.error_code);
        if matches!(code, ErrorCode::None | ErrorCode::MemberIdRequired) {
            answer.member_id.clone_into(&mut self.member_id);
        }
        if code == ErrorCode::None && !is_leaving {
            self.generation = answer.generation_id;
            self.state = State::Syncing(match answer.leader == answer.member_id && !answer.skip_assignment {
                true => self.assign(&answer.members),
                false => Vec::new(),
            });
            self.not_before = now.monotonic_us;
        }
        (code, None)
    }

    fn assign(&self, members: &[JoinGroupResponseMember]) -> Vec<(String, Bytes)> {
        let subscribers: Vec<_> = members
            .iter()
            .map(|member| Subscriber {
                member_id: member.member_id,
                instance_id: member.group_instance_id,
                // Who says nothing that reads gets nothing.
                topics: ConsumerProtocolSubscription::of_bytes(member.metadata)
                    .map_or(Vec::new(), |(_, subscription)| subscription.topics),
            })
            .collect();
        let partitions: BTreeMap<&str, i32> =
            self.config.topics.iter().map(|topic| (&*topic.name, topic.partitions)).collect();
        let encoded = assign(&subscribers, &partitions).into_iter().map(|(member_id, topics)| {
            let topics = topics.into_iter().map(|(topic, partitions)| TopicPartitions { topic, partitions });
            let assignment = ConsumerProtocolAssignment { assigned_partitions: topics.collect(), ..Default::default() };
            (member_id.to_owned(), assignment.to_bytes(CONSUMER_PROTOCOL_VERSION))
        });
        encoded.collect()
    }

    fn on_synced(&mut self, now: Time, answer: &SyncGroupResponse) -> (ErrorCode, Option<Change>) {
        let code = code_of(answer.error_code);
        if code != ErrorCode::None || !matches!(self.state, State::Syncing(_)) {
            return (code, None);
        }
        let topics = match ConsumerProtocolAssignment::of_bytes(answer.assignment) {
            Ok(assignment) => assignment.assigned_partitions,
            // An empty answer is an assignment of nothing.
            Err(_) if answer.assignment.is_empty() => Vec::new(),
            Err(_) => return (ErrorCode::InconsistentGroupProtocol, None),
        };
        let place_of = |name: &str| self.config.topics.iter().position(|topic| &*topic.name == name);
        let known = topics.iter().filter_map(|topic| Some((place_of(topic.topic)?, &topic.partitions)));
        let assignment = known.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |partition| Assigned { topic, partition: *partition })
        });
        let after: BTreeSet<Assigned> = assignment.collect();
        let change = difference(&self.assignment, &after);
        self.assignment = after;
        self.state = State::Stable;
        self.not_before = now.after_ms(self.config.heartbeat_interval_ms);
        (code, change)
    }

    fn on_refused(&mut self, now: Time, code: ErrorCode) -> Option<Change> {
        self.not_before = now.after_ms(self.config.retry_backoff_ms);
        match code {
            ErrorCode::CoordinatorLoadInProgress => None,
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => Some(Change::CoordinatorLost),
            ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress => {
                self.not_before = now.monotonic_us;
                self.rejoin()
            }
            ErrorCode::IllegalGeneration => self.rejoin(),
            ErrorCode::UnknownMemberId => {
                self.member_id.clear();
                self.rejoin()
            }
            code => {
                self.state = State::Out;
                Some(Change::Failed(code))
            }
        }
    }

    /// The generation stays until the next one: what was read is committed under it.
    fn rejoin(&mut self) -> Option<Change> {
        self.state = State::Joining;
        difference(&std::mem::take(&mut self.assignment), &BTreeSet::new())
    }

    pub fn on_disconnect(&mut self, now: Time) {
        self.is_asked = false;
        self.not_before = now.after_ms(self.config.retry_backoff_ms);
    }

    pub fn next_deadline(&self) -> Option<Deadline> {
        (!self.is_asked && !matches!(self.state, State::Out)).then_some(self.not_before)
    }

    pub fn leave(&mut self) {
        self.assignment.clear();
        // Who has no id is no member.
        self.state = if self.member_id.is_empty() && !self.is_asked { State::Out } else { State::Leaving };
        self.not_before = 0;
    }

    pub fn assignment(&self) -> &BTreeSet<Assigned> {
        &self.assignment
    }

    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Stable)
    }

    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn heartbeat_at(&mut self, deadline: Deadline) {
        if self.is_settled() {
            self.not_before = deadline;
        }
    }
}

fn code_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{answer, at_ms, change, config, orders};
    use super::*;

    fn ask(member: &mut ClassicMember, ms: u64) -> MemberRequest<'_> {
        member.next_request(at_ms(ms)).expect("something is due")
    }

    fn joined(member: &mut ClassicMember, ms: u64, response: &JoinGroupResponse) -> Answered {
        assert!(matches!(ask(member, ms), MemberRequest::Join(_)));
        member.on_response(at_ms(ms), &answer(&JoinGroupRequest::default(), response)).unwrap()
    }

    fn synced(member: &mut ClassicMember, ms: u64, error_code: ErrorCode, partitions: &[i32]) -> Answered {
        assert!(matches!(ask(member, ms), MemberRequest::Sync(_)));
        let topics = vec![TopicPartitions { topic: "orders", partitions: partitions.to_vec() }];
        let assignment = ConsumerProtocolAssignment { assigned_partitions: topics, ..Default::default() }.to_bytes(1);
        let response =
            SyncGroupResponse { error_code: error_code.code(), assignment: &assignment, ..Default::default() };
        member.on_response(at_ms(ms), &answer(&SyncGroupRequest::default(), &response)).unwrap()
    }

    fn beaten(member: &mut ClassicMember, ms: u64, error_code: ErrorCode) -> Answered {
        assert!(matches!(ask(member, ms), MemberRequest::Heartbeat(_)));
        let response = HeartbeatResponse { error_code: error_code.code(), ..Default::default() };
        member.on_response(at_ms(ms), &answer(&HeartbeatRequest::default(), &response)).unwrap()
    }

    fn follower() -> JoinGroupResponse<'static> {
        JoinGroupResponse { generation_id: 4, leader: "other", member_id: "m", ..Default::default() }
    }

    fn stable() -> ClassicMember {
        let mut member = ClassicMember::new(config(None));
        joined(&mut member, 0, &follower());
        assert_eq!(synced(&mut member, 0, ErrorCode::None, &[0, 2]).change, change(&[], &[0, 2]));
        member
    }

    #[test]
    fn a_new_member_joins_again_under_the_id_that_it_is_given() {
        let mut member = ClassicMember::new(config(None));
        let required =
            JoinGroupResponse { error_code: ErrorCode::MemberIdRequired.code(), member_id: "m", ..Default::default() };
        assert_eq!(joined(&mut member, 0, &required).change, None);
        let MemberRequest::Join(again) = ask(&mut member, 0) else { panic!("it joins") };
        assert_eq!((again.member_id, again.protocols[0].name), ("m", "range"));
    }

    #[test]
    fn a_leader_hands_out_ranges_of_the_topics_that_it_knows() {
        let mut member = ClassicMember::new(config(None));
        let bytes = member.subscription.clone();
        let told = |member_id| JoinGroupResponseMember { member_id, metadata: &bytes, ..Default::default() };
        let members = vec![told("m"), told("n"), JoinGroupResponseMember { member_id: "silent", ..Default::default() }];
        let response =
            JoinGroupResponse { generation_id: 1, leader: "m", member_id: "m", members, ..Default::default() };
        joined(&mut member, 0, &response);
        let MemberRequest::Sync(request) = ask(&mut member, 0) else { panic!("it hands out") };
        let read = |at: usize| ConsumerProtocolAssignment::of_bytes(request.assignments[at].assignment).unwrap();
        let own = read(0).assigned_partitions;
        let own: Vec<_> = own.iter().map(|topic| (topic.topic, topic.partitions.clone())).collect();
        assert_eq!(own, [("orders", vec![0, 1]), ("refunds", vec![0])]);
        assert_eq!(request.assignments[2].member_id, "silent");
        assert!(read(2).assigned_partitions.is_empty());
    }

    #[test]
    fn a_rebalance_takes_everything_and_the_same_id_joins_again_at_once() {
        let mut member = stable();
        let answered = beaten(&mut member, 3000, ErrorCode::RebalanceInProgress);
        assert_eq!(answered.change, change(&[0, 2], &[]));
        assert_eq!((member.generation(), member.member_id(), member.is_settled()), (4, "m", false));
        assert!(matches!(ask(&mut member, 3000), MemberRequest::Join(JoinGroupRequest { member_id: "m", .. })));
    }

    #[test]
    fn a_rebalance_while_it_syncs_sends_it_back_to_join() {
        let mut member = ClassicMember::new(config(None));
        joined(&mut member, 0, &follower());
        assert_eq!(synced(&mut member, 0, ErrorCode::RebalanceInProgress, &[]).change, None);
        assert!(matches!(ask(&mut member, 0), MemberRequest::Join(_)));
    }

    #[test]
    fn a_member_that_was_given_up_joins_as_a_new_one() {
        let mut member = stable();
        let answered = beaten(&mut member, 3000, ErrorCode::UnknownMemberId);
        assert_eq!((answered.code, answered.change), (ErrorCode::UnknownMemberId, change(&[0, 2], &[])));
        assert_eq!(member.next_request(at_ms(3050)), None);
        assert!(matches!(ask(&mut member, 3100), MemberRequest::Join(JoinGroupRequest { member_id: "", .. })));
    }

    #[test]
    fn heartbeats_are_due_by_their_interval_and_one_at_a_time() {
        let mut member = stable();
        assert_eq!((member.next_deadline(), member.next_request(at_ms(2999))), (Some(3_000_000), None));
        assert_eq!(beaten(&mut member, 3005, ErrorCode::None).change, None);
        member.heartbeat_at(4_000_000);
        ask(&mut member, 4000);
        assert_eq!((member.next_deadline(), member.next_request(at_ms(9000))), (None, None));
    }

    #[test]
    fn a_lost_coordinator_costs_no_partition() {
        let mut member = stable();
        assert_eq!(beaten(&mut member, 3000, ErrorCode::NotCoordinator).change, Some(Change::CoordinatorLost));
        assert_eq!(member.assignment().iter().copied().collect::<Vec<_>>(), orders(&[0, 2]));
        ask(&mut member, 3100);
        member.on_disconnect(at_ms(3200));
        assert!(matches!(ask(&mut member, 3300), MemberRequest::Heartbeat(_)));
    }

    #[test]
    fn leaving_waits_for_the_answer_in_flight_and_is_the_last_request() {
        let mut member = stable();
        ask(&mut member, 3000);
        member.leave();
        assert_eq!(member.next_request(at_ms(3000)), None);
        let response = HeartbeatResponse { error_code: ErrorCode::RebalanceInProgress.code(), ..Default::default() };
        let late = member.on_response(at_ms(3001), &answer(&HeartbeatRequest::default(), &response)).unwrap();
        assert_eq!(late.change, None);
        assert!(matches!(ask(&mut member, 3001), MemberRequest::Leave(_)));
        let left = answer(&LeaveGroupRequest::default(), &LeaveGroupResponse::default());
        assert_eq!(member.on_response(at_ms(3002), &left).unwrap().change, Some(Change::Left));
        assert_eq!(member.next_request(at_ms(99_999)), None);
        assert_eq!(member.next_deadline(), None);
    }

    #[test]
    fn what_joining_again_does_not_heal_ends_the_member() {
        let mut member = ClassicMember::new(config(None));
        let refused = JoinGroupResponse { error_code: ErrorCode::InvalidSessionTimeout.code(), ..Default::default() };
        let failed = Some(Change::Failed(ErrorCode::InvalidSessionTimeout));
        assert_eq!(joined(&mut member, 0, &refused).change, failed);
        assert_eq!(member.next_request(at_ms(99_999)), None);
    }
}
