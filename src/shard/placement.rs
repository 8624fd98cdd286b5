//! Which log directory a new partition goes to: partitions are spread in proportion to the room that the directories have.
//! Of equal ones that is the one with the fewest partitions, as Kafka chooses.

use super::storage::log_dir;
use super::{Effect, Shard, SpaceFound};

/// By index in `log.dirs`.
pub(super) struct Placement(Vec<Place>);

#[derive(Clone, Copy, Default)]
struct Place {
    /// Partitions of this core in it.
    partitions: usize,
    /// As the machine last told.
    usable_bytes: Option<u64>,
}

impl Placement {
    pub fn new(log_dirs: usize) -> Placement {
        Placement(vec![Place::default(); log_dirs])
    }

    pub fn note_space(&mut self, log_dir: u16, space: &SpaceFound) {
        self.0[usize::from(log_dir)].usable_bytes = space.as_ref().ok().map(|space| space.usable_bytes);
    }

    /// Of the candidates, the one with the most room for each of its partitions with the new one; the first of equals.
    fn choose(&self, candidates: &[usize]) -> Option<usize> {
        let room = |index: usize| self.0[index].usable_bytes;
        let all_known = candidates.iter().all(|&index| room(index).is_some());
        let share = |index: usize| {
            let bytes = if all_known { room(index).expect("just seen") } else { 1 };
            (self.0[index].partitions as u128 + 1, u128::from(bytes))
        };
        candidates.iter().copied().min_by(|&one, &other| {
            let ((one_count, one_bytes), (other_count, other_bytes)) = (share(one), share(other));
            (one_count * other_bytes).cmp(&(other_count * one_bytes)).then(one_count.cmp(&other_count))
        })
    }
}

impl Shard {
    /// One that is online, and not full if there is another.
    pub(super) fn log_dir_for_new_partition(&self) -> &str {
        let log_dirs = &self.config.log_dirs;
        let online: Vec<usize> = (0..log_dirs.len()).filter(|&index| !self.offline.has_log_dir(index)).collect();
        let has_space = |index: &usize| !self.storage.is_full(&log_dirs[*index]);
        let with_space: Vec<usize> = online.iter().copied().filter(has_space).collect();
        let chosen = self.placement.choose(&with_space).or(self.placement.choose(&online));
        &log_dirs[chosen.expect("the process ends with its first log directory")]
    }

    /// Counts a partition in or out of its log directory.
    pub(super) fn note_placed(&mut self, directory: &str, change: isize) {
        let log_dir = log_dir(directory);
        if let Some(index) = self.config.log_dirs.iter().position(|dir| dir == log_dir) {
            let partitions = &mut self.placement.0[index].partitions;
            *partitions = partitions.strict_add_signed(change);
        }
    }

    /// What is known of the room is renewed when this core has placed or written something.
    pub(super) fn look_at_space(&self, effects: &mut Vec<Effect>) {
        if self.config.log_dirs.len() > 1 {
            let online = (0..self.config.log_dirs.len()).filter(|&index| !self.offline.has_log_dir(index));
            effects.extend(online.map(|index| Effect::Space { log_dir: index as u16 }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(places: &[(usize, Option<u64>)]) -> Option<usize> {
        let place = |&(partitions, usable_bytes)| Place { partitions, usable_bytes };
        let all: Vec<usize> = (0..places.len()).collect();
        Placement(places.iter().map(place).collect()).choose(&all)
    }

    #[test]
    fn partitions_are_spread_in_proportion_to_the_room() {
        let mut places = [(0, Some(300)), (0, Some(100))];
        for _ in 0..8 {
            places[choose(&places).expect("there are two")].0 += 1;
        }
        assert_eq!(places.map(|(partitions, _)| partitions), [6, 2]);
    }

    #[test]
    fn without_room_or_knowledge_the_fewest_partitions_decide() {
        assert_eq!(choose(&[(5, Some(0)), (9, Some(1))]), Some(1));
        assert_eq!(choose(&[(5, Some(0)), (4, Some(0))]), Some(1));
        assert_eq!(choose(&[(5, None), (4, Some(1))]), Some(1));
        assert_eq!(choose(&[(2, Some(9)), (2, Some(9))]), Some(0));
        assert_eq!(choose(&[]), None);
    }
}
