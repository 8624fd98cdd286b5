//! Members that join, leave, lose answers and change their minds in any order: no partition ever has two owners, a crash
//! forgets nothing, and in the end everybody has all that is due.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::*;
use super::*;

const TOPICS: [&str; 3] = ["a", "b", "c"];
const INSTANCES: [Option<&str>; 5] = [None, None, None, Some("one"), Some("two")];

#[derive(Clone, Debug)]
enum Step {
    /// The answer may be lost.
    Heartbeat {
        member: usize,
        lost: bool,
        terse: bool,
    },
    Obey {
        member: usize,
    },
    Leave {
        member: usize,
        for_good: bool,
    },
    Subscribe {
        member: usize,
        topics: u8,
        regex: bool,
    },
    Grow {
        topic: usize,
    },
    Recreate {
        topic: usize,
    },
    Pass {
        ms: u64,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = || 0..INSTANCES.len();
    let step = prop_oneof![
        12 => (member(), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(member, lost, terse)| Step::Heartbeat { member, lost, terse }),
        6 => member().prop_map(|member| Step::Obey { member }),
        1 => (member(), any::<bool>()).prop_map(|(member, for_good)| Step::Leave { member, for_good }),
        1 => (member(), 0..8u8, any::<bool>())
            .prop_map(|(member, topics, regex)| Step::Subscribe { member, topics, regex }),
        1 => (0..TOPICS.len()).prop_map(|topic| Step::Grow { topic }),
        1 => (0..TOPICS.len()).prop_map(|topic| Step::Recreate { topic }),
        3 => prop_oneof![1..2_000u64, 9_000..50_000u64].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

struct Play {
    world: World,
    consumers: Vec<Consumer>,
    incarnations: usize,
}

impl Play {
    fn new() -> Play {
        let consumers = INSTANCES
            .iter()
            .enumerate()
            .map(|(index, instance)| Consumer { instance: *instance, ..consumer(&format!("m{index}"), &["a", "b"]) });
        let consumers = consumers.collect();
        Play { world: World::of(&[("a", 3), ("b", 2), ("c", 1)]), consumers, incarnations: 0 }
    }

    fn take(&mut self, step: Step) {
        let Play { world, consumers, incarnations } = self;
        match step {
            Step::Heartbeat { member, lost, terse } => {
                let consumer = &mut consumers[member];
                // What it has is said by a client only once it has done what it was told: before, it may still take more.
                let obeyed = consumer.owned == consumer.told;
                let terse = consumer.epoch > 0 && (terse || !obeyed);
                let request = if terse { consumer.sign_of_life() } else { consumer.request() };
                let reply = world.heartbeat(request);
                match reply.error_code {
                    // Somebody else has its name.
                    ErrorCode::FencedInstanceId | ErrorCode::UnreleasedInstanceId => consumer.lose_all(),
                    _ if lost => {}
                    _ => consumer.hear(&reply),
                }
            }
            Step::Obey { member } => consumers[member].obey(),
            Step::Leave { member, for_good } => {
                let consumer = &mut consumers[member];
                let epoch = if for_good || consumer.instance.is_none() { -1 } else { -2 };
                consumer.leave(world, epoch);
                *incarnations += 1;
                consumer.member = format!("m{member}-{incarnations}");
            }
            Step::Subscribe { member, topics, regex } => {
                let named = TOPICS.iter().enumerate().filter(|(bit, _)| topics & (1 << bit) != 0);
                consumers[member].topics = named.map(|(_, topic)| *topic).collect();
                consumers[member].regex = Some(if regex { "[ac]" } else { "" });
            }
            Step::Grow { topic } => world.add_partitions(TOPICS[topic], 1),
            Step::Recreate { topic } => {
                world.delete_topic(TOPICS[topic]);
                world.add_partitions(TOPICS[topic], 2);
            }
            Step::Pass { ms } => world.pass_ms(ms),
            Step::Restart => world.restart(),
        }
        self.check_owners();
    }

    /// Only members count: one that was fenced and does not know it yet has no right to what it still reads.
    fn check_owners(&self) {
        let Some(facts) = self.world.facts() else { return };
        let mut owners = BTreeMap::new();
        for consumer in &self.consumers {
            let Some(member) = facts.members.get(&*consumer.member) else { continue };
            if consumer.epoch != member.current.epoch && consumer.epoch != member.current.previous_epoch {
                continue;
            }
            for partition in &consumer.owned {
                let before = owners.insert(*partition, &consumer.member);
                assert_eq!(before, None, "{partition:?} belongs to {} too", consumer.member);
            }
        }
    }

    /// From now on nothing is lost and nobody changes: soon everybody has all that is due.
    fn come_to_rest(&mut self) {
        // Static members that nobody runs any more, and names that are held, are freed by their sessions.
        for consumer in &mut self.consumers {
            consumer.lose_all();
        }
        self.world.pass_ms(60_000);
        settle(&mut self.world, &mut self.consumers);
        let mut owned = BTreeMap::new();
        for consumer in &self.consumers {
            for partition in &consumer.owned {
                assert_eq!(owned.insert(*partition, &consumer.member), None);
            }
        }
        for topic in self.world.image.topics() {
            let by_regex = |consumer: &Consumer| consumer.regex == Some("[ac]") && *topic.name != *"b";
            let reads = |consumer: &Consumer| consumer.topics.contains(&&*topic.name) || by_regex(consumer);
            let due = if self.consumers.iter().any(reads) { topic.partitions.len() } else { 0 };
            assert_eq!(owned.keys().filter(|partition| partition.topic == topic.id).count(), due, "{}", topic.name);
        }
        assert_eq!(self.world.describe().state, "Stable");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_has_two_owners_and_all_have_one_in_the_end(steps in steps()) {
        let mut play = Play::new();
        for step in steps {
            play.take(step);
        }
        prop_assert_eq!(play.world.facts(), play.world.replayed());
        play.come_to_rest();
        prop_assert_eq!(play.world.facts(), play.world.replayed());
    }
}
