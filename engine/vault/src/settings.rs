//! How a store is reached: credentials, region and endpoint, from a file and from the environment.
//!
//! The names are those that the tools of each provider know (`AWS_ACCESS_KEY_ID`, `AZURE_STORAGE_ACCOUNT_KEY`,
//! `GOOGLE_APPLICATION_CREDENTIALS`). A file serves services whose environment others may read; the environment wins.
//!
//! Architecture invariant: values are never shown. Only names appear in messages and in `Debug`.

use crate::error::VaultError;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Names the file with settings.
pub const SETTINGS_FILE_VARIABLE: &str = "MUSTER_STORE_FILE";

const FAMILIES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Largest file of settings, in bytes: a handful of names.
const SETTINGS_BYTES_MAX: u64 = 64 << 10;

/// Settings of object stores, by name.
#[derive(Clone, Default)]
pub struct StoreSettings {
    values: BTreeMap<String, Zeroizing<String>>,
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl StoreSettings {
    /// What the file that `MUSTER_STORE_FILE` names says, and then the environment of this process.
    pub fn from_environment() -> Result<Self, VaultError> {
        let mut settings = match std::env::var_os(SETTINGS_FILE_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::from_file(Path::new(&path))?,
            None => Self::default(),
        };
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
                settings.set(name, value);
            }
        }
        Ok(settings)
    }

    /// Lines of `NAME=value`; empty ones and those that begin with `#` do not count.
    pub fn from_file(path: &Path) -> Result<Self, VaultError> {
        let bad = |reason: String| VaultError::BadSettings { path: path.to_owned(), reason };
        let facts = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?;
        let mode = facts.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(bad(format!("it is open to other users (mode {mode:04o}), and may hold secrets")));
        }
        if facts.len() > SETTINGS_BYTES_MAX {
            return Err(bad(format!("it is larger than {SETTINGS_BYTES_MAX} bytes")));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?);
        let mut settings = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .strip_prefix("export ")
                .unwrap_or(line)
                .split_once('=')
                .ok_or_else(|| bad(format!("line {} is not `NAME=value`", number + 1)))?;
            if !settings.set(name.trim(), unquoted(value.trim())) {
                let families = FAMILIES.map(|family| format!("`{family}…`")).join(", ");
                return Err(bad(format!("line {} names no setting of a store ({families})", number + 1)));
            }
        }
        Ok(settings)
    }

    /// Whether it is a setting of a store.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let known = FAMILIES.iter().any(|family| name.starts_with(family));
        if known && !value.is_empty() {
            self.values.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
        }
        known
    }

    /// The same with one more setting.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// All of one provider, names in lower case as its client knows them.
    pub(crate) fn of<'a>(&'a self, family: &'static str) -> impl Iterator<Item = (String, &'a str)> {
        let mine = self.values.iter().filter(move |(name, _)| name.starts_with(family));
        mine.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }

    pub(crate) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.values.get(*name)).map(|value| value.as_str())
    }

    pub(crate) fn says_yes(&self, name: &str) -> bool {
        self.first(&[name]).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes"))
    }
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    fn file(text: &str, mode: u32) -> Result<StoreSettings, VaultError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        StoreSettings::from_file(file.path())
    }

    #[test]
    fn a_file_says_names_and_values() {
        let text = "# of the store\n\nexport AWS_ACCESS_KEY_ID=\"anna\"\nAWS_SECRET_ACCESS_KEY = hush=1\nAWS_REGION=\n";
        let settings = file(text, 0o600).unwrap();
        assert_eq!(settings.first(&["AWS_SECRET_ACCESS_KEY"]), Some("hush=1"));
        let mine: Vec<_> = settings.of("AWS_").collect();
        assert_eq!(mine, [("aws_access_key_id".into(), "anna"), ("aws_secret_access_key".into(), "hush=1")]);
        assert_eq!(format!("{settings:?}"), r#"{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}"#);
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused_without_its_values() {
        for (text, mode, reason) in [
            ("AWS_SECRET_ACCESS_KEY=hush", 0o644, "open to other users (mode 0644)"),
            ("AWS_SECRET_ACCESS_KEY hush", 0o600, "line 1 is not `NAME=value`"),
            ("\nSECRET=hush", 0o600, "line 2 names no setting of a store (`AWS_…`, `AZURE_…`, `GOOGLE_…`)"),
        ] {
            let error = file(text, mode).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
