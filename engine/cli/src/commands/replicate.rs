//! `protect` and `replicate`: the intent, and the process that keeps it.

use super::{open, plans};
use crate::arguments::{Common, RunOptions};
use crate::exit::Exit;
use crate::output;
use muster_control::{Request, StatusAnswer};
use muster_ports::{Clock, Failure, GroupName, Result, SystemClock};
use std::time::Duration;

/// How often `--until-protected` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn protect(common: &Common, groups: Vec<String>, options: &RunOptions) -> Result<Exit> {
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let access = open::writing(common, Some(&project), "protect", options).await?;
    let request = Request::Protect {
        estate: Box::new(project.checked.estate.clone()),
        groups: groups.into_iter().map(GroupName::new).collect(),
    };
    let answer: Result<Vec<GroupName>> = access.ask(&request, common).await;
    access.close().await;
    let protected = answer?;
    if common.json {
        output::json(&protected);
    } else {
        for group in protected {
            output::say(format!("protected: {group}"));
        }
        output::say("`muster replicate` makes it so");
    }
    Ok(Exit::Done)
}

pub async fn replicate(common: &Common, once: bool, until_protected: bool, options: &RunOptions) -> Result<Exit> {
    let access = open::writing(common, None, "replicate", options).await?;
    if once {
        let answer: Result<StatusAnswer> = access.ask(&Request::Cycle { groups: Vec::new() }, common).await;
        access.close().await;
        answer?;
        return Ok(Exit::Done);
    }
    let access = if until_protected { access } else { holding(access, common, options).await? };
    let status: StatusAnswer = access.ask(&Request::Status, common).await?;
    if status.groups.is_empty() {
        access.close().await;
        return Err(Failure::permanent("no group is protected").help("`muster protect` records which to replicate"));
    }
    access.access().keep_replicating();
    output::say(format!("replicating {} groups; interrupt to stop", status.groups.len()));
    let exit = tokio::select! {
        exit = follow(&access, common, until_protected) => exit,
        () = interrupted() => Ok(Exit::Done),
    };
    // It may wait for the run of another command; who interrupts again does not.
    tokio::select! {
        () = access.close() => {}
        () = interrupted() => {}
    }
    exit
}

/// Waits until this process holds the vault. Any command may hold it for a while, and ends with its own work: without
/// somebody who waits for that, nobody would replicate afterwards.
async fn holding(mut access: open::Opened, common: &Common, options: &RunOptions) -> Result<open::Opened> {
    if access.access().is_remote() {
        let status: StatusAnswer = access.ask(&Request::Status, common).await?;
        let holder = status.holder.unwrap_or_else(|| "another muster".to_owned());
        output::say(format!("{holder} holds the vault; this one takes over when it ends"));
    }
    while access.access().is_remote() {
        // Off the line meanwhile: a holder ends when no other command is on it.
        access.close().await;
        SystemClock.sleep(LOOK_EVERY).await;
        access = open::writing(common, None, "replicate", options).await?;
    }
    Ok(access)
}

/// Shows what replication does until every group has a point (or for ever).
async fn follow(access: &open::Opened, common: &Common, until_protected: bool) -> Result<Exit> {
    let clock = SystemClock;
    let mut errors = std::collections::BTreeMap::new();
    loop {
        let status: StatusAnswer = access.ask(&Request::Status, common).await?;
        for group in &status.groups {
            let error = group.last_error.as_ref().map(|error| error.failure.message.clone());
            let known = errors.insert(group.group.clone(), error.clone()).flatten();
            match &error {
                Some(error) if known.as_ref() != Some(error) => output::say(format!("{}: {error}", group.group)),
                _ => {}
            }
        }
        if until_protected && status.groups.iter().all(|group| group.newest.is_some()) {
            return Ok(Exit::Done);
        }
        if let Some(failure) = access.access().lost() {
            return Err(failure);
        }
        clock.sleep(LOOK_EVERY).await;
    }
}

async fn interrupted() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
