//! What runs in a simulated machine: a tiny database, one that depends on it, or a page that shows it.

use crate::disk::Disk;
use crate::image::{self, Program, ProgramKind, Record, Settings, Volume};
use muster_ports::{DiskName, Failure, GuestOutput, Result, Timestamp};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values kept in a guest's settings are at most this long, so that they fit into their header.
const SETTING_BYTES_MAX: usize = 4 * 1024;

/// Settings with the address an app, or a web server, reads from.
const DB_HOST: &str = "db-host";
const APP_HOST: &str = "app-host";

#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) program: Program,
    boot_disk: Arc<Disk>,
    record_disk: Arc<Disk>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    volume: Volume,
    settings: Settings,
    newest: Option<Record>,
    /// The power is gone: whatever was under way writes nothing more.
    halted: bool,
}

impl Guest {
    /// Boots from the first disk. `None` when no program lies there.
    pub(crate) fn boot(disks: &BTreeMap<DiskName, Arc<Disk>>, boot_disk: Option<&DiskName>) -> Result<Option<Self>> {
        let Some(boot_disk) = boot_disk.and_then(|name| disks.get(name)) else { return Ok(None) };
        let read = |at: u64, buffer: &mut [u8]| boot_disk.read(at, buffer);
        if boot_disk.size() < image::DISK_BYTES_MIN {
            return Ok(None);
        }
        let Some(program) = image::read_program(&read)? else { return Ok(None) };
        let settings = image::read_settings(&read)?;
        let record_disk = disks.get(&program.disk).ok_or_else(|| {
            Failure::permanent(format!("its program wants a disk `{}`, which is not attached", program.disk))
        })?;
        let read = |at: u64, buffer: &mut [u8]| record_disk.read(at, buffer);
        let volume = image::read_volume(&read)?
            .ok_or_else(|| Failure::permanent(format!("disk `{}` has no volume header", program.disk)))?;
        let newest = image::newest_record(&volume, record_disk.size(), &read)?;
        let guest = Self {
            program,
            boot_disk: Arc::clone(boot_disk),
            record_disk: Arc::clone(record_disk),
            state: Mutex::new(State { volume, settings, newest, halted: false }),
        };
        guest.mark_clean(false)?;
        Ok(Some(guest))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frozen or shut down guest leaves its volume clean.
    pub(crate) fn mark_clean(&self, clean: bool) -> Result<()> {
        let mut state = self.state();
        if state.halted && !clean {
            return Ok(());
        }
        state.volume.clean = clean;
        self.record_disk.write(image::VOLUME_AT, &image::volume_bytes(&state.volume)?)
    }

    /// The power goes, after an orderly shutdown or without.
    pub(crate) fn halt(&self, orderly: bool) -> Result<()> {
        self.state().halted = true;
        if orderly {
            self.mark_clean(true)?;
            self.boot_disk.flush()?;
            self.record_disk.flush()?;
        }
        Ok(())
    }

    /// Sequence number of the newest record.
    pub(crate) fn last(&self) -> u64 {
        self.state().newest.map_or(0, |record| record.sequence)
    }

    /// Whom it reads from: what the last `set-…-host` said, else what its program was made with.
    pub(crate) fn upstream(&self) -> Option<IpAddr> {
        let name = match self.program.kind {
            ProgramKind::Database => return None,
            ProgramKind::App => DB_HOST,
            ProgramKind::Web => APP_HOST,
        };
        let setting = self.state().settings.get(name).and_then(|text| text.parse().ok());
        setting.or(self.program.upstream)
    }

    /// Writes the next record. `cause` is what the upstream has just answered; an app without an answer writes nothing.
    pub(crate) fn step(&self, now: Timestamp, cause: Option<u64>) -> Result<()> {
        let mut state = self.state();
        if state.halted {
            return Ok(());
        }
        let last = state.newest;
        let cause = match (self.program.kind, cause) {
            (ProgramKind::Web, _) | (ProgramKind::App, None) => return Ok(()),
            (ProgramKind::Database, _) => 0,
            // An upstream that went back to an older point has lost what was seen of it; what was written stays true.
            (ProgramKind::App, Some(cause)) => cause.max(last.map_or(0, |record| record.cause)),
        };
        let record = Record {
            sequence: last.map_or(1, |record| record.sequence + 1),
            at: now.max(last.map_or(now, |record| record.at)),
            cause,
        };
        self.record_disk.write(state.volume.slot_at(record.sequence), &record.to_bytes())?;
        state.newest = Some(record);
        Ok(())
    }

    /// What it tells anybody who asks.
    pub(crate) fn status(&self, upstream: Option<u64>) -> String {
        match self.program.kind {
            ProgramKind::Database => format!("database last={}\n", self.last()),
            ProgramKind::App => {
                let cause = self.state().newest.map_or(0, |record| record.cause);
                format!("app last={} seen={cause}\n", self.last())
            }
            ProgramKind::Web => match upstream {
                Some(last) => format!("web last={last}\n"),
                None => "web last=unknown\n".to_owned(),
            },
        }
    }

    /// The built-in commands: `true`, `false`, `last`, `set-db-host IP`, `set-app-host IP`, `set NAME VALUE`,
    /// `get NAME`, `echo`, `sync`.
    pub(crate) fn exec(&self, program: &str, arguments: &[String]) -> Result<GuestOutput> {
        let name = program.rsplit('/').next().unwrap_or(program);
        let said = |code, out: String, err: &str| Ok(GuestOutput { code, out, err: err.to_owned() });
        match (name, arguments) {
            ("true", _) => said(0, String::new(), ""),
            ("false", _) => said(1, String::new(), ""),
            ("echo", words) => said(0, format!("{}\n", words.join(" ")), ""),
            ("last", []) => said(0, format!("{}\n", self.last()), ""),
            ("sync", []) => {
                self.boot_disk.flush()?;
                self.record_disk.flush()?;
                said(0, String::new(), "")
            }
            ("set-db-host" | "set-app-host", [host]) if host.parse::<IpAddr>().is_err() => {
                said(2, String::new(), &format!("{name}: not an IP address\n"))
            }
            ("set-db-host", [host]) => {
                self.set(DB_HOST, host)?;
                said(0, String::new(), "")
            }
            ("set-app-host", [host]) => {
                self.set(APP_HOST, host)?;
                said(0, String::new(), "")
            }
            ("set", [_, value]) if value.len() > SETTING_BYTES_MAX => {
                said(2, String::new(), "set: the value is too long\n")
            }
            ("set", [name, value]) => {
                self.set(name, value)?;
                said(0, String::new(), "")
            }
            ("get", [name]) => match self.state().settings.get(name) {
                Some(value) => said(0, format!("{value}\n"), ""),
                None => said(1, String::new(), "get: no such setting\n"),
            },
            _ => said(127, String::new(), &format!("{program}: command not found\n")),
        }
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let mut state = self.state();
        if state.halted {
            return Err(Failure::transient("the machine is off"));
        }
        let mut settings = state.settings.clone();
        settings.insert(name.to_owned(), value.to_owned());
        self.boot_disk.write(image::SETTINGS_AT, &image::settings_bytes(&settings)?)?;
        state.settings = settings;
        Ok(())
    }
}
