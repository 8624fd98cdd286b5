//! A map that forgets what was used longest ago. For open files: their number is limited by the process.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::types::Map;

pub struct Lru<K, V> {
    entries: Map<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    capacity: usize,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub fn new(capacity: usize) -> Lru<K, V> {
        assert!(capacity > 0);
        Lru { entries: HashMap::default(), by_use: BTreeMap::new(), uses: 0, capacity }
    }

    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        let key = self.by_use.remove(used).expect("both maps hold the same keys");
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(value)
    }

    /// Returns what had to make room, or what stood in this place.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        if let Some((used, replaced)) = self.entries.insert(key, (self.uses, value)) {
            self.by_use.remove(&used);
            return Some(replaced);
        }
        if self.entries.len() <= self.capacity {
            return None;
        }
        let (_, oldest) = self.by_use.pop_first()?;
        self.entries.remove(&oldest).map(|(_, value)| value)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.by_use.remove(&used);
        Some(value)
    }

    /// Removes all entries whose key says so.
    pub fn remove_if(&mut self, condition: impl Fn(&K) -> bool) -> Vec<V> {
        let keys: Vec<K> = self.entries.keys().filter(|key| condition(key)).cloned().collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_unused_longest_makes_room() {
        let mut lru = Lru::new(2);
        assert_eq!(lru.insert("a", 1), None);
        assert_eq!(lru.insert("b", 2), None);
        assert_eq!(lru.get(&"a"), Some(&mut 1));
        assert_eq!(lru.insert("c", 3), Some(2));
        assert_eq!(lru.insert("a", 4), Some(1), "the same key replaces");
        assert_eq!(lru.get(&"b"), None);
        assert_eq!(lru.get(&"c"), Some(&mut 3));
        assert_eq!(lru.remove_if(|key| *key == "a"), [4]);
        assert_eq!(lru.remove(&"a"), None);
    }
}
