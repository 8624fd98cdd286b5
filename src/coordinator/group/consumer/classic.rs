//! Members of the classic protocol in a group of the consumer protocol: a live group on its way from one to the other. To
//! them a member epoch is a generation, and a rebalance one that nobody else takes part in.

use std::sync::Arc;

use bytes::Bytes;

use super::assignor::Assignment;
use super::group::{Awaited, ConsumerGroup, Moment};
use super::heartbeat::{Sender, check_instance, unknown_instance};
use super::member::{ClassicMember, Member, MemberMetadata, MemberState};
use super::record::{by_topic, of_topics};
use crate::coordinator::Refusal;
use crate::coordinator::group::{
    HeartbeatRequest, JoinReply, JoinRequest, LeavingMember, MemberId, SyncReply, SyncRequest,
};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::protocol::consumer_protocol::{
    CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartitions,
};
use crate::types::PartitionId;

impl ClassicMember {
    /// All protocols say the same in our eyes: what they differ in is for the clients' assignors.
    fn subscription(&self) -> Result<(i16, ConsumerProtocolSubscription<'_>), Refusal> {
        let first = self.protocols.first().map(|(_, metadata)| &**metadata);
        ConsumerProtocolSubscription::of_bytes(first.unwrap_or_default()).map_err(|error| {
            let message = format!("The subscription in the consumer protocol does not read: {error}");
            Refusal::new(ErrorCode::InconsistentGroupProtocol, message)
        })
    }

    fn favourite(&self) -> Option<&Arc<str>> {
        self.protocols.first().map(|(name, _)| name)
    }

    /// What a member of the classic protocol is told to have.
    pub(super) fn assignment<'a>(
        &self,
        image: &MetadataImage,
        partitions: impl Iterator<Item = &'a PartitionId>,
    ) -> Bytes {
        let version = self.subscription().map_or(0, |(version, _)| version);
        let topics = by_topic(partitions.copied()).into_iter();
        let named: Vec<(Arc<str>, Vec<i32>)> =
            topics.filter_map(|(id, partitions)| Some((image.topic_by_id(id)?.name.clone(), partitions))).collect();
        let assigned =
            named.iter().map(|(topic, partitions)| TopicPartitions { topic, partitions: partitions.clone() });
        ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), user_data: None }.to_bytes(version)
    }

    /// What the member says of itself, with what another protocol may have left of it.
    pub(super) fn apply_to(&self, mut metadata: MemberMetadata) -> Result<MemberMetadata, Refusal> {
        let (_, subscription) = self.subscription()?;
        if let Some(rack) = subscription.rack_id.filter(|rack| !rack.is_empty()) {
            metadata.rack = Some(rack.into());
        }
        metadata.subscribed_topics = subscription.topics.into_iter().map(Arc::from).collect();
        metadata.subscribed_regex = None;
        metadata.classic = Some(self.clone());
        Ok(metadata)
    }

    fn owned(&self, image: &MetadataImage) -> Result<Assignment, Refusal> {
        let (_, subscription) = self.subscription()?;
        let owned = subscription.owned_partitions.iter();
        Ok(of_topics(owned.filter_map(|owned| Some((image.topic(owned.topic)?.id, &*owned.partitions)))))
    }
}

impl ConsumerGroup {
    /// All that can be wrong with a JoinGroup. Nothing is decided.
    pub(super) fn check_classic_join(&self, moment: &Moment, request: &JoinRequest) -> Result<Sender, Refusal> {
        self.check_room(moment, &request.member, request.instance.as_deref())?;
        let classic = || self.facts.members.values().filter_map(|member| member.metadata.classic.as_ref());
        let shared = |name: &Arc<str>| classic().all(|member| member.protocols.iter().any(|(known, _)| known == name));
        let is_consumer = *request.protocol_type == *CONSUMER_PROTOCOL_TYPE;
        if !is_consumer || !request.protocols.iter().any(|(name, _)| shared(name)) {
            let message = format!("Member {}'s protocols are not supported.", request.member);
            return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        }
        let Some(instance) = &request.instance else {
            let known = self.facts.members.contains_key(&request.member);
            return Ok(if known { Sender::Member } else { Sender::New });
        };
        match self.facts.static_member(instance) {
            None if request.member.is_empty() => Ok(Sender::New),
            None => Err(unknown_instance(instance)),
            Some(former) if request.member.is_empty() => Ok(Sender::Replacing(former.clone())),
            Some(known) => check_instance(known, &request.member, instance).map(|()| Sender::Member),
        }
    }

    /// JoinGroup of the member with this id, which a new one was just given. The group may be without members of the
    /// consumer protocol after it.
    pub(super) fn classic_join(
        &mut self,
        moment: &Moment,
        member: &MemberId,
        sender: Sender,
        request: &JoinRequest,
    ) -> Result<JoinReply, Refusal> {
        let classic =
            ClassicMember { session_timeout_ms: request.session_timeout_ms, protocols: request.protocols.clone() };
        let owned = classic.owned(moment.image)?;
        let before = match &sender {
            Sender::Replacing(former) => self.facts.members.get(former),
            Sender::Member | Sender::New => self.facts.members.get(member),
        };
        let mut metadata = classic.apply_to(before.map(|member| member.metadata.clone()).unwrap_or_default())?;
        metadata.instance = request.instance.clone().or(metadata.instance);
        metadata.rebalance_timeout_ms = request.rebalance_timeout_ms;
        metadata.client = request.client.clone();

        if let Sender::Replacing(former) = &sender {
            self.replace_member(former, member);
        }
        let change = self.update_member(moment, member, metadata);
        let resolved = self.refresh_regexes(moment);
        self.update_epoch(moment, change.subscription || change.assignor || resolved);
        if self.will_downgrade(moment, &[]) {
            // What is not assigned yet will be by the members themselves.
            if self.facts.target_epoch.epoch >= self.facts.epoch.epoch {
                self.reconcile(moment, member, Some(&owned), change.subscription);
            }
        } else {
            self.update_target(moment);
            self.reconcile(moment, member, Some(&owned), change.subscription);
            self.stop_awaiting(member, Awaited::Join);
            self.start_awaiting(moment.now, member, Awaited::Heartbeat, request.session_timeout_ms);
            self.start_awaiting(moment.now, member, Awaited::Sync, request.rebalance_timeout_ms);
        }
        Ok(JoinReply {
            error_code: ErrorCode::None,
            generation: self.facts.members[member].current.epoch,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol: classic.favourite().cloned(),
            leader: "".into(),
            skip_assignment: false,
            member: member.clone(),
            members: Vec::new(),
        })
    }

    /// SyncGroup: what the member has by now.
    pub(super) fn classic_sync(&mut self, moment: &Moment, request: &SyncRequest) -> Result<SyncReply, Refusal> {
        let member = self.classic_member(&request.member, request.instance.as_deref(), request.generation)?;
        let classic = member.metadata.classic.clone().expect("just checked");
        let another_type = request.protocol_type.as_deref().is_some_and(|name| name != CONSUMER_PROTOCOL_TYPE);
        let another = request.protocol.as_ref().is_some_and(|name| Some(name) != classic.favourite());
        if another_type || another {
            let message = format!("Member {} joined with another protocol.", request.member);
            return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        }
        // One that has to give up partitions did join again: it gives them up first, then it joins once more.
        let current = &member.current;
        let rebalances =
            self.facts.target_epoch.epoch > current.epoch && current.state != MemberState::UnrevokedPartitions;
        let assignment = classic.assignment(moment.image, current.assigned.keys());
        if rebalances {
            self.await_join(moment, &request.member);
            return Err(Refusal::from(ErrorCode::RebalanceInProgress));
        }
        self.stop_awaiting(&request.member, Awaited::Sync);
        self.start_awaiting(moment.now, &request.member, Awaited::Heartbeat, classic.session_timeout_ms);
        let (protocol_type, protocol) = (request.protocol_type.clone(), request.protocol.clone());
        Ok(SyncReply { error_code: ErrorCode::None, protocol_type, protocol, assignment })
    }

    /// Heartbeat: whether the member has to join again, to give something up or to get something.
    pub(super) fn classic_heartbeat(&mut self, moment: &Moment, request: &HeartbeatRequest) -> Result<(), Refusal> {
        self.classic_member(&request.member, request.instance.as_deref(), request.generation)?;
        // Nobody else may be left to ask for the next assignment.
        self.update_epoch(moment, false);
        self.update_target(moment);
        let member = &self.facts.members[&request.member];
        let session_timeout_ms = member.metadata.classic.as_ref().expect("just checked").session_timeout_ms;
        let rebalances = match member.current.state {
            _ if member.current.epoch < self.facts.target_epoch.epoch => true,
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !self.waits_for_others(&request.member, member),
            MemberState::Stable => false,
        };
        self.start_awaiting(moment.now, &request.member, Awaited::Heartbeat, session_timeout_ms);
        if rebalances {
            self.await_join(moment, &request.member);
            return Err(Refusal::from(ErrorCode::RebalanceInProgress));
        }
        Ok(())
    }

    /// LeaveGroup names members of either protocol, static ones by their instance alone if it is an administrator who asks.
    pub(super) fn check_classic_leave(&self, leaving: &LeavingMember) -> Result<MemberId, Refusal> {
        let Some(instance) = &leaving.instance else {
            return match self.facts.members.contains_key(&leaving.member) {
                true => Ok(leaving.member.clone()),
                false => Err(self.unknown_member(&leaving.member)),
            };
        };
        let member = self.facts.static_member(instance).ok_or_else(|| unknown_instance(instance))?;
        if !leaving.member.is_empty() {
            check_instance(member, &leaving.member, instance)?;
        }
        Ok(member.clone())
    }

    fn classic_member(&self, id: &MemberId, instance: Option<&str>, generation: i32) -> Result<&Member, Refusal> {
        if let Some(instance) = instance {
            let known = self.facts.static_member(instance).ok_or_else(|| unknown_instance(instance))?;
            check_instance(known, id, instance)?;
        }
        let member = self.facts.members.get(id).filter(|member| member.metadata.classic.is_some());
        let member = member.ok_or_else(|| self.unknown_member(id))?;
        if generation != member.current.epoch {
            let epoch = member.current.epoch;
            let message = format!("The generation {generation} is not the member epoch {epoch} of member {id}.");
            return Err(Refusal::new(ErrorCode::IllegalGeneration, message));
        }
        Ok(member)
    }

    fn waits_for_others(&self, id: &MemberId, member: &Member) -> bool {
        let missing = |partition: &PartitionId| !member.current.assigned.contains_key(partition);
        let target = self.facts.targets.get(id).into_iter().flatten();
        target.copied().filter(missing).any(|partition| self.facts.is_held(partition))
    }

    fn await_join(&mut self, moment: &Moment, member: &MemberId) {
        if !self.is_awaiting(member, Awaited::Join) {
            let rebalance_timeout_ms = self.facts.members[member].metadata.rebalance_timeout_ms;
            self.start_awaiting(moment.now, member, Awaited::Join, rebalance_timeout_ms);
        }
    }
}
