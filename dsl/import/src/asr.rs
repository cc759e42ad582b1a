//! Azure Site Recovery: fabrics to sites, policies to policies, protected items to machines and groups, plans to plans.

use crate::address::settle;
use crate::arm::{Resource, resources};
use crate::asr_items::{Item, read};
use crate::asr_policy::{defaults, instance, policy};
use crate::draft::{Draft, GroupDraft, MachineDraft, RouteDraft, SiteDraft};
use crate::json::{At, behind, last_segment};
use crate::names::{Names, slug};
use crate::print::print;
use crate::{Imported, Notes, Refusal, Source, asr_plan};
use std::collections::{BTreeMap, BTreeSet};

/// The recovery fabric that is no fabric.
const AZURE: &str = "microsoft azure";

pub(crate) fn import(sources: &[Source]) -> Result<Imported, Refusal> {
    let mut notes = Notes::default();
    let all = resources(sources, &mut notes)?;
    let plans: Vec<&Resource> = all.iter().filter(|resource| resource.kind == "replicationrecoveryplans").collect();
    if plans.is_empty() {
        let kinds: BTreeSet<&str> = all.iter().map(|resource| resource.kind.as_str()).collect();
        return Err(Refusal {
            file: sources.first().map(|source| source.name.clone()).unwrap_or_default(),
            path: "$".into(),
            what: format!(
                "no recovery plan is here, only {}",
                kinds.into_iter().take(5).collect::<Vec<_>>().join(", ")
            ),
            help: "give the recovery plan too: a template with `replicationRecoveryPlans`, or the answer of its GET"
                .into(),
        });
    }
    let mut import = Import::new(&all, notes);
    for plan in plans {
        import.plan(plan);
    }
    import.rest();
    let Import { mut draft, mut notes, mapped, .. } = import;
    settle(&mut draft, &mapped, &mut notes);
    let first = sources.first().map(|source| source.name.as_str()).unwrap_or_default();
    let text = print(&draft).map_err(|said| Refusal {
        file: first.to_owned(),
        path: "$".into(),
        what: format!("the plan that came out cannot be read back: {said}"),
        help: "this is a mistake of muster: please report it with the document".into(),
    })?;
    Ok(Imported { text, notes: notes.take() })
}

/// The work of one import.
#[derive(Debug)]
pub(crate) struct Import<'r> {
    pub all: &'r [Resource],
    pub draft: Draft,
    pub notes: Notes,
    pub names: Names,
    /// Networks of one side by those of the other, as their sites call them.
    mapped: Vec<(String, String)>,
    /// Protected items by the last segment of their id, in lower case; those no plan has named yet.
    items: BTreeMap<String, Item>,
    /// Machines that a plan has, by the same.
    pub placed: BTreeMap<String, String>,
}

impl<'r> Import<'r> {
    fn new(all: &'r [Resource], mut notes: Notes) -> Self {
        let mut items = BTreeMap::new();
        let mut mapped = Vec::new();
        for resource in all {
            match resource.kind.as_str() {
                "replicationprotecteditems" => {
                    items.insert(resource.name.to_lowercase(), read(resource, &mut notes));
                }
                "replicationnetworkmappings" => mapped.extend(mapping(resource)),
                "replicationrecoveryplans" | "replicationpolicies" | "replicationfabrics" | "vaults" => {}
                "replicationprotectioncontainers"
                | "replicationprotectioncontainermappings"
                | "replicationnetworks" => {}
                other => {
                    resource.at().note(&mut notes, format!("a resource of kind `{other}` has no counterpart here"))
                }
            }
        }
        let draft = Draft { origin: "Brought over from Azure Site Recovery.", ..Draft::default() };
        Self { all, draft, notes, names: Names::default(), mapped, items, placed: BTreeMap::new() }
    }

    fn plan(&mut self, resource: &Resource) {
        let properties = resource.properties();
        let kind = self.kind_of_plan(resource);
        let from = self.site(&properties, "primaryFabricId", "primaryFabricFriendlyName", &kind, true);
        let to = self.site(&properties, "recoveryFabricId", "recoveryFabricFriendlyName", &kind, false);
        let to = if from == to { self.twin(&properties, &from) } else { to };
        if properties.get("failoverDeploymentModel").text().is_some_and(|model| model.eq_ignore_ascii_case("Classic")) {
            properties
                .get("failoverDeploymentModel")
                .note(&mut self.notes, "classic deployments are gone: read as Resource Manager");
        }
        for zone in ["primaryZone", "recoveryZone"] {
            for details in properties.any(&["providerSpecificInput", "providerSpecificDetails"]).items(&mut self.notes)
            {
                let zone = details.get(zone);
                if zone.text().is_some() {
                    zone.note(&mut self.notes, "zones are said of each machine: `place … { zone = … }`");
                }
            }
        }
        self.route(resource, &from, &to);
        asr_plan::plan(self, resource, &from, &to);
    }

    /// The kind of replication that a plan is about: what it says itself, its items, or the one policy there is.
    fn kind_of_plan(&mut self, resource: &Resource) -> String {
        let properties = resource.properties();
        let said = properties.get("replicationProviders").items(&mut self.notes);
        let details = properties.any(&["providerSpecificInput", "providerSpecificDetails"]).items(&mut self.notes);
        let said = said.first().and_then(At::text).or_else(|| details.first()?.get("instanceType").text());
        if let Some(said) = said {
            return said.to_owned();
        }
        let mut of_items = asr_plan::keys(resource, &mut self.notes).into_iter();
        if let Some(kind) =
            of_items.find_map(|key| Some(self.items.get(&key)?.instance.clone())).filter(|kind| !kind.is_empty())
        {
            return kind;
        }
        let policies: BTreeSet<String> = self.policies().map(instance).collect();
        match policies.iter().next() {
            Some(kind) if policies.len() == 1 => kind.clone(),
            _ => {
                resource.at().note(&mut self.notes, "it does not say what it replicates: read as machines of vSphere");
                "InMageRcm".to_owned()
            }
        }
    }

    fn policies(&self) -> impl Iterator<Item = &'r Resource> + use<'r> {
        self.all.iter().filter(|resource| resource.kind == "replicationpolicies")
    }

    /// The site behind a fabric, made where it is met first.
    fn site(&mut self, properties: &At<'_>, id: &str, friendly: &str, kind: &str, primary: bool) -> String {
        let at = properties.get(id);
        let name = at.text().map(last_segment).unwrap_or("");
        if name.is_empty() {
            at.note(&mut self.notes, "the plan does not say this end: a site of that role stands in its place");
        }
        let fallback = if primary { "primary" } else { "recovery" };
        let name = if name.is_empty() { fallback } else { name };
        let key = format!("site {}", name.to_lowercase());
        if let Some(known) = self.names.known(&key) {
            return known.to_owned();
        }
        let azure = name.eq_ignore_ascii_case(AZURE);
        let fabric =
            self.all.iter().find(|known| known.kind == "replicationfabrics" && known.name.eq_ignore_ascii_case(name));
        let fabric_kind = fabric.map(fabric_kind);
        let shown = fabric.and_then(|fabric| fabric.properties().get("friendlyName").text().map(str::to_owned));
        let shown =
            shown.or_else(|| properties.get(friendly).text().map(str::to_owned)).unwrap_or_else(|| name.to_owned());
        let word = match (azure, fabric_kind.as_deref()) {
            (true, _) => "azure",
            (_, Some("VMM" | "HyperVSite")) => "hyperv",
            (_, Some("VMware" | "VMwareV2" | "InMageRcm")) => "vsphere",
            (_, Some("Azure")) => "azure",
            _ if kind == "A2A" => "azure",
            _ if kind.starts_with("HyperV") => "hyperv",
            _ => "vsphere",
        };
        let short = if azure { "azure".to_owned() } else { shown.clone() };
        let site = self.names.of(&key, &short, fallback);
        let place = fabric
            .and_then(|fabric| fabric.properties().get("customDetails").get("location").text().map(str::to_owned));
        let place = place.or_else(|| azure.then(|| self.location()).flatten());
        let login = self.names.give(&format!("{site}-login"), "login");
        let address = match (word, place) {
            ("azure", Some(place)) => slug(&place, "region"),
            ("azure", None) => {
                at.note(&mut self.notes, format!("the region of `{site}` is not known: write it into `azure(…)`"));
                "name-the-region".to_owned()
            }
            _ => {
                at.note(&mut self.notes, format!("the address of `{site}` is not known: write it into `{word}(…)`"));
                format!("{site}.invalid")
            }
        };
        self.draft.sites.push(SiteDraft {
            provider: format!("{word}(\"{address}\", login = {login})"),
            word,
            was: format!("Fabric {shown}."),
            login: Some((login, format!("{site}/login"))),
            networks: Vec::new(),
            name: site.clone(),
        });
        site
    }

    /// The region of the vault, when a vault is among the documents.
    fn location(&self) -> Option<String> {
        let vault = self.all.iter().find(|resource| resource.kind == "vaults")?;
        vault.at().get("location").text().map(str::to_owned)
    }

    /// From one zone of a region to another: two sites, although one fabric.
    fn twin(&mut self, properties: &At<'_>, from: &str) -> String {
        let key = format!("twin {from}");
        if let Some(known) = self.names.known(&key) {
            return known.to_owned();
        }
        properties.get("recoveryFabricId").note(&mut self.notes, "both ends are one fabric: they are two sites here");
        let name = self.names.of(&key, &format!("{from}-recovery"), "recovery");
        let login = self.names.give(&format!("{name}-login"), "login");
        if let Some(site) = self.draft.sites.iter().find(|site| site.name == from).cloned() {
            let old = site.login.as_ref().map(|(old, _)| old.clone()).unwrap_or_default();
            let provider = site.provider.replace(&format!("login = {old}"), &format!("login = {login}"));
            let login = Some((login, format!("{name}/login")));
            self.draft.sites.push(SiteDraft { name: name.clone(), provider, login, networks: Vec::new(), ..site });
        }
        name
    }

    fn route(&mut self, resource: &Resource, from: &str, to: &str) {
        let joins =
            |route: &RouteDraft| (route.left == from && route.right == to) || (route.left == to && route.right == from);
        if self.draft.routes.iter().any(joins) {
            return;
        }
        let vault = behind(&resource.id, "vaults").map(str::to_owned).or_else(|| {
            let name = resource.at().get("name").text()?;
            name.split_once('/').map(|(vault, _)| vault.to_owned())
        });
        let vault = slug(&vault.unwrap_or_default(), "vault");
        self.notes.add(
            &resource.file,
            &resource.path,
            format!(
                "the vault of `{from} <-> {to}` is a placeholder: recovery points of the service cannot be taken over"
            ),
        );
        self.draft.routes.push(RouteDraft {
            left: from.to_owned(),
            right: to.to_owned(),
            vault: format!("file:///var/lib/muster/{vault}"),
            pairs: Vec::new(),
            addresses: Vec::new(),
        });
    }

    /// The machine behind an entry of a group of a plan. `None` when another plan has it.
    pub(crate) fn machine(&mut self, entry: &At<'_>, from: &str, to: &str) -> Option<(String, GroupKey)> {
        let key = asr_plan::key(entry)?;
        if self.placed.contains_key(&key) {
            entry.note(
                &mut self.notes,
                "the machine is in another plan or group already: it is recovered there, and only there",
            );
            return None;
        }
        let item = self.items.remove(&key);
        let machine_id = entry.get("virtualMachineId").text().map(last_segment);
        let shown = item.as_ref().map(|item| item.friendly.clone()).or_else(|| machine_id.map(str::to_owned));
        let shown = shown.unwrap_or_else(|| key.clone());
        let guid = shown.len() == 36 && shown.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if guid {
            entry.note(&mut self.notes, "only an id of the machine is known: give `replicationProtectedItems` too");
        }
        let wish = if guid { format!("machine-{}", shown.get(..8).unwrap_or("")) } else { shown.clone() };
        let name = self.names.of(&format!("machine {key}"), &wish, "machine");
        let group = GroupKey::of(item.as_ref(), self);
        let mut machine = item.map(|item| item.machine).unwrap_or_default();
        if machine.file.is_empty() {
            (machine.file, machine.path) = (entry.file.to_owned(), entry.path.clone());
        }
        self.finish(&mut machine, &name, &shown, from, to);
        self.draft.machines.push(machine);
        self.placed.insert(key, name.clone());
        Some((name, group))
    }

    fn finish(&mut self, machine: &mut MachineDraft, name: &str, shown: &str, from: &str, to: &str) {
        machine.name = name.to_owned();
        machine.was = (shown != name).then(|| shown.to_owned());
        (machine.site, machine.to) = (from.to_owned(), to.to_owned());
        if machine.disks.is_empty() {
            self.notes.add(
                &machine.file,
                &machine.path,
                format!("the disks of `{name}` are not known: `muster inventory pull` finds them"),
            );
            machine.disks.push(("disk-0".into(), None));
        }
        let becomes = self.draft.sites.iter().find(|site| site.name == to).is_some_and(|site| site.word == "azure");
        if !becomes {
            machine.place.clear();
        }
    }

    /// The policy by the word an item names it with.
    pub(crate) fn policy(&mut self, said: Option<&str>) -> String {
        let named = |resource: &&Resource| {
            let friendly = resource.properties().get("friendlyName").text().map(str::to_lowercase);
            said.is_some_and(|said| resource.name.to_lowercase() == said || friendly.as_deref() == Some(said))
        };
        let only = || {
            let mut all = self.policies();
            all.next().filter(|_| all.next().is_none())
        };
        let Some(found) = self.policies().find(named).or_else(only) else {
            let known = self.names.known("policy").is_some();
            let name = self.names.of("policy", "asr-defaults", "policy");
            if !known {
                self.notes.add("", "", "machines whose policy is not among the documents got the defaults of the service: give `replicationPolicies` too");
                self.draft.policies.push(defaults(name.clone()));
            }
            return name;
        };
        let key = format!("policy {}", found.name.to_lowercase());
        if let Some(known) = self.names.known(&key) {
            return known.to_owned();
        }
        let name = self.names.of(&key, &found.name, "policy");
        let draft = policy(found, name.clone(), &mut self.notes);
        self.draft.policies.push(draft);
        name
    }

    /// One group for each policy and each set of machines that share their points.
    pub(crate) fn groups(&mut self, plan: &str, members: Vec<(String, GroupKey)>) {
        let mut groups: BTreeMap<GroupKey, Vec<String>> = BTreeMap::new();
        for (machine, key) in members {
            groups.entry(key).or_default().push(machine);
        }
        let only = groups.len() == 1;
        for (key, machines) in groups {
            let wish = match &key.consistency {
                Some(shared) => shared.clone(),
                None if only => format!("{plan}-machines"),
                None => format!("{plan}-{}", key.policy),
            };
            let name = self.names.give(&wish, "group");
            self.draft.groups.push(GroupDraft {
                name,
                policy: key.policy,
                machines,
                together: key.consistency.is_some(),
            });
        }
    }

    /// Policies that nothing uses, and protected machines that no plan names.
    fn rest(&mut self) {
        let items = std::mem::take(&mut self.items);
        let mut members = Vec::new();
        let ends = self.draft.routes.first().map(|route| (route.left.clone(), route.right.clone()));
        for (key, item) in items {
            let Some((from, to)) = &ends else { break };
            self.notes.add(
                &item.machine.file,
                &item.machine.path,
                format!("`{}` is protected, but in no recovery plan", item.friendly),
            );
            let fabric =
                item.fabric.as_ref().and_then(|fabric| self.names.known(&format!("site {}", fabric.to_lowercase())));
            let route = self.draft.routes.iter().find(|route| Some(route.left.as_str()) == fabric);
            let (from, to) =
                route.map_or((from.clone(), to.clone()), |route| (route.left.clone(), route.right.clone()));
            let name = self.names.of(&format!("machine {key}"), &item.friendly, "machine");
            let group = GroupKey { consistency: None, ..GroupKey::of(Some(&item), self) };
            let mut machine = item.machine;
            self.finish(&mut machine, &name, &item.friendly, &from, &to);
            self.draft.machines.push(machine);
            members.push((name, group));
        }
        self.groups("unplanned", members);
        for resource in self.policies().collect::<Vec<_>>() {
            self.policy(Some(&resource.name.to_lowercase()));
        }
    }
}

/// What puts two machines into one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    policy: String,
    consistency: Option<String>,
}

impl GroupKey {
    fn of(item: Option<&Item>, import: &mut Import<'_>) -> Self {
        let policy = import.policy(item.and_then(|item| item.policy.as_deref()));
        Self { policy, consistency: item.and_then(|item| item.consistency.clone()) }
    }
}

fn fabric_kind(fabric: &Resource) -> String {
    fabric.properties().get("customDetails").get("instanceType").text().unwrap_or("").to_owned()
}

/// The names of a network at both ends.
fn mapping(resource: &Resource) -> Option<(String, String)> {
    let properties = resource.properties();
    let name = |friendly: &str, id: &str| {
        let friendly = properties.get(friendly).text().map(str::to_owned);
        friendly.or_else(|| properties.get(id).text().map(|id| last_segment(id).to_owned()))
    };
    let from = name("primaryNetworkFriendlyName", "primaryNetworkId");
    Some((from?, name("recoveryNetworkFriendlyName", "recoveryNetworkId")?))
}
