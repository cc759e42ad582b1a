//! Landing: a machine comes to exist at a site from a recovery point.

use crate::Steps;
use crate::context::{at, bubble_of, instance_of, labels, text};
use muster_executor::{Observation, StepContext};
use muster_journal::StepOutput;
use muster_ports::*;
use std::collections::BTreeMap;

const KEY_LABEL: &str = "muster.key";
const RUN_LABEL: &str = "muster.run";

impl Steps {
    pub(crate) async fn observe_landed(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
        clone: bool,
    ) -> Result<Observation> {
        let found = self.state_of(site, &landing_name(cx, machine, clone)).await?;
        let ours = |state: &InstanceState| state.labels.get(KEY_LABEL).is_some_and(|key| key == cx.key.as_str());
        // Landed and still barred by an earlier failover's fence: a crash came between, and the act is not done.
        let whole = found.is_some_and(|state| ours(&state) && (clone || !state.fenced));
        Ok(if whole { Observation::Holds(StepOutput::None) } else { Observation::DoesNotHold })
    }

    pub(crate) async fn act_clone(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
        nics: &[NicShape],
    ) -> Result<StepOutput> {
        let point = chosen_point(cx, machine)?;
        let bubble = bubble_of(cx);
        let scope = NetworkScope::Bubble { bubble: bubble.clone() };
        let mut order = self.order(cx, machine, &point, nics, scope).await?;
        order.shape.instance = InstanceName::clone_in(machine, &bubble);
        order.mode = self.mode(site, false).await?;
        self.make_room(cx, site, &order.shape.instance).await?;
        self.land(cx, site, &order).await
    }

    pub(crate) async fn act_promote(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
        nics: &[NicShape],
        differences: bool,
    ) -> Result<StepOutput> {
        let point = chosen_point(cx, machine)?;
        let mut order = self.order(cx, machine, &point, nics, NetworkScope::Live).await?;
        order.shape.track_from = Some(BarrierId::landed(&point));
        order.mode = self.mode(site, differences).await?;
        if let Some(sheet) = cx.sheet.sites.get(site) {
            at(site, self.site(site)?.ensure_networks(&sheet.networks).await)?;
        }
        let instance = order.shape.instance.clone();
        if differences {
            // Its own disks lie there and are written over: never below a running machine.
            self.must_be_off(site, &instance).await?;
        } else {
            self.make_room(cx, site, &instance).await?;
        }
        let output = self.land(cx, site, &order).await?;
        // A fence of an earlier failover bars the old source from starting; it is the target now, and the place where
        // production ran has been fenced in this run.
        if self.state_of(site, &instance).await?.is_some_and(|state| state.fenced) {
            at(site, self.site(site)?.unfence(&instance).await)?;
        }
        Ok(output)
    }

    async fn land(&self, cx: StepContext<'_>, site: &SiteName, order: &LandOrder) -> Result<StepOutput> {
        let mut report = at(site, self.site(site)?.land(order, cx.progress).await)?;
        if order.mode == LandMode::Instant {
            report.notes.insert(0, "boots from the vault; its disks follow in the background".into());
        }
        Ok(StepOutput::Bytes {
            fetched: report.fetched_bytes,
            compared: report.compared_bytes,
            written: report.written_bytes,
            notes: report.notes,
        })
    }

    /// The machine as it is to be here: what discovery knows of it, the cards of this site, the disks of the point.
    async fn order(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        point: &PointId,
        nics: &[NicShape],
        scope: NetworkScope,
    ) -> Result<LandOrder> {
        let facts = cx.sheet.machines.get(machine).map(|sheet| &sheet.facts).ok_or_else(|| {
            Failure::permanent(format!("the runsheet does not describe machine `{machine}`"))
                .help("compile the runsheet anew after `muster inventory pull`")
        })?;
        let images: BTreeMap<_, _> = self.recovery.images(point, machine).await?.into_iter().collect();
        let mut disks = Vec::with_capacity(facts.disks.len());
        for disk in &facts.disks {
            let image = images.get(&disk.name).ok_or_else(|| {
                Failure::permanent(format!("point `{point}` has no disk `{}` of machine `{machine}`", disk.name))
                    .help("choose a point made after that disk was added: `muster points` lists them")
            })?;
            disks.push(DiskShape {
                name: disk.name.clone(),
                size_bytes: image.size_bytes,
                backing: DiskBacking::Blank,
            });
        }
        let shape = MachineShape {
            instance: InstanceName::live(machine),
            machine: machine.clone(),
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            disks,
            nics: nics.to_vec(),
            scope,
            labels: labels(cx),
            track_from: None,
        };
        let images = images.into_iter().filter(|(name, _)| shape.disks.iter().any(|disk| disk.name == *name)).collect();
        Ok(LandOrder { shape, images, mode: LandMode::Full })
    }

    async fn mode(&self, site: &SiteName, differences: bool) -> Result<LandMode> {
        if differences {
            return Ok(LandMode::Differences);
        }
        let facts = at(site, self.site(site)?.facts().await)?;
        Ok(if facts.capabilities.instant_recovery { LandMode::Instant } else { LandMode::Full })
    }

    async fn must_be_off(&self, site: &SiteName, instance: &InstanceName) -> Result<Option<InstanceState>> {
        let found = self.state_of(site, instance).await?;
        if found.as_ref().is_some_and(|state| state.power == Power::On) {
            return Err(Failure::refused(format!(
                "machine `{instance}` is already on at site `{site}`; nothing is landed over it"
            ))
            .help(format!("find out what runs there; shut it down and decide `retry` when `{site}` is to take over")));
        }
        Ok(found)
    }

    /// Removes what an earlier failover or an earlier try of this run has left under the name. Never a machine that is
    /// on, and never one that muster did not make.
    async fn make_room(&self, cx: StepContext<'_>, site: &SiteName, instance: &InstanceName) -> Result<()> {
        let Some(found) = self.state_of(site, instance).await? else { return Ok(()) };
        let label = |name: &str| found.labels.get(name).map(String::as_str);
        if label(KEY_LABEL) == Some(cx.key.as_str()) {
            return Ok(());
        }
        self.must_be_off(site, instance).await?;
        let Some(run) = label(RUN_LABEL) else {
            return Err(Failure::refused(format!(
                "site `{site}` already has a machine `{instance}` that muster did not make"
            ))
            .help("rename or remove it there, then decide `retry`"));
        };
        cx.calls.note(&format!("{instance} at {site} was left over from run {run}: removed")).await?;
        at(site, self.site(site)?.undefine(instance, true).await)
    }

    /// Removes what this step has made, and nothing else that bears the name.
    pub(crate) async fn undo_landed(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
        clone: bool,
        disks: bool,
    ) -> Result<()> {
        let instance = landing_name(cx, machine, clone);
        let Some(found) = self.state_of(site, &instance).await? else { return Ok(()) };
        if found.labels.get(KEY_LABEL).is_none_or(|key| key != cx.key.as_str()) {
            return Ok(());
        }
        self.switch_off(cx, site, &instance, &found.scope).await?;
        at(site, self.site(site)?.undefine(&instance, disks).await)
    }

    pub(crate) async fn observe_hydrate(&self, machine: &MachineName, site: &SiteName) -> Result<Observation> {
        let found = self.state_of(site, &InstanceName::live(machine)).await?;
        Ok(match found {
            Some(state) if !state.tied => Observation::Holds(StepOutput::None),
            _ => Observation::DoesNotHold,
        })
    }

    pub(crate) async fn act_hydrate(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
    ) -> Result<StepOutput> {
        let (instance, _) = instance_of(cx, machine, site);
        at(site, self.site(site)?.hydrate(&instance, cx.progress).await)?;
        Ok(text("its disks no longer need the vault"))
    }
}

fn landing_name(cx: StepContext<'_>, machine: &MachineName, clone: bool) -> InstanceName {
    if clone { InstanceName::clone_in(machine, &bubble_of(cx)) } else { InstanceName::live(machine) }
}

/// The point chosen in this run for the group of the machine.
fn chosen_point(cx: StepContext<'_>, machine: &MachineName) -> Result<PointId> {
    let group = cx.sheet.groups.values().find(|group| group.machines.contains(machine)).ok_or_else(|| {
        Failure::permanent(format!("machine `{machine}` is in no group of this runsheet, so it has no points"))
    })?;
    cx.point(group.name.as_str()).ok_or_else(|| {
        Failure::permanent(format!("no recovery point was chosen for group `{}` in this run", group.name))
            .help("see `muster log` for the step that picks it; `redo` that step, then this one")
    })
}
