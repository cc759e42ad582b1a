//! `m.ssh` and `m.disk`: what reaches the site, what the journal keeps, what is refused.

use crate::support::*;
use async_trait::async_trait;
use muster_hooks::{Hidden, HookMachine, World};
use muster_ports::*;
use muster_runsheet::{HookSheet, MachineName, Need, Value};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Debug, Default)]
struct Estate {
    orders: Mutex<Vec<ShellOrder>>,
    files: Mutex<BTreeMap<String, String>>,
    writes: Mutex<Vec<String>>,
}

#[async_trait]
impl World for Estate {
    async fn secret(&self, key: &str) -> Result<Hidden> {
        Ok(Hidden::new(format!("value-of-{key}")))
    }
    async fn exec(&self, _: &HookMachine, _: &GuestCommand) -> Result<GuestOutput> {
        Err(Failure::permanent("no agent here"))
    }
    async fn shell(&self, _: &HookMachine, order: &ShellOrder) -> Result<GuestOutput> {
        self.orders.lock().unwrap().push(order.clone());
        Ok(GuestOutput { code: 3, out: "value-of-dr/token was said".into(), err: "x".repeat(3 << 20) })
    }
    async fn disk_read(&self, _: &HookMachine, path: &str) -> Result<Option<String>> {
        Ok(self.files.lock().unwrap().get(path).cloned())
    }
    async fn disk_write(&self, machine: &HookMachine, path: &str, text: &Concealed) -> Result<()> {
        self.writes.lock().unwrap().push(format!("{}:{path}", machine.instance));
        self.files.lock().unwrap().insert(path.to_owned(), text.reveal().to_owned());
        Ok(())
    }
    async fn probe(&self, _: &Probe) -> Result<ProbeAnswer> {
        Err(Failure::permanent("no networks here"))
    }
}

fn bench() -> Bench {
    Bench::with(&[("m", Value::Machine(MachineName::from("db")))])
}

fn hook(needs: &[Need], text: &str) -> HookSheet {
    let secret = |name: &str| Need::Secret { name: name.into(), key: format!("dr/{name}") };
    let needs = needs.iter().cloned().chain([secret("key"), secret("token")]).collect();
    sheet("work", &["m"], needs, &format!("fn work(m) {{ {text} }}"))
}

async fn play(bench: &Bench, world: &Estate, needs: &[Need], text: &str) -> Result<serde_json::Value> {
    bench.run_with(&hook(needs, text), world, &Fuse::never()).await.map(|end| end.value)
}

#[tokio::test]
async fn ssh_goes_to_the_address_here_with_the_key_and_the_host_key_of_the_order() {
    let (bench, world) = (bench(), Estate::default());
    let text = r#"
        let r = m.ssh("systemctl restart 'a b'", #{
            user: "ops", key: secret("key"), host_key: "ssh-ed25519 AAAA", port: 2222,
            stdin: ["token=", secret("token")], within: 5,
        });
        [r.code, r.out, r.err.len()]
    "#;
    let value = play(&bench, &world, &[Need::Ssh], text).await.unwrap();
    // Half a MiB comes back, and an echo of a secret does not.
    assert_eq!(value, serde_json::json!([3, "*** was said", 512 << 10]));
    let order = world.orders.lock().unwrap().remove(0);
    assert_eq!((order.ip.to_string().as_str(), order.port, order.user.as_str()), ("10.60.0.5", 2222, "ops"));
    assert_eq!((order.key.reveal(), order.host_keys.as_str()), ("value-of-dr/key", "ssh-ed25519 AAAA"));
    assert_eq!(order.command.program, "systemctl");
    assert_eq!(order.command.arguments, ["restart", "a b"]);
    assert_eq!(order.command.stdin.as_deref(), Some("token=value-of-dr/token"));
    assert_eq!(order.command.within, Duration::from_secs(5));
    let kept = format!("{:?}", bench.records.lock().unwrap());
    assert!(kept.contains("\"ssh\"") && !kept.contains("value-of"), "{kept}");
}

#[tokio::test]
async fn an_order_without_a_host_key_cannot_be_written() {
    let world = Estate::default();
    for (options, words) in [
        (r#"user: "ops", key: secret("key")"#, "`ssh` needs `host_key`"),
        (r#"key: secret("key"), host_key: "k""#, "`ssh` needs `user`"),
        (r#"user: "ops", key: "text", host_key: "k""#, "`key` is a secret"),
        (r#"user: "ops", key: secret("key"), host_key: "k", insecure: true"#, "not `insecure`"),
        (r#"user: "ops", key: secret("key"), host_key: "k", port: 0"#, "`port` is a number"),
    ] {
        let text = format!("m.ssh(\"true\", #{{ {options} }});");
        let failure = play(&bench(), &world, &[Need::Ssh], &text).await.unwrap_err();
        assert!(failure.message.contains(words), "{failure}");
    }
    let text = r#"m.ssh("true", #{ user: "ops", key: secret("key"), host_key: "k" });"#;
    let failure = play(&bench(), &world, &[Need::Guest], text).await.unwrap_err();
    assert!(failure.message.contains("`ssh` without declaring it"), "{failure}");
    assert!(world.orders.lock().unwrap().is_empty());
}

#[tokio::test]
async fn files_of_a_landed_disk_are_read_written_and_patched_once() {
    let world = Estate::default();
    world.files.lock().unwrap().insert("/etc/db.conf".into(), "host=10.10.0.5\n".into());
    let text = r#"
        if m.disk.read("/etc/none") != () { throw "it is not there"; }
        m.disk.patch("/etc/db.conf", `host=${m.source_ip}`, `host=${m.ip}`);
        m.disk.write("/etc/token", ["t=", secret("token")]);
        m.disk.read("/etc/db.conf")
    "#;
    let (first, second) = (bench(), bench());
    assert_eq!(play(&first, &world, &[Need::Disk], text).await.unwrap(), "host=10.60.0.5\n");
    assert_eq!(world.files.lock().unwrap()["/etc/token"], "t=value-of-dr/token");
    assert_eq!(*world.writes.lock().unwrap(), ["db~r1:/etc/db.conf", "db~r1:/etc/token"]);
    // Run anew, the patch finds itself done.
    assert_eq!(play(&second, &world, &[Need::Disk], text).await.unwrap(), "host=10.60.0.5\n");
    assert_eq!(world.writes.lock().unwrap().iter().filter(|write| write.ends_with("db.conf")).count(), 1);
    let kept = format!("{:?}", first.records.lock().unwrap());
    assert!(!kept.contains("value-of"), "{kept}");

    for (text, words) in [
        (r#"m.disk.patch("/etc/none", "a", "b");"#, "`/etc/none` on the disk of machine `db` is not there"),
        (r#"m.disk.patch("/etc/db.conf", "x", "y");"#, "neither the old text nor the new one"),
        (r#"m.disk.patch("/etc/db.conf", "host=", "host=1 host=");"#, "again and again"),
    ] {
        let failure = play(&bench(), &world, &[Need::Disk], text).await.unwrap_err();
        assert!(failure.message.contains(words), "{failure}");
    }
    let failure = play(&bench(), &world, &[Need::Guest], r#"m.disk.read("/etc/db.conf");"#).await.unwrap_err();
    assert!(failure.message.contains("`disk.read` without declaring it"), "{failure}");
}

#[tokio::test]
async fn a_probe_may_read_a_disk_and_not_write_it() {
    let world = Estate::default();
    let mut probe = hook(&[Need::Disk], r#"m.disk.write("/etc/x", "y"); true"#);
    probe.probe = true;
    let failure = bench().run_with(&probe, &world, &Fuse::never()).await.unwrap_err();
    assert!(failure.message.contains("a probe may only read"), "{failure}");
    assert!(world.writes.lock().unwrap().is_empty());
}
