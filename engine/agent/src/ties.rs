//! Instances whose disks still need the replica they were landed from, and the exports that serve it to them.
//!
//! A tie is a file, written before the instance exists and removed after it no longer needs it. So after any crash the
//! files name at least what has to be served; what they name too much is found out by asking the provider.

use crate::data_plane::DataPlane;
use crate::limits::*;
use muster_nbd::Server;
use muster_ports::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OnceCell;

const TIE_FORMAT: &str = "muster.tie/1";
const SOCKET_FILE: &str = "nbd.sock";
const TIES_FOLDER: &str = "ties";
const TIE_ENDING: &str = ".json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tie {
    /// [`TIE_FORMAT`].
    format: String,
    pub(crate) instance: InstanceName,
    images: BTreeMap<DiskName, ReplicaImage>,
}

#[derive(Debug)]
pub(crate) struct Ties {
    /// `None`: this site lands machines in full only, and nothing is ever tied.
    folder: Option<PathBuf>,
    plane: Arc<dyn DataPlane>,
    server: OnceCell<Server>,
}

impl Ties {
    pub(crate) fn new(folder: Option<PathBuf>, plane: Arc<dyn DataPlane>) -> Self {
        Self { folder, plane, server: OnceCell::new() }
    }

    /// Listens, if it does not yet. Fails when another agent uses the folder, or it lies too deep for a socket.
    pub(crate) async fn server(&self) -> Result<&Server> {
        self.server
            .get_or_try_init(|| async {
                let folder = self.folder.as_ref().ok_or_else(no_folder)?;
                let path = std::path::absolute(folder.join(SOCKET_FILE))?;
                Server::bind_unix(&path).await
            })
            .await
    }

    /// Remembers the images of an instance and serves them. Each disk's backing comes back.
    pub(crate) async fn tie(
        &self,
        instance: &InstanceName,
        images: &BTreeMap<DiskName, ReplicaImage>,
    ) -> Result<BTreeMap<DiskName, DiskBacking>> {
        let server = self.server().await?;
        let socket = server
            .socket()
            .and_then(Path::to_str)
            .ok_or_else(|| Failure::permanent("the path of the site's folder is not utf-8"))?
            .to_owned();
        let mut replicas = BTreeMap::new();
        for (disk, image) in images {
            replicas.insert(disk.clone(), self.replica(disk, image).await?);
        }
        let tie = Tie { format: TIE_FORMAT.to_owned(), instance: instance.clone(), images: images.clone() };
        self.write(tie).await?;
        let mut backings = BTreeMap::new();
        for (disk, replica) in replicas {
            let export = export_name(instance, &disk);
            server.export(export.clone(), replica)?;
            backings.insert(disk, DiskBacking::Export { socket: socket.clone(), export });
        }
        Ok(backings)
    }

    /// Serves the disks of a tied instance that are not being served; does nothing for an instance without a tie.
    pub(crate) async fn serve(&self, instance: &InstanceName) -> Result<()> {
        let Some(path) = self.path(instance)? else { return Ok(()) };
        let Some(tie) = self.read(path).await? else { return Ok(()) };
        let server = self.server().await?;
        let served = server.exports();
        for (disk, image) in &tie.images {
            let export = export_name(instance, disk);
            // Serving it anew would hang up on a running machine.
            if !served.contains(&export) {
                server.export(export, self.replica(disk, image).await?)?;
            }
        }
        Ok(())
    }

    /// Stops serving an instance and forgets its images. Succeeds when there is no tie.
    pub(crate) async fn untie(&self, instance: &InstanceName) -> Result<()> {
        if let Some(server) = self.server.get() {
            let prefix = export_name(instance, &DiskName::new(""));
            for export in server.exports().into_iter().filter(|export| export.starts_with(&prefix)) {
                server.withdraw(&export);
            }
        }
        let Some(path) = self.path(instance)? else { return Ok(()) };
        match tokio::fs::remove_file(path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::from(error).during(format!("forget the images of `{instance}`")))
            }
            _ => Ok(()),
        }
    }

    /// All ties there are; a file that does not read is a failure beside them.
    pub(crate) async fn all(&self) -> Result<(Vec<Tie>, Vec<Failure>)> {
        let Some(folder) = &self.folder else { return Ok(Default::default()) };
        let mut entries = match tokio::fs::read_dir(folder.join(TIES_FOLDER)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries?,
        };
        let (mut ties, mut failures) = (Vec::new(), Vec::new());
        while let Some(entry) = entries.next_entry().await? {
            // Young files of a crash end otherwise; the next landing of the instance replaces them.
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(TIE_ENDING)) {
                match self.read(entry.path()).await {
                    Ok(tie) => ties.extend(tie),
                    Err(failure) => failures.push(failure),
                }
            }
        }
        Ok((ties, failures))
    }

    async fn replica(&self, disk: &DiskName, image: &ReplicaImage) -> Result<Arc<dyn BlockSource>> {
        self.plane.replica(image).await.map_err(|failure| failure.during(format!("open the replica of disk `{disk}`")))
    }

    fn path(&self, instance: &InstanceName) -> Result<Option<PathBuf>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let stem = file_stem(instance.as_str());
        if stem.len() > FILE_STEM_BYTES_MAX {
            return Err(Failure::permanent(format!("the name of the instance `{instance}` is too long for a file")));
        }
        Ok(Some(folder.join(TIES_FOLDER).join(stem + TIE_ENDING)))
    }

    async fn read(&self, path: PathBuf) -> Result<Option<Tie>> {
        blocking(move || {
            let damaged = |reason: String| {
                Failure::diverged(format!("the images of an instance in `{}` do not read: {reason}", path.display()))
                    .help("remove the instance and land it again")
            };
            let file = match std::fs::File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let mut text = Vec::new();
            file.take(TIE_BYTES_MAX + 1).read_to_end(&mut text)?;
            if text.len() as u64 > TIE_BYTES_MAX {
                return Err(damaged(format!("more than {TIE_BYTES_MAX} bytes")));
            }
            let tie: Tie = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
            if tie.format != TIE_FORMAT {
                return Err(damaged(format!("its format is `{}`, this muster reads `{TIE_FORMAT}`", tie.format)));
            }
            Ok(Some(tie))
        })
        .await
    }

    async fn write(&self, tie: Tie) -> Result<()> {
        let path = self.path(&tie.instance)?.ok_or_else(no_folder)?;
        let what = format!("remember the images of `{}` in `{}`", tie.instance, path.display());
        let text = serde_json::to_vec(&tie).map_err(|error| Failure::permanent(error.to_string()).during(&what))?;
        blocking(move || Ok(replace_file(&path, &text)?)).await.map_err(|failure| failure.during(what))
    }
}

/// All or nothing, and on stable storage when it returns.
pub(crate) fn replace_file(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let mut young = path.as_os_str().to_owned();
    young.push("~");
    let mut file = std::fs::File::create(&young)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&young, path)?;
    std::fs::File::open(folder)?.sync_all()
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Failure::transient("the site agent is shutting down")))
}

fn no_folder() -> Failure {
    Failure::permanent("this site serves no disks from the vault; it lands machines in full")
}

fn export_name(instance: &InstanceName, disk: &DiskName) -> String {
    format!("{instance}/{disk}")
}

/// A name from the wire as a file name: other bytes than letters, digits, `-`, `_` and `~` become `%xx`.
fn file_stem(name: &str) -> String {
    let mut stem = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => stem.push(char::from(byte)),
            _ => stem.push_str(&format!("%{byte:02x}")),
        }
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_wire_stay_in_the_folder() {
        assert_eq!(file_stem("db~drill-01"), "db~drill-01");
        assert_eq!(file_stem("../x/\0"), "%2e%2e%2fx%2f%00");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("b.json");
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }
}
