//! A vault whose objects were changed by whoever can write to the store.

use crate::runtime;
use muster_ports::{BlockSource, PointId, ReplicaImage, SegmentRef};
use muster_vault::{KeySource, Place, Vault};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Of the disk in the golden vault.
const DISK_BYTES: u64 = 256 << 10;
/// A wound is a place, two bytes, and what is put there.
const WOUND_BYTES: usize = 3;

/// The vault that `engine/vault` keeps for ever, and what reading it gives.
struct Golden {
    folder: tempfile::TempDir,
    objects: BTreeMap<String, Vec<u8>>,
    segments: Vec<SegmentRef>,
    content: Vec<u8>,
}

impl Golden {
    fn get() -> &'static Self {
        static GOLDEN: OnceLock<Golden> = OnceLock::new();
        GOLDEN.get_or_init(|| {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/vault/tests/golden");
            let folder = tempfile::tempdir().unwrap();
            // Version control keeps no permissions: the copy has those a key file must have.
            std::fs::copy(from.join("vault.key"), folder.path().join("key")).unwrap();
            std::fs::set_permissions(folder.path().join("key"), PermissionsExt::from_mode(0o600)).unwrap();
            let segments = serde_json::from_slice(&std::fs::read(from.join("segments.json")).unwrap()).unwrap();
            let mut objects = BTreeMap::new();
            collect(&from.join("vault"), "", &mut objects);
            let mut golden = Self { folder, objects, segments, content: Vec::new() };
            golden.content = golden.read(&golden.objects).unwrap();
            golden
        })
    }

    /// Opens the vault of these objects and reads the whole disk.
    fn read(&self, objects: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, String> {
        runtime().block_on(async {
            let store = Arc::new(InMemory::new());
            for (name, bytes) in objects {
                store.put(&ObjectPath::from(name.as_str()), bytes.clone().into()).await.unwrap();
            }
            let store: Arc<dyn ObjectStore> = store;
            let place = Place::at("memory:///", store, ObjectPath::default());
            let key = KeySource::File(self.folder.path().join("key"));
            let vault = Vault::open_at(place, &key).await.map_err(|error| error.to_string())?;
            let image = ReplicaImage {
                vault: vault.url().to_owned(),
                point: PointId::new("p1"),
                size_bytes: DISK_BYTES,
                segments: self.segments.clone(),
            };
            let mut bytes = vec![0; usize::try_from(DISK_BYTES).unwrap()];
            let replica = vault.replica(&image);
            replica.read_at(0, &mut bytes).await.map_err(|failure| failure.to_string())?;
            Ok(bytes)
        })
    }
}

fn collect(folder: &Path, prefix: &str, objects: &mut BTreeMap<String, Vec<u8>>) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => collect(&path, &format!("{name}/"), objects),
            false => drop(objects.insert(name, std::fs::read(path).unwrap())),
        }
    }
}

/// The first byte names an object and how it is hurt: replaced, cut short, or wounded in places. What is read is what was
/// written, or nothing with a reason.
pub fn vault(bytes: &[u8]) {
    let golden = Golden::get();
    let Some((how, rest)) = bytes.split_first() else { return };
    let mut objects = golden.objects.clone();
    let count = objects.len();
    let hurt = objects.values_mut().nth(usize::from(how & 0x3f) % count).unwrap();
    match how >> 6 {
        0 => rest.clone_into(hurt),
        1 => {
            let length = rest.iter().take(2).fold(0, |sum, byte| sum * 256 + usize::from(*byte));
            hurt.truncate(length % (hurt.len() + 1));
        }
        _ => {
            for wound in rest.chunks_exact(WOUND_BYTES) {
                let at = usize::from(u16::from_le_bytes([wound[0], wound[1]])) % hurt.len().max(1);
                if let Some(byte) = hurt.get_mut(at) {
                    *byte = wound[2];
                }
            }
        }
    }
    match golden.read(&objects) {
        Ok(content) => assert!(content == golden.content, "damage was read as content"),
        Err(reason) => assert!(!reason.is_empty(), "refused without a reason"),
    }
}
