//! Hydration: what a disk still lacks is copied out of the replica below it, while the machine runs or is off. The copy is
//! QEMU's `block-stream`; it goes on without us, and a second caller joins it.

use crate::folder::Folder;
use crate::host::{Host, attendant, dismiss_attendant, machine_process, reach};
use crate::{disk, limits};
use muster_ports::{Failure, InstanceName, Progress, Result};
use serde_json::{Value, json};
use std::path::Path;

/// One look at the copies of an instance.
pub(crate) enum Stage {
    Copying { done: u64, total: u64 },
    Done,
}

fn job(index: usize) -> String {
    format!("hydrate{index}")
}

/// Starts what is not started, ends what has ended. The caller holds the machine's lock and calls again until `Done`.
pub(crate) async fn step(folder: &Folder, instance: &InstanceName) -> Result<Stage> {
    let mut record = folder.known(instance)?;
    let home = folder.machine(instance)?;
    // While somebody has the disks open, copies are ended there before the record says so.
    if !is_held(&home).await && disk::reconcile_ties(&home, &mut record)? {
        folder.write_record(&record)?;
    }
    if !record.is_tied() {
        dismiss_attendant(&home).await?;
        return Ok(Stage::Done);
    }
    let mut host = reach(folder, &record).await?;
    let jobs = host.execute("query-jobs", json!({})).await?;
    let infos = host.execute("query-block-jobs", json!({})).await?;
    let (mut done, mut total, mut left) = (0, 0, 0);
    for (index, tied) in record.disks.iter().enumerate().filter(|(_, disk)| disk.export.is_some()) {
        let id = job(index);
        match find(&jobs, "id", &id) {
            Some(found) if found["status"] == "concluded" => {
                host.execute("job-dismiss", json!({ "id": id })).await?;
                if let Some(error) = found["error"].as_str() {
                    return Err(Failure::transient(format!("hydrate `{}` of `{instance}`: {error}", tied.name))
                        .help("the replica has to be served until the copy is whole"));
                }
                drop_base(&mut host, index).await?;
                done += tied.size_bytes;
            }
            Some(_) => left += 1,
            None if disk::header_names_backing(&home.join(&tied.file))? => {
                begin(&mut host, index).await?;
                left += 1;
            }
            None => drop_base(&mut host, index).await?,
        }
        let info = find(&infos, "device", &id);
        done += info.and_then(|info| info["offset"].as_u64()).unwrap_or(0);
        total += info.and_then(|info| info["len"].as_u64()).filter(|len| *len > 0).unwrap_or(tied.size_bytes);
    }
    if left == 0 && disk::reconcile_ties(&home, &mut record)? {
        folder.write_record(&record)?;
    }
    Ok(Stage::Copying { done: done.min(total), total })
}

async fn is_held(home: &Path) -> bool {
    machine_process(home).await.is_some() || attendant(home).is_some()
}

/// Takes the replica's node away: nothing reads through it any more, and it would look for its export for ever.
async fn drop_base(host: &mut Host, index: usize) -> Result<()> {
    match host.execute("blockdev-del", json!({ "node-name": disk::base(index) })).await {
        Err(failure) if !failure.message.contains("find node") => Err(failure),
        _ => Ok(()),
    }
}

fn find<'a>(list: &'a Value, field: &str, id: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item[field] == id)
}

async fn begin(host: &mut Host, index: usize) -> Result<()> {
    let stream = json!({ "job-id": job(index), "device": disk::node(index), "auto-dismiss": false });
    host.execute("block-stream", stream).await.map(drop)
}

/// Tells how far it is, and waits a little.
pub(crate) async fn tell(progress: &dyn Progress, done: u64, total: u64) {
    progress.report(done, Some(total));
    tokio::time::sleep(limits::LOOK_SLOW).await;
}
