//! What a large disk costs in time and memory.

use crate::bench::{Bench, COMMAND_LIMIT, LOOK, end, on_real_machines};
use muster_demo::estate::HOME;
use muster_demo::{Result, during};
use muster_lab::{Machine, Role};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;
const LARGE: u64 = 20 * GIB;
/// Of random bytes, at each of these places of the large disk.
const PIECE: u64 = 64 << 20;
const PLACES: [u64; 4] = [0, 5 * GIB + (3 << 20), 12 * GIB, LARGE - PIECE];
const MEMORY_MAX: u64 = 200 << 20;
const CYCLE_MAX: Duration = Duration::from_secs(2);
/// What a cycle may read for 64 KiB of changes; a guest that is on writes its log meanwhile.
const CHANGED_MAX: u64 = 1 << 20;
const LARGE_PLAN: &str = "edition 2026
use ./sites { hq, dr }

policy rarely {
  rpo       = 1h
  replicate = every 10m
  retain    = 24h
}

group bulk {
  policy   = rarely
  machines = [big]
}

plan archive {
  move = hq -> dr
  rto  = 1h
  rpo  = 1h

  stage only {
    start big within 5m
  }
}
";

/// From a power button to a quiet guest: what a boot writes must not count as a change.
const BOOTED: Duration = Duration::from_secs(180);

#[test]
fn a_large_disk_costs_what_it_holds_and_what_changes() {
    on_real_machines("large", |bench| {
        let disk = archive(bench)?;
        first_copy_and_change(bench, "off", |_| qemu_io(&disk, &format!("write -P 77 {} 64k", 7 * GIB)))
    });
}

#[test]
fn a_large_disk_of_a_machine_that_is_on_costs_no_more() {
    on_real_machines("large-on", |bench| {
        archive(bench)?;
        bench.run(&["power", "on", HOME, "big"], &[0])?;
        let booted = || Ok(bench.estate.console(HOME, "big")?.boots > 0);
        bench.muster.wait_until("the machine is up", BOOTED, booted)?;
        first_copy_and_change(bench, "on", |bench| {
            monitor_qemu_io(&bench.estate.folder_of(HOME, "big")?, &format!("write -P 77 {} 64k", 7 * GIB))
        })
    });
}

/// A machine with a large disk that holds little, protected and never replicated; answers with the disk's file.
fn archive(bench: &mut Bench) -> Result<PathBuf> {
    let machine = Machine::new("big", Role::Web, "web", "52:54:00:00:40:20", "10.10.40.20").disk("bulk", LARGE);
    let disk = bench.estate.add(HOME, &machine)?.join("bulk.qcow2");
    let piece = bench.folder.join("piece");
    let mut state = 1u64;
    let random = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 24).to_le_bytes()[0]
    };
    let bytes: Vec<u8> = (0..PIECE).map(|_| random(&mut state)).collect();
    std::fs::write(&piece, bytes).map_err(during(piece.display()))?;
    for place in PLACES {
        qemu_io(&disk, &format!("write -s {} {place} {PIECE}", piece.display()))?;
    }
    bench.begin("archive.plan", LARGE_PLAN)?;
    for words in [&["inventory", "pull"][..], &["check"], &["vault", "init"], &["protect"]] {
        bench.run(words, &[0])?;
    }
    Ok(disk)
}

fn first_copy_and_change(bench: &mut Bench, power: &str, change: impl Fn(&Bench) -> Result<()>) -> Result<()> {
    let first = cycle_measured(bench)?;
    println!("machine {power}: first copy of {} GiB with {} MiB in it: {first}", LARGE / GIB, (PIECE * 4) >> 20);
    change(bench)?;
    let second = cycle_measured(bench)?;
    println!("machine {power}: 64 KiB changed: {second}");
    for measured in [&first, &second] {
        if measured.agent > MEMORY_MAX || measured.muster > MEMORY_MAX {
            return Err(format!("more than {} MiB of memory: {measured}", MEMORY_MAX >> 20));
        }
    }
    if second.cycle > CYCLE_MAX || second.read > CHANGED_MAX {
        return Err(format!("64 KiB of changes cost too much: {second}"));
    }
    Ok(())
}

struct Measured {
    cycle: Duration,
    wall: Duration,
    read: u64,
    stored: u64,
    agent: u64,
    muster: u64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cycle {:.2}s (command {:.2}s), read {:.1} MiB, stored {:.1} MiB, peak memory: agent {} MiB, muster {} MiB",
            self.cycle.as_secs_f64(),
            self.wall.as_secs_f64(),
            self.read as f64 / f64::from(1 << 20),
            self.stored as f64 / f64::from(1 << 20),
            self.agent >> 20,
            self.muster >> 20,
        )
    }
}

/// One `muster replicate --once`, with the most memory it and the agent ever had.
fn cycle_measured(bench: &mut Bench) -> Result<Measured> {
    let words = ["replicate", "--once"];
    let began = Instant::now();
    let (mut child, log) = bench.spawn(&words)?;
    let mut muster = 0;
    let status = loop {
        muster = peak_memory(child.id()).unwrap_or(muster).max(muster);
        if let Some(status) = child.try_wait().map_err(during("wait for muster"))? {
            break status;
        }
        if began.elapsed() > COMMAND_LIMIT {
            end(&mut child);
            return Err("the cycle does not end".to_owned());
        }
        sleep(LOOK);
    };
    let wall = began.elapsed();
    if !status.success() {
        return Err(std::fs::read_to_string(&log).unwrap_or_default());
    }
    let cycle = bench.group("bulk")?["last_cycle"].clone();
    let number = |name: &str| cycle[name].as_u64().unwrap_or(u64::MAX);
    Ok(Measured {
        cycle: Duration::from_millis(number("ended").saturating_sub(number("started"))),
        wall,
        read: number("read_bytes"),
        stored: number("stored_bytes"),
        agent: peak_memory(bench.estate.agent(HOME)?).ok_or("the agent's memory cannot be read")?,
        muster,
    })
}

/// `VmHWM` of a process, in bytes.
fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn qemu_io(disk: &Path, command: &str) -> Result<()> {
    let output = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", command])
        .arg(disk)
        .stdin(Stdio::null())
        .output()
        .map_err(during("qemu-io (of the Debian package qemu-utils)"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // It ends well also when a write has failed.
    if output.status.success() && said.contains("wrote") { Ok(()) } else { Err(format!("qemu-io {command}: {said}")) }
}

/// Writes to the second disk of a machine that is on, as its guest would: through the device.
fn monitor_qemu_io(folder: &Path, command: &str) -> Result<()> {
    let stream = UnixStream::connect(folder.join("watch.sock")).map_err(during(folder.display()))?;
    let line = format!("qemu-io -d /machine/peripheral/drive1/virtio-backend \"{command}\"");
    let asked = [
        serde_json::json!({ "execute": "qmp_capabilities" }),
        serde_json::json!({ "execute": "human-monitor-command", "arguments": { "command-line": line } }),
    ];
    for words in &asked {
        writeln!(&stream, "{words}").map_err(during("the monitor"))?;
    }
    let lines = BufReader::new(&stream).lines().map_while(std::io::Result::ok);
    let answers = lines.filter(|line| line.contains("\"return\"") || line.contains("\"error\""));
    let said = answers.take(asked.len()).collect::<Vec<_>>().join(" ");
    // What qemu-io says goes to the machine's own output.
    let log = folder.join("qemu.log");
    let log = std::fs::read_to_string(&log).map_err(during(log.display()))?;
    if log.contains("wrote") { Ok(()) } else { Err(format!("{line}: {said}; {log}")) }
}
