//! Which control writer commands a site.
//!
//! A control process that was frozen and replaced may have sent an order before it froze, and the order may still be on
//! its way. Every order says by which writer of which vault it was given: the fencing epoch, which rises with every
//! take-over. The agent remembers the highest epoch it has seen of each vault, on stable storage before the first order
//! of that epoch is carried out, and refuses lower ones by name. A new writer looks at its sites before it acts, so that
//! an old one's orders are barred from then on; an order that was begun before is carried to its end.
//!
//! Not here: who may command at all. Calls without a token (a person with `muster machines`) are taken as they come.

use crate::limits::{EPOCH_VAULTS_MAX, EPOCHS_BYTES_MAX};
use crate::ties::{blocking, replace_file};
use muster_ports::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// By whom an order was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Whose control writer: the id of the vault that the control state lies in.
    pub vault: String,
    pub epoch: Epoch,
}

/// Of the file in the site's folder.
const FORMAT: &str = "muster.agent-epochs/1";
const FILE: &str = "epochs.json";

#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    format: String,
    /// The highest epoch seen of each vault.
    vaults: BTreeMap<String, Epoch>,
}

/// The highest epoch seen of each vault.
#[derive(Debug, Default)]
pub struct Epochs {
    path: Option<PathBuf>,
    seen: Mutex<BTreeMap<String, Epoch>>,
}

impl Epochs {
    /// Forgets with the process: for sites whose effects do so too.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Remembers in the site's folder. A file that does not read is a failure: to begin anew would let an old writer in.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let damaged = |reason: String| {
            Failure::diverged(format!("`{}` does not read: {reason}", path.display()))
                .help("it names the newest control writer of each vault; remove it once no older muster is running")
        };
        let vaults = match std::fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            file => {
                let mut text = Vec::new();
                file?.take(EPOCHS_BYTES_MAX + 1).read_to_end(&mut text)?;
                if text.len() as u64 > EPOCHS_BYTES_MAX {
                    return Err(damaged(format!("more than {EPOCHS_BYTES_MAX} bytes")));
                }
                let seen: Seen = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
                if seen.format != FORMAT {
                    return Err(damaged(format!("its format is `{}`, this muster reads `{FORMAT}`", seen.format)));
                }
                seen.vaults
            }
        };
        Ok(Self { path: Some(path), seen: Mutex::new(vaults) })
    }

    /// Lets the order in, or refuses it because a newer writer has been heard here. Once this has returned, no order of
    /// a lower epoch is let in any more, whatever dies.
    pub async fn admit(&self, site: &SiteName, token: &Token) -> Result<()> {
        let mut seen = self.seen.lock().await;
        match seen.get(&token.vault) {
            Some(known) if token.epoch < *known => {
                return Err(Failure::refused(format!(
                    "site `{site}` takes orders of epoch {known} of vault `{}`; this one is of epoch {}, whose writer was \
                     replaced",
                    token.vault, token.epoch
                ))
                .help("another muster holds the vault now: `muster status` names it"));
            }
            Some(known) if token.epoch == *known => return Ok(()),
            None if seen.len() >= EPOCH_VAULTS_MAX => {
                return Err(Failure::refused(format!(
                    "site `{site}` has taken orders from {EPOCH_VAULTS_MAX} vaults and takes none from another one"
                ))
                .help(format!("remove vaults that are no more from `{FILE}` in the folder of the site's agent")));
            }
            _ => {}
        }
        let mut vaults = seen.clone();
        vaults.insert(token.vault.clone(), token.epoch);
        if let Some(path) = self.path.clone() {
            let what = format!("remember who commands site `{site}` in `{}`", path.display());
            let text = serde_json::to_vec(&Seen { format: FORMAT.to_owned(), vaults: vaults.clone() })
                .map_err(|error| Failure::permanent(error.to_string()).during(&what))?;
            blocking(move || Ok(replace_file(&path, &text)?)).await.map_err(|failure| failure.during(what))?;
        }
        *seen = vaults;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(vault: &str, epoch: u64) -> Token {
        Token { vault: vault.to_owned(), epoch: Epoch(epoch) }
    }

    #[tokio::test]
    async fn a_replaced_writer_stays_barred_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let site = SiteName::from("dr");
        let epochs = Epochs::open(folder.path()).unwrap();
        epochs.admit(&site, &token("v1", 4)).await.unwrap();
        epochs.admit(&site, &token("v1", 5)).await.unwrap();
        epochs.admit(&site, &token("v2", 1)).await.unwrap();
        drop(epochs);
        let epochs = Epochs::open(folder.path()).unwrap();
        let refused = epochs.admit(&site, &token("v1", 4)).await.unwrap_err();
        assert_eq!(refused.class, FailureClass::Refused);
        assert!(refused.message.contains("epoch 00000005 of vault `v1`"), "{refused}");
        epochs.admit(&site, &token("v1", 5)).await.unwrap();
        epochs.admit(&site, &token("v2", 1)).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_remembered_is_not_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("gone");
        std::fs::write(&below, "a file where the folder would be").unwrap();
        let epochs = Epochs { path: Some(below.join(FILE)), seen: Mutex::default() };
        let site = SiteName::from("dr");
        assert!(epochs.admit(&site, &token("v", 2)).await.is_err());
        assert!(epochs.seen.lock().await.is_empty(), "and so it is not taken for known");
    }

    #[test]
    fn a_damaged_memory_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"format":"muster.agent-epochs/2","vaults":{}}"#] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let failure = Epochs::open(folder.path()).unwrap_err();
            assert_eq!((failure.class, failure.help.is_some()), (FailureClass::Diverged, true), "{failure}");
        }
    }
}
