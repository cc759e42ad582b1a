//! Wall, processor time, peak memory, as the kernel counts them for this process and the children it waited for.

use muster_ports::{Clock, SystemClock};
use std::collections::BTreeMap;

/// Clock ticks a second in `/proc`: fixed in the kernel's interface.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
    stored: u64,
}

impl Cost {
    pub fn stored(self, stored: u64) -> Self {
        Self { stored, ..self }
    }
}

/// Own time and that of children, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let field = |number: usize| after.split_whitespace().nth(number).unwrap().parse::<f64>().unwrap();
    (11..=14).map(field).sum::<f64>() / TICKS
}

/// `VmHWM:` is the most there was, `VmRSS:` what there is.
fn memory_mib(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn begin() -> (muster_ports::Timestamp, f64, f64) {
    // Sets the peak back to what is in use now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    (SystemClock.now(), cpu(), memory_mib("VmRSS:"))
}

/// Memory is what came on top of what the process held before.
fn end((wall, before, held): (muster_ports::Timestamp, f64, f64)) -> Cost {
    let wall = SystemClock.now().since(wall).as_secs_f64();
    Cost { wall, cpu: cpu() - before, peak_mib: memory_mib("VmHWM:") - held, stored: 0 }
}

pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let begin = begin();
    let done = work();
    (done, end(begin))
}

pub async fn measure_async<T>(work: impl Future<Output = T>) -> (T, Cost) {
    let begin = begin();
    let done = work.await;
    (done, end(begin))
}

#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<(usize, &'static str), Vec<Cost>>,
    whats: Vec<&'static str>,
}

impl Table {
    pub fn add(&mut self, what: &'static str, who: &'static str, cost: Cost) {
        let number = self.whats.iter().position(|known| *known == what).unwrap_or_else(|| {
            self.whats.push(what);
            self.whats.len() - 1
        });
        self.rows.entry((number, who)).or_default().push(cost);
    }

    /// Medians, and how they stand to the roofline of the same work.
    pub fn print(&self) {
        println!(
            "{:<12} {:<16} {:>8} {:>8} {:>10} {:>11}   wall and CPU x roofline",
            "", "", "wall s", "CPU s", "peak MiB", "stored MB"
        );
        for ((number, who), costs) in &self.rows {
            let what = self.whats[*number];
            let base = self.rows.get(&(*number, "roofline")).map(|costs| median(costs));
            let cost = median(costs);
            let ratio = base.map_or(String::new(), |base| {
                format!("{:.2} {:.2}", cost.wall / base.wall.max(0.001), cost.cpu / base.cpu.max(0.01))
            });
            let stored = cost.stored as f64 / 1e6;
            println!(
                "{what:<12} {who:<16} {:>8.2} {:>8.2} {:>10.0} {stored:>11.1}   {ratio}",
                cost.wall, cost.cpu, cost.peak_mib
            );
        }
    }
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let stored = costs.first().map_or(0, |cost| cost.stored);
    Cost { wall: middle(|c| c.wall), cpu: middle(|c| c.cpu), peak_mib: middle(|c| c.peak_mib), stored }
}
