//! A site: a namespace, a folder, and everything that runs in them.

use crate::command::{command, run};
use crate::error::{Error, Result};
use crate::image::{Images, make_folder, write};
use crate::machine::Machine;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

#[derive(Debug)]
pub struct Site {
    name: String,
    folder: PathBuf,
    namespace: String,
    /// Our end of the veth, in the root namespace.
    veth: String,
    subnet: u8,
    alive: bool,
}

impl Site {
    pub(crate) fn create(name: &str, lab: &str, folder: PathBuf, subnet: u8) -> Result<Self> {
        make_folder(&folder.join("machines"))?;
        let mut site = Self::remains(name, lab, folder, subnet);
        site.alive = false;
        site.write_networks(&[])?;
        site.revive()?;
        Ok(site)
    }

    /// A site as a process that is gone has left it.
    pub(crate) fn remains(name: &str, lab: &str, folder: PathBuf, subnet: u8) -> Self {
        let hash: String = blake3::hash(format!("{lab}/{name}").as_bytes()).to_hex().chars().take(8).collect();
        Self {
            name: name.to_owned(),
            folder,
            namespace: format!("muster-{lab}-{name}"),
            veth: format!("ml{hash}"),
            subnet,
            alive: true,
        }
    }

    /// Ends everything of the site and gives its addresses back.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.kill()?;
        let _ = run(command("ip").args(["route", "del", "unreachable", &self.grave()]));
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    /// Where the site's agent is reached from outside, without a port.
    pub fn address(&self) -> String {
        format!("10.77.{}.2", self.subnet)
    }
    /// Where the outside is reached from the site.
    pub fn outside(&self) -> String {
        format!("10.77.{}.1", self.subnet)
    }
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// The networks the site has when Muster finds it: `(name, cidr)`.
    pub fn write_networks(&self, networks: &[(&str, &str)]) -> Result<()> {
        let networks: Vec<_> =
            networks.iter().map(|(name, cidr)| serde_json::json!({ "name": name, "cidr": cidr })).collect();
        let site = serde_json::json!({ "format": "muster.qemu-site/1", "name": self.name, "networks": networks });
        write(&self.folder.join("site.json"), &format!("{site:#}\n"))
    }

    /// Puts a machine, powered off, into the site's folder; answers with the machine's own folder.
    pub fn machine(&self, images: &Images, machine: &Machine) -> Result<PathBuf> {
        machine.place(images, &self.folder.join("machines"))
    }

    /// A command that runs inside the site: `ip netns exec`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut inside = command("ip");
        inside.args(["netns", "exec", &self.namespace]).arg(program);
        inside
    }

    /// Starts something of the site, usually its agent; remembered, so that [`Self::kill`] takes it along.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let child = command.spawn().map_err(Error::file(PathBuf::from(command.get_program())))?;
        let folder = self.folder.join("lab");
        make_folder(&folder)?;
        write_pid(&folder.join(format!("{}.pid", child.id())), child.id())?;
        Ok(child)
    }

    /// Moves the calling thread, and all it will start, into the site. For tests that are the agent themselves.
    pub fn enter(&self) -> Result<()> {
        let path = PathBuf::from("/run/netns").join(&self.namespace);
        let file = File::open(&path).map_err(Error::file(&path))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| Error::file(&path)(error.into()))
    }

    /// The disaster: every process of the site ends at once and its network is gone. Disks stay as they lie.
    pub fn kill(&mut self) -> Result<()> {
        self.alive = false;
        // Twice: what was just starting during the first round is caught in the second.
        for _ in 0..2 {
            for pid in self.processes()? {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = run(command("ip").args(["link", "del", &self.veth]));
        if Path::new("/run/netns").join(&self.namespace).exists() {
            run(command("ip").args(["netns", "del", &self.namespace]))?;
        }
        // A dead site's address must not lead anywhere else: without this, packets for it would leave by the default route.
        run(command("ip").args(["route", "replace", "unreachable", &self.grave()])).map(drop)
    }

    /// The addresses of the way to this site.
    fn grave(&self) -> String {
        format!("10.77.{}.0/30", self.subnet)
    }

    /// Cuts the site off from the outside without hurting it, and joins it again. Its own end of the way goes down: with
    /// the other end down, packets for it would leave by the default route, and somebody there might answer.
    pub fn cut_off(&self, cut: bool) -> Result<()> {
        let inner = format!("{}i", self.veth);
        let state = if cut { "down" } else { "up" };
        run(command("ip").args(["-n", &self.namespace, "link", "set", &inner, state])).map(drop)
    }

    /// The namespace and the way to it; machines and agent stay off.
    pub fn revive(&mut self) -> Result<()> {
        if self.alive {
            return Ok(());
        }
        let inner = format!("{}i", self.veth);
        let (ours, theirs) = (format!("{}/30", self.outside()), format!("{}/30", self.address()));
        let _ = run(command("ip").args(["route", "del", "unreachable", &self.grave()]));
        let namespace = self.namespace.as_str();
        let steps: [&[&str]; 6] = [
            &["netns", "add", namespace],
            &["link", "add", &self.veth, "type", "veth", "peer", "name", &inner, "netns", namespace],
            &["addr", "add", &ours, "dev", &self.veth],
            &["link", "set", &self.veth, "up"],
            &["-n", namespace, "addr", "add", &theirs, "dev", &inner],
            &["-n", namespace, "link", "set", "lo", "up"],
        ];
        for step in steps {
            run(command("ip").args(step))?;
        }
        run(command("ip").args(["-n", namespace, "link", "set", &inner, "up"]))?;
        self.alive = true;
        Ok(())
    }

    /// All living processes of the site: those in its namespace, and those its pid files name (bubbles are elsewhere).
    fn processes(&self) -> Result<Vec<Pid>> {
        let mut pids: Vec<i32> = Vec::new();
        if let Ok(listed) = run(command("ip").args(["netns", "pids", &self.namespace])) {
            pids.extend(listed.lines().filter_map(|line| line.trim().parse::<i32>().ok()));
        }
        collect_pid_files(&self.folder, &mut pids)?;
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        pids.retain(|pid| *pid != own);
        Ok(pids.into_iter().filter_map(Pid::from_raw).collect())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// When a process began, in clock ticks since boot: tells a process from a later one with the same number.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A process that has ended and that nobody has collected yet is not alive.
pub(crate) fn is_alive(pid: u32, start: u64) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    !matches!(fields.split_whitespace().next(), None | Some("Z" | "X" | "x")) && start_of(pid) == Some(start)
}

/// The living process that a pid file of the site names.
pub fn process_of(pid_file: &Path) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(pid_file).ok()?).ok()?;
    let pid = u32::try_from(value["pid"].as_u64()?).ok()?;
    is_alive(pid, value["start"].as_u64()?).then_some(pid)
}

fn write_pid(file: &Path, pid: u32) -> Result<()> {
    write(file, &serde_json::json!({ "pid": pid, "start": start_of(pid).unwrap_or(0) }).to_string())
}

fn collect_pid_files(folder: &Path, pids: &mut Vec<i32>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pid_files(&path, pids)?;
        } else if path.extension().is_some_and(|extension| extension == "pid") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            let (pid, start) = (value["pid"].as_u64(), value["start"].as_u64());
            if let (Some(pid), Some(start)) = (pid.and_then(|pid| u32::try_from(pid).ok()), start)
                && start_of(pid) == Some(start)
            {
                pids.extend(i32::try_from(pid));
            }
        }
    }
    Ok(())
}
