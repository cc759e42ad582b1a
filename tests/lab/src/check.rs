//! What a pair of recovered disks says: are the file systems whole, is anything lost in the middle, and does the app
//! hold something its database never promised.

use crate::command::{command, failed, output, run};
use crate::error::{Error, Result};
use crate::image::{ROOT_AT, ROOT_BYTES};
use crate::record::Tally;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const DATABASE_LOG: &str = "/orders.log";
const APP_LOG: &str = "/var/lib/app/seen.log";

/// One file system of a recovered disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskCheck {
    /// Nothing to repair and nothing to replay, as after a freeze or an orderly stop. Otherwise the journal had to be
    /// replayed first, as after a power cut; a file system that is broken after that is an error.
    pub clean: bool,
    pub tally: Tally,
}

/// The database's data disk and, where there is one, the app's root disk of the same point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShopCheck {
    pub database: DiskCheck,
    pub app: Option<DiskCheck>,
}

/// Checks raw images; the images are not changed. An error names the first thing that is wrong.
pub fn check_shop(database_data: &Path, app_root: Option<&Path>) -> Result<ShopCheck> {
    let work = tempfile::tempdir().map_err(Error::file("/tmp"))?;
    let database = check(database_data, DATABASE_LOG, &work.path().join("database.ext4"))?;
    if database.tally.bad > 0 || database.tally.gaps > 0 {
        return Err(Error::Said(format!("the database has lost records in the middle: {:?}", database.tally)));
    }
    let Some(root) = app_root else { return Ok(ShopCheck { database, app: None }) };
    let partition = work.path().join("app.part");
    partition_of_root(root, &partition)?;
    let app = check(&partition, APP_LOG, &work.path().join("app.ext4"))?;
    if app.tally.bad > 0 || app.tally.backwards > 0 {
        return Err(Error::Said(format!("the app's journal is out of order: {:?}", app.tally)));
    }
    if app.tally.last > database.tally.last {
        return Err(Error::Said(format!(
            "the app holds number {} but its database ends at {}: the point is no cut",
            app.tally.last, database.tally.last
        )));
    }
    Ok(ShopCheck { database, app: Some(app) })
}

/// Is the root file system of a root disk whole? Answers whether it was clean.
pub fn check_root(root: &Path) -> Result<bool> {
    let work = tempfile::tempdir().map_err(Error::file("/tmp"))?;
    let partition = work.path().join("root.part");
    partition_of_root(root, &partition)?;
    is_clean(&partition, &work.path().join("root.ext4"))
}

/// Takes the root file system out of a root disk.
pub fn partition_of_root(disk: &Path, partition: &Path) -> Result<()> {
    let mut from = File::open(disk).map_err(Error::file(disk))?;
    let mut bytes = Vec::new();
    from.seek(SeekFrom::Start(ROOT_AT)).map_err(Error::file(disk))?;
    from.take(ROOT_BYTES - ROOT_AT).read_to_end(&mut bytes).map_err(Error::file(disk))?;
    fs::write(partition, bytes).map_err(Error::file(partition))
}

fn check(image: &Path, log: &str, copy: &Path) -> Result<DiskCheck> {
    let clean = is_clean(image, copy)?;
    let image = if clean { image } else { copy };
    let out = PathBuf::from(format!("{}.log", copy.display()));
    let dump = format!("dump {log} {}", out.display());
    run(command("debugfs").args(["-R", &dump]).arg(image))?;
    let bytes = fs::read(&out).map_err(Error::file(&out))?;
    Ok(DiskCheck { clean, tally: Tally::of(&bytes) })
}

/// When it is not clean, `copy` is the image with its journal replayed, and that is then in order.
fn is_clean(image: &Path, copy: &Path) -> Result<bool> {
    let first = output(command("e2fsck").arg("-fn").arg(image))?;
    // A read-only check passes over a journal that waits to be replayed, and says so.
    let said = [first.stdout, first.stderr].concat();
    if first.status.success() && !String::from_utf8_lossy(&said).contains("skipping journal recovery") {
        return Ok(true);
    }
    run(command("cp").arg("--sparse=always").arg(image).arg(copy))?;
    // Replays the journal as a mount would; the repairs that need a person stay undone and show below.
    output(command("e2fsck").arg("-fp").arg(copy))?;
    let mut again = command("e2fsck");
    again.arg("-fn").arg(copy);
    let result = output(&mut again)?;
    if result.status.success() { Ok(false) } else { Err(failed(&again, &result)) }
}
