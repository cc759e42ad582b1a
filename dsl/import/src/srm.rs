//! VMware Site Recovery Manager: priority groups to stages, dependencies to the order within them, prompts to approvals,
//! commands to hooks.

use crate::address::settle;
use crate::draft::{
    ActionDraft, Deed, Draft, GroupDraft, HookDraft, MachineDraft, PlanDraft, PolicyDraft, RouteDraft, SiteDraft,
    StageDraft, StartDraft, When,
};
use crate::names::{Names, common_word, slug};
use crate::print::{duration, print};
use crate::srm_read::{Callout, CalloutDeed, Export, Machine, Plan, Rule, read};
use crate::tree::of_json;
use crate::{Imported, Notes, Refusal, Source, json, xml};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// What is promised where nothing says how machines are replicated. Seconds.
const RPO_DEFAULT: u64 = 3600;

pub(crate) fn import(sources: &[Source]) -> Result<Imported, Refusal> {
    let mut notes = Notes::default();
    let mut export = Export::default();
    for source in sources {
        let is_json = source.text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with(['{', '[']);
        let root = if is_json { of_json("document", &json::parse(source)?, "$".into()) } else { xml::parse(source)? };
        let found = read(&source.name, &root, &mut notes);
        export.plans.extend(found.plans);
        export.networks.extend(found.networks);
        export.rules.extend(found.rules);
        for (known, found) in export.sites.iter_mut().zip(found.sites) {
            *known = known.take().or(found);
        }
    }
    let first = sources.first().map(|source| source.name.clone()).unwrap_or_default();
    if export.plans.is_empty() {
        return Err(Refusal {
            file: first,
            path: String::new(),
            what: "no recovery plan is here: an element `recoveryPlan` with a name was expected".into(),
            help: "export the configuration with the product's export tool, recovery plans included".into(),
        });
    }
    let mut import = Import {
        file: first.clone(),
        draft: Draft::default(),
        notes,
        names: Names::default(),
        rules: export.rules,
        placed: BTreeSet::new(),
    };
    let (from, to) = import.frame(&export.sites);
    for plan in &export.plans {
        import.plan(plan, &from, &to);
    }
    let Import { mut draft, mut notes, .. } = import;
    settle(&mut draft, &export.networks, &mut notes);
    let text = print(&draft).map_err(|said| Refusal {
        file: first,
        path: String::new(),
        what: format!("the plan that came out cannot be read back: {said}"),
        help: "this is a mistake of muster: please report it with the document".into(),
    })?;
    Ok(Imported { text, notes: notes.take() })
}

#[derive(Debug)]
struct Import {
    file: String,
    draft: Draft,
    notes: Notes,
    names: Names,
    rules: Vec<Rule>,
    placed: BTreeSet<String>,
}

impl Import {
    /// Sites, their route and the one policy.
    fn frame(&mut self, sites: &[Option<(String, Option<String>)>; 2]) -> (String, String) {
        self.draft.origin = "Brought over from VMware Site Recovery Manager.";
        let mut ends = Vec::new();
        for (found, role) in sites.iter().zip(["protected", "recovery"]) {
            if found.is_none() {
                self.notes.add(&self.file, "", format!("the {role} site is not named: it is called `{role}`"));
            }
            let (shown, address) = found.clone().unwrap_or_else(|| (role.to_owned(), None));
            let name = self.names.give(&shown, role);
            let login = self.names.give(&format!("{name}-login"), "login");
            let host = address.map(|address| host_of(&address)).filter(|host| !host.is_empty());
            let host = host.unwrap_or_else(|| {
                self.notes.add(
                    &self.file,
                    "",
                    format!("the vCenter of `{name}` is not known: write its address into `vsphere(…)`"),
                );
                format!("{name}.invalid")
            });
            self.draft.sites.push(SiteDraft {
                provider: format!("vsphere(\"{host}\", login = {login})"),
                word: "vsphere",
                was: format!("Site {shown}."),
                login: Some((login, format!("{name}/vcenter"))),
                networks: Vec::new(),
                name: name.clone(),
            });
            ends.push(name);
        }
        let (from, to) = (ends[0].clone(), ends[1].clone());
        self.notes.add(
            &self.file,
            "",
            "the vault of the route is a placeholder: choose a place that outlives the protected site",
        );
        self.draft.routes.push(RouteDraft {
            left: from.clone(),
            right: to.clone(),
            vault: "file:///var/lib/muster/vault".into(),
            pairs: Vec::new(),
            addresses: Vec::new(),
        });
        (from, to)
    }

    fn policy(&mut self, rpo_minutes: Option<u64>) -> String {
        let rpo = rpo_minutes.map_or(RPO_DEFAULT, |minutes| minutes * 60);
        let key = format!("policy {rpo}");
        if let Some(known) = self.names.known(&key) {
            return known.to_owned();
        }
        let name = self.names.of(&key, &format!("rpo-{}", duration(rpo)), "policy");
        let was = match rpo_minutes {
            Some(_) => "As vSphere Replication was asked for it.",
            None => {
                self.notes.add(
                    &self.file,
                    "",
                    format!("how machines are replicated is not in the export: `{name}` is a beginning"),
                );
                "A beginning: the export does not say how machines are replicated."
            }
        };
        self.draft.policies.push(PolicyDraft {
            name: name.clone(),
            was: was.into(),
            facts: vec![
                ("rpo", duration(rpo)),
                ("replicate", format!("every {}", duration((rpo / 4).clamp(30, 900)))),
                ("retain", "24h".into()),
            ],
        });
        name
    }

    fn plan(&mut self, plan: &Plan, from: &str, to: &str) {
        let name = self.names.give(&plan.name, "plan");
        let mut own: Vec<(&Machine, String)> = Vec::new();
        for machine in &plan.machines {
            if !self.placed.insert(machine.name.to_lowercase()) {
                self.notes.add(
                    &self.file,
                    &machine.path,
                    format!("`{}` is in two plans: it belongs to the first", machine.name),
                );
                continue;
            }
            let word = self.names.of(&format!("machine {}", machine.name.to_lowercase()), &machine.name, "machine");
            self.machine(machine, &word, from, to);
            own.push((machine, word));
        }
        if own.is_empty() {
            self.notes.add(&self.file, &plan.path, "the plan names no machine");
        }
        self.groups(&name, &own);
        let stages = self.stages(plan, &own);
        let mut was = format!("Recovery plan {}.", plan.name);
        if let Some(description) = &plan.description {
            was = format!("{was} {description}");
        }
        self.draft.plans.push(PlanDraft { name, was, from: from.to_owned(), to: to.to_owned(), stages });
    }

    fn machine(&mut self, machine: &Machine, word: &str, from: &str, to: &str) {
        let mut there = machine.ip_there;
        if let (None, Some(ip)) = (there, machine.ip) {
            there = self.rules.iter().find_map(|rule| carried(rule, ip));
        }
        self.notes.add(
            &self.file,
            &machine.path,
            format!("the disks of `{word}` are not in the export: `muster inventory pull` finds them"),
        );
        self.draft.machines.push(MachineDraft {
            name: word.to_owned(),
            was: (machine.name != word).then(|| machine.name.clone()),
            site: from.to_owned(),
            to: to.to_owned(),
            disks: vec![("disk-0".into(), None)],
            label: machine.network.clone(),
            ip: machine.ip,
            ip_there: there,
            file: self.file.clone(),
            path: machine.path.clone(),
            ..MachineDraft::default()
        });
    }

    /// By what is promised; machines that stay off are a group that no plan starts.
    fn groups(&mut self, plan: &str, own: &[(&Machine, String)]) {
        let mut groups: BTreeMap<(bool, String), Vec<String>> = BTreeMap::new();
        for (machine, word) in own {
            let policy = self.policy(machine.rpo_minutes);
            groups.entry((!machine.starts, policy)).or_default().push(word.clone());
            if !machine.starts {
                self.notes.add(
                    &self.file,
                    &machine.path,
                    format!("`{word}` is not powered on: it is replicated, and no plan starts it"),
                );
            }
        }
        let only = groups.keys().filter(|(off, _)| !off).count() == 1;
        for ((off, policy), machines) in groups {
            let wish = match (off, only) {
                (true, _) => format!("{plan}-left-off"),
                (false, true) => format!("{plan}-machines"),
                (false, false) => format!("{plan}-{policy}"),
            };
            let name = self.names.give(&wish, "group");
            self.draft.groups.push(GroupDraft { name, policy, machines, together: false });
        }
    }

    fn stages(&mut self, plan: &Plan, own: &[(&Machine, String)]) -> Vec<StageDraft> {
        let mut stages: Vec<(u8, StageDraft)> = Vec::new();
        let mut words = Names::in_plan();
        let mut labels: BTreeMap<u8, Names> = BTreeMap::new();
        for priority in 1..=5u8 {
            let group: Vec<&(&Machine, String)> =
                own.iter().filter(|(machine, _)| machine.priority == priority && machine.starts).collect();
            if group.is_empty() {
                continue;
            }
            let machines: Vec<String> = group.iter().map(|(_, word)| word.clone()).collect();
            let name = words.give(&common_word(&machines).unwrap_or_else(|| format!("priority-{priority}")), "stage");
            let names = labels.entry(priority).or_insert_with(Names::in_plan);
            let starts = self.levels(&group, own).into_iter().map(|level| self.start(&level, names)).collect();
            stages.push((priority, StageDraft { name, starts, ..StageDraft::default() }));
        }
        if stages.is_empty() && !plan.callouts.is_empty() {
            stages.push((0, StageDraft { name: words.give("steps", "steps"), ..StageDraft::default() }));
        }
        for callout in &plan.callouts {
            self.plan_step(callout, &mut stages, &mut labels);
        }
        for number in 1..stages.len() {
            let before = stages[number - 1].1.name.clone();
            stages[number].1.after = vec![before];
        }
        stages.into_iter().map(|(_, stage)| stage).collect()
    }

    /// A step of the plan itself, before the priority group that it names, or before the shutdown.
    fn plan_step(&mut self, callout: &Callout, stages: &mut [(u8, StageDraft)], labels: &mut BTreeMap<u8, Names>) {
        let position = &callout.position;
        let down = position.contains("shutdown") || position.contains("poweroff");
        let digit =
            position.chars().rev().find(char::is_ascii_digit).and_then(|digit| u8::try_from(digit.to_digit(10)?).ok());
        let index = match digit {
            _ if down => stages.len().checked_sub(1),
            Some(digit) => stages.iter().position(|(priority, _)| *priority >= digit),
            None => {
                self.notes.add(
                    &self.file,
                    &callout.path,
                    "where in the plan it stood is not understood: it runs before the first start",
                );
                Some(0)
            }
        };
        let Some((priority, stage)) = index.and_then(|index| stages.get_mut(index)) else {
            self.notes.add(&self.file, &callout.path, "it stood behind the last machine: left out");
            return;
        };
        let names = labels.entry(*priority).or_insert_with(Names::in_plan);
        let Some(action) = step(&mut self.draft, &mut self.notes, &mut self.names, &self.file, callout, false, names)
        else {
            return;
        };
        if down { stage.down_before.push(action) } else { stage.before.push(action) }
    }

    /// Machines of one priority by what they wait for: each level after the one before.
    fn levels<'m>(
        &mut self,
        group: &[&'m (&'m Machine, String)],
        own: &[(&Machine, String)],
    ) -> Vec<Vec<&'m (&'m Machine, String)>> {
        let find = |machine: &Machine, said: &str| {
            machine.name.eq_ignore_ascii_case(said) || (!machine.id.is_empty() && machine.id == said)
        };
        let mut waiting: Vec<&(&Machine, String)> = group.to_vec();
        let mut levels = Vec::new();
        for (machine, word) in group.iter().map(|one| (one.0, &one.1)) {
            for said in &machine.depends {
                match own.iter().find(|(other, _)| find(other, said)) {
                    Some((other, _)) if other.priority < machine.priority => {}
                    Some((other, other_word)) if other.priority > machine.priority => self.notes.add(
                        &self.file,
                        &machine.path,
                        format!("`{word}` depends on `{other_word}` of a later priority group: that was ignored, and is here too"),
                    ),
                    Some(_) => {}
                    None => self.notes.add(&self.file, &machine.path, format!("`{word}` depends on `{said}`, which is not in the plan")),
                }
            }
        }
        while !waiting.is_empty() {
            let waits = |machine: &Machine| {
                machine
                    .depends
                    .iter()
                    .any(|said| waiting.iter().any(|(other, _)| other.name != machine.name && find(other, said)))
            };
            let (mut ready, rest): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(|(machine, _)| !waits(machine));
            if ready.is_empty() {
                self.notes.add(
                    &self.file,
                    &rest[0].0.path,
                    "these machines depend on each other in a circle: they start side by side",
                );
                ready = rest.clone();
                waiting.clear();
            } else {
                waiting = rest;
            }
            levels.push(ready);
        }
        levels
    }

    fn start(&mut self, level: &[&(&Machine, String)], labels: &mut Names) -> StartDraft {
        let mut start =
            StartDraft { machines: level.iter().map(|(_, word)| word.clone()).collect(), ..StartDraft::default() };
        start.within_seconds = level.iter().filter_map(|(machine, _)| machine.within).max();
        for (machine, word) in level.iter().copied() {
            for (all, into) in [(&machine.before, &mut start.before), (&machine.behind, &mut start.behind)] {
                for callout in all {
                    into.extend(step(
                        &mut self.draft,
                        &mut self.notes,
                        &mut self.names,
                        &self.file,
                        callout,
                        true,
                        labels,
                    ));
                }
            }
            if let Some(seconds) = machine.delay {
                let label = labels.give(&format!("after-{word}"), "delay");
                start.behind.push(ActionDraft {
                    label,
                    deed: Deed::Wait { seconds },
                    when: When::ALWAYS,
                    within_seconds: None,
                });
            }
        }
        start
    }
}

/// A prompt or a command as a step.
fn step(
    draft: &mut Draft,
    notes: &mut Notes,
    names: &mut Names,
    file: &str,
    callout: &Callout,
    machines: bool,
    labels: &mut Names,
) -> Option<ActionDraft> {
    let when = When { test: callout.test, planned: callout.live, unplanned: callout.live, way: None };
    let deed = match &callout.deed {
        CalloutDeed::Prompt(text) => Deed::Approve(text.clone()),
        CalloutDeed::Command { text, inside } => {
            let key = format!("hook {text} {machines}");
            let known = names.known(&key).is_some();
            let hook = names.of(&key, &callout.name, "command");
            if !known {
                let place = if *inside { "inside the machine" } else { "on the server of the product" };
                notes.add(
                    file,
                    &callout.path,
                    format!("the command of `{hook}` ran {place}: the hook fails until it is written"),
                );
                draft.hooks.push(HookDraft {
                    name: hook.clone(),
                    was: format!("Ran {place}: {text}"),
                    todo: format!("{hook} is not written yet"),
                    machines,
                });
            }
            Deed::Run { hook, machines }
        }
    };
    let wish = match &deed {
        Deed::Run { hook, .. } if slug(&callout.name, "step") == *hook => hook.clone(),
        _ => callout.name.clone(),
    };
    Some(ActionDraft { label: labels.give(&wish, "step"), deed, when, within_seconds: callout.within })
}

fn carried(rule: &Rule, ip: Ipv4Addr) -> Option<Ipv4Addr> {
    let mask = (1u32 << (32 - rule.from.1)) - 1;
    let bits = u32::from(ip);
    (bits & !mask == rule.from.0).then(|| Ipv4Addr::from(rule.to.0 | (bits & mask)))
}

/// `https://vc.example.com:443/sdk` is `vc.example.com`.
fn host_of(address: &str) -> String {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split(['/', ':', '?']).next().unwrap_or("");
    host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect()
}
