//! A member of a consumer group (KIP-848): one request says what it has and is answered with what it is to have. The broker
//! assigns; only partitions that move are given up. Asks one thing at a time.

use std::collections::BTreeSet;

use super::{Answered, Assigned, Change, MemberConfig, MemberRequest, difference};
use crate::client::{Response, SessionError};
use crate::error_code::ErrorCode;
use crate::protocol::consumer_group_heartbeat::{Assignment, TopicPartitions};
use crate::protocol::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::types::{Deadline, Time, Uuid};

const JOINING: i32 = 0;
const LEAVING: i32 = -1;

#[derive(Clone, Debug)]
pub struct ConsumerMember {
    config: MemberConfig,
    member_id: String,
    epoch: i32,
    state: State,
    is_asked: bool,
    /// The next heartbeat says what the member has.
    tells_all: bool,
    heartbeat_interval_ms: u64,
    not_before: Deadline,
    assignment: BTreeSet<Assigned>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Joined, or joining while the epoch is 0.
    In,
    Leaving,
    Out,
}

impl ConsumerMember {
    /// `member_id` is the member's own to draw, at random.
    pub fn new(config: MemberConfig, member_id: Uuid) -> ConsumerMember {
        ConsumerMember {
            config,
            member_id: member_id.to_string(),
            epoch: JOINING,
            state: State::In,
            is_asked: false,
            tells_all: true,
            heartbeat_interval_ms: 0,
            not_before: 0,
            assignment: BTreeSet::new(),
        }
    }

    pub fn config(&self) -> &MemberConfig {
        &self.config
    }

    pub fn next_request(&mut self, now: Time) -> Option<MemberRequest<'_>> {
        if self.is_asked || self.state == State::Out || now.monotonic_us < self.not_before {
            return None;
        }
        self.is_asked = true;
        let (is_in, is_joining) = (self.state == State::In, self.epoch == JOINING);
        let tells_all = is_in && std::mem::take(&mut self.tells_all);
        let names = || self.config.topics.iter().map(|topic| &*topic.name).collect();
        Some(MemberRequest::ConsumerHeartbeat(ConsumerGroupHeartbeatRequest {
            group_id: &self.config.group_id,
            member_id: &self.member_id,
            member_epoch: if is_in { self.epoch } else { LEAVING },
            instance_id: self.config.instance_id.as_deref(),
            rebalance_timeout_ms: if tells_all { self.config.rebalance_timeout_ms } else { -1 },
            subscribed_topic_names: tells_all.then(names),
            topic_partitions: tells_all.then(|| if is_joining { Vec::new() } else { self.owned() }),
            ..Default::default()
        }))
    }

    fn owned(&self) -> Vec<TopicPartitions> {
        let topics = self.config.topics.iter().enumerate().map(|(place, topic)| TopicPartitions {
            topic_id: topic.id,
            partitions: self.assignment.iter().filter(|one| one.topic == place).map(|one| one.partition).collect(),
        });
        topics.filter(|topic| !topic.partitions.is_empty()).collect()
    }

    pub fn on_response(&mut self, now: Time, response: &Response) -> Result<Answered, SessionError> {
        self.is_asked = false;
        let answer: ConsumerGroupHeartbeatResponse = response.decode()?;
        let code = ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
        if self.state != State::In {
            self.not_before = now.monotonic_us;
            // The answer to what was in flight when the member was told to leave comes with an epoch of its own.
            let has_left = answer.member_epoch == LEAVING || code != ErrorCode::None;
            if has_left {
                self.state = State::Out;
            }
            return Ok(Answered { code, change: has_left.then_some(Change::Left) });
        }
        let change = match code {
            ErrorCode::None => self.on_beaten(now, &answer),
            code => self.on_refused(now, code),
        };
        Ok(Answered { code, change })
    }

    fn on_beaten(&mut self, now: Time, answer: &ConsumerGroupHeartbeatResponse) -> Option<Change> {
        if let Some(member_id) = answer.member_id {
            member_id.clone_into(&mut self.member_id);
        }
        self.epoch = answer.member_epoch;
        self.heartbeat_interval_ms = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        let change = answer.assignment.as_ref().and_then(|assignment| self.take(assignment));
        // What was given up is free for others as soon as the coordinator hears of it.
        self.tells_all |= change.is_some();
        let pause_ms = if self.tells_all { 0 } else { self.heartbeat_interval_ms };
        self.not_before = now.after_ms(pause_ms);
        change
    }

    fn take(&mut self, assignment: &Assignment) -> Option<Change> {
        let place_of = |id| self.config.topics.iter().position(|topic| topic.id == id);
        let known =
            assignment.topic_partitions.iter().filter_map(|topic| Some((place_of(topic.topic_id)?, &topic.partitions)));
        let after: BTreeSet<Assigned> = known
            .flat_map(|(topic, partitions)| {
                partitions.iter().map(move |partition| Assigned { topic, partition: *partition })
            })
            .collect();
        let change = difference(&self.assignment, &after);
        self.assignment = after;
        change
    }

    fn on_refused(&mut self, now: Time, code: ErrorCode) -> Option<Change> {
        self.tells_all = true;
        self.not_before = now.after_ms(self.config.retry_backoff_ms);
        match code {
            ErrorCode::CoordinatorLoadInProgress => None,
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => Some(Change::CoordinatorLost),
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                self.epoch = JOINING;
                difference(&std::mem::take(&mut self.assignment), &BTreeSet::new())
            }
            code => {
                self.state = State::Out;
                Some(Change::Failed(code))
            }
        }
    }

    /// What was in flight may have arrived or not: the next heartbeat says everything.
    pub fn on_disconnect(&mut self, now: Time) {
        self.is_asked = false;
        self.tells_all = true;
        self.not_before = now.after_ms(self.config.retry_backoff_ms);
    }

    pub fn next_deadline(&self) -> Option<Deadline> {
        (!self.is_asked && self.state != State::Out).then_some(self.not_before)
    }

    pub fn leave(&mut self) {
        self.assignment.clear();
        self.state = State::Leaving;
        self.not_before = 0;
    }

    pub fn assignment(&self) -> &BTreeSet<Assigned> {
        &self.assignment
    }

    /// Joined, and the coordinator knows what the member has.
    pub fn is_settled(&self) -> bool {
        self.state == State::In && self.epoch > JOINING && !self.tells_all
    }

    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    pub fn generation(&self) -> i32 {
        self.epoch
    }

    pub fn heartbeat_at(&mut self, deadline: Deadline) {
        if self.is_settled() {
            self.not_before = deadline;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{answer, at_ms, change, config};
    use super::*;

    fn member() -> ConsumerMember {
        ConsumerMember::new(config(None), Uuid::from_random(9))
    }

    fn ask(member: &mut ConsumerMember, ms: u64) -> ConsumerGroupHeartbeatRequest<'_> {
        match member.next_request(at_ms(ms)) {
            Some(MemberRequest::ConsumerHeartbeat(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn answered(member: &mut ConsumerMember, ms: u64, response: &ConsumerGroupHeartbeatResponse) -> Answered {
        member.on_response(at_ms(ms), &answer(&ConsumerGroupHeartbeatRequest::default(), response)).unwrap()
    }

    /// An answer in this epoch, with these partitions of the first topic or without an assignment.
    fn told(member_epoch: i32, partitions: Option<&[i32]>) -> ConsumerGroupHeartbeatResponse<'static> {
        let topic = |partitions: &[i32]| TopicPartitions {
            topic_id: config(None).topics[0].id,
            partitions: partitions.to_vec(),
        };
        let assignment = partitions.map(|partitions| Assignment { topic_partitions: vec![topic(partitions)] });
        ConsumerGroupHeartbeatResponse { member_epoch, heartbeat_interval_ms: 5000, assignment, ..Default::default() }
    }

    fn refused(code: ErrorCode) -> ConsumerGroupHeartbeatResponse<'static> {
        ConsumerGroupHeartbeatResponse { error_code: code.code(), ..Default::default() }
    }

    fn stable() -> ConsumerMember {
        let mut member = member();
        ask(&mut member, 0);
        assert_eq!(answered(&mut member, 0, &told(3, Some(&[0, 1]))).change, change(&[], &[0, 1]));
        ask(&mut member, 0);
        assert_eq!(answered(&mut member, 0, &told(3, None)).change, None);
        member
    }

    #[test]
    fn joining_says_everything_and_a_quiet_heartbeat_nothing() {
        let mut member = member();
        let request = ask(&mut member, 0);
        assert_eq!((request.member_epoch, request.rebalance_timeout_ms), (0, 300_000));
        assert_eq!(request.subscribed_topic_names, Some(vec!["orders", "refunds"]));
        assert_eq!(request.topic_partitions, Some(vec![]));
        answered(&mut member, 0, &told(1, None));
        assert_eq!(member.next_request(at_ms(4999)), None);
        let request = ask(&mut member, 5000);
        assert_eq!((request.member_epoch, request.rebalance_timeout_ms), (1, -1));
        assert_eq!((request.subscribed_topic_names, request.topic_partitions), (None, None));
    }

    #[test]
    fn only_what_moves_is_given_up_and_the_coordinator_hears_of_it_at_once() {
        let mut member = stable();
        ask(&mut member, 5000);
        assert_eq!(answered(&mut member, 5000, &told(3, Some(&[1, 2]))).change, change(&[0], &[2]));
        assert!(!member.is_settled());
        let owned = ask(&mut member, 5000).topic_partitions.expect("it says what it has");
        assert_eq!(owned[0].partitions, [1, 2]);
        answered(&mut member, 5001, &told(4, None));
        assert!(member.is_settled());
        assert_eq!(member.generation(), 4);
    }

    #[test]
    fn a_fenced_member_gives_everything_up_and_joins_again_under_its_id() {
        for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
            let mut member = stable();
            let id = member.member_id().to_owned();
            ask(&mut member, 5000);
            assert_eq!(answered(&mut member, 5000, &refused(code)).change, change(&[0, 1], &[]));
            let request = ask(&mut member, 5100);
            assert_eq!((request.member_epoch, request.member_id), (0, &*id));
            assert_eq!(request.topic_partitions, Some(vec![]));
        }
    }

    #[test]
    fn after_a_lost_connection_the_member_says_again_what_it_has() {
        let mut member = stable();
        ask(&mut member, 5000);
        member.on_disconnect(at_ms(5500));
        let request = ask(&mut member, 5600);
        assert_eq!((request.member_epoch, request.topic_partitions.map(|topics| topics.len())), (3, Some(1)));
    }

    #[test]
    fn leaving_is_the_last_request_also_behind_one_in_flight() {
        let mut member = stable();
        ask(&mut member, 5000);
        member.leave();
        assert_eq!(answered(&mut member, 5001, &told(3, None)).change, None);
        assert_eq!(ask(&mut member, 5001).member_epoch, -1);
        assert_eq!(answered(&mut member, 5002, &told(-1, None)).change, Some(Change::Left));
        assert_eq!(member.next_request(at_ms(99_999)), None);
        assert_eq!(member.next_deadline(), None);
    }

    #[test]
    fn what_joining_again_does_not_heal_ends_the_member() {
        let mut member = member();
        ask(&mut member, 0);
        let failed = Some(Change::Failed(ErrorCode::UnsupportedAssignor));
        assert_eq!(answered(&mut member, 0, &refused(ErrorCode::UnsupportedAssignor)).change, failed);
        assert_eq!(member.next_request(at_ms(99_999)), None);
    }
}
