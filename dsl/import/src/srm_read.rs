//! What an export of Site Recovery Manager says: plans, machines with their recovery settings, sites and mappings.
//!
//! The names are those of the product's documented recovery settings (priority, dependent machines, steps before and after
//! power-on, startup action). Where they stand in a document differs between its versions and tools, so they are looked
//! for wherever they may be.

use crate::Notes;
use crate::tree::{Part, plain, seconds};
use std::net::Ipv4Addr;

const PLANS: [&str; 2] = ["recoveryplan", "recoveryplans"];
const GROUPS: [&str; 2] = ["protectiongroup", "protectiongroups"];
const MACHINES: [&str; 8] = [
    "vm",
    "vms",
    "virtualmachine",
    "virtualmachines",
    "protectedvm",
    "protectedvms",
    "protectedvirtualmachine",
    "protectedvirtualmachines",
];
/// Machines without a priority stand in the middle.
const PRIORITY_DEFAULT: u8 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Callout {
    pub name: String,
    pub deed: CalloutDeed,
    pub within: Option<u64>,
    pub test: bool,
    pub live: bool,
    /// Before which step of the plan, as it says itself.
    pub position: String,
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CalloutDeed {
    Prompt(String),
    Command { text: String, inside: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub name: String,
    pub id: String,
    pub priority: u8,
    pub depends: Vec<String>,
    pub before: Vec<Callout>,
    pub behind: Vec<Callout>,
    pub starts: bool,
    pub delay: Option<u64>,
    pub within: Option<u64>,
    pub ip: Option<Ipv4Addr>,
    pub ip_there: Option<Ipv4Addr>,
    pub network: Option<String>,
    pub rpo_minutes: Option<u64>,
    pub path: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub name: String,
    pub description: Option<String>,
    pub machines: Vec<Machine>,
    pub callouts: Vec<Callout>,
    pub path: String,
}

/// A rule that carries the addresses of one range over to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub from: (u32, u8),
    pub to: (u32, u8),
}

#[derive(Debug, Default)]
pub(crate) struct Export {
    pub plans: Vec<Plan>,
    pub networks: Vec<(String, String)>,
    pub rules: Vec<Rule>,
    /// Name and address of the protected site, then of the recovery site.
    pub sites: [Option<(String, Option<String>)>; 2],
}

pub(crate) fn read(file: &str, root: &Part, notes: &mut Notes) -> Export {
    let mut export = Export::default();
    let mut plans = Vec::new();
    if root.is(&PLANS) && root.get(&["name"]).is_some() {
        plans.push(root);
    } else {
        root.all(&PLANS, &mut plans);
    }
    let mut groups = Vec::new();
    root.all(&GROUPS, &mut groups);
    let groups: Vec<&Part> = groups.into_iter().filter(|group| has_machines(group)).collect();
    for part in plans {
        if part.say(&["name"]).is_none() {
            notes.add(file, &part.path, "a recovery plan without a name: left out");
            continue;
        }
        export.plans.push(plan(file, part, &groups, notes));
    }
    mappings(file, root, &mut export, notes);
    let site = |names: &[&str]| {
        let mut found = Vec::new();
        root.all(names, &mut found);
        let part = found.into_iter().find(|part| part.word().is_some())?;
        let address = part.say(&["vcenter", "vcenterserver", "vcenterurl", "vcserver", "address", "host"]);
        Some((part.word()?.to_owned(), address.map(str::to_owned)))
    };
    export.sites = [
        site(&["protectedsite", "localsite", "primarysite", "sourcesite"]),
        site(&["recoverysite", "remotesite", "secondarysite", "pairedsite", "targetsite"]),
    ];
    export
}

fn has_machines(group: &Part) -> bool {
    let mut found = Vec::new();
    group.all(&MACHINES, &mut found);
    !found.is_empty()
}

fn plan(file: &str, part: &Part, groups: &[&Part], notes: &mut Notes) -> Plan {
    let mut own = Vec::new();
    part.all(&MACHINES, &mut own);
    // Those of its protection groups, which may be described elsewhere in the document.
    let named: Vec<&str> = part.items(&GROUPS).into_iter().filter_map(Part::word).collect();
    for group in groups.iter().filter(|group| group.word().is_some_and(|name| named.contains(&name))) {
        let mut theirs = Vec::new();
        group.all(&MACHINES, &mut theirs);
        own.extend(theirs.into_iter().filter(|part| !own_has(&own, part)).collect::<Vec<_>>());
    }
    let machines = own.into_iter().filter_map(|part| machine(file, part, notes)).collect();
    let mut callouts = Vec::new();
    for step in part.items(&["callouts", "callout", "steps", "recoverysteps", "customsteps"]) {
        callouts.extend(callout(file, step, notes));
    }
    Plan {
        name: part.say(&["name"]).unwrap_or_default().to_owned(),
        description: part.say(&["description"]).map(str::to_owned),
        machines,
        callouts,
        path: part.path.clone(),
    }
}

fn own_has(own: &[&Part], part: &Part) -> bool {
    part.word().is_some() && own.iter().any(|known| known.word() == part.word())
}

fn machine(file: &str, part: &Part, notes: &mut Notes) -> Option<Machine> {
    let Some(name) = part.say(&["name", "vmname"]).or_else(|| part.word()) else {
        notes.add(file, &part.path, "a machine without a name: left out");
        return None;
    };
    let settings = part.get(&["recoverysettings", "vmrecoverysettings", "settings"]);
    let say = |names: &[&str]| part.say(names).or_else(|| settings?.say(names));
    let items = |names: &[&str]| {
        let mut all = part.items(names);
        all.extend(settings.map(|settings| settings.items(names)).unwrap_or_default());
        all
    };
    let priority = say(&["recoverypriority", "priority", "prioritygroup"]);
    let number = priority.map_or(Some(PRIORITY_DEFAULT), priority_of).unwrap_or_else(|| {
        notes.add(
            file,
            &part.path,
            format!("`{}` is no priority from 1 to 5: read as 3", priority.unwrap_or_default()),
        );
        PRIORITY_DEFAULT
    });
    let action = say(&["startupaction", "finalpowerstate"]).map(plain).unwrap_or_default();
    let before = items(&["prepoweroncallouts", "prepoweronsteps", "prepoweroncommands"]);
    let behind = items(&["postpoweroncallouts", "postpoweronsteps", "postpoweroncommands"]);
    let mut steps = |all: Vec<&Part>| all.into_iter().filter_map(|step| callout(file, step, notes)).collect::<Vec<_>>();
    let (before, behind) = (steps(before), steps(behind));
    if say(&["shutdownaction"]).map(plain).is_some_and(|action| action.contains("poweroff"))
        || say(&["skipguestshutdown"]) == Some("true")
    {
        notes.add(
            file,
            &part.path,
            format!("`{name}` was switched off without asking its guest: here it is asked first"),
        );
    }
    let (ip, ip_there) = addresses(part);
    let depends = items(&["dependentvms", "dependentvmids", "dependencies", "dependsonvms"]);
    Some(Machine {
        name: name.to_owned(),
        id: part.say(&["id", "vmid", "moref"]).unwrap_or_default().to_owned(),
        priority: number,
        depends: depends
            .into_iter()
            .filter_map(|vm| vm.say(&["name"]).or_else(|| vm.word()).or_else(|| vm.say(&["id"])))
            .map(str::to_owned)
            .collect(),
        before,
        behind,
        starts: !(action.contains("donotpoweron") || action.contains("poweredoff") || action == "off"),
        delay: say(&["powerondelayseconds", "powerondelay"]).and_then(seconds).filter(|delay| *delay > 0),
        within: say(&["powerontimeoutseconds", "powerontimeout"]).and_then(seconds).filter(|within| *within > 0),
        ip,
        ip_there,
        network: part.say(&["network", "protectednetwork", "portgroup"]).map(str::to_owned),
        rpo_minutes: say(&["rpominutes", "rpo"])
            .and_then(|rpo| rpo.parse().ok())
            .filter(|rpo| (1..=10_080).contains(rpo)),
        path: part.path.clone(),
    })
}

/// `P1`, `PRIORITY1`, `1`, `highest`.
fn priority_of(text: &str) -> Option<u8> {
    const WORDS: [(&str, u8); 6] =
        [("highest", 1), ("high", 2), ("medium", 3), ("normal", 3), ("low", 4), ("lowest", 5)];
    let word = plain(text);
    if let Some((_, number)) = WORDS.iter().find(|(known, _)| *known == word || format!("{known}priority") == word) {
        return Some(*number);
    }
    let digits = word.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().ok().filter(|number| (1..=5).contains(number))
}

fn callout(file: &str, part: &Part, notes: &mut Notes) -> Option<Callout> {
    let prompt = part.say(&["prompttext", "prompt", "message"]);
    let command = part.say(&["command", "commandtext", "content", "commandcontent", "path"]);
    let kind = part.say(&["type", "callouttype", "steptype"]).map(plain).unwrap_or_default();
    let text = part.say(&["description"]);
    let inside = part.say(&["runinrecoveredvm", "runinvm"]) == Some("true") || kind.contains("vm");
    let deed = match (prompt, command) {
        (Some(prompt), _) => CalloutDeed::Prompt(prompt.to_owned()),
        (None, Some(command)) if kind.contains("prompt") => CalloutDeed::Prompt(command.to_owned()),
        (None, Some(command)) => CalloutDeed::Command { text: command.to_owned(), inside },
        (None, None) if kind.contains("prompt") && text.is_some() => {
            CalloutDeed::Prompt(text.unwrap_or_default().to_owned())
        }
        (None, None) => {
            notes.add(
                file,
                &part.path,
                "a step that neither asks nor runs anything: the product's own, or not understood; left out",
            );
            return None;
        }
    };
    let mode = part.say(&["runin", "mode", "operation", "view", "scheme"]).map(plain).unwrap_or_default();
    let (test, live) = match mode.as_str() {
        "" | "both" | "all" | "any" => (true, true),
        mode => (mode.contains("test"), !mode.contains("test")),
    };
    let name = part.say(&["name"]).or(text).unwrap_or(match &deed {
        CalloutDeed::Prompt(_) => "prompt",
        CalloutDeed::Command { .. } => "command",
    });
    Some(Callout {
        name: name.chars().take(80).collect(),
        deed,
        within: part
            .say(&["timeoutinseconds", "timeoutseconds", "timeout"])
            .and_then(seconds)
            .filter(|time| (1..=2_592_000).contains(time)),
        test,
        live,
        position: part
            .say(&["position", "calloutpositionbefore", "beforestep", "positionbefore", "stepid"])
            .map(plain)
            .unwrap_or_default(),
        path: part.path.clone(),
    })
}

/// The first address at home, and the first behind a customisation for the other site.
fn addresses(part: &Part) -> (Option<Ipv4Addr>, Option<Ipv4Addr>) {
    fn first(part: &Part) -> Option<Ipv4Addr> {
        if part.is(&["ipaddress", "ip", "ipv4address"])
            && let Ok(ip) = part.text.trim().parse()
        {
            return Some(ip);
        }
        part.parts.iter().find_map(first)
    }
    const THERE: [&str; 6] = [
        "ipcustomization",
        "ipcustomizationsettings",
        "nicsettings",
        "recoveryip",
        "recoveryipsettings",
        "recoverysettings",
    ];
    let (there, here): (Vec<&Part>, Vec<&Part>) = part.parts.iter().partition(|part| part.is(&THERE));
    (here.into_iter().find_map(first), there.into_iter().find_map(first))
}

fn mappings(file: &str, root: &Part, export: &mut Export, notes: &mut Notes) {
    const FROM: [&str; 8] = [
        "protectednetwork",
        "primarynetwork",
        "localnetwork",
        "sourcenetwork",
        "protectedobject",
        "localobject",
        "local",
        "source",
    ];
    const TO: [&str; 8] = [
        "recoverynetwork",
        "secondarynetwork",
        "remotenetwork",
        "targetnetwork",
        "recoveryobject",
        "remoteobject",
        "remote",
        "target",
    ];
    let mut found = Vec::new();
    root.all(&["networkmapping", "networkmappings"], &mut found);
    for part in found {
        match (part.say(&FROM), part.say(&TO)) {
            (Some(from), Some(to)) => export.networks.push((from.to_owned(), to.to_owned())),
            _ => notes.add(file, &part.path, "a mapping that does not name both networks: left out"),
        }
        if let Some(test) =
            part.get(&["testnetwork"]).filter(|test| test.word().is_some_and(|word| !plain(word).contains("isolated")))
        {
            notes.add(
                file,
                &test.path,
                "drills are isolated here; for a network of their own write `test NAME` in the route",
            );
        }
    }
    let mut found = Vec::new();
    root.all(
        &["subnetrule", "ipsubnetrule", "ipmappingrule", "ipsubnetmapping", "ipsubnetmappingrule", "subnetmapping"],
        &mut found,
    );
    for part in found {
        let range = |names: &[&str]| part.say(names).and_then(range_of);
        match (
            range(&["protectedsubnet", "sourcesubnet", "primarysubnet", "localsubnet"]),
            range(&["recoverysubnet", "targetsubnet", "secondarysubnet", "remotesubnet"]),
        ) {
            (Some(from), Some(to)) if from.1 == to.1 => export.rules.push(Rule { from, to }),
            _ => notes.add(file, &part.path, "two subnets of one size were expected, as `10.0.0.0/24`: left out"),
        }
    }
    let mut others = Vec::new();
    root.all(
        &[
            "foldermapping",
            "foldermappings",
            "resourcemapping",
            "resourcemappings",
            "placeholderdatastore",
            "placeholderdatastores",
            "storagepolicymapping",
        ],
        &mut others,
    );
    if let Some(first) = others.first() {
        notes.add(file, &first.path, "folders, resource pools and placeholders of machines are said by `place … at … { folder = …; resource-pool = … }`");
    }
}

fn range_of(text: &str) -> Option<(u32, u8)> {
    let (address, prefix) = text.trim().split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix))?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    (address & ((1u32 << (32 - prefix)) - 1) == 0).then_some((address, prefix))
}
