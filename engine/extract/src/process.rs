//! `qemu-img` and `qemu-nbd`: they know the formats of other hypervisors better than anything we could write.

use muster_ports::{Failure, Progress, Result};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// How to come by the programs.
pub const TOOLS_HINT: &str =
    "install it: `apt install qemu-utils` (Debian, Ubuntu), `dnf install qemu-img` (Fedora, RHEL)";
/// Of what a program says about its failure, in bytes.
const WORDS_BYTES_MAX: u64 = 16 << 10;

/// Starts a program that ends with this process' interest in it.
pub(crate) fn start(program: &str, arguments: &[OsString]) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // The terminal's interrupt goes to the whole group; who started the program decides when it ends.
    command.process_group(0);
    command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::permanent(format!("`{program}` is not installed")).help(TOOLS_HINT),
        _ => Failure::from(error).during(format!("start `{program}`")),
    })
}

/// Runs a program to its end. With `total`, its `-p` words become progress.
pub(crate) async fn run(program: &str, arguments: &[OsString], progress: Option<(&dyn Progress, u64)>) -> Result<()> {
    let mut child = start(program, arguments)?;
    let (Some(out), Some(words)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failure::permanent(format!("`{program}` has no pipes")));
    };
    let mut said = Vec::new();
    let mut words = words.take(WORDS_BYTES_MAX);
    let (_, read) = tokio::join!(follow(out, progress), words.read_to_end(&mut said));
    read?;
    // What it still says is thrown away, so that it never waits for a reader.
    drop(words);
    let status = child.wait().await?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.trim();
    let said = said.lines().last().unwrap_or("it said nothing");
    Err(Failure::permanent(format!("`{program}` failed ({status}): {said}")))
}

/// `    (12.50/100%)`, each ended by a carriage return.
async fn follow(out: tokio::process::ChildStdout, progress: Option<(&dyn Progress, u64)>) {
    let mut out = BufReader::new(out);
    let mut part = Vec::new();
    while matches!(out.read_until(b'\r', &mut part).await, Ok(read) if read > 0) {
        if let (Some((progress, total)), Some(share)) = (progress, share(&part)) {
            progress.report((total as f64 * share) as u64, Some(total));
        }
        part.clear();
    }
}

fn share(part: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(part).ok()?;
    let (_, text) = text.split_once('(')?;
    let percent: f64 = text.split_once('/')?.0.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_what_qemu_img_prints() {
        assert_eq!(share(b"    (12.50/100%)\r"), Some(0.125));
        assert_eq!(share(b"    (100.00/100%)\r"), Some(1.0));
        for bad in [&b"(nan/100%)"[..], b"(1000/100%)", b"12", b"\xff(1/100%)", b"(-1/100%)"] {
            assert_eq!(share(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_program_says_what_to_install() {
        let failure = run("muster-no-such-program", &[], None).await.unwrap_err();
        assert_eq!(failure.message, "`muster-no-such-program` is not installed");
        assert!(failure.help.unwrap().contains("qemu-utils"));
    }

    #[tokio::test]
    async fn what_a_program_said_last_is_the_reason() {
        let arguments = ["-c", "echo first >&2; echo no room >&2; exit 3"].map(OsString::from);
        let failure = run("sh", &arguments, None).await.unwrap_err();
        assert!(failure.message.ends_with("no room") && failure.message.contains("exit status: 3"), "{failure}");
    }
}
