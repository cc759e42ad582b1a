//! The built-in steps: what each verb of a runsheet observes, does and takes back.
//!
//! ```text
//!   executor --observe / act / undo--> Steps --+-- machines      start, stop, create, discard
//!                                              +-- landing       clone, promote, hydrate
//!                                              +-- networks      bubble, discard bubble
//!                                              +-- fences        fence, unfence
//!                                              +-- replication   points, final sync, reverse, resync, lag
//!                                              +-- locks         verify, lock, unlock
//!                                              +-- checks        probes from inside the landing network
//!                                              +-- hooks         run
//!                                              `-- people        notify, report
//! ```
//!
//! Every act is convergent: repeated with the same key it does the work once. What `observe` cannot see (a question that
//! was signed, a record that was written) `act` finds by itself. Approvals, manual steps, waits and barriers belong to
//! the executor and never arrive here.
//!
//! Architecture invariant: a step reaches sites, replication and control state through their traits only, and a site that
//! does not answer is a transient failure that names it.

mod checks;
mod context;
mod fences;
mod hook_needs;
mod hooks;
mod landing;
mod locks;
mod machines;
mod networks;
mod people;
mod replication;

pub use locks::{LANDED_KEY, LandedRecord, LockRecord, landed_key, lock_key, plan_state_key};

use async_trait::async_trait;
use muster_executor::{Acted, Observation, StepContext, StepRunner};
use muster_hooks::{HookHost, Outside};
use muster_ports::*;
use muster_replication::Recovery;
use muster_runsheet::Action;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Carries out the steps of a runsheet against the sites, replication and the control state.
#[derive(Clone, Debug)]
pub struct Steps {
    sites: BTreeMap<SiteName, Arc<dyn Site>>,
    recovery: Arc<dyn Recovery>,
    store: Arc<dyn StateStore>,
    hooks: HookHost,
    clock: Arc<dyn Clock>,
    outside: Option<Arc<dyn Outside>>,
}

impl Steps {
    pub fn new(
        sites: BTreeMap<SiteName, Arc<dyn Site>>,
        recovery: Arc<dyn Recovery>,
        store: Arc<dyn StateStore>,
        hooks: HookHost,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { sites, recovery, store, hooks, clock, outside: None }
    }

    /// Hooks reach this in place of the world beyond the sites: for rehearsals.
    pub fn reaching(mut self, outside: Arc<dyn Outside>) -> Self {
        self.outside = Some(outside);
        self
    }
}

#[async_trait]
impl StepRunner for Steps {
    async fn observe(&self, cx: StepContext<'_>) -> Result<Observation> {
        match &cx.node.action {
            Action::Start { machine, site } => self.observe_start(cx, machine, site).await,
            Action::Stop { machine, site } => self.observe_stop(cx, machine, site).await,
            Action::Create { machine, site, .. } => self.observe_create(machine, site).await,
            Action::Discard { machine, site, drill } => self.observe_discard(machine, site, drill.as_deref()).await,
            Action::Clone { machine, site, .. } => self.observe_landed(cx, machine, site, true).await,
            Action::Promote { machine, site, .. } => self.observe_landed(cx, machine, site, false).await,
            Action::Hydrate { machine, site } => self.observe_hydrate(machine, site).await,
            Action::Bubble { site, .. } => self.observe_bubble(site, &context::bubble_of(cx), true).await,
            Action::DiscardBubble { site, drill } => {
                self.observe_bubble(site, &BubbleId::from(drill.as_str()), false).await
            }
            Action::Fence { site, machines, proof } => self.observe_fence(site, machines, *proof).await,
            Action::Unfence { site, machines } => self.observe_unfence(site, machines).await,
            Action::Lock { machines, drill } => self.observe_lock(cx, machines, *drill).await,
            Action::Unlock { state, .. } => self.observe_unlock(cx, *state).await,
            Action::Report => self.observe_report(cx).await,
            // These only read, or are idempotent by key, or are replayed from their calls.
            Action::Check { .. }
            | Action::Run { .. }
            | Action::Notify { .. }
            | Action::Verify { .. }
            | Action::SyncFinal { .. }
            | Action::PickPoint { .. }
            | Action::DropPoints { .. }
            | Action::Reverse { .. }
            | Action::Resync { .. }
            | Action::AwaitLag { .. }
            | Action::AssertReplicating { .. } => Ok(Observation::DoesNotHold),
            Action::Approve { .. }
            | Action::Manual { .. }
            | Action::Wait { .. }
            | Action::Barrier
            | Action::NoReturn => Err(context::not_ours(cx)),
        }
    }

    async fn act(&self, cx: StepContext<'_>) -> Result<Acted> {
        let output = match &cx.node.action {
            // The one step that may ask a person.
            Action::Fence { site, machines, proof } => return self.act_fence(cx, site, machines, *proof).await,
            Action::Start { machine, site } => self.act_start(cx, machine, site).await,
            Action::Stop { machine, site } => self.act_stop(cx, machine, site).await,
            Action::Create { machine, site, from } => self.act_create(machine, site, from).await,
            Action::Discard { machine, site, drill } => self.act_discard(cx, machine, site, drill.as_deref()).await,
            Action::Clone { machine, site, nics } => self.act_clone(cx, machine, site, nics).await,
            Action::Promote { machine, site, nics, differences } => {
                self.act_promote(cx, machine, site, nics, *differences).await
            }
            Action::Hydrate { machine, site } => self.act_hydrate(cx, machine, site).await,
            Action::Bubble { site, networks } => self.act_bubble(cx, site, networks).await,
            Action::DiscardBubble { site, drill } => {
                self.act_discard_bubble(site, &BubbleId::from(drill.as_str())).await
            }
            Action::Unfence { site, machines } => self.act_unfence(site, machines).await,
            Action::Verify { required, probed } => self.act_verify(cx, required, probed).await,
            Action::Lock { machines, drill } => self.act_lock(cx, machines, *drill).await,
            Action::Unlock { machines, state } => self.act_unlock(cx, machines, *state).await,
            Action::SyncFinal { group } => self.act_sync_final(cx, group).await,
            Action::PickPoint { group, choice } => self.act_pick_point(cx, group, choice).await,
            Action::DropPoints { group } => self.act_drop_points(cx, group).await,
            Action::Reverse { group, source, target } => self.act_reverse(cx, group, source, target).await,
            Action::Resync { group } => self.act_resync(cx, group).await,
            Action::AwaitLag { group, at_most } => self.act_await_lag(cx, group, at_most.std()).await,
            Action::AssertReplicating { group } => self.act_assert_replicating(cx, group).await,
            Action::Check { machine, site, probe } => self.act_check(cx, machine, site, probe).await,
            Action::Run { hook, arguments } => self.act_run(cx, hook, arguments).await,
            Action::Notify { to, text } => self.act_notify(cx, to, text).await,
            Action::Report => self.act_report(cx).await,
            Action::Approve { .. }
            | Action::Manual { .. }
            | Action::Wait { .. }
            | Action::Barrier
            | Action::NoReturn => Err(context::not_ours(cx)),
        };
        output.map(Acted::Done)
    }

    async fn undo(&self, cx: StepContext<'_>) -> Result<()> {
        match &cx.node.action {
            Action::Start { machine, site } => self.undo_start(cx, machine, site).await,
            Action::Stop { machine, site } => self.undo_stop(cx, machine, site).await,
            Action::Clone { machine, site, .. } => self.undo_landed(cx, machine, site, true, true).await,
            Action::Promote { machine, site, differences, .. } => {
                self.undo_landed(cx, machine, site, false, !*differences).await
            }
            Action::Bubble { site, .. } => self.act_discard_bubble(site, &context::bubble_of(cx)).await.map(|_| ()),
            // Production still runs elsewhere: what was found off stays barred.
            Action::Fence { proof, .. } if proof.is_found() => Ok(()),
            Action::Fence { site, machines, .. } => self.act_unfence(site, machines).await.map(|_| ()),
            Action::Unfence { site, machines } => self.undo_unfence(site, machines).await,
            Action::Lock { machines, drill } => self.undo_lock(cx, machines, *drill).await,
            Action::SyncFinal { group } | Action::PickPoint { group, .. } => self.undo_point(cx, group).await,
            Action::Run { hook, arguments } => self.undo_run(cx, hook, arguments).await,
            Action::Reverse { .. }
            | Action::DropPoints { .. }
            | Action::Discard { .. }
            | Action::DiscardBubble { .. }
            | Action::Unlock { .. } => context::no_way_back(cx),
            // Nothing that lasts, or nothing that harms: a created machine is adopted, a report says what was.
            Action::Create { .. }
            | Action::Hydrate { .. }
            | Action::Check { .. }
            | Action::Notify { .. }
            | Action::Report
            | Action::Verify { .. }
            | Action::Resync { .. }
            | Action::AwaitLag { .. }
            | Action::AssertReplicating { .. }
            | Action::Approve { .. }
            | Action::Manual { .. }
            | Action::Wait { .. }
            | Action::Barrier
            | Action::NoReturn => Ok(()),
        }
    }
}
