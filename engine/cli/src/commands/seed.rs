//! `seed`: first copies that travel on a disk.

use super::open;
use crate::arguments::{Common, RunOptions};
use crate::exit::Exit;
use crate::output;
use muster_control::Request;
use muster_ports::{Failure, GroupName, Result};
use muster_replication::SeedReport;
use std::path::Path;

pub async fn export(common: &Common, groups: Vec<String>, to: &str, options: &RunOptions) -> Result<Exit> {
    // The folder is at the site: what is relative here would be another one there.
    if !to.contains("://") && !Path::new(to).is_absolute() {
        return Err(Failure::permanent(format!("`{to}` is no absolute path"))
            .help("name a folder of the computer on which the site agent runs: `--to /mnt/disk/seed`"));
    }
    let to = if to.contains("://") { to.to_owned() } else { format!("file://{to}") };
    let request = Request::ExportSeed { groups: names(groups), to: to.clone() };
    let reports = ask(common, &request, options).await?;
    for report in reports.iter().filter(|_| !common.json) {
        let (group, bytes) = (&report.group, output::bytes(report.bytes));
        output::say(format!("{group}: {bytes} in {} segments at {to} of its site", report.segments));
    }
    if !common.json {
        output::say("when the disk is where the vault can be reached: `muster seed import --from FOLDER`");
    }
    Ok(Exit::Done)
}

pub async fn import(common: &Common, groups: Vec<String>, from: &str, options: &RunOptions) -> Result<Exit> {
    let from = match from.contains("://") {
        true => from.to_owned(),
        false => {
            let folder = std::fs::canonicalize(from).map_err(|error| {
                Failure::permanent(format!("`{from}` cannot be read: {error}"))
                    .help("name the folder that `muster seed export` has written")
            })?;
            format!("file://{}", folder.display())
        }
    };
    let reports = ask(common, &Request::ImportSeed { groups: names(groups), from }, options).await?;
    for report in reports.iter().filter(|_| !common.json) {
        let (group, bytes) = (&report.group, output::bytes(report.bytes));
        output::say(format!("{group}: point {} of {bytes}; its cycles send what has changed since", report.point));
    }
    Ok(Exit::Done)
}

fn names(groups: Vec<String>) -> Vec<GroupName> {
    groups.into_iter().map(GroupName::new).collect()
}

async fn ask(common: &Common, request: &Request, options: &RunOptions) -> Result<Vec<SeedReport>> {
    let access = open::writing(common, None, "seed", options).await?;
    let answer: Result<Vec<SeedReport>> = access.ask(request, common).await;
    access.close().await;
    let reports = answer?;
    if common.json {
        output::json(&reports);
    }
    Ok(reports)
}
