//! The estate without a hypervisor: agents that simulate their machines, over real image files.

use crate::estate::{AWAY, Estate, HOME, PointCheck};
use crate::{Result, during};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port agents listen on; each site of a process has one of its own.
const FIRST_PORT: u16 = 7301;

static NEXT_PORT: AtomicU16 = AtomicU16::new(FIRST_PORT);

/// An address of the loopback network that is this process's own (127.64.0.0 up; a process id has 22 bits). A free port
/// of 127.0.0.1 could be taken by any connection until the agent listens on it.
fn own_address() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

#[derive(Debug)]
pub struct SimulatedEstate {
    why: String,
    folder: PathBuf,
    binary: PathBuf,
    key: PathBuf,
    ports: BTreeMap<String, u16>,
    agents: BTreeMap<String, Child>,
    environment: Vec<(String, String)>,
}

impl SimulatedEstate {
    pub fn new(folder: &Path, binary: &Path, key: &Path, why: &str) -> Result<Self> {
        let mut ports = BTreeMap::new();
        for site in [HOME, AWAY] {
            std::fs::create_dir_all(folder.join(site)).map_err(during(folder.display()))?;
            ports.insert(site.to_owned(), NEXT_PORT.fetch_add(1, Ordering::Relaxed));
        }
        let estate = Self {
            why: why.to_owned(),
            folder: folder.to_owned(),
            binary: binary.to_owned(),
            key: key.to_owned(),
            ports,
            agents: BTreeMap::new(),
            environment: Vec::new(),
        };
        estate.laboratory(&["new", HOME, &folder.join(HOME).display().to_string()])?;
        Ok(estate)
    }

    /// The same, with agents that have more in their environment: what it takes to reach their vault.
    pub fn with_environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment = environment;
        self
    }

    /// The process of a site's agent.
    pub fn agent(&self, site: &str) -> Option<u32> {
        self.agents.get(site).map(Child::id)
    }

    /// The laboratory of the binary: makes estates and checks images. Answers with what it prints.
    fn laboratory(&self, words: &[&str]) -> Result<Value> {
        let output = Command::new(&self.binary)
            .args(["laboratory", "--json"])
            .args(words)
            .output()
            .map_err(during(self.binary.display()))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        serde_json::from_slice(&output.stdout).or(Ok(Value::Null))
    }

    fn last(&self, path: &Path) -> Result<u64> {
        let verdict = self.laboratory(&["check", &path.display().to_string()])?;
        verdict["disks"][0]["newest"].as_u64().ok_or(format!("no verdict on {}", path.display()))
    }

    fn data_disk(&self, site: &str) -> PathBuf {
        self.folder.join(site).join("machines/db/data.raw")
    }
}

impl Estate for SimulatedEstate {
    fn kind(&self) -> String {
        format!("a SIMULATED estate over real image files, replicated for real ({})", self.why)
    }

    fn sites_plan(&self, vault: &str) -> String {
        let port = |site: &str| self.ports.get(site).copied().unwrap_or_default();
        let address = own_address().to_string();
        crate::estate::sites_plan("simulated", &address, port(HOME), &address, port(AWAY), vault)
    }

    fn start(&mut self, site: &str) -> Result<()> {
        let folder = self.folder.join(site);
        let log = std::fs::File::create(self.folder.join(format!("{site}.log"))).map_err(during(folder.display()))?;
        let port = self.ports.get(site).copied().unwrap_or_default();
        let agent = Command::new(&self.binary)
            .args(["agent", "-v", "--provider", "simulated", "--site", site])
            .arg("--folder")
            .arg(&folder)
            .args(["--listen", &format!("{}:{port}", own_address())])
            .arg("--key-file")
            .arg(&self.key)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(during("start an agent"))?;
        self.agents.insert(site.to_owned(), agent);
        Ok(())
    }

    fn kill(&mut self, site: &str) -> Result<()> {
        if let Some(mut agent) = self.agents.remove(site) {
            agent.kill().map_err(during(site))?;
            agent.wait().map_err(during(site))?;
        }
        Ok(())
    }

    fn last_answered(&self, site: &str) -> Result<u64> {
        self.last(&self.data_disk(site))
    }

    fn last_on_disk(&self, site: &str) -> Result<u64> {
        self.last(&self.data_disk(site))
    }

    fn check_point(&self, folder: &Path) -> Result<PointCheck> {
        let [data, root, app] =
            ["db-data.raw", "db-root.raw", "app-root.raw"].map(|file| folder.join(file).display().to_string());
        let verdict = self.laboratory(&["check", &data, &root, &app])?;
        let disks = verdict["disks"].as_array().ok_or("no verdict")?;
        Ok(PointCheck {
            last: disks.first().and_then(|disk| disk["newest"].as_u64()).ok_or("no verdict on the data disk")?,
            clean: disks.iter().all(|disk| disk["clean"] == true),
        })
    }
}

impl Drop for SimulatedEstate {
    fn drop(&mut self) {
        for site in [HOME, AWAY] {
            let _ = self.kill(site);
        }
    }
}
