//! `std/postgres` and the probe `sql` against two real servers: the primary dies, its standby takes over, and the old
//! primary comes back as the standby of the new one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests and their helpers

use muster_library::Bench;
use muster_library::servers::{free_port, tool, until};
use muster_ports::FailureClass;
use muster_runsheet::Kind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest server that is installed.
fn programs() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = found.filter(|path| path.join("bin/pg_rewind").exists()).max();
    newest.expect("PostgreSQL below /usr/lib/postgresql; `cargo verify` installs tests/stdlib/packages.txt").join("bin")
}

/// A program of PostgreSQL, as its user.
fn pg(program: &str, arguments: &[&str]) -> String {
    let program = programs().join(program);
    let mut all = vec!["-u", "postgres", "--", program.to_str().unwrap()];
    all.extend(arguments);
    tool("runuser", &all)
}

fn psql(port: u16, sql: &str) -> String {
    tool("runuser", &["-u", "postgres", "--", "psql", "-XAtq", "-p", &port.to_string(), "-d", "postgres", "-c", sql])
}

/// One data directory with its port. Stops when dropped.
struct Cluster {
    data: PathBuf,
    port: u16,
}

impl Cluster {
    fn data(&self) -> &str {
        self.data.to_str().unwrap()
    }
    fn start(&self) {
        // Made at boot; a container has no boot.
        tool("install", &["-d", "-o", "postgres", "-g", "postgres", "-m", "2775", "/var/run/postgresql"]);
        let (port, log) = (format!("-p {}", self.port), format!("{}.log", self.data()));
        pg("pg_ctl", &["-D", self.data(), "-o", &port, "-l", &log, "-w", "start"]);
    }
    /// As a power failure would: no process gets a chance to write.
    fn kill(&self) {
        let file = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        let leader = file.lines().next().unwrap();
        let children = tool("pgrep", &["-P", leader]);
        let mut processes = vec![leader];
        processes.extend(children.lines());
        let mut arguments = vec!["-9"];
        arguments.extend(processes);
        tool("kill", &arguments);
        // After a boot no process has that number; here the dead one may keep it until somebody asks for its end.
        std::fs::remove_file(self.data.join("postmaster.pid")).unwrap();
        std::fs::remove_file(format!("/var/run/postgresql/.s.PGSQL.{}.lock", self.port)).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pg_ctl = programs().join("pg_ctl");
        // It may have been stopped by the test.
        let _ = Command::new("runuser")
            .args([
                "-u",
                "postgres",
                "--",
                pg_ctl.to_str().unwrap_or_default(),
                "-D",
                self.data(),
                "-m",
                "immediate",
                "stop",
            ])
            .output();
    }
}

/// A primary and a standby that streams from it.
fn pair(folder: &Path) -> (Cluster, Cluster) {
    tool("chown", &["postgres", folder.to_str().unwrap()]);
    let primary = Cluster { data: folder.join("one"), port: free_port() };
    pg("initdb", &["-D", primary.data(), "-A", "trust", "--no-sync", "-k"]);
    let settings = "\nunix_socket_directories = '/var/run/postgresql'\nlisten_addresses = '127.0.0.1'\nfsync = on\n\
        wal_log_hints = on\nwal_keep_size = '256MB'\nmax_wal_senders = 10\nhot_standby = on\n";
    let path = primary.data.join("postgresql.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + settings).unwrap();
    primary.start();
    let standby = Cluster { data: folder.join("two"), port: free_port() };
    let port = primary.port.to_string();
    pg("pg_basebackup", &["-h", "127.0.0.1", "-p", &port, "-D", standby.data(), "-R", "-X", "stream", "-c", "fast"]);
    standby.start();
    (primary, standby)
}

/// `systemctl` for one server, since the test has no systemd: a masked service does not start.
fn systemctl(folder: &Path, server: &Cluster) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let pg_ctl = format!("runuser -u postgres -- {} -D {}", programs().join("pg_ctl").display(), server.data());
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in\nmask) touch {mask};;\nunmask) rm -f {mask};;\n\
         stop) {pg_ctl} status >/dev/null || exit 0; {pg_ctl} -m fast stop;;\n\
         start) test ! -e {mask} || exit 1; {pg_ctl} -o '-p {port}' -l {data}.log -w start >/dev/null;;\n\
         is-active) {pg_ctl} status >/dev/null && echo active || {{ echo inactive; exit 3; }};;\n*) exit 64;;\nesac\n",
        mask = folder.join("masked").display(),
        port = server.port,
        data = server.data()
    );
    let path = bin.join("systemctl");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    bin
}

fn plan(primary: &Cluster, standby: &Cluster) -> String {
    let (old, new, data, bin) = (primary.port, standby.port, primary.data(), programs());
    let bin = bin.display();
    format!(
        r#"edition 2026
use ./sites {{ dr, hq, steady }}
use std/postgres {{
  postgres-await-consistent, postgres-await-streaming, postgres-await-writable, postgres-checkpoint, postgres-fence,
  postgres-follow, postgres-promote, postgres-rejoin, postgres-unfence, postgres-writable
}}

group all {{
  policy   = steady
  machines = [one, two]
}}

plan trial {{
  move = hq -> dr

  stage all {{
    start one, two
    run   postgres-checkpoint(node = one, port = {old})
    run   postgres-await-writable(node = one, port = {old}) as primary-writable
    run   postgres-await-writable(node = two, port = {new}) as standby-writable
    run   postgres-await-consistent(node = two, port = {new})
    run   postgres-promote(node = two, port = {new})
    run   postgres-fence(node = one)
    run   postgres-rejoin(node = one, primary = 127.0.0.1, port = {new}, data = "{data}", programs = "{bin}")
    run   postgres-follow(node = one, primary = 127.0.0.1, port = {old})
    run   postgres-await-streaming(node = one, port = {old})
    check two postgres-writable(port = {new}) as writable
    check one postgres-writable(port = {old}) as old-writable
  }}
}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_dead_primary_which_comes_back_as_its_standby() {
    let folder = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let (primary, standby) = pair(folder.path());
    psql(primary.port, "create table orders (id int primary key); insert into orders select generate_series(1, 1000)");
    until("the standby has the orders", || {
        let sql = "select coalesce((select count(*) from pg_tables where tablename = 'orders'), 0)";
        psql(standby.port, sql) == "1" && psql(standby.port, "select count(*) from orders") == "1000"
    })
    .await;
    let bench = Bench::new(&plan(&primary, &standby), Kind::Unplanned).unwrap();
    let bench = bench.with_programs(&systemctl(folder.path(), &primary));
    bench.run("all.postgres-checkpoint").await.unwrap();
    bench.run("all.primary-writable").await.unwrap();
    assert_eq!(bench.run("all.writable/two").await.unwrap().value, false);
    let waiting = bench.run("all.standby-writable").await.unwrap_err();
    assert_eq!(waiting.class, FailureClass::Permanent);
    assert!(waiting.message.contains("is a standby"), "{waiting}");

    primary.kill();
    bench.run("all.postgres-await-consistent").await.unwrap();
    bench.run("all.postgres-promote").await.unwrap();
    assert_eq!(bench.run("all.writable/two").await.unwrap().value, true);
    psql(standby.port, "insert into orders values (1001)");
    // A second time, as after a crash of the engine: it is the primary already.
    bench.run("all.postgres-promote").await.unwrap();
    assert!(bench.notes.lock().unwrap().iter().any(|note| note.contains("is the primary already")));

    // The old primary wakes up and writes where nobody may: a history of its own.
    primary.start();
    psql(primary.port, "insert into orders values (4711)");
    bench.run("all.postgres-fence").await.unwrap();
    let refused = Command::new(folder.path().join("bin/systemctl")).args(["start", "postgresql"]).status().unwrap();
    assert!(!refused.success(), "a fenced service does not start");
    bench.run("all.postgres-rejoin").await.unwrap();
    bench.run("all.postgres-follow").await.unwrap();
    bench.run("all.postgres-await-streaming").await.unwrap();
    until("the old primary has what the new one has", || {
        psql(primary.port, "select count(*), max(id) from orders") == "1001|1001"
    })
    .await;
    assert_eq!(bench.run("all.old-writable/one").await.unwrap().value, false);
    assert_eq!(psql(primary.port, "show primary_conninfo").matches("host=").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_taken_back_and_a_replayed_primary_is_waited_for() {
    let folder = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let (primary, standby) = pair(folder.path());
    let bench = Bench::new(&plan(&primary, &standby), Kind::Unplanned).unwrap();
    let bench = bench.with_programs(&systemctl(folder.path(), &primary));
    psql(primary.port, "create table orders as select generate_series(1, 200000) as id");
    primary.kill();
    // Down: an answer for the next attempt, not an end.
    let (data, port, log) =
        (primary.data().to_owned(), format!("-p {}", primary.port), format!("{}.log", primary.data()));
    let pg_ctl = programs().join("pg_ctl");
    let starter = Command::new("runuser")
        .args(["-u", "postgres", "--", pg_ctl.to_str().unwrap(), "-D", &data, "-o", &port, "-l", &log, "-W", "start"])
        .status()
        .unwrap();
    assert!(starter.success());
    bench.run("all.primary-writable").await.unwrap();
    assert_eq!(psql(primary.port, "select count(*) from orders"), "200000");
    bench.run("all.postgres-fence").await.unwrap();
    let down = bench.run("all.postgres-checkpoint").await.unwrap_err();
    assert_eq!(down.class, FailureClass::Transient, "{down}");
    bench.undo("all.postgres-fence").await.unwrap();
    bench.run("all.postgres-checkpoint").await.unwrap();
}
