//! Texts in memory, and diagnostics as short text.

#![allow(dead_code)] // each test binary uses its part
#![allow(unreachable_pub)] // shared by `mod common`
#![allow(clippy::unwrap_used, clippy::panic)] // a helper of tests

use muster_compiler::{Checked, World, check};
use muster_runsheet::{
    Capabilities, DiskFacts, INVENTORY_FORMAT, Inventory, MachineFacts, NicShape, Power, SiteInventory,
};
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Debug, Default)]
pub struct Texts(pub BTreeMap<String, String>);

impl World for Texts {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
    fn folder(&self) -> Option<String> {
        Some("/plans".into())
    }
}

impl Texts {
    pub fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.into());
        self
    }
    /// All files below a folder of this crate's tests.
    pub fn folder(name: &str) -> Self {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
        let mut texts = Self::default();
        let mut waiting = vec![root.clone()];
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                    texts.0.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        texts
    }
    pub fn check(&self, files: &[&str]) -> Checked {
        check(self, &files.iter().map(ToString::to_string).collect::<Vec<_>>())
    }
}

/// An inventory of `hq` with machines `name network ip`.
pub fn inventory(machines: &[(&str, &str, &str)]) -> String {
    let facts = |(number, (name, network, ip)): (usize, &(&str, &str, &str))| MachineFacts {
        name: (*name).into(),
        cpus: 1,
        memory_bytes: 256 << 20,
        disks: vec![DiskFacts { name: "root".into(), size_bytes: 2 << 30 }],
        nics: vec![NicShape {
            network: (*network).into(),
            mac: format!("52:54:00:00:00:{number:02x}"),
            ip: Some(ip.parse().unwrap()),
        }],
        power: Power::On,
        guest_agent: true,
        churn_bytes_per_second: 0,
        churn: None,
        containers: BTreeMap::new(),
        tags: Vec::new(),
    };
    let hq = SiteInventory {
        pulled_at: 0,
        provider: "qemu".into(),
        capabilities: Capabilities::default(),
        machines: machines.iter().enumerate().map(facts).collect(),
        aliases: BTreeMap::new(),
    };
    let inventory = Inventory { format: INVENTORY_FORMAT.into(), sites: BTreeMap::from([("hq".into(), hq)]) };
    serde_json::to_string(&inventory).unwrap()
}

pub fn shop() -> Texts {
    Texts::folder("shop").with(
        "inventory.json",
        &inventory(&[
            ("sql-01", "data", "10.10.20.11"),
            ("sql-02", "data", "10.10.20.12"),
            ("app-01", "app", "10.10.30.11"),
            ("app-02", "app", "10.10.30.12"),
            ("web-01", "web", "10.10.40.11"),
            ("web-02", "web", "10.10.40.12"),
            ("redis-01", "app", "10.10.30.21"),
        ]),
    )
}

/// One line a span, with the source it covers.
pub fn said(checked: &Checked) -> String {
    let mut out = String::new();
    for diagnostic in &checked.diagnostics {
        let mut label = |mark: &str, span: muster_diagnostics::Span, text: &str| {
            let file = checked.sources.get(span.file).unwrap();
            let (line, column) = checked.sources.position(span.file, span.start);
            let covered = file.text.get(span.start as usize..span.end as usize).unwrap();
            let covered = covered.lines().next().unwrap_or("");
            writeln!(out, "{mark} {}:{line}:{column} `{covered}`: {text}", file.path).unwrap();
        };
        label(
            &format!("{} {}\n   ", diagnostic.code, diagnostic.message),
            diagnostic.primary.span,
            &diagnostic.primary.text,
        );
        for related in &diagnostic.related {
            label("    +", related.span, &related.text);
        }
        for note in &diagnostic.notes {
            writeln!(out, "    = {note}").unwrap();
        }
        if let Some(help) = &diagnostic.help {
            writeln!(out, "    help: {help}").unwrap();
        }
    }
    out
}
