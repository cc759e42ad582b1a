//! The QEMU guest agent, as a client. The guest is not trusted: answers are bounded in size and time, and old answers
//! to somebody who has given up are skipped.

use crate::limits;
use crate::qmp::limited;
use crate::socket::JsonLines;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use muster_ports::{Failure, GuestCommand, GuestOutput, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) const SOCKET: &str = "qga.sock";

/// Tells the answer to this greeting from answers to earlier ones.
static GREETING: AtomicU64 = AtomicU64::new(1);

/// One call over a connection of its own: the agent serves one client at a time, callers take turns outside.
pub(crate) async fn call(folder: &Path, limit: Duration, command: &str, arguments: Value) -> Result<Value> {
    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let peer = format!("the guest agent of `{name}`");
    let work = async {
        let mut lines = JsonLines::connect(folder, SOCKET, peer.clone()).await?;
        greet(&mut lines).await?;
        lines.send(b"", &json!({ "execute": command, "arguments": arguments })).await?;
        let mut answer = parse(&lines.line().await?, &peer)?;
        if let Some(error) = answer.get("error") {
            let said = error["desc"].as_str().unwrap_or("no reason given");
            return Err(Failure::permanent(format!("{peer} answers `{command}` with: {said}")));
        }
        Ok(answer["return"].take())
    };
    limited(limit, &peer, work).await
}

/// 0xFF makes the agent drop half a request of somebody before us; its answer begins with 0xFF too.
async fn greet(lines: &mut JsonLines) -> Result<()> {
    let id = GREETING.fetch_add(1, Ordering::Relaxed) << 20 | u64::from(std::process::id() & 0xf_ffff);
    lines.send(&[0xff], &json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } })).await?;
    loop {
        let line = lines.line().await?;
        let start = line.iter().rposition(|byte| *byte == 0xff).map_or(0, |at| at + 1);
        let Ok(answer) = serde_json::from_slice::<Value>(&line[start..]) else { continue };
        if answer["return"].as_u64() == Some(id) {
            return Ok(());
        }
    }
}

fn parse(line: &[u8], peer: &str) -> Result<Value> {
    let start = line.iter().rposition(|byte| *byte == 0xff).map_or(0, |at| at + 1);
    serde_json::from_slice(&line[start..])
        .map_err(|error| Failure::transient(format!("{peer} does not speak JSON: {error}")))
}

pub(crate) async fn ping(folder: &Path, limit: Duration) -> Result<()> {
    call(folder, limit, "guest-ping", json!({})).await.map(drop).map_err(|mut failure| {
        // Whatever the reason, the guest may still be booting.
        failure.class = muster_ports::FailureClass::Transient;
        failure
    })
}

/// Starts a program in the guest. Not to be repeated by itself: the program may have run.
pub(crate) async fn spawn(folder: &Path, command: &GuestCommand) -> Result<u64> {
    let mut arguments = json!({ "path": command.program, "arg": command.arguments, "capture-output": true });
    if let Some(stdin) = &command.stdin {
        arguments["input-data"] = Value::String(STANDARD.encode(stdin));
    }
    let answer = call(folder, limits::GUEST_CALL.min(command.within), "guest-exec", arguments).await?;
    answer["pid"].as_u64().ok_or_else(|| Failure::permanent("the guest agent started a program without a number"))
}

/// How the program stands; `None` while it runs.
pub(crate) async fn look(folder: &Path, pid: u64) -> Result<Option<GuestOutput>> {
    let status = call(folder, limits::GUEST_CALL, "guest-exec-status", json!({ "pid": pid })).await?;
    if !status["exited"].as_bool().unwrap_or(false) {
        return Ok(None);
    }
    // As shells say it: 128 and the signal's number.
    let signal = status["signal"].as_i64().map(|signal| signal.saturating_add(128));
    let code = status["exitcode"].as_i64().or(signal).unwrap_or(-1);
    let text = |name: &str| {
        let bytes = status[name].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Some(GuestOutput { code: i32::try_from(code).unwrap_or(-1), out: text("out-data"), err: text("err-data") }))
}

/// Freezes all file systems; says how many.
pub(crate) async fn freeze(folder: &Path, limit: Duration) -> Result<u64> {
    let count = call(folder, limit, "guest-fsfreeze-freeze", json!({})).await?.as_u64().unwrap_or(0);
    if count == 0 { Err(Failure::permanent("the guest agent froze no file system")) } else { Ok(count) }
}

/// Thaws; says how many file systems were frozen until then. An answer means that everything that was asked before has
/// been done: the agent takes one thing after another, whoever asked.
pub(crate) async fn thaw_once(folder: &Path, limit: Duration) -> Result<u64> {
    Ok(call(folder, limit, "guest-fsfreeze-thaw", json!({})).await?.as_u64().unwrap_or(0))
}

/// Thaws, again and again while a cut can wait. Says whether it is known that the guest was frozen until now.
pub(crate) async fn thaw(folder: &Path) -> Result<bool> {
    let deadline = Instant::now() + limits::THAW;
    loop {
        match thaw_once(folder, limits::GUEST_CALL).await {
            Ok(count) => return Ok(count > 0),
            Err(failure) if Instant::now() >= deadline => {
                return Err(failure.help(
                    "the guest may still be frozen; the site agent goes on trying. By hand: `guest-fsfreeze-thaw`, \
                     or power it off and on",
                ));
            }
            Err(_) => sleep(limits::LOOK_SLOW).await,
        }
    }
}

pub(crate) async fn is_frozen(folder: &Path, limit: Duration) -> Result<bool> {
    Ok(call(folder, limit, "guest-fsfreeze-status", json!({})).await?.as_str() == Some("frozen"))
}

/// Asks the guest to power down. The agent answers only when it could not, so silence is consent.
pub(crate) async fn shut_down(folder: &Path) -> Result<()> {
    match call(folder, limits::GUEST_GLANCE, "guest-shutdown", json!({ "mode": "powerdown" })).await {
        Err(failure) if !failure.is_retryable() => Err(failure),
        _ => Ok(()),
    }
}
