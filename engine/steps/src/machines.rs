//! Start, stop, create, discard: machines that exist.

use crate::Steps;
use crate::context::{at, instance_of, text};
use muster_executor::{Observation, StepContext};
use muster_journal::StepOutput;
use muster_ports::*;
use muster_runsheet::{Direction, Kind};

/// The call a stop records before it does anything, so that a machine found off is told from one that was stopped.
const STOP_CALL: &str = "stop";
/// Said of a machine that needed no stopping.
const WAS_OFF: &str = "was already off";

impl Steps {
    pub(crate) async fn observe_start(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
    ) -> Result<Observation> {
        let (instance, _) = instance_of(cx, machine, site);
        Ok(match self.state_of(site, &instance).await? {
            Some(state) if state.power == Power::On => Observation::Holds(StepOutput::None),
            _ => Observation::DoesNotHold,
        })
    }

    pub(crate) async fn act_start(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
    ) -> Result<StepOutput> {
        let (instance, _) = instance_of(cx, machine, site);
        let Some(state) = self.state_of(site, &instance).await? else {
            return Err(Failure::permanent(format!("site `{site}` has no machine `{instance}` to start"))
                .help("see what its landing step has done with `muster log`, then decide: redo that step or abort"));
        };
        if state.power == Power::On {
            return Ok(StepOutput::None);
        }
        if state.fenced {
            return Err(Failure::refused(format!(
                "machine `{instance}` is fenced at site `{site}`: it may not be started there"
            ))
            .help("a fence means that production runs elsewhere; `muster cancel` or a failback lifts it in order"));
        }
        at(site, self.site(site)?.start(&instance).await)?;
        Ok(StepOutput::None)
    }

    /// A clone is cut off; a machine that people use is asked, and never cut off in silence.
    pub(crate) async fn undo_start(&self, cx: StepContext<'_>, machine: &MachineName, site: &SiteName) -> Result<()> {
        let (instance, scope) = instance_of(cx, machine, site);
        self.switch_off(cx, site, &instance, &scope).await
    }

    pub(crate) async fn switch_off(
        &self,
        cx: StepContext<'_>,
        site: &SiteName,
        instance: &InstanceName,
        scope: &NetworkScope,
    ) -> Result<()> {
        match self.state_of(site, instance).await? {
            Some(state) if state.power == Power::On => {}
            _ => return Ok(()),
        }
        let mode = match scope {
            NetworkScope::Live => StopMode::Orderly { within: self.left(cx) },
            NetworkScope::Bubble { .. } => StopMode::Hard,
        };
        at(site, self.site(site)?.stop(instance, mode).await).map_err(|failure| still_on(failure, instance, site))
    }

    pub(crate) async fn observe_stop(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
    ) -> Result<Observation> {
        let (instance, _) = instance_of(cx, machine, site);
        let state = match self.state_of(site, &instance).await {
            Ok(state) => state,
            // An unplanned failover does not wait for a site that may be gone: `act` says what could not be done.
            Err(failure) if is_best_effort(cx) && failure.is_retryable() => return Ok(Observation::DoesNotHold),
            Err(failure) => return Err(failure),
        };
        if state.is_some_and(|state| state.power == Power::On) {
            return Ok(Observation::DoesNotHold);
        }
        let begun = cx.calls.recorded().iter().any(|call| call.operation == STOP_CALL);
        Ok(Observation::Holds(if begun { StepOutput::None } else { text(WAS_OFF) }))
    }

    pub(crate) async fn act_stop(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
    ) -> Result<StepOutput> {
        let (instance, scope) = instance_of(cx, machine, site);
        match self.stop_recorded(cx, site, &instance, &scope).await {
            Err(failure) if is_best_effort(cx) => {
                let what = format!("not stopped at `{site}`: {failure}; the fence decides");
                cx.calls.note(&format!("{instance} {what}")).await?;
                Ok(text(what))
            }
            other => other,
        }
    }

    async fn stop_recorded(
        &self,
        cx: StepContext<'_>,
        site: &SiteName,
        instance: &InstanceName,
        scope: &NetworkScope,
    ) -> Result<StepOutput> {
        if self.state_of(site, instance).await?.is_none_or(|state| state.power == Power::Off) {
            let begun = cx.calls.recorded().iter().any(|call| call.operation == STOP_CALL);
            return Ok(if begun { StepOutput::None } else { text(WAS_OFF) });
        }
        let hash = Hash::of(format!("{site}/{instance}")).to_string();
        if cx.calls.recorded().is_empty() {
            cx.calls.intend(0, STOP_CALL, &hash).await?;
        }
        self.switch_off(cx, site, instance, scope).await?;
        if !cx.calls.recorded().iter().any(|call| call.result.is_some()) {
            cx.calls.done(0, serde_json::Value::Null).await?;
        }
        Ok(StepOutput::None)
    }

    /// Starts again what this step has stopped, and nothing that was off before.
    pub(crate) async fn undo_stop(&self, cx: StepContext<'_>, machine: &MachineName, site: &SiteName) -> Result<()> {
        let begun = cx.calls.undoes().iter().any(|call| call.operation == STOP_CALL);
        let (instance, _) = instance_of(cx, machine, site);
        if !begun {
            return Ok(());
        }
        match self.state_of(site, &instance).await? {
            Some(state) if state.power == Power::Off => at(site, self.site(site)?.start(&instance).await),
            _ => Ok(()),
        }
    }

    pub(crate) async fn observe_create(&self, machine: &MachineName, site: &SiteName) -> Result<Observation> {
        let found = self.state_of(site, &InstanceName::live(machine)).await?;
        Ok(found.map_or(Observation::DoesNotHold, |_| Observation::Holds(text("adopted: it is already there"))))
    }

    pub(crate) async fn act_create(&self, machine: &MachineName, site: &SiteName, from: &str) -> Result<StepOutput> {
        if let Observation::Holds(output) = self.observe_create(machine, site).await? {
            return Ok(output);
        }
        Err(Failure::permanent(format!(
            "site `{site}` has no machine `{machine}`, and cannot make one from `{from}` by itself"
        ))
        .help(format!(
            "make `{machine}` from `{from}` at `{site}` by hand, then decide `retry`: it is adopted by its name"
        )))
    }

    pub(crate) async fn observe_discard(
        &self,
        machine: &MachineName,
        site: &SiteName,
        drill: Option<&str>,
    ) -> Result<Observation> {
        let found = self.state_of(site, &discarded(machine, drill).0).await?;
        Ok(found.map_or(Observation::Holds(StepOutput::None), |_| Observation::DoesNotHold))
    }

    pub(crate) async fn act_discard(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
        drill: Option<&str>,
    ) -> Result<StepOutput> {
        let (instance, scope) = discarded(machine, drill);
        self.switch_off(cx, site, &instance, &scope).await?;
        // At home the disks stay: the way home writes differences onto them, and they were the machine's own before.
        let own_disks = drill.is_none() && cx.sheet.operation.direction == Direction::Back;
        at(site, self.site(site)?.undefine(&instance, !own_disks).await)?;
        Ok(if own_disks { text("its disks at home are kept for the next way home") } else { StepOutput::None })
    }
}

fn is_best_effort(cx: StepContext<'_>) -> bool {
    cx.sheet.operation.kind == Kind::Unplanned
}

fn discarded(machine: &MachineName, drill: Option<&str>) -> (InstanceName, NetworkScope) {
    match drill {
        Some(drill) => {
            let bubble = BubbleId::from(drill);
            (InstanceName::clone_in(machine, &bubble), NetworkScope::Bubble { bubble })
        }
        None => (InstanceName::live(machine), NetworkScope::Live),
    }
}

fn still_on(failure: Failure, instance: &InstanceName, site: &SiteName) -> Failure {
    if failure.class != FailureClass::Timeout {
        return failure;
    }
    Failure::timeout(format!("machine `{instance}` at site `{site}` has not shut down in time and is still on"))
        .help(format!("shut `{instance}` down from inside and decide `retry`, or give the step more time with `within`; muster does not cut its power by itself"))
}
