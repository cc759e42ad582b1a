//! What is run: the plans that ship with the project, and small ones that are quick.

use muster_compiler::{CompileOptions, World};
use muster_ports::SiteName;
use muster_runsheet::{Direction, Estate, Kind, Operation, Runsheet};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One operation of one plan.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub estate: Arc<Estate>,
    pub sheet: Arc<Runsheet>,
    /// Quick enough to be run thousands of times.
    pub small: bool,
}

/// What has become of the source when an unplanned failover begins. In all other operations it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Well,
    /// Its machines have no power and it does not answer, for ever.
    Burnt,
    /// It does not answer as long as the run takes, and its machines run on.
    CutOff,
    /// As `CutOff`, and it is back when the storm is over.
    Back,
}

struct Folder(PathBuf);

impl World for Folder {
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(path)).ok()
    }
}

struct Text(BTreeMap<String, String>);

impl World for Text {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
}

/// Folders of `plans/`.
pub const SHIPPED: [&str; 8] = [
    "branch-to-cloud",
    "erp",
    "hyperv-second-site",
    "kubernetes",
    "office",
    "postgres-pair",
    "shop",
    "vmware-to-azure",
];

const SITES: &str = r#"edition 2026
site hq { provider = simulated("127.0.0.1:1"); network lan = 10.10.20.0/24 }
site dr { provider = simulated("127.0.0.1:2"); network lan = 10.60.20.0/24 }
route hq <-> dr {
  vault = "s3://dr-vault/small"
  lan <-> lan test isolated
}
machine one at hq { disks = [disk("os", 1GiB)]; network = lan; ip = 10.10.20.11; cpus = 1; memory = 1GiB }
machine two at hq { disks = [disk("os", 1GiB)]; network = lan; ip = 10.10.20.12; cpus = 1; memory = 1GiB }
policy gold { rpo = 15m; replicate = every 1m; retain = 1d }
team leads { members = ["a@example.com", "b@example.com", "c@example.com"]; quorum = 2 }
"#;

/// Small plans, by name, below [`SITES`]. Each is there for one or two words of the language.
const SMALL: [(&str, &str); 6] = [
    (
        "single",
        r#"group all { policy = gold; machines = [one] }
plan single {
  move = hq -> dr
  stage only { start one within 5m; check one tcp(22) within 2m }
}
"#,
    ),
    (
        "asking",
        r#"group all { policy = gold; machines = [one] }
hook flag(at: text) {
  needs = [http("https://flag.example.com")]
  body  = """ let r = http.put(`/flag`, #{ at: at }); if r.status >= 400 { throw fail("it said no"); } """
}
plan asking {
  move  = hq -> dr
  owner = leads
  stage only {
    start one within 5m
    approve "Send people to {target}?" by leads within 20m
    when live { run flag(at = "dr") within 2m retry 3 every 20s }
    notify leads "it runs at {target}"
  }
}
"#,
    ),
    (
        "together",
        r#"group all { policy = gold; machines = [one, two]; together = true }
plan together {
  move = hq -> dr
  stage only {
    parallel { start one within 5m; start two within 5m }
    wait 10m
    check one, two tcp(22) within 2m retry 2 every 10s
  }
}
"#,
    ),
    (
        "undoing",
        r#"group all { policy = gold; machines = [one] }
hook drain(to: text) {
  needs = [http("https://lb.example.com")]
  body  = """ let r = http.put(`/drain`, #{ to: to }); if r.status >= 400 { throw fail("it said no"); } """
  undo  = fill
}
hook fill(to: text) {
  needs = [http("https://lb.example.com")]
  body  = """ http.put(`/fill`, #{ to: to }); """
}
plan undoing {
  move = hq -> dr
  stage only {
    start one within 5m
    down { run drain(to = "nobody") within 2m when planned else undo }
  }
}
"#,
    ),
    (
        "going-on",
        r#"group first  { policy = gold; machines = [one] }
group second { policy = gold; machines = [two] }
plan going-on {
  move = hq -> dr
  stage front { start one within 5m else continue; check one tcp(22) within 1m else continue }
  stage rear after front { start two within 5m }
}
"#,
    ),
    (
        "in-turn",
        r#"group all { policy = gold; machines = [one, two] }
hook mark(m: machine) { needs = [guest]; body = """ m.exec(["/bin/mark"]); """ }
plan in-turn {
  move = hq -> dr
  stage only { start one, two in turn within 6m; run mark(m = two) within 2m }
}
"#,
    ),
];

fn plans(world: &dyn World, files: &[String], small: bool) -> Vec<Case> {
    let checked = muster_compiler::check(world, files);
    assert!(!checked.has_errors(), "{files:?}: {:#?}", checked.diagnostics);
    let estate = checked.estate.clone();
    let mut cases = Vec::new();
    for plan in &checked.plans {
        for kind in [Kind::Planned, Kind::Unplanned, Kind::Test] {
            let operation = Operation { kind, direction: Direction::Out };
            let sheet = checked.compile(plan.name.as_str(), operation, CompileOptions::default());
            let sheet = sheet.unwrap_or_else(|mistakes| panic!("{}: {mistakes:#?}", plan.name));
            let name = format!("{} {}", plan.name, kind.word());
            cases.push(Case { name, estate: estate.clone(), sheet: Arc::new(sheet), small });
        }
    }
    cases
}

/// Every operation that is legal from home, of one folder of `plans/`.
pub fn shipped(folder: &str) -> Vec<Case> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans").join(folder);
    let names = std::fs::read_dir(&place).expect("the folder of a plan").flatten();
    let mut files: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    files.retain(|name| name.ends_with(".plan") && !name.ends_with(".test.plan"));
    files.sort();
    plans(&Folder(place), &files, false)
}

/// Every operation that is legal from home, of the small plans.
pub fn small() -> Vec<Case> {
    let of = |(name, text): &(&str, &str)| {
        let file = format!("{name}.plan");
        let texts = BTreeMap::from([(file.clone(), format!("{SITES}{text}"))]);
        plans(&Text(texts), &[file], true)
    };
    SMALL.iter().flat_map(of).collect()
}

impl Case {
    pub fn kind(&self) -> Kind {
        self.sheet.operation.kind
    }
    pub fn sites(&self) -> Vec<SiteName> {
        self.estate.sites.keys().cloned().collect()
    }
}
