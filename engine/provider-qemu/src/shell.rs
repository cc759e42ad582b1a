//! Commands in guests over SSH: OpenSSH's own client, as a process inside the network the guest has landed in.
//!
//! The client and not a library: the host has it, it gets security fixes without a new muster, and it knows the ciphers
//! of old and of hardened guests alike. Nothing of the host's own set-up counts (`-F none`): no agent, no keys, no known
//! hosts but those of the order, nobody to answer a question.
//!
//! The private key never lies in a file. It is a page of this process's memory that the client opens through `/proc`, as
//! are the host keys, and what the client itself has to say, apart from what the command says.
//!
//! Architecture invariant: a guest whose host key is not named is not talked to. There is no switch for it.

use crate::limits;
use crate::process::Namespace;
use muster_ports::*;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What the client exits with when it could not do its work. A command may do so too.
const SSH_FAILED: i32 = 255;
/// The name under which the guest's keys are known: its address differs from place to place, its keys do not.
const ALIAS: &str = "guest";
const CLIENT: &str = "ssh";

/// Whether the host has the client.
pub(crate) fn is_here() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(CLIENT).is_file())
}

pub(crate) async fn run(namespace: Namespace, order: &ShellOrder) -> Result<GuestOutput> {
    let place = format!("{}@{}:{}", order.user, order.ip, order.port);
    check(order).map_err(|failure| failure.during(&place))?;
    let files = Files::of(order).map_err(|error| Failure::from(error).during(&place))?;
    let words = namespace.words(CLIENT);
    let child = Command::new(&words[0])
        .args(&words[1..])
        .args(options(order, &files))
        .arg("--")
        .arg(order.ip.to_string())
        .arg(quoted(&order.command))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| crate::process::missing(CLIENT, &error))?;
    let within = order.command.within;
    let Ok(ended) = timeout(within, converse(child, order.command.stdin.as_deref())).await else {
        return Err(Failure::timeout(format!(
            "`{}` at {place} has not ended within {} s",
            order.command.program,
            within.as_secs()
        ))
        .help("it may still run in the guest"));
    };
    let output = ended.map_err(|error| Failure::from(error).during(&place))?;
    match (output.code, files.said()) {
        (SSH_FAILED, said) if !said.is_empty() => Err(trouble(&place, &said)),
        _ => Ok(output),
    }
}

/// Refuses what would be read as something else than it is.
fn check(order: &ShellOrder) -> Result<()> {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '\\');
    if order.user.is_empty() || order.user.starts_with('-') || !order.user.chars().all(letters) {
        return Err(Failure::permanent(format!("`{}` is not the name of a user", order.user)));
    }
    if !order.key.reveal().contains("PRIVATE KEY-----") {
        return Err(Failure::permanent("the secret for `key` is not a private key")
            .help("put the text of a key file there, such as `ssh-keygen -t ed25519 -N '' -f key` makes"));
    }
    known_hosts(&order.host_keys).map(drop)
}

/// Lines of a `known_hosts` file under our own name. Taken are public keys (`ssh-ed25519 AAAA…`), as in `*.pub` and in
/// what `ssh-keyscan` prints.
fn known_hosts(text: &str) -> Result<String> {
    let is_kind = |word: &str| ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|kind| word.starts_with(kind));
    let mut lines = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = match words.as_slice() {
            [kind, key, ..] if is_kind(kind) => Some((kind, key)),
            [_, kind, key, ..] if is_kind(kind) => Some((kind, key)),
            _ => None,
        };
        let Some((kind, key)) = key else {
            return Err(Failure::permanent("the host key of the guest is not a public key").help(
                "write a line such as `ssh-ed25519 AAAA…`, from /etc/ssh/ssh_host_ed25519_key.pub of the guest",
            ));
        };
        lines.push_str(&format!("{ALIAS} {kind} {key}\n"));
    }
    match lines.is_empty() {
        true => {
            Err(Failure::permanent("no host key of the guest is named, and one that is not known is not talked to"))
        }
        false => Ok(lines),
    }
}

/// Pages of memory that the client opens as files.
struct Files {
    key: File,
    known_hosts: File,
    log: File,
}

impl Files {
    fn of(order: &ShellOrder) -> std::io::Result<Self> {
        // OpenSSH takes a key only with a line break at its end.
        let key = memory(format!("{}\n", order.key.reveal().trim_end()).as_bytes())?;
        let known_hosts = memory(known_hosts(&order.host_keys).unwrap_or_default().as_bytes())?;
        Ok(Self { key, known_hosts, log: memory(b"")? })
    }
    /// What the client has said of itself.
    fn said(&self) -> String {
        let mut said = Vec::new();
        let read = (&self.log)
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&self.log).take(limits::SHELL_OUTPUT_BYTES as u64).read_to_end(&mut said));
        match read {
            Ok(_) => String::from_utf8_lossy(&said).trim().to_owned(),
            Err(error) => format!("its log does not read: {error}"),
        }
    }
}

pub(crate) fn memory(content: &[u8]) -> std::io::Result<File> {
    let file = memfd_create("muster-ssh", MemfdFlags::CLOEXEC)?;
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(content)?;
    Ok(file)
}

pub(crate) fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn options(order: &ShellOrder, files: &Files) -> Vec<String> {
    let connect = order.command.within.min(limits::SHELL_CONNECT).max(Duration::from_secs(1)).as_secs();
    let mut words: Vec<String> = ["-F", "none", "-T", "-E"].map(str::to_owned).to_vec();
    words.push(path_of(&files.log));
    words.extend(["-l".to_owned(), order.user.clone(), "-p".to_owned(), order.port.to_string()]);
    for option in [
        "BatchMode=yes",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=none",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "VerifyHostKeyDNS=no",
        "CanonicalizeHostname=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "ProxyCommand=none",
        "ControlMaster=no",
        "ControlPath=none",
        "ConnectionAttempts=1",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
    ] {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    for option in [
        format!("HostKeyAlias={ALIAS}"),
        format!("ConnectTimeout={connect}"),
        format!("UserKnownHostsFile={}", path_of(&files.known_hosts)),
        format!("IdentityFile={}", path_of(&files.key)),
    ] {
        words.extend(["-o".to_owned(), option]);
    }
    words
}

/// One line for the login shell of the user, which takes every word as it is.
fn quoted(command: &GuestCommand) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    let words = std::iter::once(&command.program).chain(&command.arguments);
    words.map(quote).collect::<Vec<_>>().join(" ")
}

async fn converse(mut child: Child, stdin: Option<&str>) -> std::io::Result<GuestOutput> {
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let say = async {
        if let (Some(mut input), Some(text)) = (input, stdin) {
            // A command that does not read to the end is no failure.
            let _ = input.write_all(text.as_bytes()).await;
        }
    };
    let ((), out, err) = tokio::join!(say, hear(out), hear(err));
    let status = child.wait().await?;
    Ok(GuestOutput { code: status.code().unwrap_or(SSH_FAILED), out: out?, err: err? })
}

/// The beginning of what is said; the rest is heard and dropped, so that nobody waits for us to read it.
async fn hear(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(mut from) = from else { return Ok(String::new()) };
    let mut heard = Vec::new();
    let mut piece = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&heard).into_owned());
        }
        let room = limits::SHELL_OUTPUT_BYTES.saturating_sub(heard.len());
        heard.extend_from_slice(&piece[..count.min(room)]);
    }
}

fn trouble(place: &str, said: &str) -> Failure {
    let short: String = said.lines().next_back().unwrap_or_default().chars().take(limits::TOOL_WORDS).collect();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["Host key verification failed", "host key is known", "IDENTIFICATION HAS CHANGED"]) {
        return Failure::refused(format!("{place} does not prove to be the guest of the plan: {short}"))
            .help("compare its host key with the one the plan names; somebody may stand in between");
    }
    if has(&["Permission denied", "Too many authentication failures"]) {
        return Failure::permanent(format!("{place} does not let this key in: {short}"))
            .help("put the public half of the key into `authorized_keys` of that user");
    }
    if has(&["Load key", "invalid format", "error in libcrypto", "passphrase"]) {
        return Failure::permanent(format!("{place}: the key does not read: {short}"))
            .help("it has to be a private key of OpenSSH without a passphrase");
    }
    if has(&["timed out", "Timeout, server"]) {
        return Failure::timeout(format!("{place} does not answer: {short}"));
    }
    // The guest may be on its way up.
    Failure::transient(format!("{place} cannot be talked to over SSH: {short}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        let command = GuestCommand {
            program: "/bin/echo".into(),
            arguments: vec!["it's".into(), "$HOME; rm -rf /".into(), String::new()],
            stdin: None,
            within: Duration::from_secs(1),
        };
        assert_eq!(quoted(&command), r"'/bin/echo' 'it'\''s' '$HOME; rm -rf /' ''");
    }

    #[test]
    fn host_keys_are_taken_as_people_have_them_and_nothing_else() {
        let bare = known_hosts("ssh-ed25519 AAAA root@db\n# a word\n").unwrap();
        assert_eq!(bare, "guest ssh-ed25519 AAAA\n");
        assert_eq!(known_hosts("10.0.0.5 ecdsa-sha2-nistp256 BBBB").unwrap(), "guest ecdsa-sha2-nistp256 BBBB\n");
        for wrong in ["", "  \n# nothing\n", "AAAA", "@cert-authority * ssh-ed25519"] {
            assert!(known_hosts(wrong).is_err(), "{wrong}");
        }
    }
}
