//! A small cache with a weight limit that forgets what was used longest ago.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, Held<V>>,
    weight: usize,
    weight_max: usize,
    tick: u64,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(weight_max: usize) -> Self {
        Self { entries: HashMap::new(), weight: 0, weight_max, tick: 0 }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        self.tick += 1;
        let held = self.entries.get_mut(key)?;
        held.used = self.tick;
        Some(held.value.clone())
    }

    /// Keeps `value`, dropping the oldest others until all fit. A value heavier than the whole cache is kept alone.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.tick += 1;
        if let Some(old) = self.entries.insert(key.clone(), Held { value, weight, used: self.tick }) {
            self.weight -= old.weight;
        }
        self.weight += weight;
        // A scan per eviction is cheap: weights are chosen so that a cache holds hundreds of entries, not millions.
        while self.weight > self.weight_max && self.entries.len() > 1 {
            let oldest = self.entries.iter().filter(|(other, _)| **other != key).min_by_key(|(_, held)| held.used);
            let Some(oldest) = oldest.map(|(other, _)| other.clone()) else { break };
            if let Some(dropped) = self.entries.remove(&oldest) {
                self.weight -= dropped.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::new(2);
        cache.insert("a", 1, 1);
        cache.insert("b", 2, 1);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.insert("c", 3, 1);
        assert_eq!(cache.get(&"b"), None);
        assert_eq!((cache.get(&"a"), cache.get(&"c")), (Some(1), Some(3)));
        cache.insert("big", 4, 9);
        assert_eq!((cache.get(&"a"), cache.get(&"big")), (None, Some(4)));
    }
}
