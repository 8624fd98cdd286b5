//! One member of a group of the consumer protocol, as the log states it: what it says of itself, and what it has. How it
//! comes from what it has to what it is to have is `CurrentAssignment::reconcile`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::assignor::Assignment;
use crate::coordinator::group::Client;
use crate::types::PartitionId;

/// The epoch of a static member that left and said that it will be back.
pub const STATIC_LEAVE_EPOCH: i32 = -2;
/// The epoch of a member that leaves for good.
pub const LEAVE_EPOCH: i32 = -1;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    pub metadata: MemberMetadata,
    pub current: CurrentAssignment,
}

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberMetadata {
    /// `group.instance.id` of a static member.
    pub instance: Option<Arc<str>>,
    pub rack: Option<Arc<str>>,
    pub client: Client,
    pub subscribed_topics: BTreeSet<Arc<str>>,
    pub subscribed_regex: Option<Arc<str>>,
    /// How long it may take to give up partitions; -1 before it said so.
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<Arc<str>>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicMember {
    pub session_timeout_ms: i32,
    /// Names of assignment strategies and what the member says to each, its favourite first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

impl Default for MemberMetadata {
    fn default() -> MemberMetadata {
        MemberMetadata {
            instance: None,
            rack: None,
            client: Client { id: "".into(), host: "".into() },
            subscribed_topics: BTreeSet::new(),
            subscribed_regex: None,
            rebalance_timeout_ms: -1,
            server_assignor: None,
            classic: None,
        }
    }
}

/// How far a member is on its way to the target.
///
/// | from | to | when |
/// | --- | --- | --- |
/// | any | `UnrevokedPartitions` | it has partitions that are no longer its own: epoch stays |
/// | any | `UnreleasedPartitions` | it has the target's epoch, and others still hold some of its partitions |
/// | any | `Stable` | it has the target's epoch and all its partitions |
///
/// `UnrevokedPartitions` is left only by a heartbeat that no longer lists what was to be given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemberState {
    #[default]
    Stable = 0,
    UnrevokedPartitions = 1,
    UnreleasedPartitions = 2,
}

/// What a member has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CurrentAssignment {
    /// What its next heartbeat has to say.
    pub epoch: i32,
    /// What it may say if the answer with the epoch was lost.
    pub previous_epoch: i32,
    pub state: MemberState,
    /// With the epoch in which the member got each (KIP-1251).
    pub assigned: BTreeMap<PartitionId, i32>,
    /// It was told to give them up, and has not said that it did.
    pub revoking: BTreeMap<PartitionId, i32>,
}

/// What a member is to have.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub epoch: i32,
    /// Of topics that the member is subscribed to, only.
    pub partitions: &'a Assignment,
}

impl CurrentAssignment {
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// The next step towards the target: first give up, then take what is free. `owned` is what the member says that it
    /// has, if it says so; `is_free` tells whether nobody else has a partition. With `trim`, partitions of topics that
    /// the member gave up reading (`is_subscribed`) are taken from it whatever the target.
    pub fn reconcile(
        &self,
        target: Target,
        owned: Option<&Assignment>,
        trim: Option<&dyn Fn(PartitionId) -> bool>,
        is_free: impl Fn(PartitionId) -> bool,
    ) -> CurrentAssignment {
        let waits = match self.state {
            MemberState::Stable => self.epoch == target.epoch,
            MemberState::UnrevokedPartitions => owns_any(owned, &self.revoking),
            MemberState::UnreleasedPartitions => false,
        };
        match (waits, trim) {
            (false, _) => self.advance(target, owned, is_free),
            (true, Some(is_subscribed)) => self.trim(owned, is_subscribed),
            (true, None) => self.clone(),
        }
    }

    fn advance(
        &self,
        target: Target,
        owned: Option<&Assignment>,
        is_free: impl Fn(PartitionId) -> bool,
    ) -> CurrentAssignment {
        let (mut assigned, revoking) = self.split(|partition| target.partitions.contains(&partition));
        if owns_any(owned, &revoking) {
            let state = MemberState::UnrevokedPartitions;
            return CurrentAssignment { epoch: self.epoch, previous_epoch: self.epoch, state, assigned, revoking };
        }
        let mut state = MemberState::Stable;
        for partition in target.partitions {
            if assigned.contains_key(partition) {
                continue;
            }
            if is_free(*partition) || self.revoking.contains_key(partition) {
                assigned.insert(*partition, target.epoch);
            } else {
                state = MemberState::UnreleasedPartitions;
            }
        }
        let (epoch, previous_epoch) = (target.epoch, self.epoch);
        CurrentAssignment { epoch, previous_epoch, state, assigned, revoking: BTreeMap::new() }
    }

    fn trim(&self, owned: Option<&Assignment>, is_subscribed: &dyn Fn(PartitionId) -> bool) -> CurrentAssignment {
        let (assigned, mut revoking) = self.split(is_subscribed);
        if revoking.is_empty() {
            return self.clone();
        }
        revoking.extend(&self.revoking);
        let previous_epoch = self.epoch;
        if owns_any(owned, &revoking) {
            let state = MemberState::UnrevokedPartitions;
            return CurrentAssignment { epoch: self.epoch, previous_epoch, state, assigned, revoking };
        }
        CurrentAssignment { previous_epoch, assigned, ..self.clone() }
    }

    fn split(&self, stays: impl Fn(PartitionId) -> bool) -> (BTreeMap<PartitionId, i32>, BTreeMap<PartitionId, i32>) {
        self.assigned
            .iter()
            .map(|(partition, epoch)| (*partition, *epoch))
            .partition(|(partition, _)| stays(*partition))
    }

    /// What it has and what it gives up.
    pub fn held(&self) -> impl Iterator<Item = PartitionId> {
        self.assigned.keys().chain(self.revoking.keys()).copied()
    }
}

/// A member that does not say what it has, has it all.
fn owns_any(owned: Option<&Assignment>, partitions: &BTreeMap<PartitionId, i32>) -> bool {
    match owned {
        Some(owned) => partitions.keys().any(|partition| owned.contains(partition)),
        None => !partitions.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::assignor::tests::partition;
    use super::*;

    fn partitions(indexes: &[i32]) -> Assignment {
        indexes.iter().map(|index| partition(0, *index)).collect()
    }

    fn since(epoch: i32, indexes: &[i32]) -> BTreeMap<PartitionId, i32> {
        partitions(indexes).into_iter().map(|partition| (partition, epoch)).collect()
    }

    fn stable(epoch: i32, indexes: &[i32]) -> CurrentAssignment {
        let assigned = since(epoch, indexes);
        CurrentAssignment { epoch, previous_epoch: epoch - 1, assigned, ..CurrentAssignment::default() }
    }

    const FREE: fn(PartitionId) -> bool = |_| true;

    #[test]
    fn what_is_no_longer_its_own_is_given_up_before_anything_is_taken() {
        let target = partitions(&[1, 2]);
        let target = Target { epoch: 5, partitions: &target };
        let told = stable(4, &[0, 1]).reconcile(target, None, None, FREE);
        assert_eq!((told.state, told.epoch), (MemberState::UnrevokedPartitions, 4));
        assert_eq!((&told.assigned, &told.revoking), (&since(4, &[1]), &since(4, &[0])));

        assert_eq!(told.reconcile(target, None, None, FREE), told, "it has not said what it has");
        assert_eq!(told.reconcile(target, Some(&partitions(&[0, 1])), None, FREE), told, "it still has it");
        let given_up = told.reconcile(target, Some(&partitions(&[1])), None, FREE);
        assert_eq!((given_up.state, given_up.epoch, given_up.previous_epoch), (MemberState::Stable, 5, 4));
        assert_eq!(given_up.assigned, [(partition(0, 1), 4), (partition(0, 2), 5)].into());
        assert!(given_up.revoking.is_empty());
    }

    #[test]
    fn what_others_hold_is_waited_for_in_the_new_epoch() {
        let target = partitions(&[0, 1]);
        let target = Target { epoch: 2, partitions: &target };
        let waiting = stable(1, &[]).reconcile(target, None, None, |free| free.index == 0);
        assert_eq!((waiting.state, waiting.epoch), (MemberState::UnreleasedPartitions, 2));
        assert_eq!(waiting.assigned, since(2, &[0]));
        let complete = waiting.reconcile(target, None, None, FREE);
        assert_eq!((complete.state, &complete.assigned), (MemberState::Stable, &since(2, &[0, 1])));
    }

    #[test]
    fn a_partition_that_comes_back_before_it_was_given_up_is_not_waited_for() {
        let (empty, both) = (partitions(&[]), partitions(&[0, 1]));
        let told = stable(1, &[0, 1]).reconcile(Target { epoch: 2, partitions: &empty }, None, None, FREE);
        assert_eq!(told.revoking, since(1, &[0, 1]));
        let again = told.reconcile(Target { epoch: 3, partitions: &both }, Some(&empty), None, |_| false);
        assert_eq!((again.state, again.assigned), (MemberState::Stable, since(3, &[0, 1])));
    }

    #[test]
    fn a_topic_unsubscribed_from_is_given_up_though_the_target_is_old() {
        let target = partitions(&[0, 1]);
        let target = Target { epoch: 4, partitions: &target };
        let is_subscribed = |partition: PartitionId| partition.index == 0;
        let told = stable(4, &[0, 1]).reconcile(target, None, Some(&is_subscribed), FREE);
        assert_eq!((told.state, told.epoch, told.revoking), (MemberState::UnrevokedPartitions, 4, since(4, &[1])));
        let already = stable(4, &[0, 1]).reconcile(target, Some(&partitions(&[0])), Some(&is_subscribed), FREE);
        assert_eq!((already.state, already.epoch, already.assigned), (MemberState::Stable, 4, since(4, &[0])));
    }

    #[test]
    fn a_member_at_its_target_stays_as_it_is() {
        let target = partitions(&[0]);
        let member = stable(4, &[0]);
        assert_eq!(member.reconcile(Target { epoch: 4, partitions: &target }, None, None, FREE), member);
        assert!(member.is_reconciled_to(4) && !member.is_reconciled_to(5));
    }
}
