//! `laboratory`: a shop of simulated machines to try everything on, and the check of their image files.

use crate::arguments::{Common, LaboratoryCommand};
use crate::exit::Exit;
use crate::output;
use muster_ports::{Clock, Failure, Random, Result, SiteName, SystemClock, SystemRandom};
use muster_provider_simulated::{EstateSpec, Verdict, check_causality, check_file, create_estate};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn laboratory(common: &Common, command: LaboratoryCommand) -> Result<Exit> {
    match command {
        LaboratoryCommand::New { site, folder } => new(&site, &folder),
        LaboratoryCommand::Check { files } => check(common, &files),
    }
}

fn new(site: &str, folder: &Path) -> Result<Exit> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    create_estate(folder, &SiteName::new(site), &EstateSpec::default(), clock, random)?;
    output::say(format!("db, app and web lie in {}", folder.display()));
    output::say(format!(
        "`muster agent --provider simulated --site {site} --folder {} --listen 127.0.0.1:7301` runs them",
        folder.display()
    ));
    Ok(Exit::Done)
}

/// Records, checksums, gaps; and across the files given together, that no machine knows more than its upstream said.
fn check(common: &Common, files: &[PathBuf]) -> Result<Exit> {
    let verdicts: Vec<Verdict> = files.iter().map(|file| check_file(file)).collect::<Result<_>>()?;
    let mut problems: Vec<String> = Vec::new();
    for (file, verdict) in files.iter().zip(&verdicts) {
        problems.extend(verdict.problems.iter().map(|problem| format!("{}: {problem}", file.display())));
    }
    let of = |name: &str| verdicts.iter().find(|verdict| verdict.volume == name);
    if let (Some(upstream), Some(dependent)) = (of("db/data"), of("app/root")) {
        problems.extend(check_causality(upstream, dependent).err());
    }
    if common.json {
        output::json(&serde_json::json!({ "disks": verdicts, "problems": problems }));
    } else {
        for verdict in &verdicts {
            output::data(format!("{}: {} records, newest {}", verdict.volume, verdict.records, verdict.newest));
        }
    }
    if problems.is_empty() { Ok(Exit::Done) } else { Err(Failure::diverged(problems.join("\n"))) }
}
