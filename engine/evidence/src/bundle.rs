//! Break glass: everything that a run needs beside the binary and the key, in one file.
//!
//! It holds no secret: names of the keyring, never what lies below them. It holds no disk either: those are in the vault,
//! whose address it knows.

use muster_journal::RunSummary;
use muster_ports::Timestamp;
use muster_runsheet::{Hash, PlanState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// Fields may be added under it; none changes its meaning.
pub const BUNDLE_FORMAT: &str = "muster.bundle/1";
/// Files of plans that are taken in.
pub const FILES_MAX: usize = 10_000;

/// One file with what recovers an estate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`BUNDLE_FORMAT`].
    pub format: String,
    pub made: Timestamp,
    /// Version of the muster that made it.
    pub muster: String,
    pub vault: BundledVault,
    /// Plans, hooks, modules and the inventory, by path below their folder.
    pub files: BTreeMap<String, BundledFile>,
    /// Names in the keyring that logins and hooks ask for; the secrets themselves are to be brought.
    pub keyring: Vec<String>,
    /// Where each plan stood.
    pub plans: BTreeMap<String, PlanState>,
    pub runs: Vec<RunSummary>,
    /// Recovery points as `muster points --json` lists them.
    pub points: serde_json::Value,
    /// Records of the vault's catalogue, by key: groups, lineages, points.
    pub catalogue: BTreeMap<String, serde_json::Value>,
}

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledVault {
    /// Absolute.
    pub url: String,
    pub id: String,
}

/// A text with its hash, so that a damaged one is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledFile {
    /// BLAKE3.
    pub hash: Hash,
    pub text: String,
}

impl BundledFile {
    pub fn new(text: String) -> Self {
        Self { hash: Hash::of(&text), text }
    }
}

/// Why a bundle cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("it is no bundle: {0}")]
    Damaged(String),
    #[error("it has format `{0}`, this muster reads `{BUNDLE_FORMAT}`")]
    Format(String),
    #[error("its file `{0}` is not what was packed")]
    File(String),
    #[error("its file `{0}` would lie outside of its folder")]
    Outside(String),
}

impl Bundle {
    pub fn to_json(&self) -> String {
        // A bundle is plain data: nothing in it can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads a bundle whose signature was checked. Paths are checked once more: they become files.
    pub fn from_json(text: &str) -> Result<Self, BundleError> {
        let damaged = |error: serde_json::Error| BundleError::Damaged(error.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
        let format = value.get("format").and_then(|format| format.as_str()).unwrap_or("none");
        if format != BUNDLE_FORMAT {
            return Err(BundleError::Format(format.to_owned()));
        }
        let bundle: Self = serde_json::from_value(value).map_err(damaged)?;
        if bundle.files.len() > FILES_MAX {
            return Err(BundleError::Damaged(format!("it has more than {FILES_MAX} files")));
        }
        for (path, file) in &bundle.files {
            let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            if !inside || path.is_empty() {
                return Err(BundleError::Outside(path.clone()));
            }
            if Hash::of(&file.text) != file.hash {
                return Err(BundleError::File(path.clone()));
            }
        }
        Ok(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(path: &str) -> Bundle {
        Bundle {
            format: BUNDLE_FORMAT.to_owned(),
            made: Timestamp(1),
            muster: "0".to_owned(),
            vault: BundledVault { url: "file:///v".to_owned(), id: "00".to_owned() },
            files: BTreeMap::from([(path.to_owned(), BundledFile::new("edition 2026\n".to_owned()))]),
            keyring: vec!["vault/dns".to_owned()],
            plans: BTreeMap::from([("shop".to_owned(), PlanState::HOME)]),
            runs: Vec::new(),
            points: serde_json::json!([]),
            catalogue: BTreeMap::new(),
        }
    }

    #[test]
    fn a_bundle_reads_back_and_nothing_leaves_its_folder() {
        let good = bundle("hooks/dns.rhai");
        assert_eq!(Bundle::from_json(&good.to_json()), Ok(good));
        for path in ["../shop.plan", "/etc/shop.plan", "a/../../b.plan", ""] {
            assert_eq!(Bundle::from_json(&bundle(path).to_json()), Err(BundleError::Outside(path.to_owned())));
        }
        let mut changed = bundle("shop.plan");
        changed.files.get_mut("shop.plan").unwrap().text.push(' ');
        assert_eq!(Bundle::from_json(&changed.to_json()), Err(BundleError::File("shop.plan".to_owned())));
        let other = bundle("shop.plan").to_json().replace("bundle/1", "bundle/9");
        assert_eq!(Bundle::from_json(&other), Err(BundleError::Format("muster.bundle/9".to_owned())));
        assert!(matches!(Bundle::from_json("[]"), Err(BundleError::Format(_))));
    }
}
