//! Server-side assignors (KIP-848): who of a group's members gets which partitions. Pure functions over plain values; they
//! know neither epochs nor what a member still holds on to.

use std::collections::BTreeSet;

use super::{range, uniform};
use crate::types::{PartitionId, TopicId};

/// Partitions of one member.
pub type Assignment = BTreeSet<PartitionId>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Assignor {
    /// Even over all topics together, moving as little as it can.
    Uniform,
    /// Of each topic one run of neighbours per member, so that equal topics are assigned alike.
    Range,
}

impl Assignor {
    /// In the order of preference where nobody asks for one.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn by_name(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each member should have, in the order of the members. Every partition of a topic that somebody is subscribed
    /// to has exactly one owner.
    pub fn assign(self, group: &GroupSpec) -> Vec<Assignment> {
        match self {
            Assignor::Uniform => uniform::assign(group),
            Assignor::Range => range::assign(group),
        }
    }
}

/// What an assignor is told of a group.
#[derive(Debug, Default)]
pub struct GroupSpec<'a> {
    /// That exist and somebody is subscribed to, ascending by id.
    pub topics: Vec<TopicSpec>,
    /// Each set of topics that some member is subscribed to, once: ascending indexes into `topics`.
    pub subscriptions: Vec<Vec<usize>>,
    /// Ascending by member id.
    pub members: Vec<MemberSpec<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct TopicSpec {
    pub id: TopicId,
    pub partitions: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct MemberSpec<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    /// Index into `subscriptions`.
    pub subscription: usize,
    /// What the assignment before gave it.
    pub assigned: &'a Assignment,
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Uuid;

    pub fn topic(index: usize) -> TopicId {
        Uuid::from_random((index as u128 + 1) << 64)
    }

    pub fn partition(topic_index: usize, index: i32) -> PartitionId {
        PartitionId { topic: topic(topic_index), index }
    }

    /// Topics by their partition counts, members by the topics they are subscribed to.
    #[derive(Clone, Debug)]
    pub struct Group {
        pub partitions: Vec<usize>,
        pub members: Vec<Member>,
    }

    #[derive(Clone, Debug)]
    pub struct Member {
        pub id: String,
        pub instance_id: Option<String>,
        pub topics: Vec<usize>,
        pub assigned: Assignment,
    }

    pub fn member(id: &str, topics: &[usize]) -> Member {
        Member { id: id.to_owned(), instance_id: None, topics: topics.to_vec(), assigned: Assignment::new() }
    }

    impl Group {
        pub fn assign(&self, assignor: Assignor) -> Vec<Assignment> {
            let subscribed: BTreeSet<usize> = self.members.iter().flat_map(|member| member.topics.clone()).collect();
            let subscribed: Vec<usize> = subscribed.into_iter().collect();
            let topics = subscribed.iter().map(|i| TopicSpec { id: topic(*i), partitions: self.partitions[*i] });
            let mut spec = GroupSpec { topics: topics.collect(), ..GroupSpec::default() };
            for member in &self.members {
                let of_spec = |i: &usize| subscribed.binary_search(i).expect("subscribed");
                let subscription: Vec<usize> = member.topics.iter().map(of_spec).collect();
                let known = spec.subscriptions.iter().position(|known| *known == subscription);
                let subscription = known.unwrap_or_else(|| {
                    spec.subscriptions.push(subscription);
                    spec.subscriptions.len() - 1
                });
                let (member_id, instance_id) = (&*member.id, member.instance_id.as_deref());
                spec.members.push(MemberSpec { member_id, instance_id, subscription, assigned: &member.assigned });
            }
            assignor.assign(&spec)
        }

        /// Assigns, and lets every member have what it got.
        pub fn settle(&mut self, assignor: Assignor) {
            let assigned = self.assign(assignor);
            for (member, assigned) in self.members.iter_mut().zip(assigned) {
                member.assigned = assigned;
            }
        }

        pub fn check_every_partition_once(&self, assigned: &[Assignment]) {
            let mut seen = BTreeSet::new();
            for (member, assigned) in self.members.iter().zip(assigned) {
                for partition in assigned {
                    assert!(member.topics.iter().any(|i| topic(*i) == partition.topic), "not subscribed");
                    assert!(seen.insert(*partition), "{partition:?} has two owners");
                }
            }
            let subscribed: BTreeSet<usize> = self.members.iter().flat_map(|member| member.topics.clone()).collect();
            let all = subscribed.iter().map(|i| self.partitions[*i]).sum::<usize>();
            assert_eq!(seen.len(), all);
        }
    }

    fn topics_subscribed(topics: usize) -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::btree_set(0..topics, 0..=topics).prop_map(|topics| topics.into_iter().collect())
    }

    /// Groups whose members have some partitions from before, not all of which they may keep.
    pub fn groups() -> impl Strategy<Value = Group> {
        proptest::collection::vec(0..12usize, 1..5).prop_flat_map(|partitions| {
            let topics = partitions.len();
            let assigned = proptest::collection::btree_set((0..topics + 1, 0..14), 0..20);
            let members = proptest::collection::vec((topics_subscribed(topics), any::<bool>(), assigned), 1..9);
            members.prop_map(move |members| {
                let mut owned = BTreeSet::new();
                let members = members.into_iter().enumerate().map(|(i, (topics, fixed, assigned))| {
                    let assigned = assigned.into_iter().map(|(topic, index)| partition(topic, index));
                    Member {
                        id: format!("member-{i}"),
                        instance_id: fixed.then(|| format!("instance-{}", 9 - i)),
                        topics,
                        assigned: assigned.filter(|partition| owned.insert(*partition)).collect(),
                    }
                });
                Group { partitions: partitions.clone(), members: members.collect() }
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_partition_of_a_subscribed_topic_has_exactly_one_owner(group in groups()) {
            for assignor in Assignor::ALL {
                group.check_every_partition_once(&group.assign(assignor));
            }
        }

        #[test]
        fn an_assignment_made_once_more_is_the_same(mut group in groups()) {
            for assignor in Assignor::ALL {
                group.settle(assignor);
                let before: Vec<Assignment> = group.members.iter().map(|member| member.assigned.clone()).collect();
                prop_assert_eq!(&group.assign(assignor), &before);
            }
        }
    }

    #[test]
    fn an_assignor_is_found_by_its_name() {
        for assignor in Assignor::ALL {
            assert_eq!(Assignor::by_name(assignor.name()), Some(assignor));
        }
        assert_eq!(Assignor::by_name("sticky"), None);
    }

    #[test]
    fn a_group_without_topics_or_without_members_gets_nothing() {
        for assignor in Assignor::ALL {
            assert!(assignor.assign(&GroupSpec::default()).is_empty());
            let group = Group { partitions: vec![3], members: vec![member("a", &[]), member("b", &[])] };
            assert_eq!(group.assign(assignor), [Assignment::new(), Assignment::new()]);
        }
    }
}
