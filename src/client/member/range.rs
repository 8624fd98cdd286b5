//! The range assignor, which the leader of a classic group runs: of each topic every member gets neighbouring partitions,
//! the first members one more where they do not divide evenly. A plain function.

use std::collections::BTreeMap;

/// A member as the leader is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscriber<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub topics: Vec<&'a str>,
}

/// Of each member its topics with their partitions; a member without any is there too. Topics that are not in
/// `partitions` are passed over.
pub fn assign<'a>(
    subscribers: &[Subscriber<'a>],
    partitions: &BTreeMap<&'a str, i32>,
) -> BTreeMap<&'a str, Vec<(&'a str, Vec<i32>)>> {
    let mut assignments: BTreeMap<_, Vec<_>> =
        subscribers.iter().map(|subscriber| (subscriber.member_id, Vec::new())).collect();
    for (topic, count) in partitions {
        let mut members: Vec<_> = subscribers.iter().filter(|subscriber| subscriber.topics.contains(topic)).collect();
        // Static members first, by their instance: a restart under another member id moves nothing.
        members.sort_by_key(|member| (member.instance_id.is_none(), member.instance_id, member.member_id));
        let mut next = 0;
        for (place, member) in members.iter().enumerate() {
            let (share, rest) = (count / members.len() as i32, count % members.len() as i32);
            let upto = next + share + i32::from((place as i32) < rest);
            if upto > next {
                let own = assignments.get_mut(member.member_id).expect("every subscriber has an entry");
                own.push((*topic, (next..upto).collect()));
            }
            next = upto;
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber<'a>(member_id: &'a str, instance_id: Option<&'a str>, topics: &[&'a str]) -> Subscriber<'a> {
        Subscriber { member_id, instance_id, topics: topics.to_vec() }
    }

    #[test]
    fn each_topic_is_cut_into_ranges_with_the_longer_ones_first() {
        let subscribers = [subscriber("b", None, &["t", "u"]), subscriber("a", None, &["t"])];
        let assigned = assign(&subscribers, &BTreeMap::from([("t", 3), ("u", 2), ("unread", 9)]));
        assert_eq!(assigned["a"], [("t", vec![0, 1])]);
        assert_eq!(assigned["b"], [("t", vec![2]), ("u", vec![0, 1])]);
    }

    #[test]
    fn a_member_too_many_gets_nothing_and_is_told_so() {
        let subscribers = ["a", "b", "c"].map(|id| subscriber(id, None, &["t"]));
        let assigned = assign(&subscribers, &BTreeMap::from([("t", 2)]));
        assert_eq!((assigned["b"].len(), assigned["c"].len()), (1, 0));
    }

    #[test]
    fn a_static_member_keeps_its_range_under_another_member_id() {
        let ranges = |id| {
            let subscribers = [subscriber("m", Some("two"), &["t"]), subscriber(id, Some("one"), &["t"])];
            assign(&subscribers, &BTreeMap::from([("t", 4)]))["m"].clone()
        };
        assert_eq!(ranges("a"), ranges("z"));
        assert_eq!(ranges("a"), [("t", vec![2, 3])]);
    }
}
