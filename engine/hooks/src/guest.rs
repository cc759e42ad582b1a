//! A machine's other two doors: `m.ssh(…)` into its guest, and `m.disk` for files on its disk before the first start.

use crate::call::HostCall;
use crate::doors::{Outcome, known_only, mistake, sealed_of, secret_of, text_option};
use crate::host::Session;
use crate::http::cut_text;
use crate::sandbox::{span_of, words_of};
use crate::script::Line;
use crate::secret::{Sealed, SecretRef};
use crate::value::{HookMachine, Machine, from_json};
use muster_ports::*;
use rhai::{Dynamic, Engine, ImmutableString, Map};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;

/// Where SSH servers listen.
const SSH_PORT: u16 = 22;

/// `m.ssh(command, options)`.
#[derive(Clone, Debug)]
pub(crate) struct SshCall {
    pub(crate) machine: Arc<HookMachine>,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) user: String,
    pub(crate) key: SecretRef,
    /// The guest's public keys, of which it has to prove one.
    pub(crate) host_key: Sealed,
    pub(crate) port: u16,
    pub(crate) stdin: Option<Sealed>,
    pub(crate) within: Option<Duration>,
}

impl SshCall {
    /// As they are hashed.
    pub(crate) fn json(&self) -> Json {
        let stdin = self.stdin.as_ref().map(Sealed::json);
        let host_key = self.host_key.json();
        json!([self.machine.name, self.program, self.arguments, stdin, self.user, self.key.name, host_key, self.port])
    }
}

/// What is done with a file on a disk.
#[derive(Clone, Debug)]
pub(crate) enum DiskWork {
    Read,
    Write(Sealed),
    /// Every `old` becomes `new`.
    Patch {
        old: String,
        new: Sealed,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct DiskCall {
    pub(crate) machine: Arc<HookMachine>,
    pub(crate) path: String,
    pub(crate) work: DiskWork,
}

impl DiskCall {
    pub(crate) fn operation(&self) -> &'static str {
        match self.work {
            DiskWork::Read => "disk.read",
            DiskWork::Write(_) => "disk.write",
            DiskWork::Patch { .. } => "disk.patch",
        }
    }
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.work, DiskWork::Read)
    }
    pub(crate) fn json(&self) -> Json {
        match &self.work {
            DiskWork::Read => json!([self.machine.name, self.path]),
            DiskWork::Write(text) => json!([self.machine.name, self.path, text.json()]),
            DiskWork::Patch { old, new } => json!([self.machine.name, self.path, old, new.json()]),
        }
    }
}

/// What `m.disk` is in a script.
#[derive(Clone, Debug)]
struct Disk(Machine);

pub(crate) fn register_guest(engine: &mut Engine, line: &Line) {
    let door = line.clone();
    engine.register_fn("ssh", move |machine: Machine, command: Dynamic, options: Map| -> Outcome {
        let call = ssh_call(&machine, &command, &options)?;
        door.ask(HostCall::Ssh(Box::new(call))).map(|json| from_json(&json))
    });
    engine.register_type_with_name::<Disk>("disk");
    engine.register_get("disk", |machine: &mut Machine| Disk(machine.clone()));
    let ask = |line: &Line, disk: Disk, path: &str, work: DiskWork| -> Outcome {
        let call = DiskCall { machine: disk.0.0, path: path.to_owned(), work };
        line.ask(HostCall::Disk(Box::new(call))).map(|json| from_json(&json))
    };
    let door = line.clone();
    engine.register_fn("read", move |disk: Disk, path: ImmutableString| ask(&door, disk, &path, DiskWork::Read));
    let door = line.clone();
    engine.register_fn("write", move |disk: Disk, path: ImmutableString, text: Dynamic| -> Outcome<()> {
        let text = sealed_of(&text, "a file")?;
        ask(&door, disk, &path, DiskWork::Write(text)).map(|_| ())
    });
    let door = line.clone();
    engine.register_fn(
        "patch",
        move |disk: Disk, path: ImmutableString, old: ImmutableString, new: Dynamic| -> Outcome<()> {
            if old.is_empty() {
                return mistake("`disk.patch` needs the text that is to be replaced");
            }
            let work = DiskWork::Patch { old: old.to_string(), new: sealed_of(&new, "the new text")? };
            ask(&door, disk, &path, work).map(|_| ())
        },
    );
}

fn ssh_call(machine: &Machine, command: &Dynamic, options: &Map) -> Outcome<SshCall> {
    const WHAT: &str = "ssh";
    known_only(options, WHAT, &["user", "key", "host_key", "port", "stdin", "within"])?;
    let (program, arguments) = words_of(command)?;
    let option = |name: &str| match options.get(name) {
        Some(value) => Ok(value),
        None => mistake(format!("`{WHAT}` needs `{name}`")),
    };
    let port = match options.get("port") {
        None => SSH_PORT,
        Some(port) => match port.as_int().ok().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) {
            Some(port) => port,
            None => return mistake("`port` is a number from 1 to 65535"),
        },
    };
    Ok(SshCall {
        machine: machine.0.clone(),
        program,
        arguments,
        user: text_option(options, WHAT, "user")?,
        key: secret_of(option("key")?, "`key`")?,
        host_key: sealed_of(option("host_key")?, "`host_key`")?,
        port,
        stdin: options.get("stdin").map(|stdin| sealed_of(stdin, "`stdin`")).transpose()?,
        within: options.get("within").map(span_of).transpose()?,
    })
}

impl Session<'_> {
    pub(crate) async fn ssh(&self, call: &SshCall) -> Result<Json> {
        let machine = &call.machine;
        let ip = machine.ip.ok_or_else(|| {
            Failure::permanent(format!("machine `{}` has no address here", machine.name))
                .help("give its card an address in the plan or the inventory")
        })?;
        let stdin = match &call.stdin {
            Some(text) => Some(self.open_text(text).await?.reveal().to_owned()),
            None => None,
        };
        let order = ShellOrder {
            ip,
            port: call.port,
            user: call.user.clone(),
            key: Concealed::new(self.open(&call.key).await?.reveal()),
            host_keys: self.open_text(&call.host_key).await?.reveal().to_owned(),
            command: self.command(&call.program, call.arguments.clone(), stdin, call.within),
        };
        let output = self.order.world.shell(machine, &order).await?;
        let (out, err) = (cut_text(output.out.as_bytes()), cut_text(output.err.as_bytes()));
        Ok(json!({ "code": output.code, "out": out, "err": err }))
    }

    /// Writing is convergent: the same again changes nothing, so that a call that was cut off is simply made again.
    pub(crate) async fn disk(&self, call: &DiskCall) -> Result<Json> {
        let (world, machine, path) = (self.order.world, &call.machine, call.path.as_str());
        match &call.work {
            DiskWork::Read => Ok(world.disk_read(machine, path).await?.map_or(Json::Null, Json::String)),
            DiskWork::Write(text) => {
                let text = Concealed::new(self.open_text(text).await?.reveal());
                world.disk_write(machine, path, &text).await.map(|()| Json::Null)
            }
            DiskWork::Patch { old, new } => {
                let new = self.open_text(new).await?;
                let place = format!("file `{path}` on the disk of machine `{}`", machine.name);
                let before = world.disk_read(machine, path).await?;
                let before = before.ok_or_else(|| Failure::permanent(format!("{place} is not there")))?;
                match patched(&before, old, new.reveal())
                    .map_err(|why| Failure::permanent(format!("{place}: {why}")))?
                {
                    Some(after) => world.disk_write(machine, path, &Concealed::new(after)).await.map(|()| Json::Null),
                    None => Ok(Json::Null),
                }
            }
        }
    }
}

/// `None` when it has been done before.
fn patched(text: &str, old: &str, new: &str) -> std::result::Result<Option<String>, &'static str> {
    if new.contains(old) {
        return Err("the new text holds the old one, and would be put in again and again");
    }
    if text.contains(old) {
        return Ok(Some(text.replace(old, new)));
    }
    // Taking something away leaves nothing behind that could be looked for.
    if new.is_empty() || text.contains(new) {
        return Ok(None);
    }
    Err("it holds neither the old text nor the new one")
}

#[cfg(test)]
mod tests {
    use super::patched;

    #[test]
    fn a_patch_is_done_once_however_often() {
        let once = patched("host=a\nspare=a\n", "=a", "=b").unwrap().unwrap();
        assert_eq!(once, "host=b\nspare=b\n");
        assert_eq!(patched(&once, "=a", "=b"), Ok(None));
        assert_eq!(patched("x=1", "x=1", ""), Ok(Some(String::new())));
        assert_eq!(patched("", "x=1", ""), Ok(None));
        assert!(patched("x=1", "y=1", "y=2").is_err());
        assert!(patched("x=1", "x=1", "x=1 y=2").is_err(), "twice would do it twice");
    }
}
