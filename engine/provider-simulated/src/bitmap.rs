//! Which grains of a disk have changed.

/// Changes are tracked in grains of this many bytes: what QEMU's bitmaps use, and the frame size of a delta.
pub(crate) const GRAIN_BYTES: u64 = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bitmap {
    size_bytes: u64,
    words: Vec<u64>,
}

impl Bitmap {
    pub(crate) fn new(size_bytes: u64) -> Self {
        let words = size_bytes.div_ceil(GRAIN_BYTES).div_ceil(64);
        Self { size_bytes, words: vec![0; usize::try_from(words).unwrap_or(0)] }
    }

    fn grains(&self) -> u64 {
        self.size_bytes.div_ceil(GRAIN_BYTES)
    }

    /// Marks every grain that `[offset, offset + length)` touches.
    pub(crate) fn mark(&mut self, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let last = (offset.saturating_add(length) - 1) / GRAIN_BYTES;
        for grain in offset / GRAIN_BYTES..=last.min(self.grains().saturating_sub(1)) {
            if let Some(word) = self.word_mut(grain) {
                *word |= 1 << (grain % 64);
            }
        }
    }

    fn word_mut(&mut self, grain: u64) -> Option<&mut u64> {
        usize::try_from(grain / 64).ok().and_then(|index| self.words.get_mut(index))
    }

    pub(crate) fn is_marked(&self, grain: u64) -> bool {
        let word = usize::try_from(grain / 64).ok().and_then(|index| self.words.get(index)).copied().unwrap_or(0);
        word & (1 << (grain % 64)) != 0
    }

    /// The first marked grain at or behind this one. Looks at 64 at a time: a large disk has millions.
    pub(crate) fn next_marked(&self, grain: u64) -> Option<u64> {
        let first = usize::try_from(grain / 64).ok()?;
        let words = self.words.iter().enumerate().skip(first);
        let mut left = words.map(|(index, word)| {
            let seen = if index == first { !(u64::MAX << (grain % 64)) } else { 0 };
            (index, word & !seen)
        });
        let (index, word) = left.find(|(_, word)| *word != 0)?;
        Some(index as u64 * 64 + u64::from(word.trailing_zeros()))
    }

    pub(crate) fn union(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// The marked bytes, the last grain counted as long as it is.
    pub(crate) fn marked_bytes(&self) -> u64 {
        self.runs()
            .iter()
            .map(|(start, grains)| {
                let end = start.saturating_add(*grains).saturating_mul(GRAIN_BYTES).min(self.size_bytes);
                end - (start * GRAIN_BYTES).min(end)
            })
            .sum()
    }

    /// Runs of marked grains: first grain and their number.
    pub(crate) fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let grain = index as u64 * 64 + u64::from(rest.trailing_zeros());
                rest &= rest - 1;
                match runs.last_mut() {
                    Some((start, length)) if *start + *length == grain => *length += 1,
                    _ => runs.push((grain, 1)),
                }
            }
        }
        runs
    }

    /// `None` when a run does not lie within the disk.
    pub(crate) fn from_runs(size_bytes: u64, runs: &[(u64, u64)]) -> Option<Self> {
        let mut map = Self::new(size_bytes);
        for (start, grains) in runs {
            if start.checked_add(*grains)? > map.grains() {
                return None;
            }
            map.mark(start * GRAIN_BYTES, grains * GRAIN_BYTES);
        }
        Some(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_read_back(size in 1u64..20_000_000, marks in prop::collection::vec((0u64..20_000_000, 1u64..300_000), 0..20)) {
            let mut map = Bitmap::new(size);
            for (offset, length) in &marks {
                if *offset < size {
                    map.mark(*offset, (*length).min(size - offset));
                }
            }
            prop_assert_eq!(Bitmap::from_runs(size, &map.runs()), Some(map.clone()));
            for grain in 0..=map.grains() + 64 {
                let next = (grain..map.grains()).find(|grain| map.is_marked(*grain));
                prop_assert_eq!(map.next_marked(grain), next);
            }
            prop_assert!(map.marked_bytes() <= size);
            for (offset, length) in &marks {
                if *offset < size {
                    prop_assert!(map.is_marked(offset / GRAIN_BYTES));
                    prop_assert!(map.is_marked((offset + (*length).min(size - offset) - 1) / GRAIN_BYTES));
                }
            }
        }
    }

    #[test]
    fn runs_beyond_the_disk_are_refused() {
        assert_eq!(Bitmap::from_runs(GRAIN_BYTES * 3, &[(2, 2)]), None);
        assert_eq!(Bitmap::from_runs(GRAIN_BYTES * 3, &[(u64::MAX, 2)]), None);
    }
}
