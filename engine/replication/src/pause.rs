//! Pause and resume: a person stops the schedule of a group, and lets it go on.
//!
//! Nothing is lost by it: the tracker goes on marking what changes, and the next cycle sends it. What is asked for by name
//! is done also while the schedule stands: a cycle by hand, the final sync of a planned failover. A direction that turns
//! begins anew, unpaused.

use crate::records::Paused;
use crate::replicator::Replicator;
use muster_ports::*;

impl Replicator {
    /// Stops the schedule; a cycle under way gives way. Paused again, it keeps the first word.
    pub async fn pause(&self, group: &GroupName, by: &str, why: &str) -> Result<()> {
        let gate = self.gate(group);
        let _work = gate.take(self.clock.as_ref()).await;
        let mut protection = self.catalogue.protection(group).await?;
        if protection.paused.is_some() {
            return Ok(());
        }
        protection.paused = Some(Paused { since: self.clock.now(), by: by.to_owned(), why: why.to_owned() });
        self.catalogue.save(&protection).await
    }

    /// Lets the schedule go on; the next cycle is due at once. Nothing when it runs.
    pub async fn resume(&self, group: &GroupName) -> Result<()> {
        let gate = self.gate(group);
        let _work = gate.work.lock().await;
        let mut protection = self.catalogue.protection(group).await?;
        if protection.paused.take().is_none() {
            return Ok(());
        }
        protection.last_attempt = None;
        self.catalogue.save(&protection).await
    }
}
