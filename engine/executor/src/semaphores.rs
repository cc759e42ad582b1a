//! What bounds how many steps run at once, and who waits for it.

use crate::chart::Chart;
use std::collections::BTreeSet;

#[derive(Clone, Debug, Default)]
struct Semaphore {
    capacity: usize,
    held: usize,
    /// Ranks of the steps that were turned away by it.
    waiting: BTreeSet<usize>,
}

impl Semaphore {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.held)
    }
}

/// All semaphores of a run, by their number in the chart.
///
/// Invariant between two turns: behind a semaphore with room nobody waits, but for those of `opened`.
#[derive(Clone, Debug)]
pub(crate) struct Semaphores {
    all: Vec<Semaphore>,
    /// Behind which semaphore a rank waits.
    behind: Vec<Option<usize>>,
    /// With more room than when they were last looked at.
    opened: Vec<usize>,
    /// Taken in this turn by steps that may begin; whether they do is known when their records are.
    lent: Vec<usize>,
}

impl Semaphores {
    pub(crate) fn new(chart: &Chart) -> Self {
        let semaphore = |&capacity: &usize| Semaphore { capacity, ..Semaphore::default() };
        Self {
            all: chart.capacities().iter().map(semaphore).collect(),
            behind: vec![None; chart.len()],
            opened: Vec::new(),
            lent: Vec::new(),
        }
    }

    /// By a step that has begun.
    pub(crate) fn hold(&mut self, of: &[usize]) {
        of.iter().for_each(|&semaphore| self.all[semaphore].held += 1);
    }

    /// By a step that holds nothing any more.
    pub(crate) fn free(&mut self, of: &[usize]) {
        for &semaphore in of {
            self.all[semaphore].held -= 1;
            self.opened.push(semaphore);
        }
    }

    /// All or none, until the end of the turn; else the first one without room.
    pub(crate) fn borrow(&mut self, of: &[usize]) -> Result<(), usize> {
        if let Some(&full) = of.iter().find(|&&semaphore| self.all[semaphore].room() == 0) {
            return Err(full);
        }
        self.hold(of);
        self.lent.extend(of);
        Ok(())
    }

    /// The turn is over: who was lent something holds it when its record says so.
    pub(crate) fn give_back(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.free(&lent);
    }

    pub(crate) fn wait(&mut self, rank: usize, semaphore: usize) {
        self.all[semaphore].waiting.insert(rank);
        self.behind[rank] = Some(semaphore);
    }

    pub(crate) fn leave(&mut self, rank: usize) {
        if let Some(semaphore) = self.behind[rank].take() {
            self.all[semaphore].waiting.remove(&rank);
        }
    }

    fn first(&mut self, semaphore: usize) -> Option<usize> {
        let rank = self.all[semaphore].waiting.pop_first()?;
        self.behind[rank] = None;
        Some(rank)
    }

    /// As many of those who wait as there is room for now.
    pub(crate) fn admitted(&mut self) -> Vec<usize> {
        let mut admitted = Vec::new();
        let mut opened = std::mem::take(&mut self.opened);
        opened.sort_unstable();
        opened.dedup();
        for semaphore in opened {
            for _ in 0..self.all[semaphore].room() {
                let Some(rank) = self.first(semaphore) else { break };
                admitted.push(rank);
            }
        }
        admitted
    }

    /// Somebody had its chance and has left room: who is next behind each of these.
    pub(crate) fn next(&mut self, of: &[usize]) -> Vec<usize> {
        let open = of.iter().filter(|&&semaphore| self.all[semaphore].room() > 0);
        let open: Vec<usize> = open.copied().collect();
        open.into_iter().filter_map(|semaphore| self.first(semaphore)).collect()
    }
}
