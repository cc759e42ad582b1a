//! Files on the disk of a simulated machine: they lie among the settings of its guest, under the name `file:/etc/…`.

use crate::disk::Disk;
use crate::faults::CallClass;
use crate::image;
use crate::provider::SimulatedProvider;
use muster_ports::{Failure, InstanceName, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// In front of the path, so that no file is taken for a setting.
const FILE: &str = "file:";

impl SimulatedProvider {
    /// The disk that the machine boots from, while it is off; `None` where disks hold nothing (a rehearsal).
    fn disk_at_rest(&self, instance: &InstanceName) -> Result<Option<Arc<Disk>>> {
        let state = self.shared.state();
        let machine = state.machine(instance)?;
        if machine.running.is_some() {
            return Err(Failure::refused(format!("`{instance}` is on: its disk is not changed beside it"))
                .help("work in the guest: `needs = [guest]` and `m.put(path, text)`"));
        }
        if self.shared.obliging.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let first = machine.record.disks.first().map(|disk| disk.name.clone());
        let disk = first.and_then(|name| state.disks_of(instance).remove(&name));
        let has_room = |disk: &Arc<Disk>| disk.size() >= image::DISK_BYTES_MIN;
        disk.filter(has_room).map(Some).ok_or_else(|| {
            Failure::permanent(format!("the first disk of `{instance}` has no file system that is known here"))
        })
    }

    pub(crate) fn read_file(&self, instance: &InstanceName, path: &str) -> Result<Option<String>> {
        let Some(disk) = self.disk_at_rest(instance)? else {
            // In these words a rehearsal knows that nobody here can tell.
            return Err(Failure::permanent(format!("unknown from here (reads {path} on the disk of {instance})")));
        };
        Ok(image::read_settings(&|at, buffer| disk.read(at, buffer))?.remove(&format!("{FILE}{path}")))
    }

    pub(crate) fn write_file(&self, instance: &InstanceName, path: &str, text: &str) -> Result<()> {
        let subject = format!("{instance}: writes {path}");
        let mut changed = true;
        if let Some(disk) = self.disk_at_rest(instance)? {
            let mut settings = image::read_settings(&|at, buffer| disk.read(at, buffer))?;
            let before = settings.insert(format!("{FILE}{path}"), text.to_owned());
            changed = before.as_deref() != Some(text);
            if changed {
                disk.write(image::SETTINGS_AT, &image::settings_bytes(&settings)?)?;
                disk.flush()?;
            }
        }
        let key = self.shared.state().machine(instance)?.key();
        self.shared.effect(CallClass::OpenDisk, &subject, key, changed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EstateSpec, SeededRandom, VirtualClock, create_estate};
    use muster_ports::{Concealed, FailureClass, Provider, SiteName};

    #[tokio::test]
    async fn a_file_is_there_before_the_first_start_and_is_not_changed_under_a_running_machine() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, random) = (
            Arc::new(VirtualClock::starting_at(muster_ports::Timestamp(1_800_000_000_000))),
            Arc::new(SeededRandom::new(1)),
        );
        let hq = SiteName::from("hq");
        create_estate(folder.path(), &hq, &EstateSpec::tiny(), clock.clone(), random.clone()).unwrap();
        let site = SimulatedProvider::open(hq, folder.path(), clock, random).unwrap();
        let (db, text) = (InstanceName::from("db"), Concealed::new("host=a\n"));
        assert_eq!(site.disk_read(&db, "/etc/x").await.unwrap(), None);
        site.disk_write(&db, "/etc/x", &text).await.unwrap();
        assert_eq!(site.disk_read(&db, "/etc/x").await.unwrap().as_deref(), Some("host=a\n"));
        site.start(&db).await.unwrap();
        assert_eq!(site.disk_write(&db, "/etc/x", &text).await.unwrap_err().class, FailureClass::Refused);
    }
}
