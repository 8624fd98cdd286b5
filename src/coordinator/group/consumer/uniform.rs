//! The uniform assignor: everybody about as many partitions as everybody else, over all topics together, and as few of them
//! moved as that allows. Where all are subscribed to the same topics no two members differ by more than one. Where they are
//! not, that holds between the subscribers of each topic as far as sixteen passes over the topics get.

use std::collections::BTreeSet;

use super::assignor::{Assignment, GroupSpec};
use crate::types::PartitionId;

/// A pass about halves what chains of overlapping subscriptions leave uneven; subscriptions without overlap take one.
const BALANCE_PASSES_MAX: usize = 16;

pub(super) fn assign(group: &GroupSpec) -> Vec<Assignment> {
    let mut draft = Draft::keeping_what_fits(group);
    if group.subscriptions.len() == 1 {
        draft.take_back_the_surplus();
    }
    let mut order: Vec<usize> = (0..group.topics.len()).collect();
    // The topics that leave the least choice come first: more partitions per subscriber, then fewer subscribers.
    order.sort_by_key(|topic| {
        let (partitions, subscribers) = (group.topics[*topic].partitions, draft.subscribers(*topic));
        (std::cmp::Reverse(partitions * 1000 / subscribers.max(1)), subscribers)
    });
    for topic in &order {
        draft.give_away_the_unowned(*topic);
    }
    for _ in 0..BALANCE_PASSES_MAX {
        let moved = order.iter().filter(|topic| draft.balance(**topic)).count();
        if moved == 0 {
            break;
        }
    }
    draft.finish()
}

/// An assignment in the making.
struct Draft<'a> {
    group: &'a GroupSpec<'a>,
    /// Member by topic and partition.
    owners: Vec<Vec<Option<usize>>>,
    /// How many partitions each member has.
    loads: Vec<usize>,
    /// By subscription: its members as (load, member), the least loaded first.
    by_load: Vec<BTreeSet<(usize, usize)>>,
    /// By topic: the subscriptions that have it.
    subscriptions: Vec<Vec<usize>>,
}

impl<'a> Draft<'a> {
    /// Members keep what they had, as far as it exists and they are subscribed to it.
    fn keeping_what_fits(group: &'a GroupSpec<'a>) -> Draft<'a> {
        let mut owners: Vec<_> = group.topics.iter().map(|topic| vec![None; topic.partitions]).collect();
        let mut loads = vec![0; group.members.len()];
        for (index, member) in group.members.iter().enumerate() {
            let subscription = &group.subscriptions[member.subscription];
            for partition in member.assigned {
                let Ok(topic) = group.topics.binary_search_by_key(&partition.topic, |topic| topic.id) else { continue };
                if subscription.binary_search(&topic).is_err() {
                    continue;
                }
                let owner = usize::try_from(partition.index).ok().and_then(|index| owners[topic].get_mut(index));
                if let Some(owner @ None) = owner {
                    *owner = Some(index);
                    loads[index] += 1;
                }
            }
        }
        let mut by_load = vec![BTreeSet::new(); group.subscriptions.len()];
        for (index, member) in group.members.iter().enumerate() {
            by_load[member.subscription].insert((loads[index], index));
        }
        let mut subscriptions = vec![Vec::new(); group.topics.len()];
        for (subscription, topics) in group.subscriptions.iter().enumerate() {
            for topic in topics {
                subscriptions[*topic].push(subscription);
            }
        }
        Draft { group, owners, loads, by_load, subscriptions }
    }

    fn subscribers(&self, topic: usize) -> usize {
        self.subscriptions[topic].iter().map(|subscription| self.by_load[*subscription].len()).sum()
    }

    /// The subscriber that has the fewest partitions of all topics together.
    fn least_loaded(&self, topic: usize) -> Option<usize> {
        let firsts = self.subscriptions[topic].iter().filter_map(|subscription| self.by_load[*subscription].first());
        firsts.min().map(|(_, member)| *member)
    }

    /// Cuts every member to its share of an even assignment. Only where all have equal subscriptions is that known before:
    /// then nothing is moved to a member that has to give of its own later, as balancing topic by topic might do.
    fn take_back_the_surplus(&mut self) {
        let partitions: usize = self.owners.iter().map(Vec::len).sum();
        let (share, mut one_more) = (partitions / self.loads.len(), partitions % self.loads.len());
        let mut shares = vec![share; self.loads.len()];
        for (member, load) in self.loads.iter().enumerate() {
            if *load > share && one_more > 0 {
                one_more -= 1;
                shares[member] += 1;
            }
        }
        for topic in 0..self.owners.len() {
            for partition in 0..self.owners[topic].len() {
                if let Some(owner) = self.owners[topic][partition]
                    && self.loads[owner] > shares[owner]
                {
                    self.owners[topic][partition] = None;
                    self.change_load(owner, -1);
                }
            }
        }
    }

    fn give_away_the_unowned(&mut self, topic: usize) {
        for partition in 0..self.owners[topic].len() {
            if self.owners[topic][partition].is_none()
                && let Some(member) = self.least_loaded(topic)
            {
                self.owners[topic][partition] = Some(member);
                self.change_load(member, 1);
            }
        }
    }

    /// Moves partitions of this topic from those who have most of all topics to those who have least, until no move would
    /// make it evener. Says whether there was any.
    fn balance(&mut self, topic: usize) -> bool {
        let Some(least_loaded) = self.least_loaded(topic) else { return false };
        let owners = self.owners[topic].iter().flatten();
        let most = owners.map(|owner| self.loads[*owner]).max().unwrap_or(0);
        if most <= self.loads[least_loaded] + 1 {
            return false;
        }
        let owned = self.owners[topic].iter().enumerate();
        let mut owned: Vec<(usize, usize)> =
            owned.filter_map(|(partition, owner)| Some(((*owner)?, partition))).collect();
        owned.sort_unstable();
        let mut owned: Vec<(usize, Vec<usize>)> = owned
            .chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| (chunk[0].0, chunk.iter().map(|(_, partition)| *partition).collect()))
            .collect();
        let mut givers: BTreeSet<(usize, usize)> =
            owned.iter().enumerate().map(|(place, (member, _))| (self.loads[*member], place)).collect();
        while let Some((load, place)) = givers.pop_last() {
            let taker = self.least_loaded(topic).expect("there is a subscriber");
            if load <= self.loads[taker] + 1 {
                break;
            }
            let (giver, partitions) = &mut owned[place];
            // A taker has at least two less than the giver in the end: nobody takes and then gives of one topic.
            let partition = partitions.pop().expect("a giver is put back only while it has one");
            if !partitions.is_empty() {
                givers.insert((load - 1, place));
            }
            let giver = *giver;
            self.owners[topic][partition] = Some(taker);
            self.change_load(giver, -1);
            self.change_load(taker, 1);
        }
        true
    }

    fn change_load(&mut self, member: usize, by: isize) {
        let by_load = &mut self.by_load[self.group.members[member].subscription];
        let load = &mut self.loads[member];
        by_load.remove(&(*load, member));
        *load = load.checked_add_signed(by).expect("only what a member has is taken from it");
        by_load.insert((*load, member));
    }

    fn finish(self) -> Vec<Assignment> {
        let mut assigned = vec![Assignment::new(); self.group.members.len()];
        for (topic, owners) in self.group.topics.iter().zip(&self.owners) {
            for (index, owner) in owners.iter().enumerate() {
                if let Some(owner) = owner {
                    assigned[*owner].insert(PartitionId { topic: topic.id, index: index as i32 });
                }
            }
        }
        assigned
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::assignor::Assignor;
    use super::super::assignor::tests::{Group, groups, member, topic};
    use super::*;

    fn sizes(assigned: &[Assignment]) -> Vec<usize> {
        assigned.iter().map(Assignment::len).collect()
    }

    #[test]
    fn a_new_member_takes_its_share_and_nothing_else_moves() {
        let mut group = Group { partitions: vec![6], members: vec![member("a", &[0]), member("b", &[0])] };
        group.settle(Assignor::Uniform);
        group.members.push(member("c", &[0]));
        let assigned = group.assign(Assignor::Uniform);
        assert_eq!(sizes(&assigned), [2, 2, 2]);
        assert!(assigned[0].is_subset(&group.members[0].assigned) && assigned[1].is_subset(&group.members[1].assigned));
    }

    #[test]
    fn what_a_member_leaves_behind_goes_to_the_others_and_they_keep_theirs() {
        let mut group = Group { partitions: vec![9], members: ["a", "b", "c"].map(|id| member(id, &[0])).into() };
        group.settle(Assignor::Uniform);
        group.members.remove(1);
        let assigned = group.assign(Assignor::Uniform);
        assert!(group.members.iter().zip(&assigned).all(|(member, assigned)| member.assigned.is_subset(assigned)));
        assert!(sizes(&assigned).iter().all(|size| (4..=5).contains(size)));
    }

    #[test]
    fn a_topic_is_spread_over_the_members_before_the_next_begins() {
        let group = Group { partitions: vec![2, 2], members: vec![member("a", &[0, 1]), member("b", &[0, 1])] };
        for assigned in group.assign(Assignor::Uniform) {
            assert_eq!(assigned.iter().map(|partition| partition.topic).collect::<Vec<_>>(), [topic(0), topic(1)]);
        }
    }

    #[test]
    fn those_who_have_other_topics_leave_the_shared_one_to_those_who_do_not() {
        let group = Group { partitions: vec![4, 4], members: vec![member("a", &[0]), member("b", &[0, 1])] };
        assert_eq!(sizes(&group.assign(Assignor::Uniform)), [4, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn with_equal_subscriptions_all_differ_by_one_at_most_and_no_partition_moves_needlessly(mut group in groups()) {
            let all: Vec<usize> = (0..group.partitions.len()).collect();
            for member in &mut group.members {
                member.topics = all.clone();
                member.assigned.retain(|partition| {
                    all.iter().any(|i| topic(*i) == partition.topic && (partition.index as usize) < group.partitions[*i])
                });
            }
            let assigned = group.assign(Assignor::Uniform);
            let sizes = sizes(&assigned);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);

            let (total, members) = (group.partitions.iter().sum::<usize>(), group.members.len());
            let mut had: Vec<usize> = group.members.iter().map(|member| member.assigned.len()).collect();
            had.sort_unstable_by(|a, b| b.cmp(a));
            let quota = |place: usize| total / members + usize::from(place < total % members);
            let may_stay: usize = had.iter().enumerate().map(|(place, had)| quota(place).min(*had)).sum();
            let stayed: usize = group.members.iter().zip(&assigned)
                .map(|(member, assigned)| member.assigned.intersection(assigned).count()).sum();
            prop_assert_eq!(stayed, may_stay);
        }

        #[test]
        fn no_move_of_one_partition_between_two_subscribers_makes_it_evener(group in groups()) {
            let assigned = group.assign(Assignor::Uniform);
            for (giver, has) in group.members.iter().zip(&assigned) {
                for (taker, gets) in group.members.iter().zip(&assigned) {
                    let shared = giver.topics.iter().filter(|i| taker.topics.contains(i));
                    let movable = shared.flat_map(|i| has.iter().filter(|p| p.topic == topic(*i))).count();
                    prop_assert!(movable == 0 || has.len() <= gets.len() + 1);
                }
            }
        }
    }
}
