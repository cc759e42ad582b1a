//! Fences: proof that the machines cannot run at a site, or a person's signature in its place.

use crate::Steps;
use crate::context::at;
use muster_executor::{Acted, Observation, StepContext};
use muster_journal::{Question, QuestionKind, StepOutput};
use muster_ports::*;
use muster_runsheet::{FenceProof, Kind};

const POWERED_OFF: &str = "powered off and barred from starting";
const FOUND_OFF: &str = "found off and barred from starting";

impl Steps {
    pub(crate) async fn observe_fence(
        &self,
        site: &SiteName,
        machines: &[MachineName],
        proof: FenceProof,
    ) -> Result<Observation> {
        let instances = match self.soon(site, self.site(site)?.instances()).await {
            Ok(instances) => instances,
            // Whatever keeps the site from answering, nothing is proven; the act says what follows from that.
            Err(_) => return Ok(Observation::DoesNotHold),
        };
        let proven = |machine: &MachineName| {
            let name = InstanceName::live(machine);
            match instances.iter().find(|state| state.instance == name) {
                Some(state) => state.fenced && state.power == Power::Off,
                None => proof.is_found(),
            }
        };
        Ok(if machines.iter().all(proven) { Observation::Holds(fenced(proof)) } else { Observation::DoesNotHold })
    }

    pub(crate) async fn act_fence(
        &self,
        cx: StepContext<'_>,
        site: &SiteName,
        machines: &[MachineName],
        proof: FenceProof,
    ) -> Result<Acted> {
        if proof.is_found() {
            return match self.bar_what_is_off(cx, site, machines).await {
                Err(failure) if failure.is_retryable() && proof == FenceProof::FoundOffOrSignature => {
                    self.ask_or_sign(cx, site, machines, &failure).await
                }
                barred => barred.map(Acted::Done),
            };
        }
        // A site that cannot even say who it is proves nothing, for whatever reason: at its address may answer a stranger.
        let greeting = match self.site(site) {
            Ok(reached) => self.soon(site, reached.facts()).await.map(drop),
            Err(failure) => return Err(failure),
        };
        let unreachable = match greeting {
            Err(failure) => failure,
            Ok(()) => match self.fence_all(site, machines).await {
                Ok(()) => return Ok(Acted::Done(fenced(proof))),
                Err(failure) if failure.is_retryable() => failure,
                Err(failure) => return Err(failure),
            },
        };
        if proof == FenceProof::PowerOff {
            return Err(unreachable.during("the machines cannot be proven off").help(format!(
                "make the site agent of `{site}` reachable; if the site is gone, abort and run the unplanned operation"
            )));
        }
        self.ask_or_sign(cx, site, machines, &unreachable).await
    }

    /// A person's word in the place of proof.
    async fn ask_or_sign(
        &self,
        cx: StepContext<'_>,
        site: &SiteName,
        machines: &[MachineName],
        unreachable: &Failure,
    ) -> Result<Acted> {
        match cx.answer {
            None => Ok(Acted::Ask(self.split_brain_question(cx, site, machines, unreachable).await)),
            Some(answer) if answer.yes => {
                let how = format!("signed by {}: {}", answer.who, answer.why);
                Ok(Acted::Done(StepOutput::Fence { how }))
            }
            Some(answer) => Err(Failure::refused(format!(
                "{} did not sign that `{site}` is dead: {}",
                answer.who, answer.why
            ))
            .help(format!("make sure that the machines at `{site}` are off or cut off, then decide `redo` to be asked again, or abort"))),
        }
    }

    /// Bars each machine that is off from starting. Production runs elsewhere: one that is on runs twice.
    async fn bar_what_is_off(
        &self,
        cx: StepContext<'_>,
        site: &SiteName,
        machines: &[MachineName],
    ) -> Result<StepOutput> {
        let reached = self.site(site)?;
        let instances = self.soon(site, reached.instances()).await?;
        let found = |machine: &MachineName| {
            let name = InstanceName::live(machine);
            instances.iter().find(|state| state.instance == name)
        };
        // All of them are looked at before anything is changed.
        for machine in machines {
            if found(machine).is_some_and(|state| state.power == Power::On) {
                let now = &cx.sheet.target;
                return Err(Failure::refused(format!(
                    "machine `{machine}` is on at site `{site}` too, though production runs at `{now}`"
                ))
                .help(format!(
                    "save what users have written there since the failover, then `muster power off {site} {machine}` and decide `retry`"
                )));
            }
        }
        for machine in machines {
            if found(machine).is_some_and(|state| !state.fenced) {
                at(site, reached.fence(&InstanceName::live(machine)).await)?;
                let now = &cx.sheet.target;
                cx.calls
                    .note(&format!("{machine} at {site} is barred from starting: production runs at {now}"))
                    .await?;
            }
        }
        Ok(StepOutput::Fence { how: FOUND_OFF.to_owned() })
    }

    /// Fences each machine and looks whether it is off: a promise is no proof.
    async fn fence_all(&self, site: &SiteName, machines: &[MachineName]) -> Result<()> {
        let reached = self.site(site)?;
        for machine in machines {
            at(site, reached.fence(&InstanceName::live(machine)).await)?;
        }
        let instances = self.soon(site, reached.instances()).await?;
        for machine in machines {
            let name = InstanceName::live(machine);
            if instances.iter().any(|state| state.instance == name && state.power == Power::On) {
                return Err(Failure::refused(format!(
                    "site `{site}` has fenced machine `{machine}`, but it is still on"
                ))
                .help("cut its power by hand, then decide `retry`"));
            }
        }
        Ok(())
    }

    async fn split_brain_question(
        &self,
        cx: StepContext<'_>,
        site: &SiteName,
        machines: &[MachineName],
        unreachable: &Failure,
    ) -> Question {
        let names: Vec<_> = machines.iter().map(MachineName::as_str).collect();
        let mut heard = Vec::new();
        for group in cx.sheet.groups.keys() {
            // What cannot be told is left out; the question itself must not fail on it.
            if let Ok(Some(age)) = self.recovery.lag(group).await {
                heard.push(format!("{group} {} ago", muster_runsheet::Duration(whole_seconds(age))));
            }
        }
        let heard = if heard.is_empty() { "never".to_owned() } else { heard.join(", ") };
        let text = format!(
            "Site `{site}` does not answer ({unreachable}), so nothing proves that these machines are off there: {}. \
             Last data received: {heard}. If you sign and one of them still runs and can be reached, both copies take \
             writes (split-brain), and what one of them writes will be lost. \
             Sign only when you know that `{site}` is down or cut off from users. \
             {} all the same?",
            names.join(", "),
            match cx.sheet.operation.kind {
                Kind::Reprotect => format!("Protect the machines at `{}`", cx.sheet.target),
                _ => format!("Start the machines at `{}`", cx.sheet.target),
            },
        );
        let to = cx.sheet.owner.clone().unwrap_or_else(|| "anyone".to_owned());
        Question { text, to, kind: QuestionKind::SplitBrain }
    }

    pub(crate) async fn observe_unfence(&self, site: &SiteName, machines: &[MachineName]) -> Result<Observation> {
        let instances = at(site, self.site(site)?.instances().await)?;
        let free = |machine: &MachineName| {
            let name = InstanceName::live(machine);
            instances.iter().any(|state| state.instance == name && !state.fenced)
        };
        Ok(if machines.iter().all(free) { Observation::Holds(StepOutput::None) } else { Observation::DoesNotHold })
    }

    pub(crate) async fn act_unfence(&self, site: &SiteName, machines: &[MachineName]) -> Result<StepOutput> {
        for machine in machines {
            at(site, self.site(site)?.unfence(&InstanceName::live(machine)).await)?;
        }
        Ok(StepOutput::None)
    }

    pub(crate) async fn undo_unfence(&self, site: &SiteName, machines: &[MachineName]) -> Result<()> {
        for machine in machines {
            at(site, self.site(site)?.fence(&InstanceName::live(machine)).await)?;
        }
        Ok(())
    }
}

fn fenced(proof: FenceProof) -> StepOutput {
    let how = if proof.is_found() { FOUND_OFF } else { POWERED_OFF };
    StepOutput::Fence { how: how.to_owned() }
}

fn whole_seconds(age: std::time::Duration) -> u64 {
    age.as_secs().saturating_mul(1_000)
}
