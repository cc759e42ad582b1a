//! Secrets in scripts: values that host calls can open and nothing else can, and the keyring they lie in.
//!
//! A script holds a [`SecretRef`]: a name. It can hand it to `http`, `dns`, `mail`, `exec` and `put`; it cannot print it,
//! join it to a text or compare it. The journal gets the name. What a reply echoes is blotted out before the script
//! and the journal see it.

use crate::limits::SECRET_BYTES_MAX;
use muster_ports::{Failure, Result};
use serde_json::{Value as Json, json};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The folder with one file for each key, when the environment names none.
const KEYRING_FOLDER: &str = "/etc/muster/keyring";
const KEYRING_VARIABLE: &str = "MUSTER_KEYRING";
/// `MUSTER_SECRET_DR_DNS_TOKEN` holds `dr/dns-token`.
const SECRET_VARIABLE: &str = "MUSTER_SECRET_";
/// What stands in place of a secret.
const BLOT: &str = "***";
/// Bytes of a secret below which it is not searched for in replies: blotting out every `a` hides nothing.
const BLOT_BYTES_MIN: usize = 4;

/// A secret as a script holds it: by name in the plans and key in the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    pub name: String,
    pub key: String,
}

/// An opened secret; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }
    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BLOT)
    }
}

/// A text of which parts are secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sealed(pub(crate) Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Plain(String),
    Secret(SecretRef),
}

impl Sealed {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self(vec![Part::Plain(text.into())])
    }

    /// The text, when no part of it is secret.
    pub(crate) fn as_plain(&self) -> Option<String> {
        let mut whole = String::new();
        for part in &self.0 {
            let Part::Plain(text) = part else { return None };
            whole.push_str(text);
        }
        Some(whole)
    }

    /// As it is hashed and journaled: secrets by their names.
    pub(crate) fn json(&self) -> Json {
        match self.as_plain() {
            Some(text) => text.into(),
            None => self
                .0
                .iter()
                .map(|part| match part {
                    Part::Plain(text) => json!(text),
                    Part::Secret(secret) => json!({ "secret": secret.name }),
                })
                .collect(),
        }
    }
}

/// Puts blots in place of every opened secret.
pub(crate) fn blot_text(text: &str, opened: &[Hidden]) -> String {
    let worth = opened.iter().filter(|secret| secret.reveal().len() >= BLOT_BYTES_MIN);
    worth.fold(text.to_owned(), |text, secret| text.replace(secret.reveal(), BLOT))
}

/// The same for every text inside.
pub(crate) fn blot(json: &mut Json, opened: &[Hidden]) {
    match json {
        Json::String(text) => *text = blot_text(text, opened),
        Json::Array(items) => items.iter_mut().for_each(|item| blot(item, opened)),
        Json::Object(fields) => fields.values_mut().for_each(|field| blot(field, opened)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Reads a key of the engine's keyring: a variable of the environment, else a file of the keyring's folder. What cannot be
/// read is E0802.
pub fn read_keyring(key: &str) -> Result<Hidden> {
    open_key(key).map_err(|failure| Failure { message: format!("{} (E0802)", failure.message), ..failure })
}

fn open_key(key: &str) -> Result<Hidden> {
    let good = |part: &str| !part.is_empty() && !part.starts_with('.');
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if !key.split('/').all(good) || !key.chars().all(letters) {
        return Err(Failure::permanent(format!("`{key}` is not a key of a keyring")));
    }
    let variable = variable_of(key);
    if let Ok(text) = std::env::var(&variable) {
        return trimmed(key, text);
    }
    let folder = std::env::var_os(KEYRING_VARIABLE).map_or_else(|| PathBuf::from(KEYRING_FOLDER), PathBuf::from);
    read_file(key, &folder.join(key), &variable)
}

fn variable_of(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("{SECRET_VARIABLE}{}", key.chars().map(letter).collect::<String>())
}

fn read_file(key: &str, path: &Path, variable: &str) -> Result<Hidden> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let facts = std::fs::metadata(path).map_err(|error| {
        Failure::permanent(format!("the keyring has no `{key}`: {shown}: {error}"))
            .help(format!("put the secret into that file with mode 600, or into the variable `{variable}`"))
    })?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::refused(format!("others can read {shown}: its mode is {mode:o}"))
            .help(format!("chmod 600 {shown}, and change the secret if somebody may have read it")));
    }
    if facts.len() > SECRET_BYTES_MAX {
        return Err(Failure::permanent(format!("{shown} is larger than {SECRET_BYTES_MAX} bytes (limit `secret`)")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| Failure::permanent(format!("{shown}: {error}")))?;
    trimmed(key, text)
}

/// Without the line break that editors leave at the end.
fn trimmed(key: &str, mut text: String) -> Result<Hidden> {
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
    if text.is_empty() {
        return Err(Failure::permanent(format!("`{key}` of the keyring is empty")));
    }
    Ok(Hidden::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Hidden::new("hunter22")), "***");
        let opened = [Hidden::new("hunter22"), Hidden::new("a")];
        let mut reply = json!({ "body": "you said hunter22, a lot", "list": ["hunter22"] });
        blot(&mut reply, &opened);
        assert_eq!(reply, json!({ "body": "you said ***, a lot", "list": ["***"] }));
    }

    #[test]
    fn sealed_texts_are_hashed_by_name() {
        let secret = SecretRef { name: "token".into(), key: "dr/token".into() };
        let sealed = Sealed(vec![Part::Plain("Bearer ".into()), Part::Secret(secret)]);
        assert_eq!(sealed.json(), json!(["Bearer ", { "secret": "token" }]));
        assert_eq!(Sealed::plain("x").json(), json!("x"));
    }

    #[test]
    fn the_keyring_refuses_what_others_can_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(read_file("token", &path, "V").unwrap().reveal(), "s3cret");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let refused = read_file("token", &path, "V").unwrap_err();
        assert!(refused.message.contains("640"), "{refused}");
        assert!(!refused.message.contains("s3cret"));
        assert!(read_file("none", &folder.path().join("none"), "V").is_err());
        for unreadable in ["../etc/shadow", "nobody/has-this-one"] {
            let failure = read_keyring(unreadable).unwrap_err();
            assert!(failure.message.ends_with("(E0802)"), "{failure}");
        }
        assert_eq!(variable_of("dr/dns-token"), "MUSTER_SECRET_DR_DNS_TOKEN");
    }
}
