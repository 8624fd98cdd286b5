//! A rebalance from its beginning to the generation that comes out of it, and the timers that keep it going.

use super::{ClassicState, InitialRebalance, Member, Timer, Turn};
use crate::coordinator::group::{GroupReply, JoinReply, MemberId, SyncReply};
use crate::error_code::ErrorCode;
use crate::types::Deadline;

impl Turn<'_> {
    /// Somebody came, left or changed: the group rebalances, unless it already does and this was the last one.
    pub(super) fn rebalance_or_complete_join(&mut self) {
        match self.group.state {
            ClassicState::PreparingRebalance => self.complete_join_if_all_are_here(),
            _ => self.prepare_rebalance(),
        }
    }

    pub(super) fn prepare_rebalance(&mut self) {
        if self.group.state == ClassicState::CompletingRebalance {
            let members: Vec<MemberId> = self.group.members.keys().cloned().collect();
            for id in members {
                self.answer_sync(&id, SyncReply::error(ErrorCode::RebalanceInProgress));
            }
        }
        self.group.unsynced.clear();
        self.group.sync_deadline = None;
        let is_initial = self.group.is_empty();
        self.group.enter(ClassicState::PreparingRebalance, self.now);
        if is_initial {
            let delay_ms = self.config().initial_rebalance_delay_ms as u64;
            let remaining_ms = self.group.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.group.initial = Some(InitialRebalance { delay_ms, remaining_ms, member_added: false });
            self.set_join_deadline(delay_ms);
        } else if self.group.has_all_joined() {
            self.complete_join();
        } else {
            self.set_join_deadline(self.group.rebalance_timeout_ms());
        }
    }

    /// The first rebalance ends by its delay alone.
    pub(super) fn complete_join_if_all_are_here(&mut self) {
        let preparing = self.group.state == ClassicState::PreparingRebalance;
        if preparing && self.group.initial.is_none() && self.group.has_all_joined() {
            self.complete_join();
        }
    }

    pub(super) fn on_join_deadline(&mut self, fired: Deadline) {
        if self.group.join_deadline != Some(fired) {
            return;
        }
        if let Some(initial) = &mut self.group.initial
            && std::mem::take(&mut initial.member_added)
            && initial.remaining_ms > 0
        {
            let delay_ms = initial.delay_ms.min(initial.remaining_ms);
            initial.remaining_ms = initial.remaining_ms.saturating_sub(delay_ms);
            return self.set_join_deadline(delay_ms);
        }
        self.complete_join();
    }

    /// The next generation, of those who have joined. Static members are kept though they did not: they are away for a
    /// moment, until their session ends.
    fn complete_join(&mut self) {
        self.group.join_deadline = None;
        let late = |(_, member): &(&MemberId, &Member)| member.joining.is_none() && member.instance.is_none();
        let late: Vec<MemberId> = self.group.members.iter().filter(late).map(|(id, _)| id.clone()).collect();
        for id in late {
            self.group.remove_member(&id);
        }
        if !self.group.members.is_empty() && !self.elect_leader() {
            // Only static members are left, and none has come.
            return self.set_join_deadline(self.group.rebalance_timeout_ms());
        }
        self.group.initial = None;
        self.group.generation = self.group.generation.wrapping_add(1).max(0);
        self.group.unsynced.clear();
        if self.group.members.is_empty() {
            self.group.protocol = None;
            self.group.leader = None;
            self.group.enter(ClassicState::Empty, self.now);
            return self.decide(self.group.record(|_, member| member.assignment.clone()));
        }
        self.group.protocol = Some(self.group.select_protocol());
        self.group.subscribed = self.group.read_subscriptions();
        self.group.enter(ClassicState::CompletingRebalance, self.now);
        let members: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for id in members {
            let reply = self.joined(&id, self.group.is_leader(&id), false);
            self.answer_join(&id, reply);
            self.await_session(&id);
            self.group.members.get_mut(&id).expect("one of the members").is_new = false;
            self.group.unsynced.insert(id);
        }
        let deadline = self.now.after_ms(self.group.rebalance_timeout_ms());
        self.group.sync_deadline = Some(deadline);
        self.deadlines.set(deadline, self.id.clone(), Timer::Sync);
    }

    /// The leader stays who it was if it has joined. False if nobody has.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &MemberId| self.group.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.group.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let next = self.group.members.keys().find(|id| has_joined(id)).cloned();
        let elected = next.is_some();
        self.group.leader = next.or(self.group.leader.take());
        elected
    }

    /// Members that joined and never asked for their assignment are given up.
    pub(super) fn on_sync_deadline(&mut self, fired: Deadline) {
        if self.group.sync_deadline != Some(fired) {
            return;
        }
        self.group.sync_deadline = None;
        let waits = matches!(self.group.state, ClassicState::CompletingRebalance | ClassicState::Stable);
        if waits && !self.group.unsynced.is_empty() {
            for id in std::mem::take(&mut self.group.unsynced) {
                self.group.remove_member(&id);
            }
            self.prepare_rebalance();
        }
    }

    /// A member's time may be over.
    pub(super) fn on_session_deadline(&mut self, id: &MemberId, fired: Deadline) {
        if self.group.pending.get(id) == Some(&fired) {
            self.group.pending.remove(id);
            return self.complete_join_if_all_are_here();
        }
        let Some(member) = self.group.members.get_mut(id).filter(|member| member.queued == Some(fired)) else { return };
        member.queued = None;
        let Some(deadline) = member.session_deadline else { return };
        if deadline > self.now.monotonic_us {
            member.queued = Some(deadline);
            return self.deadlines.set(deadline, self.id.clone(), Timer::Session(id.clone()));
        }
        // Whoever waits for us is alive, as far as can be known; its session begins anew with our answer.
        if !member.is_new && (member.joining.is_some() || member.syncing.is_some()) {
            member.session_deadline = None;
            return;
        }
        self.remove(id);
        match self.group.state {
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare_rebalance(),
            ClassicState::PreparingRebalance => self.complete_join_if_all_are_here(),
            ClassicState::Empty => {}
        }
    }

    /// Takes a member out. What it waits for is answered: a consumer that is alive after all joins again.
    pub(super) fn remove(&mut self, id: &MemberId) {
        let reply = JoinReply::error(ErrorCode::UnknownMemberId, "".into());
        self.answer_join(id, reply);
        self.answer_sync(id, SyncReply::error(ErrorCode::UnknownMemberId));
        self.group.remove_member(id);
    }

    pub(super) fn answer_sync(&mut self, id: &MemberId, reply: SyncReply) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        if let Some(ticket) = member.syncing.take() {
            self.decision.reply(ticket, GroupReply::Sync(reply));
            self.await_session(id);
        }
    }
}
