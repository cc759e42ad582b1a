//! Replication policies of each provider in the words of a policy here.

use crate::Notes;
use crate::arm::Resource;
use crate::draft::PolicyDraft;
use crate::json::At;
use crate::print::duration;

/// What the service warns at by default when a policy names no threshold. Seconds.
const RPO_DEFAULT: u64 = 15 * 60;
/// What the service keeps and makes by default: a day of points, one every five minutes, one frozen every hour. Seconds.
const RETAIN_DEFAULT: u64 = 24 * 3600;
const CRASH_DEFAULT: u64 = 5 * 60;
/// Replication of Hyper-V runs in cycles of this where a policy names none. Seconds.
const CYCLE_DEFAULT: u64 = 5 * 60;
/// What stands for a replication that follows each write. Seconds.
const CYCLE_FOLLOWING: u64 = 30;
/// No interval of a source is longer; what is longer is a mistake in it. Seconds.
const LONGEST: u64 = 366 * 86_400;

/// Where the settings of a policy stand: in a template, in an answer, in an update.
pub(crate) fn details<'v>(properties: &At<'v>) -> At<'v> {
    properties.any(&["providerSpecificDetails", "providerSpecificInput", "replicationProviderSettings"])
}

/// `InMageAzureV2`, in the letters of the service.
pub(crate) fn instance(resource: &Resource) -> String {
    details(&resource.properties()).get("instanceType").text().unwrap_or("").to_owned()
}

/// What all kinds say in the end. Seconds; zero where there is none.
#[derive(Debug)]
struct Figures {
    rpo: Option<u64>,
    cycle: u64,
    app: u64,
    crash: u64,
    retain: u64,
    offline: bool,
}

/// The policy under its new name.
pub(crate) fn policy(resource: &Resource, name: String, notes: &mut Notes) -> PolicyDraft {
    let properties = resource.properties();
    let at = details(&properties);
    let kind = at.get("instanceType").text().unwrap_or("");
    let figures = match kind {
        "HyperVReplicaAzure" => hyperv_azure(&at, notes),
        "HyperVReplica2012"
        | "HyperVReplica2012R2"
        | "HyperVReplicaBluePolicyDetails"
        | "HyperVReplicaBasePolicyDetails" => hyperv_site(&at, notes),
        "A2A" | "InMageAzureV2" | "InMageRcm" | "InMageRcmFailback" | "InMage" | "VMwareCbt" => following(&at, notes),
        other => {
            let what =
                if other.is_empty() { "it does not say of which kind it is" } else { "its kind is not known here" };
            at.get("instanceType").note(notes, format!("{what}: read as one that follows writes"));
            following(&at, notes)
        }
    };
    let friendly = properties.get("friendlyName").text().unwrap_or(&resource.name).to_owned();
    PolicyDraft { name, was: format!("Policy {friendly} ({kind})."), facts: facts(figures, &at, notes) }
}

/// What stands where nothing says which policy holds: the service's own defaults.
pub(crate) fn defaults(name: String) -> PolicyDraft {
    let facts = vec![
        ("rpo", duration(RPO_DEFAULT)),
        ("replicate", format!("every {}", duration(CYCLE_FOLLOWING))),
        ("snapshot", format!("every {} crash-consistent", duration(CRASH_DEFAULT))),
        ("retain", duration(RETAIN_DEFAULT)),
    ];
    PolicyDraft { name, was: "The defaults of the service: no policy was among the documents.".into(), facts }
}

fn facts(figures: Figures, at: &At<'_>, notes: &mut Notes) -> Vec<(&'static str, String)> {
    let least = figures.cycle;
    let rpo = match figures.rpo {
        Some(rpo) if rpo >= least => rpo,
        Some(rpo) => {
            at.note(notes, format!("a threshold of {} is shorter than the cycle: written as the cycle", duration(rpo)));
            least
        }
        None => {
            let rpo = RPO_DEFAULT.max(least);
            at.note(
                notes,
                format!(
                    "the policy promises nothing: `rpo = {}` is the default threshold of the service",
                    duration(rpo)
                ),
            );
            rpo
        }
    };
    let longest = figures.app.max(figures.crash);
    let retain = match figures.retain {
        0 => longest.max(CRASH_DEFAULT),
        retain => retain,
    };
    if figures.retain < longest {
        at.note(
            notes,
            format!("points would be dropped before the next is made: kept for {} instead", duration(longest)),
        );
    }
    let mut snapshots = Vec::new();
    if figures.app > 0 {
        snapshots.push(format!("every {} app-consistent", duration(figures.app)));
    }
    if figures.crash > 0 {
        snapshots.push(format!("every {} crash-consistent", duration(figures.crash)));
    }
    let mut facts = vec![("rpo", duration(rpo))];
    facts.push(("replicate", format!("every {}", duration(figures.cycle))));
    if !snapshots.is_empty() {
        facts.push(("snapshot", snapshots.join(", ")));
    }
    facts.push(("retain", duration(retain.max(longest))));
    if figures.offline {
        facts.push(("initial-copy", "offline".to_owned()));
    }
    facts
}

/// A number of units in seconds; zero where there is none.
fn seconds(at: &At<'_>, names: &[&str], unit: u64, notes: &mut Notes) -> Option<u64> {
    let value = at.any(names);
    if value.is_null() {
        return None;
    }
    match value.number().map(|number| number.saturating_mul(unit)) {
        Some(seconds) if seconds <= LONGEST => Some(seconds),
        Some(_) => {
            value.note(notes, "longer than a year: left out");
            None
        }
        None => {
            value.note(notes, format!("a number was expected, this is {}: left out", crate::json::kind(value.value)));
            None
        }
    }
}

fn following(at: &At<'_>, notes: &mut Notes) -> Figures {
    let cycle = duration(CYCLE_FOLLOWING);
    at.note(notes, format!("the service follows each write: here a cycle brings them every {cycle}"));
    let minutes = |names: &[&str], notes: &mut Notes| seconds(at, names, 60, notes);
    Figures {
        rpo: minutes(&["recoveryPointThresholdInMinutes"], notes).filter(|rpo| *rpo > 0),
        cycle: CYCLE_FOLLOWING,
        app: minutes(&["appConsistentFrequencyInMinutes"], notes).unwrap_or(0),
        crash: minutes(&["crashConsistentFrequencyInMinutes"], notes).unwrap_or(0),
        retain: minutes(&["recoveryPointHistoryInMinutes", "recoveryPointHistory"], notes).unwrap_or(RETAIN_DEFAULT),
        offline: false,
    }
}

fn hyperv_azure(at: &At<'_>, notes: &mut Notes) -> Figures {
    unsaid(at, notes, &[("storageAccounts", "where points live is said by the vault of the route")]);
    start_time(at, notes);
    if at.get("encryption").text().is_some_and(|text| text.eq_ignore_ascii_case("Disable")) {
        at.get("encryption").note(notes, "what lies in a vault is always encrypted here");
    }
    let hours = |names: &[&str], notes: &mut Notes| seconds(at, names, 3600, notes);
    let history = ["recoveryPointHistoryDurationInHours", "recoveryPointHistoryDuration"];
    Figures {
        rpo: None,
        cycle: seconds(at, &["replicationInterval", "replicationFrequencyInSeconds"], 1, notes)
            .unwrap_or(CYCLE_DEFAULT)
            .max(1),
        app: hours(&["applicationConsistentSnapshotFrequencyInHours"], notes).unwrap_or(0),
        crash: 0,
        retain: hours(&history, notes).unwrap_or(RETAIN_DEFAULT),
        offline: false,
    }
}

fn hyperv_site(at: &At<'_>, notes: &mut Notes) -> Figures {
    const ELSEWHERE: &str = "how sites trust and reach each other is a matter of their agents";
    unsaid(
        at,
        notes,
        &[
            ("replicationPort", ELSEWHERE),
            ("allowedAuthenticationType", ELSEWHERE),
            ("offlineReplicationImportPath", "the way of a seed is chosen when it is made: `initial-copy = offline`"),
            ("offlineReplicationExportPath", "the way of a seed is chosen when it is made: `initial-copy = offline`"),
        ],
    );
    start_time(at, notes);
    let compression = at.get("compression");
    if compression.text().is_some_and(|text| text.eq_ignore_ascii_case("Disable")) {
        compression.note(notes, "data always travels compressed here");
    }
    if at.get("replicaDeletion").text().is_some_and(|text| text.eq_ignore_ascii_case("Required")) {
        at.get("replicaDeletion").note(notes, "replicas are taken away by hand when protection ends");
    }
    let method = at.any(&["initialReplicationMethod"]);
    let offline = method
        .text()
        .is_some_and(|text| !text.eq_ignore_ascii_case("OverNetwork") && !text.eq_ignore_ascii_case("Online"));
    // Its further points come every hour.
    let points = at.get("recoveryPoints").number().unwrap_or(0).min(24 * 366);
    Figures {
        rpo: None,
        cycle: seconds(at, &["replicationFrequencyInSeconds"], 1, notes).unwrap_or(CYCLE_DEFAULT).max(1),
        app: seconds(at, &["applicationConsistentSnapshotFrequencyInHours"], 3600, notes).unwrap_or(0),
        crash: 0,
        retain: points.max(1) * 3600,
        offline,
    }
}

fn start_time(at: &At<'_>, notes: &mut Notes) {
    let start = at.any(&["onlineReplicationStartTime"]);
    if start.text().is_some() {
        start.note(notes, "the hour of the first copy cannot be said: give `bandwidth = none when …` a window instead");
    }
}

fn unsaid(at: &At<'_>, notes: &mut Notes, facts: &[(&str, &str)]) {
    for (name, why) in facts {
        let value = at.get(name);
        let empty =
            value.value.as_array().is_some_and(Vec::is_empty) || value.value.as_str().is_some_and(str::is_empty);
        if !value.is_null() && !empty {
            value.note(notes, *why);
        }
    }
}
