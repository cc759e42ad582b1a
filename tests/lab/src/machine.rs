//! One machine of the lab: its role, its disks, the folder the QEMU provider finds it by.

use crate::command::{command, run};
use crate::error::{Error, Result};
use crate::image::{DATA_BYTES, Images, ROOT_AT, ROOT_BYTES, make_folder, write};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Writes numbered records to a second disk; TCP 7000.
    Database,
    /// Follows the database and journals what it has acknowledged; HTTP 8080.
    App,
    /// Shows what the app says; HTTP 80.
    Web,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Database => "db",
            Self::App => "app",
            Self::Web => "web",
        }
    }
}

/// A machine to be put into a site.
#[derive(Clone, Debug)]
pub struct Machine {
    pub name: String,
    pub role: Role,
    pub network: String,
    /// Six hex pairs.
    pub mac: String,
    pub ip: String,
    /// Where the app finds the database, or the web server the app.
    pub follows: Option<String>,
    /// Milliseconds between two records (database) or questions (app).
    pub interval_ms: u64,
    /// Empty disks besides: `(name, bytes)`.
    pub more_disks: Vec<(String, u64)>,
}

impl Machine {
    pub fn new(name: &str, role: Role, network: &str, mac: &str, ip: &str) -> Self {
        let [name, network, mac, ip] = [name, network, mac, ip].map(str::to_owned);
        Self { name, role, network, mac, ip, follows: None, interval_ms: 200, more_disks: Vec::new() }
    }
    pub fn follows(mut self, ip: &str) -> Self {
        self.follows = Some(ip.to_owned());
        self
    }
    pub fn interval_ms(mut self, interval: u64) -> Self {
        self.interval_ms = interval;
        self
    }

    /// An empty disk that takes no room until it is written: `<name>.qcow2`.
    pub fn disk(mut self, name: &str, bytes: u64) -> Self {
        self.more_disks.push((name.to_owned(), bytes));
        self
    }

    /// Bakes the role into a copy of the root disk and writes the folder.
    pub(crate) fn place(&self, images: &Images, machines: &Path) -> Result<PathBuf> {
        const MEMORY_BYTES: u64 = 192 << 20;
        let folder = machines.join(&self.name);
        make_folder(&folder)?;
        let work = tempfile::tempdir().map_err(Error::file(&folder))?;
        let raw = work.path().join("root.raw");
        run(command("cp").arg("--sparse=always").arg(images.root_disk()).arg(&raw))?;
        self.bake(&raw, work.path())?;
        to_qcow2(&raw, &folder.join("root.qcow2"))?;
        let mut disks = vec![json!({ "name": "root", "size_bytes": ROOT_BYTES, "file": "root.qcow2" })];
        if self.role == Role::Database {
            to_qcow2(&images.data_disk(), &folder.join("data.qcow2"))?;
            disks.push(json!({ "name": "data", "size_bytes": DATA_BYTES, "file": "data.qcow2" }));
        }
        for (name, bytes) in &self.more_disks {
            let file = format!("{name}.qcow2");
            run(command("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(folder.join(&file))
                .arg(bytes.to_string()))?;
            disks.push(json!({ "name": name, "size_bytes": bytes, "file": file }));
        }
        let definition = json!({
            "format": "muster.qemu-machine/1",
            "instance": self.name,
            "machine": self.name,
            "cpus": 1,
            "memory_bytes": MEMORY_BYTES,
            "disks": disks,
            "nics": [{ "network": self.network, "mac": self.mac, "ip": self.ip }],
            "scope": { "scope": "live" },
            "labels": {},
            "guest_agent": true,
        });
        write(&folder.join("machine.json"), &format!("{definition:#}\n"))?;
        Ok(folder)
    }

    fn bake(&self, raw: &Path, work: &Path) -> Result<()> {
        let mut files = vec![
            ("hostname", format!("{}\n", self.name)),
            ("muster-guest", format!("role={}\ninterval_ms={}\n", self.role.word(), self.interval_ms)),
        ];
        if let Some(follows) = &self.follows {
            let file = if self.role == Role::Web { "app-host" } else { "db-host" };
            files.push((file, format!("{follows}\n")));
        }
        let mut script = String::new();
        for (name, text) in files {
            let file = work.join(name);
            write(&file, &text)?;
            script.push_str(&format!("write {} /etc/{name}\n", file.display()));
        }
        let commands = work.join("debugfs");
        write(&commands, &script)?;
        let said = run(command("debugfs")
            .arg("-w")
            .arg("-f")
            .arg(&commands)
            .arg(format!("{}?offset={ROOT_AT}", raw.display())))?;
        // debugfs ends well even when a write did not: it says so instead.
        match said.lines().find(|line| line.starts_with("write:") || line.contains("Could not")) {
            Some(line) => Err(Error::Said(format!("baking `{}`: {line}", self.name))),
            None => Ok(()),
        }
    }
}

fn to_qcow2(raw: &Path, qcow2: &Path) -> Result<()> {
    run(command("qemu-img").args(["convert", "-q", "-f", "raw", "-O", "qcow2"]).arg(raw).arg(qcow2)).map(drop)
}
