//! What goes on as long as the agent lives, whoever asks for what.
//!
//! Guests are let go that a cut could not let go; first of all those that an agent before it left behind. Not the
//! watchdog: that one is there for the time without an agent. And machines that the host's KVM dropped while they
//! started are started again without it.

use crate::accel::{self, Accelerator};
use crate::hold::{Left, all_held, end_left};
use crate::host::{MACHINE_LOG, MACHINE_PID, machine_process};
use crate::{QemuProvider, limits, power};
use futures::future::join_all;
use muster_ports::{InstanceName, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// When each guest is tried again.
type Due = BTreeMap<InstanceName, Instant>;

/// Goes on until the provider is dropped. `wake` tells it that there is something to do.
pub(crate) async fn keep(provider: Weak<QemuProvider>, wake: Arc<Notify>) {
    let mut due = Due::new();
    loop {
        let Some(provider) = provider.upgrade() else { return };
        round(&provider, &mut due).await;
        if let Err(failure) = revive_all(&provider).await {
            tracing::warn!(%failure, "machines that KVM dropped cannot be started again");
        }
        drop(provider);
        let next = due.values().min().map(|next| next.saturating_duration_since(Instant::now()));
        let pause = next.unwrap_or(limits::RELEASE_LOOK).clamp(limits::LOOK, limits::RELEASE_LOOK);
        // That nobody called is no failure.
        let _ = timeout(pause, wake.notified()).await;
    }
}

async fn round(provider: &QemuProvider, due: &mut Due) {
    let held = match all_held(&provider.folder) {
        Ok(held) => held,
        Err(failure) => return tracing::warn!(%failure, "guests that may be held cannot be looked for"),
    };
    due.retain(|instance, _| held.iter().any(|(found, _)| found == instance));
    let now = Instant::now();
    let ready = held.into_iter().filter(|(instance, _)| due.get(instance).is_none_or(|due| *due <= now));
    let tried = join_all(ready.map(|(instance, home)| attempt(provider, instance, home))).await;
    for (instance, pause) in tried.into_iter().flatten() {
        due.insert(instance, Instant::now() + pause);
    }
}

/// One attempt; says how long to wait before the next one.
async fn attempt(provider: &QemuProvider, instance: InstanceName, home: PathBuf) -> Option<(InstanceName, Duration)> {
    // Who has the turn is in the middle of a cut, and lets the guest go itself.
    let Some(_turn) = provider.guests.try_take(&instance) else { return Some((instance, limits::RELEASE_AGAIN)) };
    match end_left(&home).await {
        Ok(Left::Nothing | Left::Theirs(_)) => None,
        Ok(Left::Ended(record)) => {
            tracing::warn!(%instance, cut = %record.barrier, tries = record.tries, "a guest was let go after its cut");
            None
        }
        Ok(Left::Still(record)) => {
            tracing::warn!(%instance, cut = %record.barrier, why = record.said, "a guest may still be held");
            Some((instance, pause(record.tries)))
        }
        Err(failure) => {
            tracing::warn!(%instance, %failure, "whether a guest is held cannot be told");
            Some((instance, limits::RELEASE_AGAIN_MAX))
        }
    }
}

fn pause(tries: u32) -> Duration {
    let doubled = limits::RELEASE_AGAIN.saturating_mul(1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(limits::RELEASE_AGAIN_MAX)
}

async fn revive_all(provider: &QemuProvider) -> Result<()> {
    for record in provider.folder.records()? {
        let home = provider.folder.machine(&record.instance)?;
        let dropped = || accel::early_breakdown(&home.join(MACHINE_PID), &home.join(MACHINE_LOG));
        if dropped().is_none() {
            continue;
        }
        // Who has the turn may be switching it off already; otherwise there is a next round.
        let Some(_turn) = provider.machines.try_take(&record.instance) else { continue };
        let (Some(why), true) = (dropped(), machine_process(&home).await.is_some()) else { continue };
        revive(provider, &record.instance, &why).await?;
    }
    Ok(())
}

/// The caller holds the machine's turn. What its disks hold is what a power cut leaves.
async fn revive(provider: &QemuProvider, instance: &InstanceName, why: &str) -> Result<()> {
    tracing::warn!(%instance, why, "KVM dropped a machine that was starting; machines are emulated here from now on");
    let folder = &provider.folder;
    if accel::find(folder.path()).await?.accelerator == Accelerator::Kvm {
        accel::give_up_kvm(folder.path(), &format!("it dropped `{instance}`: {why}")).await?;
    }
    power::cut_power(&folder.machine(instance)?, limits::KILL).await?;
    power::tidy(folder, instance).await?;
    provider.start_in_turn(instance).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let seconds: Vec<u64> = (0..8).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(u32::MAX), limits::RELEASE_AGAIN_MAX);
    }
}
