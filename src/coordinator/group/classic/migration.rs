//! A classic group that goes on in the consumer protocol (KIP-848), and one that comes from there.

use super::Turn;
use crate::coordinator::group::{ClassicGroupRecord, Downgrade, JoinReply, MemberId, SyncReply};
use crate::error_code::ErrorCode;

impl Turn<'_> {
    /// The group is one of the consumer protocol from now on: those who wait in a rebalance begin again there.
    pub(in crate::coordinator::group) fn dismiss(&mut self) {
        let members: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for member in members {
            self.answer_join(&member, JoinReply::error(ErrorCode::RebalanceInProgress, member.clone()));
            self.answer_sync(&member, SyncReply::error(ErrorCode::RebalanceInProgress));
        }
    }

    /// The group has just been made by the record of a downgrade. It rebalances, unless all have what they are to have.
    pub(in crate::coordinator::group) fn take_over(&mut self, downgrade: Downgrade, rebalances: bool) {
        let ClassicGroupRecord { members, .. } = &downgrade.record;
        for (row, (id, protocols)) in members.iter().zip(&downgrade.protocols) {
            self.group.update_member(id, protocols, row.rebalance_timeout_ms, row.session_timeout_ms);
        }
        self.on_loaded();
        if rebalances {
            self.rebalance_or_complete_join();
        }
    }
}
