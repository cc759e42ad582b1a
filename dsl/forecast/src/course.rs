//! One way a run may go: list scheduling of the graph, in the order in which the executor begins steps.

use crate::chart::Chart;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Steps in flight in one run, as the executor holds it.
const STEPS_AT_ONCE: u32 = 64;
/// The step has not begun.
const NEVER: u64 = u64::MAX;

/// How a step goes, once it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Play {
    /// It takes so many milliseconds, and what waits for it goes on.
    Ends(u64),
    /// It fails for good after so many: a person has to decide, and what needs it does not run.
    Sticks(u64),
}

impl Play {
    pub(crate) fn took(self) -> u64 {
        match self {
            Self::Ends(took) | Self::Sticks(took) => took,
        }
    }
}

/// Milliseconds of the run's clock, by place in the sheet. Kept between trials: a trial allocates nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    start: Vec<u64>,
    end: Vec<u64>,
    waits: Vec<u32>,
    free: Vec<u32>,
    ready: Vec<u32>,
    running: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Course {
    /// Runs all steps, each as `plays` says.
    pub(crate) fn run(&mut self, chart: &Chart, plays: &[Play]) {
        self.reset(chart);
        let mut now = 0;
        loop {
            self.begin_ready(chart, plays, now);
            let Some(Reverse((end, _))) = self.running.peek() else { break };
            now = *end;
            while let Some(Reverse((end, at))) = self.running.peek().copied() {
                if end > now {
                    break;
                }
                self.running.pop();
                self.finish(chart, plays, at);
            }
        }
    }

    fn reset(&mut self, chart: &Chart) {
        let count = chart.len();
        self.start.clear();
        self.start.resize(count, NEVER);
        self.end.clear();
        self.end.resize(count, NEVER);
        self.waits.clear();
        self.waits.extend(chart.before.iter().map(|before| before.len() as u32));
        self.free.clone_from(&chart.capacity);
        self.running.clear();
        self.ready.clear();
        self.ready.extend((0..count as u32).filter(|at| self.waits[*at as usize] == 0));
    }

    /// Begins what may begin, the first of the sheet first; what finds a semaphore taken waits.
    fn begin_ready(&mut self, chart: &Chart, plays: &[Play], now: u64) {
        self.ready.sort_unstable();
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|at| {
            let locks = &chart.locks[*at as usize];
            let room = (self.running.len() as u32) < STEPS_AT_ONCE;
            if !room || locks.iter().any(|lock| self.free[*lock as usize] == 0) {
                return true;
            }
            for lock in locks {
                self.free[*lock as usize] -= 1;
            }
            let end = now.saturating_add(plays[*at as usize].took());
            self.start[*at as usize] = now;
            self.end[*at as usize] = end;
            self.running.push(Reverse((end, *at)));
            false
        });
        self.ready = ready;
    }

    fn finish(&mut self, chart: &Chart, plays: &[Play], at: u32) {
        for lock in &chart.locks[at as usize] {
            self.free[*lock as usize] += 1;
        }
        if matches!(plays[at as usize], Play::Sticks(_)) {
            return;
        }
        for next in &chart.after[at as usize] {
            let waits = &mut self.waits[*next as usize];
            *waits -= 1;
            if *waits == 0 {
                self.ready.push(*next);
            }
        }
    }

    pub(crate) fn start(&self, at: usize) -> Option<u64> {
        self.start.get(at).copied().filter(|start| *start != NEVER)
    }
    #[cfg(test)]
    pub(crate) fn end(&self, at: usize) -> Option<u64> {
        self.end.get(at).copied().filter(|end| *end != NEVER)
    }

    /// The end of the last step that production waits for; `None` when one of them never ends well.
    pub(crate) fn healthy(&self, chart: &Chart, plays: &[Play]) -> Option<u64> {
        self.last(chart, plays, |at| chart.counted[at])
    }
    /// The end of everything.
    pub(crate) fn whole(&self, chart: &Chart, plays: &[Play]) -> Option<u64> {
        self.last(chart, plays, |_| true)
    }

    fn last(&self, chart: &Chart, plays: &[Play], counts: impl Fn(usize) -> bool) -> Option<u64> {
        let mut last = 0;
        for at in (0..chart.len()).filter(|at| counts(*at)) {
            if self.end[at] == NEVER || matches!(plays[at], Play::Sticks(_)) {
                return None;
            }
            last = last.max(self.end[at]);
        }
        Some(last)
    }

    /// Steps any delay of which delays `end`: walks back from those that end then, along what ends where the next begins.
    /// What holds a semaphore the next one waits for is before it too.
    pub(crate) fn critical(&self, chart: &Chart, end: u64) -> Vec<bool> {
        let mut critical = vec![false; chart.len()];
        if end == 0 {
            return critical;
        }
        let last = |at: &usize| chart.counted[*at] && self.end[*at] == end;
        let mut waiting: Vec<usize> = (0..chart.len()).filter(last).collect();
        if waiting.is_empty() {
            waiting = (0..chart.len()).filter(|at| self.end[*at] == end).collect();
        }
        while let Some(at) = waiting.pop() {
            if std::mem::replace(&mut critical[at], true) {
                continue;
            }
            let start = self.start[at];
            let tight = |from: &usize| self.end[*from] == start;
            let before = chart.before[at].iter().map(|(from, _)| *from as usize);
            let direct: Vec<usize> = before.filter(tight).collect();
            if direct.is_empty() && start > 0 {
                let shares = |other: &usize| chart.locks[*other].iter().any(|lock| chart.locks[at].contains(lock));
                waiting.extend((0..chart.len()).filter(tight).filter(shares));
            }
            waiting.extend(direct);
        }
        critical
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_runsheet::EdgeKind;

    /// Steps with their edges, and one semaphore all of them share.
    fn chart(edges: &[(u32, u32)], count: usize, together: u32) -> Chart {
        let mut chart = Chart {
            before: vec![Vec::new(); count],
            after: vec![Vec::new(); count],
            locks: vec![vec![0]; count],
            capacity: vec![together],
            counted: vec![true; count],
            ..Chart::default()
        };
        for (from, to) in edges {
            chart.before[*to as usize].push((*from, EdgeKind::Needs));
            chart.after[*from as usize].push(*to);
        }
        chart
    }

    fn ends(chart: &Chart, plays: &[Play]) -> Vec<Option<u64>> {
        let mut course = Course::default();
        course.run(chart, plays);
        (0..plays.len()).map(|at| course.end(at)).collect()
    }

    #[test]
    fn a_semaphore_lets_so_many_run_at_once() {
        let plays = [Play::Ends(10); 6];
        assert_eq!(ends(&chart(&[], 6, 2), &plays), [10, 10, 20, 20, 30, 30].map(Some));
        assert_eq!(ends(&chart(&[], 6, 8), &plays), [Some(10); 6]);
        assert_eq!(ends(&chart(&[], 3, 1), &[Play::Ends(5), Play::Ends(0), Play::Ends(7)]), [5, 5, 12].map(Some));
    }

    #[test]
    fn what_sticks_stops_only_what_waits_for_it() {
        let chart = chart(&[(0, 1), (0, 2), (1, 3), (2, 3)], 4, 8);
        let plays = [Play::Ends(5), Play::Sticks(3), Play::Ends(4), Play::Ends(1)];
        let mut course = Course::default();
        course.run(&chart, &plays);
        assert_eq!((course.end(1), course.end(2), course.end(3)), (Some(8), Some(9), None));
        assert_eq!(course.healthy(&chart, &plays), None);
        let plays = [Play::Ends(5), Play::Ends(3), Play::Ends(4), Play::Ends(1)];
        course.run(&chart, &plays);
        assert_eq!((course.start(3), course.healthy(&chart, &plays)), (Some(9), Some(10)));
        assert_eq!(course.critical(&chart, 10), [true, false, true, true]);
    }

    #[test]
    fn waiting_for_a_semaphore_is_on_the_longest_way() {
        let chart = chart(&[], 3, 1);
        let plays = [Play::Ends(5), Play::Ends(6), Play::Ends(7)];
        let mut course = Course::default();
        course.run(&chart, &plays);
        assert_eq!(course.critical(&chart, 18), [true, true, true]);
    }
}
