//! QEMU's monitor, as a client. The same words drive a machine that is on (`qemu-system`) and the disks of one that is off
//! (`qemu-storage-daemon`).
//!
//! A monitor serves one client at a time. Connections are therefore short: one for an operation, none across waits of
//! unknown length. Nothing here is remembered between connections, so a restarted agent goes on where it was.

use crate::limits;
use crate::socket::JsonLines;
use muster_ports::{Failure, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

#[derive(Debug)]
pub(crate) struct Qmp {
    lines: JsonLines,
}

impl Qmp {
    pub(crate) async fn connect(folder: &Path, socket: &str) -> Result<Self> {
        let connecting = async {
            let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let lines = JsonLines::connect(folder, socket, format!("the monitor of `{name}`")).await?;
            let mut qmp = Self { lines };
            qmp.lines.line().await?;
            qmp.execute("qmp_capabilities", json!({})).await?;
            Ok(qmp)
        };
        limited(limits::QMP_CALL, "the monitor", connecting).await
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.lines.peer_pid()
    }

    /// One command and its answer. Events in between are not needed: states are asked for.
    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let what = format!("{}, asked for `{command}`,", self.lines.peer);
        let call = async {
            self.lines.send(b"", &json!({ "execute": command, "arguments": arguments })).await?;
            loop {
                let line = self.lines.line().await?;
                let mut answer: Value = serde_json::from_slice(&line)
                    .map_err(|error| Failure::permanent(format!("{} does not speak JSON: {error}", self.lines.peer)))?;
                if let Some(value) = answer.get_mut("return") {
                    return Ok(value.take());
                }
                if let Some(error) = answer.get("error") {
                    let said = error["desc"].as_str().unwrap_or("no reason given");
                    return Err(Failure::permanent(format!("`{command}`: {said}")));
                }
            }
        };
        let answer = limited(limits::QMP_CALL, &what, call).await;
        answer.map_err(|failure| if failure.is_retryable() { failure.during(format!("`{command}`")) } else { failure })
    }
}

pub(crate) async fn limited<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(format!("{what} does not answer within {} s", limit.as_secs()))))
}
