//! Sources from the fixtures, and what the check says of what came out.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses its part

use muster_compiler::{Checked, World, check};
use muster_import::{Imported, Source};
use std::fmt::Write;
use std::path::Path;

pub const ASR: [(&str, &[&str]); 6] = [
    ("vmware-to-azure", &["vmware-to-azure.json", "vmware-to-azure.parameters.json", "vmware-items.json"]),
    ("hyperv-to-azure", &["hyperv-to-azure.json", "hyperv-policy.json"]),
    ("hyperv-site-to-site", &["hyperv-site-to-site.json"]),
    ("azure-to-azure", &["azure-to-azure.json"]),
    ("InMageAzureV2", &["InMageAzureV2.json"]),
    ("InMage", &["InMage.json"]),
];
pub const SRM: [(&str, &[&str]); 2] = [("srm-export", &["srm-export.xml"]), ("srm-rest", &["srm-rest.json"])];

pub fn sources(files: &[&str]) -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    files.iter().map(|file| Source::new(*file, std::fs::read_to_string(folder.join(file)).unwrap())).collect()
}

struct One<'t>(&'t str);

impl World for One<'_> {
    fn read(&self, path: &str) -> Option<String> {
        (path == "imported.plan").then(|| self.0.to_owned())
    }
}

pub fn checked(text: &str) -> Checked {
    check(&One(text), &["imported.plan".to_owned()])
}

/// The errors of a text, one a line.
pub fn errors(checked: &Checked) -> String {
    let mut out = String::new();
    for found in checked.diagnostics.iter().filter(|found| found.is_error()) {
        let (line, _) = checked.sources.position(found.primary.span.file, found.primary.span.start);
        writeln!(out, "{} line {line}: {}", found.code, found.message).unwrap();
    }
    out
}

pub fn shown(imported: &Imported) -> String {
    let mut out = imported.text.clone();
    writeln!(out, "---").unwrap();
    for note in &imported.notes {
        writeln!(out, "{} {}\n    {}", note.file, note.path, note.text).unwrap();
    }
    out
}
