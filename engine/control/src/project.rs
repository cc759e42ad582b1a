//! A folder of plans on disk, as the compiler sees it.

use muster_compiler::{Checked, World};
use muster_ports::{Failure, Result};
use muster_runsheet::{Inventory, SiteInventory, SiteName};
use std::path::{Component, Path, PathBuf};

/// The inventory lies beside the plans, committed with them.
pub const INVENTORY_FILE: &str = "inventory.json";
/// A file of plans larger than this is a mistake, not a plan. Bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What tests compile on purpose lies in folders of this name: it is no part of the plans.
const FIXTURES_FOLDER: &str = "fixtures";
/// Folders below the plans' folder that are looked into.
const DEPTH_MAX: usize = 8;

/// Plans, hooks and inventory of one folder.
#[derive(Debug)]
pub struct Project {
    pub folder: PathBuf,
    pub files: Vec<String>,
    pub checked: Checked,
}

/// Reads files of one folder; paths are relative to it and stay inside.
#[derive(Debug)]
pub struct FolderWorld {
    folder: PathBuf,
}

impl FolderWorld {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }
}

impl World for FolderWorld {
    fn read(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return None;
        }
        let path = self.folder.join(path);
        let size = std::fs::metadata(&path).ok()?.len();
        if size > FILE_BYTES_MAX {
            return None;
        }
        // Invalid UTF-8 becomes replacement characters, which the parser then points at.
        Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
    }

    fn folder(&self) -> Option<String> {
        Some(self.folder.canonicalize().ok()?.to_string_lossy().into_owned())
    }
}

impl Project {
    /// Reads and checks every `.plan` file of the folder. Mistakes in them are in `checked.diagnostics`; the error here
    /// is only that there is nothing to read.
    pub fn load(folder: &Path) -> Result<Self> {
        let files = plan_files(folder)?;
        if files.is_empty() {
            return Err(Failure::permanent(format!("no `.plan` file in `{}`", folder.display()))
                .help("name the folder of the plans with `-C FOLDER`"));
        }
        let world = FolderWorld::new(folder);
        let checked = muster_compiler::check(&world, &files);
        Ok(Self { folder: folder.to_owned(), files, checked })
    }

    pub fn has_errors(&self) -> bool {
        self.checked.diagnostics.iter().any(|diagnostic| diagnostic.is_error())
    }
}

/// All `.plan` files below a folder, sorted, with `/` between the parts.
pub fn plan_files(folder: &Path) -> Result<Vec<String>> {
    plan_files_named(folder, ".plan")
}

/// All files below a folder of plans whose names end so, as [`plan_files`].
pub fn plan_files_named(folder: &Path, ending: &str) -> Result<Vec<String>> {
    fn walk(folder: &Path, prefix: &str, ending: &str, depth: usize, found: &mut Vec<String>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == FIXTURES_FOLDER {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < DEPTH_MAX {
                walk(&entry.path(), &format!("{prefix}{name}/"), ending, depth + 1, found)?;
            } else if kind.is_file() && name.ends_with(ending) {
                found.push(format!("{prefix}{name}"));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(folder, "", ending, 0, &mut found)
        .map_err(|error| Failure::from(error).during(format!("read the folder `{}`", folder.display())))?;
    found.sort();
    Ok(found)
}

/// Puts what the sites said into the folder's inventory file; keeps what other sites said before.
pub fn write_inventory(folder: &Path, pulled: Vec<(SiteName, SiteInventory)>) -> Result<PathBuf> {
    let path = folder.join(INVENTORY_FILE);
    let mut inventory = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Inventory>(&bytes).map_err(|error| {
            Failure::permanent(format!("`{}` is damaged: {error}", path.display()))
                .help("move it away and pull again: nothing in it is needed for that")
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Inventory::default(),
        Err(error) => return Err(Failure::from(error).during(format!("read `{}`", path.display()))),
    };
    for (site, mut entry) in pulled {
        if let Some(old) = inventory.sites.remove(&site) {
            entry.carry_over(old);
        }
        inventory.sites.insert(site, entry);
    }
    let text = serde_json::to_string_pretty(&inventory)
        .map_err(|error| Failure::permanent(format!("the inventory cannot be written as JSON: {error}")))?;
    write_whole(&path, text.as_bytes())?;
    Ok(path)
}

/// Writes a file as a whole: the old one stays until the new one is durable.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let what = || format!("write `{}`", path.display());
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&temporary)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| Failure::from(error).during(what()))
}
