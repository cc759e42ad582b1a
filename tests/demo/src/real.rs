//! The estate of real machines: two network namespaces, QEMU in each.

use crate::estate::{AWAY, Estate, HOME, PointCheck};
use crate::muster::{ENGINE, certificates};
use crate::{Result, during};
use muster_lab::{Lab, Machine, Role, check_root, check_shop, process_of};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where agents listen, inside their site.
const PORT: u16 = 7300;
const HOME_NETWORKS: [(&str, &str); 2] = [("data", "10.10.20.0/24"), ("web", "10.10.40.0/24")];
const AWAY_NETWORKS: [(&str, &str); 2] = [("data", "10.60.20.0/24"), ("web", "10.60.40.0/24")];

#[derive(Debug)]
pub struct RealEstate {
    lab: Lab,
    binary: PathBuf,
    key: PathBuf,
    /// The newest of a site last.
    agents: Vec<(String, Child)>,
}

/// What a machine's console tells of all its boots at a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    pub boots: usize,
    /// Orderly ways down.
    pub downs: usize,
    /// The newest record the database found on its disk, each time it began.
    pub found: Vec<u64>,
}

impl RealEstate {
    /// Makes the sites and the shop's machines at home, powered off. Takes a while the first time: guest images are
    /// made from Debian packages.
    pub fn new(folder: &Path, binary: &Path, key: &Path) -> Result<Self> {
        let mut lab = Lab::open_at("demo", folder).map_err(during("make the lab"))?;
        let images = lab.images().clone();
        let home = lab.add_site(HOME).map_err(during("make the site hq"))?;
        home.write_networks(&HOME_NETWORKS).map_err(during("hq"))?;
        let shop = [
            Machine::new("db", Role::Database, "data", "52:54:00:00:20:11", "10.10.20.11").interval_ms(50),
            Machine::new("app", Role::App, "data", "52:54:00:00:20:12", "10.10.20.12")
                .follows("10.10.20.11")
                .interval_ms(100),
            Machine::new("web", Role::Web, "web", "52:54:00:00:40:13", "10.10.40.13").follows("10.10.20.12"),
        ];
        for machine in &shop {
            home.machine(&images, machine).map_err(during(&machine.name))?;
        }
        let away = lab.add_site(AWAY).map_err(during("make the site dr"))?;
        away.write_networks(&AWAY_NETWORKS).map_err(during("dr"))?;
        let estate = Self { lab, binary: binary.to_owned(), key: key.to_owned(), agents: Vec::new() };
        estate.certify()?;
        Ok(estate)
    }

    /// The sites are other machines: the engine and each agent show who they are.
    fn certify(&self) -> Result<()> {
        let folder = certificates(&self.key);
        let at = |name: &str| folder.join(name).display().to_string();
        let issue = |words: &[&str]| {
            let output = Command::new(&self.binary).arg("certificate").args(words).output();
            let output = output.map_err(during("start muster"))?;
            match output.status.success() {
                true => Ok(()),
                false => Err(format!("certificate {words:?}: {}", String::from_utf8_lossy(&output.stderr))),
            }
        };
        issue(&["authority", &at("authority")])?;
        issue(&["issue", &at(ENGINE), "--authority", &at("authority")])?;
        for site in [HOME, AWAY] {
            let address = self.lab.site(site).map_err(during(site))?.address();
            issue(&["issue", &at(site), "--authority", &at("authority"), "--name", &address])?;
        }
        Ok(())
    }

    /// Puts one more machine, powered off, into a site.
    pub fn add(&mut self, site: &str, machine: &Machine) -> Result<PathBuf> {
        let images = self.lab.images().clone();
        self.lab.site(site).map_err(during(site))?.machine(&images, machine).map_err(during(&machine.name))
    }

    /// The folder of a machine at a site; it need not be there.
    pub fn folder_of(&self, site: &str, machine: &str) -> Result<PathBuf> {
        Ok(self.lab.site(site).map_err(during(site))?.folder().join("machines").join(machine))
    }

    /// The process of a machine that is on at a site, by the process itself and not by what anybody says.
    pub fn process(&self, site: &str, machine: &str) -> Result<Option<u32>> {
        Ok(process_of(&self.folder_of(site, machine)?.join("qemu.pid")))
    }

    /// The process of a site's agent.
    pub fn agent(&self, site: &str) -> Result<u32> {
        let newest = self.agents.iter().rfind(|(of, _)| of == site);
        newest.map(|(_, agent)| agent.id()).ok_or_else(|| format!("the agent of {site} was never started"))
    }

    /// Cuts the way to a site without hurting the site, and joins it again.
    pub fn cut_off(&self, site: &str, cut: bool) -> Result<()> {
        self.lab.site(site).map_err(during(site))?.cut_off(cut).map_err(during(site))
    }

    pub fn console(&self, site: &str, machine: &str) -> Result<Console> {
        let path = self.folder_of(site, machine)?.join("console.log");
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        let number = |line: &str| line.split_whitespace().find_map(|word| word.strip_prefix("last=")?.parse().ok());
        let ready = text.lines().filter(|line| line.contains("MUSTER-READY db"));
        Ok(Console {
            boots: count("MUSTER-INIT-DONE"),
            downs: count("MUSTER-DOWN"),
            found: ready.filter_map(number).collect(),
        })
    }

    /// The disks a machine has at a site now, by its definition.
    fn disk(&self, site: &str, machine: &str, disk: &str) -> Result<PathBuf> {
        let site = self.lab.site(site).map_err(during(site))?;
        let folder = site.folder().join("machines").join(machine);
        let text = std::fs::read_to_string(folder.join("machine.json")).map_err(during(folder.display()))?;
        let definition: serde_json::Value = serde_json::from_str(&text).map_err(during(folder.display()))?;
        let disks = definition["disks"].as_array().ok_or("a machine without disks")?;
        let found = disks.iter().find(|found| found["name"] == disk).ok_or(format!("no disk `{disk}`"))?;
        Ok(folder.join(found["file"].as_str().ok_or("a disk without a file")?))
    }
}

impl Estate for RealEstate {
    fn kind(&self) -> String {
        let version = Command::new("qemu-system-x86_64").arg("--version").output().ok();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let version = version.split_whitespace().nth(3).unwrap_or("").to_owned();
        format!("real machines: QEMU {version}, two sites in network namespaces")
    }

    fn sites_plan(&self, vault: &str) -> String {
        let address = |site| self.lab.site(site).map(|site| site.address()).unwrap_or_default();
        crate::estate::sites_plan("qemu", &address(HOME), PORT, &address(AWAY), PORT, vault)
    }

    fn start(&mut self, site: &str) -> Result<()> {
        let home = self.lab.site_mut(site).map_err(during(site))?;
        home.revive().map_err(during(site))?;
        let folder = home.folder().to_owned();
        let log = std::fs::File::create(folder.join("agent.log")).map_err(during(folder.display()))?;
        let mut command = home.command(&self.binary);
        command
            .args(["agent", "-v", "--provider", "qemu", "--site", site])
            .arg("--folder")
            .arg(&folder)
            .args(["--listen", &format!("{}:{PORT}", home.address())])
            .arg("--key-file")
            .arg(&self.key)
            .arg("--certificates")
            .arg(certificates(&self.key).join(site))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let agent = home.spawn(&mut command).map_err(during(site))?;
        self.agents.push((site.to_owned(), agent));
        Ok(())
    }

    fn kill(&mut self, site: &str) -> Result<()> {
        self.lab.site_mut(site).map_err(during(site))?.kill().map_err(during(site))
    }

    fn last_answered(&self, site: &str) -> Result<u64> {
        let address = if site == HOME { "10.10.20.11" } else { "10.60.20.11" };
        let home = self.lab.site(site).map_err(during(site))?;
        let mut command = home.command("busybox");
        let output = command.args(["nc", "-w", "3", address, "7000"]).output().map_err(during("ask the database"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.split_whitespace().find_map(|word| word.strip_prefix("last="));
        last.and_then(|last| last.parse().ok()).ok_or(format!("the database says `{}`", text.trim()))
    }

    fn last_on_disk(&self, site: &str) -> Result<u64> {
        let disk = self.disk(site, "db", "data")?;
        let raw = self.lab.folder().join("source-db-data.raw");
        let output = Command::new("qemu-img")
            .args(["convert", "-U", "-O", "raw"])
            .arg(&disk)
            .arg(&raw)
            .output()
            .map_err(during("qemu-img"))?;
        if !output.status.success() {
            return Err(format!("{}: {}", disk.display(), String::from_utf8_lossy(&output.stderr)));
        }
        let check = check_shop(&raw, None).map_err(during(disk.display()))?;
        Ok(check.database.tally.last)
    }

    fn check_point(&self, folder: &Path) -> Result<PointCheck> {
        let app_root = folder.join("app-root.raw");
        let check = check_shop(&folder.join("db-data.raw"), Some(&app_root)).map_err(during("check the point"))?;
        let root = check_root(&folder.join("db-root.raw")).map_err(during("check the root of db"))?;
        let app = check.app.is_none_or(|app| app.clean);
        Ok(PointCheck { last: check.database.tally.last, clean: check.database.clean && root && app })
    }
}

impl Drop for RealEstate {
    fn drop(&mut self) {
        for site in [HOME, AWAY] {
            let _ = self.kill(site);
        }
        for (_, agent) in &mut self.agents {
            let _ = agent.wait();
        }
    }
}
