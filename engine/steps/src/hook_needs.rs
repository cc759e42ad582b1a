//! What hooks need, asked before anything is touched: a hook that cannot run is found out while all machines still do
//! what they did, and not behind the point of no return.
//!
//! Asked are the sites (what they can do), the keyring (what the contracts name) and, where discovery found no agent in a
//! guest, that guest. Not asked is what lies outside: a name server that is down now may be up by then.

use crate::Steps;
use muster_executor::StepContext;
use muster_hooks::read_keyring;
use muster_ports::*;
use muster_runsheet::{HookUse, Kind, Need};
use std::collections::{BTreeMap, BTreeSet};

impl Steps {
    /// Refuses the run when a hook that it waits for cannot do its work. What is worth a word and no refusal comes back:
    /// hooks of steps that may fail, and all of them in an unplanned failover, which has to save what it can.
    pub(crate) async fn hooks_can_run(
        &self,
        cx: StepContext<'_>,
        can: &BTreeMap<SiteName, Capabilities>,
    ) -> Result<Vec<String>> {
        let mut missing: BTreeSet<String> = BTreeSet::new();
        let mut words: BTreeSet<String> = BTreeSet::new();
        for of in cx.sheet.hook_uses() {
            let found = self.unmet(cx, &of, can).await;
            let held_up = of.is_awaited() && cx.sheet.operation.kind != Kind::Unplanned;
            if held_up { &mut missing } else { &mut words }.extend(found);
        }
        if missing.is_empty() {
            return Ok(words.into_iter().collect());
        }
        let missing: Vec<String> = missing.into_iter().collect();
        Err(Failure::permanent(format!("hooks of `{}` could not do their work: {}", cx.sheet.plan, missing.join("; ")))
            .help("nothing has been touched; give them what they need, or change the plan (`else continue` lets a step fail)"))
    }

    async fn unmet(
        &self,
        cx: StepContext<'_>,
        of: &HookUse<'_>,
        can: &BTreeMap<SiteName, Capabilities>,
    ) -> Vec<String> {
        let (hook, site) = (&of.hook.name, of.site);
        // A site that does not answer is another matter, which has been said.
        let able = |able: fn(&Capabilities) -> bool| can.get(site).is_none_or(able);
        let mut unmet = Vec::new();
        for need in &of.hook.needs {
            match need {
                Need::Disk => {
                    if !able(|can| can.disk_files) {
                        unmet.push(format!("`{hook}` needs `disk`, and site `{site}` cannot reach files on disks"));
                    }
                    if let Some(machine) = cx.sheet.on_by_then(of) {
                        unmet.push(format!(
                            "`{hook}` needs `disk` at step `{}`, and `{machine}` is on by then",
                            of.node.id
                        ));
                    }
                }
                Need::Ssh if !able(|can| can.guest_ssh) => {
                    unmet.push(format!("`{hook}` needs `ssh`, and site `{site}` has no SSH client"));
                }
                // In a rehearsal no guest is asked, and no secret is opened.
                Need::Guest if self.outside.is_none() => unmet.extend(self.deaf(cx, of).await),
                Need::Secret { name, key } if self.outside.is_none() => {
                    if let Err(failure) = read_keyring(key) {
                        unmet.push(format!("`{hook}` needs the secret `{name}`: {}", failure.message));
                    }
                }
                _ => {}
            }
        }
        unmet
    }

    /// Machines of the hook in which discovery found no agent, and none answers now.
    async fn deaf(&self, cx: StepContext<'_>, of: &HookUse<'_>) -> Vec<String> {
        let source = &cx.sheet.source;
        let mut deaf = Vec::new();
        for machine in cx.sheet.machines_of(of.arguments) {
            let facts = cx.sheet.machines.get(machine).map(|sheet| &sheet.facts);
            if facts.is_none_or(|facts| facts.guest_agent || facts.power != Power::On) {
                continue;
            }
            let (Ok(site), live) = (self.site(source), InstanceName::live(machine)) else { continue };
            // One that is off, or that nobody can be asked about, may have an agent all the same.
            let state = self.soon(source, site.instance(&live)).await;
            if !state.is_ok_and(|state| state.is_some_and(|state| state.power == Power::On)) {
                continue;
            }
            let asked = self.soon(source, site.guest_ping(&live)).await;
            if let Err(failure) = asked {
                let hook = &of.hook.name;
                deaf.push(format!("`{hook}` needs `guest`, and no agent answers in `{machine}`: {}", failure.message));
            }
        }
        deaf
    }
}
