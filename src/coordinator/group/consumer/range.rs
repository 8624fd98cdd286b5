//! The range assignor: each topic is cut into as many runs of neighbouring partitions as it has subscribers, the longer runs
//! first. Members that are subscribed to the same topics of equal size get the same indexes of each (co-partitioning).

use super::assignor::{Assignment, GroupSpec, MemberSpec};
use crate::types::PartitionId;

pub(super) fn assign(group: &GroupSpec) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..group.members.len()).collect();
    order.sort_by_key(|index| rank(&group.members[*index]));
    let mut runs: Vec<Runs> = group.topics.iter().map(|_| Runs::default()).collect();
    for member in &group.members {
        for topic in &group.subscriptions[member.subscription] {
            runs[*topic].members += 1;
        }
    }
    let mut assigned = vec![Assignment::new(); group.members.len()];
    for index in order {
        for topic in &group.subscriptions[group.members[index].subscription] {
            let spec = group.topics[*topic];
            let run = runs[*topic].next(spec.partitions);
            assigned[index].extend(run.map(|partition| PartitionId { topic: spec.id, index: partition as i32 }));
        }
    }
    assigned
}

/// Static members first and by their instance ids, which outlive a restart; then the others by member id.
fn rank<'a>(member: &MemberSpec<'a>) -> (bool, &'a str) {
    (member.instance_id.is_none(), member.instance_id.unwrap_or(member.member_id))
}

/// Of one topic.
#[derive(Default)]
struct Runs {
    members: usize,
    served: usize,
    next_partition: usize,
}

impl Runs {
    fn next(&mut self, partitions: usize) -> std::ops::Range<usize> {
        let longer = self.served < partitions % self.members;
        let start = self.next_partition;
        self.served += 1;
        self.next_partition += partitions / self.members + usize::from(longer);
        start..self.next_partition
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::assignor::Assignor;
    use super::super::assignor::tests::{Group, groups, member, partition, topic};
    use super::*;

    #[test]
    fn members_of_equal_topics_get_the_same_indexes_of_each() {
        let group = Group { partitions: vec![3, 3], members: vec![member("a", &[0, 1]), member("b", &[0, 1])] };
        let of_a = [partition(0, 0), partition(0, 1), partition(1, 0), partition(1, 1)].into();
        let of_b = [partition(0, 2), partition(1, 2)].into();
        assert_eq!(group.assign(Assignor::Range), [of_a, of_b]);
    }

    #[test]
    fn a_static_member_back_under_another_member_id_gets_its_partitions_again() {
        let named = |id: &str, instance: &str| super::super::assignor::tests::Member {
            instance_id: Some(instance.to_owned()),
            ..member(id, &[0])
        };
        let before = Group { partitions: vec![4], members: vec![named("a", "1"), named("b", "2"), member("0", &[0])] };
        let after = Group { partitions: vec![4], members: vec![named("z", "1"), named("b", "2"), member("0", &[0])] };
        assert_eq!(before.assign(Assignor::Range), after.assign(Assignor::Range));
        assert_eq!(before.assign(Assignor::Range)[2], [partition(0, 3)].into());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_member_has_a_run_of_each_topic_and_no_topic_is_uneven(group in groups()) {
            let assigned = group.assign(Assignor::Range);
            for (i, partitions) in group.partitions.iter().enumerate() {
                let subscribed = group.members.iter().zip(&assigned).filter(|(member, _)| member.topics.contains(&i));
                let indexes = |assigned: &Assignment| -> Vec<i32> {
                    assigned.iter().filter(|partition| partition.topic == topic(i)).map(|p| p.index).collect()
                };
                let runs: Vec<Vec<i32>> = subscribed.map(|(_, assigned)| indexes(assigned)).collect();
                for run in &runs {
                    prop_assert!(run.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                    prop_assert!(run.len().abs_diff(partitions / runs.len()) <= 1);
                }
            }
        }
    }
}
