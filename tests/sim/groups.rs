//! What must be true of groups, as far as their members can know it: who reads what, until when a member cannot have been
//! given up, and which offsets a group may be told. Every fact that a member learns is checked against all before it.

use std::collections::{BTreeMap, BTreeSet};

use gannet::types::{Offset, PartitionId};

/// A partition, as members of the classic protocol name it to each other.
pub type Slot = (String, i32);
/// When questions about all groups began and ended, and the answers.
pub type Told = (u64, u64, BTreeMap<String, String>);
/// Members of a group and what each has, as the node tells it.
pub type Described = BTreeMap<String, Vec<Slot>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Classic,
    /// KIP-848
    Consumer,
}

/// Groups by name, each with the protocols that its members speak.
pub const GROUPS: [(&str, &[Protocol]); 5] = [
    ("apples", &[Protocol::Classic]),
    ("pears", &[Protocol::Classic]),
    ("cherries", &[Protocol::Consumer]),
    ("plums", &[Protocol::Consumer]),
    ("medlars", &[Protocol::Classic, Protocol::Consumer]),
];

/// Topics that members read.
pub const READ: [&str; 2] = ["a", "orders"];

#[derive(Default)]
pub struct Groups {
    groups: BTreeMap<&'static str, Group>,
    /// What happened, for the outcome of a run.
    pub counts: BTreeMap<&'static str, u64>,
    /// Everything that was told of the groups in the last round of questions, and when the round began and ended.
    pub told: Option<Told>,
    /// What keeps them from being at rest.
    pub problem: Option<String>,
    /// Topics are deleted, and groups that nobody is in with their last offset.
    vanishing: bool,
    /// Offsets are committed by the ids of topics alone: a name may come to mean another one on the way.
    pub by_id: bool,
}

impl Groups {
    pub fn of(&mut self, name: &'static str) -> &mut Group {
        let may_vanish = self.vanishing;
        self.groups.entry(name).or_insert_with(|| Group { may_vanish, ..Group::default() })
    }

    pub fn on_topic_deleted(&mut self) {
        self.vanishing = true;
        self.groups.values_mut().for_each(|group| group.may_vanish = true);
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.groups.keys().copied().collect()
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Somewhere members have been told to join and wait for their assignment.
    pub fn is_rebalancing(&self) -> bool {
        self.groups.values().any(|group| !group.rebalancing.is_empty())
    }
}

#[derive(Default)]
pub struct Group {
    offsets: BTreeMap<PartitionId, Committed>,
    /// Who reads a partition, or may still read it.
    holders: BTreeMap<PartitionId, String>,
    /// Of a member that has an assignment: nobody may have given it up before.
    certain_until: BTreeMap<String, u64>,
    /// By generation and its leader: who got what.
    generations: BTreeMap<(i32, String), BTreeMap<Slot, String>>,
    /// The last generation that somebody was assigned in.
    pub last_generation: i32,
    /// Members that are in, with the topics they read.
    pub live: BTreeMap<String, BTreeSet<&'static str>>,
    pub rebalancing: BTreeSet<String>,
    /// The life of the node in which the group is known to be loaded.
    pub loaded_in: Option<u64>,
    /// It may have been deleted at some time, or have gone by itself.
    pub may_vanish: bool,
    /// Somebody asked for it to be deleted: its offsets may be gone.
    pub may_lose_offsets: bool,
    /// A leader may have come back under another id.
    pub has_static: bool,
}

/// Offsets that were committed for one partition. They rise: each one sent is one more than the last.
#[derive(Clone, Debug)]
pub struct Committed {
    /// What was acknowledged; none told from now on is lower.
    pub floor: Offset,
    sent: Offset,
    /// Commits that were refused: nobody is ever told them.
    refused: BTreeSet<Offset>,
    /// An offset up to here was found to be gone: it does not come back.
    gone: Offset,
}

impl Default for Committed {
    fn default() -> Committed {
        Committed { floor: -1, sent: -1, refused: BTreeSet::new(), gone: -1 }
    }
}

impl Group {
    pub fn offset(&mut self, id: PartitionId) -> &mut Committed {
        self.offsets.entry(id).or_default()
    }

    /// Its generations are counted from 1 again. That may be: somebody deleted it, or it went with its last member, since no
    /// offset of it was left.
    pub fn begins_anew(&mut self) -> bool {
        self.may_vanish |= !self.offsets.values().any(|committed| committed.floor > committed.gone);
        self.may_vanish
    }

    /// A member has these from now on. Whoever had one of them gave it up, or may have been given up for dead.
    pub fn take(&mut self, name: &str, member: &str, partitions: &BTreeSet<PartitionId>, now: u64) -> u64 {
        let mut taken_over = 0;
        for id in partitions {
            let Some(before) = self.holders.insert(*id, member.to_owned()) else { continue };
            let until = self.certain_until.get(&before).copied().unwrap_or(0);
            assert!(
                before == member || now >= until,
                "{name}: {id:?} is given to {member} at {now}, but {before} has it and is alive until {until}"
            );
            taken_over += u64::from(before != member);
        }
        taken_over
    }

    pub fn holds(&self, member: &str, id: PartitionId) -> bool {
        self.holders.get(&id).is_some_and(|holder| holder == member)
    }

    /// A member does not read these any more.
    pub fn give_up(&mut self, member: &str, is_given_up: impl Fn(PartitionId) -> bool) {
        self.holders.retain(|id, holder| holder != member || !is_given_up(*id));
    }

    /// A member ends, or is told that it has.
    pub fn end(&mut self, member: &str) {
        self.give_up(member, |_| true);
        self.certain_until.remove(member);
        self.live.remove(member);
        self.rebalancing.remove(member);
    }

    /// The coordinator has heard of a member: it cannot be given up before.
    pub fn set_certain(&mut self, member: &str, until: u64) {
        self.certain_until.insert(member.to_owned(), until);
    }

    pub fn set_uncertain(&mut self, member: &str) {
        self.certain_until.remove(member);
    }

    pub fn certain_until(&self, member: &str) -> u64 {
        self.certain_until.get(member).copied().unwrap_or(0)
    }

    /// A member is told that it is one no more, or that the group went on without it.
    pub fn check_removal(&self, name: &str, member: &str, why: &dyn std::fmt::Debug, now: u64) {
        let until = self.certain_until(member);
        assert!(now >= until, "{name}: {member} is told {why:?} at {now}, but nobody could give it up before {until}");
    }

    /// Takes in what a member was assigned in a generation, by its instance where it is a static one: that may come back
    /// under another id. True for the first one that is told of it.
    pub fn assigned(&mut self, name: &str, generation: i32, leader: &str, member: &str, slots: &[Slot]) -> bool {
        let key = (generation, leader.to_owned());
        let is_new = !self.generations.contains_key(&key);
        let others = self.generations.keys().filter(|(of, by)| *of == generation && by != leader).count();
        assert!(
            others == 0 || self.has_static || self.begins_anew(),
            "{name}: generation {generation} is led by {leader} and by another one"
        );
        let generation_slots = self.generations.entry(key).or_default();
        for slot in slots {
            if let Some(before) = generation_slots.insert(slot.clone(), member.to_owned()) {
                assert!(
                    before == member,
                    "{name}: in generation {generation} {slot:?} is assigned to {before} and {member}"
                );
            }
        }
        self.last_generation = generation;
        is_new
    }

    /// Everything that the members read has one of them, and each has what it thinks; `described` is what the node says.
    pub fn check_rest(&self, expected: &BTreeSet<Slot>, described: &Described) -> Result<(), String> {
        let (told, live) = (described.keys().collect::<Vec<_>>(), self.live.keys().collect::<Vec<_>>());
        if told != live {
            return Err(format!("{told:?} are its members, {live:?} should be"));
        }
        let assigned: Vec<&Slot> = described.values().flatten().collect();
        let distinct: BTreeSet<Slot> = assigned.iter().map(|slot| (*slot).clone()).collect();
        if distinct.len() != assigned.len() || distinct != *expected {
            return Err(format!("{assigned:?} are assigned, {expected:?} should be"));
        }
        Ok(())
    }
}

impl Committed {
    /// The next one to be committed.
    pub fn next(&mut self) -> Offset {
        self.sent += 1;
        self.sent
    }

    pub fn on_committed(&mut self, offset: Offset) {
        self.floor = self.floor.max(offset);
    }

    pub fn on_refused(&mut self, offset: Offset) {
        self.refused.insert(offset);
    }

    /// An offset that was told; `asked` is what was known when it was asked for. Without `may_be_gone` there is one if any
    /// was acknowledged.
    pub fn check(&mut self, what: &dyn std::fmt::Debug, offset: Offset, asked: &Committed, may_be_gone: bool) {
        if offset == -1 {
            assert!(may_be_gone || asked.floor <= asked.gone, "{what:?}: {} was committed and is gone", asked.floor);
            self.gone = self.gone.max(asked.floor);
            return;
        }
        assert!(offset >= asked.floor, "{what:?}: the offset went back from {} to {offset}", asked.floor);
        assert!(offset > asked.gone, "{what:?}: {offset} is back, though nothing up to {} was left", asked.gone);
        assert!(offset <= self.sent, "{what:?}: nobody ever committed {offset}");
        assert!(!self.refused.contains(&offset), "{what:?}: {offset} was refused and is there");
    }
}
