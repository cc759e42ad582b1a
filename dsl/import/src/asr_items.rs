//! Protected items: what a machine is called, what it has, and what it becomes.

use crate::Notes;
use crate::arm::Resource;
use crate::asr_policy::details;
use crate::draft::MachineDraft;
use crate::json::{At, last_segment};
use std::net::Ipv4Addr;

/// One protected item, before it has a name here.
#[derive(Debug)]
pub(crate) struct Item {
    pub instance: String,
    pub friendly: String,
    /// The last segment of the policy's id, in lower case; or its friendly name.
    pub policy: Option<String>,
    /// Machines that share their points.
    pub consistency: Option<String>,
    pub fabric: Option<String>,
    pub machine: MachineDraft,
}

/// Disks of one machine; more is a mistake of the source.
const DISKS_MAX: usize = 256;

pub(crate) fn read(resource: &Resource, notes: &mut Notes) -> Item {
    let properties = resource.properties();
    let at = details(&properties);
    let friendly = properties.get("friendlyName").text().unwrap_or(&resource.name).to_owned();
    let policy = properties.get("policyId").text().map(|id| last_segment(id).to_lowercase());
    let policy = policy.or_else(|| properties.get("policyFriendlyName").text().map(str::to_lowercase));
    let shared = at.any(&["multiVmGroupName", "multiVmGroupId"]).text();
    let status = at.any(&["multiVmSyncStatus", "enableMultiVmSync", "multiVmGroupCreateOption"]);
    let off =
        status.text().is_some_and(|text| text.eq_ignore_ascii_case("Disabled") || text.eq_ignore_ascii_case("false"));
    let mut machine =
        MachineDraft { file: resource.file.clone(), path: resource.path.clone(), ..MachineDraft::default() };
    machine.disks = disks(&at, notes);
    machine.place = place(&at);
    card(&at, &mut machine, notes);
    Item {
        instance: at.get("instanceType").text().unwrap_or("").to_owned(),
        friendly,
        policy,
        consistency: shared.filter(|_| !off).map(str::to_owned),
        fabric: properties.get("primaryFabricFriendlyName").text().map(str::to_owned),
        machine,
    }
}

/// The disks that are protected, in whichever list their kind keeps them.
fn disks(at: &At<'_>, notes: &mut Notes) -> Vec<(String, Option<u64>)> {
    const LISTS: [&str; 6] = [
        "protectedDisks",
        "protectedManagedDisks",
        "diskDetails",
        "azureVmDiskDetails",
        "vMDiskDetails",
        "disksToInclude",
    ];
    let mut found: Vec<(String, Option<u64>)> = Vec::new();
    for list in LISTS {
        for disk in at.get(list).items(notes).into_iter().take(DISKS_MAX) {
            let name = disk.any(&["diskName", "vhdName", "name", "diskId", "vhdId"]).text();
            let name = last_segment(name.unwrap_or("disk")).replace('\\', "/");
            let name = last_segment(&name).to_owned();
            let bytes = disk.any(&["diskCapacityInBytes", "capacityInBytes", "sizeInBytes"]).number();
            let bytes = bytes.or_else(|| disk.any(&["maxSizeMB", "diskSizeMB"]).number()?.checked_mul(1 << 20));
            let mut unique = name.clone();
            let mut number = 2;
            while found.iter().any(|(known, _)| *known == unique) {
                unique = format!("{name}-{number}");
                number += 1;
            }
            found.push((unique, bytes.filter(|bytes| *bytes > 0)));
        }
        if !found.is_empty() {
            break;
        }
    }
    found
}

/// What it becomes in the cloud.
fn place(at: &At<'_>) -> Vec<(&'static str, String)> {
    let facts = [
        ("name", at.any(&["recoveryAzureVMName", "recoveryAzureVmName", "targetVmName"]).text()),
        ("size", at.any(&["recoveryAzureVMSize", "recoveryAzureVmSize", "targetVmSize"]).text()),
        (
            "resource-group",
            at.any(&["recoveryAzureResourceGroupId", "targetResourceGroupId", "recoveryResourceGroupId"])
                .text()
                .map(last_segment),
        ),
    ];
    facts.into_iter().filter_map(|(fact, value)| Some((fact, value?.to_owned()))).collect()
}

/// The first card: a machine here is declared with one.
fn card(at: &At<'_>, machine: &mut MachineDraft, notes: &mut Notes) {
    let all = at.any(&["vmNics", "vMNics"]).items(notes);
    if let Some(second) = all.get(1) {
        second.note(notes, "a machine declared in a text has one network card: pull the inventory to have them all");
    }
    let Some(card) = all.first() else {
        machine.ip = ip(at.get("ipAddress"), notes);
        return;
    };
    let settings = card.get("ipConfigs").items(notes);
    let first = settings.first().unwrap_or(card);
    let here = ["sourceIPAddress", "primaryNicStaticIPAddress", "staticIPAddress"];
    let there = ["targetIPAddress", "replicaNicStaticIPAddress", "recoveryStaticIPAddress"];
    machine.ip =
        ip(first.any(&here), notes).or_else(|| ip(card.any(&here), notes)).or_else(|| ip(at.get("ipAddress"), notes));
    machine.ip_there = ip(first.any(&there), notes).or_else(|| ip(card.any(&there), notes));
    let label =
        first.any(&["subnetName"]).text().or(card.any(&["vMNetworkName", "sourceNetworkName", "vMSubnetName"]).text());
    machine.label = label.map(str::to_owned);
    let label =
        first.any(&["recoverySubnetName"]).text().or(card.any(&["recoveryVMSubnetName", "targetSubnetName"]).text());
    machine.label_there = label.map(str::to_owned);
}

fn ip(at: At<'_>, notes: &mut Notes) -> Option<Ipv4Addr> {
    // Several are written one after the other.
    let text = at.text()?.split([',', ';']).next()?.trim();
    let found = text.parse().ok();
    if found.is_none() {
        at.note(notes, format!("`{}` is not an IPv4 address: left out", text.chars().take(40).collect::<String>()));
    }
    found
}
