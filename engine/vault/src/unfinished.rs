//! What a process that was killed leaves beside the objects of a vault in a folder.
//!
//! The local store writes an object under a name of its own, `<object>#<number>`, and links it to its real name once it is
//! whole. Killed before that, the file stays; no list of objects shows it, so whoever collects garbage has to look here.
//! Other stores keep no such files in sight.

use crate::error::VaultError;
use crate::place::Place;
use muster_ports::Timestamp;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A file that a writer has not given its real name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unfinished {
    /// Below the vault: `data/<lineage>/<segment>.seg#1`.
    pub name: String,
    pub bytes: u64,
    pub modified: Timestamp,
}

impl Place {
    /// Every such file, by name; a writer that is alive may be at work on it.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, VaultError> {
        let Some(folder) = self.folder().map(Path::to_owned) else { return Ok(Vec::new()) };
        let walked = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&folder, &folder, &mut found).map(|()| found)
        });
        let walked = walked.await.map_err(|error| VaultError::Stopped(error.to_string()))?;
        let mut found = walked.map_err(|error| self.failed_file("", error))?;
        found.sort();
        Ok(found)
    }

    /// One that is gone is fine: its writer may have finished it.
    pub async fn delete_unfinished(&self, file: &Unfinished) -> Result<(), VaultError> {
        let Some(folder) = self.folder().filter(|_| is_unfinished(&file.name)) else { return Ok(()) };
        let path = folder.join(&file.name);
        let removed = tokio::task::spawn_blocking(move || missing_is_fine(std::fs::remove_file(path)));
        let removed = removed.await.map_err(|error| VaultError::Stopped(error.to_string()))?;
        removed.map(drop).map_err(|error| self.failed_file(&file.name, error))
    }

    fn failed_file(&self, name: &str, error: std::io::Error) -> VaultError {
        self.failed(name, object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) })
    }
}

/// No object of a vault has a `#` in its name.
fn is_unfinished(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What vanishes meanwhile was finished, or cleared away by somebody else.
fn missing_is_fine<T>(done: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Unfinished>) -> std::io::Result<()> {
    let Some(entries) = missing_is_fine(std::fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let path: PathBuf = entry.path();
        // Links are not followed: nothing outside of the vault is anybody's garbage.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, found)?;
            continue;
        }
        let name = path.strip_prefix(root).ok().and_then(Path::to_str).filter(|name| is_unfinished(name));
        let (Some(name), true) = (name, kind.is_file()) else { continue };
        let Some(facts) = missing_is_fine(entry.metadata())? else { continue };
        let modified = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        found.push(Unfinished {
            name: name.to_owned(),
            bytes: facts.len(),
            modified: Timestamp(u64::try_from(modified.as_millis()).unwrap_or(u64::MAX)),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_the_store_has_not_finished_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let place = Place::open(&url, true).unwrap();
        let lineage = folder.path().join("data/db-root-1");
        std::fs::create_dir_all(&lineage).unwrap();
        for (name, bytes) in [("1-a-000000.seg", 3), ("1-a-000001.seg#1", 5), ("1-a-000001.seg#12", 7), ("x#y", 9)] {
            std::fs::write(lineage.join(name), vec![1; bytes]).unwrap();
        }
        let found = place.unfinished().await.unwrap();
        let said: Vec<(&str, u64)> = found.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
        assert_eq!(said, [("data/db-root-1/1-a-000001.seg#1", 5), ("data/db-root-1/1-a-000001.seg#12", 7)]);
        for file in &found {
            place.delete_unfinished(file).await.unwrap();
            place.delete_unfinished(file).await.expect("deleting again is fine");
        }
        assert!(place.unfinished().await.unwrap().is_empty());
        assert_eq!(std::fs::read_dir(&lineage).unwrap().count(), 2, "nothing else goes");
        // A name that nobody unfinished could have is not taken away.
        let other = Unfinished { name: "data/db-root-1/1-a-000000.seg".to_owned(), ..found[0].clone() };
        place.delete_unfinished(&other).await.unwrap();
        assert_eq!(std::fs::read_dir(&lineage).unwrap().count(), 2);
    }
}
