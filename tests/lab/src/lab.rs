//! A lab: some sites that live as long as this value.

use crate::command::{command, run};
use crate::error::{Error, Result};
use crate::image::{Images, LabDir, make_folder};
use crate::registry::{Registered, lock, sweep};
use crate::site::Site;
use std::collections::BTreeMap;
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
    // The very last: until then a sweep would find what is left.
    registered: Registered,
}

#[derive(Debug)]
enum Folder {
    Passing(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Passing(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

impl Lab {
    /// A lab in a passing folder. `seed` tells labs apart that run at once: keep it below 16 letters or digits.
    pub fn open(seed: &str) -> Result<Self> {
        let images = Images::prepare(&LabDir::shared())?;
        let folder = tempfile::Builder::new().prefix("muster-lab-").tempdir().map_err(Error::file("/tmp"))?;
        Self::begin(seed, images, Folder::Passing(folder))
    }

    /// A lab whose folder stays, for demonstrations and for looking at what a test left.
    pub fn open_at(seed: &str, folder: &Path) -> Result<Self> {
        let images = Images::prepare(&LabDir::shared())?;
        make_folder(folder)?;
        let folder = folder.canonicalize().map_err(Error::file(folder))?;
        Self::begin(seed, images, Folder::Kept(folder))
    }

    /// Takes away what killed labs have left, and writes this one down.
    fn begin(seed: &str, images: Images, folder: Folder) -> Result<Self> {
        sweep()?;
        let name = lab_name(seed)?;
        let registered = Registered::new(&name, folder.path(), matches!(folder, Folder::Passing(_)))?;
        Ok(Self { name, images, sites: BTreeMap::new(), folder, registered })
    }

    pub fn images(&self) -> &Images {
        &self.images
    }
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a site and its namespace.
    pub fn add_site(&mut self, name: &str) -> Result<&mut Site> {
        // One at a time on this computer, or two labs would take the same addresses.
        let _lock = lock()?;
        let taken = run(command("ip").args(["-o", "-4", "addr", "show"]))?;
        let subnet = SUBNETS
            .into_iter()
            .find(|subnet| !taken.contains(&format!(" 10.77.{subnet}.")))
            .ok_or_else(|| Error::Said("all 254 addresses of lab sites are taken: end other labs".to_owned()))?;
        self.registered.add_site(name, subnet)?;
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
