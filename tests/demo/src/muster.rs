//! The binary, driven as a user would.

use crate::{Result, during};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Builds the binary in the profile this program was built in; answers with its path and the seconds it took.
#[allow(clippy::disallowed_methods)]
pub fn build() -> Result<(PathBuf, f64)> {
    let began = Instant::now();
    let output = Command::new("cargo")
        .args(["build", "--locked", "--package", "muster", "--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(during("start cargo"))?;
    if !output.status.success() {
        return Err("the build failed".into());
    }
    let binary = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "muster")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or("cargo names no binary `muster`")?;
    Ok((binary, began.elapsed().as_secs_f64()))
}

/// The longest a command of the story may take: a run that waits for a person nobody plays would wait on.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

#[allow(clippy::disallowed_methods)]
fn ended(mut child: Child, words: &[&str]) -> Result<std::process::ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < COMMAND_LIMIT {
        if let Some(status) = child.try_wait().map_err(during("wait for muster"))? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("`muster {}` has not ended within {}s", words.join(" "), COMMAND_LIMIT.as_secs()))
}

/// Where certificates lie, a folder for each side, where sites are other machines.
pub(crate) fn certificates(key: &Path) -> PathBuf {
    key.with_file_name("certificates")
}

/// The folder of who calls.
pub(crate) const ENGINE: &str = "engine";

/// One folder of plans, one vault, one key.
#[derive(Clone, Debug)]
pub struct Muster {
    pub binary: PathBuf,
    pub plans: PathBuf,
    pub key: PathBuf,
    /// Where the socket of whoever holds the vault lies; the user's own runtime folder when it is not said.
    pub runtime: Option<PathBuf>,
    /// Print commands and what they say.
    pub show: bool,
}

impl Muster {
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words);
        command.env("MUSTER_PLANS", &self.plans).env("MUSTER_KEY_FILE", &self.key).env("MUSTER_USER", "demo");
        let own = certificates(&self.key).join(ENGINE);
        if own.exists() {
            command.env("MUSTER_CERTIFICATES", own);
        }
        if let Some(runtime) = &self.runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command a user would type, and shows it. Exit codes in `accepted` are fine.
    #[allow(clippy::print_stdout)]
    pub fn run(&self, words: &[&str], accepted: &[i32]) -> Result<i32> {
        if self.show {
            println!("\n$ muster {}", words.join(" "));
        }
        let mut command = self.command(words);
        let (status, said) = if self.show {
            let child = command.spawn().map_err(during("start muster"))?;
            (ended(child, words)?, String::new())
        } else {
            let output = command.output().map_err(during("start muster"))?;
            (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
        };
        match status.code() {
            Some(code) if accepted.contains(&code) => Ok(code),
            _ => Err(format!("`muster {}` ended with {status}\n{said}", words.join(" "))),
        }
    }

    /// Asks for data, quietly.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let output = self.command(words).arg("--json").output().map_err(during("start muster"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`muster {}` ended with {}\n{said}", words.join(" "), output.status));
        }
        serde_json::from_slice(&output.stdout).map_err(during(format!("`muster {}` --json", words.join(" "))))
    }

    /// Starts a command that stays, with what it says in a file.
    pub fn spawn(&self, words: &[&str], log: &Path) -> Result<Child> {
        let file = std::fs::File::create(log).map_err(during(log.display()))?;
        let also = file.try_clone().map_err(during(log.display()))?;
        self.command(words).stdout(file).stderr(also).spawn().map_err(during("start muster"))
    }

    /// Waits for something to become true, looking every half second.
    #[allow(clippy::disallowed_methods)]
    pub fn wait_until(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < limit {
            match holds() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Err(format!("{what}: not within {}s {last}", limit.as_secs()))
    }
}
