//! A file that gets its name when it is whole. Until then it is `NAME.partial`, which goes away with its writer; after a
//! SIGKILL it stays, and says by its name what it is.

use muster_ports::{Failure, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What unfinished files end with.
pub const SUFFIX: &str = ".partial";

/// The right to write one file. Dropped before [`Partial::finish`] it takes away what was written.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Partial {
    /// Reserves the name; refuses when the file is there, or when somebody else writes it.
    pub fn begin(target: &Path) -> Result<Self> {
        let during = format!("write `{}`", target.display());
        if std::fs::symlink_metadata(target).is_ok() {
            return Err(exists(target).during(during));
        }
        let mut path = target.as_os_str().to_owned();
        path.push(SUFFIX);
        let path = PathBuf::from(path);
        match File::options().write(true).create_new(true).open(&path) {
            Ok(_) => Ok(Self { path, target: target.to_owned(), finished: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let what = format!("`{}` is there: another process writes it, or one was killed", path.display());
                Err(Failure::refused(what).during(during).help("when nobody writes it any more, remove it"))
            }
            Err(error) => Err(Failure::from(error).during(during)),
        }
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings what was written to stable storage and gives it its name; never over another file.
    pub fn finish(mut self) -> Result<PathBuf> {
        let during = |error: std::io::Error| Failure::from(error).during(format!("write `{}`", self.target.display()));
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(during)?;
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists(&self.target)),
            // File systems that know no such rename; `begin` has looked.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                std::fs::rename(&self.path, &self.target).map_err(during)?;
            }
            Err(errno) => return Err(during(errno.into())),
        }
        self.finished = true;
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(during)?;
        Ok(self.target.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn exists(target: &Path) -> Failure {
    Failure::refused(format!("`{}` exists", target.display())).help("name another folder, or move the file away")
}
