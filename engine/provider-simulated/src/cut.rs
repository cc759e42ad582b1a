//! Cuts: one moment of all disks of several machines.

use crate::faults::CallClass;
use crate::guest::Guest;
use crate::site::{Shared, lock};
use muster_ports::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

struct Member {
    wanted: CutMember,
    io: Arc<RwLock<()>>,
    on: bool,
    guest: Option<Arc<Guest>>,
}

/// Guests that were frozen, to be thawed whatever happens.
struct Frozen(Vec<Arc<Guest>>);

impl Frozen {
    fn thaw(&mut self) -> Result<()> {
        self.0.drain(..).try_for_each(|guest| guest.mark_clean(false))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(failure) = self.thaw() {
            tracing::warn!("a guest was not thawed: {failure}");
        }
    }
}

impl Shared {
    fn members(&self, order: &CutOrder) -> Result<Vec<Member>> {
        let state = self.state();
        let now = self.clock.now();
        order
            .members
            .iter()
            .map(|wanted| {
                let machine = state.machine(&wanted.instance)?;
                Ok(Member {
                    wanted: wanted.clone(),
                    io: Arc::clone(&machine.io),
                    on: machine.running.is_some(),
                    guest: machine.guest(now).cloned(),
                })
            })
            .collect()
    }

    /// With `hold`, no guest of any member writes between the first cut and the last.
    pub(crate) async fn cut(&self, order: &CutOrder) -> Result<CutReport> {
        if let Some((report, _)) = self.state().cuts.get(&order.barrier) {
            self.effect(CallClass::Cut, order.barrier.as_str(), None, false);
            return Ok(report.clone());
        }
        let members = self.members(order)?;
        let cut = self.cut_members(order, &members).await;
        match cut {
            Ok(report) => {
                let instances =
                    members.iter().map(|member| (member.wanted.machine.clone(), member.wanted.instance.clone()));
                self.state().cuts.insert(order.barrier.clone(), (report.clone(), instances.collect()));
                self.effect(CallClass::Cut, order.barrier.as_str(), None, true);
                Ok(report)
            }
            Err(failure) => {
                self.settle(&order.barrier, CutOutcome::Abandoned)?;
                Err(failure)
            }
        }
    }

    async fn cut_members(&self, order: &CutOrder, members: &[Member]) -> Result<CutReport> {
        let transaction = lock(&self.timing).transaction;
        let mut notes = Vec::new();
        let mut consistency = order.consistency;
        let mut disks = Vec::new();
        let (mut flushed, mut held) = (Duration::ZERO, Duration::ZERO);
        let mut first = None;
        // Without a hold each machine is a cut of its own, and its neighbours write on meanwhile.
        let windows: Vec<&[Member]> = if order.hold { vec![members] } else { members.chunks(1).collect() };
        for (index, window) in windows.into_iter().enumerate() {
            if index > 0 {
                self.clock.sleep(transaction).await;
            }
            let hold_begun = self.clock.now();
            let holds = hold(window).await;
            let mut frozen = Frozen(Vec::new());
            if order.consistency == Consistency::App {
                self.freeze(window, &mut frozen, &mut consistency, &mut notes)?;
            }
            let flush = self.clock.now().since(hold_begun);
            // What was written before this moment is in the cut.
            first.get_or_insert_with(|| self.clock.now());
            for member in window {
                disks.extend(self.cut_machine(order, member)?);
                self.clock.sleep(transaction).await;
                self.check_hold(order, hold_begun)?;
            }
            held = held.max(self.clock.now().since(hold_begun).saturating_sub(flush));
            flushed = flushed.max(flush);
            frozen.thaw()?;
            drop(holds);
        }
        let at = first.unwrap_or_else(|| self.clock.now());
        let took = self.clock.now().since(at);
        Ok(CutReport {
            barrier: order.barrier.clone(),
            at,
            consistency,
            flush_micros: micros(flushed),
            hold_micros: micros(held),
            transaction_micros: micros(took),
            disks,
            notes,
        })
    }

    fn check_hold(&self, order: &CutOrder, begun: Timestamp) -> Result<()> {
        if self.clock.now().since(begun) <= order.hold_limit {
            return Ok(());
        }
        Err(Failure::timeout(format!(
            "the cut `{}` held its machines longer than {} ms and was given up",
            order.barrier,
            order.hold_limit.as_millis()
        )))
    }

    fn freeze(
        &self,
        window: &[Member],
        frozen: &mut Frozen,
        consistency: &mut Consistency,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        for member in window.iter().filter(|member| member.on) {
            match &member.guest {
                Some(guest) => {
                    frozen.0.push(Arc::clone(guest));
                    guest.mark_clean(true)?;
                }
                None => {
                    *consistency = Consistency::Crash;
                    notes.push(format!("`{}` was not frozen: its guest does not answer", member.wanted.machine));
                }
            }
        }
        Ok(())
    }

    fn cut_machine(&self, order: &CutOrder, member: &Member) -> Result<Vec<DiskCut>> {
        let (names, disks) = {
            let state = self.state();
            let machine = state.machine(&member.wanted.instance)?;
            (machine.record.disks.clone(), state.disks_of(&member.wanted.instance))
        };
        let mut cuts = Vec::new();
        for facts in names {
            let disk = disks.get(&facts.name).ok_or_else(|| {
                Failure::permanent(format!("`{}` has no disk `{}`", member.wanted.instance, facts.name))
            })?;
            let (tracking, dirty_bytes) = disk.cut(&order.barrier, member.wanted.base.as_ref())?;
            cuts.push(DiskCut {
                machine: member.wanted.machine.clone(),
                disk: facts.name,
                size_bytes: disk.size(),
                tracking,
                dirty_bytes,
            });
        }
        Ok(cuts)
    }

    pub(crate) fn settle(&self, barrier: &BarrierId, outcome: CutOutcome) -> Result<()> {
        let mut state = self.state();
        let known = state.cuts.remove(barrier).is_some();
        let mut settled: BTreeMap<InstanceName, bool> = BTreeMap::new();
        for ((instance, _), disk) in &state.disks {
            if disk.settle(barrier, outcome) {
                settled.insert(instance.clone(), true);
            }
        }
        for instance in settled.keys() {
            if state.machines.get(instance).is_none_or(|machine| machine.running.is_none()) {
                self.save_tracks(&state, instance)?;
            }
        }
        drop(state);
        self.effect(CallClass::Settle, barrier.as_str(), None, known || !settled.is_empty());
        Ok(())
    }
}

/// In the order of the names, so that two cuts at once cannot wait for each other.
async fn hold(window: &[Member]) -> Vec<OwnedRwLockWriteGuard<()>> {
    let mut ordered: Vec<&Member> = window.iter().collect();
    ordered.sort_by(|left, right| left.wanted.instance.cmp(&right.wanted.instance));
    ordered.dedup_by(|left, right| left.wanted.instance == right.wanted.instance);
    let mut holds = Vec::with_capacity(ordered.len());
    for member in ordered {
        holds.push(Arc::clone(&member.io).write_owned().await);
    }
    holds
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
