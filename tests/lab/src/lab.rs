//! A lab: some sites that live as long as this value.

use crate::command::{command, run};
use crate::error::{Error, Result};
use crate::image::{Images, LabDir, make_folder};
use crate::site::Site;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Addresses of the ways to sites: `10.77.N.0/30`, one N for each site on this computer.
const SUBNETS: std::ops::RangeInclusive<u8> = 1..=254;

#[derive(Debug)]
pub struct Lab {
    name: String,
    images: Images,
    sites: BTreeMap<String, Site>,
    // Last: the sites' processes end before their folder goes.
    folder: Folder,
}

#[derive(Debug)]
enum Folder {
    Passing(tempfile::TempDir),
    Kept(PathBuf),
}

impl Lab {
    /// A lab in a passing folder. `seed` tells labs apart that run at once: keep it below 16 letters or digits.
    pub fn open(seed: &str) -> Result<Self> {
        let images = Images::prepare(&LabDir::shared())?;
        let folder = tempfile::Builder::new().prefix("muster-lab-").tempdir().map_err(Error::file("/tmp"))?;
        Ok(Self { name: lab_name(seed)?, images, sites: BTreeMap::new(), folder: Folder::Passing(folder) })
    }

    /// A lab whose folder stays, for demonstrations and for looking at what a test left.
    pub fn open_at(seed: &str, folder: &Path) -> Result<Self> {
        let images = Images::prepare(&LabDir::shared())?;
        make_folder(folder)?;
        let folder = folder.canonicalize().map_err(Error::file(folder))?;
        Ok(Self { name: lab_name(seed)?, images, sites: BTreeMap::new(), folder: Folder::Kept(folder) })
    }

    pub fn images(&self) -> &Images {
        &self.images
    }
    pub fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Passing(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }

    /// Makes a site and its namespace.
    pub fn add_site(&mut self, name: &str) -> Result<&mut Site> {
        // One at a time on this computer, or two labs would take the same addresses.
        let lock_path = Path::new("/run/lock").join("muster-lab.lock");
        let lock = File::create(&lock_path).map_err(Error::file(&lock_path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| Error::file(&lock_path)(error.into()))?;
        let taken = run(command("ip").args(["-o", "-4", "addr", "show"]))?;
        let subnet = SUBNETS
            .into_iter()
            .find(|subnet| !taken.contains(&format!(" 10.77.{subnet}.")))
            .ok_or_else(|| Error::Said("all 254 addresses of lab sites are taken: end other labs".to_owned()))?;
        let site = Site::create(name, &self.name, self.folder().join(name), subnet)?;
        self.sites.insert(name.to_owned(), site);
        self.site_mut(name)
    }

    pub fn site(&self, name: &str) -> Result<&Site> {
        self.sites.get(name).ok_or_else(|| Error::Said(format!("the lab has no site `{name}`")))
    }
    pub fn site_mut(&mut self, name: &str) -> Result<&mut Site> {
        self.sites.get_mut(name).ok_or_else(|| Error::Said(format!("the lab has no site `{name}`")))
    }
}

fn lab_name(seed: &str) -> Result<String> {
    let fits = !seed.is_empty() && seed.len() <= 16 && seed.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !fits {
        return Err(Error::Said(format!("`{seed}` is no name for a lab: 1 to 16 letters or digits")));
    }
    Ok(format!("{seed}{}", std::process::id()))
}
