//! An estate of any size, written as its owners would: one folder a plan, one file each for its machines, its groups and
//! the plan itself, and one file for the sites and policies that all of them use.
//!
//! The texts are a function of the size alone: the same size gives the same bytes, so that figures can be compared.

use muster_compiler::World;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Hosts of a /24 behind its network and gateway addresses.
const MACHINES_A_NETWORK: usize = 100;
/// Networks of one site that fit `10.x.y.0/24` beside each other.
const NETWORKS_MAX: usize = 256;

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// At most 256: each has a network of its own.
    pub plans: usize,
    /// At most 100 a plan, which is what one of its networks holds here.
    pub machines_a_plan: usize,
}

impl Size {
    /// The estate whose check has to be fast: 10,000 machines in 100 plans.
    pub const LARGE: Self = Self { plans: 100, machines_a_plan: 100 };
}

/// Texts in memory, as the compiler reads them.
#[derive(Clone, Debug, Default)]
pub struct Estate(pub BTreeMap<String, String>);

impl World for Estate {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
    fn folder(&self) -> Option<String> {
        Some("/plans".to_owned())
    }
}

impl Estate {
    /// The estate of this size; what is too large for its networks is cut off.
    pub fn new(size: Size) -> Self {
        let size = Size {
            plans: size.plans.min(NETWORKS_MAX),
            machines_a_plan: size.machines_a_plan.clamp(4, MACHINES_A_NETWORK),
        };
        let mut texts = BTreeMap::from([("sites.plan".to_owned(), sites(size))]);
        for plan in 0..size.plans {
            let folder = format!("p{plan:03}");
            texts.insert(format!("{folder}/machines.plan"), machines(plan, size));
            texts.insert(format!("{folder}/groups.plan"), groups(plan, size));
            texts.insert(format!("{folder}/{folder}.plan"), plan_text(plan, size));
        }
        Self(texts)
    }

    pub fn files(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Those of the files that are plans.
    pub fn plans(&self) -> Vec<String> {
        self.0.keys().filter(|path| path.ends_with(".plan")).cloned().collect()
    }

    pub fn lines(&self) -> usize {
        self.0.values().map(|text| text.lines().count()).sum()
    }
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

fn sites(size: Size) -> String {
    let mut text = String::from("edition 2026\n\n");
    for (site, port, net) in [("hq", 7301, 10), ("dr", 7302, 60)] {
        put(&mut text, format_args!("site {site} {{\n  provider = simulated(\"127.0.0.1:{port}\")"));
        for plan in 0..size.plans {
            put(&mut text, format_args!("  network n{plan:03} = 10.{net}.{plan}.0/24"));
        }
        text.push_str("}\n\n");
    }
    text.push_str("route hq <-> dr {\n  vault = \"file:///var/lib/muster/estate\"\n");
    for plan in 0..size.plans {
        put(&mut text, format_args!("  n{plan:03} <-> n{plan:03} test isolated"));
    }
    text.push_str("}\n\nwindow office = mon-fri 08:00-18:00 Europe/Amsterdam\n");
    for (policy, rpo, cycle) in [("gold", "5m", "30s"), ("silver", "30m", "5m")] {
        put(
            &mut text,
            format_args!(
                "\npolicy {policy} {{\n  rpo       = {rpo}\n  replicate = every {cycle}\n  snapshot  = every 1h app-consistent\n  \
                 retain    = 24h, every 1h for 7d\n  bandwidth = 400Mbit/s when office\n  bandwidth = 2Gbit/s\n}}"
            ),
        );
    }
    text.push_str("\nteam leads {\n  members = [\"oncall@example.com\", \"lead@example.com\"]\n  quorum  = 1\n}\n");
    text.push_str(
        "\nhook swing(zone: text, to: ip) {\n  needs = [http(\"https://dns.example.com\")]\n  body  = \"\"\"\n    \
         let answer = http.put(`/zones/${zone}/a`, #{ address: to.to_string() });\n    \
         if answer.status >= 400 { throw fail(`dns said ${answer.status}`); }\n  \"\"\"\n}\n",
    );
    text
}

fn machine_name(plan: usize, machine: usize) -> String {
    format!("m-{plan:03}-{machine:03}")
}

fn machines(plan: usize, size: Size) -> String {
    let mut text = format!("edition 2026\nuse ../sites {{ hq }}\n\n## The machines of plan {plan}.\n");
    for machine in 0..size.machines_a_plan {
        put(
            &mut text,
            format_args!(
                "machine {} at hq {{\n  disks   = [disk(\"root\", 20GiB), disk(\"data\", 100GiB)]\n  network = n{plan:03}\n  ip      = 10.10.{plan}.{}\n}}",
                machine_name(plan, machine),
                machine + 10,
            ),
        );
    }
    text
}

/// Database, application and web: a tenth, four tenths and the rest, in groups of at most ten.
fn tiers(size: Size) -> [(&'static str, std::ops::Range<usize>); 3] {
    let (db, app) = ((size.machines_a_plan / 10).max(1), size.machines_a_plan / 2);
    [("db", 0..db), ("app", db..app), ("web", app..size.machines_a_plan)]
}

fn tens(range: &std::ops::Range<usize>) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + use<> {
    let range = range.clone();
    range.clone().step_by(10).map(move |first| first..(first + 10).min(range.end)).enumerate()
}

fn names(plan: usize, machines: std::ops::Range<usize>) -> String {
    machines.map(|machine| machine_name(plan, machine)).collect::<Vec<_>>().join(", ")
}

fn groups(plan: usize, size: Size) -> String {
    let mut text = String::from("edition 2026\nuse ../sites { gold, silver }\n");
    for (tier, range) in tiers(size) {
        for (number, ten) in tens(&range) {
            let (policy, together) = if tier == "db" { ("gold", "\n  together = true") } else { ("silver", "") };
            put(
                &mut text,
                format_args!(
                    "\ngroup {tier}-{plan:03}-{number} {{\n  policy   = {policy}\n  machines = [{}]{together}\n}}",
                    names(plan, ten)
                ),
            );
        }
    }
    text
}

fn plan_text(plan: usize, size: Size) -> String {
    let mut text = String::from("edition 2026\nuse ../sites { hq, dr, leads, swing }\n");
    put(&mut text, format_args!("\n## Application {plan}: three tiers and a door.\nplan p{plan:03} {{"));
    text.push_str("  move  = hq -> dr\n  rto   = 4h\n  rpo   = 30m\n  owner = leads\n  point = latest-app when test\n");
    let mut before = String::new();
    for (tier, range) in tiers(size) {
        put(&mut text, format_args!("\n  stage {tier}{before} {{"));
        for (number, ten) in tens(&range) {
            let machines = names(plan, ten);
            let label = format!("{tier}-{number}");
            put(&mut text, format_args!("    start {machines} within 8m"));
            put(&mut text, format_args!("    check {machines} tcp(22) within 3m retry 3 every 20s as {label}"));
        }
        text.push_str("    wait 30s when live\n  }\n");
        before = format!(" after {tier}");
    }
    put(&mut text, format_args!("\n  stage doors{before} {{\n    when live {{"));
    text.push_str("      approve \"Send customers to {target}?\" by leads within 15m usually 4m\n");
    put(
        &mut text,
        format_args!(
            "      run swing(zone = \"p{plan:03}.example.com\", to = 10.10.{plan}.{})",
            size.machines_a_plan + 9
        ),
    );
    text.push_str("      notify leads \"now at {target}\"\n    }\n  }\n}\n");
    text
}
