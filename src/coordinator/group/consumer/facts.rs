//! What the log states of one group of the consumer protocol, and what follows from it at once: who holds a partition, who
//! is subscribed to what. It changes in `replay` only, and takes any sequence of facts without complaint: they come from a
//! disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assignor::Assignment;
use super::member::{CurrentAssignment, LEAVE_EPOCH, Member, MemberMetadata};
use super::record::{ConsumerFact, GroupEpoch, ResolvedRegex, TargetEpoch};
use crate::coordinator::group::MemberId;
use crate::types::{Map, PartitionId};

/// Invariants:
/// - a partition has one holder: the member that has it, or that was told to give it up and did not yet
/// - `instances`, `holders`, `subscribers`, `regex_members`, `assignors`, `classic_members` follow from `members`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub epoch: GroupEpoch,
    /// There is a record of Kafka before 4.1 to be taken back.
    pub partition_metadata: bool,
    pub target_epoch: TargetEpoch,
    pub members: BTreeMap<MemberId, Member>,
    pub targets: BTreeMap<MemberId, Assignment>,
    pub regexes: BTreeMap<Arc<str>, ResolvedRegex>,
    /// Static members by their instance ids.
    instances: BTreeMap<Arc<str>, MemberId>,
    holders: Map<PartitionId, MemberId>,
    /// How many members name a topic.
    subscribers: BTreeMap<Arc<str>, usize>,
    regex_members: BTreeMap<Arc<str>, usize>,
    assignors: BTreeMap<Arc<str>, usize>,
    classic_members: usize,
}

impl Facts {
    pub fn replay(&mut self, fact: &ConsumerFact) {
        match fact {
            ConsumerFact::Epoch(value) => self.epoch = value.unwrap_or_default(),
            ConsumerFact::PartitionMetadata(present) => self.partition_metadata = *present,
            ConsumerFact::TargetEpoch(value) => self.target_epoch = value.unwrap_or_default(),
            ConsumerFact::Member(member, Some(metadata)) => self.set_metadata(member, metadata.clone()),
            ConsumerFact::Member(member, None) => self.remove(member),
            ConsumerFact::Target(member, Some(target)) => {
                self.targets.insert(member.clone(), target.clone());
            }
            ConsumerFact::Target(member, None) => {
                self.targets.remove(member);
            }
            ConsumerFact::Current(member, Some(current)) => self.set_current(member, current.clone()),
            ConsumerFact::Current(member, None) => {
                if self.members.contains_key(member) {
                    let (epoch, previous_epoch) = (LEAVE_EPOCH, LEAVE_EPOCH);
                    self.set_current(member, CurrentAssignment { epoch, previous_epoch, ..Default::default() });
                }
            }
            ConsumerFact::Regex(regex, Some(resolved)) => {
                self.regexes.insert(regex.clone(), resolved.clone());
            }
            ConsumerFact::Regex(regex, None) => {
                self.regexes.remove(regex);
            }
        }
    }

    fn set_metadata(&mut self, id: &MemberId, metadata: MemberMetadata) {
        self.forget_metadata(id);
        if let Some(instance) = &metadata.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        for topic in &metadata.subscribed_topics {
            *self.subscribers.entry(topic.clone()).or_default() += 1;
        }
        if let Some(regex) = &metadata.subscribed_regex {
            *self.regex_members.entry(regex.clone()).or_default() += 1;
        }
        if let Some(assignor) = &metadata.server_assignor {
            *self.assignors.entry(assignor.clone()).or_default() += 1;
        }
        self.classic_members += usize::from(metadata.classic.is_some());
        self.members.entry(id.clone()).or_default().metadata = metadata;
    }

    fn forget_metadata(&mut self, id: &MemberId) {
        let Some(member) = self.members.get_mut(id) else { return };
        let metadata = std::mem::take(&mut member.metadata);
        if let Some(instance) = &metadata.instance
            && self.instances.get(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        for topic in &metadata.subscribed_topics {
            count_down(&mut self.subscribers, topic);
        }
        if let Some(regex) = &metadata.subscribed_regex {
            count_down(&mut self.regex_members, regex);
        }
        if let Some(assignor) = &metadata.server_assignor {
            count_down(&mut self.assignors, assignor);
        }
        self.classic_members -= usize::from(metadata.classic.is_some());
    }

    fn set_current(&mut self, id: &MemberId, current: CurrentAssignment) {
        self.release(id);
        for partition in current.held() {
            self.holders.insert(partition, id.clone());
        }
        self.members.entry(id.clone()).or_default().current = current;
    }

    fn release(&mut self, id: &MemberId) {
        let Some(member) = self.members.get(id) else { return };
        for partition in member.current.held() {
            if self.holders.get(&partition) == Some(id) {
                self.holders.remove(&partition);
            }
        }
    }

    fn remove(&mut self, id: &MemberId) {
        self.release(id);
        self.forget_metadata(id);
        self.members.remove(id);
    }

    pub fn static_member(&self, instance: &str) -> Option<&MemberId> {
        self.instances.get(instance)
    }

    pub fn is_held(&self, partition: PartitionId) -> bool {
        self.holders.contains_key(&partition)
    }

    /// How many members are subscribed to this regular expression.
    pub fn regex_members(&self, regex: &str) -> usize {
        self.regex_members.get(regex).copied().unwrap_or(0)
    }

    pub fn subscribed_regexes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.regex_members.keys()
    }

    /// By name or by regular expression. A topic may come twice.
    pub fn subscribed_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.subscribers.keys().chain(self.regexes.values().flat_map(|resolved| &resolved.topics))
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribers.contains_key(topic) || self.regexes.values().any(|resolved| resolved.topics.contains(topic))
    }

    /// The assignor that most members ask for, if any does.
    pub fn preferred_assignor(&self) -> Option<&Arc<str>> {
        self.assignors.iter().max_by_key(|(_, members)| **members).map(|(name, _)| name)
    }

    pub fn classic_members(&self) -> usize {
        self.classic_members
    }
}

fn count_down(counts: &mut BTreeMap<Arc<str>, usize>, key: &Arc<str>) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assignor::tests::partition;
    use super::*;

    fn holding(epoch: i32, assigned: &[i32], revoking: &[i32]) -> CurrentAssignment {
        let since = |indexes: &[i32]| indexes.iter().map(|index| (partition(0, *index), epoch)).collect();
        let (assigned, revoking) = (since(assigned), since(revoking));
        CurrentAssignment { epoch, assigned, revoking, ..CurrentAssignment::default() }
    }

    fn replayed(facts: &[ConsumerFact]) -> Facts {
        let mut replayed = Facts::default();
        facts.iter().for_each(|fact| replayed.replay(fact));
        replayed
    }

    #[test]
    fn a_partition_is_held_until_its_member_has_given_it_up() {
        let current = |value| ConsumerFact::Current("m".into(), Some(value));
        let mut facts = replayed(&[current(holding(1, &[0, 1], &[]))]);
        facts.replay(&current(holding(1, &[0], &[1])));
        assert!(facts.is_held(partition(0, 0)) && facts.is_held(partition(0, 1)));
        facts.replay(&current(holding(2, &[0], &[])));
        assert!(facts.is_held(partition(0, 0)) && !facts.is_held(partition(0, 1)));
        facts.replay(&ConsumerFact::Current("m".into(), None));
        assert!(!facts.is_held(partition(0, 0)));
    }

    #[test]
    fn a_former_holder_that_leaves_takes_nothing_from_the_present_one() {
        let current = |id: &str| ConsumerFact::Current(id.into(), Some(holding(1, &[0], &[])));
        let facts = replayed(&[current("a"), current("b"), ConsumerFact::Member("a".into(), None)]);
        assert!(facts.is_held(partition(0, 0)));
    }

    #[test]
    fn nothing_is_left_of_members_that_are_gone() {
        let metadata = MemberMetadata {
            instance: Some("i".into()),
            subscribed_topics: ["t".into()].into(),
            subscribed_regex: Some("r".into()),
            server_assignor: Some("range".into()),
            classic: Some(super::super::member::ClassicMember { session_timeout_ms: 1, protocols: Vec::new() }),
            ..MemberMetadata::default()
        };
        let mut facts = replayed(&[
            ConsumerFact::Member("a".into(), Some(metadata.clone())),
            ConsumerFact::Current("a".into(), Some(holding(1, &[0], &[1]))),
            ConsumerFact::Member("a".into(), Some(metadata)),
        ]);
        assert_eq!((facts.static_member("i"), facts.regex_members("r")), (Some(&"a".into()), 1));
        assert_eq!((facts.preferred_assignor(), facts.classic_members()), (Some(&"range".into()), 1));
        assert!(facts.is_subscribed_to("t"));
        facts.replay(&ConsumerFact::Member("a".into(), None));
        assert_eq!(facts, Facts::default());
    }

    #[test]
    fn taking_back_what_was_never_stated_changes_nothing() {
        let facts = replayed(&[
            ConsumerFact::Member("m".into(), None),
            ConsumerFact::Current("m".into(), None),
            ConsumerFact::Target("m".into(), None),
            ConsumerFact::Regex("r".into(), None),
            ConsumerFact::TargetEpoch(None),
            ConsumerFact::Epoch(None),
        ]);
        assert_eq!(facts, Facts::default());
    }
}
